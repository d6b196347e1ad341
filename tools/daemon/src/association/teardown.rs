//! Letting go of an association's admin queue: drained within a deadline, then destroyed.

use std::time::Duration;

use umpath_core::AssociationId;
use umpath_rdma::HostQueue;
use umpath_transport::Drain;

use super::driver::Halt;
use super::report::{Report, Reporter};
use crate::clock;

/// How often a draining queue is looked at: its completion descriptor may not fire in error.
const LOOK: Duration = Duration::from_millis(1);

/// Drains and destroys what a driver left when nobody waits for it.
pub(crate) async fn release(halt: Halt, deadline: Duration) {
    admin(halt, deadline, None).await;
}

/// Drains and destroys what a driver left. `silence`: whom to tell that nothing of it can be sent any
/// more, when someone waits for that.
pub(super) async fn admin(
    halt: Halt,
    deadline: Duration,
    silence: Option<(Reporter, AssociationId)>,
) {
    let deadline = clock::now() + deadline;
    let mut queues = halt.queues;
    for queue in &mut queues {
        queue.begin_drain(deadline);
    }
    while !queues.iter_mut().all(quiet) {
        tokio::time::sleep(LOOK).await;
    }
    let drained = clock::now();
    let all_quiet = queues
        .iter_mut()
        .all(|queue| matches!(queue.poll_drained(clock::now(), |_| {}), Drain::Quiet));
    let destroyed = tokio::task::spawn_blocking(move || {
        drop(queues);
        clock::now()
    });
    let Some((reporter, association)) = silence else {
        return;
    };
    // Flushed markers prove the error state; without them only destruction does.
    let at = if all_quiet {
        drained
    } else {
        destroyed.await.unwrap_or_else(|_| clock::now())
    };
    reporter.send(Report::AdminSilent { association, at });
}

fn quiet(queue: &mut HostQueue) -> bool {
    queue.poll_drained(clock::now(), |_| {}) != Drain::Pending
}
