//! Which group carries the I/O, and when it moves back to a better one.
//!
//! A group that has no usable path left is always abandoned at once, for the best group that has
//! one. [`Failback`] decides only the other move: away from a group that still works.
//!
//! Groups are formed anew whenever a fact changes, so the active group is remembered by its paths:
//! it is the group that shares most with them.

use core::time::Duration;

use crate::{Group, PathId};

/// When I/O moves from a working group to a better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failback {
    /// At once.
    #[default]
    Immediate,
    /// Never by itself.
    Manual,
    /// At once, but only when the best group gets its first usable path after having none: another
    /// host may have moved the I/O on purpose, and a mere second path must not undo that.
    Followover,
    /// This long after the group became the best, counted anew when one of its paths fails.
    After(Duration),
}

impl Failback {
    /// The configuration's word: `immediate`, `manual`, `followover` or seconds.
    pub fn parse(word: &str) -> Result<Self, crate::UnknownWord> {
        match word {
            "immediate" => Ok(Self::Immediate),
            "manual" => Ok(Self::Manual),
            "followover" => Ok(Self::Followover),
            seconds => match seconds.parse::<u32>() {
                Ok(0) => Ok(Self::Immediate),
                Ok(seconds) => Ok(Self::After(Duration::from_secs(u64::from(seconds)))),
                Err(_) => Err(crate::UnknownWord {
                    expected: "failback policy",
                    word: word.into(),
                    known: &["immediate", "manual", "followover", "<seconds>"],
                }),
            },
        }
    }
}

/// Why the active group changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// It did not.
    Stay,
    /// There was none before: the first usable path, ever or after a time without any.
    First,
    /// The group before it has no usable path left.
    Failover,
    /// The group before it still works; this one is better.
    Failback,
}

/// Remembers the active group and the wait before a delayed failback.
#[derive(Debug, Clone, Default)]
pub struct ActiveGroup {
    /// Paths of the active group when last settled; empty while there is none.
    members: PathSet,
    /// Paths usable when last settled, those of the marginal group aside.
    usable: PathSet,
    /// The better group waited for, and until when.
    pending: Option<(PathSet, Duration)>,
    /// The group was chosen by hand: nothing better tempts it away.
    chosen: bool,
}

impl ActiveGroup {
    /// Looks at `groups` (best first), moves if `policy` says so, and answers which group is active
    /// now (`None`: no group has a usable path) and why it changed.
    pub fn settle(
        &mut self,
        policy: Failback,
        groups: &[Group],
        now: Duration,
    ) -> (Option<usize>, Switch) {
        let usable_before = self.usable;
        // A path that is only kept for the last resort is not there for its own group.
        let sound = groups.iter().filter(|group| !group.marginal);
        self.usable = PathSet::of(
            sound
                .flat_map(|group| &group.paths)
                .filter(|path| path.usable)
                .map(|p| p.id),
        );
        let Some(best) = groups.iter().position(|group| group.usable() > 0) else {
            self.pending = None;
            self.chosen = false;
            self.members = PathSet::default();
            return (None, Switch::Stay);
        };
        let current = self.position(groups).filter(|at| has_usable(groups, *at));
        let (active, switch) = match current {
            None if self.members.is_empty() => (best, Switch::First),
            None => (best, Switch::Failover),
            Some(current) if best == current || self.chosen => (current, Switch::Stay),
            Some(current) => {
                let better = groups.get(best).map(members).unwrap_or_default();
                if self.fails_back(policy, better, usable_before, now) {
                    (best, Switch::Failback)
                } else {
                    (current, Switch::Stay)
                }
            }
        };
        // The best group needs no choice to stay.
        if switch != Switch::Stay || current == Some(best) {
            self.pending = None;
            self.chosen = false;
        }
        self.members = groups.get(active).map(members).unwrap_or_default();
        (Some(active), switch)
    }

