//! The lane's records of requests and of the commands they became.

use core::time::Duration;

use umpath_nvme::command::io::{self, BlockCount, DsmRange};
use umpath_nvme::{IntoBytes, Sqe};

use crate::request::{BlockError, BlockRequest, Data, Op, Tag};
use crate::table::{AssociationId, CommandLimits, PathId};

/// Commands a request may have at a time. A tag owns its commands, so no request can keep another
/// from having one: a read never waits because lost writes hold all the commands.
pub(super) const COMMANDS_PER_TAG: u16 = 8;

/// Most blocks a 16-bit zero-based count can name.
const COUNT_MAX: u32 = 1 << 16;

#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) active: bool,
    pub(super) body: BlockRequest,
    /// Blocks commands were made for. A flush counts as one block.
    pub(super) issued: u32,
    pub(super) total: u32,
    /// Bit n: the tag's command n is in use.
    pub(super) commands: u8,
    /// The first error. Nothing new is sent; what is in flight is waited for.
    pub(super) error: Option<BlockError>,
    /// In [`Queues::fresh`](super::store::Queues::fresh).
    pub(super) waiting: bool,
    pub(super) submitted: Duration,
}

impl Request {
    pub(super) fn idle() -> Self {
        let body = BlockRequest {
            tag: Tag(0),
            op: Op::Flush,
            lba: 0,
            blocks: 0,
            fua: false,
            no_unmap: false,
        };
        Self {
            active: false,
            body,
            issued: 0,
            total: 0,
            commands: 0,
            error: None,
            waiting: false,
            submitted: Duration::ZERO,
        }
    }

    /// It wants another command and may have one.
    pub(super) fn wants_command(&self) -> bool {
        self.active
            && self.error.is_none()
            && self.issued < self.total
            && self.commands.count_ones() < u32::from(COMMANDS_PER_TAG)
    }

    /// Nothing of it is in flight or waiting.
    pub(super) fn is_over(&self) -> bool {
        self.commands == 0 && (self.issued == self.total || self.error.is_some())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// In a queue, to be sent when there is a path, the time has come, or a ghost is gone.
    Ready,
    /// In a slot of a queue pair.
    InFlight,
    /// Lost; waits for the lock or the order fence of its association.
    Held,
    /// The same, and its request fails: then it is over.
    Failing,
}

/// A part of a request. It stays the same part until it is done, through any number of retries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    pub(super) state: State,
    /// Names it among all commands the lane ever made.
    pub(super) birth: u64,
    /// First block still to do.
    pub(super) lba: u64,
    /// The same, counted from the request's first block.
    pub(super) offset: u32,
    /// Blocks still to do.
    pub(super) blocks: u32,
    /// Blocks of them that the copy in flight covers.
    pub(super) covered: u32,
    /// Who has it in flight, or had.
    pub(super) association: AssociationId,
    pub(super) cid: u16,
    /// Order in which commands were sent.
    pub(super) sequence: u64,
    pub(super) sent_at: Duration,
    /// Counted retries.
    pub(super) retries: u8,
    /// Path errors in a row.
    pub(super) path_errors: u8,
    /// The path that failed it last.
    pub(super) avoid: Option<PathId>,
    /// A copy of it was never answered and may still be executed.
    pub(super) lost: bool,
    /// In flight since before the ghost table came, and in conflict with it.
    pub(super) watched: bool,
    /// It was set aside for a ghost and has not been sent since.
    pub(super) parked: bool,
    /// Since when it waits because of ghosts, its own or another.
    pub(super) held_since: Option<Duration>,
    pub(super) not_before: Duration,
}

impl Command {
    pub(super) fn free() -> Self {
        Self {
            state: State::Free,
            birth: 0,
            lba: 0,
            offset: 0,
            blocks: 0,
            covered: 0,
            association: AssociationId(u64::MAX),
            cid: 0,
            sequence: 0,
            sent_at: Duration::ZERO,
            retries: 0,
            path_errors: 0,
            avoid: None,
            lost: false,
            watched: false,
            parked: false,
            held_since: None,
            not_before: Duration::ZERO,
        }
    }
}

pub(super) fn tag_of(command: u16) -> u16 {
    command / COMMANDS_PER_TAG
}

/// Most blocks of one command; `None` when the controller does not do `op`.
pub(super) fn blocks_max(op: Op, limits: &CommandLimits, lba_shift: u8) -> Option<u32> {
    let most = match op {
        Op::Flush => 1,
        Op::Read | Op::Write => (limits.transfer_bytes_max >> lba_shift).clamp(1, COUNT_MAX),
        Op::WriteZeroes => limits.write_zeroes_blocks_max.min(COUNT_MAX),
        Op::Discard => limits.discard_blocks_max,
    };
    (most > 0).then_some(most)
}

/// Bytes of data that so many blocks move; 0 where the blocks are only named.
pub(super) fn data_bytes(op: Op, blocks: u32, lba_shift: u8) -> u32 {
    match op {
        Op::Read | Op::Write => blocks << lba_shift,
        Op::Flush | Op::WriteZeroes | Op::Discard => 0,
    }
}

/// The command as it goes out, its identifier still 0.
pub(super) fn encode(
    request: &BlockRequest,
    command: &Command,
    number: u16,
    nsid: u32,
    limits: &CommandLimits,
    lba_shift: u8,
) -> (Sqe, Data) {
    let (lba, blocks) = (command.lba, command.covered);
    let count = BlockCount::new(blocks);
    let count = || count.expect("a command covers at most what blocks_max allows");
    let offset_bytes = command.offset << lba_shift;
    let len_bytes = blocks << lba_shift;
    match request.op {
        Op::Read => (
            io::read(nsid, lba, count()),
            Data::FromController {
                offset_bytes,
                len_bytes,
            },
        ),
        Op::Write => {
            let sqe = io::write(nsid, lba, count(), request.fua);
            (
                sqe,
                Data::ToController {
                    offset_bytes,
                    len_bytes,
                },
            )
        }
        Op::Flush => (io::flush(nsid), Data::None),
        Op::WriteZeroes => {
            let deallocate = limits.write_zeroes_deallocate && !request.no_unmap;
            (
                io::write_zeroes(nsid, lba, count(), request.fua, deallocate),
                Data::None,
            )
        }
        Op::Discard => {
            let mut bytes = [0; DsmRange::SIZE];
            bytes.copy_from_slice(DsmRange::new(lba, blocks).as_bytes());
            let offset_bytes = u32::from(number % COMMANDS_PER_TAG) * DsmRange::SIZE as u32;
            let sqe = io::deallocate(nsid, 1).expect("one range can be expressed");
            (
                sqe,
                Data::Parameters {
                    offset_bytes,
                    bytes,
                },
            )
        }
    }
}
