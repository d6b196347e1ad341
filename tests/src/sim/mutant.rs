//! Mistakes planted on purpose: a simulator that does not see them proves nothing.
//!
//! They are planted where this world plays the host's threads or the target's engine, so the
//! product's code carries no trace of them: an order that is not passed on, or too early, or to the
//! wrong one; a table of ghosts with something left out; a fence that is computed otherwise; a gate
//! that is not obeyed. Each is a mistake a daemon, a queue thread, a core or a target could make.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::association::{CLOCK_ERROR_PERMILLE, FenceTerms, OrderFence, order_fence_at};
use umpath_core::{Ghost, GhostTable, LaneId};

use super::clock::{Nanos, duration, nanos};
use super::host::FencedQueue;
use super::plan::Plan;

macro_rules! mutants {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// One mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])* $variant,)+
        }

        impl Mutant {
            /// All of them, with the names the command line knows.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($name, Self::$variant),)+];
        }
    };
}

mutants! {
    /// The target executes what its gate refuses.
    GateIgnored = "gate-ignored",
    /// The target's gate knows the keep-alive timer only by its timer event, not by the clock.
    GateByTimer = "gate-by-timer",
    /// The target's gate does not close with the controller.
    GateStaysOpen = "gate-stays-open",
    /// Drained queue pairs count as an order fence.
    NoFence = "no-fence",
    /// The fence waits one KATO less than it must.
    FenceShort = "fence-short",
    /// The fence forgets that keep-alives and commands may wait for a controller that stands still: it
    /// counts what the last answer needs and what the last packet needs.
    SleepForgotten = "sleep-forgotten",
    /// The fence forgets that a controller's clock may be slow.
    ClockErrorForgotten = "clock-error-forgotten",
    /// The fence forgets that the end of a queue pair may count as traffic, however late.
    EndsForgotten = "ends-forgotten",
    /// A traffic-based keep-alive timer is taken for a command-based one.
    TrafficIgnored = "traffic-ignored",
    /// The fence counts from the last answer alone, whenever the queue pairs fell silent.
    FenceFromAnswer = "fence-from-answer",
    /// The fence of one association is taken for that of another.
    FenceOfAnother = "fence-of-another",
    /// Lost writes are sent again as soon as the queue pair is drained, and nothing is locked.
    RetryAtOnce = "retry-at-once",
    /// Each lane sends its ghosts again when it has the table, whatever the others have.
    LockedAlone = "locked-alone",
    /// A lane confirms a table while it has overlapping writes in flight.
    GuardedAtOnce = "guarded-at-once",
    /// One lane never gets a table of ghosts; it is confirmed all the same.
    GuardUnheard = "guard-unheard",
    /// Ghosts lack their last block.
    GhostShort = "ghost-short",
    /// Ghosts lack their first block.
    GhostLate = "ghost-late",
    /// A lane keeps off its own ghosts only.
    OwnGhostsOnly = "own-ghosts-only",
    /// Lanes keep off the newest association's ghosts only.
    NewestGhostsOnly = "newest-ghosts-only",
    /// Only writes leave ghosts, not deallocations and zeroing.
    OnlyWritesHaunt = "only-writes-haunt",
    /// A lane's ghosts are lost on the way.
    GhostsForgotten = "ghosts-forgotten",
    /// No other controller is ever asked to reset the lost one.
    LadderSilent = "ladder-silent",
    /// A reset that the log calls failed is taken for one that succeeded.
    CcrFailedIsSuccess = "ccr-failed-is-success",
    /// A reset under way is taken for one that is complete.
    CcrProgressIsSuccess = "ccr-progress-is-success",
    /// A refused reset is taken for one that is not needed any more.
    CcrRefusalIsSuccess = "ccr-refusal-is-success",
    /// A request to reset that is not answered is taken for granted.
    CcrSilenceIsSuccess = "ccr-silence-is-success",
    /// The target resets the controller that has the identifier now, whichever was named.
    CcrIgnoresIncarnation = "ccr-ignores-incarnation",
    /// The target calls a reset complete while commands are on the medium.
    CcrCountIgnored = "ccr-count-ignored",
    /// The target calls a controller reset that it knows nothing of.
    CcrUnknownIsSuccess = "ccr-unknown-is-success",
    /// The target calls a command aborted and executes it later.
    AbortLies = "abort-lies",
    /// The target does not honour FUA.
    FuaIgnored = "fua-ignored",
    /// A write that is sent again has lost its FUA.
    FuaNotResent = "fua-not-resent",
    /// The target's FLUSH does nothing.
    FlushIgnored = "flush-ignored",
    /// A target's FLUSH covers what was written through it, not through the others.
    FlushOfOwn = "flush-of-own",
    /// A lost FLUSH is taken for done.
    FlushNotResent = "flush-not-resent",
    /// The target keeps commands on the medium for longer than the quiesce time it promises. No
    /// host can stand that: it shows that this world sees it.
    CqtLie = "cqt-lie",
    /// What the target says when it closes a connection is taken for an order fence.
    GoodbyeIsFence = "goodbye-is-fence",
    /// Blocks are unlocked after a while.
    UnlockOnTimeout = "unlock-on-timeout",
    /// Blocks are unlocked when their ghost was sent again and answered.
    UnlockOnAnswer = "unlock-on-answer",
    /// The first lane that drained speaks for all.
    OneDrainsForAll = "one-drains-for-all",
    /// A volume that other hosts write to is treated as ours alone.
    SharingIgnored = "sharing-ignored",
    /// Memory is reused when the queue pair is in the error state, not when it is drained.
    BufferAtError = "buffer-at-error",
    /// A queue pair that does not drain in time counts as drained without being destroyed.
    DeadlineTrusted = "deadline-trusted",
    /// A restarted host knows nothing of its earlier associations.
    InheritNothing = "inherit-nothing",
    /// Associations are struck from the records when they are convicted, not when they are fenced.
    RecordsForget = "records-forget",
    /// A restarted host takes its predecessor's death for a fence.
    DeathIsFence = "death-is-fence",
    /// Sometimes a completion is dropped.
    CompletionDropped = "completion-dropped",
    /// Sometimes a completion is given twice.
    CompletionTwice = "completion-twice",
    /// An answer that comes on an old queue pair is taken for one of the new association.
    StaleAnswer = "stale-answer",
    /// Slow writes are hedged.
    HedgedWrite = "hedged-write",
    /// A write that is sent again takes its data from the wrong place.
    ResendShifted = "resend-shifted",
    /// A lane never hears of convictions.
    ConvictionUnheard = "conviction-unheard",
    /// Nobody cares how old a command is.
    AgeIgnored = "age-ignored",
    /// Requests fail when there is no path.
    FailsWithoutPath = "fails-without-path",
    /// A lost association is not connected again.
    NeverReconnects = "never-reconnects",
}

