//! The admin queue of one association: which commands are outstanding and until when.
//!
//! Decided here: command identifiers, deadlines, when a keep-alive is due, the order of outputs, and
//! that nothing but events follows the end. Not decided here: what is asked and what answers mean.
//!
//! At most one command of a *procedure* (everything but keep-alives, asynchronous event requests and
//! resets of other controllers) is outstanding, so at most one command with data is.

use std::collections::VecDeque;
use std::time::Duration;

use umpath_nvme::command::{CrossControllerReset, Instance, abort, async_event, keep_alive};
use umpath_nvme::{Cqe, Sqe};

use crate::abort::{AbortAnswer, IoCommand};
use crate::ask::{ADMIN_DEPTH, AdminData, Ask, Next};
use crate::error::{PeerError, SessionError};
use crate::heartbeat::Heartbeat;
use crate::output::{Event, SessionOutput};
use crate::resets::{OUTSTANDING_MAX, ResetAnswer};
use crate::step::Step;

const SLOTS: usize = ADMIN_DEPTH as usize;
const SLOT_BITS: u32 = ADMIN_DEPTH.trailing_zeros();
/// Generations per slot; one fewer than fit, so that identifier FFFFh is never used.
const GENERATIONS: u16 = (1 << (16 - SLOT_BITS)) - 1;

/// A completion matched with its command.
#[derive(Debug)]
pub(crate) enum Matched {
    /// The procedure's command was answered.
    Procedure(Step),
    /// A keep-alive was answered; already accounted for.
    KeepAlive,
    /// An asynchronous event, or its refusal.
    AsyncEvent,
    /// A command whose procedure was abandoned.
    Abandoned,
    /// The answer to a reset of another controller.
    Reset(Instance),
    /// The answer to an abort.
    Abort(IoCommand),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Procedure(Step),
    Abandoned,
    KeepAlive { sent_at: Duration },
    AsyncEvent,
    Reset(Instance),
    Abort(IoCommand),
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    generation: u16,
    outstanding: Option<(Kind, Option<Duration>)>,
}

/// The admin queue as a session sees it.
#[derive(Debug)]
pub(crate) struct AdminQueue {
    outputs: VecDeque<SessionOutput>,
    slots: [Slot; SLOTS],
    /// Where the search for a free slot begins, so that identifiers are reused late.
    cursor: usize,
    command_timeout: Duration,
    /// The procedure's next command and when it is due; excludes an outstanding one.
    deferred: Option<(Duration, Ask)>,
    heartbeat: Option<Heartbeat>,
    over: bool,
}