    /// When to [settle](Self::settle) again although nothing changed.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.pending.map(|(_, at)| at)
    }

    /// Makes the group of `path` the active one by hand, failback policy notwithstanding, until
    /// none of its paths is usable or another is chosen. Takes effect with the next
    /// [settle](Self::settle), which moves on if that group is not usable.
    pub fn choose(&mut self, path: PathId) {
        self.members = PathSet::of([path]);
        self.pending = None;
        self.chosen = true;
    }

    fn fails_back(
        &mut self,
        policy: Failback,
        better: PathSet,
        usable_before: PathSet,
        now: Duration,
    ) -> bool {
        if !matches!(policy, Failback::After(_)) {
            // A wait that another policy began.
            self.pending = None;
        }
        match policy {
            Failback::Immediate => true,
            Failback::Manual => false,
            Failback::Followover => !better.intersects(usable_before),
            Failback::After(delay) => {
                let failed = usable_before.without(self.usable);
                let deadline = match self.pending {
                    Some((waited, at))
                        if waited.intersects(better) && !better.intersects(failed) =>
                    {
                        at
                    }
                    _ => now.saturating_add(delay),
                };
                self.pending = Some((better, deadline));
                now >= deadline
            }
        }
    }

    fn position(&self, groups: &[Group]) -> Option<usize> {
        let mut found: Option<(usize, u32)> = None;
        for (at, group) in groups.iter().enumerate() {
            let shared = members(group).shared(self.members);
            if shared > found.map_or(0, |(_, most)| most) {
                found = Some((at, shared));
            }
        }
        found.map(|(at, _)| at)
    }
}

fn has_usable(groups: &[Group], at: usize) -> bool {
    groups.get(at).is_some_and(|group| group.usable() > 0)
}

fn members(group: &Group) -> PathSet {
    PathSet::of(group.paths.iter().map(|path| path.id))
}

/// A set of path numbers, which are below 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct PathSet([u128; 2]);

impl PathSet {
    fn of(ids: impl IntoIterator<Item = PathId>) -> Self {
        let mut words = [0; 2];
        for id in ids {
            let [low, high] = &mut words;
            let word = if id.0 < 128 { low } else { high };
            *word |= 1_u128 << (id.0 % 128);
        }
        Self(words)
    }

    fn shared(self, other: Self) -> u32 {
        let ([a, b], [c, d]) = (self.0, other.0);
        (a & c).count_ones() + (b & d).count_ones()
    }

    fn without(self, other: Self) -> Self {
        let ([a, b], [c, d]) = (self.0, other.0);
        Self([a & !c, b & !d])
    }

    fn intersects(self, other: Self) -> bool {
        self.shared(other) > 0
    }

