//! Between the host and paths.

use std::time::Duration;

use umpath_core::AssociationId;
use umpath_host::path::Up;
use umpath_host::{LaneNews, Remains, Report, Request};
use umpath_nvme::log::reset::ResetOutcome;
use umpath_session::{Namespace, ResetAnswer};

use crate::sim::array::LBA_SHIFT;
use crate::sim::clock::{EPOCH, MILLI, duration};
use crate::sim::host::{Brought, Inside, LaneAt};
use crate::sim::mutant::Mutant;
use crate::sim::plan::FaultKind;
use crate::sim::world::World;

/// How often a suspicion is raised again under [`Mutant::SuspicionOscillates`], and after how long.
const SWINGS: u64 = 20;
const SWING: u64 = 30 * MILLI;

impl World {
    /// What the host asks of a path.
    pub(crate) fn seam_to_path(&mut self, _: u32, request: Request) -> Vec<Request> {
        match (self.mutant, &request) {
            (Some(Mutant::LadderSilent), Request::ResetOther(..)) => Vec::new(),
            (Some(Mutant::TooFewQueues), Request::OpenQueues(..)) if self.host.life > 1 => {
                Vec::new()
            }
            _ => vec![request],
        }
    }

    /// What a path reports.
    pub(crate) fn seam_from_path(&mut self, path: u32, mut report: Report) -> Vec<Report> {
        if let Report::Convict { association, .. } = &report {
            let (association, now) = (*association, self.now);
            self.convicted.insert(self.host.assoc(association), now);
            self.seam_convicted(association);
        }
        let Some(mutant) = self.mutant else {
            return vec![report];
        };
        match (mutant, &mut report) {
            (Mutant::ConvictionLost, Report::Convict { .. })
            | (Mutant::ClearLost, Report::Clear { .. })
            | (Mutant::QueuesLost, Report::Queues(..))
            | (Mutant::NamespaceUnheard, Report::Namespaces(..))
            | (Mutant::AnaUnheard, Report::Ana(..)) => return Vec::new(),
            (
                Mutant::UnreadForEver,
                Report::Namespaces(association, _) | Report::Ana(association, _),
            ) if self.unread.contains(&self.host.assoc(*association)) => {
                return Vec::new();
            }
            (Mutant::AnaFrozen, Report::Ana(..)) if self.was_refused(path) => return Vec::new(),
            (_, Report::AdminSilent { association, at }) => {
                *at = self.seam_silent_at(*association, *at);
            }
            (_, Report::Up(up)) => self.up_told(path, up),
            (_, Report::Reset { answer, .. }) if believes(mutant, *answer) => {
                *answer = ResetAnswer::Complete;
            }
            (
                _,
                Report::ResetLog {
                    records: Some(records),
                    ..
                },
            ) => {
                for record in records {
                    let wrong = match record.outcome {
                        ResetOutcome::Failed => mutant == Mutant::CcrFailedIsSuccess,
                        ResetOutcome::InProgress => mutant == Mutant::CcrProgressIsSuccess,
                        ResetOutcome::Success => false,
                    };
                    if wrong {
                        record.outcome = ResetOutcome::Success;
                    }
                }
            }
            (
                Mutant::SuspicionOscillates,
                Report::Suspect {
                    association, why, ..
                },
            ) => {
                for swing in 0..SWINGS {
                    let at = self.now + (swing + 1) * SWING;
                    let swings = Inside::Swing(path, *association, *why, swing % 2 == 1);
                    self.inside(at, self.host.life, swings);
                }
            }
            (Mutant::CtrlLossForgets, Report::GivenUp) => return vec![report, Report::Ended],
            _ => {}
        }
        vec![report]
    }

    /// The process that a path leads to has refused a command.
    fn was_refused(&self, path: u32) -> bool {
        let Some(actor) = self.host.paths.get(&path) else {
            return false;
        };
        let of = self.process_of(actor.route);
        self.plan.faults.iter().any(|fault| {
            let refuses =
                matches!(fault.kind, FaultKind::RefusesOnce { process, .. } if process == of);
            refuses && EPOCH + fault.at <= self.now
        })
    }

    fn up_told(&mut self, path: u32, up: &mut Up) {
        match self.mutant {
            Some(Mutant::TrafficIgnored) => up.ready.facts.traffic_based = false,
            Some(Mutant::ResizeForgotten) if self.host.life > 1 && path % 2 == 1 => {
                for namespace in &mut up.ready.namespaces {
                    self.recorded_size(namespace);
                }
            }
            _ => {}
        }
    }

    /// What is said of a namespace's size is what was recorded when its device was made.
    fn recorded_size(&self, namespace: &mut Namespace) {
        let Ok(facts) = &mut namespace.facts else {
            return;
        };
        let record = self.disk.volumes.get(&facts.id);
        if let Some(record) = record {
            facts.blocks = record.limits.size_bytes >> LBA_SHIFT;
        }
    }

    /// A mutant takes all queue pairs of an association for silent because one is.
    pub(super) fn all_silent(&mut self, at: LaneAt, association: AssociationId, when: Duration) {
        self.admin_silent(association, when);
        let (now, life) = (self.now, self.host.life);
        self.inside(
            now,
            life,
            Inside::Destroyed(association, Remains::Spare, when),
        );
        for queue in 0..self.devices[at.device].lanes.len() {
            let news = LaneNews::Drained {
                association,
                silent_at: Some(when),
                handed_back: false,
                quiet: true,
            };
            self.send_news(LaneAt { queue, ..at }, news, Brought::new());
        }
    }

    /// A mutant takes an admin queue for silent.
    pub(super) fn admin_silent(&mut self, association: AssociationId, at: Duration) {
        if let Some(path) = self.host.paths.keys().next().copied() {
            let report = Report::AdminSilent { association, at };
            self.send_report(path, report, Brought::new());
        }
    }

    /// A suspicion swings.
    pub(crate) fn swing(
        &mut self,
        path: u32,
        association: AssociationId,
        why: umpath_core::association::Suspicion,
        raised: bool,
    ) {
        let at = duration(self.now);
        let report = if raised {
            Report::Suspect {
                association,
                at,
                why,
            }
        } else {
            Report::Clear { association, at }
        };
        self.send_report(path, report, Brought::new());
    }
}

fn believes(mutant: Mutant, answer: ResetAnswer) -> bool {
    match answer {
        ResetAnswer::Pending => mutant == Mutant::CcrProgressIsSuccess,
        ResetAnswer::Refused(_) => mutant == Mutant::CcrRefusalIsSuccess,
        ResetAnswer::Unanswered => mutant == Mutant::CcrSilenceIsSuccess,
        ResetAnswer::Complete => false,
    }
}
