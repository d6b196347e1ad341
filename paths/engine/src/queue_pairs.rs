//! The queue pairs of one thread, one for each association it was given.
//!
//! Decided here: when a queue pair is asked, armed, watched, drained and handed back. A queue pair
//! is *open* until it breaks or its association is convicted, then *draining* until its memory is
//! certainly ours, then gone. Broken but not convicted it stays, silent: its commands belong to it
//! until somebody decides that the association is over.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::{AssociationId, Data, PathId, QUEUE_PAIRS_MAX, SendCommand, Tag};
use umpath_nvme::Cqe;
use umpath_transport::{Arena, Data as Range, Drain, Loss, PushError, Silence, Transport};

use crate::frontend::{Channel, Frontend, QueuePairId};

/// How often a drain is polled when nothing else wakes the thread.
const DRAIN_POLL: Duration = Duration::from_millis(20);

enum State {
    Open,
    /// Failed, and reported.
    Broken,
    Draining {
        /// Nothing was sent later than this; `None`: not proved.
        silent_at: Option<Duration>,
    },
}

struct QueuePair<T> {
    path: PathId,
    association: AssociationId,
    transport: T,
    state: State,
    armed: bool,
    /// Commands pushed and not rung.
    unsent: bool,
    /// Changes with every tenant of its slot.
    generation: u32,
}

/// A queue pair that is drained, or would not be, and has left.
pub(crate) struct Drained<T> {
    pub(crate) association: AssociationId,
    /// Nothing was sent later than this; `None`: only destroying it proves that.
    pub(crate) silent_at: Option<Duration>,
    pub(crate) transport: T,
    /// Our memory is no longer in use.
    pub(crate) quiet: bool,
}

/// All of them.
pub(crate) struct QueuePairs<T> {
    pairs: [Option<QueuePair<T>>; QUEUE_PAIRS_MAX],
    /// Slots in use lie below this.
    used: usize,
    arena: Arc<Arena>,
    /// How long a device has to confirm that it let go of memory. Then the queue pair is destroyed,
    /// which is certain but may block.
    drain_deadline: Duration,
    generation: u32,
    draining: u32,
}

impl<T: Transport> QueuePairs<T> {
    pub(crate) fn new(arena: Arc<Arena>, drain_deadline: Duration) -> Self {
        let pairs = std::array::from_fn(|_| None);
        Self {
            pairs,
            used: 0,
            arena,
            drain_deadline,
            generation: 0,
            draining: 0,
        }
    }

    /// Takes a queue pair into use that the lane took. The lane knows each queue pair that is here, so
    /// there is room.
    pub(crate) fn attach(
        &mut self,
        frontend: &mut impl Frontend<Transport = T>,
        path: PathId,
        association: AssociationId,
        transport: T,
    ) {
        let known = self.all().any(|pair| pair.association == association);
        assert!(!known, "{association} has a queue pair here already");
        let mut places = (0..).zip(self.pairs.iter_mut());
        let free = places.find(|(_, place)| place.is_none());
        let (slot, place) = free.expect("room for every queue pair the lane takes");
        self.generation = self.generation.wrapping_add(1);
        let pair = QueuePair {
            path,
            association,
            transport,
            state: State::Open,
            armed: false,
            unsent: false,
            generation: self.generation,
        };
        let id = QueuePairId {
            slot,
            generation: pair.generation,
        };
        for channel in [Channel::Completions, Channel::Connection] {
            frontend.watch(id, channel, &pair.transport);
        }
        *place = Some(pair);
        self.used = self.used.max(usize::from(slot) + 1);
    }

    fn all(&mut self) -> impl Iterator<Item = &mut QueuePair<T>> {
        self.pairs.iter_mut().take(self.used).flatten()
    }

    /// The queue pair of an association.
    pub(crate) fn transport(&mut self, association: AssociationId) -> Option<&mut T> {
        let pair = self.all().find(|pair| pair.association == association);
        pair.map(|pair| &mut pair.transport)
    }

