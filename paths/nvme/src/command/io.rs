//! I/O commands of the NVM command set (NVM Command Set 1.1 §3).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::opcode::nvm;
use crate::sqe::Sqe;

const FUA: u32 = 1 << 30;
const LIMITED_RETRY: u32 = 1 << 31;
const DEAC: u32 = 1 << 25;
const DSM_DEALLOCATE: u32 = 1 << 2;

/// Logical blocks of one command: 1 to 65,536, on the wire counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockCount(u16);

impl BlockCount {
    /// One block.
    pub const ONE: Self = Self(0);
    /// The most blocks one command can address.
    pub const MAX: Self = Self(u16::MAX);

    /// `None` for 0 and for more than 65,536.
    pub const fn new(blocks: u32) -> Option<Self> {
        match blocks {
            1..=0x1_0000 => Some(Self((blocks - 1) as u16)),
            _ => None,
        }
    }

    /// From the wire's zero-based count.
    #[must_use]
    pub const fn from_0based(nlb: u16) -> Self {
        Self(nlb)
    }

    /// The wire's zero-based count.
    pub const fn to_0based(self) -> u16 {
        self.0
    }

    /// Blocks, at least 1.
    pub const fn get(self) -> u32 {
        self.0 as u32 + 1
    }
}

/// A read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadWrite {
    /// Namespace.
    pub nsid: u32,
    /// First logical block.
    pub slba: u64,
    /// Blocks.
    pub blocks: BlockCount,
    /// Force Unit Access: on the medium before the completion.
    pub fua: bool,
    /// Limited Retry: limit the effort to recover the data.
    pub limited_retry: bool,
    /// Protection information field, bits 3:0; zero without metadata.
    pub prinfo: u8,
}

impl ReadWrite {
    /// Reads the fields of a Read or Write command; the caller checks the opcode.
    pub const fn parse(sqe: &Sqe) -> Self {
        let cdw12 = sqe.cdw12.get();
        Self {
            nsid: sqe.nsid.get(),
            slba: sqe.cdw10_11(),
            blocks: BlockCount::from_0based(cdw12 as u16),
            fua: cdw12 & FUA != 0,
            limited_retry: cdw12 & LIMITED_RETRY != 0,
            prinfo: ((cdw12 >> 26) & 0xf) as u8,
        }
    }

    /// The command with `opcode` ([`nvm::READ`], [`nvm::WRITE`], [`nvm::COMPARE`]).
    pub fn build(&self, opcode: u8) -> Sqe {
        let mut sqe = Sqe::new(opcode, self.nsid);
        sqe.set_cdw10_11(self.slba);
        let mut cdw12 = u32::from(self.blocks.to_0based()) | (u32::from(self.prinfo & 0xf) << 26);
        if self.fua {
            cdw12 |= FUA;
        }
        if self.limited_retry {
            cdw12 |= LIMITED_RETRY;
        }
        sqe.cdw12 = U32::new(cdw12);
        sqe
    }
}

/// A read of `blocks` from `slba`.
pub fn read(nsid: u32, slba: u64, blocks: BlockCount) -> Sqe {
    ReadWrite {
        nsid,
        slba,
        blocks,
        fua: false,
        limited_retry: false,
        prinfo: 0,
    }
    .build(nvm::READ)
}

/// A write of `blocks` to `slba`.
pub fn write(nsid: u32, slba: u64, blocks: BlockCount, fua: bool) -> Sqe {
    ReadWrite {
        nsid,
        slba,
        blocks,
        fua,
        limited_retry: false,
        prinfo: 0,
    }
    .build(nvm::WRITE)
}

/// A flush of the namespace's volatile write cache.
pub fn flush(nsid: u32) -> Sqe {
    Sqe::new(nvm::FLUSH, nsid)
}

/// A Write Zeroes command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteZeroes {
    /// Namespace.
    pub nsid: u32,
    /// First logical block.
    pub slba: u64,
    /// Blocks.
    pub blocks: BlockCount,
    /// Force Unit Access.
    pub fua: bool,
    /// DEAC: the controller should deallocate if reads of deallocated blocks return zeroes.
    pub deallocate: bool,
}

impl WriteZeroes {
    /// Reads the fields of a Write Zeroes command.
    pub const fn parse(sqe: &Sqe) -> Self {
        let cdw12 = sqe.cdw12.get();
        Self {
            nsid: sqe.nsid.get(),
            slba: sqe.cdw10_11(),
            blocks: BlockCount::from_0based(cdw12 as u16),
            fua: cdw12 & FUA != 0,
            deallocate: cdw12 & DEAC != 0,
        }
    }

