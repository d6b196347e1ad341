//! What the host concludes, judged by what is true in this world at that moment.
//!
//! A wrong conclusion does harm only if a command happens to be in the right place at the right time,
//! which is rare. So the conclusions are judged themselves:
//! - (4) an association executes nothing more. By a reset: its controllers admit nothing, and nothing
//!   of it is on the medium. By time: the same, and the wait that decision 0001 proves sufficient has
//!   passed since its last queue pair *really* fell silent;
//! - (6) a queue pair touches no memory of a queue thread any more;
//! - (9) what is acknowledged with FUA, or was covered by an acknowledged FLUSH, is durable.

use std::sync::Arc;

use umpath_core::AssociationId;
use umpath_core::association::{FenceTerms, order_fence_at};
use umpath_host::Report;
use umpath_nvme::command::Instance;
use umpath_nvme::log::reset::ResetOutcome;
use umpath_session::ResetAnswer;
use umpath_target::controller::view::Shared;
use umpath_target::gate::{Epoch, Fenced};

use crate::sim::checker::{OpId, OpKind, Violation, op_of, stamp};
use crate::sim::clock::{Nanos, duration, nanos};
use crate::sim::host::LaneAt;
use crate::sim::qp::{Assoc, HostEnd, Qp, TargetEnd};
use crate::sim::resets::Made;
use crate::sim::store::StoreId;
use crate::sim::world::World;

impl World {
    /// A path brings the host word of resets: it may rely on that.
    pub(crate) fn hear_of_resets(&mut self, report: &Report) {
        match report {
            Report::Reset {
                impacted,
                answer: ResetAnswer::Complete,
                ..
            } => self.heard_reset(|known| known == *impacted),
            Report::ResetLog {
                records: Some(records),
                ..
            } => {
                for record in records {
                    if record.outcome == ResetOutcome::Success {
                        self.heard_reset(|known| {
                            (known.cntlid, known.ciu) == (record.cntlid, record.ciu)
                        });
                    }
                }
            }
            _ => {}
        }
    }

    fn heard_reset(&mut self, of: impl Fn(Instance) -> bool) {
        let made = self.made.iter().filter(|made| of(made.instance()));
        let reset: Vec<Assoc> = made.map(Made::association).collect();
        self.fences.heard_reset(reset);
    }

    /// The host says that an association executes nothing more.
    pub(super) fn check_fence(&self, assoc: Assoc) -> Result<(), Violation> {
        let reset = self.fences.was_reset(assoc);
        if !reset && !self.is_at_large(assoc) {
            // Everything was answered: there is nothing to be fenced.
            return Ok(());
        }
        if !reset {
            self.check_time_fence(assoc)?;
        }
        match self.may_execute(assoc) {
            None => Ok(()),
            Some(why) => Err(Violation(format!(
                "(4) {assoc} is called fenced, and {why}"
            ))),
        }
    }

    /// A mutation of this association was not answered.
    fn is_at_large(&self, assoc: Assoc) -> bool {
        let mut at_large = self.at_large.iter().map(|at| &self.copies[*at as usize]);
        at_large.any(|copy| copy.association == assoc)
    }

    /// Time proves something when all of the wait has passed since the last queue pair fell silent.
    fn check_time_fence(&self, assoc: Assoc) -> Result<(), Violation> {
        let mut silent_at = 0;
        let own = |qp: &&Qp| qp.association == assoc && qp.sent;
        for qp in self.qps.iter().filter(own) {
            if qp.host == HostEnd::Open {
                let what = format!(
                    "(4) {assoc} is called fenced by time while its queue {} may send",
                    qp.qid
                );
                return Err(Violation(what));
            }
            silent_at = silent_at.max(qp.silent_at);
        }
        let proved = self.time_fence(silent_at);
        if proved > self.now {
            let early = proved - self.now;
            let what =
                format!("(4) {assoc} is called fenced by time {early} ns before time proves it");
            return Err(Violation(what));
        }
        Ok(())
    }

