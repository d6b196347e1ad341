//! Helping lost associations to their order fence through cross-controller reset.
//!
//! The ladder and the meaning of every answer are the product's own. Played here is what the hub
//! does around it: who survives, how an order reaches a path's task, how its answer comes back.

use umpath_core::AssociationId;
use umpath_core::association::{FencedBy, Ladder, LadderOutput, ResetNews, ResetReply};
use umpath_nvme::command::Instance;
use umpath_session::{ControllerFacts, LostHost, ResetAnswer, ResetRecord};

use crate::sim::clock::{MICRO, Nanos, duration, nanos};
use crate::sim::mutant::Mutant;
use crate::sim::world::{Happening, World};

/// The incarnation of a controller.
pub(crate) fn instance_of(facts: &ControllerFacts) -> Instance {
    Instance {
        cntlid: facts.cntlid,
        ciu: facts.ciu,
        cirn: facts.cirn,
    }
}

impl World {
    /// The way to the fence of an association that is being given up.
    pub(crate) fn ladder_for(&self, path: usize, lost: Instance) -> Ladder {
        let mut ladder = Ladder::new(lost);
        let others = self.host.paths.iter().enumerate();
        for (_, other) in others.filter(|(other, _)| *other != path) {
            if let Some(survivor) = other.attempt.as_ref().filter(|other| other.offers_reset()) {
                ladder.survivor_up(survivor.association, duration(self.now));
            }
        }
        ladder
    }

    /// A new association may help those that were lost.
    pub(crate) fn survivor_up(&mut self, path: usize) {
        let attempt = self.host.paths[path].attempt.as_ref();
        if let Some(attempt) = attempt.filter(|attempt| attempt.offers_reset()) {
            let (survivor, now) = (attempt.association, duration(self.now));
            self.every_ladder(|ladder| ladder.survivor_up(survivor, now));
        }
    }

    /// An association is over: it helps nobody any more.
    pub(crate) fn survivor_gone(&mut self, association: AssociationId) {
        let now = duration(self.now);
        self.every_ladder(|ladder| ladder.survivor_gone(association, now));
    }

    /// A path's task is told what a ladder wants of its association.
    pub(crate) fn ask_survivor(&mut self, order: LadderOutput) {
        let now = duration(self.now);
        let silent = self.is(Mutant::LadderSilent);
        let (LadderOutput::Reset { via, .. } | LadderOutput::ReadLog { via }) = order else {
            return;
        };
        let mut attempts = self.host.paths.iter_mut().enumerate();
        // One that is gone meanwhile says so by its own end.
        let Some((path, attempt)) = attempts.find_map(|(path, actor)| {
            let attempt = actor.attempt.as_mut()?;
            (attempt.association == via).then_some((path, attempt))
        }) else {
            return;
        };
        let mut asked = true;
        match order {
            LadderOutput::Reset { .. } if silent => {}
            LadderOutput::Reset { lost, .. } => asked = attempt.session.reset_other(lost, now),
            _ => attempt.session.read_resets(now),
        }
        self.pump_session(path);
        if let (LadderOutput::Reset { lost, .. }, false) = (order, asked) {
            self.reset_answered(via, lost, ResetAnswer::Unanswered);
        }
    }

    /// A survivor answered a request to reset.
    pub(crate) fn reset_answered(
        &mut self,
        via: AssociationId,
        impacted: Instance,
        answer: ResetAnswer,
    ) {
        self.note(|| {
            format!(
                "association {via} says of controller {}: {answer:?}",
                impacted.cntlid
            )
        });
        let believed = match answer {
            ResetAnswer::Pending => self.is(Mutant::CcrProgressIsSuccess),
            ResetAnswer::Refused(_) => self.is(Mutant::CcrRefusalIsSuccess),
            ResetAnswer::Unanswered => self.is(Mutant::CcrSilenceIsSuccess),
            ResetAnswer::Complete => true,
        };
        let reply = match answer {
            _ if believed => ResetReply::Complete,
            ResetAnswer::Complete => ResetReply::Complete,
            ResetAnswer::Pending => ResetReply::Pending,
            ResetAnswer::Unanswered => ResetReply::Unanswered,
            ResetAnswer::Refused(status) => ResetReply::refused(status),
        };
        let now = duration(self.now);
        for (association, lost) in self.lost_instances() {
            if lost == impacted {
                self.on_ladder(association, |ladder| ladder.reply(via, reply, now));
            }
        }
    }

