//! Which command a controller is asked to abort, and when.
//!
//! A controller that answers every command but one may be able to abort that one. The host asks while
//! the association lives: an aborted command gets a completion like any other, so no fence is needed
//! and nothing becomes a ghost. A convicted association cannot be asked any more.

use core::time::Duration;
use std::collections::VecDeque;

/// Commands remembered as asked for. A controller that sits on more of them is convicted soon.
const ASKED_MAX: usize = 16;

/// A command that has been in flight for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// The queue it was sent on (QID).
    pub qid: u16,
    /// Its identifier there.
    pub cid: u16,
    /// When it was sent, which tells it from an earlier one of that identifier.
    pub since: Duration,
}

/// The aborts of one association.
#[derive(Debug, Clone)]
pub struct Aborts {
    after: Duration,
    asked: VecDeque<Stuck>,
}

impl Aborts {
    /// A command is asked for when it is `after` old.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self {
            after,
            asked: VecDeque::new(),
        }
    }

    /// Asks for a command by `send`, if it is time; never twice, unless `send` says that it could not.
    pub fn ask(&mut self, stuck: Stuck, now: Duration, send: impl FnOnce() -> bool) {
        let due = now.saturating_sub(stuck.since) >= self.after && !self.asked.contains(&stuck);
        if !due || !send() {
            return;
        }
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back(stuck);
    }

    /// The command of this name that was asked for last.
    pub fn last_asked(&self, qid: u16, cid: u16) -> Option<Stuck> {
        let mut asked = self.asked.iter().rev();
        asked
            .find(|stuck| (stuck.qid, stuck.cid) == (qid, cid))
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_asked_for_once_and_not_before_its_time() {
        let ms = Duration::from_millis;
        let mut aborts = Aborts::new(ms(10_000));
        let ask = |aborts: &mut Aborts, stuck, now, could| {
            let mut sent = false;
            aborts.ask(stuck, now, || {
                sent = true;
                could
            });
            sent
        };
        let stuck = Stuck {
            qid: 1,
            cid: 7,
            since: ms(500),
        };
        assert!(!ask(&mut aborts, stuck, ms(10_499), true));
        assert!(ask(&mut aborts, stuck, ms(10_500), false));
        assert_eq!(aborts.last_asked(1, 7), None, "it could not be");
        assert!(ask(&mut aborts, stuck, ms(10_600), true));
        assert!(!ask(&mut aborts, stuck, ms(11_000), true));
        assert_eq!(aborts.last_asked(1, 7), Some(stuck));
        assert_eq!(aborts.last_asked(2, 7), None);
        let later = Stuck {
            since: ms(600),
            ..stuck
        };
        assert!(
            ask(&mut aborts, later, ms(11_000), true),
            "another one of that name"
        );
    }
}
