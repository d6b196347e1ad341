//! How a volume appears to the block layer: its size, block sizes, cache and the largest requests.
//!
//! Decided here: the translation into the driver's parameters, and which combinations are refused
//! before the driver would. Not decided here: the values, which come from the namespace and the
//! transport. The driver takes parameters once, before the device starts; later only the size can
//! change.

use libublk::sys;
use serde::{Deserialize, Serialize};

/// Bytes of the block layer's sector, whatever the logical block size.
pub(crate) const SECTOR: u32 = 512;

/// Deallocation as the namespace offers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Discard {
    /// Largest request, bytes; a multiple of the logical block.
    pub max_bytes: u64,
    /// Unit that is worth deallocating, bytes; at least the logical block.
    pub granularity_bytes: u32,
}

/// Everything the block layer has to know of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Capacity, bytes; a multiple of the logical block.
    pub size_bytes: u64,
    /// Logical block, bytes: a power of two from 512 to the page size (4,096).
    pub logical_block_bytes: u32,
    /// Unit written without read-modify-write, bytes: a power of two, at least the logical block.
    pub physical_block_bytes: u32,
    /// Preferred smallest request, bytes: a power of two.
    pub io_min_bytes: u32,
    /// Preferred request, bytes: a power of two; the physical block when the namespace has none.
    pub io_opt_bytes: u32,
    /// Largest read or write, bytes: a multiple of 4,096. The lane splits what a path cannot take.
    pub max_io_bytes: u32,
    /// The namespace may lose acknowledged writes on power loss until flushed. Only then does the
    /// kernel send FLUSH and FUA.
    pub volatile_cache: bool,
    /// Writes are refused.
    pub read_only: bool,
    /// Deallocation, if the namespace has it.
    pub discard: Option<Discard>,
    /// Largest Write Zeroes request, bytes; 0 when the namespace has none.
    pub write_zeroes_max_bytes: u64,
}

/// Why limits cannot be shown as a ublk device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Format the namespace with blocks of 512 to 4,096 bytes.
    #[error(
        "logical blocks of {0} bytes cannot be a ublk device: format the namespace with 512 or \
         4096 byte blocks"
    )]
    LogicalBlock(u32),
    /// A size is not a power of two or too small.
    #[error("{name} of {bytes} bytes is not a power of two of at least {at_least} bytes")]
    Shift {
        /// Which limit.
        name: &'static str,
        /// Its value.
        bytes: u32,
        /// The least it may be.
        at_least: u32,
    },
    /// The capacity is zero or ends inside a block.
    #[error("a capacity of {0} bytes is zero or not a whole number of logical blocks")]
    Capacity(u64),
    /// The largest request is not usable.
    #[error("a largest request of {0} bytes is not a multiple of 4096 between 4096 and 32 MiB")]
    MaxIo(u32),
}

const PAGE: u32 = 4096;
/// The driver's own bound on one tag's buffer.
const MAX_IO: u32 = 32 << 20;

impl Limits {
    /// Sectors of the whole volume.
    pub fn sectors(&self) -> u64 {
        self.size_bytes / u64::from(SECTOR)
    }

    /// How far a sector number is shifted to become a logical block address.
    pub(crate) fn lba_shift(&self) -> u32 {
        self.logical_block_bytes.trailing_zeros() - SECTOR.trailing_zeros()
    }

    /// The driver's form of these limits.
    pub(crate) fn to_params(&self) -> Result<sys::ublk_params, LimitsError> {
        let logical = self.logical_block_bytes;
        if !logical.is_power_of_two() || !(SECTOR..=PAGE).contains(&logical) {
            return Err(LimitsError::LogicalBlock(logical));
        }
        if self.size_bytes == 0 || !self.size_bytes.is_multiple_of(u64::from(logical)) {
            return Err(LimitsError::Capacity(self.size_bytes));
        }
        if !self.max_io_bytes.is_multiple_of(PAGE) || !(PAGE..=MAX_IO).contains(&self.max_io_bytes)
        {
            return Err(LimitsError::MaxIo(self.max_io_bytes));
        }
        let mut attrs = 0;
        if self.volatile_cache {
            attrs |= sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA;
        }
        if self.read_only {
            attrs |= sys::UBLK_ATTR_READ_ONLY;
        }
        let mut params = sys::ublk_params {
            len: size_of::<sys::ublk_params>() as u32,
            types: sys::UBLK_PARAM_TYPE_BASIC,
            basic: sys::ublk_param_basic {
                attrs,
                logical_bs_shift: logical.trailing_zeros() as u8,
                physical_bs_shift: shift("physical block", self.physical_block_bytes, logical)?,
                io_opt_shift: shift("optimal I/O", self.io_opt_bytes, logical)?,
                io_min_shift: shift("minimum I/O", self.io_min_bytes, logical)?,
                max_sectors: self.max_io_bytes / SECTOR,
                chunk_sectors: 0,
                dev_sectors: self.sectors(),
                virt_boundary_mask: 0,
            },
            ..sys::ublk_params::default()
        };
        if self.discard.is_some() || self.write_zeroes_max_bytes > 0 {
            params.types |= sys::UBLK_PARAM_TYPE_DISCARD;
            params.discard = self.discard_params()?;
        }
        Ok(params)
    }

