//! From the driver's sectors to the namespace's blocks.

use libublk::sys;
use umpath_core::{BlockError, BlockRequest, Op, Tag};

use crate::descriptor::Descriptor;

/// The request of `tag`, in blocks of the namespace (`lba_shift`: log2 of sectors in one). When the
/// kernel could copy only part of a request's data, the descriptor covers that part, perhaps with a
/// piece of a block at its end: whole blocks are done, and the kernel sends the rest again.
///
/// `Err`: what the driver should never send, refused rather than guessed at.
pub(crate) fn translate(
    tag: u16,
    descriptor: &Descriptor,
    lba_shift: u32,
) -> Result<BlockRequest, BlockError> {
    let op = match u32::from(descriptor.op) {
        sys::UBLK_IO_OP_READ => Op::Read,
        sys::UBLK_IO_OP_WRITE => Op::Write,
        sys::UBLK_IO_OP_FLUSH => Op::Flush,
        sys::UBLK_IO_OP_DISCARD => Op::Discard,
        sys::UBLK_IO_OP_WRITE_ZEROES => Op::WriteZeroes,
        _ => return Err(BlockError::NotSupported),
    };
    let flush = op == Op::Flush;
    let misaligned = descriptor.start_sector & ((1 << lba_shift) - 1) != 0;
    let blocks = descriptor.sectors >> lba_shift;
    if !flush && (misaligned || blocks == 0) {
        return Err(BlockError::Invalid);
    }
    Ok(BlockRequest {
        tag: Tag(tag),
        op,
        lba: if flush {
            0
        } else {
            descriptor.start_sector >> lba_shift
        },
        blocks: if flush { 0 } else { blocks },
        fua: descriptor.fua,
        no_unmap: descriptor.no_unmap,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(op: u32, start_sector: u64, sectors: u32) -> Descriptor {
        Descriptor {
            op: op as u8,
            fua: false,
            no_unmap: false,
            sectors,
            start_sector,
        }
    }

    #[test]
    fn sectors_become_blocks() {
        let write = translate(7, &descriptor(sys::UBLK_IO_OP_WRITE, 16, 24), 3).unwrap();
        assert_eq!((write.tag, write.lba, write.blocks), (Tag(7), 2, 3));
        let flush = translate(0, &descriptor(sys::UBLK_IO_OP_FLUSH, 5, 0), 3).unwrap();
        assert_eq!((flush.op, flush.lba, flush.blocks), (Op::Flush, 0, 0));
    }

    #[test]
    fn a_partly_copied_write_covers_whole_blocks_only() {
        let write = translate(0, &descriptor(sys::UBLK_IO_OP_WRITE, 8, 20), 3).unwrap();
        assert_eq!(write.blocks, 2);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |d| translate(0, &d, 3).unwrap_err();
        assert_eq!(
            refused(descriptor(sys::UBLK_IO_OP_READ, 1, 8)),
            BlockError::Invalid
        );
        assert_eq!(
            refused(descriptor(sys::UBLK_IO_OP_READ, 8, 7)),
            BlockError::Invalid
        );
        assert_eq!(refused(descriptor(250, 8, 8)), BlockError::NotSupported);
    }
}
