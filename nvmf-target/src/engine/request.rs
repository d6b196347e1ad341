//! One command on its way through a reactor: the states of its life, and which follow which.
//!
//! ```text
//! Arrived ──┬─> Fetching ──> Ready ──> OnMedia ──> Done ──> Responding ──> over
//!           └─> Starved         └──────────────────^
//! ```
//!
//! A command refused at sight is `Done` from `Arrived`, one without data to fetch is `Ready` at once, and
//! one that the array executes goes from `Ready` to `Done`. [Faults](crate::fault) add `Parked` before
//! the execution and `Silent` instead of a response. [`State::leads_to`] has every move there is; any
//! other, and an end while its memory may be in the ring, is a bug of the engine and asserted. The rest
//! of the engine only says which move is made: `flow` makes them, and `execute` the one to the media.
//!
//! A request keeps its memory until it ends: its response is reaped or its queue pair is gone, whichever
//! frees the memory from the device. It refers to its queue, which therefore outlives it.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use slab::Slab;
use umpath_nvme::{Sqe, Status};
use umpath_rdma::CapsuleSlot;
use umpath_transport::Arena;

use super::buffers::Buffer;
use crate::controller::sgl::{Location, Transfer};
use crate::controller::view::Shared;
use crate::fault::Action;
use crate::gate::Epoch;
use crate::media::{Job, SharedMedia};

/// Where a request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its capsule is here; memory and data are to be got.
    Arrived,
    /// Waits for data memory.
    Starved,
    /// The device fetches the host's data.
    Fetching,
    /// It has all it needs to be executed.
    Ready,
    /// A fault holds it back, to be executed later; or, `past_gate`, to go to its backing store
    /// although the gate may have been closed.
    Parked { past_gate: bool },
    /// A step of it may be in the ring. `counted`: by the gate.
    OnMedia { counted: bool },
    /// Its answer is known; a fault may hold it back.
    Done { status: Status, result: u64 },
    /// Data and response are on their way to the host.
    Responding,
    /// Never to be answered: it lives as long as its queue pair.
    Silent,
}

impl State {
    /// The next state, if a request may go there from here.
    fn to(self, next: Self) -> Self {
        assert!(
            self.leads_to(next),
            "a request went from {self:?} to {next:?}"
        );
        next
    }

    /// Whether the kernel may still work on the request's memory, whatever becomes of its queue pair.
    fn is_in_ring(self) -> bool {
        matches!(self, Self::OnMedia { .. })
    }

    fn leads_to(self, next: Self) -> bool {
        use State::{Arrived, Done, Fetching, OnMedia, Parked, Ready, Responding, Silent, Starved};
        match self {
            Arrived => matches!(next, Starved | Fetching | Ready | Done { .. }),
            Starved => matches!(next, Fetching | Ready),
            Fetching => next == Ready,
            Ready => matches!(
                next,
                Parked { .. } | OnMedia { counted: true } | Done { .. } | Silent
            ),
            Parked { past_gate: false } => matches!(next, Ready | Done { .. }),
            Parked { past_gate: true } => next == OnMedia { counted: false },
            OnMedia { .. } => matches!(next, Done { .. }),
            Done { .. } => matches!(next, Responding | Silent),
            Responding | Silent => false,
        }
    }

    /// Whether the end of its queue pair leaves a request where it is.
    pub(super) fn outlives_queue_pair(self) -> bool {
        matches!(
            self,
            Self::Parked { .. } | Self::OnMedia { .. } | Self::Done { .. }
        )
    }
}

/// What executes a command.
#[derive(Debug)]
pub(super) enum Work {
    /// Fabrics Connect.
    Connect,
    /// The array.
    Admin,
    /// A backing store.
    Media(MediaWork),
    /// Nothing: it completes at once.
    Nothing,
}

impl Work {
    /// What a backing store does; for commands that have one.
    pub(super) fn media(&mut self) -> &mut MediaWork {
        match self {
            Self::Media(work) => work,
            other => unreachable!("no backing store for {other:?}"),
        }
    }
}

/// A command for a backing store.
#[derive(Debug)]
pub(super) struct MediaWork {
    pub(super) media: SharedMedia,
    pub(super) job: Job,
    pub(super) shared: Arc<Shared<SharedMedia>>,
    pub(super) epoch: Epoch,
    /// Ranges of a deallocation, to be checked when the data is here.
    pub(super) ranges: Option<u16>,
}

/// One command.
#[derive(Debug)]
pub(super) struct Request {
    state: State,
    /// Index of its queue.
    pub(super) queue: u32,
    pub(super) sqe: Sqe,
    pub(super) work: Work,
    pub(super) transfer: Transfer,
    pub(super) location: Location,
    pub(super) buffer: Option<Buffer>,
    /// Held while its in-capsule data is needed.
    pub(super) capsule: Option<CapsuleSlot>,
    /// What was drawn for it when it could be executed.
    pub(super) fault: Option<Action>,
}

