//! Time: keep-alive timers, the wait for removed controllers to leave the media, and checking the
//! boards.

use std::time::Duration;

use super::Array;
use crate::output::Gone;

/// How often a removed controller's work on the media is checked.
const REMAINS_INTERVAL: Duration = Duration::from_millis(5);

impl<M: Clone> Array<M> {
    /// When [`Array::handle_timeout`] wants to be called.
    pub fn next_timeout(&self, now: Duration) -> Option<Duration> {
        let keep_alive = self
            .controllers
            .values()
            .filter_map(|c| c.shared().gate.deadline())
            .min();
        let remains = (!self.remains.is_empty()).then(|| now + REMAINS_INTERVAL);
        let boards = self.next_board_check(now);
        [keep_alive, remains, boards].into_iter().flatten().min()
    }

    /// Ends a controller whose keep-alive timer has run out, whether or not a timer noticed.
    ///
    /// To be asked before anything of the controller is believed: a Keep Alive that lay in a queue
    /// while this process was stopped must not revive what the host has given up.
    pub(super) fn expire(&mut self, cntlid: u16, now: Duration) -> bool {
        let deadline = self
            .controllers
            .get(&cntlid)
            .and_then(|c| c.shared().gate.deadline());
        let expired = deadline.is_some_and(|deadline| deadline <= now);
        if expired {
            self.remove_controller(cntlid, Gone::KeepAlive, now);
        }
        expired
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        let expired: Vec<u16> = self
            .controllers
            .iter()
            .filter(|(_, c)| {
                c.shared()
                    .gate
                    .deadline()
                    .is_some_and(|deadline| deadline <= now)
            })
            .map(|(cntlid, _)| *cntlid)
            .collect();
        for cntlid in expired {
            self.remove_controller(cntlid, Gone::KeepAlive, now);
        }
        self.check_boards(now);
        self.forget_remains(now);
    }
}