/// How long ghosts stay locked under [`Mutant::UnlockOnTimeout`].
pub(crate) const UNLOCK_AFTER: Nanos = 50 * super::clock::MILLI;

impl Mutant {
    /// It makes tables of its own between the device's: those count by twos.
    pub(crate) fn unlocks(self) -> bool {
        matches!(self, Self::UnlockOnTimeout | Self::UnlockOnAnswer)
    }

    /// The table of ghosts that a lane gets.
    pub(crate) fn table(self, lane: usize, table: &Arc<GhostTable>) -> Arc<GhostTable> {
        let remade = |ghosts: Vec<Ghost>| {
            let (generation, resend) = (table.generation(), table.resend());
            let generation = if self.unlocks() {
                2 * generation
            } else {
                generation
            };
            Arc::new(GhostTable::new(generation, resend, ghosts))
        };
        let all = table.ghosts().copied();
        match self {
            Self::GhostShort => remade(all.filter_map(shorter).collect()),
            Self::GhostLate => remade(all.filter_map(later).collect()),
            Self::OwnGhostsOnly => {
                let own = |ghost: &Ghost| {
                    ghost
                        .owner
                        .is_none_or(|owner| owner.lane == LaneId(lane as u16))
                };
                remade(all.filter(own).collect())
            }
            Self::NewestGhostsOnly => {
                let newest = table.ghosts().map(|ghost| ghost.association).max();
                remade(
                    all.filter(|ghost| Some(ghost.association) == newest)
                        .collect(),
                )
            }
            Self::UnlockOnTimeout | Self::UnlockOnAnswer => remade(all.collect()),
            _ => Arc::clone(table),
        }
    }

    /// When the order fence of an association stands that was given up.
    pub(crate) fn fence(
        mutant: Option<Self>,
        plan: &Plan,
        fence: &OrderFence<FencedQueue>,
        terms: Option<FenceTerms>,
        answered: Nanos,
        now: Nanos,
    ) -> Option<Nanos> {
        let due = fence.at()?;
        let kato = terms.map(|terms| terms.kato()).unwrap_or_default();
        Some(match mutant {
            Some(Self::NoFence) => now,
            Some(Self::FenceShort) => nanos(due.saturating_sub(kato)),
            Some(Self::ClockErrorForgotten) => {
                let wait = order_fence_at(Duration::ZERO, &terms?);
                nanos(due.saturating_sub(wait * CLOCK_ERROR_PERMILLE / 1000))
            }
            Some(Self::EndsForgotten) => {
                let ends = if plan.traffic_based {
                    plan.kato_at_most()
                } else {
                    0
                };
                nanos(due) - ends
            }
            Some(Self::FenceFromAnswer) => by_answer(terms, answered)?,
            Some(Self::SleepForgotten) => {
                by_answer(terms, answered)?.max(nanos(due.saturating_sub(kato)))
            }
            _ => nanos(due),
        })
    }
}

/// The fence if nothing of ours had reached the controller after the last answer.
fn by_answer(terms: Option<FenceTerms>, answered: Nanos) -> Option<Nanos> {
    let terms = terms.as_ref()?;
    Some(nanos(order_fence_at(duration(answered), terms)))
}

fn shorter(ghost: Ghost) -> Option<Ghost> {
    let blocks = ghost.blocks - 1;
    (blocks > 0).then_some(Ghost { blocks, ..ghost })
}

fn later(ghost: Ghost) -> Option<Ghost> {
    let lba = ghost.lba + 1;
    shorter(Ghost { lba, ..ghost })
}
