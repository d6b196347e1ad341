//! Sending: which path takes the next command, and what goes first.

use core::time::Duration;

use umpath_nvme::U16;
use umpath_policies::{Ask, PathId};

use super::command::{COMMANDS_PER_TAG, Command, State, blocks_max, data_bytes, encode, tag_of};
use super::queue_pair::QueuePairState;
use super::{Action, Lane, SendCommand};
use crate::event::LaneEvent;
use crate::request::{BlockError, Op};

/// How long a queue pair is left alone that could not take a command.
const BLOCKED: Duration = Duration::from_millis(10);

/// Who can carry a command.
enum Able {
    /// This queue pair, up to so many blocks.
    Now(u16, u32),
    /// A queue pair that has no room now.
    Later,
    /// No queue pair that this lane can reach.
    Never,
}

impl Lane {
    /// Sends what can be sent, in order: lost mutations that may be sent again, then retries before
    /// new requests. Mutations that overlap a ghost are set aside on the way.
    pub(super) fn pump(&mut self, now: Duration) {
        if self.refuses_to_queue() {
            self.fail_queued(now);
        }
        while let Some(command) = self.queues.released.pop_front() {
            if !self.resend(command, now) {
                self.queues.released.push_front(command);
                return self.note_starving();
            }
        }
        // Neither kind may keep the other from the last free slot for ever.
        self.mutations_first = !self.mutations_first;
        for mutation in [self.mutations_first, !self.mutations_first] {
            if !self.pump_kind(mutation, now) {
                break;
            }
        }
        self.note_starving();
    }

    /// `false`: there is no path with room.
    fn pump_kind(&mut self, mutation: bool, now: Duration) -> bool {
        while let Some(command) = self.queues.retry.of(mutation).pop_front() {
            if !self.resend(command, now) {
                self.queues.retry.of(mutation).push_front(command);
                return false;
            }
        }
        while let Some(tag) = self.queues.fresh.of(mutation).pop_front() {
            if !self.issue(tag, now) {
                self.queues.fresh.of(mutation).push_front(tag);
                return false;
            }
            self.requests[tag].waiting = false;
        }
        true
    }

    pub(super) fn note_starving(&mut self) {
        let starving = !self.offers.reachable && !self.queues.nothing_to_send();
        if starving != self.starving {
            self.starving = starving;
            self.events.push_back(if starving {
                LaneEvent::QueueingStarted
            } else {
                LaneEvent::QueueingEnded
            });
        }
    }

    /// Makes and sends as many commands of a request as it may have. `false`: there is no path
    /// with room.
    pub(super) fn issue(&mut self, tag: u16, now: Duration) -> bool {
        while self.requests[tag].wants_command() {
            let ask = self.ask(tag, now);
            let Some(pair) = self.choose(None, &ask) else {
                return false;
            };
            let op = self.requests[tag].body.op;
            let (pair, most) = match self.able(pair, op) {
                Able::Now(pair, most) => (pair, most),
                Able::Later => return false,
                Able::Never => {
                    self.abort(tag, BlockError::NotSupported, now);
                    return true;
                }
            };
            let request = &mut self.requests[tag];
            let blocks = most.min(request.total - request.issued);
            let slot = request.commands.trailing_ones() as u16;
            request.commands |= 1 << slot;
            let command = tag * COMMANDS_PER_TAG + slot;
            self.sequence += 1;
            self.commands[command] = Command {
                state: State::Ready,
                birth: self.sequence,
                lba: request.body.lba + u64::from(request.issued),
                offset: request.issued,
                blocks,
                ..Command::free()
            };
            request.issued += blocks;
            if self.is_kept_off(command) {
                self.park(command, now);
            } else {
                self.send(command, pair, now);
            }
        }
        true
    }

    /// Sends a command that was made before, or sets it aside. `false`: there is no path with room.
    fn resend(&mut self, command: u16, now: Duration) -> bool {
        if self.is_kept_off(command) {
            self.park(command, now);
            return true;
        }
        let tag = tag_of(command);
        let ask = self.ask(tag, now);
        let Some(pair) = self.choose(self.commands[command].avoid, &ask) else {
            return false;
        };
        let pair = match self.able(pair, self.requests[tag].body.op) {
            Able::Now(pair, _) => pair,
            Able::Later => return false,
            Able::Never => {
                self.abort(tag, BlockError::NotSupported, now);
                return true;
            }
        };
        self.stats.resent += 1;
        self.end_hold(command, now);
        self.send(command, pair, now);
        true
    }

    /// The queue pair for `op`: the chosen one if its controller does that, otherwise the first other one
    /// whose controller does, of a worse group if need be.
    fn able(&self, chosen: u16, op: Op) -> Able {
        let most = |pair: u16| blocks_max(op, &self.pairs[pair].limits, self.config.lba_shift);
        if let Some(most) = most(chosen) {
            return Able::Now(chosen, most);
        }
        let offers = self.group_order().flat_map(|group| self.reachable(group));
        let mut able = Able::Never;
        for offer in offers {
            match most(offer.pair) {
                Some(most) if self.pairs[offer.pair].has_room() => {
                    return Able::Now(offer.pair, most);
                }
                Some(_) => able = Able::Later,
                None => {}
            }
        }
        able
    }

