//! The 16-byte completion queue entry (NVMe Base 2.1 §4.2).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::status::Status;

/// A completion queue entry, which over fabrics is the whole response capsule.
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
pub struct Cqe {
    /// Command specific result: dwords 0 and 1.
    pub result: U64,
    /// Submission queue head pointer, for flow control.
    pub sqhd: U16,
    /// Submission queue identifier; reserved over fabrics.
    pub sqid: U16,
    /// Identifier of the completed command.
    pub cid: U16,
    /// Phase tag (bit 0, zero over fabrics) and status (bits 15:1).
    pub status: U16,
}

impl Cqe {
    /// Bytes of an entry.
    pub const SIZE: usize = 16;

    /// A completion of `cid`.
    #[must_use]
    pub fn new(cid: u16, sqhd: u16, status: Status, result: u64) -> Self {
        Self {
            result: U64::new(result),
            sqhd: U16::new(sqhd),
            sqid: U16::ZERO,
            cid: U16::new(cid),
            status: U16::new(status.to_wire()),
        }
    }

    /// Decodes the start of a response capsule; `None` if it is shorter than 16 bytes.
    pub fn from_capsule(capsule: &[u8]) -> Option<Self> {
        Self::read_from_prefix(capsule).ok().map(|(cqe, _)| cqe)
    }

    /// The status without the phase tag.
    pub const fn status(&self) -> Status {
        Status::from_wire(self.status.get())
    }

    /// Dword 0 of the result.
    pub const fn dw0(&self) -> u32 {
        self.result.get() as u32
    }

    /// Dword 1 of the result.
    pub const fn dw1(&self) -> u32 {
        (self.result.get() >> 32) as u32
    }

    /// Dword 0 of the result in wire order.
    pub const fn dw0_le(&self) -> U32 {
        U32::new(self.dw0())
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<Cqe>(), Cqe::SIZE);
        assert_eq!(offset_of!(Cqe, sqhd), 8);
        assert_eq!(offset_of!(Cqe, sqid), 10);
        assert_eq!(offset_of!(Cqe, cid), 12);
        assert_eq!(offset_of!(Cqe, status), 14);
    }

    #[test]
    fn status_sits_above_the_phase_bit() {
        let cqe = Cqe::new(7, 3, Status::INVALID_FIELD.with_dnr(), 0x1_0000_0002);
        assert_eq!(cqe.as_bytes()[14..], [0x04, 0x80]);
        assert_eq!(cqe.status(), Status::INVALID_FIELD.with_dnr());
        assert_eq!((cqe.dw0(), cqe.dw1()), (2, 1));
    }
}
