//! Ids that must not say goodbye yet.
//!
//! Destroying a connected id makes the kernel send the peer a message. Over soft-RoCE, with the
//! interface down, that send fails at once, and the failure moves the device's management queue
//! pair to the error state for good: no connection over that device, of any process, is ever made
//! again until the device is deleted and added anew (seen on Linux 7.2 as `rdma resource show qp`
//! type GSI state ERR). Real devices would only waste the message.
//!
//! So an id whose port is down when it would be destroyed waits here, without queue pair or memory,
//! until the port is active (the peer then learns that the connection is over), the device is
//! gone, or the process ends.

#![expect(unsafe_code)]
// UNSAFETY: holds raw ids on behalf of their former owners.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdma_sys as sys;

use super::cm::EventChannel;

/// How often ports are looked at while an id waits; not on anybody's path.
const LOOK_EVERY: Duration = Duration::from_millis(250);

static WAITING: Mutex<Waiting> = Mutex::new(Waiting {
    ids: Vec::new(),
    watched: false,
});

struct Waiting {
    ids: Vec<Lingering>,
    /// Whether the thread that looks after `ids` runs.
    watched: bool,
}

struct Lingering {
    raw: NonNull<sys::rdma_cm_id>,
    verbs: NonNull<sys::ibv_context>,
    port: u8,
    _channel: Arc<EventChannel>,
}

// SAFETY: the id belongs to nobody else any more; librdmacm allows its destruction anywhere.
unsafe impl Send for Lingering {}

impl Drop for Lingering {
    fn drop(&mut self) {
        // SAFETY: the former owner gave the id up; its queue pair is gone and its events were
        // acknowledged. The channel outlives this call.
        unsafe { sys::rdma_destroy_id(self.raw.as_ptr()) };
    }
}

/// Whether a port can send. An error means the device is gone, and counts as no.
pub(super) fn port_is_active(verbs: NonNull<sys::ibv_context>, port: u8) -> bool {
    state(verbs, port) == Some(sys::ibv_port_state::IBV_PORT_ACTIVE)
}

/// Destroys an id later. `verbs` is its device's context, which it keeps open.
pub(super) fn keep(
    raw: NonNull<sys::rdma_cm_id>,
    verbs: NonNull<sys::ibv_context>,
    port: u8,
    channel: Arc<EventChannel>,
) {
    let lingering = Lingering {
        raw,
        verbs,
        port,
        _channel: channel,
    };
    if state(verbs, port).is_none() {
        return;
    }
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.ids.push(lingering);
    if !waiting.watched {
        let thread = std::thread::Builder::new()
            .name("rdma-linger".into())
            .spawn(watch);
        // Without a thread the ids wait for the next one, or for the end of the process.
        waiting.watched = thread.is_ok();
    }
}

fn watch() {
    loop {
        std::thread::sleep(LOOK_EVERY);
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        let (still, over): (Vec<_>, Vec<_>) = waiting.ids.drain(..).partition(|id| {
            state(id.verbs, id.port).is_some_and(|s| s != sys::ibv_port_state::IBV_PORT_ACTIVE)
        });
        waiting.ids = still;
        waiting.watched = !waiting.ids.is_empty();
        let done = !waiting.watched;
        drop(waiting);
        drop(over);
        if done {
            return;
        }
    }
}

/// A port's state; `None` when the device does not answer.
fn state(verbs: NonNull<sys::ibv_context>, port: u8) -> Option<u32> {
    let mut attributes = MaybeUninit::<sys::ibv_port_attr>::zeroed();
    // SAFETY: the context is open while an id on it exists, and both callers hold one. The function
    // of this name fills the leading part of the structure, which is where the state is.
    let result =
        unsafe { sys::ibv_query_port_compat(verbs.as_ptr(), port, attributes.as_mut_ptr().cast()) };
    // SAFETY: zeroed, then filled; it holds integers only.
    (result == 0).then(|| unsafe { attributes.assume_init_ref().state })
}
