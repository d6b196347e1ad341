//! Faults on demand: which commands of this target misbehave, and how.
//!
//! For drills and tests. Decided here: which rule applies to a command (the oldest that matches and still
//! has hits left) and the draw of its probability, from the rule's own seed, so that the same
//! commands share the same fate again; and at which point of a command's life an action does what
//! (`points`). Not decided here: how that is carried out, which is the engine's.

mod points;
mod select;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use umpath_nvme::Status;

pub use points::{AtExecution, AtResponse};
pub use select::{BlockRange, Command, Kind, Queues, Selection};

/// Rules a table holds at most.
const RULES_MAX: usize = 64;

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Executed at once, answered so much later.
    Delay {
        /// Milliseconds.
        ms: u32,
    },
    /// Executed so much later, whatever became of the connection meanwhile, as by a controller that
    /// is stuck; then answered.
    Park {
        /// Milliseconds.
        ms: u32,
        /// The controller's gate is asked before the wait and not after it: a controller that lies
        /// about having stopped. Only to show that a test notices.
        #[serde(default)]
        beyond_gate: bool,
    },
    /// Executed, never answered.
    Drop,
    /// Neither executed nor answered.
    Hang,
    /// Not executed, answered with this status.
    Error {
        /// Status code type and code as Linux prints them, DNR (4000h) included.
        status: u16,
    },
}

/// A rule as it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which commands.
    #[serde(default)]
    pub on: Selection,
    /// What becomes of them.
    pub action: Action,
    /// How many commands at most; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Share of the matching commands that are hit.
    #[serde(default = "always")]
    pub probability: f64,
    /// Seed of the draw.
    #[serde(default)]
    pub seed: u64,
}

fn always() -> f64 {
    1.0
}

/// A rule in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its number, never used again.
    pub id: u32,
    /// What was asked for.
    pub fault: Fault,
    /// Commands it has hit.
    pub hits: u64,
    /// State of the draw.
    #[serde(skip)]
    draw: u64,
}

/// Why a rule was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum FaultError {
    /// Not a share.
    #[error("a probability of {0} is outside 0 to 1")]
    Probability(f64),
    /// A range that ends before it begins.
    #[error("blocks {first} to {last} are no range")]
    Range {
        /// First block.
        first: u64,
        /// Last block.
        last: u64,
    },
    /// Nothing would tell the host that its command failed.
    #[error("status 0 is success; give a status such as 0x300 (path error)")]
    Success,
    /// Too many rules.
    #[error("the target holds {RULES_MAX} rules already; clear some")]
    Full,
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Table {
    rules: Vec<Rule>,
    last_id: u32,
}

impl Table {
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, oldest first; those without hits left too, for their counts.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Adds a rule and returns its number.
    pub fn add(&mut self, fault: Fault) -> Result<u32, FaultError> {
        if !(0.0..=1.0).contains(&fault.probability) {
            return Err(FaultError::Probability(fault.probability));
        }
        if let Some(BlockRange { first, last }) = fault.on.blocks
            && last < first
        {
            return Err(FaultError::Range { first, last });
        }
        let success = |status| Status::from_raw(status).is_success();
        if matches!(fault.action, Action::Error { status } if success(status)) {
            return Err(FaultError::Success);
        }
        if self.rules.len() >= RULES_MAX {
            return Err(FaultError::Full);
        }
        self.last_id += 1;
        let (id, draw) = (self.last_id, fault.seed);
        self.rules.push(Rule {
            id,
            fault,
            hits: 0,
            draw,
        });
        Ok(id)
    }

    /// Takes one rule away, or all; how many there were.
    pub fn clear(&mut self, id: Option<u32>) -> usize {
        let before = self.rules.len();
        self.rules.retain(|rule| id.is_some_and(|id| id != rule.id));
        before - self.rules.len()
    }

    /// What becomes of a command, if it is not simply executed.
    pub fn action(&mut self, command: &Command) -> Option<Action> {
        self.rules.iter_mut().find_map(|rule| rule.action(command))
    }
}

impl Rule {
    fn action(&mut self, command: &Command) -> Option<Action> {
        let left = self.fault.count.is_none_or(|count| self.hits < count);
        if !left || !self.fault.on.takes(command) || !self.drawn() {
            return None;
        }
        self.hits += 1;
        Some(self.fault.action)
    }