    fn is_empty(self) -> bool {
        self.0 == [0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ranked;

    const SECOND: Duration = Duration::from_secs(1);

    /// Groups of paths; a negative entry is the path `-entry - 1`, not usable.
    fn groups(spec: &[&[i16]]) -> Vec<Group> {
        let path = |entry: &i16| Ranked {
            id: PathId(if *entry < 0 { -*entry - 1 } else { *entry } as u8),
            priority: 1,
            usable: *entry >= 0,
        };
        spec.iter()
            .map(|entries| Group {
                paths: entries.iter().map(path).collect(),
                priority: 1,
                marginal: false,
            })
            .collect()
    }

    fn run(policy: Failback, steps: &[&[&[i16]]]) -> Vec<(Option<usize>, Switch)> {
        let mut active = ActiveGroup::default();
        steps
            .iter()
            .zip(0..)
            .map(|(spec, second)| active.settle(policy, &groups(spec), SECOND * second))
            .collect()
    }

    #[test]
    fn immediate_moves_back_at_once() {
        assert_eq!(
            run(
                Failback::Immediate,
                &[&[&[0], &[1]], &[&[1], &[-1]], &[&[0], &[1]]]
            ),
            [
                (Some(0), Switch::First),
                (Some(0), Switch::Failover),
                (Some(0), Switch::Failback),
            ]
        );
    }

    #[test]
    fn manual_stays_until_the_group_is_empty() {
        assert_eq!(
            run(
                Failback::Manual,
                &[
                    &[&[0], &[1, 2]],
                    &[&[1, 2], &[-1]],
                    &[&[0], &[1, 2]],
                    &[&[0], &[1, -3]],
                    &[&[0], &[-2, -3]],
                    &[&[-1], &[-2, -3]],
                    &[&[1, -3], &[-1]],
                ]
            ),
            [
                (Some(0), Switch::First),
                (Some(0), Switch::Failover),
                (Some(1), Switch::Stay),
                (Some(1), Switch::Stay),
                (Some(0), Switch::Failover),
                (None, Switch::Stay),
                (Some(0), Switch::First),
            ]
        );
    }

    #[test]
    fn followover_moves_only_for_the_first_path_of_the_better_group() {
        assert_eq!(
            run(
                Failback::Followover,
                &[&[&[0, 1], &[2]], &[&[2], &[-1, -2]], &[&[0, -2], &[2]],]
            ),
            [
                (Some(0), Switch::First),
                (Some(0), Switch::Failover),
                (Some(0), Switch::Failback),
            ]
        );
        let mut active = ActiveGroup::default();
        active.settle(Failback::Followover, &groups(&[&[0, -2], &[2]]), SECOND);
        active.choose(PathId(2));
        active.chosen = false;
        let second_path = groups(&[&[0, 1], &[2]]);
        let settled = active.settle(Failback::Followover, &second_path, SECOND);
        assert_eq!(
            settled,
            (Some(1), Switch::Stay),
            "a second path is no reason"
        );
    }

    #[test]
    fn delayed_failback_waits_and_starts_over_when_a_path_fails() {
        let mut active = ActiveGroup::default();
        let policy = Failback::After(SECOND * 5);
        let mut settle = |spec: &[&[i16]], second| {
            let settled = active.settle(policy, &groups(spec), SECOND * second);
            (settled, active.poll_timeout().map(|at| at.as_secs()))
        };
        assert_eq!(
            settle(&[&[0, 1], &[2]], 0),
            ((Some(0), Switch::First), None)
        );
        assert_eq!(
            settle(&[&[2], &[-1, -2]], 1),
            ((Some(0), Switch::Failover), None)
        );
        assert_eq!(
            settle(&[&[0, 1], &[2]], 2),
            ((Some(1), Switch::Stay), Some(7))
        );
        assert_eq!(
            settle(&[&[0, -2], &[2]], 4),
            ((Some(1), Switch::Stay), Some(9))
        );
        assert_eq!(
            settle(&[&[0, 1], &[2]], 8),
            ((Some(1), Switch::Stay), Some(9))
        );
        assert_eq!(
            settle(&[&[0, 1], &[2]], 9),
            ((Some(0), Switch::Failback), None)
        );
    }

    #[test]
    fn delayed_failback_is_forgotten_with_the_better_group() {
        let mut active = ActiveGroup::default();
        let policy = Failback::After(SECOND);
        active.settle(policy, &groups(&[&[1], &[-1]]), SECOND);
        active.settle(policy, &groups(&[&[0], &[1]]), SECOND);
        assert!(active.poll_timeout().is_some());
        active.settle(policy, &groups(&[&[1], &[-1]]), SECOND);
        assert_eq!(active.poll_timeout(), None);
    }

    #[test]
    fn a_delayed_failback_is_forgotten_with_its_policy() {
        let mut active = ActiveGroup::default();
        active.settle(Failback::Manual, &groups(&[&[1], &[-1]]), SECOND);
        let both = groups(&[&[0], &[1]]);
        active.settle(Failback::After(SECOND), &both, SECOND);
        assert_eq!(active.poll_timeout(), Some(SECOND * 2));
        active.settle(Failback::Manual, &both, SECOND);
        assert_eq!(active.poll_timeout(), None);
    }

    #[test]
    fn a_group_chosen_by_hand_stays_until_it_is_empty() {
        let mut active = ActiveGroup::default();
        let mut settle = |spec: &[&[i16]], choice: Option<u8>| {
            if let Some(path) = choice {
                active.choose(PathId(path));
            }
            active.settle(Failback::Immediate, &groups(spec), SECOND)
        };
        settle(&[&[0], &[1], &[2]], None);
        let both = [&[0][..], &[1], &[2]];
        assert_eq!(settle(&both, Some(1)), (Some(1), Switch::Stay));
        assert_eq!(settle(&both, None), (Some(1), Switch::Stay), "nor later");
        let empty = settle(&[&[0], &[2], &[-2]], None);
        assert_eq!(empty, (Some(0), Switch::Failover));
        assert_eq!(settle(&both, None), (Some(0), Switch::Stay));
        settle(&both, Some(2));
        settle(&both, Some(0));
        assert_eq!(settle(&[&[1], &[0]], None), (Some(0), Switch::Failback));
    }

    #[test]
    fn regrouping_keeps_the_group_that_shares_most() {
        let mut active = ActiveGroup::default();
        active.settle(Failback::Manual, &groups(&[&[0, 1, 2]]), SECOND);
        let apart = groups(&[&[2], &[0, 1]]);
        assert_eq!(
            active.settle(Failback::Manual, &apart, SECOND),
            (Some(1), Switch::Stay)
        );
        let joined = groups(&[&[200, 0, 1], &[2]]);
        assert_eq!(
            active.settle(Failback::Manual, &joined, SECOND),
            (Some(0), Switch::Stay)
        );
    }

    #[test]
    fn words() {
        assert_eq!(Failback::parse("10"), Ok(Failback::After(SECOND * 10)));
        assert_eq!(Failback::parse("manual"), Ok(Failback::Manual));
        assert!(Failback::parse("soon").is_err());
    }
}
