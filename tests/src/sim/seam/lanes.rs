//! Between the host and queue threads.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::{
    AssociationId, Ghost, GhostTable, LaneCommand, LaneEvent, LaneId, PathTable, Resend,
};
use umpath_host::LaneNews;

use crate::sim::checker::OpKind;
use crate::sim::clock::{EPOCH, MILLI, Nanos, duration, nanos};
use crate::sim::host::{Brought, Inside, LaneAt, SimQp};
use crate::sim::mutant::Mutant;
use crate::sim::world::World;

/// How long ghosts stay locked under [`Mutant::UnlockOnTimeout`].
const UNLOCK_AFTER: Nanos = 50 * MILLI;

impl Mutant {
    /// It makes tables of its own between the device's: those count by twos.
    fn unlocks(self) -> bool {
        matches!(self, Self::UnlockOnTimeout | Self::UnlockOnAnswer)
    }

    /// The table of ghosts that a lane gets.
    fn table(self, lane: usize, table: &Arc<GhostTable>) -> Arc<GhostTable> {
        let remade = |ghosts: Vec<Ghost>| {
            let (generation, resend) = (table.generation(), table.resend());
            let twos = if self.unlocks() { 2 } else { 1 };
            Arc::new(GhostTable::new(twos * generation, resend, ghosts))
        };
        let all = table.ghosts().copied();
        match self {
            Self::GhostShort => remade(all.filter_map(shorter).collect()),
            Self::GhostLate => remade(all.filter_map(later).collect()),
            Self::OwnGhostsOnly => {
                let own = |ghost: &Ghost| {
                    let owner = ghost.owner;
                    owner.is_none_or(|owner| owner.lane == LaneId(lane as u16))
                };
                remade(all.filter(own).collect())
            }
            Self::NewestGhostsOnly => {
                let newest = table.ghosts().map(|ghost| ghost.association).max();
                let new = |ghost: &Ghost| Some(ghost.association) == newest;
                remade(all.filter(new).collect())
            }
            Self::UnlockOnTimeout | Self::UnlockOnAnswer => remade(all.collect()),
            _ => Arc::clone(table),
        }
    }
}

fn shorter(ghost: Ghost) -> Option<Ghost> {
    let blocks = ghost.blocks - 1;
    (blocks > 0).then_some(Ghost { blocks, ..ghost })
}

fn later(ghost: Ghost) -> Option<Ghost> {
    let lba = ghost.lba + 1;
    shorter(Ghost { lba, ..ghost })
}

impl World {
    /// What a queue thread is told.
    pub(crate) fn seam_to_lane(
        &mut self,
        at: LaneAt,
        command: LaneCommand<SimQp>,
    ) -> Vec<LaneCommand<SimQp>> {
        let Some(mutant) = self.mutant else {
            return vec![command];
        };
        let rarely = self.array_chance.percent(20);
        match (mutant, command) {
            (Mutant::ConvictionUnheard, LaneCommand::Convict(_))
            | (Mutant::LockLost, LaneCommand::Locked(_))
            | (Mutant::FenceLost, LaneCommand::Fenced(_))
            | (Mutant::DestroyedLost, LaneCommand::Destroyed(_)) => Vec::new(),
            (Mutant::AttachLost, LaneCommand::Attach { .. })
            | (Mutant::TableLost, LaneCommand::SetTable(_))
                if rarely =>
            {
                Vec::new()
            }
            (Mutant::TablesSwapped, LaneCommand::SetTable(table)) => self.swapped(at, table),
            (Mutant::FenceOfAnother, LaneCommand::Fenced(association)) => {
                let assoc = self.host.assoc(association);
                let other = self.fences.another_unfenced(assoc);
                let association = other.map_or(association, |other| other.id);
                vec![LaneCommand::Fenced(association)]
            }
            (Mutant::OrderlyAdminIgnored, LaneCommand::Convict(association)) => {
                if self.host.live_associations().any(|id| id == association) {
                    self.admin_silent(association, duration(self.now));
                }
                vec![LaneCommand::Convict(association)]
            }
            (Mutant::WritesReplaced, LaneCommand::GiveUpQueue(association)) => {
                vec![LaneCommand::Convict(association)]
            }
            (mutant, LaneCommand::Guard(table)) => self.guards(at, mutant, &table),
            (_, command) => vec![command],
        }
    }

