//! How old the commands in flight are.
//!
//! A look at every command now and then, so that none pays for it when it is sent or answered. Told
//! is only that something is overdue; what that means is [`Health`](crate::association::Health)'s to
//! decide.

use core::time::Duration;

use super::Lane;
use super::command::tag_of;
use super::link::LinkState;
use crate::event::LaneEvent;
use crate::request::Op;

/// A command in flight for so long is told, and told again at every look.
pub(super) const OVERDUE: Duration = Duration::from_secs(2);
/// From one look to the next.
pub(super) const LOOK: Duration = Duration::from_millis(500);

impl Lane {
    /// When to look next; `None`: nothing is in flight.
    pub(super) fn look_due(&self) -> Option<Duration> {
        let mut links = self.links.iter();
        let busy = links.any(|link| link.state == LinkState::Open && link.in_flight() > 0);
        busy.then_some(self.look_due)
    }

    /// Looks, if it is time.
    pub(super) fn look_at_ages(&mut self, now: Duration) {
        if now < self.look_due {
            return;
        }
        self.look_due = now + LOOK;
        for link in self.links.iter() {
            if link.state != LinkState::Open {
                continue;
            }
            let sent = link
                .commands()
                .map(|number| (self.commands[number].sent_at, number));
            let Some((since, number)) = sent.min().filter(|(since, _)| now >= *since + OVERDUE)
            else {
                continue;
            };
            let quick = matches!(self.requests[tag_of(number)].body.op, Op::Read | Op::Write);
            let cid = quick.then_some(self.commands[number].cid);
            self.events.push_back(LaneEvent::Overdue {
                path: link.path,
                association: link.association,
                since,
                cid,
            });
        }
    }
}