    /// A queue pair with room, by the table's selector; another path than `avoid` if there is one.
    fn choose(&mut self, avoid: Option<PathId>, ask: &Ask) -> Option<u16> {
        let Some(avoid) = avoid else {
            return self.select(ask);
        };
        for _ in 0..self.offers.count {
            let pair = self.select(ask)?;
            if self.pairs[pair].path != avoid {
                return Some(pair);
            }
        }
        let elsewhere = self
            .group_order()
            .flat_map(|group| self.reachable(group))
            .find(|offer| offer.path != avoid && self.pairs[offer.pair].has_room());
        elsewhere
            .map(|offer| offer.pair)
            .or_else(|| self.select(ask))
    }

    /// What the selector is given of a request: its kind, and the bytes no command was made for or,
    /// on a retry, all of them. How large the next command will be depends on the path.
    fn ask(&self, tag: u16, now: Duration) -> Ask {
        let request = &self.requests[tag];
        let left = match request.total - request.issued {
            0 => request.total,
            left => left,
        };
        Ask {
            bytes: data_bytes(request.body.op, left, self.config.lba_shift),
            write: request.body.op.is_mutation(),
            now,
        }
    }

    fn send(&mut self, number: u16, at: u16, now: Duration) {
        let tag = tag_of(number);
        let pair = &mut self.pairs[at];
        let command = &mut self.commands[number];
        let request = &self.requests[tag].body;
        let lba_shift = self.config.lba_shift;
        let most = blocks_max(request.op, &pair.limits, lba_shift)
            .expect("queue pairs are chosen among those that can do it");
        let cid = pair
            .take(number)
            .expect("queue pairs are chosen among those with room");
        self.sequence += 1;
        command.state = State::InFlight;
        command.covered = command.blocks.min(most);
        command.association = pair.association;
        command.cid = cid;
        command.sequence = self.sequence;
        command.sent_at = now;
        let (mut sqe, data) = encode(request, command, number, pair.nsid, &pair.limits, lba_shift);
        sqe.cid = U16::new(cid);
        let (path, association) = (pair.path, pair.association);
        let full = !pair.has_room();
        let bytes = data_bytes(request.op, command.covered, lba_shift);
        self.stats.sent += 1;
        self.shared.sent(path, bytes, now);
        self.actions.push_back(Action::Send(SendCommand {
            path,
            association,
            sqe,
            tag: request.tag,
            data,
        }));
        if full {
            self.rebuild_offers();
        }
    }

    /// The host could not take a command: it never left, so it may go anywhere at once. The path is
    /// left alone until one of its commands is answered, at least for a moment. A queue pair that
    /// takes nothing any more is the host's to report.
    pub fn send_failed(&mut self, send: &SendCommand, now: Duration) {
        let Some(at) = self.pair_of(send.association) else {
            return;
        };
        let Some(number) = self.pairs[at].give_back(send.sqe.cid.get()) else {
            return;
        };
        self.pairs[at].blocked_until = Some(now.saturating_add(BLOCKED));
        self.unsend(number, at, now);
        self.rebuild_offers();
        if self.offers.count > 0 {
            self.pump(now);
        }
        self.note_starving();
    }

    /// Puts a command back that never left. Its slot is free already.
    pub(super) fn unsend(&mut self, number: u16, at: u16, now: Duration) {
        if self.pairs[at].state == QueuePairState::Open {
            self.shared
                .dropped(self.pairs[at].path, self.data_in_flight(number));
        }
        self.left_flight(number);
        let tag = tag_of(number);
        if self.requests[tag].error.is_some() {
            self.free(number, now);
            self.finish_if_over(tag, now);
            return;
        }
        let mutation = self.is_mutation(number);
        let command = &mut self.commands[number];
        command.state = State::Ready;
        if command.lost {
            self.queues.released.push_front(number);
        } else {
            self.queues.retry.of(mutation).push_front(number);
        }
    }

    /// Bytes of data that the copy of a command in flight moves.
    pub(super) fn data_in_flight(&self, number: u16) -> u32 {
        let op = self.requests[tag_of(number)].body.op;
        data_bytes(op, self.commands[number].covered, self.config.lba_shift)
    }

    /// Queues a command to be sent again.
    pub(super) fn requeue(&mut self, number: u16) {
        let mutation = self.is_mutation(number);
        let command = &mut self.commands[number];
        command.state = State::Ready;
        if command.lost {
            self.queues.released.push_back(number);
        } else {
            self.queues.retry.of(mutation).push_back(number);
        }
    }
}
