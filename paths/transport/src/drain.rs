//! When a queue pair that was given up is silent, and when it leaves memory alone.
//!
//! Two questions with two answers. *Silent*: nothing is sent any more, so no command of it can be
//! executed that the controller has not got. *Quiet*: its device touches no buffer any more. Neither
//! implies the other: a silent queue pair may still be writing the data of a read, and a quiet one may have
//! packets waiting in the network stack of this machine, where a device in software leaves them.
//! Destroying it makes it both, and is the only proof where a device gives no other.

/// Whether a queue pair that was given up can still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what is not proved silent may still send"]
pub enum Silence {
    /// The device confirmed that it sends nothing from now on.
    Proved,
    /// It did not: only destruction proves it.
    Unproved,
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Work may still be under way: buffers are not ours yet.
    Pending,
    /// No buffer is touched any more. Destroy the queue pair whenever convenient.
    Quiet,
    /// The device did not confirm in time, or there is no hope that it will: buffers are ours only
    /// when the queue pair was destroyed.
    DeadlinePassed,
}
