//! Why a queue pair took no command, or takes none any more.

/// Why a command could not be queued; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Every slot, or this command's slot, is still in use: reap completions first.
    #[error("the queue is full")]
    Full,
    /// The arena is not registered in the queue's domain.
    #[error("the data's arena is not registered for this association")]
    NotRegistered,
    /// The range does not lie inside its slot, or is longer than a descriptor can say.
    #[error("the data range lies outside its arena slot")]
    OutOfRange,
    /// The queue is draining or broken.
    #[error("the queue is closed")]
    Closed,
}

/// Why a queue pair is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum Loss<E> {
    /// The transport failed.
    #[error("{0}")]
    Failed(E),
    /// The peer, or the connection manager, closed the connection.
    #[error("the controller closed the connection")]
    Disconnected,
    /// The local device is being removed.
    #[error("the RDMA device is being removed")]
    DeviceRemoved,
    /// The queue thread has no room for another one: too many are draining.
    #[error("the queue thread holds too many queue pairs")]
    Crowded,
    /// It cannot reach the lane's memory: the caller attached it before registering the arena.
    #[error("memory is not registered: {0}")]
    Unregistered(PushError),
}
