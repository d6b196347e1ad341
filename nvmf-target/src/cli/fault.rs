//! `umpath-target fault ...`: make commands misbehave, for drills and tests.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use umpath_target::control::Verb;
use umpath_target::fault::{Action, BlockRange, Fault, Kind, Queues, Selection};

#[derive(Debug, Subcommand)]
pub(super) enum FaultVerb {
    /// Execute commands at once and answer them late
    Delay {
        /// How late, in milliseconds
        ms: u32,
        #[command(flatten)]
        which: Which,
    },
    /// Execute commands late, even if their connection is gone by then
    Park {
        /// How late, in milliseconds
        ms: u32,
        /// Do not let the controller's gate stop them then: a controller that lies about having
        /// stopped
        #[arg(long)]
        beyond_gate: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Execute commands and never answer them
    Drop {
        #[command(flatten)]
        which: Which,
    },
    /// Neither execute nor answer commands
    Hang {
        #[command(flatten)]
        which: Which,
    },
    /// Answer commands with an error instead of executing them
    Error {
        /// Status as Linux prints it, for example 0x300 (path error) or 0x4281 (read error, do not
        /// retry)
        #[arg(value_parser = status)]
        status: u16,
        #[command(flatten)]
        which: Which,
    },
    /// End faults
    Clear {
        /// Number of the fault; all when absent
        id: Option<u32>,
    },
    /// Show the faults in force
    List,
}

/// Which commands a fault is about.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Queues: io, admin, all, or a queue identifier [default: io; admin for keep-alives]
    #[arg(long)]
    queue: Option<Queues>,
    /// Commands: any, read, write, mutation, flush or keep-alive
    #[arg(long, default_value_t)]
    kind: Kind,
    /// Only commands that touch these blocks: 8 or 8-15
    #[arg(long)]
    lba: Option<BlockRange>,
    /// Only commands of this controller
    #[arg(long)]
    cntlid: Option<u16>,
    /// Hit so many commands, then none
    #[arg(long)]
    count: Option<u64>,
    /// Share of the commands to hit
    #[arg(long, default_value_t = 1.0)]
    probability: f64,
    /// Seed of the draw
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl FaultVerb {
    pub(super) fn into_verb(self) -> Result<Verb> {
        let (action, which) = match self {
            Self::Delay { ms, which } => (Action::Delay { ms }, which),
            Self::Park {
                ms,
                beyond_gate,
                which,
            } => (Action::Park { ms, beyond_gate }, which),
            Self::Drop { which } => (Action::Drop, which),
            Self::Hang { which } => (Action::Hang, which),
            Self::Error { status, which } => (Action::Error { status }, which),
            Self::Clear { id } => return Ok(Verb::FaultClear { id }),
            Self::List => return Ok(Verb::FaultList),
        };
        let admin = which.kind == Kind::KeepAlive;
        let queues = which
            .queue
            .unwrap_or(if admin { Queues::Admin } else { Queues::Io });
        if matches!(
            action,
            Action::Park {
                beyond_gate: true,
                ..
            }
        ) && queues == Queues::Admin
        {
            bail!("admin commands pass no gate; leave --beyond-gate out");
        }
        let on = Selection {
            queues,
            kind: which.kind,
            blocks: which.lba,
            cntlid: which.cntlid,
        };
        Ok(Verb::FaultAdd {
            fault: Fault {
                on,
                action,
                count: which.count,
                probability: which.probability,
                seed: which.seed,
            },
        })
    }
}

fn status(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number
        .ok()
        .filter(|status| *status < 0x8000)
        .ok_or_else(|| format!("{text:?} is no status of 15 bits such as 0x300"))
}
