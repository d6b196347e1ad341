//! Connecting a host queue, one event at a time.
//!
//! Decided here: the order of the steps (address, queue pair and receives, ACK timeout, route,
//! connect) and what each failure is called. Not decided here: when to try again.
//!
//! Every connection has an event channel of its own. The caller waits for [`Connecting::fd`] or
//! [`Connecting::deadline`], whichever is first, and calls [`Connecting::handle_readable`] or
//! [`Connecting::time_out`]. Dropping it gives up.
//!
//! A lost connection request is repeated here and not left to the kernel, which does so after 4.3 s
//! (CMA_CM_RESPONSE_TIMEOUT in drivers/infiniband/core/cma.c): longer than most callers wait at all.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use umpath_nvme::IntoBytes;
use umpath_nvme::rdma::{CmReject, CmReply, CmRequest};

use crate::device::devices_in_words;
use crate::domain::Domain;
use crate::error::{ConnectError, LocalError, Phase, Unavailable};
use crate::host::{HostQueue, HostShape};
use crate::management::DeadDevice;
use crate::verbs::{Access, CmId, ConnectOptions, EventChannel, RawCmEvent, VerbsError};

/// InfiniBand CM reject reasons met in practice.
const REJECT_NO_SERVICE: i32 = 8;
const REJECT_BY_CONSUMER: i32 = 28;

/// How long the kernel may take to resolve an address before it is asked again.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// Where to connect, and as what.
#[derive(Debug, Clone)]
pub struct ConnectParams {
    /// The target's address and port.
    pub traddr: SocketAddr,
    /// Local address to leave from; any when `None`.
    pub host_traddr: Option<IpAddr>,
    /// 0 for the admin queue.
    pub qid: u16,
    /// The controller, for I/O queues; ignored for the admin queue.
    pub cntlid: u16,
    /// Commands the queue holds, at least 2.
    pub depth: u16,
    /// Largest write to send inside its capsule: `(ioccsz * 16) - 64` of the controller. Ignored
    /// for the admin queue.
    pub in_capsule_bytes: u32,
    /// How long all of it may take.
    pub timeout: Duration,
    /// Local ACK timeout: the device sends again after `4.096 us * 2^this` (up to 4 times that) and
    /// gives up after `retries` of them. 14 is 67 ms. 0 leaves the device's default.
    pub ack_timeout_exponent: u8,
    /// Transport retries, at most 6 (7 means for ever on some devices).
    pub retries: u8,
}

impl ConnectParams {
    /// An admin queue with the customary 32 entries.
    pub fn admin(traddr: SocketAddr) -> Self {
        Self {
            traddr,
            host_traddr: None,
            qid: 0,
            cntlid: 0xffff,
            depth: 32,
            in_capsule_bytes: 0,
            timeout: Duration::from_secs(5),
            ack_timeout_exponent: 14,
            retries: 6,
        }
    }

    /// An I/O queue of controller `cntlid`.
    pub fn io(
        traddr: SocketAddr,
        qid: u16,
        cntlid: u16,
        depth: u16,
        in_capsule_bytes: u32,
    ) -> Self {
        Self {
            qid,
            cntlid,
            depth,
            in_capsule_bytes,
            ..Self::admin(traddr)
        }
    }

    fn check(&self) -> Result<(), ConnectError> {
        if self.depth < 2 {
            return Err(ConnectError::Caller("a queue holds at least 2 commands"));
        }
        if self.ack_timeout_exponent > 31 {
            return Err(ConnectError::Caller(
                "the ACK timeout exponent is at most 31",
            ));
        }
        if self.retries > 6 {
            return Err(ConnectError::Caller("transport retries are at most 6"));
        }
        Ok(())
    }
}

/// How far a connection has come.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once for each connection, and moved once"
)]
pub enum Progress {
    /// Wait for more events.
    Pending,
    /// Done; the `Connecting` is spent.
    Connected(HostQueue),
}

/// A connection being set up.
#[derive(Debug)]
pub struct Connecting {
    // The queue goes before the id it is bound to.
    queue: Option<HostQueue>,
    id: Arc<CmId>,
    channel: Arc<EventChannel>,
    domain: Option<Arc<Domain>>,
    /// The domain it began with, to begin again.
    first_domain: Option<Arc<Domain>>,
    params: ConnectParams,
    phase: Phase,
    deadline: Instant,
    /// A request without an answer is sent once more.
    repeats: bool,
    /// When it counts as lost.
    repeat_at: Option<Instant>,
    /// How long the next address resolution may take.
    patience: Duration,
}

