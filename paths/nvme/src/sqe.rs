//! The 64-byte submission queue entry (NVMe Base 2.1 §4.1, figure "Common Command Format").

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::sgl::Sgl;

/// `flags`: PSDT 01b, "SGLs are used for the data transfer". Every fabrics capsule carries it.
pub const FLAGS_SGL: u8 = 0x40;
/// `flags`: the PSDT field (bits 7:6).
pub const FLAGS_PSDT_MASK: u8 = 0xc0;
/// `flags`: the FUSE field (bits 1:0).
pub const FLAGS_FUSE_MASK: u8 = 0x03;

/// A submission queue entry, the fixed part of a command capsule.
///
/// The named fields are those of I/O and admin commands. Fabrics commands use bytes 4 and 40 to 63
/// differently; build and parse them with [`crate::command::fabrics`].
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
    Hash,
    Default,
)]
#[repr(C)]
pub struct Sqe {
    /// Opcode, see [`crate::opcode`].
    pub opcode: u8,
    /// PSDT (bits 7:6) and FUSE (bits 1:0).
    pub flags: u8,
    /// Command identifier, unique among the commands outstanding on the queue.
    pub cid: U16,
    /// Namespace identifier; in fabrics commands byte 4 is the command type.
    pub nsid: U32,
    /// Command dword 2.
    pub cdw2: U32,
    /// Command dword 3.
    pub cdw3: U32,
    /// Metadata pointer.
    pub mptr: U64,
    /// SGL1, the data pointer.
    pub sgl: Sgl,
    /// Command dword 10.
    pub cdw10: U32,
    /// Command dword 11.
    pub cdw11: U32,
    /// Command dword 12.
    pub cdw12: U32,
    /// Command dword 13.
    pub cdw13: U32,
    /// Command dword 14.
    pub cdw14: U32,
    /// Command dword 15.
    pub cdw15: U32,
}

impl Sqe {
    /// Bytes of an entry.
    pub const SIZE: usize = 64;

    /// An entry with `opcode` and `nsid`, no data, PSDT 01b and everything else zero.
    #[must_use]
    pub fn new(opcode: u8, nsid: u32) -> Self {
        Self {
            opcode,
            flags: FLAGS_SGL,
            nsid: U32::new(nsid),
            sgl: Sgl::NONE,
            ..Self::default()
        }
    }

    /// The same entry with another command identifier.
    #[must_use]
    pub const fn with_cid(mut self, cid: u16) -> Self {
        self.cid = U16::new(cid);
        self
    }

    /// The same entry with another data pointer.
    #[must_use]
    pub const fn with_sgl(mut self, sgl: Sgl) -> Self {
        self.sgl = sgl;
        self
    }

    /// Decodes the start of a capsule; `None` if it is shorter than 64 bytes.
    pub fn from_capsule(capsule: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(capsule).ok()
    }

    /// CDW10 and CDW11 as one little-endian quantity.
    pub const fn cdw10_11(&self) -> u64 {
        (self.cdw10.get() as u64) | ((self.cdw11.get() as u64) << 32)
    }

    /// CDW12 and CDW13 as one little-endian quantity.
    pub const fn cdw12_13(&self) -> u64 {
        (self.cdw12.get() as u64) | ((self.cdw13.get() as u64) << 32)
    }

    /// Sets CDW10 and CDW11 from one little-endian quantity.
    pub(crate) const fn set_cdw10_11(&mut self, value: u64) {
        self.cdw10 = U32::new(value as u32);
        self.cdw11 = U32::new((value >> 32) as u32);
    }

    /// Sets CDW12 and CDW13 from one little-endian quantity.
    pub(crate) const fn set_cdw12_13(&mut self, value: u64) {
        self.cdw12 = U32::new(value as u32);
        self.cdw13 = U32::new((value >> 32) as u32);
    }

    /// Whether PSDT is 01b, the only value allowed in a fabrics capsule.
    pub const fn uses_sgl(&self) -> bool {
        self.flags & FLAGS_PSDT_MASK == FLAGS_SGL
    }

    /// Whether the entry is half of a fused operation.
    pub const fn is_fused(&self) -> bool {
        self.flags & FLAGS_FUSE_MASK != 0
    }

    /// The fabrics command type, byte 4; meaningful only when the opcode is
    /// [`FABRICS`](crate::opcode::FABRICS).
    pub const fn fabrics_type(&self) -> u8 {
        self.nsid.get() as u8
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<Sqe>(), Sqe::SIZE);
        assert_eq!(offset_of!(Sqe, cid), 2);
        assert_eq!(offset_of!(Sqe, nsid), 4);
        assert_eq!(offset_of!(Sqe, mptr), 16);
        assert_eq!(offset_of!(Sqe, sgl), 24);
        assert_eq!(offset_of!(Sqe, cdw10), 40);
        assert_eq!(offset_of!(Sqe, cdw15), 60);
    }

    #[test]
    fn short_capsule_is_refused() {
        assert!(Sqe::from_capsule(&[0; 63]).is_none());
        let (sqe, data) = Sqe::from_capsule(&[0; 70]).unwrap();
        assert_eq!(sqe.opcode, 0);
        assert_eq!(data.len(), 6);
    }
}
