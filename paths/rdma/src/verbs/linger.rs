//! Connected ids that must not be destroyed yet.
//!
//! Destroying a connected id makes the kernel send the peer a message. Over soft-RoCE, with the
//! interface down, that send fails at once, and the failure moves the device's management queue
//! pair to the error state for good: no connection over that device, of any process, is ever made
//! again until the device is deleted and added anew (`rdma resource show qp`: type GSI, state ERR).
//! Real devices would only waste the message.
//!
//! So an established id whose port is down when it would be destroyed waits here, without queue pair
//! or memory, until the port is active (the peer then learns that the connection is over), the
//! device is gone, or the process ends.
//!
//! A half-open id is another matter: the kernel repeats its request or reply every few seconds, and
//! only destroying the id ends that. It is destroyed as long as its interface is switched on, with a
//! carrier or without: what it sends then waits for the neighbour and is forgotten. With the interface
//! off it can only wait, and what the kernel repeats meanwhile does the harm.

#![expect(unsafe_code)]
// UNSAFETY: holds raw ids on behalf of their former owners.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdma_sys as sys;

use super::cm::EventChannel;

/// How often ports are looked at while an id waits; not on anybody's path.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// `PortPhysicalState` of InfiniBand (volume 1, "PortInfo"): soft-RoCE says so of an interface that is
/// switched off.
const PHYSICALLY_DISABLED: u8 = 3;

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
    voice: Voice,
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

/// What the kernel sends for an id when it is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Voice {
    /// Nothing.
    Silent = 0,
    /// A refusal; until then it repeats the request or the reply that was not answered.
    HalfOpen = 1,
    /// A goodbye.
    Established = 2,
}

impl Voice {
    /// The inverse of `as u8`.
    pub(super) fn from_raw(raw: u8) -> Self {
        match raw {
            0 => Self::Silent,
            1 => Self::HalfOpen,
            _ => Self::Established,
        }
    }

    /// Whether an id must not be destroyed with its port in this state.
    pub(super) fn must_wait(self, port: PortState) -> bool {
        match port {
            PortState::Active | PortState::Gone => false,
            PortState::NoLink => self == Self::Established,
            PortState::Off => self != Self::Silent,
        }
    }
}

/// What a port can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortState {
    /// It has a link.
    Active,
    /// It is switched on and has no link.
    NoLink,
    /// It is switched off.
    Off,
    /// Its device is gone.
    Gone,
}

/// Destroys an id later. `verbs` is its device's context, which it keeps open.
pub(super) fn keep(
    raw: NonNull<sys::rdma_cm_id>,
    verbs: NonNull<sys::ibv_context>,
    port: u8,
    voice: Voice,
    channel: Arc<EventChannel>,
) {
    let lingering = Lingering {
        raw,
        verbs,
        port,
        voice,
        _channel: channel,
    };
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
        let ids = waiting.ids.drain(..).collect();
        let (still, over) = split(
            ids,
            |id: &Lingering| ((id.verbs, id.port), id.voice),
            |(verbs, port)| state(verbs, port),
        );
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

/// Ids that must still wait, and those that need not. Every port is asked once, so that all
/// connections over it end together: Linux nvmet counts each end as traffic, and the order fence by
/// time rests on it that ends which come late do not come one after the other
/// (`umpath_core::association::order_fence_at`).
fn split<I, P: Copy + Ord>(
    ids: Vec<I>,
    about: impl Fn(&I) -> (P, Voice),
    mut state: impl FnMut(P) -> PortState,
) -> (Vec<I>, Vec<I>) {
    let mut known = BTreeMap::new();
    ids.into_iter().partition(|id| {
        let (port, voice) = about(id);
        voice.must_wait(*known.entry(port).or_insert_with(|| state(port)))
    })
}

/// A port's state.
pub(super) fn state(verbs: NonNull<sys::ibv_context>, port: u8) -> PortState {
    let mut attributes = MaybeUninit::<sys::ibv_port_attr>::zeroed();
    // SAFETY: the context is open while an id on it exists, and all callers hold one. The function
    // of this name fills the leading part of the structure, which is where the two states are.
    let result =
        unsafe { sys::ibv_query_port_compat(verbs.as_ptr(), port, attributes.as_mut_ptr().cast()) };
    // SAFETY: zeroed, then filled; it holds integers only.
    let attributes = unsafe { attributes.assume_init_ref() };
    match (result, attributes.state) {
        (0, sys::ibv_port_state::IBV_PORT_ACTIVE) => PortState::Active,
        (0, _) if attributes.phys_state == PHYSICALLY_DISABLED => PortState::Off,
        (0, _) => PortState::NoLink,
        _ => PortState::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_waits_only_where_its_last_words_would_do_harm() {
        use PortState::{Active, Gone, NoLink, Off};
        let waits = |voice: Voice| [Active, NoLink, Off, Gone].map(|port| voice.must_wait(port));
        assert_eq!(waits(Voice::Silent), [false; 4]);
        assert_eq!(waits(Voice::HalfOpen), [false, false, true, false]);
        assert_eq!(waits(Voice::Established), [false, true, true, false]);
    }

    /// A port that gets its link while its ids are gone through, and loses it again.
    #[test]
    fn connections_over_one_port_end_together() {
        let mut answers = 0;
        let ids = vec![(1_u8, 10), (2, 20), (1, 11), (2, 21), (1, 12)];
        let about = |id: &(u8, i32)| (id.0, Voice::Established);
        let (still, over) = split(ids, about, |_| {
            answers += 1;
            [PortState::Active, PortState::NoLink][(answers + 1) % 2]
        });
        assert_eq!(over, [(1, 10), (1, 11), (1, 12)]);
        assert_eq!(still, [(2, 20), (2, 21)]);
        assert_eq!(answers, 2);
    }

    #[test]
    fn voices_survive_the_round_trip() {
        for voice in [Voice::Silent, Voice::HalfOpen, Voice::Established] {
            assert_eq!(Voice::from_raw(voice as u8), voice);
        }
    }
}