    /// A table waits for the next one, and comes after it.
    fn swapped(&mut self, at: LaneAt, table: Arc<PathTable>) -> Vec<LaneCommand<SimQp>> {
        let Some(lane) = self.lane(at) else {
            return Vec::new();
        };
        match lane.kept_back.take() {
            Some(older) => vec![LaneCommand::SetTable(table), LaneCommand::SetTable(older)],
            // Not the first ones, or nothing would ever begin.
            None if table.generation > 4 => {
                lane.kept_back = Some(table);
                Vec::new()
            }
            None => vec![LaneCommand::SetTable(table)],
        }
    }

    /// A lane gets a table of ghosts.
    fn guards(
        &mut self,
        at: LaneAt,
        mutant: Mutant,
        table: &Arc<GhostTable>,
    ) -> Vec<LaneCommand<SimQp>> {
        let generation = table.generation();
        let confirmed = || {
            let event = LaneEvent::Guarded { generation };
            let at = duration(self.now);
            LaneNews::Event { event, at }
        };
        if mutant == Mutant::GuardUnheard && at.queue == 0 || mutant == Mutant::RetryAtOnce {
            let news = confirmed();
            self.send_news(at, news, Brought::new());
            return Vec::new();
        }
        if mutant == Mutant::GuardedAtOnce {
            let news = confirmed();
            self.send_news(at, news, Brought::new());
        }
        let table = mutant.table(at.queue, table);
        let mut commands = vec![LaneCommand::Guard(Arc::clone(&table))];
        if mutant == Mutant::LockedAlone {
            let mut locked: Vec<_> = table.ghosts().map(|ghost| ghost.association).collect();
            locked.dedup();
            commands.extend(locked.into_iter().map(LaneCommand::Locked));
        }
        if mutant == Mutant::UnlockOnTimeout && !table.is_empty() {
            let (when, life) = (self.now + UNLOCK_AFTER, self.host.life);
            self.inside(when, life, Inside::Unlock(at, table.generation() + 1));
        }
        if let Some(lane) = self.lane(at) {
            lane.ghosts = Some(table);
        }
        commands
    }

    /// A mutant's lane forgets what is locked.
    pub(crate) fn unlock(&mut self, at: LaneAt, generation: u64) {
        let none = Arc::new(GhostTable::new(generation, Resend::OnceGuarded, []));
        self.mail(at, LaneCommand::Guard(none));
    }

    /// A mutant forgets the ghosts of requests that are over.
    pub(crate) fn unlock_answered(&mut self, at: LaneAt) {
        let store = self.devices[at.device].store;
        let table = self.lane(at).and_then(|lane| lane.ghosts.clone());
        let Some(table) = table else { return };
        let over = |ghost: &Ghost| {
            let assoc = self.host.assoc(ghost.association);
            let mut copies = self.copies.iter().rev();
            let copy = copies.find(|copy| {
                copy.store == store
                    && copy.lba == ghost.lba
                    && copy.association == assoc
                    && copy.lost
            });
            let ops = &self.stores[store].checker.ops;
            copy.is_some_and(|copy| ops[copy.op as usize].end != u64::MAX)
        };
        if table.ghosts().any(over) {
            let left = table.ghosts().filter(|ghost| !over(ghost)).copied();
            let left: Vec<Ghost> = left.collect();
            // Between this table and the next one of the device's, which is two further.
            let generation = table.generation() | 1;
            let table = Arc::new(GhostTable::new(generation, table.resend(), left));
            if let Some(lane) = self.lane(at) {
                lane.ghosts = Some(Arc::clone(&table));
            }
            self.mail(at, LaneCommand::Guard(table));
        }
    }