impl AdminQueue {
    pub(crate) fn new(command_timeout: Duration) -> Self {
        Self {
            outputs: VecDeque::new(),
            slots: [Slot {
                generation: 0,
                outstanding: None,
            }; SLOTS],
            cursor: 0,
            command_timeout,
            deferred: None,
            heartbeat: None,
            over: false,
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<SessionOutput> {
        self.outputs.pop_front()
    }

    pub(crate) fn push(&mut self, output: SessionOutput) {
        if !self.over {
            self.outputs.push_back(output);
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(SessionOutput::Event(event));
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Ends the association: orders not yet polled are withdrawn, queues closed, `last` reported.
    pub(crate) fn end(&mut self, last: Event) {
        if self.over {
            return;
        }
        self.outputs
            .retain(|output| matches!(output, SessionOutput::Event(_)));
        self.outputs.push_back(SessionOutput::CloseAll);
        self.outputs.push_back(SessionOutput::Event(last));
        self.over = true;
        self.heartbeat = None;
        self.abandon();
        self.slots
            .iter_mut()
            .for_each(|slot| slot.outstanding = None);
    }

    /// Sends a procedure's command.
    pub(crate) fn ask(&mut self, ask: Ask, now: Duration) {
        debug_assert!(self.deferred.is_none());
        let deadline = now.saturating_add(self.command_timeout);
        self.send(Kind::Procedure(ask.step), Some(deadline), ask.sqe, ask.data);
    }

    /// Does what a procedure wants next; returns its result once it is over.
    pub(crate) fn proceed<T>(&mut self, next: Next<T>, now: Duration) -> Option<T> {
        match next {
            Next::Ask(ask) => self.ask(ask, now),
            Next::AskAt(at, ask) => self.deferred = Some((at, ask)),
            Next::Done(done) => return Some(done),
        }
        None
    }

    /// Forgets the procedure: its deferred command is not sent, its outstanding one answered into
    /// the void.
    pub(crate) fn abandon(&mut self) {
        self.deferred = None;
        for slot in &mut self.slots {
            if matches!(slot.outstanding, Some((Kind::Procedure(_), _))) {
                slot.outstanding = Some((Kind::Abandoned, None));
            }
        }
    }

    /// Hands the controller one asynchronous event request.
    pub(crate) fn request_event(&mut self) {
        self.send(Kind::AsyncEvent, None, async_event(), AdminData::None);
    }

    /// Starts keep-alives; the first goes out one interval from now. Until
    /// [`Self::agree_heartbeat`] a refusal of one only ends them.
    pub(crate) fn start_heartbeat(&mut self, interval: Duration, kato: Duration, now: Duration) {
        self.heartbeat = Some(Heartbeat::new(interval, kato, now));
    }

    /// The controller has said what its keep-alive timeout is; `None`: it has no such timer.
    pub(crate) fn agree_heartbeat(
        &mut self,
        interval: Duration,
        kato: Option<Duration>,
        now: Duration,
    ) {
        match kato {
            Some(kato) => self
                .heartbeat
                .get_or_insert_with(|| Heartbeat::new(interval, kato, now))
                .agree(kato),
            None => self.heartbeat = None,
        }
    }

    /// Asks the controller to reset another one. False when too many such commands are outstanding.
    pub(crate) fn reset(&mut self, impacted: Instance, now: Duration) -> bool {
        // One that was never answered may still be: it keeps its slot, and counts.
        let resets = self.slots.iter().filter(|slot| {
            matches!(
                slot.outstanding,
                Some((Kind::Reset(_) | Kind::Abandoned, _))
            )
        });
        if self.over || resets.count() >= OUTSTANDING_MAX {
            return false;
        }
        let deadline = now.saturating_add(self.command_timeout);
        let sqe = CrossControllerReset { impacted }.build();
        self.send(Kind::Reset(impacted), Some(deadline), sqe, AdminData::None);
        true
    }

    /// Asks the controller to abort an I/O command. One at a time, which every controller takes (ACL is
    /// counted from zero); false while another is outstanding.
    pub(crate) fn abort(&mut self, command: IoCommand, now: Duration) -> bool {
        let mut slots = self.slots.iter();
        let aborts = slots.any(|slot| matches!(slot.outstanding, Some((Kind::Abort(_), _))));
        if self.over || aborts {
            return false;
        }
        let deadline = now.saturating_add(self.command_timeout);
        let sqe = abort(command.qid, command.cid);
        self.send(Kind::Abort(command), Some(deadline), sqe, AdminData::None);
        true
    }

    fn send(&mut self, kind: Kind, deadline: Option<Duration>, sqe: Sqe, data: AdminData) {
        if self.over {
            return;
        }
        let free = (0..SLOTS)
            .map(|step| (self.cursor + step) % SLOTS)
            .find_map(|at| Some((at, self.slots.get(at).filter(|s| s.outstanding.is_none())?)));
        let Some((at, slot)) = free else {
            debug_assert!(false, "admin queue overcommitted");
            return;
        };
        let generation = (slot.generation + 1) % GENERATIONS;
        self.cursor = (at + 1) % SLOTS;
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot {
                generation,
                outstanding: Some((kind, deadline)),
            };
        }
        let cid = (generation << SLOT_BITS) | at as u16;
        self.outputs.push_back(SessionOutput::Send {
            qid: 0,
            sqe: sqe.with_cid(cid),
            data,
        });
    }

    /// Matches a completion with its command.
    pub(crate) fn accept(&mut self, cqe: &Cqe, now: Duration) -> Result<Matched, SessionError> {
        let cid = cqe.cid.get();
        let slot = self.slots.get_mut(usize::from(cid % ADMIN_DEPTH));
        let kind = slot
            .filter(|slot| slot.generation == cid >> SLOT_BITS)
            .and_then(|slot| slot.outstanding.take());
        match kind {
            None => Err(PeerError::UnexpectedCompletion { qid: 0, cid }.into()),
            Some((Kind::Procedure(step), _)) => Ok(Matched::Procedure(step)),
            Some((Kind::AsyncEvent, _)) => Ok(Matched::AsyncEvent),
            Some((Kind::Abandoned, _)) => Ok(Matched::Abandoned),
            Some((Kind::Reset(impacted), _)) => Ok(Matched::Reset(impacted)),
            Some((Kind::Abort(command), _)) => Ok(Matched::Abort(command)),
            Some((Kind::KeepAlive { sent_at }, _)) => {
                let status = cqe.status();
                let agreed = self.heartbeat.as_ref().is_some_and(Heartbeat::is_agreed);
                if !status.is_success() {
                    if agreed {
                        return Err(PeerError::KeepAlive { status }.into());
                    }
                    self.heartbeat = None;
                    return Ok(Matched::KeepAlive);
                }
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.answered(sent_at);
                }
                self.event(Event::KeepAlive {
                    sent_at,
                    answered_at: now,
                });
                Ok(Matched::KeepAlive)
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let commands = self.slots.iter().filter_map(|slot| slot.outstanding?.1);
        let deferred = self.deferred.as_ref().map(|(at, _)| *at);
        let heartbeat = self.heartbeat.as_ref().map(Heartbeat::next_at);
        commands.chain(deferred).chain(heartbeat).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) -> Result<(), SessionError> {
        let overdue = self.slots.iter().find_map(|slot| match slot.outstanding? {
            (Kind::Procedure(step), Some(deadline)) if deadline <= now => Some(step),
            _ => None,
        });
        if let Some(step) = overdue {
            return Err(PeerError::Unanswered {
                step,
                after: self.command_timeout,
            }
            .into());
        }
        self.give_up_helpers(now);
        if let Some((_, ask)) = self.deferred.take_if(|(at, _)| *at <= now) {
            self.ask(ask, now);
        }
        self.beat(now)
    }

    /// A reset or an abort that is not answered costs only itself: whoever asked has other ways.
    fn give_up_helpers(&mut self, now: Duration) {
        for slot in &mut self.slots {
            let Some((kind, Some(deadline))) = slot.outstanding else {
                continue;
            };
            let (owed, event) = match kind {
                _ if deadline > now => continue,
                Kind::Reset(impacted) => {
                    let answer = ResetAnswer::Unanswered;
                    (Kind::Abandoned, Event::Reset { impacted, answer })
                }
                // Still one: another abort would be one too many.
                Kind::Abort(command) => {
                    let answer = AbortAnswer::Unanswered;
                    (kind, Event::Abort { command, answer })
                }
                _ => continue,
            };
            slot.outstanding = Some((owed, None));
            self.outputs.push_back(SessionOutput::Event(event));
        }
    }

    fn beat(&mut self, now: Duration) -> Result<(), SessionError> {
        let Some(heartbeat) = &mut self.heartbeat else {
            return Ok(());
        };
        let Some(beat) = heartbeat.tick(now) else {
            return Ok(());
        };
        if let Some(after) = beat.dead {
            return Err(PeerError::Unanswered {
                step: Step::KeepAlive,
                after,
            }
            .into());
        }
        if let Some(count) = beat.missed {
            self.event(Event::KeepAliveMissed { count });
        }
        if beat.send {
            self.send(
                Kind::KeepAlive { sent_at: now },
                None,
                keep_alive(),
                AdminData::None,
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use umpath_nvme::Status;

    use super::*;

    fn sent(queue: &mut AdminQueue) -> Sqe {
        match queue.poll_output() {
            Some(SessionOutput::Send { qid: 0, sqe, .. }) => sqe,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn identifiers_are_never_ffff_and_a_stale_completion_is_noticed() {
        let mut queue = AdminQueue::new(Duration::from_secs(1));
        let mut last = None;
        for _ in 0..200_000 {
            queue.ask(Ask::bare(Step::ReadVersion, Sqe::new(0, 0)), Duration::ZERO);
            let cid = sent(&mut queue).cid.get();
            assert_ne!(cid, 0xffff);
            if let Some(stale) = last {
                let cqe = Cqe::new(stale, 0, Status::SUCCESS, 0);
                assert!(queue.accept(&cqe, Duration::ZERO).is_err());
            }
            let cqe = Cqe::new(cid, 0, Status::SUCCESS, 0);
            assert!(matches!(
                queue.accept(&cqe, Duration::ZERO),
                Ok(Matched::Procedure(_))
            ));
            last = Some(cid);
        }
    }

    #[test]
    fn ending_withdraws_orders_and_keeps_events() {
        let mut queue = AdminQueue::new(Duration::from_secs(1));
        queue.event(Event::KeepAliveMissed { count: 1 });
        queue.ask(Ask::bare(Step::ReadVersion, Sqe::new(0, 0)), Duration::ZERO);
        queue.end(Event::Closed { orderly: false });
        queue.request_event();
        assert!(matches!(
            queue.poll_output(),
            Some(SessionOutput::Event(Event::KeepAliveMissed { .. }))
        ));
        assert!(matches!(queue.poll_output(), Some(SessionOutput::CloseAll)));
        assert!(matches!(
            queue.poll_output(),
            Some(SessionOutput::Event(Event::Closed { .. }))
        ));
        assert!(queue.poll_output().is_none() && queue.poll_timeout().is_none());
    }
}
