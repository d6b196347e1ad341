//! NVM command set specific structures: CNS 06h controller limits and CNS 05h namespace formats.
//!
//! NVM Command Set 1.1 §4.1.5.2 and §4.1.5.3. Linux reads the limits before it sizes discards and
//! write-zeroes; without this page it assumes MDTS and one range.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::controller::limit_bytes;

/// Identify Controller of the NVM command set, CNS 06h CSI 00h.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NvmController {
    /// Verify size limit, as MDTS.
    pub vsl: u8,
    /// Write Zeroes size limit, as MDTS.
    pub wzsl: u8,
    /// Write Uncorrectable size limit, as MDTS.
    pub wusl: u8,
    /// Dataset Management ranges limit; 0 for none (256 ranges).
    pub dmrl: u8,
    /// Dataset Management range size limit in blocks; 0 for none.
    pub dmrsl: U32,
    /// Dataset Management size limit in blocks over all ranges; 0 for none.
    pub dmsl: U64,
    /// Key per I/O capabilities.
    pub kpiocap: u8,
    /// Write Zeroes with deallocate size limit, as MDTS.
    pub wzdsl: u8,
    /// Admin optional commands.
    pub aocs: U16,
    /// Version of the command set specification.
    pub ver: U32,
    /// LBA migration queue format.
    pub lbamqf: u8,
    /// Reserved.
    pub reserved25: [u8; 4071],
}

impl NvmController {
    /// Bytes on the wire.
    pub const SIZE: usize = 4096;

    /// Largest Write Zeroes in bytes, given CAP.MPSMIN; `None` for no limit of its own.
    pub const fn write_zeroes_bytes_max(&self, mpsmin: u8) -> Option<u64> {
        limit_bytes(self.wzsl, mpsmin)
    }

    /// Most ranges of a Dataset Management command, 1 to 256.
    pub const fn dsm_ranges_max(&self) -> u16 {
        match self.dmrl {
            0 => 256,
            ranges => ranges as u16,
        }
    }

    /// Most blocks of one Dataset Management range; `None` for no limit.
    pub const fn dsm_range_blocks_max(&self) -> Option<u32> {
        match self.dmrsl.get() {
            0 => None,
            blocks => Some(blocks),
        }
    }

    /// Most blocks of all ranges of one Dataset Management command; `None` for no limit.
    pub const fn dsm_blocks_max(&self) -> Option<u64> {
        match self.dmsl.get() {
            0 => None,
            blocks => Some(blocks),
        }
    }
}

impl Default for NvmController {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Identify Namespace of the NVM command set, CNS 05h CSI 00h.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NvmNamespace {
    /// Logical block storage tag mask.
    pub lbstm: U64,
    /// Protection information capabilities.
    pub pic: u8,
    /// Protection information format attributes.
    pub pifa: u8,
    /// Reserved.
    pub reserved10: [u8; 2],
    /// Extended LBA formats: storage tag size 6:0, protection format 8:7.
    pub elbaf: [U32; 64],
    /// Preferred deallocate granularity in blocks, counted from *one*; 0 when not reported.
    pub npdgl: U32,
    /// Preferred read granularity in blocks.
    pub nprg: U32,
    /// Preferred read alignment in blocks.
    pub npra: U32,
    /// Optimal read size in blocks.
    pub nors: U32,
    /// Preferred deallocate alignment in blocks, counted from *one*; 0 when not reported.
    pub npdal: U32,
    /// Placement shard size.
    pub lbapss: U32,
    /// Tracked allocation granularity.
    pub tlbaag: U32,
    /// Reserved.
    pub reserved296: [u8; 3800],
}

impl NvmNamespace {
    /// Bytes on the wire.
    pub const SIZE: usize = 4096;

    /// Preferred deallocate granularity in blocks; `None` when not reported. Meaningful only with
    /// [`OPTIMAL_SIZES_LARGE`](super::flags::nsfeat::OPTIMAL_SIZES_LARGE).
    pub const fn preferred_deallocate_blocks(&self) -> Option<u32> {
        match self.npdgl.get() {
            0 => None,
            blocks => Some(blocks),
        }
    }
}

impl Default for NvmNamespace {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<NvmController>(), NvmController::SIZE);
        assert_eq!(offset_of!(NvmController, dmrsl), 4);
        assert_eq!(offset_of!(NvmController, dmsl), 8);
        assert_eq!(offset_of!(NvmController, ver), 20);
        assert_eq!(size_of::<NvmNamespace>(), NvmNamespace::SIZE);
        assert_eq!(offset_of!(NvmNamespace, elbaf), 12);
        assert_eq!(offset_of!(NvmNamespace, npdgl), 268);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut id = NvmController::default();
        assert_eq!(
            (id.dsm_ranges_max(), id.dsm_range_blocks_max()),
            (256, None)
        );
        assert_eq!(
            (id.write_zeroes_bytes_max(0), id.dsm_blocks_max()),
            (None, None)
        );
        id.wzsl = 11;
        id.dmrl = 32;
        assert_eq!(
            (id.write_zeroes_bytes_max(0), id.dsm_ranges_max()),
            (Some(8 << 20), 32)
        );
    }
}
