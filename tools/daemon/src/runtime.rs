//! The control runtime: two tokio workers that respond in time even on a loaded machine.
//!
//! A late keep-alive lets the controller expire a healthy association. So the workers run with
//! real-time priority where the system allows it, otherwise with the best nice value. Blocking work
//! (verbs teardown, ublk commands, memory registration) runs on tokio's other threads at ordinary
//! priority, so as not to take the CPU from the queue threads.

// UNSAFETY: one call of sched_setscheduler, which libc exports as unsafe.
#![expect(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};

/// Workers of the control runtime.
const WORKERS: usize = 2;

/// Above ordinary processes, below the kernel's own real-time threads.
const PRIORITY: libc::c_int = 10;

/// Builds the runtime.
pub(crate) fn build() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("umpath-control")
        .on_thread_start(favour_workers)
        .enable_all()
        .build()
}

/// A runtime starts its workers first; later threads do blocking work.
fn favour_workers() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    if STARTED.fetch_add(1, Ordering::Relaxed) < WORKERS
        && let Err(error) = become_real_time()
        && let Err(error) =
            rustix::process::setpriority_process(None, -20).map_err(|nice| (error, nice))
    {
        tracing::warn!(
            "cannot raise the priority of control threads ({error:?}): keep-alives may be late"
        );
    }
}

/// Real-time, round robin; threads and processes started by this one are ordinary again.
fn become_real_time() -> std::io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: PRIORITY,
    };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is a valid sched_param for the duration of the call; 0 is this thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
