//! I/O commands: from a submission queue entry to what has to be transferred and done.
//!
//! Decided here: whether a command is well formed, within its namespace and allowed in the present
//! ANA state, and the exact status if not. Nothing is transferred or submitted.

use umpath_nvme::command::io::{DatasetManagement, DsmRange, ReadWrite, WriteZeroes};
use umpath_nvme::opcode::nvm;
use umpath_nvme::{FromBytes, Sqe, Status};

use super::sgl::Transfer;
use super::view::{NamespaceView, View};
use crate::model::{
    AnaState, DSM_RANGE_BLOCKS_MAX, DSM_RANGES_MAX, Geometry, MDTS_BYTES, WZSL_PAGES_LOG2,
};

/// A checked command. Positions and lengths are in bytes, in range of the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Read into the data buffer.
    Read {
        /// Where from.
        offset: u64,
        /// How much.
        bytes: u32,
    },
    /// Write from the data buffer.
    Write {
        /// Where to.
        offset: u64,
        /// How much.
        bytes: u32,
        /// Durable before the completion.
        fua: bool,
    },
    /// Make completed writes durable.
    Flush,
    /// Zero a range.
    Zero {
        /// Where.
        offset: u64,
        /// How much.
        bytes: u64,
        /// Space may be given back.
        deallocate: bool,
        /// Durable before the completion.
        fua: bool,
    },
    /// Deallocate the ranges the data lists; check them with [`check_ranges`] first.
    Deallocate {
        /// How many.
        ranges: u16,
    },
    /// Advice that is not taken: completes at once.
    Nothing,
}

/// What a command needs.
#[derive(Debug)]
pub struct Plan<'v, M> {
    /// The namespace it is for.
    pub namespace: &'v NamespaceView<M>,
    /// What to do.
    pub operation: Operation,
    /// Its data.
    pub transfer: Transfer,
}

/// Checks a command.
pub fn plan<'v, M>(view: &'v View<M>, sqe: &Sqe) -> Result<Plan<'v, M>, Status> {
    let known = matches!(
        sqe.opcode,
        nvm::FLUSH | nvm::WRITE | nvm::READ | nvm::WRITE_ZEROES | nvm::DATASET_MANAGEMENT
    );
    if !known {
        return Err(Status::INVALID_OPCODE.with_dnr());
    }
    let namespace = view
        .namespace(sqe.nsid.get())
        .ok_or(Status::INVALID_NAMESPACE.with_dnr())?;
    // No DNR: another controller may well serve the command (NVMe Base 2.1 §8.1.1).
    match namespace.ana {
        AnaState::Optimized | AnaState::NonOptimized => {}
        AnaState::Inaccessible => return Err(Status::ANA_INACCESSIBLE),
        AnaState::PersistentLoss => return Err(Status::ANA_PERSISTENT_LOSS),
        AnaState::Change => return Err(Status::ANA_TRANSITION),
    }
    let (operation, transfer) = match sqe.opcode {
        nvm::READ | nvm::WRITE => read_write(namespace.geometry, sqe)?,
        nvm::WRITE_ZEROES => (write_zeroes(namespace.geometry, sqe)?, Transfer::None),
        nvm::DATASET_MANAGEMENT => dataset_management(sqe)?,
        _ => (Operation::Flush, Transfer::None),
    };
    Ok(Plan {
        namespace,
        operation,
        transfer,
    })
}

fn in_range(geometry: Geometry, slba: u64, blocks: u64) -> Result<u64, Status> {
    match slba.checked_add(blocks) {
        Some(end) if end <= geometry.blocks => Ok(slba * u64::from(geometry.block_bytes)),
        _ => Err(Status::LBA_OUT_OF_RANGE.with_dnr()),
    }
}

fn read_write(geometry: Geometry, sqe: &Sqe) -> Result<(Operation, Transfer), Status> {
    let command = ReadWrite::parse(sqe);
    if command.prinfo != 0 {
        // The namespace has no metadata: protection information cannot be checked or inserted.
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let offset = in_range(geometry, command.slba, u64::from(command.blocks.get()))?;
    let bytes = u64::from(command.blocks.get()) * u64::from(geometry.block_bytes);
    let bytes = u32::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= MDTS_BYTES)
        .ok_or(Status::INVALID_FIELD.with_dnr())?;
    Ok(if sqe.opcode == nvm::READ {
        // FUA on a read asks for what is on the medium; the cache below is coherent with it.
        (Operation::Read { offset, bytes }, Transfer::ToHost(bytes))
    } else {
        (
            Operation::Write {
                offset,
                bytes,
                fua: command.fua,
            },
            Transfer::FromHost(bytes),
        )
    })
}

fn write_zeroes(geometry: Geometry, sqe: &Sqe) -> Result<Operation, Status> {
    let command = WriteZeroes::parse(sqe);
    let offset = in_range(geometry, command.slba, u64::from(command.blocks.get()))?;
    let bytes = u64::from(command.blocks.get()) * u64::from(geometry.block_bytes);
    if bytes > 4096 << WZSL_PAGES_LOG2 {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    Ok(Operation::Zero {
        offset,
        bytes,
        deallocate: command.deallocate,
        fua: command.fua,
    })
}

/// Command Size Limit Exceeded (NVM Command Set 1.1 §3.3.3.2.1).
const COMMAND_SIZE_LIMIT_EXCEEDED: Status = Status::new(1, 0x83);

fn dataset_management(sqe: &Sqe) -> Result<(Operation, Transfer), Status> {
    let command = DatasetManagement::parse(sqe);
    if command.deallocate && command.ranges > u16::from(DSM_RANGES_MAX) {
        return Err(COMMAND_SIZE_LIMIT_EXCEEDED.with_dnr());
    }
    let operation = if command.deallocate {
        Operation::Deallocate {
            ranges: command.ranges,
        }
    } else {
        Operation::Nothing
    };
    Ok((
        operation,
        Transfer::HeadFromHost(command.data_bytes() as u32),
    ))
}

/// Checks the ranges of a deallocation once its data has arrived.
pub fn check_ranges(geometry: Geometry, ranges: u16, data: &[u8]) -> Result<(), Status> {
    let bytes = usize::from(ranges) * DsmRange::SIZE;
    let list = data
        .get(..bytes)
        .ok_or(Status::DATA_SGL_LENGTH_INVALID.with_dnr())?;
    for bytes in list.chunks_exact(DsmRange::SIZE) {
        let range = DsmRange::read_from_bytes(bytes).map_err(|_| Status::INTERNAL_ERROR)?;
        if range.blocks.get() > DSM_RANGE_BLOCKS_MAX {
            return Err(COMMAND_SIZE_LIMIT_EXCEEDED.with_dnr());
        }
        in_range(geometry, range.slba.get(), u64::from(range.blocks.get()))?;
    }
    Ok(())
}