    /// Queues a command of the lane. `Err`: it was not taken.
    pub(crate) fn push(
        &mut self,
        send: &SendCommand,
        mut report: impl FnMut(AssociationId, Loss<T::Error>),
    ) -> Result<(), PushError> {
        let association = send.association;
        let mut pairs = self.pairs.iter_mut().take(self.used).flatten();
        let pair = pairs.find(|pair| pair.association == association);
        let pair = pair.unwrap_or_else(|| panic!("{association} has no queue pair here"));
        match pair.state {
            State::Open => {}
            State::Broken => return Err(PushError::Closed),
            State::Draining { .. } => panic!("{association} was convicted: nothing more is sent"),
        }
        let range = range(&self.arena, send.tag, &send.data);
        let pushed = pair.transport.push(send.sqe, range);
        match pushed {
            Ok(()) => pair.unsent = true,
            Err(PushError::Full | PushError::Closed) => {}
            Err(error) => pair.fail(Loss::Unregistered(error), &mut report),
        }
        pushed
    }

    /// Sends what was pushed, with one doorbell for each queue pair.
    pub(crate) fn ring(&mut self, mut report: impl FnMut(AssociationId, Loss<T::Error>)) {
        for pair in self.all().filter(|pair| pair.unsent) {
            pair.unsent = false;
            if let Err(error) = pair.transport.ring() {
                pair.fail(Loss::Failed(error), &mut report);
            }
        }
    }

    /// Takes answers; how many.
    pub(crate) fn poll(
        &mut self,
        mut answer: impl FnMut(PathId, AssociationId, &Cqe),
        mut report: impl FnMut(AssociationId, Loss<T::Error>),
    ) -> usize {
        let mut answers = 0;
        for pair in self.all().filter(|pair| matches!(pair.state, State::Open)) {
            let (path, association) = (pair.path, pair.association);
            // Counted here: answers may come before an error.
            let polled = pair.transport.poll(|cqe| {
                answers += 1;
                answer(path, association, &cqe);
            });
            if let Err(error) = polled {
                pair.fail(Loss::Failed(error), &mut report);
            }
        }
        answers
    }

    /// Whether an answer may come.
    pub(crate) fn waiting(&self) -> bool {
        let open = self.pairs.iter().take(self.used).flatten();
        open.filter(|pair| matches!(pair.state, State::Open))
            .any(|l| l.transport.in_flight() > 0)
    }

    /// Has the queue pairs wake the thread when an answer comes. Poll once afterwards. Queue pairs
    /// without commands are left alone: armed, they would ring for an answer already polled.
    pub(crate) fn arm(&mut self, mut report: impl FnMut(AssociationId, Loss<T::Error>)) {
        for pair in self
            .all()
            .filter(|pair| !pair.armed && pair.expects_completions())
        {
            match pair.transport.arm() {
                Ok(()) => pair.armed = true,
                Err(error) if matches!(pair.state, State::Open) => {
                    pair.fail(Loss::Failed(error), &mut report);
                }
                // A drain is polled from time to time anyway.
                Err(_) => {}
            }
        }
    }

    /// A queue pair woke the thread. Whether for an answer.
    pub(crate) fn woke(
        &mut self,
        frontend: &mut impl Frontend<Transport = T>,
        (id, channel, watched): (QueuePairId, Channel, bool),
        mut report: impl FnMut(AssociationId, Loss<T::Error>),
    ) -> bool {
        let place = self.pairs.get_mut(usize::from(id.slot));
        let pair = place
            .and_then(Option::as_mut)
            .filter(|pair| pair.generation == id.generation);
        let Some(pair) = pair else { return false };
        if !watched {
            frontend.watch(id, channel, &pair.transport);
        }
        if channel == Channel::Connection {
            if let Some(loss) = pair.transport.loss() {
                pair.fail(loss, &mut report);
            }
            return false;
        }
        pair.armed = false;
        if let Err(error) = pair.transport.disarm() {
            pair.fail(Loss::Failed(error), &mut report);
        }
        true
    }

