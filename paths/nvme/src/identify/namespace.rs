//! Identify Namespace, CNS 00h (NVM Command Set 1.1 §4.1.5.1), and the command set independent
//! structure, CNS 08h (NVMe Base 2.1 §5.1.13.2.8).

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::flags::{dlfeat, independent_nsfeat, nmic, nsattr, nsfeat, nstat};

/// Format of a logical block.
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
pub struct LbaFormat {
    /// Metadata bytes of each block.
    pub ms: U16,
    /// log2 of the data bytes, at least 9; 0 for an unused format.
    pub lbads: u8,
    /// Relative performance, bits 1:0.
    pub rp: u8,
}

impl LbaFormat {
    /// A format without metadata; `block_bytes` must be a power of two.
    #[must_use]
    pub const fn plain(block_bytes: u32) -> Self {
        Self {
            ms: U16::ZERO,
            lbads: block_bytes.trailing_zeros() as u8,
            rp: 0,
        }
    }

    /// Data bytes of a block; `None` for an unused or invalid format.
    pub const fn block_bytes(&self) -> Option<u32> {
        match self.lbads {
            9..=31 => Some(1 << self.lbads),
            _ => None,
        }
    }
}

/// The Identify Namespace data structure; all zeroes for an inactive NSID.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IdentifyNamespace {
    /// Size in blocks.
    pub nsze: U64,
    /// Capacity in blocks.
    pub ncap: U64,
    /// Utilization in blocks.
    pub nuse: U64,
    /// Features, see [`nsfeat`].
    pub nsfeat: u8,
    /// LBA formats, counted from zero.
    pub nlbaf: u8,
    /// Format in use: index 3:0 and 6:5, bit 4 metadata interleaved.
    pub flbas: u8,
    /// Metadata capabilities.
    pub mc: u8,
    /// Protection capabilities.
    pub dpc: u8,
    /// Protection in use, bits 2:0.
    pub dps: u8,
    /// Sharing, see [`nmic`].
    pub nmic: u8,
    /// Reservation capabilities, see [`rescap`](super::flags::rescap).
    pub rescap: u8,
    /// Format progress.
    pub fpi: u8,
    /// Deallocation, see [`dlfeat`].
    pub dlfeat: u8,
    /// Atomic write unit in blocks, counted from zero.
    pub nawun: U16,
    /// Atomic write unit at power fail in blocks, counted from zero.
    pub nawupf: U16,
    /// Atomic compare and write unit in blocks, counted from zero.
    pub nacwu: U16,
    /// Atomic boundary in blocks, counted from zero.
    pub nabsn: U16,
    /// First atomic boundary.
    pub nabo: U16,
    /// Atomic boundary at power fail in blocks, counted from zero.
    pub nabspf: U16,
    /// Optimal I/O boundary in blocks; 0 for none.
    pub noiob: U16,
    /// Capacity in bytes.
    pub nvmcap: U128,
    /// Preferred write granularity in blocks, counted from zero.
    pub npwg: U16,
    /// Preferred write alignment in blocks, counted from zero.
    pub npwa: U16,
    /// Preferred deallocate granularity in blocks, counted from zero.
    pub npdg: U16,
    /// Preferred deallocate alignment in blocks, counted from zero.
    pub npda: U16,
    /// Optimal write size in blocks, counted from zero.
    pub nows: U16,
    /// Copy: largest single source range in blocks.
    pub mssrl: U16,
    /// Copy: largest total in blocks.
    pub mcl: U32,
    /// Copy: most source ranges, counted from zero.
    pub msrc: u8,
    /// Key per I/O status.
    pub kpios: u8,
    /// Formats unique to attributes.
    pub nulbaf: u8,
    /// Reserved.
    pub reserved83: u8,
    /// Key per I/O access and alignment granularity.
    pub kpiodaag: U32,
    /// Reserved.
    pub reserved88: [u8; 4],
    /// ANA group; 0 when ANA is not reported.
    pub anagrpid: U32,
    /// Reserved.
    pub reserved96: [u8; 3],
    /// Attributes, see [`nsattr`].
    pub nsattr: u8,
    /// NVM set.
    pub nvmsetid: U16,
    /// Endurance group.
    pub endgid: U16,
    /// Globally unique identifier, big-endian; zero for none.
    pub nguid: [u8; 16],
    /// IEEE EUI-64, big-endian; zero for none.
    pub eui64: [u8; 8],
    /// LBA formats.
    pub lbaf: [LbaFormat; 64],
    /// Vendor specific.
    pub vs: [u8; 3712],
}

