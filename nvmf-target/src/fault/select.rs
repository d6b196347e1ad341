//! Which commands a rule is about.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use umpath_nvme::Sqe;
use umpath_nvme::command::io::ReadWrite;
use umpath_nvme::opcode::{admin, nvm};

/// What rules can select a command by.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its controller.
    pub cntlid: u16,
    /// Its queue, 0 for the admin queue.
    pub qid: u16,
    /// Its opcode.
    pub opcode: u8,
    /// First block and number of blocks, where the command itself names them.
    pub blocks: Option<(u64, u64)>,
}

impl Command {
    /// A command of queue `qid`.
    pub fn new(cntlid: u16, qid: u16, sqe: &Sqe) -> Self {
        let opcode = sqe.opcode;
        let names_blocks = qid != 0 && matches!(opcode, nvm::READ | nvm::WRITE | nvm::WRITE_ZEROES);
        let blocks = names_blocks.then(|| {
            let command = ReadWrite::parse(sqe);
            (command.slba, u64::from(command.blocks.get()))
        });
        Self {
            cntlid,
            qid,
            opcode,
            blocks,
        }
    }
}

/// A set of commands: all conditions must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Their queue.
    pub queues: Queues,
    /// What they do.
    pub kind: Kind,
    /// Blocks of which they touch at least one; commands that name no blocks do not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<BlockRange>,
    /// Their controller; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cntlid: Option<u16>,
}

/// Which queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Queues {
    /// All I/O queues.
    #[default]
    Io,
    /// The admin queue.
    Admin,
    /// Every queue.
    All,
    /// The queue of this identifier.
    One(u16),
}

/// What commands do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Kind {
    /// Anything.
    #[default]
    Any,
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Whatever changes blocks: writes, write zeroes, dataset management.
    Mutation,
    /// Flushes.
    Flush,
    /// Keep-alives.
    KeepAlive,
}

/// Blocks from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BlockRange {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
}

impl Selection {
    /// Whether a command belongs to the set.
    pub fn takes(&self, command: &Command) -> bool {
        let queue = match self.queues {
            Queues::Io => command.qid != 0,
            Queues::Admin => command.qid == 0,
            Queues::All => true,
            Queues::One(qid) => command.qid == qid,
        };
        queue
            && self.kind.takes(command)
            && self.cntlid.is_none_or(|cntlid| cntlid == command.cntlid)
            && self.blocks.is_none_or(|range| {
                command.blocks.is_some_and(|(first, blocks)| {
                    let last = first.saturating_add(blocks.saturating_sub(1));
                    first <= range.last && last >= range.first
                })
            })
    }
}

impl Kind {
    fn takes(self, command: &Command) -> bool {
        // The two command sets give the same number different meanings.
        let (io, opcode) = (command.qid != 0, command.opcode);
        match self {
            Self::Any => true,
            Self::Read => io && opcode == nvm::READ,
            Self::Write => io && opcode == nvm::WRITE,
            Self::Mutation => {
                io && matches!(
                    opcode,
                    nvm::WRITE | nvm::WRITE_ZEROES | nvm::DATASET_MANAGEMENT
                )
            }
            Self::Flush => io && opcode == nvm::FLUSH,
            Self::KeepAlive => !io && opcode == admin::KEEP_ALIVE,
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Any => "commands",
            Kind::Read => "reads",
            Kind::Write => "writes",
            Kind::Mutation => "mutations",
            Kind::Flush => "flushes",
            Kind::KeepAlive => "keep-alives",
        };
        match self.queues {
            Queues::Io => write!(f, "{what} of I/O queues")?,
            Queues::Admin => write!(f, "{what} of admin queues")?,
            Queues::All => write!(f, "{what} of all queues")?,
            Queues::One(qid) => write!(f, "{what} of queue {qid}")?,
        }
        if let Some(cntlid) = self.cntlid {
            write!(f, " of controller {cntlid}")?;
        }
        match self.blocks {
            Some(range) => write!(f, ", blocks {range}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Queues {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "io" => Ok(Self::Io),
            "admin" => Ok(Self::Admin),
            "all" => Ok(Self::All),
            number => number
                .parse()
                .map(Self::One)
                .map_err(|_| format!("{text:?}: write io, admin, all or a queue identifier")),
        }
    }
}

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io => f.write_str("io"),
            Self::Admin => f.write_str("admin"),
            Self::All => f.write_str("all"),
            Self::One(qid) => write!(f, "{qid}"),
        }
    }
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Any, "any"),
    (Kind::Read, "read"),
    (Kind::Write, "write"),
    (Kind::Mutation, "mutation"),
    (Kind::Flush, "flush"),
    (Kind::KeepAlive, "keep-alive"),
];

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = KINDS.iter().find(|(_, word)| *word == text);
        found.map(|(kind, _)| *kind).ok_or_else(|| {
            let words = KINDS.map(|(_, word)| word).join(", ");
            format!("{text:?}: write one of {words}")
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = KINDS.iter().find(|(kind, _)| kind == self);
        f.write_str(found.map_or("any", |(_, word)| word))
    }
}