    /// When time proves that an association has ended that has been silent since then.
    fn time_fence(&self, silent_at: Nanos) -> Nanos {
        let (reported, floor) = if self.plan.cqt_unreported {
            (0, self.plan.cqt)
        } else {
            (self.plan.cqt, 0)
        };
        let terms = FenceTerms::new(
            duration(self.plan.kato),
            1,
            self.plan.traffic_based,
            duration(reported),
            duration(floor),
        );
        let proved = terms.map(|terms| order_fence_at(duration(silent_at), &terms));
        proved.map_or(Nanos::MAX, nanos)
    }

    /// What could still make the association's writes reach the medium.
    fn may_execute(&self, assoc: Assoc) -> Option<String> {
        let ends = self.qps.iter().filter(|qp| qp.association == assoc);
        for qp in ends {
            if let TargetEnd::Io { cntlid, access } = &qp.target
                && self.admits(qp.process, qp.life, access.shared(), access.epoch())
            {
                return Some(format!("controller {cntlid} takes commands of it"));
            }
        }
        let own = |index: u32| {
            let copy = &self.copies[index as usize];
            copy.association == assoc && copy.mutation
        };
        let mut commands = self.commands.iter().map(|(_, command)| command);
        let command = commands.find(|known| {
            let submitted = known.on_medium && known.step > 0;
            let admitted = || self.admits(known.process, known.life, &known.shared, known.epoch);
            let over = known.void || known.done == known.blocks;
            own(known.copy) && !over && (submitted || admitted())
        })?;
        Some(format!("copy {} may still be executed", command.copy))
    }

    /// A process lets commands of this epoch pass, now or when it goes on.
    fn admits(
        &self,
        process: usize,
        life: u32,
        shared: &Arc<Shared<StoreId>>,
        epoch: Epoch,
    ) -> bool {
        let known = &self.processes[process];
        if !known.alive || known.life != life {
            return false;
        }
        let now = duration(known.clock(self.now));
        let expires = known.expires(shared, duration(self.plan.kato));
        let runs = expires.is_none_or(|at| now < at);
        match shared.gate.permits(epoch, now) {
            Ok(()) => true,
            Err(Fenced::KeepAliveExpired) => runs,
            Err(Fenced::Closed) => expires.is_some() && runs && self.lingers(process),
        }
    }

    /// A queue thread says that its memory is not in an association's hands any more.
    pub(crate) fn judge_buffer_fence(&mut self, at: LaneAt, association: AssociationId) {
        let assoc = self.host.assoc(association);
        let mut qps = self.qps.iter();
        let touches = qps.any(|qp| {
            qp.association == assoc && qp.lane == Some(at) && qp.host != HostEnd::Drained
        });
        if touches {
            let what = format!("(6) {at} uses memory again that {assoc} may still touch");
            self.fail(Violation(what));
        }
    }

    /// A request is acknowledged: what it makes durable is.
    pub(crate) fn check_durable(&self, store: StoreId, id: OpId) -> Result<(), Violation> {
        let (checker, medium) = (&self.stores[store].checker, &self.stores[store].medium);
        let op = &checker.ops[id as usize];
        let volatile = |lba: usize| medium.seen[lba] != medium.durable[lba];
        let lost = match op.kind {
            OpKind::Flush => {
                let covered = checker.covered(id).unwrap_or_default();
                let mut blocks = covered.iter().enumerate();
                blocks.position(|(lba, call)| {
                    let writer = op_of(medium.seen[lba]) as usize;
                    checker.ops[writer].call == *call && volatile(lba)
                })
            }
            kind if kind.is_mutation() && op.fua => {
                let mut blocks = op.lba..op.lba + op.blocks;
                let own = |lba: u64| medium.seen[lba as usize] == stamp(store, id, lba);
                blocks
                    .find(|lba| own(*lba) && volatile(*lba as usize))
                    .map(|lba| lba as usize)
            }
            _ => None,
        };
        match lost {
            None => Ok(()),
            Some(lba) => Err(Violation(format!(
                "(9) op {id} is acknowledged, and block {lba} is in the cache alone"
            ))),
        }
    }
}