    /// Discard and write-zeroes share one record; the driver wants a granularity in either case.
    fn discard_params(&self) -> Result<sys::ublk_param_discard, LimitsError> {
        let granularity = self
            .discard
            .map_or(self.logical_block_bytes, |d| d.granularity_bytes);
        shift("discard granularity", granularity, self.logical_block_bytes)?;
        Ok(sys::ublk_param_discard {
            discard_alignment: 0,
            discard_granularity: granularity,
            max_discard_sectors: self.discard.map_or(0, |d| self.whole_sectors(d.max_bytes)),
            max_write_zeroes_sectors: self.whole_sectors(self.write_zeroes_max_bytes),
            // The driver hands over one extent at a time.
            max_discard_segments: 1,
            reserved0: 0,
        })
    }

    /// `bytes` as sectors: whole logical blocks, and within the driver's 32 bits.
    fn whole_sectors(&self, bytes: u64) -> u32 {
        let block = u64::from(self.logical_block_bytes);
        let most = u64::from(u32::MAX) * u64::from(SECTOR);
        (bytes.min(most) / block * block / u64::from(SECTOR)) as u32
    }
}

fn shift(name: &'static str, bytes: u32, at_least: u32) -> Result<u8, LimitsError> {
    if bytes.is_power_of_two() && bytes >= at_least {
        Ok(bytes.trailing_zeros() as u8)
    } else {
        Err(LimitsError::Shift {
            name,
            bytes,
            at_least,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            size_bytes: 1 << 30,
            logical_block_bytes: 4096,
            physical_block_bytes: 4096,
            io_min_bytes: 4096,
            io_opt_bytes: 1 << 17,
            max_io_bytes: 1 << 20,
            volatile_cache: true,
            read_only: false,
            discard: Some(Discard {
                max_bytes: u64::MAX,
                granularity_bytes: 4096,
            }),
            write_zeroes_max_bytes: 1 << 21,
        }
    }

    #[test]
    fn cache_attributes_come_as_a_pair_or_not_at_all() {
        let both = sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA;
        assert_eq!(limits().to_params().unwrap().basic.attrs, both);
        let safe = Limits {
            volatile_cache: false,
            ..limits()
        };
        assert_eq!(safe.to_params().unwrap().basic.attrs, 0);
    }

    #[test]
    fn sizes_become_shifts_and_sectors() {
        let params = limits().to_params().unwrap();
        assert_eq!(params.basic.logical_bs_shift, 12);
        assert_eq!(params.basic.io_opt_shift, 17);
        assert_eq!(params.basic.max_sectors, 2048);
        assert_eq!(params.basic.dev_sectors, 1 << 21);
        assert_eq!(params.discard.max_discard_sectors, u32::MAX / 8 * 8);
        assert_eq!(params.discard.max_write_zeroes_sectors, 4096);
        assert_eq!(limits().lba_shift(), 3);
    }

    #[test]
    fn a_volume_without_deallocation_has_no_discard_record() {
        let plain = Limits {
            discard: None,
            write_zeroes_max_bytes: 0,
            ..limits()
        };
        assert_eq!(plain.to_params().unwrap().types, sys::UBLK_PARAM_TYPE_BASIC);
        let zeroes = Limits {
            discard: None,
            ..limits()
        };
        let params = zeroes.to_params().unwrap();
        assert_eq!(params.discard.max_discard_sectors, 0);
        assert_eq!(params.discard.discard_granularity, 4096);
    }

    #[test]
    fn what_the_driver_would_refuse_is_refused_with_a_reason() {
        let refused = |l: Limits| l.to_params().unwrap_err();
        let block = Limits {
            logical_block_bytes: 8192,
            ..limits()
        };
        assert_eq!(refused(block), LimitsError::LogicalBlock(8192));
        assert_eq!(
            refused(Limits {
                size_bytes: 4097,
                ..limits()
            }),
            LimitsError::Capacity(4097)
        );
        assert_eq!(
            refused(Limits {
                max_io_bytes: 0,
                ..limits()
            }),
            LimitsError::MaxIo(0)
        );
        let physical = Limits {
            physical_block_bytes: 512,
            ..limits()
        };
        assert!(matches!(refused(physical), LimitsError::Shift { .. }));
    }
}
