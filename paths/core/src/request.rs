//! Requests of the block layer, and their results.

use core::fmt;

/// Slot of a request in its queue, chosen by the block layer; one request at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u16);

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Fill the tag's buffer from the medium.
    Read,
    /// Put the tag's buffer on the medium.
    Write,
    /// Make every write acknowledged before survive a power loss.
    Flush,
    /// The blocks' content is no longer needed.
    Discard,
    /// Make the blocks read as zeroes.
    WriteZeroes,
}

impl Op {
    /// It changes the medium, so executing it late or twice can be seen.
    pub fn is_mutation(self) -> bool {
        matches!(self, Self::Write | Self::Discard | Self::WriteZeroes)
    }

    /// Executing it twice in a row is executing it once. What is not waits for the order fence
    /// before it is sent again.
    pub fn is_idempotent(self) -> bool {
        match self {
            Self::Read | Self::Write | Self::Flush | Self::Discard | Self::WriteZeroes => true,
        }
    }
}

/// One request. Units are logical blocks of the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRequest {
    /// Its slot; answered by exactly one [`Action::Complete`](crate::Action::Complete).
    pub tag: Tag,
    /// What to do.
    pub op: Op,
    /// First logical block; 0 for a flush.
    pub lba: u64,
    /// Logical blocks; 0 for a flush, at least 1 for everything else.
    pub blocks: u32,
    /// On the medium before the completion (writes and write zeroes).
    pub fua: bool,
    /// Write zeroes: the blocks must stay allocated.
    pub no_unmap: bool,
}

/// How a request failed, in the classes of the Linux block layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockError {
    /// Anything without a class of its own; also a request failed because there is no path.
    Io,
    /// The namespace has no space left.
    NoSpace,
    /// The target does not do this.
    NotSupported,
    /// The target refuses; another path would too.
    Target,
    /// The medium cannot deliver or take the data.
    Medium,
    /// Protection information does not match.
    Protection,
    /// Another host holds a reservation.
    Reservation,
    /// The request ran out of time.
    Timeout,
    /// The transport failed and retrying was ruled out.
    Transport,
    /// The request makes no sense: no blocks, or blocks beyond 2^64.
    Invalid,
}

impl BlockError {
    /// Positive errno, as the block layer reports this class to user space.
    pub fn errno(self) -> i32 {
        match self {
            Self::Io => 5,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Reservation => 52,
            Self::Medium => 61,
            Self::Transport => 67,
            Self::Protection => 84,
            Self::NotSupported => 95,
            Self::Timeout => 110,
            Self::Target => 121,
        }
    }

    /// The errno's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Io => "EIO",
            Self::Invalid => "EINVAL",
            Self::NoSpace => "ENOSPC",
            Self::Reservation => "EBADE",
            Self::Medium => "ENODATA",
            Self::Transport => "ENOLINK",
            Self::Protection => "EILSEQ",
            Self::NotSupported => "EOPNOTSUPP",
            Self::Timeout => "ETIMEDOUT",
            Self::Target => "EREMOTEIO",
        }
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for BlockError {}

/// Data of a command, as a part of its tag's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// None.
    None,
    /// The controller fills `len_bytes` of the buffer at `offset_bytes`.
    FromController {
        /// Where in the tag's buffer.
        offset_bytes: u32,
        /// How much.
        len_bytes: u32,
    },
    /// The controller takes `len_bytes` of the buffer at `offset_bytes`.
    ToController {
        /// Where in the tag's buffer.
        offset_bytes: u32,
        /// How much.
        len_bytes: u32,
    },
    /// Parameters of the command (the range of a Dataset Management). The host copies them into
    /// the tag's buffer at `offset_bytes`, which such a request does not use otherwise, and sends
    /// them from there.
    Parameters {
        /// Where in the tag's buffer.
        offset_bytes: u32,
        /// What to send.
        bytes: [u8; 16],
    },
}