    /// A survivor's log of resets was read; `None`: it could not be.
    pub(crate) fn reset_log(&mut self, via: AssociationId, records: Option<&[ResetRecord]>) {
        let now = duration(self.now);
        for (association, lost) in self.lost_instances() {
            let news = records.map_or(ResetNews::Nothing, |records| {
                let entries = records.iter();
                ResetNews::of(
                    lost,
                    entries.map(|entry| (entry.cntlid, entry.ciu, entry.outcome)),
                )
            });
            let news = match (self.mutant, news) {
                (Some(Mutant::CcrFailedIsSuccess), ResetNews::Failed)
                | (Some(Mutant::CcrProgressIsSuccess), ResetNews::InProgress) => ResetNews::Success,
                (_, news) => news,
            };
            self.note(|| format!("association {via}'s log says of {association}: {news:?}"));
            self.on_ladder(association, |ladder| ladder.news(via, news, now));
        }
    }

    /// Controllers have lost this host, by the word of another one.
    pub(crate) fn lost_hosts(&mut self, lost: &[LostHost]) {
        for path in 0..self.host.paths.len() {
            let Some(attempt) = &mut self.host.paths[path].attempt else {
                continue;
            };
            let instance = attempt
                .ready
                .as_ref()
                .map(|ready| instance_of(&ready.facts));
            if let (Some(Instance { cntlid, ciu, .. }), Some(health)) =
                (instance, &mut attempt.health)
                && lost.contains(&LostHost { cntlid, ciu })
            {
                health.host_lost(duration(self.now));
                self.judge(path);
            }
        }
    }

    fn lost_instances(&self) -> Vec<(AssociationId, Instance)> {
        let teardowns = self.host.teardowns.iter();
        teardowns
            .map(|teardown| (teardown.association, teardown.instance))
            .collect()
    }

    fn every_ladder(&mut self, mut step: impl FnMut(&mut Ladder)) {
        let all: Vec<AssociationId> = self
            .host
            .teardowns
            .iter_mut()
            .map(|teardown| {
                step(&mut teardown.ladder);
                teardown.association
            })
            .collect();
        for association in all {
            self.climb(association);
        }
    }

    pub(crate) fn on_ladder(&mut self, association: AssociationId, step: impl FnOnce(&mut Ladder)) {
        let mut teardowns = self.host.teardowns.iter_mut();
        if let Some(teardown) = teardowns.find(|teardown| teardown.association == association) {
            step(&mut teardown.ladder);
        }
        self.climb(association);
    }

    /// Does what a ladder wants done, and sets the timer of all.
    pub(crate) fn climb(&mut self, association: AssociationId) {
        let known = |teardown: &&mut super::Teardown| teardown.association == association;
        while let Some(teardown) = self.host.teardowns.iter_mut().find(known)
            && let Some(order) = teardown.ladder.poll_output()
        {
            if let LadderOutput::Fenced(by) = order {
                self.note(|| format!("association {association} is fenced: {by:?}"));
                self.surety(association, by);
                continue;
            }
            let delay = self.fabric_chance.tail(MICRO, self.plan.message_delay);
            let life = self.host.life;
            self.agenda
                .push(self.now + delay, Happening::AskSurvivor { life, order });
        }
        let due = self.host.teardowns.iter();
        let due = due.filter_map(|teardown| teardown.ladder.poll_timeout());
        let Some(due) = due.min().map(nanos) else {
            return;
        };
        let (at, timer) = (due.max(self.now + MICRO), &mut self.host.ladder_timer);
        if timer.is_none_or(|timer| at < timer || timer <= self.now) {
            *timer = Some(at);
            let life = self.host.life;
            self.agenda.push(at, Happening::LadderTimer { life, at });
        }
    }

    pub(crate) fn ladder_timer(&mut self, at: Nanos) {
        if self.host.ladder_timer == Some(at) {
            self.host.ladder_timer = None;
            let now = duration(self.now);
            self.every_ladder(|ladder| ladder.handle_timeout(now));
            let due = self.host.teardowns.iter();
            let due = due
                .filter_map(|teardown| teardown.ladder.poll_timeout())
                .min();
            self.check_due("a ladder", due);
        }
    }

    /// Something proves that an association executes nothing more.
    fn surety(&mut self, association: AssociationId, by: FencedBy) {
        let mut teardowns = self.host.teardowns.iter_mut();
        if let Some(teardown) = teardowns.find(|teardown| teardown.association == association) {
            teardown.surety = Some(by);
            self.host.proven.push(association);
            self.stand_if_proven(association);
        }
    }
}
