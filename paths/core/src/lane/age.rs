//! How old the commands in flight are, and how long a queue pair has answered nothing.
//!
//! Every command is checked now and then, so that none pays for it when it is sent or answered. Only
//! what was seen is reported; what it means is [`Health`](crate::association::Health)'s to decide.

use core::time::Duration;

use super::Lane;
use super::command::tag_of;
use super::queue_pair::{QueuePair, QueuePairState};
use crate::event::LaneEvent;
use crate::request::Op;

/// A command in flight for so long is reported, and reported again at every check.
pub(super) const OVERDUE: Duration = Duration::from_secs(2);
/// A queue pair that has answered nothing for so long, likewise.
pub(super) const SILENT: Duration = Duration::from_secs(1);
/// From one check to the next.
pub(super) const CHECK: Duration = Duration::from_millis(500);

impl Lane {
    /// Checks, if it is time.
    pub(super) fn check_ages(&mut self, now: Duration) {
        if now < self.check_due {
            return;
        }
        self.check_due = now + CHECK;
        for pair in self.pairs.iter() {
            if pair.state == QueuePairState::Open {
                let silent = self.silence_of(pair, now);
                self.events.extend(silent);
                self.events.extend(self.overdue_on(pair, now));
            }
        }
    }

    /// Reads and writes: a discard of a whole disk may take long on a queue pair that works.
    fn never_takes_long(&self, number: u16) -> bool {
        matches!(self.requests[tag_of(number)].body.op, Op::Read | Op::Write)
    }

    fn silence_of(&self, pair: &QueuePair, now: Duration) -> Option<LaneEvent> {
        let waiting = || {
            let quick = pair
                .commands()
                .filter(|number| self.never_takes_long(*number));
            quick.map(|number| &self.commands[number])
        };
        let oldest = waiting().map(|command| command.sent_at).min()?;
        let since = oldest.max(pair.answered_at);
        if now < since + SILENT {
            return None;
        }
        let as_long = waiting().filter(|command| now >= command.sent_at + SILENT);
        let last = as_long.max_by_key(|command| command.sequence)?;
        Some(LaneEvent::QueueSilent {
            path: pair.path,
            association: pair.association,
            since,
            cid: last.cid,
            mutations: self.has_mutation_on(pair),
        })
    }

    /// The oldest command, and where that may take long, the oldest that may not: only such a one is
    /// worth an Abort.
    fn overdue_on(
        &self,
        pair: &QueuePair,
        now: Duration,
    ) -> impl Iterator<Item = LaneEvent> + use<> {
        let (mut quick, mut slow) = (None, None);
        for number in pair.commands() {
            let oldest = if self.never_takes_long(number) {
                &mut quick
            } else {
                &mut slow
            };
            let sent = (self.commands[number].sent_at, number);
            *oldest = Some(oldest.map_or(sent, |known| sent.min(known)));
        }
        let slow = slow.filter(|slow| quick.is_none_or(|quick| slow < &quick));
        let (path, association) = (pair.path, pair.association);
        let cid = quick.map(|(_, number)| self.commands[number].cid);
        let slow = slow.map(|(since, _)| (since, None));
        let quick = quick.map(|(since, _)| (since, cid));
        let found = slow.into_iter().chain(quick);
        found
            .filter(move |(since, _)| now >= *since + OVERDUE)
            .map(move |(since, cid)| LaneEvent::Overdue {
                path,
                association,
                since,
                cid,
            })
    }
}