impl Request {
    /// A command that came in `slot`.
    pub(super) fn new(
        queue: u32,
        sqe: Sqe,
        slot: CapsuleSlot,
        work: Work,
        (transfer, location): (Transfer, Location),
    ) -> Self {
        Self {
            state: State::Arrived,
            queue,
            sqe,
            work,
            transfer,
            location,
            buffer: None,
            capsule: Some(slot),
            fault: None,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// What executes it, and its data: the caller sees to it that neither a device nor the ring works
    /// on that meanwhile.
    pub(super) fn parts<'a>(&'a mut self, arena: &'a Arena) -> (&'a mut Work, &'a mut [u8]) {
        let data = match &mut self.buffer {
            Some(buffer) => buffer.bytes(arena, self.transfer.bytes()),
            None => &mut [],
        };
        (&mut self.work, data)
    }

    /// Moves on.
    pub(super) fn becomes(&mut self, next: State) {
        self.state = self.state.to(next);
    }
}

/// The requests of a reactor. To ask for one that is over is a bug of the engine.
#[derive(Debug)]
pub(super) struct Requests(Slab<Request>);

impl Requests {
    pub(super) fn new() -> Self {
        Self(Slab::with_capacity(1024))
    }

    pub(super) fn insert(&mut self, request: Request) -> u32 {
        self.0.insert(request) as u32
    }

    /// Whether there is a request of this index, in this state.
    pub(super) fn is(&self, index: u32, state: State) -> bool {
        let request = self.0.get(index as usize);
        request.is_some_and(|request| request.state == state)
    }

    /// The end of a request. No device and no ring entry uses its memory any more.
    pub(super) fn end(&mut self, index: u32) -> Request {
        let request = self.0.remove(index as usize);
        assert!(!request.state.is_in_ring(), "a request ended on the media");
        request
    }

    /// The requests of a queue that end with its queue pair.
    pub(super) fn bound_to(&self, queue: u32) -> Vec<u32> {
        let of_queue = self
            .0
            .iter()
            .filter(|(_, request)| request.queue == queue && !request.state.outlives_queue_pair());
        of_queue.map(|(index, _)| index as u32).collect()
    }
}

impl Index<u32> for Requests {
    type Output = Request;

    fn index(&self, index: u32) -> &Request {
        &self.0[index as usize]
    }
}

impl IndexMut<u32> for Requests {
    fn index_mut(&mut self, index: u32) -> &mut Request {
        &mut self.0[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: State = State::Done {
        status: Status::SUCCESS,
        result: 0,
    };
    const ALL: [State; 11] = [
        State::Arrived,
        State::Starved,
        State::Fetching,
        State::Ready,
        State::Parked { past_gate: false },
        State::Parked { past_gate: true },
        State::OnMedia { counted: true },
        State::OnMedia { counted: false },
        DONE,
        State::Responding,
        State::Silent,
    ];

    fn after(state: State) -> Vec<State> {
        let next = ALL.into_iter().filter(|next| state.leads_to(*next));
        next.collect()
    }

    fn before(state: State) -> Vec<State> {
        let last = ALL.into_iter().filter(|last| last.leads_to(state));
        last.collect()
    }

    #[test]
    fn every_state_is_reached_and_every_life_can_end() {
        let mut reached = vec![State::Arrived];
        let mut at = 0;
        while let Some(state) = reached.get(at).copied() {
            let new = after(state).into_iter().filter(|to| !reached.contains(to));
            reached.extend(new.collect::<Vec<_>>());
            at += 1;
        }
        assert_eq!(reached.len(), ALL.len());
        for state in ALL {
            let is_last = after(state).is_empty();
            assert!(!(is_last && state.is_in_ring()), "{state:?} has no way out");
        }
    }

    #[test]
    fn a_host_is_answered_once_and_only_with_what_is_known() {
        assert_eq!(before(State::Responding), [DONE]);
        assert_eq!(after(State::Responding), []);
        assert_eq!(after(State::Silent), []);
        assert!(before(State::Arrived).is_empty());
    }

    #[test]
    fn only_a_fault_leads_past_the_gate_and_the_media_only_to_an_answer() {
        let past_gate = State::Parked { past_gate: true };
        assert_eq!(before(State::OnMedia { counted: true }), [State::Ready]);
        assert_eq!(before(State::OnMedia { counted: false }), [past_gate]);
        for counted in [true, false] {
            let on_media = State::OnMedia { counted };
            assert_eq!(after(on_media), [DONE]);
            assert!(on_media.is_in_ring() && on_media.outlives_queue_pair());
        }
    }

    #[test]
    #[should_panic(expected = "a request went from OnMedia { counted: true } to Responding")]
    fn an_illegal_move_is_a_bug() {
        let _ = State::OnMedia { counted: true }.to(State::Responding);
    }
}