    /// The command.
    pub fn build(&self) -> Sqe {
        let mut sqe = Sqe::new(nvm::WRITE_ZEROES, self.nsid);
        sqe.set_cdw10_11(self.slba);
        let mut cdw12 = u32::from(self.blocks.to_0based());
        if self.fua {
            cdw12 |= FUA;
        }
        if self.deallocate {
            cdw12 |= DEAC;
        }
        sqe.cdw12 = U32::new(cdw12);
        sqe
    }
}

/// Zeroes `blocks` from `slba`, letting the controller deallocate them when `deallocate`.
pub fn write_zeroes(nsid: u32, slba: u64, blocks: BlockCount, fua: bool, deallocate: bool) -> Sqe {
    WriteZeroes {
        nsid,
        slba,
        blocks,
        fua,
        deallocate,
    }
    .build()
}

/// A Dataset Management command; its ranges are data, see [`DsmRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetManagement {
    /// Namespace.
    pub nsid: u32,
    /// Ranges in the data, 1 to 256.
    pub ranges: u16,
    /// Attribute Deallocate. Without it the command is only a hint.
    pub deallocate: bool,
}

impl DatasetManagement {
    /// Reads the fields of a Dataset Management command.
    pub const fn parse(sqe: &Sqe) -> Self {
        Self {
            nsid: sqe.nsid.get(),
            ranges: (sqe.cdw10.get() as u8) as u16 + 1,
            deallocate: sqe.cdw11.get() & DSM_DEALLOCATE != 0,
        }
    }

    /// Bytes of range data the command must carry.
    pub const fn data_bytes(&self) -> usize {
        self.ranges as usize * DsmRange::SIZE
    }
}

/// Deallocates the blocks named by `ranges` (1 to 256) [`DsmRange`]s of data.
///
/// `None` when `ranges` is 0 or above 256.
pub fn deallocate(nsid: u32, ranges: u16) -> Option<Sqe> {
    let last = u8::try_from(ranges.checked_sub(1)?).ok()?;
    let mut sqe = Sqe::new(nvm::DATASET_MANAGEMENT, nsid);
    sqe.cdw10 = U32::new(u32::from(last));
    sqe.cdw11 = U32::new(DSM_DEALLOCATE);
    Some(sqe)
}

/// One range of a Dataset Management command (NVM Command Set 1.1 §3.2.3).
#[derive(
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
)]
#[repr(C)]
pub struct DsmRange {
    /// Context attributes, zero for deallocation.
    pub attributes: U32,
    /// Length in logical blocks, counted from one.
    pub blocks: U32,
    /// First logical block.
    pub slba: U64,
}

impl DsmRange {
    /// Bytes on the wire.
    pub const SIZE: usize = 16;
    /// Most ranges in one command.
    pub const COUNT_MAX: usize = 256;

    /// A range without context attributes.
    #[must_use]
    pub const fn new(slba: u64, blocks: u32) -> Self {
        Self {
            attributes: U32::ZERO,
            blocks: U32::new(blocks),
            slba: U64::new(slba),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_write_fields() {
        let sqe = write(3, 0x1_0000_0002, BlockCount::new(65_536).unwrap(), true);
        assert_eq!(
            sqe.as_bytes()[40..52],
            [2, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0, 0x40]
        );
        assert_eq!((sqe.opcode, sqe.flags), (1, 0x40));
        let parsed = ReadWrite::parse(&sqe);
        assert_eq!(
            (parsed.slba, parsed.blocks.get(), parsed.fua),
            (0x1_0000_0002, 65_536, true)
        );
        assert_eq!(parsed.build(nvm::WRITE), sqe);
    }

    #[test]
    fn block_count_bounds() {
        assert_eq!(BlockCount::new(0), None);
        assert_eq!(BlockCount::new(65_537), None);
        assert_eq!(BlockCount::new(1), Some(BlockCount::ONE));
        assert_eq!(BlockCount::MAX.get(), 65_536);
    }

    #[test]
    fn dsm_and_write_zeroes() {
        assert_eq!(deallocate(1, 0), None);
        assert_eq!(deallocate(1, 257), None);
        let dsm = DatasetManagement::parse(&deallocate(1, 256).unwrap());
        assert_eq!(
            (dsm.ranges, dsm.deallocate, dsm.data_bytes()),
            (256, true, 4096)
        );
        let zeroes = WriteZeroes {
            nsid: 1,
            slba: 9,
            blocks: BlockCount::ONE,
            fua: true,
            deallocate: true,
        };
        assert_eq!(WriteZeroes::parse(&zeroes.build()), zeroes);
        assert_eq!(DsmRange::new(5, 6).as_bytes()[4..9], [6, 0, 0, 0, 5]);
    }
}