impl Connecting {
    /// Starts connecting. Without a `domain` a new one is created on the device the route leads to
    /// (see [`HostQueue::domain`]); I/O queues pass their admin queue's.
    pub fn start(params: ConnectParams, domain: Option<Arc<Domain>>) -> Result<Self, ConnectError> {
        params.check()?;
        let now = Instant::now();
        let deadline = now + params.timeout;
        Self::begin(params, domain, deadline, true)
    }

    fn begin(
        params: ConnectParams,
        domain: Option<Arc<Domain>>,
        deadline: Instant,
        repeats: bool,
    ) -> Result<Self, ConnectError> {
        let channel = EventChannel::new().map_err(Unavailable::explain)?;
        let id = Arc::new(CmId::new(&channel).map_err(Unavailable::explain)?);
        let mut connecting = Self {
            queue: None,
            id,
            channel,
            first_domain: domain.clone(),
            domain,
            params,
            phase: Phase::Address,
            deadline,
            repeats,
            repeat_at: None,
            patience: FIRST_PATIENCE,
        };
        connecting.resolve_address()?;
        Ok(connecting)
    }

    /// Asks for the address, for a moment only.
    ///
    /// The kernel looks at the neighbour when asked, when told of a change, and when the time it was
    /// given is over. A neighbour that answers between the first two goes unnoticed until the third
    /// (on a veth pair that is every neighbour not yet known), so short questions, asked again, are
    /// answered sooner than one long one.
    fn resolve_address(&mut self) -> Result<(), ConnectError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let moment = self.patience.min(left).max(Duration::from_millis(1));
        self.patience = (self.patience * 2).min(LAST_PATIENCE);
        let ConnectParams {
            host_traddr,
            traddr,
            ..
        } = self.params;
        let asked = self.id.resolve_address(host_traddr, traddr, moment);
        asked.map_err(|source| self.unreachable(source))
    }

    /// Readable when [`Connecting::handle_readable`] has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// When to call [`Connecting::time_out`].
    pub fn deadline(&self) -> Instant {
        match self.repeat_at {
            Some(moment) if self.phase == Phase::Handshake => moment.min(self.deadline),
            _ => self.deadline,
        }
    }

    /// What is being waited for.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Begins again because the deadline passed and the request, or its answer, seems lost; or gives
    /// up. Blocks for as long as the kernel takes to destroy a queue pair. An unanswered request on a
    /// [`DeadDevice`] is reported as such.
    pub fn time_out(self) -> Result<Self, ConnectError> {
        let now = Instant::now();
        let Self { params, phase, .. } = &self;
        let (traddr, after, phase) = (params.traddr, params.timeout, *phase);
        if phase == Phase::Handshake {
            let dead = DeadDevice::find(&self.id.device_name());
            if let Some(device) = dead {
                return Err(ConnectError::DeviceDead { traddr, device });
            }
            if self.repeat_at.is_some() && now < self.deadline {
                let (params, domain) = (self.params.clone(), self.first_domain.clone());
                drop(self);
                // All of the time once more: the controller may be slow, and the request not lost.
                let deadline = now + after;
                return Self::begin(params, domain, deadline, false);
            }
        }
        Err(ConnectError::TimedOut {
            traddr,
            phase,
            after,
        })
    }

    /// Handles all waiting events. After an error or `Connected` the value is spent.
    pub fn handle_readable(&mut self) -> Result<Progress, ConnectError> {
        while let Some(event) = self.channel.next_event().map_err(LocalError::from)? {
            if let Some(queue) = self.handle(event)? {
                return Ok(Progress::Connected(queue));
            }
        }
        Ok(Progress::Pending)
    }

    fn handle(&mut self, event: RawCmEvent) -> Result<Option<HostQueue>, ConnectError> {
        let traddr = self.params.traddr;
        match event {
            RawCmEvent::AddressResolved => self.address_resolved()?,
            RawCmEvent::RouteResolved => self.route_resolved()?,
            RawCmEvent::Established { private } => return self.established(&private).map(Some),
            RawCmEvent::AddressError(status)
                if status.abs() == libc::ETIMEDOUT && Instant::now() < self.deadline =>
            {
                self.resolve_address()?;
            }
            RawCmEvent::AddressError(status)
            | RawCmEvent::RouteError(status)
            | RawCmEvent::ConnectError(status)
            | RawCmEvent::Unreachable(status) => {
                return Err(self.unreachable(VerbsError::code(call_of(self.phase), status)));
            }
            RawCmEvent::Rejected { reason, private } => return Err(self.rejected(reason, &private)),
            RawCmEvent::DeviceRemoval => {
                return Err(self.unreachable(VerbsError::code("device removal", libc::ENODEV)));
            }
            RawCmEvent::Disconnected => return Err(ConnectError::Refused { traddr }),
            _ => {}
        }
        Ok(None)
    }

    fn address_resolved(&mut self) -> Result<(), ConnectError> {
        let domain = match self.domain.take() {
            Some(domain) if domain.pd().device().verbs() != self.id.verbs() => {
                return Err(ConnectError::OtherDevice {
                    traddr: self.params.traddr,
                    found: self.id.device_name(),
                    expected: domain.device().to_owned(),
                });
            }
            Some(domain) => domain,
            None => Domain::new(&self.id, Access::Remote).map_err(LocalError::from)?,
        };
        let ConnectParams {
            qid,
            depth,
            in_capsule_bytes,
            ..
        } = self.params;
        let shape = HostShape {
            qid,
            depth,
            in_capsule_bytes,
        };
        self.queue = Some(HostQueue::new(&self.id, domain, shape)?);
        if self.params.ack_timeout_exponent > 0 {
            self.id
                .set_ack_timeout(self.params.ack_timeout_exponent)
                .map_err(LocalError::from)?;
        }
        self.phase = Phase::Route;
        self.id
            .resolve_route(self.params.timeout)
            .map_err(|source| self.unreachable(source))
    }

    fn route_resolved(&mut self) -> Result<(), ConnectError> {
        let ConnectParams {
            qid,
            depth,
            cntlid,
            retries,
            ..
        } = self.params;
        let request = CmRequest::new(qid, depth, cntlid);
        self.phase = Phase::Handshake;
        let half = self.params.timeout / 2;
        self.repeat_at = self.repeats.then(|| Instant::now() + half);
        self.id
            .connect(ConnectOptions {
                private: request.as_bytes(),
                // As many RDMA READs against us as the device can serve; we issue none.
                responder_resources: u8::MAX,
                initiator_depth: 0,
                retry_count: retries,
            })
            .map_err(|source| self.unreachable(source))
    }

    fn established(&mut self, private: &[u8]) -> Result<HostQueue, ConnectError> {
        self.id.established();
        let traddr = self.params.traddr;
        CmReply::decode(private).ok_or(ConnectError::BadReply { traddr })?;
        self.queue.take().ok_or(ConnectError::BadReply { traddr })
    }

    fn rejected(&self, code: i32, private: &[u8]) -> ConnectError {
        let ConnectParams { traddr, qid, .. } = self.params;
        match (code, CmReject::decode(private)) {
            (REJECT_NO_SERVICE, _) => ConnectError::Refused { traddr },
            (REJECT_BY_CONSUMER, Some(reject)) if reject.reason().0 != 0 => {
                ConnectError::Rejected {
                    traddr,
                    qid,
                    reason: reject.reason(),
                }
            }
            _ => ConnectError::CmRejected { traddr, code },
        }
    }

    fn unreachable(&self, source: VerbsError) -> ConnectError {
        let ConnectParams {
            traddr,
            host_traddr,
            timeout,
            ..
        } = self.params;
        match source.raw_os_error() {
            libc::ENODEV | libc::EADDRNOTAVAIL => ConnectError::NoDevice {
                traddr,
                from: host_traddr,
                devices: devices_in_words(),
                source,
            },
            libc::ETIMEDOUT => ConnectError::TimedOut {
                traddr,
                phase: self.phase,
                after: timeout,
            },
            _ => ConnectError::Unreachable {
                traddr,
                phase: self.phase,
                source,
            },
        }
    }
}

fn call_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Address => "rdma_resolve_addr",
        Phase::Route => "rdma_resolve_route",
        Phase::Handshake => "rdma_connect",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_make_no_sense_are_refused() {
        let good = ConnectParams::io("10.9.1.1:4420".parse().unwrap(), 1, 7, 128, 4096);
        assert!(good.check().is_ok());
        for bad in [
            ConnectParams {
                depth: 1,
                ..good.clone()
            },
            ConnectParams {
                retries: 7,
                ..good.clone()
            },
            ConnectParams {
                ack_timeout_exponent: 32,
                ..good.clone()
            },
        ] {
            assert!(matches!(bad.check(), Err(ConnectError::Caller(_))));
        }
    }
}
