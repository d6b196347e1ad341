//! Which paths stand together, and which group is best.
//!
//! Every path is in exactly one group, usable or not: an operator wants to see the standby group
//! before it is needed. Order: groups with a usable path before those without, sound before
//! marginal, then mean priority of the usable paths, then their number, then configuration order.

use core::cmp::Reverse;

use crate::{ControllerKey, PathFacts, PathId, Prioritizer, Priority, UnknownWord};

const WORDS: &[&str] = &[
    "failover",
    "multibus",
    "group_by_prio",
    "group_by_serial",
    "group_by_ana_group",
];

/// How paths are put into priority groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grouping {
    /// One path to a group.
    Failover,
    /// All paths in one group.
    Multibus,
    /// Paths of one priority.
    #[default]
    ByPriority,
    /// Paths to one controller.
    BySerial,
    /// Paths whose namespace is in one ANA group.
    ByAnaGroup,
}

impl Grouping {
    /// Understands `path_grouping_policy`.
    pub fn parse(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "failover" => Ok(Self::Failover),
            "multibus" => Ok(Self::Multibus),
            "group_by_prio" => Ok(Self::ByPriority),
            "group_by_serial" => Ok(Self::BySerial),
            "group_by_ana_group" => Ok(Self::ByAnaGroup),
            _ => Err(UnknownWord {
                expected: "path grouping policy",
                word: word.into(),
                known: WORDS,
            }),
        }
    }

    /// The configuration's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Multibus => "multibus",
            Self::ByPriority => "group_by_prio",
            Self::BySerial => "group_by_serial",
            Self::ByAnaGroup => "group_by_ana_group",
        }
    }
}

/// A path with what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranked {
    /// The path.
    pub id: PathId,
    /// Its worth.
    pub priority: Priority,
    /// It may carry I/O now.
    pub usable: bool,
}

/// Paths that stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Never empty; configuration order.
    pub paths: Vec<Ranked>,
    /// Mean priority of the usable paths, of all paths where none is usable.
    pub priority: Priority,
    /// Holds the shaky paths.
    pub marginal: bool,
}

impl Group {
    /// How many of its paths may carry I/O now.
    pub fn usable(&self) -> usize {
        self.paths.iter().filter(|path| path.usable).count()
    }

    /// `id` is one of its paths.
    pub fn contains(&self, id: PathId) -> bool {
        self.paths.iter().any(|path| path.id == id)
    }
}

/// Settings of [`group_paths`] that are not the grouping itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ranking {
    /// Where priorities come from.
    pub prioritizer: Prioritizer,
    /// A preferred path is in a class of its own even where it is optimized.
    pub exclusive_pref_bit: bool,
    /// Shaky paths form groups of last resort.
    pub marginal_pathgroups: bool,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Key {
    Path(PathId),
    All,
    Priority(Priority),
    Controller(Option<ControllerKey>),
    AnaGroup(u32),
}

/// Puts `paths` into groups, best group first.
pub fn group_paths(grouping: Grouping, ranking: Ranking, paths: &[PathFacts]) -> Vec<Group> {
    let prioritizer = ranking.prioritizer.settled(paths);
    let mut keyed: Vec<((bool, Key), Group)> = Vec::new();
    for path in paths {
        let priority = prioritizer.priority(path, ranking.exclusive_pref_bit);
        let key = match grouping {
            Grouping::Failover => Key::Path(path.id),
            Grouping::Multibus => Key::All,
            Grouping::ByPriority => Key::Priority(priority),
            Grouping::BySerial => Key::Controller(path.controller),
            Grouping::ByAnaGroup => Key::AnaGroup(path.ana_group),
        };
        let marginal = ranking.marginal_pathgroups && path.marginal;
        let ranked = Ranked {
            id: path.id,
            priority,
            usable: path.usable,
        };
        match keyed.iter_mut().find(|(of, _)| *of == (marginal, key)) {
            Some((_, group)) => group.paths.push(ranked),
            None => keyed.push((
                (marginal, key),
                Group {
                    paths: vec![ranked],
                    priority: 0,
                    marginal,
                },
            )),
        }
    }
    let mut groups: Vec<Group> = keyed.into_iter().map(|(_, group)| group).collect();
    for group in &mut groups {
        group.priority = mean_priority(&group.paths);
    }
    // The sort is stable, so configuration order settles what is left.
    groups.sort_by_key(|group| {
        let usable = group.usable();
        (
            usable == 0,
            group.marginal,
            Reverse(group.priority),
            Reverse(usable),
        )
    });
    groups
}

