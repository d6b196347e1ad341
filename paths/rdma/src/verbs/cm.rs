//! Connection manager: event channels and ids.
//!
//! An event channel here never blocks. Each id that connects or was accepted has a channel of its
//! own, so that one thread can own a connection whole; a listener's channel carries only requests.

#![expect(unsafe_code)]
// UNSAFETY: librdmacm is a C library; raw pointers stay inside this file.

use std::ffi::{CStr, c_void};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rdma_sys as sys;
use rdma_sys::rdma_cm_event_type as kind;

use super::address::{RawAddress, parse_address};
use super::linger::{self, PortState, Voice};
use super::{VerbsError, check};

/// Where CM events of one or more ids arrive; readable when one is waiting.
#[derive(Debug)]
pub(crate) struct EventChannel {
    raw: NonNull<sys::rdma_event_channel>,
}

// SAFETY: a channel is a file descriptor; librdmacm serialises nothing else through it, and the
// kernel serialises reads of it.
unsafe impl Send for EventChannel {}
// SAFETY: as above: `rdma_get_cm_event` on one channel from several threads is allowed.
unsafe impl Sync for EventChannel {}

impl EventChannel {
    /// A new channel, already non-blocking.
    pub(crate) fn new() -> Result<Arc<Self>, VerbsError> {
        // SAFETY: no preconditions; null on failure.
        let raw = NonNull::new(unsafe { sys::rdma_create_event_channel() })
            .ok_or_else(|| VerbsError::errno("rdma_create_event_channel"))?;
        let channel = Self { raw };
        rustix::io::ioctl_fionbio(channel.as_fd(), true).map_err(|e| VerbsError {
            call: "ioctl(FIONBIO)",
            source: e.into(),
        })?;
        Ok(Arc::new(channel))
    }

    /// The next event, copied and acknowledged; `None` when nothing is waiting.
    pub(crate) fn next_event(self: &Arc<Self>) -> Result<Option<RawCmEvent>, VerbsError> {
        let mut event = ptr::null_mut();
        // SAFETY: the channel lives; `event` is written on success only.
        if unsafe { sys::rdma_get_cm_event(self.raw.as_ptr(), &raw mut event) } != 0 {
            let error = VerbsError::errno("rdma_get_cm_event");
            return match error.source.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: a successful call hands out a valid event, ours until acknowledged below.
        let copied = unsafe { self.copy(&*event) };
        // SAFETY: the event came from `rdma_get_cm_event` and is acknowledged once; `copied` holds
        // no pointer into it.
        unsafe { sys::rdma_ack_cm_event(event) };
        Ok(Some(copied))
    }

    /// # Safety
    /// `event` must be unacknowledged.
    unsafe fn copy(self: &Arc<Self>, event: &sys::rdma_cm_event) -> RawCmEvent {
        // SAFETY: every event of RC ids carries the `conn` member; for those that carry nothing
        // librdmacm zeroed it.
        let conn = unsafe { event.param.conn };
        let private = if conn.private_data.is_null() {
            Vec::new()
        } else {
            let len = conn.private_data_len as usize;
            // SAFETY: librdmacm points `private_data` at its copy of `private_data_len` bytes,
            // alive until the acknowledgement.
            unsafe { std::slice::from_raw_parts(conn.private_data.cast::<u8>(), len) }.to_vec()
        };
        let status = event.status;
        match event.event {
            kind::RDMA_CM_EVENT_ADDR_RESOLVED => RawCmEvent::AddressResolved,
            kind::RDMA_CM_EVENT_ADDR_ERROR => RawCmEvent::AddressError(status),
            kind::RDMA_CM_EVENT_ROUTE_RESOLVED => RawCmEvent::RouteResolved,
            kind::RDMA_CM_EVENT_ROUTE_ERROR => RawCmEvent::RouteError(status),
            kind::RDMA_CM_EVENT_CONNECT_REQUEST => match NonNull::new(event.id) {
                Some(raw) => RawCmEvent::ConnectRequest {
                    id: CmId {
                        raw,
                        channel: Arc::clone(self),
                        voice: AtomicU8::new(Voice::HalfOpen as u8),
                    },
                    private,
                    peer_reads: conn.initiator_depth,
                },
                None => RawCmEvent::Other,
            },
            kind::RDMA_CM_EVENT_CONNECT_ERROR => RawCmEvent::ConnectError(status),
            kind::RDMA_CM_EVENT_UNREACHABLE => RawCmEvent::Unreachable(status),
            kind::RDMA_CM_EVENT_REJECTED => RawCmEvent::Rejected {
                reason: status,
                private,
            },
            kind::RDMA_CM_EVENT_ESTABLISHED => RawCmEvent::Established { private },
            kind::RDMA_CM_EVENT_DISCONNECTED => RawCmEvent::Disconnected,
            kind::RDMA_CM_EVENT_DEVICE_REMOVAL => RawCmEvent::DeviceRemoval,
            kind::RDMA_CM_EVENT_ADDR_CHANGE => RawCmEvent::AddressChange,
            kind::RDMA_CM_EVENT_TIMEWAIT_EXIT => RawCmEvent::TimewaitExit,
            _ => RawCmEvent::Other,
        }
    }
}

impl AsFd for EventChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel and its descriptor live as long as `self`.
        unsafe { BorrowedFd::borrow_raw((*self.raw.as_ptr()).fd) }
    }
}

