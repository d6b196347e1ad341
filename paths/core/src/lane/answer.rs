//! Answers: what became of a command, and when a request is over.

use core::time::Duration;

use umpath_nvme::{Cqe, Status};
use umpath_policies::Done;

use super::command::{COMMANDS_PER_TAG, Command, State, tag_of};
use super::queue_pair::QueuePairState;
use super::{Action, Lane};
use crate::event::LaneEvent;
use crate::request::{BlockError, Tag};
use crate::status::{Disposition, judge};
use crate::table::{AssociationId, PathId};

/// First and longest wait before a command is sent again where nothing says how long.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Wait for conditions that need time to pass.
const CONDITION_DELAY: Duration = Duration::from_millis(100);

impl Lane {
    /// The controller answered. An answer that fits no command in flight is counted and dropped.
    pub fn complete(&mut self, path: PathId, association: AssociationId, cqe: &Cqe, now: Duration) {
        let Some(at) = self.pair_of(association) else {
            self.stats.stale += 1;
            return;
        };
        assert_eq!(path, self.pairs[at].path, "{association}");
        let path = self.pairs[at].path;
        let had_room = self.pairs[at].has_room();
        let Some(number) = self.pairs[at].give_back(cqe.cid.get()) else {
            self.stats.stale += 1;
            return;
        };
        self.pairs[at].answered_at = now;
        self.stats.answered += 1;
        let bytes = self.data_in_flight(number);
        if self.pairs[at].state == QueuePairState::Open {
            self.shared.answered(path, bytes, now);
        }
        self.left_flight(number);
        if !had_room {
            self.pairs[at].blocked_until = None;
            self.rebuild_offers();
        }
        let status = cqe.status();
        match judge(status, self.commands[number].retries) {
            Disposition::Done => {
                self.learn(number, path, bytes, now);
                self.succeeded(number, path, now);
            }
            Disposition::Fail(error) => {
                let tag = tag_of(number);
                self.free(number, now);
                self.abort(tag, error, now);
            }
            again => self.try_again(number, at, status, again, now),
        }
        if self.something_waits() {
            self.pump(now);
        }
    }

    /// Notes how long a read or a write took; others say nothing about the next one.
    fn learn(&mut self, number: u16, path: PathId, bytes: u32, now: Duration) {
        if bytes == 0 {
            return;
        }
        let done = Done {
            path,
            bytes,
            write: self.is_mutation(number),
            sent: self.commands[number].sent_at,
            at: now,
        };
        self.selector.completed(&done);
        self.shared.took(self.config.id.0, path, done.latency_ns());
    }

    fn something_waits(&self) -> bool {
        !self.queues.nothing_to_send()
    }

    fn succeeded(&mut self, number: u16, path: PathId, now: Duration) {
        self.note_first_io(number, path, now);
        let tag = tag_of(number);
        let command = &mut self.commands[number];
        if command.covered < command.blocks && self.requests[tag].error.is_none() {
            // This path takes smaller commands than the one it was made for: do the rest.
            command.lba += u64::from(command.covered);
            command.offset += command.covered;
            command.blocks -= command.covered;
            command.retries = 0;
            command.path_errors = 0;
            command.avoid = None;
            self.requeue(number);
            return;
        }
        self.free(number, now);
        if self.requests[tag].wants_command() && !self.requests[tag].waiting {
            let mutation = self.requests[tag].body.op.is_mutation();
            self.requests[tag].waiting = true;
            self.queues.fresh.of(mutation).push_back(tag);
        }
        self.finish_if_over(tag, now);
    }

    /// The controller is done with it, so its fate is known: it may be sent again at once.
    fn try_again(&mut self, number: u16, at: u16, status: Status, how: Disposition, now: Duration) {
        let (path, association) = (self.pairs[at].path, self.pairs[at].association);
        let wait = match how {
            Disposition::AnaElsewhere => {
                self.refuse_ana(at, status);
                Duration::ZERO
            }
            Disposition::Elsewhere => {
                self.note_path_error(at, status);
                let reachable = self.reachable_count();
                let command = &mut self.commands[number];
                command.path_errors = command.path_errors.saturating_add(1);
                command.avoid = Some(path);
                let errors = usize::from(command.path_errors);
                // Every path has had its chance before the first wait.
                match errors.checked_sub(reachable.max(2)) {
                    None => Duration::ZERO,
                    Some(round) => BACKOFF_MIN
                        .saturating_mul(1 << round.min(7))
                        .min(BACKOFF_MAX),
                }
            }
            Disposition::Again { delay, patient } => {
                let command = &mut self.commands[number];
                command.retries += 1;
                command.avoid = Some(path);
                let asked = usize::from(delay)
                    .checked_sub(1)
                    .and_then(|index| self.pairs[at].limits.retry_delays.get(index).copied())
                    .unwrap_or(Duration::ZERO);
                if asked.is_zero() && patient {
                    CONDITION_DELAY
                } else {
                    asked
                }
            }
            Disposition::Done | Disposition::Fail(_) => Duration::ZERO,
        };
        assert_eq!(self.commands[number].association, association);
        let tag = tag_of(number);
        if self.requests[tag].error.is_some() {
            self.free(number, now);
            self.finish_if_over(tag, now);
        } else if wait.is_zero() {
            self.requeue(number);
        } else {
            let command = &mut self.commands[number];
            command.state = State::Ready;
            command.not_before = now.saturating_add(wait);
            self.queues.delayed.push_back(number);
        }
    }