fn mean_priority(paths: &[Ranked]) -> Priority {
    let mean = |only_usable: bool| {
        let mut sum = 0_i64;
        let mut count = 0_i64;
        for path in paths.iter().filter(|path| path.usable || !only_usable) {
            sum += i64::from(path.priority);
            count += 1;
        }
        sum.checked_div(count)
    };
    // A mean of 32-bit numbers fits 32 bits.
    mean(true).or_else(|| mean(false)).unwrap_or(0) as Priority
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AnaState;

    fn path(id: u8, ana: AnaState) -> PathFacts {
        PathFacts {
            id: PathId(id),
            usable: ana.accessible(),
            ana: Some(ana),
            ana_group: u32::from(id) + 1,
            controller: Some(ControllerKey {
                serial: [1; 20],
                cntlid: u16::from(id / 2),
            }),
            preferred: false,
            weight: i32::from(id),
            marginal: false,
        }
    }

    fn ids(groups: &[Group]) -> Vec<Vec<u8>> {
        groups
            .iter()
            .map(|group| group.paths.iter().map(|path| path.id.0).collect())
            .collect()
    }

    fn four() -> [PathFacts; 4] {
        [
            path(0, AnaState::NonOptimized),
            path(1, AnaState::Optimized),
            path(2, AnaState::NonOptimized),
            path(3, AnaState::Optimized),
        ]
    }

    #[test]
    fn each_grouping_forms_its_groups_best_first() {
        let of = |grouping| ids(&group_paths(grouping, Ranking::default(), &four()));
        assert_eq!(of(Grouping::Failover), [vec![1], vec![3], vec![0], vec![2]]);
        assert_eq!(of(Grouping::Multibus), [vec![0, 1, 2, 3]]);
        assert_eq!(of(Grouping::ByPriority), [vec![1, 3], vec![0, 2]]);
        assert_eq!(of(Grouping::BySerial), [vec![0, 1], vec![2, 3]]);
        assert_eq!(
            of(Grouping::ByAnaGroup),
            [vec![1], vec![3], vec![0], vec![2]]
        );
    }

    #[test]
    fn a_group_holds_whatever_has_the_same_key() {
        let mut paths = four();
        paths[3].ana_group = paths[0].ana_group;
        // Two arrays may number their controllers alike.
        paths[1].controller = paths[1].controller.map(|of| ControllerKey {
            serial: [2; 20],
            ..of
        });
        let of = |grouping| ids(&group_paths(grouping, Ranking::default(), &paths));
        assert_eq!(of(Grouping::ByAnaGroup), [vec![1], vec![0, 3], vec![2]]);
        assert_eq!(of(Grouping::BySerial), [vec![1], vec![2, 3], vec![0]]);
    }

    #[test]
    fn unusable_groups_stay_visible_and_last() {
        let mut paths = four();
        paths[1].usable = false;
        paths[3].usable = false;
        let groups = group_paths(Grouping::ByPriority, Ranking::default(), &paths);
        assert_eq!(ids(&groups), [vec![0, 2], vec![1, 3]]);
        assert_eq!(groups[1].priority, 50);
        assert_eq!(groups[1].usable(), 0);
    }

    #[test]
    fn mean_is_over_usable_paths_and_number_breaks_ties() {
        let mut paths = four();
        paths[1].usable = false;
        let groups = group_paths(Grouping::BySerial, Ranking::default(), &paths);
        assert_eq!(ids(&groups), [vec![2, 3], vec![0, 1]]);
        assert_eq!(groups[0].priority, 30);
        assert_eq!(groups[1].priority, 10);
        let ranking = Ranking {
            prioritizer: Prioritizer::Const,
            ..Ranking::default()
        };
        let groups = group_paths(Grouping::BySerial, ranking, &paths);
        assert_eq!(
            ids(&groups),
            [vec![2, 3], vec![0, 1]],
            "two usable paths before one"
        );
        paths[3].usable = false;
        paths[1].usable = true;
        paths[1].ana = Some(AnaState::NonOptimized);
        paths[2].ana = Some(AnaState::Optimized);
        let groups = group_paths(Grouping::BySerial, Ranking::default(), &paths);
        assert_eq!(
            ids(&groups),
            [vec![2, 3], vec![0, 1]],
            "one path of 50 before two of 10"
        );
    }

    #[test]
    fn shaky_paths_are_the_last_resort_only_when_asked_for() {
        let mut paths = four();
        paths[1].marginal = true;
        let mut ranking = Ranking {
            marginal_pathgroups: true,
            ..Ranking::default()
        };
        let groups = group_paths(Grouping::ByPriority, ranking, &paths);
        assert_eq!(ids(&groups), [vec![3], vec![0, 2], vec![1]]);
        assert!(groups[2].marginal);
        ranking.marginal_pathgroups = false;
        let groups = group_paths(Grouping::ByPriority, ranking, &paths);
        assert_eq!(ids(&groups), [vec![1, 3], vec![0, 2]]);
    }

    #[test]
    fn an_exclusively_preferred_path_has_a_group_of_its_own() {
        let mut paths = four();
        paths[3].preferred = true;
        let ranking = Ranking {
            exclusive_pref_bit: true,
            ..Ranking::default()
        };
        let groups = group_paths(Grouping::ByPriority, ranking, &paths);
        assert_eq!(ids(&groups), [vec![3], vec![1], vec![0, 2]]);
        assert_eq!(groups[0].priority, 130);
    }
}