    fn drawn(&mut self) -> bool {
        if self.fault.probability >= 1.0 {
            return true;
        }
        // SplitMix64: 53 of its bits are a number in 0..1.
        self.draw = self.draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.draw;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64) / ((1_u64 << 53) as f64) < self.fault.probability
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay { ms } => write!(f, "answer after {ms} ms"),
            Self::Park {
                ms,
                beyond_gate: false,
            } => write!(f, "execute after {ms} ms"),
            Self::Park { ms, .. } => write!(f, "execute after {ms} ms whatever the gate says"),
            Self::Drop => f.write_str("execute, never answer"),
            Self::Hang => f.write_str("never execute, never answer"),
            Self::Error { status } => write!(f, "answer with status {status:#x}"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.id, self.fault.on, self.fault.action)?;
        if self.fault.probability < 1.0 {
            let Fault {
                probability, seed, ..
            } = self.fault;
            write!(f, ", probability {probability} (seed {seed})")?;
        }
        match self.fault.count {
            Some(count) => write!(f, ", {} of {count} hits", self.hits),
            None => write!(f, ", {} hits", self.hits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(action: Action) -> Fault {
        Fault {
            on: Selection::default(),
            action,
            count: None,
            probability: 1.0,
            seed: 1,
        }
    }

    fn write(qid: u16, lba: u64, blocks: u64) -> Command {
        Command {
            cntlid: 7,
            qid,
            opcode: umpath_nvme::opcode::nvm::WRITE,
            blocks: Some((lba, blocks)),
        }
    }

    #[test]
    fn the_oldest_rule_with_hits_left_decides() {
        let mut table = Table::default();
        let once = Fault {
            count: Some(1),
            ..fault(Action::Hang)
        };
        let first = table.add(once).unwrap();
        table.add(fault(Action::Drop)).unwrap();
        assert_eq!(table.action(&write(1, 0, 1)), Some(Action::Hang));
        assert_eq!(table.action(&write(1, 0, 1)), Some(Action::Drop));
        assert_eq!(
            table.rules().iter().map(|r| r.hits).collect::<Vec<_>>(),
            [1, 1]
        );
        assert_eq!((table.clear(Some(first)), table.rules().len()), (1, 1));
        assert_eq!(table.clear(Some(first)), 0, "numbers are not used again");
        assert_eq!((table.clear(None), table.is_empty()), (1, true));
        assert_eq!(table.action(&write(1, 0, 1)), None);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let draw = |seed| {
            let mut table = Table::default();
            let rare = Fault {
                probability: 0.25,
                seed,
                ..fault(Action::Drop)
            };
            table.add(rare).unwrap();
            (0..4000)
                .map(|lba| table.action(&write(1, lba, 1)).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        let hits = draw(3).iter().filter(|hit| **hit).count();
        assert!((900..1100).contains(&hits), "{hits} of 4000 at 0.25");
    }

    #[test]
    fn senseless_rules_are_refused() {
        let mut table = Table::default();
        let mut bad = fault(Action::Drop);
        bad.probability = f64::NAN;
        assert!(matches!(table.add(bad), Err(FaultError::Probability(_))));
        let mut bad = fault(Action::Drop);
        bad.on.blocks = Some(BlockRange { first: 5, last: 4 });
        assert!(matches!(table.add(bad), Err(FaultError::Range { .. })));
        let bad = fault(Action::Error { status: 0x4000 });
        assert_eq!(table.add(bad), Err(FaultError::Success));
        for _ in 0..RULES_MAX {
            table.add(fault(Action::Drop)).unwrap();
        }
        assert_eq!(table.add(fault(Action::Drop)), Err(FaultError::Full));
    }

    #[test]
    fn rules_are_shown_in_words() {
        let mut table = Table::default();
        let mut some = fault(Action::Park {
            ms: 3000,
            beyond_gate: false,
        });
        some.on.kind = Kind::Write;
        some.on.blocks = Some("8-15".parse().unwrap());
        some.count = Some(1);
        table.add(some).unwrap();
        table.action(&write(2, 15, 4));
        let shown = table.rules().first().map(ToString::to_string);
        let expected = "1: writes of I/O queues, blocks 8-15: execute after 3000 ms, 1 of 1 hits";
        assert_eq!(shown.as_deref(), Some(expected));
    }
}
