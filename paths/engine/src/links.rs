//! The queue pairs of one thread, one for each association it was given.
//!
//! Decided here: when a queue pair is asked, armed, watched, drained and handed back. A queue pair
//! is *open* until it breaks or its association is convicted, then *draining* until its memory is
//! certainly ours, then gone. Broken but not convicted it stays, silent: its commands belong to it
//! until somebody decides that the association is over.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::{AssociationId, Data, PATHS_MAX, PathId, Send, Tag};
use umpath_nvme::Cqe;
use umpath_transport::{Arena, Data as Range, Drain, Loss, PushError, Transport};

use crate::frontend::{Channel, Frontend, LinkId};

/// How often a drain is polled when nothing else wakes the thread.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// A path may have its old queue pair draining while the new one works.
const LINKS_MAX: usize = 2 * PATHS_MAX;

enum State {
    Open,
    /// Failed, and reported.
    Broken,
    Draining {
        silent_at: Duration,
    },
}

struct Link<T> {
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
    /// When it was in the error state.
    pub(crate) silent_at: Duration,
    pub(crate) transport: T,
    /// Our memory is no longer in use.
    pub(crate) quiet: bool,
}

/// All of them.
pub(crate) struct Links<T> {
    links: [Option<Link<T>>; LINKS_MAX],
    /// Slots in use lie below this.
    used: usize,
    arena: Arc<Arena>,
    /// How long a device has to confirm that it let go of memory. Then the queue pair is destroyed,
    /// which is certain but may block.
    drain_deadline: Duration,
    generation: u32,
    draining: u32,
}

impl<T: Transport> Links<T> {
    pub(crate) fn new(arena: Arc<Arena>, drain_deadline: Duration) -> Self {
        let links = std::array::from_fn(|_| None);
        Self {
            links,
            used: 0,
            arena,
            drain_deadline,
            generation: 0,
            draining: 0,
        }
    }

