//! Letting go of an association's admin queue: drained within a deadline, then destroyed.

use std::time::Duration;

use umpath_rdma::HostQueue;
use umpath_transport::{Drain, Silence};

use super::driver::Halt;
use crate::clock;

/// How often a draining queue is checked: its completion descriptor may not fire in error.
const LOOK: Duration = Duration::from_millis(1);

/// Drains and destroys what a driver left when nobody waits for it.
pub(crate) async fn release(halt: Halt, deadline: Duration) {
    admin(halt, deadline, None::<fn(Duration)>).await;
}

/// Drains and destroys what a driver left. `silence`: notified when nothing of it can be sent any more, where
/// someone waits for that.
pub(super) async fn admin(halt: Halt, deadline: Duration, silence: Option<impl FnOnce(Duration)>) {
    let deadline = clock::now() + deadline;
    let (mut queues, mut closing) = (halt.queues, halt.closing);
    while closing.try_join_next().is_some() {}
    let mut silent = closing.is_empty();
    for queue in &mut queues {
        silent &= queue.begin_drain(deadline) == Silence::Proved;
    }
    let stopped = clock::now();
    while !queues.iter_mut().all(quiet) {
        tokio::time::sleep(LOOK).await;
    }
    let destroyed = tokio::task::spawn_blocking(move || {
        drop(queues);
        clock::now()
    });
    let Some(report) = silence else { return };
    let at = if silent {
        stopped
    } else {
        while closing.join_next().await.is_some() {}
        let closed = clock::now();
        destroyed.await.unwrap_or(closed).max(closed)
    };
    report(at);
}

fn quiet(queue: &mut HostQueue) -> bool {
    queue.poll_drained(clock::now(), |_| {}) != Drain::Pending
}