impl IdentifyNamespace {
    /// Bytes on the wire.
    pub const SIZE: usize = 4096;

    /// A namespace of `blocks` blocks of `block_bytes` (a power of two) with one format.
    #[must_use]
    pub fn new(blocks: u64, block_bytes: u32) -> Self {
        let mut id = Self::new_zeroed();
        id.nsze = U64::new(blocks);
        id.ncap = id.nsze;
        id.nuse = id.nsze;
        let [first, ..] = &mut id.lbaf;
        *first = LbaFormat::plain(block_bytes);
        id
    }

    /// Whether the namespace is active on the controller that returned this.
    pub const fn is_active(&self) -> bool {
        self.ncap.get() != 0
    }

    /// Index of the format in use. The upper bits are used only with more than 16 formats.
    pub const fn format_index(&self) -> usize {
        let low = self.flbas & 0xf;
        let formats = self.nlbaf as u16 + self.nulbaf as u16 + 1;
        let high = if formats > 16 {
            (self.flbas >> 5) & 3
        } else {
            0
        };
        ((high << 4) | low) as usize
    }

    /// The format in use.
    pub fn format(&self) -> Option<LbaFormat> {
        self.lbaf.get(self.format_index()).copied()
    }

    /// Data bytes of a block; `None` if the format is unused or invalid.
    pub fn block_bytes(&self) -> Option<u32> {
        self.format()?.block_bytes()
    }

    /// Whether blocks carry metadata or protection information, which umpath does not support.
    pub fn has_metadata(&self) -> bool {
        self.dps & 7 != 0 || self.format().is_none_or(|format| format.ms.get() != 0)
    }

    /// Size in bytes; `None` if the format is invalid or the product exceeds 64 bits.
    pub fn size_bytes(&self) -> Option<u64> {
        self.nsze.get().checked_mul(u64::from(self.block_bytes()?))
    }

    /// NGUID, `None` when zero.
    pub fn nguid(&self) -> Option<[u8; 16]> {
        (self.nguid != [0; 16]).then_some(self.nguid)
    }

    /// EUI-64, `None` when zero.
    pub fn eui64(&self) -> Option<[u8; 8]> {
        (self.eui64 != [0; 8]).then_some(self.eui64)
    }

    /// Whether it may be attached to several controllers.
    pub const fn is_shared(&self) -> bool {
        self.nmic & nmic::SHARED != 0
    }

    /// Whether it is write protected.
    pub const fn is_write_protected(&self) -> bool {
        self.nsattr & nsattr::WRITE_PROTECTED != 0
    }

    /// Whether deallocated blocks read as zeroes.
    pub const fn deallocated_reads_zero(&self) -> bool {
        self.dlfeat & dlfeat::READ_MASK == dlfeat::READ_ZEROES
    }

    /// Whether Write Zeroes with DEAC deallocates.
    pub const fn write_zeroes_deallocates(&self) -> bool {
        self.dlfeat & dlfeat::WRITE_ZEROES_DEALLOCATES != 0
    }

    /// Preferred write granularity in blocks, `None` when not reported.
    pub const fn preferred_write_blocks(&self) -> Option<u32> {
        if self.nsfeat & (nsfeat::OPTIMAL_SIZES | nsfeat::OPTIMAL_SIZES_LARGE) == 0 {
            return None;
        }
        Some(self.npwg.get() as u32 + 1)
    }

