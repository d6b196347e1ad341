//! Listeners, and what is checked before a connection becomes a queue.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};
use umpath_nvme::rdma::RejectReason;
use umpath_rdma::{ConnectRequest, ListenError, Listener, TargetParams};
use umpath_transport::Arena;

use super::admission::Admission;
use super::devices::Devices;
use super::hub::Hub;
use crate::controller::TargetLimits;
use crate::model::PortId;

/// Connection requests that may wait.
const BACKLOG: u16 = 128;
/// How often a listener whose device is gone is tried again.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);
/// Entries of the deepest admin queue.
const ADMIN_ENTRIES_MAX: u32 = 32;

/// A port that is listened on.
#[derive(Debug)]
pub(super) struct PortListener {
    port: PortId,
    address: SocketAddr,
    /// `None` while the device is gone.
    listener: Option<Listener>,
    retry_at: Instant,
}

impl PortListener {
    /// Listens on an address.
    pub(super) fn open(port: PortId, address: SocketAddr) -> Result<Self, ListenError> {
        let listener = Some(Listener::bind(address, BACKLOG)?);
        info!(port = port.0, %address, "listening");
        Ok(Self {
            port,
            address,
            listener,
            retry_at: Instant::now(),
        })
    }

    pub(super) fn port(&self) -> PortId {
        self.port
    }

    /// Reports which device it listens on.
    pub(super) fn announce(&self, devices: &Devices) {
        if let Some(listener) = &self.listener {
            devices.listens(self.port, listener.device());
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(Listener::fd)
    }

    /// Tries again to listen on a device that was removed; says when the next attempt is due.
    pub(super) fn reopen(&mut self, devices: &Devices) -> Option<Instant> {
        if self.listener.is_some() {
            return None;
        }
        if Instant::now() >= self.retry_at {
            self.retry_at = Instant::now() + REOPEN_INTERVAL;
            self.listener = Listener::bind(self.address, BACKLOG).ok();
            if self.listener.is_some() {
                info!(port = self.port.0, address = %self.address, "listening again");
                self.announce(devices);
                return None;
            }
        }
        Some(self.retry_at)
    }
}

/// Judges connection requests.
#[derive(Debug)]
pub(super) struct Acceptor {
    hub: Arc<Hub>,
    limits: TargetLimits,
    admission: Arc<Admission>,
}

impl Acceptor {
    pub(super) fn new(hub: Arc<Hub>, limits: TargetLimits, arenas: Vec<Arc<Arena>>) -> Self {
        let admission = Admission::new(Arc::clone(&hub), arenas);
        Self {
            hub,
            limits,
            admission,
        }
    }

    /// Answers every connection request that waits for a port.
    pub(super) fn answer(&mut self, port: &mut PortListener) {
        while let Some(listener) = &mut port.listener {
            match listener.accept() {
                Ok(Some(request)) => self.decide(port.port, request),
                Ok(None) => return,
                Err(ListenError::DeviceRemoved) => {
                    warn!(
                        port = port.port.0,
                        "the RDMA device was removed, waiting for it"
                    );
                    port.listener = None;
                    self.admission.forget_devices();
                }
                Err(error) => {
                    error!(port = port.port.0, %error, "a connection request was lost");
                    return;
                }
            }
        }
    }

    fn decide(&mut self, port: PortId, request: ConnectRequest) {
        match self.judge(&request) {
            Ok(params) => self.admission.admit(port, request, params),
            Err(reason) => {
                let peer = request.peer_address();
                info!(?peer, %reason, "connection rejected");
                if let Err(error) = request.reject(reason) {
                    debug!(%error, "the rejection could not be sent");
                }
            }
        }
    }

    /// Whether the host's private data makes sense here (NVMe RDMA Transport 1.1 §3.4).
    fn judge(&self, request: &ConnectRequest) -> Result<TargetParams, RejectReason> {
        let cm = request.request()?;
        let qid = cm.qid.get();
        let entries = u32::from(cm.hsqsize.get()) + 1;
        let entries_max = if qid == 0 {
            ADMIN_ENTRIES_MAX
        } else {
            u32::from(self.limits.depth_max)
        };
        if qid > self.limits.io_queues_max {
            return Err(RejectReason::INVALID_QID);
        }
        if entries < 2 || entries > entries_max {
            return Err(RejectReason::INVALID_HSQSIZE);
        }
        // A response for every command must find a receive.
        if u32::from(cm.hrqsize.get()) < entries - 1 {
            return Err(RejectReason::INVALID_HRQSIZE);
        }
        let known = |cntlid| self.hub.with_array(|array| array.has_controller(cntlid));
        if qid != 0 && !known(cm.cntlid.get()) {
            return Err(RejectReason::INVALID_CNTLID);
        }
        if !self.hub.pending_connects().has_room() {
            return Err(RejectReason::NO_RESOURCES);
        }
        if request.peer_reads() == 0 {
            return Err(RejectReason::INVALID_IRD);
        }
        Ok(TargetParams {
            receive_depth: entries as u16,
            // A host may reuse a command's place before our side has reaped its completion.
            data_requests: 2 * entries as u16,
            in_capsule_bytes: if qid == 0 {
                0
            } else {
                self.limits.in_capsule_bytes
            },
        })
    }
}