impl Drop for EventChannel {
    fn drop(&mut self) {
        // SAFETY: ids hold an `Arc` of their channel, so none is left; every event was acknowledged.
        unsafe { sys::rdma_destroy_event_channel(self.raw.as_ptr()) };
    }
}

/// A CM event with everything it carried.
#[derive(Debug)]
pub(crate) enum RawCmEvent {
    AddressResolved,
    AddressError(i32),
    RouteResolved,
    RouteError(i32),
    ConnectRequest {
        id: CmId,
        private: Vec<u8>,
        peer_reads: u8,
    },
    ConnectError(i32),
    Unreachable(i32),
    Rejected {
        reason: i32,
        private: Vec<u8>,
    },
    Established {
        private: Vec<u8>,
    },
    Disconnected,
    DeviceRemoval,
    AddressChange,
    TimewaitExit,
    Other,
}

/// What goes into `rdma_connect` and `rdma_accept`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectOptions<'a> {
    pub(crate) private: &'a [u8],
    /// RDMA READs the peer may have outstanding against us.
    pub(crate) responder_resources: u8,
    /// RDMA READs we may have outstanding against the peer.
    pub(crate) initiator_depth: u8,
    /// Transport retries; 7 means for ever on some devices, so never more than 6.
    pub(crate) retry_count: u8,
}

impl ConnectOptions<'_> {
    fn to_raw(self) -> sys::rdma_conn_param {
        sys::rdma_conn_param {
            private_data: self.private.as_ptr().cast::<c_void>(),
            private_data_len: self.private.len() as u8,
            responder_resources: self.responder_resources,
            initiator_depth: self.initiator_depth,
            flow_control: 1,
            retry_count: self.retry_count.min(6),
            // A receiver that is not ready is waited for: RECVs are posted before they are needed,
            // so this only ever covers a peer that is slow to repost.
            rnr_retry_count: 7,
            srq: 0,
            qp_num: 0,
        }
    }
}

/// A connection identifier.
#[derive(Debug)]
pub(crate) struct CmId {
    raw: NonNull<sys::rdma_cm_id>,
    channel: Arc<EventChannel>,
    /// A [`Voice`].
    voice: AtomicU8,
}

// SAFETY: librdmacm locks its own tables; an id's fields are written during address resolution and
// connection set-up, when `Connecting` or `ConnectRequest` owns the id alone.
unsafe impl Send for CmId {}
// SAFETY: what remains callable through a shared reference afterwards are reads of fields that no
// longer change and system calls the kernel serialises for each id.
unsafe impl Sync for CmId {}

impl CmId {
    pub(crate) fn new(channel: &Arc<EventChannel>) -> Result<Self, VerbsError> {
        let mut raw = ptr::null_mut();
        // SAFETY: the channel lives and is held below; `raw` is written on success.
        let result = unsafe {
            sys::rdma_create_id(
                channel.raw.as_ptr(),
                &raw mut raw,
                ptr::null_mut(),
                sys::rdma_port_space::RDMA_PS_TCP,
            )
        };
        check("rdma_create_id", result)?;
        let raw = NonNull::new(raw).ok_or_else(|| VerbsError::code("rdma_create_id", 22))?;
        Ok(Self {
            raw,
            channel: Arc::clone(channel),
            voice: AtomicU8::new(Voice::Silent as u8),
        })
    }