    /// Gives up an association: nothing of it is sent after this. `false`: there is no queue pair
    /// of it here.
    pub(crate) fn begin_drain(
        &mut self,
        frontend: &impl Frontend<Transport = T>,
        association: AssociationId,
    ) -> bool {
        let deadline = self.drain_deadline;
        let Some(pair) = self.all().find(|pair| pair.association == association) else {
            return false;
        };
        if !matches!(pair.state, State::Draining { .. }) {
            let silence = pair.transport.begin_drain(frontend.now() + deadline);
            pair.unsent = false;
            // Now, not before the call: until then it could still send.
            let silent_at = (silence == Silence::Proved).then(|| frontend.now());
            pair.state = State::Draining { silent_at };
            self.draining += 1;
        }
        true
    }

    /// Polls the drains under way; the first that is over leaves.
    pub(crate) fn poll_drain(
        &mut self,
        frontend: &mut impl Frontend<Transport = T>,
        mut answer: impl FnMut(PathId, AssociationId, &Cqe),
    ) -> Option<Drained<T>> {
        if self.draining == 0 {
            return None;
        }
        let now = frontend.now();
        for (slot, place) in (0..).zip(self.pairs.iter_mut()) {
            let mut drain = Drain::Pending;
            let over = place.take_if(|pair| {
                drain = pair.poll_drained(now, &mut answer);
                drain != Drain::Pending
            });
            let Some(pair) = over else { continue };
            self.draining -= 1;
            frontend.unwatch(QueuePairId {
                slot,
                generation: pair.generation,
            });
            let quiet = drain == Drain::Quiet;
            return Some(Drained {
                association: pair.association,
                silent_at: pair.silent_at(),
                transport: pair.transport,
                quiet,
            });
        }
        None
    }

    /// The longest the thread may sleep on account of a drain.
    pub(crate) fn sleep_max(&self) -> Option<Duration> {
        (self.draining > 0).then_some(DRAIN_POLL)
    }

    /// Everything that is left, when the thread ends.
    pub(crate) fn into_transports(self) -> Vec<(AssociationId, T)> {
        let pairs = self.pairs.into_iter().flatten();
        pairs
            .map(|pair| (pair.association, pair.transport))
            .collect()
    }
}

impl<T: Transport> QueuePair<T> {
    fn expects_completions(&self) -> bool {
        match self.state {
            State::Open => self.transport.in_flight() > 0,
            State::Draining { .. } => true,
            State::Broken => false,
        }
    }

    /// How far its drain has come; one that is not draining goes on.
    fn poll_drained(
        &mut self,
        now: Duration,
        mut answer: impl FnMut(PathId, AssociationId, &Cqe),
    ) -> Drain {
        let (path, association) = (self.path, self.association);
        match self.state {
            State::Draining { .. } => self
                .transport
                .poll_drained(now, |cqe| answer(path, association, &cqe)),
            State::Open | State::Broken => Drain::Pending,
        }
    }

    fn silent_at(&self) -> Option<Duration> {
        match self.state {
            State::Draining { silent_at } => silent_at,
            State::Open | State::Broken => None,
        }
    }

    fn fail(
        &mut self,
        why: Loss<T::Error>,
        report: &mut impl FnMut(AssociationId, Loss<T::Error>),
    ) {
        if matches!(self.state, State::Open) {
            self.state = State::Broken;
            report(self.association, why);
        }
    }
}

/// The lane's data as a range of the tag's slot. Parameters are put there first: such a request
/// has no data of its own.
fn range<'a>(arena: &'a Arena, tag: Tag, data: &Data) -> Range<'a> {
    let slot = u32::from(tag.0);
    match *data {
        Data::None => Range::None,
        Data::FromController {
            offset_bytes: offset,
            len_bytes: len,
        } => Range::Read {
            arena,
            slot,
            offset,
            len,
        },
        Data::ToController {
            offset_bytes: offset,
            len_bytes: len,
        } => Range::Write {
            arena,
            slot,
            offset,
            len,
        },
        Data::Parameters {
            offset_bytes: offset,
            bytes,
        } => {
            arena
                .write_at(slot, offset, &bytes)
                .expect("parameters lie in their tag's slot");
            Range::Write {
                arena,
                slot,
                offset,
                len: bytes.len() as u32,
            }
        }
    }
}