    /// Preferred deallocate granularity in blocks, `None` when not reported.
    pub const fn preferred_deallocate_blocks(&self) -> Option<u32> {
        if self.nsfeat & nsfeat::OPTIMAL_SIZES == 0 {
            return None;
        }
        Some(self.npdg.get() as u32 + 1)
    }
}

impl Default for IdentifyNamespace {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// The command set independent Identify Namespace data structure.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IndependentNamespace {
    /// Features, see [`independent_nsfeat`].
    pub nsfeat: u8,
    /// Sharing, see [`nmic`].
    pub nmic: u8,
    /// Reservation capabilities.
    pub rescap: u8,
    /// Format progress.
    pub fpi: u8,
    /// ANA group.
    pub anagrpid: U32,
    /// Attributes, see [`nsattr`].
    pub nsattr: u8,
    /// Reserved.
    pub reserved9: u8,
    /// NVM set.
    pub nvmsetid: U16,
    /// Endurance group.
    pub endgid: U16,
    /// Status, see [`nstat`].
    pub nstat: u8,
    /// Key per I/O status.
    pub kpios: u8,
    /// Largest key tag.
    pub maxkt: U16,
    /// Reserved.
    pub reserved18: [u8; 2],
    /// Reachability group.
    pub rgrpid: U32,
    /// Reserved.
    pub reserved24: [u8; 4072],
}

impl IndependentNamespace {
    /// Bytes on the wire.
    pub const SIZE: usize = 4096;

    /// Whether the namespace has a volatile write cache; `controller_has`: whether the controller
    /// does.
    pub const fn has_volatile_cache(&self, controller_has: bool) -> bool {
        controller_has && self.nsfeat & independent_nsfeat::NO_VOLATILE_CACHE == 0
    }

    /// Whether the namespace is ready.
    pub const fn is_ready(&self) -> bool {
        self.nstat & nstat::READY != 0
    }
}

impl Default for IndependentNamespace {
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
        assert_eq!(size_of::<IdentifyNamespace>(), IdentifyNamespace::SIZE);
        macro_rules! at {
            ($($field:ident $offset:literal)*) => {
                $(assert_eq!(offset_of!(IdentifyNamespace, $field), $offset, stringify!($field));)*
            };
        }
        at! {
            nsfeat 24 nlbaf 25 flbas 26 dps 29 nmic 30 rescap 31 dlfeat 33 nawun 34 noiob 46
            nvmcap 48 npwg 64 nows 72 mssrl 74 mcl 76 msrc 80 anagrpid 92 nsattr 99 nvmsetid 100
            nguid 104 eui64 120 lbaf 128 vs 384
        }
        assert_eq!(
            size_of::<IndependentNamespace>(),
            IndependentNamespace::SIZE
        );
        assert_eq!(offset_of!(IndependentNamespace, anagrpid), 4);
        assert_eq!(offset_of!(IndependentNamespace, nstat), 14);
        assert_eq!(offset_of!(IndependentNamespace, rgrpid), 20);
    }

    #[test]
    fn formats() {
        let mut id = IdentifyNamespace::new(1 << 18, 4096);
        assert_eq!(
            (id.block_bytes(), id.size_bytes()),
            (Some(4096), Some(1 << 30))
        );
        assert!(id.is_active() && !id.has_metadata());
        id.flbas = 0x61;
        assert_eq!((id.format_index(), id.block_bytes()), (1, None));
        id.nlbaf = 63;
        assert_eq!(id.format_index(), 0x31);
        id.lbaf[0x31] = LbaFormat {
            ms: U16::new(8),
            lbads: 255,
            rp: 0,
        };
        assert_eq!(id.block_bytes(), None);
        assert!(id.has_metadata());
        assert!(!IdentifyNamespace::default().is_active());
    }
}
