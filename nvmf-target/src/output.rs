//! What the array wants done outside, and what it reports.

/// A queue, as the program around the array names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// Something to do outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrayOutput {
    /// Complete a command that was parked.
    Respond {
        /// The queue it came on.
        queue: QueueId,
        /// Its identifier.
        cid: u16,
        /// Its result.
        dword: u32,
    },
    /// Complete a parked command as aborted.
    Abort {
        /// The queue it came on.
        queue: QueueId,
        /// Its identifier.
        cid: u16,
    },
    /// Take an I/O command back, if nothing of it has been executed, and complete it as aborted. Then
    /// answer the Abort command with [`abort_result`](crate::controller::abort_result).
    Recall {
        /// The queue it came on.
        queue: QueueId,
        /// Its identifier.
        cid: u16,
        /// The queue of the Abort command.
        asker: QueueId,
        /// The identifier of that.
        asker_cid: u16,
    },
    /// Close a queue; report it with [`Array::queue_closed`].
    Close {
        /// The queue.
        queue: QueueId,
    },
    /// Something to log.
    Event(Event),
}

/// Something to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A host connected.
    Connected {
        /// The controller made for it.
        cntlid: u16,
        /// NQN of the host.
        host: String,
        /// NQN of the subsystem.
        subsystem: String,
        /// Keep-alive timeout, 0 when there is none.
        kato_ms: u32,
    },
    /// A controller is gone.
    Gone {
        /// Its controller identifier.
        cntlid: u16,
        /// Cause.
        why: Gone,
    },
    /// After a keep-alive timeout, work on the media went on for longer than CQT promises.
    QuiesceLate {
        /// Which controller.
        cntlid: u16,
        /// The promise.
        promised_ms: u16,
        /// How long it took.
        took_ms: u64,
    },
}

/// Why a controller is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Its admin queue was closed by the host or by the fabric.
    QueueClosed,
    /// Its keep-alive timer ran out.
    KeepAlive,
    /// What it served was removed here.
    Removed,
    /// Its host had it reset through another controller.
    Reset,
}
