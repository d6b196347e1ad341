//! What a queue thread needs of its front end: requests, answers, messages, a clock, and sleep.

use std::io;
use std::time::Duration;

use umpath_core::{BlockError, BlockRequest, LaneCommand, Tag};
use umpath_transport::Transport;

/// A queue pair as its front end knows it, from [`Frontend::watch`] to [`Frontend::unwatch`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueuePairId {
    /// Its place; below [`u16::MAX`] / 2, and used again when it is free.
    pub slot: u16,
    /// Tells an earlier tenant of the place from the present one.
    pub generation: u32,
}

/// What of a queue pair can wake the thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Channel {
    /// Commands are over, once [`Transport::arm`] asked for it.
    Completions,
    /// [`Transport::loss`] may have something.
    Connection,
}

/// Something the thread has to deal with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A request arrived; a write's data lies in the slot of its tag. The tag is the thread's until
    /// [`Frontend::answer`].
    Request(BlockRequest),
    /// A request arrived that the block layer should never have made. The tag is the thread's until
    /// it is answered, as for a request.
    Refused {
        /// Its tag.
        tag: Tag,
        /// The answer.
        error: BlockError,
    },
    /// The block layer took a tag away; see [`Frontend::ended`].
    TagEnded,
    /// [`Frontend::next_command`] may have something.
    Mail,
    /// A queue pair woke the thread. One that is no longer watched is ignored.
    QueuePair {
        /// The queue pair.
        pair: QueuePairId,
        /// What woke it.
        channel: Channel,
        /// It is still watched; if not, the thread watches it again.
        watched: bool,
    },
}

/// The block layer's side of one queue, with the mailbox and the clock of its thread. Nothing of it
/// blocks but [`Self::sleep`].
pub trait Frontend {
    /// The queue pairs it can watch.
    type Transport: Transport;

    /// The time, since the origin of all times given to the lane and found in reports. Never runs
    /// backwards.
    fn now(&self) -> Duration;

    /// The next thing that has arrived, if any.
    fn next(&mut self) -> Option<Event>;

    /// The next message of the control side, if any. Asked for at [`Event::Mail`] until there is
    /// none.
    fn next_command(&mut self) -> Option<LaneCommand<Self::Transport>>;

    /// Answers a request; `Ok`: bytes of data moved. Handed over at the next [`Self::flush`] or
    /// [`Self::sleep`]. The tag is the block layer's again.
    fn answer(&mut self, tag: Tag, result: Result<u32, BlockError>);

    /// Hands over what was answered, and lets the block layer deliver.
    fn flush(&mut self) -> io::Result<()>;

    /// Like [`Self::flush`], then waits until [`Self::next`] has something, at most `at_most` if
    /// given. May return early. The caller starts another round: a simulator just notes the wish
    /// and returns.
    fn sleep(&mut self, at_most: Option<Duration>) -> io::Result<()>;

    /// Whether the block layer has taken every tag away: no request comes any more.
    fn ended(&self) -> bool;

    /// What the block layer did that should not occur, so far.
    fn anomalies(&self) -> u64;

    /// Wakes the thread with [`Event::QueuePair`] when a channel of this queue pair has something. The
    /// queue pair outlives the watch.
    fn watch(&mut self, pair: QueuePairId, channel: Channel, transport: &Self::Transport);

    /// Ends the watch of all channels of a queue pair.
    fn unwatch(&mut self, pair: QueuePairId);
}