impl FromStr for BlockRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |digits: &str| {
            digits
                .parse::<u64>()
                .map_err(|_| format!("{text:?}: write one block (8) or a range (8-15)"))
        };
        Ok(Self {
            first: number(first)?,
            last: number(last)?,
        })
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Text forms for serde.
macro_rules! as_text {
    ($($type:ty),+) => {$(
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    )+};
}

as_text!(Queues, Kind, BlockRange);

#[cfg(test)]
mod tests {
    use super::*;

    fn command(qid: u16, opcode: u8, blocks: Option<(u64, u64)>) -> Command {
        Command {
            cntlid: 7,
            qid,
            opcode,
            blocks,
        }
    }

    #[test]
    fn ranges_match_by_overlap_and_never_what_names_no_blocks() {
        let on = Selection {
            blocks: Some("8-15".parse().unwrap()),
            ..Selection::default()
        };
        for (blocks, takes) in [
            (Some((0, 8)), false),
            (Some((0, 9)), true),
            (Some((15, 1)), true),
            (Some((16, 1)), false),
            (Some((0, u64::MAX)), true),
            (Some((u64::MAX, 2)), false),
            (None, false),
        ] {
            assert_eq!(
                on.takes(&command(1, nvm::WRITE, blocks)),
                takes,
                "{blocks:?}"
            );
        }
    }

    #[test]
    fn a_number_means_different_things_on_different_queues() {
        // Keep Alive and Cancel are both 18h.
        let beats = Selection {
            queues: Queues::All,
            kind: Kind::KeepAlive,
            ..Selection::default()
        };
        assert!(beats.takes(&command(0, admin::KEEP_ALIVE, None)));
        assert!(!beats.takes(&command(1, nvm::CANCEL, None)));
        let reads = Selection {
            queues: Queues::All,
            kind: Kind::Read,
            ..Selection::default()
        };
        assert!(!reads.takes(&command(0, admin::GET_LOG_PAGE, None)));
    }

    #[test]
    fn controllers_and_queues_select() {
        let one = Selection {
            queues: Queues::One(3),
            cntlid: Some(7),
            ..Selection::default()
        };
        assert!(one.takes(&command(3, nvm::FLUSH, None)));
        assert!(!one.takes(&command(2, nvm::FLUSH, None)));
        let other = Selection {
            cntlid: Some(8),
            ..one
        };
        assert!(!other.takes(&command(3, nvm::FLUSH, None)));
    }

    #[test]
    fn words_are_read_back() {
        for text in ["io", "admin", "all", "17"] {
            assert_eq!(text.parse::<Queues>().unwrap().to_string(), text);
        }
        for (kind, word) in KINDS {
            assert_eq!(
                (word.parse(), kind.to_string()),
                (Ok(kind), word.to_owned())
            );
        }
        for text in ["8", "8-15"] {
            assert_eq!(text.parse::<BlockRange>().unwrap().to_string(), text);
        }
        assert!("x".parse::<Queues>().is_err() && "x".parse::<Kind>().is_err());
        assert!("8-".parse::<BlockRange>().is_err());
    }
}
