//! Helping lost associations to their order fence: whom the ladders of `umpath_core` want asked, and
//! what the survivors answered.
//!
//! A survivor is any other live association with the same subsystem whose controller offers
//! cross-controller reset. Its own path task does the asking; the answer comes back as a report.

use std::time::Duration;

use umpath_core::AssociationId;
use umpath_core::association::{FencedBy, Ladder, LadderOutput, ResetNews, ResetReply};
use umpath_nvme::command::Instance;
use umpath_session::{ControllerFacts, LostHost, ResetAnswer, ResetRecord};

use super::Hub;
use crate::association::Order;
use crate::clock;

/// The incarnation of a controller.
pub(super) fn instance_of(facts: &ControllerFacts) -> Instance {
    Instance {
        cntlid: facts.cntlid,
        ciu: facts.ciu,
        cirn: facts.cirn,
    }
}

/// Whether a controller can be asked to reset others.
pub(super) fn offers_reset(facts: &ControllerFacts) -> bool {
    facts.ccr_limit > 0
}

impl Hub {
    /// The way to the fence of an association that is being given up; it is asked for at once.
    pub(super) fn ladder_for(&self, path: u32, facts: &ControllerFacts, now: Duration) -> Ladder {
        let mut ladder = Ladder::new(instance_of(facts));
        if self.context.unfenced {
            return ladder;
        }
        let Some(lost) = self.paths.get(&path) else {
            return ladder;
        };
        let mut survivors: Vec<(bool, AssociationId)> = self
            .paths
            .iter()
            .filter(|(id, record)| **id != path && record.spec.nqn == lost.spec.nqn)
            .filter_map(|(_, record)| record.live.as_ref())
            .filter(|live| offers_reset(&live.ready.facts))
            .map(|live| (live.suspect.is_some(), live.association))
            .collect();
        // Those nothing speaks against first.
        survivors.sort_unstable();
        for (_, survivor) in survivors {
            ladder.survivor_up(survivor, now);
        }
        ladder
    }

    /// A new association may help those that were lost.
    pub(super) fn survivor_up(&mut self, path: u32) {
        let Some(record) = self.paths.get(&path) else {
            return;
        };
        let Some(live) = record.live.as_ref() else {
            return;
        };
        if !offers_reset(&live.ready.facts) || self.context.unfenced {
            return;
        }
        let (nqn, association) = (record.spec.nqn.clone(), live.association);
        let now = clock::now();
        self.every_ladder(|teardown, ladder| {
            if teardown == nqn.as_str() {
                ladder.survivor_up(association, now);
            }
        });
    }

    /// An association is over: it helps nobody any more.
    pub(super) fn survivor_gone(&mut self, association: AssociationId) {
        let now = clock::now();
        self.every_ladder(|_, ladder| ladder.survivor_gone(association, now));
    }

    /// A survivor answered a request to reset.
    pub(super) fn reset_answered(
        &mut self,
        via: AssociationId,
        impacted: Instance,
        answer: ResetAnswer,
    ) {
        let reply = match answer {
            ResetAnswer::Complete => ResetReply::Complete,
            ResetAnswer::Pending => ResetReply::Pending,
            ResetAnswer::Unanswered => ResetReply::Unanswered,
            ResetAnswer::Refused(status) => {
                tracing::info!(%via, "resetting controller {} refused: {status}", impacted.cntlid);
                ResetReply::refused(status)
            }
        };
        let now = clock::now();
        for (association, lost) in self.lost_instances() {
            if lost == impacted {
                self.on_ladder(association, |ladder| ladder.reply(via, reply, now));
            }
        }
    }

    /// A survivor's log of resets was read; `None`: it could not be.
    pub(super) fn reset_log(&mut self, via: AssociationId, records: Option<&[ResetRecord]>) {
        let now = clock::now();
        for (association, lost) in self.lost_instances() {
            let news = records.map_or(ResetNews::Nothing, |records| {
                let entries = records.iter();
                ResetNews::of(
                    lost,
                    entries.map(|entry| (entry.cntlid, entry.ciu, entry.outcome)),
                )
            });
            self.on_ladder(association, |ladder| ladder.news(via, news, now));
        }
    }

    /// Controllers have lost this host, by the word of another one: those we still use are told.
    pub(super) fn lost_hosts(&mut self, path: u32, lost: &[LostHost]) {
        let Some(nqn) = self.paths.get(&path).map(|record| record.spec.nqn.clone()) else {
            return;
        };
        for record in self.paths.values().filter(|record| record.spec.nqn == nqn) {
            let Some(live) = record.live.as_ref() else {
                continue;
            };
            let Instance { cntlid, ciu, .. } = instance_of(&live.ready.facts);
            if lost.contains(&LostHost { cntlid, ciu }) {
                let _ = record.orders.send(Order::HostLost(live.association));
            }
        }
    }

    /// When a ladder wants to be looked at.
    pub(super) fn ladders_due(&self) -> Option<Duration> {
        let ladders = self.teardowns.values().filter_map(|t| t.ladder.as_ref());
        ladders.filter_map(Ladder::poll_timeout).min()
    }

    pub(super) fn climb(&mut self, now: Duration) {
        self.every_ladder(|_, ladder| ladder.handle_timeout(now));
    }

    fn lost_instances(&self) -> Vec<(AssociationId, Instance)> {
        self.teardowns
            .iter()
            .map(|(association, teardown)| (*association, teardown.instance))
            .collect()
    }

    fn every_ladder(&mut self, mut step: impl FnMut(&str, &mut Ladder)) {
        let mut moved = Vec::new();
        for (association, teardown) in &mut self.teardowns {
            if let Some(ladder) = &mut teardown.ladder {
                step(teardown.nqn.as_str(), ladder);
                moved.push(*association);
            }
        }
        for association in moved {
            self.carry_out(association);
        }
    }

    pub(super) fn on_ladder(&mut self, association: AssociationId, step: impl FnOnce(&mut Ladder)) {
        let teardown = self.teardowns.get_mut(&association);
        if let Some(ladder) = teardown.and_then(|teardown| teardown.ladder.as_mut()) {
            step(ladder);
        }
        self.carry_out(association);
    }

    /// Does what a ladder wants done.
    pub(super) fn carry_out(&mut self, association: AssociationId) {
        while let Some(output) = self
            .teardowns
            .get_mut(&association)
            .and_then(|teardown| teardown.ladder.as_mut()?.poll_output())
        {
            match output {
                LadderOutput::Reset { via, lost } => {
                    // A survivor that is gone meanwhile says so by its own end.
                    self.tell(via, Order::ResetOther(via, lost));
                }
                LadderOutput::ReadLog { via } => self.tell(via, Order::ReadResets(via)),
                LadderOutput::Fenced(by) => {
                    let words = self.in_words(by);
                    if let Some(teardown) = self.teardowns.get_mut(&association) {
                        teardown.surety = Some(words);
                    }
                    self.stand_if_proven(association);
                }
            }
        }
    }

    fn in_words(&self, by: FencedBy) -> String {
        match by {
            FencedBy::Time => "by time".to_owned(),
            FencedBy::Reset { via } => self.path_with(via).map_or_else(
                || "by ccr".to_owned(),
                |(record, live)| {
                    let (path, cntlid) = (record.spec.id, live.ready.facts.cntlid);
                    format!("by ccr through path {path}, controller {cntlid}")
                },
            ),
        }
    }
}