    /// Takes a queue pair into use. `Err`: there is no room for so many.
    pub(crate) fn attach(
        &mut self,
        frontend: &mut impl Frontend<Transport = T>,
        path: PathId,
        association: AssociationId,
        transport: T,
    ) -> Result<(), T> {
        let Some(slot) = self.links.iter().position(Option::is_none) else {
            return Err(transport);
        };
        self.generation = self.generation.wrapping_add(1);
        let link = Link {
            path,
            association,
            transport,
            state: State::Open,
            armed: false,
            unsent: false,
            generation: self.generation,
        };
        let id = LinkId {
            slot: slot as u16,
            generation: link.generation,
        };
        for channel in [Channel::Completions, Channel::Connection] {
            frontend.watch(id, channel, &link.transport);
        }
        if let Some(place) = self.links.get_mut(slot) {
            *place = Some(link);
        }
        self.used = self.used.max(slot + 1);
        Ok(())
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Link<T>> {
        self.links.iter_mut().take(self.used).flatten()
    }

    /// The queue pair of an association.
    pub(crate) fn transport(&mut self, association: AssociationId) -> Option<&mut T> {
        let link = self.all().find(|link| link.association == association);
        link.map(|link| &mut link.transport)
    }

    /// Queues a command of the lane. `Err`: it was not taken.
    pub(crate) fn push(
        &mut self,
        send: &Send,
        mut report: impl FnMut(AssociationId, Loss<T::Error>),
    ) -> Result<(), PushError> {
        let range = range(&self.arena, send.tag, &send.data)?;
        let mut links = self.links.iter_mut().take(self.used).flatten();
        let link = links.find(|link| link.association == send.association);
        let link = link.ok_or(PushError::Closed)?;
        if !matches!(link.state, State::Open) {
            return Err(PushError::Closed);
        }
        let pushed = link.transport.push(send.sqe, range);
        match pushed {
            Ok(()) => link.unsent = true,
            Err(PushError::Full | PushError::Closed) => {}
            Err(error) => link.fail(Loss::Unregistered(error), &mut report),
        }
        pushed
    }

    /// Sends what was pushed, with one doorbell for each queue pair.
    pub(crate) fn ring(&mut self, mut report: impl FnMut(AssociationId, Loss<T::Error>)) {
        for link in self.all().filter(|link| link.unsent) {
            link.unsent = false;
            if let Err(error) = link.transport.ring() {
                link.fail(Loss::Failed(error), &mut report);
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
        for link in self.all().filter(|link| matches!(link.state, State::Open)) {
            let (path, association) = (link.path, link.association);
            match link.transport.poll(|cqe| answer(path, association, &cqe)) {
                Ok(count) => answers += count,
                Err(error) => link.fail(Loss::Failed(error), &mut report),
            }
        }
        answers
    }

    /// Whether an answer may come.
    pub(crate) fn waiting(&self) -> bool {
        let open = self.links.iter().take(self.used).flatten();
        open.filter(|link| matches!(link.state, State::Open))
            .any(|l| l.transport.in_flight() > 0)
    }

    /// Has the queue pairs wake the thread when an answer comes. Poll once afterwards. Queue pairs
    /// without commands are left alone: armed, they would ring for an answer already polled.
    pub(crate) fn arm(&mut self, mut report: impl FnMut(AssociationId, Loss<T::Error>)) {
        for link in self
            .all()
            .filter(|link| !link.armed && link.expects_completions())
        {
            match link.transport.arm() {
                Ok(()) => link.armed = true,
                Err(error) if matches!(link.state, State::Open) => {
                    link.fail(Loss::Failed(error), &mut report);
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
        (id, channel, watched): (LinkId, Channel, bool),
        mut report: impl FnMut(AssociationId, Loss<T::Error>),
    ) -> bool {
        let place = self.links.get_mut(usize::from(id.slot));
        let link = place
            .and_then(Option::as_mut)
            .filter(|link| link.generation == id.generation);
        let Some(link) = link else { return false };
        if !watched {
            frontend.watch(id, channel, &link.transport);
        }
        if channel == Channel::Connection {
            if let Some(loss) = link.transport.loss() {
                link.fail(loss, &mut report);
            }
            return false;
        }
        link.armed = false;
        if let Err(error) = link.transport.disarm() {
            link.fail(Loss::Failed(error), &mut report);
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
        let Some(link) = self.all().find(|link| link.association == association) else {
            return false;
        };
        if !matches!(link.state, State::Draining { .. }) {
            link.transport.begin_drain(frontend.now() + deadline);
            link.unsent = false;
            link.state = State::Draining {
                silent_at: frontend.now(),
            };
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
        for (slot, place) in (0..).zip(self.links.iter_mut()) {
            let Some(link) = place.as_mut() else { continue };
            let State::Draining { silent_at } = link.state else {
                continue;
            };
            let (path, association) = (link.path, link.association);
            let drain = link
                .transport
                .poll_drained(now, |cqe| answer(path, association, &cqe));
            if drain == Drain::Pending {
                continue;
            }
            let link = place.take()?;
            self.draining -= 1;
            frontend.unwatch(LinkId {
                slot,
                generation: link.generation,
            });
            let (transport, quiet) = (link.transport, drain == Drain::Quiet);
            return Some(Drained {
                association,
                silent_at,
                transport,
                quiet,
            });
        }
        None
    }

    /// The longest the thread may sleep on account of a drain.
    pub(crate) fn patience(&self) -> Option<Duration> {
        (self.draining > 0).then_some(DRAIN_POLL)
    }

    /// Everything that is left, when the thread ends.
    pub(crate) fn into_transports(self) -> Vec<(AssociationId, T)> {
        let links = self.links.into_iter().flatten();
        links
            .map(|link| (link.association, link.transport))
            .collect()
    }
}

impl<T: Transport> Link<T> {
    fn expects_completions(&self) -> bool {
        match self.state {
            State::Open => self.transport.in_flight() > 0,
            State::Draining { .. } => true,
            State::Broken => false,
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
fn range<'a>(arena: &'a Arena, tag: Tag, data: &Data) -> Result<Range<'a>, PushError> {
    let slot = u32::from(tag.0);
    Ok(match *data {
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
                .map_err(|_| PushError::OutOfRange)?;
            Range::Write {
                arena,
                slot,
                offset,
                len: bytes.len() as u32,
            }
        }
    })
}