    /// An id that only keeps the device's context open, for what outlives the connection: the kernel
    /// repeats an unanswered message of an id for a minute, unless the id is destroyed. `None` when
    /// the address has left the device.
    pub(crate) fn anchor(&self) -> Option<Self> {
        let mut address = self.local_address()?;
        address.set_port(0);
        let anchor = Self::new(&EventChannel::new().ok()?).ok()?;
        anchor.bind(address).ok()?;
        (anchor.verbs() == self.verbs()).then_some(anchor)
    }

    pub(crate) fn channel(&self) -> &Arc<EventChannel> {
        &self.channel
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rdma_cm_id {
        self.raw.as_ptr()
    }

    /// The device's context once an address is resolved or a request has arrived.
    pub(crate) fn verbs(&self) -> Option<NonNull<sys::ibv_context>> {
        // SAFETY: the id lives; the field is written once, before the id is shared.
        NonNull::new(unsafe { (*self.raw.as_ptr()).verbs })
    }

    /// Name of the device; empty before an address is resolved.
    pub(crate) fn device_name(&self) -> String {
        self.verbs().map_or_else(String::new, |verbs| {
            // SAFETY: the context lives while the id does, and its device's name is NUL-terminated.
            let name = unsafe { CStr::from_ptr(sys::ibv_get_device_name(verbs.as_ref().device)) };
            name.to_string_lossy().into_owned()
        })
    }

    /// The port of the device the connection uses.
    pub(crate) fn port(&self) -> u8 {
        // SAFETY: as in `verbs`.
        unsafe { (*self.raw.as_ptr()).port_num }
    }

    pub(crate) fn resolve_address(
        &self,
        from: Option<IpAddr>,
        to: SocketAddr,
        timeout: Duration,
    ) -> Result<(), VerbsError> {
        let mut to = RawAddress::new(to);
        let mut from = from.map(|ip| RawAddress::new(SocketAddr::new(ip, 0)));
        let from = from
            .as_mut()
            .map_or(ptr::null_mut(), RawAddress::as_mut_ptr);
        // SAFETY: both addresses live for the call, which copies them.
        let result = unsafe {
            sys::rdma_resolve_addr(self.raw.as_ptr(), from, to.as_mut_ptr(), millis(timeout))
        };
        check("rdma_resolve_addr", result)
    }

    pub(crate) fn resolve_route(&self, timeout: Duration) -> Result<(), VerbsError> {
        // SAFETY: the id lives.
        let result = unsafe { sys::rdma_resolve_route(self.raw.as_ptr(), millis(timeout)) };
        check("rdma_resolve_route", result)
    }

    /// The local ACK timeout, `4.096 us * 2^exponent`; before route resolution.
    pub(crate) fn set_ack_timeout(&self, mut exponent: u8) -> Result<(), VerbsError> {
        const RDMA_OPTION_ID: i32 = 0;
        const RDMA_OPTION_ID_ACK_TIMEOUT: i32 = 3;
        // SAFETY: the option takes one byte, alive for the call.
        let result = unsafe {
            sys::rdma_set_option(
                self.raw.as_ptr(),
                RDMA_OPTION_ID,
                RDMA_OPTION_ID_ACK_TIMEOUT,
                (&raw mut exponent).cast(),
                1,
            )
        };
        check("rdma_set_option(ACK_TIMEOUT)", result)
    }

    /// Lets a listener bind while connections of an earlier one linger.
    pub(crate) fn set_reuse_address(&self) -> Result<(), VerbsError> {
        const RDMA_OPTION_ID: i32 = 0;
        const RDMA_OPTION_ID_REUSEADDR: i32 = 1;
        let mut on: i32 = 1;
        // SAFETY: the option takes an int, alive for the call.
        let result = unsafe {
            sys::rdma_set_option(
                self.raw.as_ptr(),
                RDMA_OPTION_ID,
                RDMA_OPTION_ID_REUSEADDR,
                (&raw mut on).cast(),
                size_of::<i32>(),
            )
        };
        check("rdma_set_option(REUSEADDR)", result)
    }

    pub(crate) fn connect(&self, options: ConnectOptions<'_>) -> Result<(), VerbsError> {
        self.set_voice(Voice::HalfOpen);
        let mut param = options.to_raw();
        // SAFETY: the parameters and the private data live for the call, which copies them.
        let result = unsafe { sys::rdma_connect(self.raw.as_ptr(), &raw mut param) };
        check("rdma_connect", result)
    }

    pub(crate) fn bind(&self, address: SocketAddr) -> Result<(), VerbsError> {
        let mut address = RawAddress::new(address);
        // SAFETY: the address lives for the call, which copies it.
        let result = unsafe { sys::rdma_bind_addr(self.raw.as_ptr(), address.as_mut_ptr()) };
        check("rdma_bind_addr", result)
    }

    pub(crate) fn listen(&self, backlog: u16) -> Result<(), VerbsError> {
        // SAFETY: the id lives and is bound.
        check("rdma_listen", unsafe {
            sys::rdma_listen(self.raw.as_ptr(), backlog.into())
        })
    }

    pub(crate) fn accept(&self, options: ConnectOptions<'_>) -> Result<(), VerbsError> {
        let mut param = options.to_raw();
        // SAFETY: as in `connect`.
        let result = unsafe { sys::rdma_accept(self.raw.as_ptr(), &raw mut param) };
        check("rdma_accept", result)
    }

    /// Refuses a request. With the port down it says nothing (see `linger`).
    pub(crate) fn reject(&self, private: &[u8]) -> Result<(), VerbsError> {
        if self.port_state() != PortState::Active {
            return Err(VerbsError::code("rdma_reject", libc::ENETDOWN));
        }
        // SAFETY: the data lives for the call, which copies it.
        let result = unsafe {
            sys::rdma_reject(
                self.raw.as_ptr(),
                private.as_ptr().cast(),
                private.len() as u8,
            )
        };
        check("rdma_reject", result)?;
        self.set_voice(Voice::Silent);
        Ok(())
    }

    /// To be called when the connection manager said that the connection is established.
    pub(crate) fn established(&self) {
        self.set_voice(Voice::Established);
    }

    /// Says goodbye to the peer; does not wait for an answer. With the port down it says nothing
    /// (see `linger`).
    pub(crate) fn disconnect(&self) {
        if self.port_state() != PortState::Active {
            return;
        }
        // SAFETY: the id lives. On an id that is not connected the kernel says nothing, and reports
        // no error.
        unsafe { sys::rdma_disconnect(self.raw.as_ptr()) };
        if self.voice() == Voice::Established {
            self.set_voice(Voice::Silent);
        }
    }

    fn voice(&self) -> Voice {
        Voice::from_raw(self.voice.load(Ordering::Relaxed))
    }

    fn set_voice(&self, voice: Voice) {
        self.voice.store(voice as u8, Ordering::Relaxed);
    }

    fn port_state(&self) -> PortState {
        let verbs = self.verbs();
        verbs.map_or(PortState::Gone, |verbs| linger::state(verbs, self.port()))
    }

    /// Moves the id to a channel of its own. All its events so far have been acknowledged (they are
    /// before `next_event` returns), so this cannot wait.
    pub(crate) fn migrate(mut self, channel: Arc<EventChannel>) -> Result<Self, VerbsError> {
        // SAFETY: both channels live; on success librdmacm refers to the new one only.
        let result = unsafe { sys::rdma_migrate_id(self.raw.as_ptr(), channel.raw.as_ptr()) };
        check("rdma_migrate_id", result)?;
        self.channel = channel;
        Ok(self)
    }

    pub(crate) fn peer_address(&self) -> Option<SocketAddr> {
        // SAFETY: the route's addresses are written before the id is handed out; the storage member
        // covers the whole union.
        unsafe { parse_address(&(*self.raw.as_ptr()).route.addr.dst_addr_union.dst_storage) }
    }

    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        // SAFETY: as in `peer_address`.
        unsafe { parse_address(&(*self.raw.as_ptr()).route.addr.src_addr_union.src_storage) }
    }
}

impl Drop for CmId {
    fn drop(&mut self) {
        let voice = self.voice();
        if let Some(verbs) = self.verbs()
            && voice.must_wait(self.port_state())
        {
            linger::keep(
                self.raw,
                verbs,
                self.port(),
                voice,
                Arc::clone(&self.channel),
            );
            return;
        }
        // SAFETY: queue pairs hold an `Arc` of their id and are gone; every event handed out was
        // acknowledged, so the call does not wait for us.
        unsafe { sys::rdma_destroy_id(self.raw.as_ptr()) };
    }
}

fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