    fn refuse_ana(&mut self, at: u16, status: Status) {
        let association = self.pairs[at].association;
        let entry = self
            .table
            .paths
            .iter()
            .find(|entry| entry.association == association);
        let epoch = entry.map_or(0, |entry| entry.ana_epoch);
        let pair = &mut self.pairs[at];
        if pair.ana_refused.replace(epoch).is_none() {
            let path = pair.path;
            self.events.push_back(LaneEvent::AnaStatus {
                path,
                association,
                status,
            });
            self.rebuild_offers();
        }
    }

    fn note_path_error(&mut self, at: u16, status: Status) {
        let pair = &mut self.pairs[at];
        pair.path_errors = pair.path_errors.saturating_add(1);
        let (path, association, count) = (pair.path, pair.association, pair.path_errors);
        if count.is_power_of_two() {
            self.events.push_back(LaneEvent::PathError {
                path,
                association,
                status,
                count,
            });
        }
    }

    fn note_first_io(&mut self, number: u16, path: PathId, now: Duration) {
        let Some((lost, at)) = self.convicted else {
            return;
        };
        let command = &self.commands[number];
        if command.association == lost || command.sent_at < at {
            return;
        }
        self.convicted = None;
        let oldest = self.oldest_request().unwrap_or(now);
        let stall = now.saturating_sub(oldest);
        self.events
            .push_back(LaneEvent::FirstIo { lost, path, stall });
    }

    /// Ends a request early: what waits of it is dropped; what is in flight is waited for, and so is
    /// the lock of what was lost. Told before that, the caller could write the blocks again while
    /// some lane does not keep off them yet, and a ghost would overwrite that.
    pub(super) fn abort(&mut self, tag: u16, error: BlockError, now: Duration) {
        let request = &mut self.requests[tag];
        request.error.get_or_insert(error);
        request.waiting = false;
        let commands = request.commands;
        self.queues.forget(tag, tag_of);
        for slot in 0..COMMANDS_PER_TAG {
            let number = tag * COMMANDS_PER_TAG + slot;
            if commands & (1 << slot) == 0 {
                continue;
            }
            match self.commands[number].state {
                State::Ready => self.free(number, now),
                State::Held => {
                    self.commands[number].state = State::Failing;
                    self.queues.failing.push_back(number);
                }
                State::Free | State::InFlight | State::Failing => {}
            }
        }
        self.finish_if_over(tag, now);
    }

    /// Fails everything that is not in flight, held mutations included. What is in flight is
    /// answered as usual; a request of which only a part is in flight fails when that part is over,
    /// and one with a part lost a moment ago when its blocks are locked.
    pub fn fail_queued(&mut self, now: Duration) {
        while let Some(tag) = self.queues.some_tag(tag_of) {
            self.abort(tag, BlockError::Io, now);
        }
        self.note_starving();
    }

    /// The command is over, one way or the other.
    pub(super) fn free(&mut self, number: u16, now: Duration) {
        self.end_hold(number, now);
        self.commands[number] = Command::free();
        let request = &mut self.requests[tag_of(number)];
        request.commands &= !(1 << (number % COMMANDS_PER_TAG));
    }

    pub(super) fn finish_if_over(&mut self, tag: u16, now: Duration) {
        let request = &mut self.requests[tag];
        if !request.active || !request.is_over() {
            return;
        }
        request.active = false;
        request.waiting = false;
        let result = request.error.map_or(Ok(()), Err);
        self.stats.longest = self
            .stats
            .longest
            .max(now.saturating_sub(request.submitted));
        self.stats.completed += 1;
        self.stats.failed += u64::from(result.is_err());
        self.actions.push_back(Action::Complete {
            tag: Tag(tag),
            result,
        });
    }
}
