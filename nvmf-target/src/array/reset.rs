//! Controllers ended from elsewhere, and hosts lost elsewhere: what the boards say.
//!
//! A controller of this process that another one condemned serves nothing from that moment; here it
//! is noticed, so that its queues are closed and its identifier becomes free. Nothing waits for
//! that: the reset is complete without it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use umpath_nvme::command::Instance;

use super::Array;
use crate::controller::Controller;
use crate::gate::board::host_mark;
use crate::output::Gone;

/// How often resets in progress are checked.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// How often a board shared with other processes is checked.
const BOARD_INTERVAL: Duration = Duration::from_millis(20);

/// What was seen on one board.
#[derive(Debug, Default)]
struct Seen {
    condemnations: u32,
    losses: u32,
    lost: BTreeSet<Instance>,
}

/// What was seen on the boards, by subsystem.
#[derive(Debug, Default)]
pub(super) struct Watch(BTreeMap<String, Seen>);

impl Watch {
    pub(super) fn forget(&mut self, nqn: &str) {
        self.0.remove(nqn);
    }
}

impl<M: Clone> Array<M> {
    /// When the boards and the resets in progress must be checked again.
    pub(super) fn next_board_check(&self, now: Duration) -> Option<Duration> {
        if self.controllers.values().any(Controller::has_resets) {
            return Some(now + RESET_INTERVAL);
        }
        let mut served = self
            .controllers
            .values()
            .filter_map(|controller| self.subsystems.get(controller.subsystem.as_ref()?));
        served
            .any(|subsystem| subsystem.board.is_shared())
            .then(|| now + BOARD_INTERVAL)
    }

    /// Looks at the boards and at the resets in progress.
    pub(super) fn check_boards(&mut self, now: Duration) {
        let mut condemned = false;
        let mut lost = Vec::new();
        for (nqn, subsystem) in &self.subsystems {
            let board = &subsystem.board;
            if !board.is_shared() {
                continue;
            }
            let seen = self.watch.0.entry(nqn.clone()).or_default();
            let (condemnations, losses) = (board.condemnations(), board.foreign_losses());
            condemned |= condemnations != std::mem::replace(&mut seen.condemnations, condemnations);
            if losses != std::mem::replace(&mut seen.losses, losses) {
                let known = board.losses();
                let before = std::mem::take(&mut seen.lost);
                seen.lost = known.iter().map(|loss| loss.instance).collect();
                let new = known.into_iter();
                let new = new.filter(|loss| !before.contains(&loss.instance));
                lost.extend(new.map(|loss| (nqn.clone(), loss.host, loss.instance)));
            }
        }
        if condemned {
            self.end_condemned(now);
        }
        for (nqn, host, instance) in lost {
            self.notify_of_loss(&nqn, host, instance);
        }
        self.advance_resets(now);
    }

    /// Ends a controller that was condemned from elsewhere, whether or not that was noticed: to be
    /// asked before anything of it is believed.
    pub(super) fn end_if_condemned(&mut self, cntlid: u16, now: Duration) {
        let controller = self.controllers.get(&cntlid);
        if controller.is_some_and(|controller| controller.shared().gate.is_condemned()) {
            self.remove_controller(cntlid, Gone::Reset, now);
        }
    }

    /// Removes controllers whose gates were condemned from elsewhere.
    pub(super) fn end_condemned(&mut self, now: Duration) {
        let condemned: Vec<u16> = self
            .controllers
            .iter()
            .filter(|(_, controller)| controller.shared().gate.is_condemned())
            .map(|(cntlid, _)| *cntlid)
            .collect();
        for cntlid in condemned {
            self.remove_controller(cntlid, Gone::Reset, now);
        }
    }

    fn advance_resets(&mut self, now: Duration) {
        for controller in self.controllers.values_mut() {
            if !controller.has_resets() {
                continue;
            }
            let subsystem = controller.subsystem.as_ref();
            if let Some(subsystem) = subsystem.and_then(|nqn| self.subsystems.get(nqn)) {
                controller.advance_resets(&subsystem.board, now);
                self.outputs.extend(controller.take_outputs());
            }
        }
    }

    /// A controller's keep-alive timer ran out: its host's other controllers are notified, here and
    /// through the board elsewhere.
    pub(super) fn report_loss(&mut self, controller: &Controller<M>) {
        let Some(nqn) = controller.subsystem.as_ref() else {
            return;
        };
        if let Some(subsystem) = self.subsystems.get(nqn) {
            subsystem.board.note_loss(&controller.shared().gate);
        }
        let host = host_mark(&controller.host);
        self.notify_of_loss(nqn, host, controller.shared().instance);
    }

    fn notify_of_loss(&mut self, nqn: &str, host: u64, instance: Instance) {
        for controller in self.controllers.values_mut() {
            let same = controller.subsystem.as_deref() == Some(nqn);
            if same && host_mark(&controller.host) == host {
                controller.note_lost_host(instance);
                self.outputs.extend(controller.take_outputs());
            }
        }
    }
}
