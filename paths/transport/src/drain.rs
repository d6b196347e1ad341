//! When a queue pair that was given up leaves memory alone.

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Work may still be under way: buffers are not ours yet.
    Pending,
    /// No buffer will be touched again. Destroy the queue pair whenever convenient.
    Quiet,
    /// The device did not confirm in time: buffers are ours only when the queue pair was destroyed.
    DeadlinePassed,
}
