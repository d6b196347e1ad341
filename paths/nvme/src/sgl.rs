//! Scatter/gather list descriptors: the location of a command's data.
//!
//! NVMe Base 2.1 §4.3.2 and, for the keyed form, the NVMe over RDMA transport specification.

use core::fmt;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Descriptor types, the high nibble of the last byte.
mod kind {
    pub(super) const DATA_BLOCK: u8 = 0x0;
    pub(super) const KEYED_DATA_BLOCK: u8 = 0x4;
    pub(super) const TRANSPORT_DATA_BLOCK: u8 = 0x5;
}

/// Descriptor subtypes, the low nibble of the last byte.
mod subtype {
    pub(super) const ADDRESS: u8 = 0x0;
    pub(super) const OFFSET: u8 = 0x1;
    pub(super) const TRANSPORT_A: u8 = 0xa;
    pub(super) const INVALIDATE: u8 = 0xf;
}

/// The largest length a keyed descriptor can express (24 bits).
pub const KEYED_LENGTH_MAX: u32 = 0x00ff_ffff;

/// One 16-byte SGL descriptor as in a command capsule.
#[derive(
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
)]
#[repr(C)]
pub struct Sgl {
    /// Remote address, or offset for in-capsule data.
    pub address: U64,
    /// Length and, in keyed descriptors, the key: bytes 8 to 14.
    pub body: [u8; 7],
    /// Type (high nibble) and subtype (low nibble).
    pub id: u8,
}

/// A decoded descriptor, of the types supported here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SglKind {
    /// Memory with a remote key; the peer reads or writes it by RDMA.
    Keyed {
        /// Remote virtual address.
        address: u64,
        /// Bytes, at most [`KEYED_LENGTH_MAX`].
        length: u32,
        /// Remote key.
        key: u32,
        /// The target must invalidate `key` with the response (SEND_WITH_INV).
        invalidate: bool,
    },
    /// Data that follows the command in the same capsule.
    InCapsule {
        /// Bytes between the end of the 64-byte command (plus ICDOFF) and the data.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// Data moved by transport PDUs (NVMe/TCP).
    Transport {
        /// Bytes.
        length: u32,
    },
}

impl Sgl {
    /// No data: keyed, address 0, key 0, length 0.
    pub const NONE: Self = Self {
        address: U64::ZERO,
        body: [0; 7],
        id: (kind::KEYED_DATA_BLOCK << 4) | subtype::ADDRESS,
    };

    /// A keyed descriptor; `length` above [`KEYED_LENGTH_MAX`] loses its high byte, so split first.
    #[must_use]
    pub const fn keyed(address: u64, length: u32, key: u32) -> Self {
        Self::keyed_with(address, length, key, subtype::ADDRESS)
    }

    /// A keyed descriptor whose key the target must invalidate with its response.
    #[must_use]
    pub const fn keyed_invalidate(address: u64, length: u32, key: u32) -> Self {
        Self::keyed_with(address, length, key, subtype::INVALIDATE)
    }

    const fn keyed_with(address: u64, length: u32, key: u32, subtype: u8) -> Self {
        debug_assert!(length <= KEYED_LENGTH_MAX);
        let [l0, l1, l2, _] = length.to_le_bytes();
        let [k0, k1, k2, k3] = key.to_le_bytes();
        Self {
            address: U64::new(address),
            body: [l0, l1, l2, k0, k1, k2, k3],
            id: (kind::KEYED_DATA_BLOCK << 4) | subtype,
        }
    }

    /// Data in the capsule, `offset` bytes after the start of the in-capsule data area.
    #[must_use]
    pub const fn in_capsule(offset: u64, length: u32) -> Self {
        let [l0, l1, l2, l3] = length.to_le_bytes();
        Self {
            address: U64::new(offset),
            body: [l0, l1, l2, l3, 0, 0, 0],
            id: (kind::DATA_BLOCK << 4) | subtype::OFFSET,
        }
    }

    /// Data carried by the transport's own PDUs (NVMe/TCP).
    #[must_use]
    pub const fn transport(length: u32) -> Self {
        let [l0, l1, l2, l3] = length.to_le_bytes();
        Self {
            address: U64::ZERO,
            body: [l0, l1, l2, l3, 0, 0, 0],
            id: (kind::TRANSPORT_DATA_BLOCK << 4) | subtype::TRANSPORT_A,
        }
    }

    /// The decoded descriptor; `None` for an unsupported type, which a target rejects with
    /// [`SGL_DESCRIPTOR_TYPE_INVALID`](crate::Status::SGL_DESCRIPTOR_TYPE_INVALID).
    pub const fn kind(&self) -> Option<SglKind> {
        let [b0, b1, b2, b3, b4, b5, b6] = self.body;
        let address = self.address.get();
        match (self.id >> 4, self.id & 0xf) {
            (kind::KEYED_DATA_BLOCK, sub @ (subtype::ADDRESS | subtype::INVALIDATE)) => {
                Some(SglKind::Keyed {
                    address,
                    length: u32::from_le_bytes([b0, b1, b2, 0]),
                    key: u32::from_le_bytes([b3, b4, b5, b6]),
                    invalidate: sub == subtype::INVALIDATE,
                })
            }
            (kind::DATA_BLOCK, subtype::OFFSET) => Some(SglKind::InCapsule {
                offset: address,
                length: u32::from_le_bytes([b0, b1, b2, b3]),
            }),
            (kind::TRANSPORT_DATA_BLOCK, subtype::TRANSPORT_A) => Some(SglKind::Transport {
                length: u32::from_le_bytes([b0, b1, b2, b3]),
            }),
            _ => None,
        }
    }

    /// Length in bytes; 0 for an unsupported type.
    pub const fn length(&self) -> u32 {
        match self.kind() {
            Some(
                SglKind::Keyed { length, .. }
                | SglKind::InCapsule { length, .. }
                | SglKind::Transport { length },
            ) => length,
            None => 0,
        }
    }
}

impl From<SglKind> for Sgl {
    fn from(kind: SglKind) -> Self {
        match kind {
            SglKind::Keyed {
                address,
                length,
                key,
                invalidate: false,
            } => Self::keyed(address, length & KEYED_LENGTH_MAX, key),
            SglKind::Keyed {
                address,
                length,
                key,
                invalidate: true,
            } => Self::keyed_invalidate(address, length & KEYED_LENGTH_MAX, key),
            SglKind::InCapsule { offset, length } => Self::in_capsule(offset, length),
            SglKind::Transport { length } => Self::transport(length),
        }
    }
}

impl fmt::Debug for Sgl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => kind.fmt(f),
            None => write!(f, "Sgl(type {:#04x})", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_layout() {
        let sgl = Sgl::keyed_invalidate(0x1122_3344_5566_7788, 0x00ab_cdef, 0xdead_beef);
        assert_eq!(
            sgl.as_bytes(),
            [
                0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xef, 0xcd, 0xab, 0xef, 0xbe, 0xad,
                0xde, 0x4f
            ]
        );
        assert_eq!(sgl.length(), 0x00ab_cdef);
    }

    #[test]
    fn in_capsule_and_none() {
        let sgl = Sgl::in_capsule(0, 4096);
        assert_eq!(sgl.as_bytes()[8..], [0, 0x10, 0, 0, 0, 0, 0, 0x01]);
        assert_eq!(Sgl::NONE.as_bytes()[15], 0x40);
        assert_eq!(Sgl::NONE.length(), 0);
    }
}
