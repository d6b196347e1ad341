//! One association: its health, and when its controller has certainly stopped.
//!
//! [`Health`] turns evidence into a verdict; [`OrderFence`] turns the times of a teardown into the
//! moment from which the old controller executes nothing more; [`Ladder`] gets there earlier if
//! another controller can help; [`Aborts`] has single commands aborted before it comes to that. All
//! are pure and belong to the association, whatever number of volumes it serves; the host passes
//! their results on to each volume's [`Device`](crate::Device).

mod abort;
mod calm;
mod fence;
mod health;
mod ladder;
mod patience;
mod verdict;

pub use abort::{Aborts, Stuck};
pub use fence::{
    CLOCK_ERROR_PERMILLE, FenceTerms, OrderFence, QUIESCE_FLOOR_DEFAULT, order_fence_at,
    quiesce_floor,
};
pub use health::{Health, HealthConfig};
pub use ladder::{FencedBy, Ladder, LadderOutput, ResetNews, ResetReply};
pub use patience::Patience;
pub use verdict::{Conviction, Suspicion, Verdict};
