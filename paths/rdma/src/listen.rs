//! The target's door: connection requests, accepted or refused.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use umpath_nvme::IntoBytes;
use umpath_nvme::rdma::{CmReject, CmReply, CmRequest, RejectReason};

use crate::device::devices_in_words;
use crate::domain::Domain;
use crate::error::{ListenError, LocalError, Unavailable};
use crate::target::{TargetQueue, TargetShape};
use crate::verbs::{Access, CmId, ConnectOptions, EventChannel, RawCmEvent, VerbsError};

/// No target offers more; with every receive holding room for it, more would be waste.
const IN_CAPSULE_BYTES_MAX: u32 = 1 << 20;

/// An address hosts can connect to.
#[derive(Debug)]
pub struct Listener {
    id: CmId,
    channel: Arc<EventChannel>,
}

impl Listener {
    /// Listens on `address`, with at most `backlog` requests waiting.
    pub fn bind(address: SocketAddr, backlog: u16) -> Result<Self, ListenError> {
        let channel = EventChannel::new().map_err(Unavailable::explain)?;
        let id = CmId::new(&channel).map_err(Unavailable::explain)?;
        // A target that comes back must not wait for connections of its former life.
        id.set_reuse_address().map_err(ListenError::Local)?;
        let explain = |source: VerbsError| match source.raw_os_error() {
            libc::EADDRINUSE => ListenError::InUse { address },
            libc::ENODEV | libc::EADDRNOTAVAIL => ListenError::NoDevice {
                address,
                devices: devices_in_words(),
                source,
            },
            _ => ListenError::Local(source),
        };
        id.bind(address).map_err(explain)?;
        id.listen(backlog).map_err(explain)?;
        Ok(Self { id, channel })
    }

    /// The address listened on, with the port the kernel chose if it was 0.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.id.local_address()
    }

    /// Name of the RDMA device; empty when it listens on all.
    pub fn device(&self) -> String {
        self.id.device_name()
    }

    /// Readable when a request waits.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The next request; `None` when none waits. Call until it says so. An error here concerns one
    /// request unless it repeats.
    pub fn accept(&mut self) -> Result<Option<ConnectRequest>, ListenError> {
        while let Some(event) = self.channel.next_event().map_err(ListenError::Local)? {
            match event {
                RawCmEvent::ConnectRequest {
                    id,
                    private,
                    peer_reads,
                } => {
                    // A channel of its own, so that the queue's thread owns the connection whole.
                    let channel = EventChannel::new().map_err(ListenError::Local)?;
                    let id = id.migrate(channel).map_err(ListenError::Local)?;
                    let request = CmRequest::decode(&private);
                    return Ok(Some(ConnectRequest {
                        id: Arc::new(id),
                        request,
                        peer_reads,
                    }));
                }
                RawCmEvent::DeviceRemoval => return Err(ListenError::DeviceRemoved),
                // A request whose host went away before it was answered.
                _ => {}
            }
        }
        Ok(None)
    }
}

/// How large an accepted queue is.
#[derive(Debug, Clone, Copy)]
pub struct TargetParams {
    /// Command capsules the queue can receive before one is released: at least the host's send
    /// queue size ([`CmRequest::hsqsize`] + 1). Told to the host.
    pub receive_depth: u16,
    /// RDMA READs and WRITEs outstanding at once.
    pub data_requests: u16,
    /// Room for in-capsule data behind each command.
    pub in_capsule_bytes: u32,
}

/// A host that wants to connect a queue. Dropping it refuses without a reason.
#[derive(Debug)]
pub struct ConnectRequest {
    id: Arc<CmId>,
    request: Result<CmRequest, RejectReason>,
    peer_reads: u8,
}

impl ConnectRequest {
    /// What the host asked for, or which refusal its bytes deserve.
    pub fn request(&self) -> Result<&CmRequest, RejectReason> {
        self.request.as_ref().map_err(|reason| *reason)
    }

    /// The host's address.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.id.peer_address()
    }

    /// The address the host connected to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.id.local_address()
    }

    /// Name of the RDMA device the request came through.
    pub fn device(&self) -> String {
        self.id.device_name()
    }

    /// RDMA READs the host can serve at once; with 0 it can never write.
    pub fn peer_reads(&self) -> u8 {
        self.peer_reads
    }

    /// A new domain on the request's device.
    pub fn new_domain(&self) -> Result<Arc<Domain>, LocalError> {
        Ok(Domain::new(&self.id, Access::Local)?)
    }

    /// Accepts, which takes a second where the host is gone. Without a `domain` a new one is created; a
    /// domain must be on the request's device.
    ///
    /// The queue is complete at once and may receive its first capsule before
    /// [`CmEvent::Established`](crate::CmEvent::Established).
    pub fn accept(
        self,
        params: TargetParams,
        domain: Option<Arc<Domain>>,
    ) -> Result<TargetQueue, LocalError> {
        let reply = CmReply::new(params.receive_depth.max(1));
        self.accept_with(params, domain, reply.as_bytes())
    }

    /// Accepts as [`ConnectRequest::accept`] does, with private data of the caller's choice instead
    /// of the NVMe reply: for testing what hosts make of it.
    pub fn accept_with(
        self,
        params: TargetParams,
        domain: Option<Arc<Domain>>,
        private: &[u8],
    ) -> Result<TargetQueue, LocalError> {
        let id = self.id;
        let domain = match domain {
            Some(domain) if domain.pd().device().verbs() != id.verbs() => {
                let error = VerbsError::code("accept on another device's domain", libc::EXDEV);
                return Err(error.into());
            }
            Some(domain) => domain,
            None => Domain::new(&id, Access::Local)?,
        };
        let shape = TargetShape {
            receive_depth: params.receive_depth.max(1),
            data_requests: params.data_requests.max(1),
            in_capsule_bytes: params.in_capsule_bytes.min(IN_CAPSULE_BYTES_MAX),
        };
        let queue = TargetQueue::new(&id, domain, shape)?;
        id.accept(ConnectOptions {
            private,
            responder_resources: 0,
            // As many READs as both ends can.
            initiator_depth: u8::MAX,
            retry_count: 6,
        })?;
        Ok(queue)
    }

    /// Refuses, and says why.
    pub fn reject(self, reason: RejectReason) -> Result<(), VerbsError> {
        self.id.reject(CmReject::new(reason).as_bytes())
    }

    /// Refuses with private data of the caller's choice: for testing what hosts make of it.
    pub fn reject_with(self, private: &[u8]) -> Result<(), VerbsError> {
        self.id.reject(private)
    }
}
