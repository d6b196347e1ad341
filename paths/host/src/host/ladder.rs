//! Getting lost associations to their order fence: which survivors the ladders of `umpath_core`
//! want asked, and what those answered.
//!
//! A survivor is any other live association with the same subsystem whose controller offers
//! cross-controller reset. Its own path sends the request; the answer comes back as a report.

use umpath_core::AssociationId;
use umpath_core::association::{FencedBy, Ladder, LadderOutput, ResetNews, ResetReply};
use umpath_nvme::Nqn;
use umpath_nvme::command::Instance;
use umpath_session::{ControllerFacts, LostHost, ResetAnswer, ResetRecord};

use super::Host;
use super::teardown::Lost;
use crate::path::Request;

pub(super) fn instance_of(facts: &ControllerFacts) -> Instance {
    Instance {
        cntlid: facts.cntlid,
        ciu: facts.ciu,
        cirn: facts.cirn,
    }
}

/// Whether a controller can reset others.
pub(super) fn offers_reset(facts: &ControllerFacts) -> bool {
    facts.ccr_limit > 0
}

impl Host {
    /// The ladder to the fence of an association that is being given up; its first request goes out
    /// at once.
    pub(super) fn ladder_for(&self, path: u32, nqn: &Nqn, lost: Instance) -> Ladder {
        let mut ladder = Ladder::new(lost);
        if self.settings.unfenced() {
            return ladder;
        }
        let mut survivors: Vec<(bool, AssociationId)> = self
            .paths
            .iter()
            .filter(|(id, record)| **id != path && record.spec.nqn == *nqn)
            .filter_map(|(_, record)| record.live.as_ref())
            .filter(|live| offers_reset(&live.ready.facts))
            .map(|live| (live.suspect.is_some(), live.association))
            .collect();
        // Ask unsuspected survivors first.
        survivors.sort_unstable();
        for (_, survivor) in survivors {
            ladder.survivor_up(survivor, self.fx.now);
        }
        ladder
    }

    /// A new association may be able to reset lost controllers.
    pub(super) fn survivor_up(&mut self, path: u32) {
        let record = self.path(path);
        let live = record.live.as_ref().expect("a new association");
        if !offers_reset(&live.ready.facts) || self.settings.unfenced() {
            return;
        }
        let (nqn, association) = (record.spec.nqn.clone(), live.association);
        let now = self.fx.now;
        self.every_ladder(|lost, ladder| {
            if lost.nqn == nqn {
                ladder.survivor_up(association, now);
            }
        });
    }

    /// An association is over and can no longer reset others.
    pub(super) fn survivor_gone(&mut self, association: AssociationId) {
        let now = self.fx.now;
        self.every_ladder(|_, ladder| ladder.survivor_gone(association, now));
    }

    /// A survivor answered a reset request.
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
        let now = self.fx.now;
        for (association, lost) in self.lost_instances() {
            if lost == impacted {
                self.on_ladder(association, |ladder| ladder.reply(via, reply, now));
            }
        }
    }

    /// A survivor's reset log was read; `None`: it could not be.
    pub(super) fn reset_log(&mut self, via: AssociationId, records: Option<&[ResetRecord]>) {
        let now = self.fx.now;
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

    /// Another controller reports that these controllers lost this host; passes that to the ones in
    /// use.
    pub(super) fn lost_hosts(&mut self, path: u32, lost: &[LostHost]) {
        let Some(nqn) = self.paths.get(&path).map(|record| record.spec.nqn.clone()) else {
            return;
        };
        for (path, record) in self.paths.iter().filter(|(_, it)| it.spec.nqn == nqn) {
            let Some(live) = record.live.as_ref() else {
                continue;
            };
            let Instance { cntlid, ciu, .. } = instance_of(&live.ready.facts);
            if lost.contains(&LostHost { cntlid, ciu }) {
                self.fx.ask_path(*path, Request::HostLost(live.association));
            }
        }
    }

    /// Escalates ladders that have waited long enough for a survivor.
    pub(super) fn escalate(&mut self) {
        let now = self.fx.now;
        self.every_ladder(|_, ladder| {
            if ladder.poll_timeout().is_some_and(|due| due <= now) {
                ladder.handle_timeout(now);
            }
        });
    }

    fn lost_instances(&self) -> Vec<(AssociationId, Instance)> {
        self.teardowns
            .iter()
            .map(|(association, teardown)| (*association, teardown.lost.instance))
            .collect()
    }

    fn every_ladder(&mut self, mut step: impl FnMut(&Lost, &mut Ladder)) {
        let mut moved = Vec::new();
        for (association, teardown) in &mut self.teardowns {
            if let Some(ladder) = &mut teardown.ladder {
                step(&teardown.lost, ladder);
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

    /// Carries out what a ladder wants.
    pub(super) fn carry_out(&mut self, association: AssociationId) {
        while let Some(output) = self
            .teardowns
            .get_mut(&association)
            .and_then(|teardown| teardown.ladder.as_mut()?.poll_output())
        {
            match output {
                LadderOutput::Reset { via, lost } => {
                    // If the survivor has gone meanwhile, its own end reports that.
                    self.tell(via, Request::ResetOther(via, lost));
                }
                LadderOutput::ReadLog { via } => self.tell(via, Request::ReadResets(via)),
                LadderOutput::Fenced(by) => {
                    let words = self.in_words(by);
                    if let Some(teardown) = self.teardowns.get_mut(&association) {
                        teardown.proof = Some(words);
                    }
                    self.fenced_if_proved(association);
                }
            }
        }
    }

    fn in_words(&self, by: FencedBy) -> String {
        match by {
            FencedBy::Time => "by time".to_owned(),
            FencedBy::Reset { via } => self.path_with(via).map_or_else(
                || "by ccr".to_owned(),
                |(path, live)| {
                    let cntlid = live.ready.facts.cntlid;
                    format!("by ccr through path {path}, controller {cntlid}")
                },
            ),
        }
    }
}