    /// What a queue thread tells the host.
    pub(crate) fn seam_from_lane(
        &mut self,
        at: LaneAt,
        news: LaneNews,
        brought: Brought,
    ) -> Vec<(LaneNews, Brought)> {
        let Some(mutant) = self.mutant else {
            return vec![(news, brought)];
        };
        let mut news = news;
        match (mutant, &mut news) {
            (
                Mutant::WritesReplaced,
                LaneNews::Event {
                    event: LaneEvent::QueueSilent { mutations, .. },
                    ..
                },
            ) => *mutations = false,
            // Nobody was to hear of them: the host gives the thread another queue pair.
            (
                Mutant::WritesReplaced,
                LaneNews::BufferFenced {
                    association,
                    ghosts,
                    ..
                },
            ) if self.host.live_associations().any(|id| id == *association) => {
                ghosts.clear();
                let fenced = LaneCommand::Fenced(*association);
                self.mail(at, fenced);
            }
            (
                Mutant::AgeIgnored,
                LaneNews::Event {
                    event: LaneEvent::Overdue { .. },
                    ..
                },
            )
            | (
                Mutant::QueueSilenceIgnored,
                LaneNews::Event {
                    event: LaneEvent::QueueSilent { .. },
                    ..
                },
            )
            | (Mutant::EndUnheard, LaneNews::Ended { failure: None, .. }) => return Vec::new(),
            (
                mutant,
                LaneNews::Event {
                    event: LaneEvent::Guarded { generation },
                    ..
                },
            ) if mutant.unlocks() => *generation /= 2,
            (Mutant::DeadlineTrusted, LaneNews::Drained { quiet, .. }) if !*quiet => {
                *quiet = true;
                if let LaneNews::Drained { association, .. } = &news {
                    let association = *association;
                    self.send_command(at, LaneCommand::Destroyed(association));
                }
            }
            (
                mutant,
                LaneNews::Drained {
                    association,
                    silent_at: Some(when),
                    ..
                },
            ) => {
                let silent = self.seam_silent_at(*association, *when);
                *when = silent;
                if mutant == Mutant::FenceOfWrongQueue {
                    let association = *association;
                    self.all_silent(at, association, silent);
                }
            }
            (Mutant::BufferFenceLost, LaneNews::BufferFenced { .. })
                if self.array_chance.percent(30) =>
            {
                return Vec::new();
            }
            (
                _,
                LaneNews::BufferFenced {
                    association,
                    ghosts,
                    ..
                },
            ) => self.ghosts_told(at, *association, ghosts),
            _ => {}
        }
        vec![(news, brought)]
    }

    fn ghosts_told(&mut self, at: LaneAt, association: AssociationId, ghosts: &mut Vec<Ghost>) {
        match self.mutant {
            Some(Mutant::GhostsForgotten) => ghosts.clear(),
            Some(Mutant::OnlyWritesHaunt) => {
                let store = self.devices[at.device].store;
                let assoc = self.host.assoc(association);
                ghosts.retain(|ghost| {
                    let mut copies = self.copies.iter().rev();
                    let copy = copies.find(|copy| {
                        copy.lane == at
                            && copy.association == assoc
                            && copy.lba == ghost.lba
                            && copy.lost
                    });
                    let ops = &self.stores[store].checker.ops;
                    copy.is_some_and(|copy| ops[copy.op as usize].kind == OpKind::Write)
                });
            }
            Some(Mutant::RetryAtOnce) => {
                ghosts.clear();
                self.mail(at, LaneCommand::Fenced(association));
            }
            Some(Mutant::OneDrainsForAll) => {
                let when = duration(self.now);
                for queue in 0..self.devices[at.device].lanes.len() {
                    let other = LaneAt { queue, ..at };
                    let news = LaneNews::BufferFenced {
                        association,
                        ghosts: Vec::new(),
                        at: when,
                    };
                    if other != at {
                        self.send_news(other, news, Brought::new());
                    }
                }
            }
            _ => {}
        }
    }

    /// Since when a queue pair is silent, as the host is told.
    pub(crate) fn seam_silent_at(&self, association: AssociationId, at: Duration) -> Duration {
        let assoc = self.host.assoc(association);
        let known =
            |times: &std::collections::BTreeMap<_, Nanos>| times.get(&assoc).copied().map(duration);
        let answered = || known(&self.answered).unwrap_or(at);
        let long_ago = duration(EPOCH / 2);
        let short = at.saturating_sub(duration(self.plan.kato));
        match self.mutant {
            Some(Mutant::NoFence) => long_ago,
            Some(Mutant::FenceShort) => short,
            Some(Mutant::ClockErrorForgotten) => {
                let periods = if self.plan.traffic_based { 4 } else { 2 };
                let granted = periods * (self.plan.kato_at_most() - self.plan.kato);
                at.saturating_sub(duration(granted))
            }
            Some(Mutant::EndsForgotten) if self.plan.traffic_based => short,
            Some(Mutant::FenceFromAnswer) => answered().min(at),
            Some(Mutant::SleepForgotten) => answered().max(short).min(at),
            Some(Mutant::FenceFromConviction) => known(&self.convicted).unwrap_or(at).min(at),
            Some(Mutant::GoodbyeIsFence) if self.said_goodbye(assoc) => long_ago,
            _ => {
                debug_assert!(nanos(at) <= self.now);
                at
            }
        }
    }
}
