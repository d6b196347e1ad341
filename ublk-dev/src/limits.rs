//! From a volume's [`BlockLimits`] to the driver's parameters.
//!
//! Decided here: the translation into the driver's parameters, and which combinations are refused
//! before the driver would. Not decided here: the values, which come from the namespace and the
//! transport. The driver takes parameters once, before the device starts; later only the size can
//! change.

use libublk::sys;
use umpath_core::BlockLimits;

/// Bytes of the block layer's sector, whatever the logical block size.
pub(crate) const SECTOR: u32 = 512;

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

/// Sectors of the whole volume.
pub(crate) fn sectors(limits: &BlockLimits) -> u64 {
    limits.size_bytes / u64::from(SECTOR)
}

/// How far a sector number is shifted to become a logical block address.
pub(crate) fn lba_shift(limits: &BlockLimits) -> u32 {
    limits.logical_block_bytes.trailing_zeros() - SECTOR.trailing_zeros()
}

/// The driver's form of `limits`.
pub(crate) fn to_params(limits: &BlockLimits) -> Result<sys::ublk_params, LimitsError> {
    let logical = limits.logical_block_bytes;
    if !logical.is_power_of_two() || !(SECTOR..=PAGE).contains(&logical) {
        return Err(LimitsError::LogicalBlock(logical));
    }
    if limits.size_bytes == 0 || !limits.size_bytes.is_multiple_of(u64::from(logical)) {
        return Err(LimitsError::Capacity(limits.size_bytes));
    }
    if !limits.max_io_bytes.is_multiple_of(PAGE) || !(PAGE..=MAX_IO).contains(&limits.max_io_bytes)
    {
        return Err(LimitsError::MaxIo(limits.max_io_bytes));
    }
    let mut attrs = 0;
    if limits.volatile_cache {
        attrs |= sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA;
    }
    if limits.read_only {
        attrs |= sys::UBLK_ATTR_READ_ONLY;
    }
    let mut params = sys::ublk_params {
        len: size_of::<sys::ublk_params>() as u32,
        types: sys::UBLK_PARAM_TYPE_BASIC,
        basic: sys::ublk_param_basic {
            attrs,
            logical_bs_shift: logical.trailing_zeros() as u8,
            physical_bs_shift: shift("physical block", limits.physical_block_bytes, logical)?,
            io_opt_shift: shift("optimal I/O", limits.io_opt_bytes, logical)?,
            io_min_shift: shift("minimum I/O", limits.io_min_bytes, logical)?,
            max_sectors: limits.max_io_bytes / SECTOR,
            chunk_sectors: 0,
            dev_sectors: sectors(limits),
            virt_boundary_mask: 0,
        },
        ..sys::ublk_params::default()
    };
    if limits.discard.is_some() || limits.write_zeroes_max_bytes > 0 {
        params.types |= sys::UBLK_PARAM_TYPE_DISCARD;
        params.discard = discard_params(limits)?;
    }
    Ok(params)
}

/// Discard and write-zeroes share one record; the driver wants a granularity in either case.
fn discard_params(limits: &BlockLimits) -> Result<sys::ublk_param_discard, LimitsError> {
    let (block, discard) = (limits.logical_block_bytes, limits.discard);
    let granularity = discard.map_or(block, |d| d.granularity_bytes);
    shift("discard granularity", granularity, block)?;
    Ok(sys::ublk_param_discard {
        discard_alignment: 0,
        discard_granularity: granularity,
        max_discard_sectors: discard.map_or(0, |d| whole_sectors(d.max_bytes, block)),
        max_write_zeroes_sectors: whole_sectors(limits.write_zeroes_max_bytes, block),
        // The driver hands over one extent at a time.
        max_discard_segments: 1,
        reserved0: 0,
    })
}

/// `bytes` as sectors: whole logical blocks, and within the driver's 32 bits.
fn whole_sectors(bytes: u64, logical_block_bytes: u32) -> u32 {
    let block = u64::from(logical_block_bytes);
    let most = u64::from(u32::MAX) * u64::from(SECTOR);
    (bytes.min(most) / block * block / u64::from(SECTOR)) as u32
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
    use umpath_core::Discard;

    use super::*;

    fn limits() -> BlockLimits {
        BlockLimits {
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
        assert_eq!(to_params(&limits()).unwrap().basic.attrs, both);
        let safe = BlockLimits {
            volatile_cache: false,
            ..limits()
        };
        assert_eq!(to_params(&safe).unwrap().basic.attrs, 0);
    }

    #[test]
    fn sizes_become_shifts_and_sectors() {
        let params = to_params(&limits()).unwrap();
        assert_eq!(params.basic.logical_bs_shift, 12);
        assert_eq!(params.basic.io_opt_shift, 17);
        assert_eq!(params.basic.max_sectors, 2048);
        assert_eq!(params.basic.dev_sectors, 1 << 21);
        assert_eq!(params.discard.max_discard_sectors, u32::MAX / 8 * 8);
        assert_eq!(params.discard.max_write_zeroes_sectors, 4096);
        assert_eq!(lba_shift(&limits()), 3);
    }

    #[test]
    fn a_volume_without_deallocation_has_no_discard_record() {
        let plain = BlockLimits {
            discard: None,
            write_zeroes_max_bytes: 0,
            ..limits()
        };
        assert_eq!(to_params(&plain).unwrap().types, sys::UBLK_PARAM_TYPE_BASIC);
        let zeroes = BlockLimits {
            discard: None,
            ..limits()
        };
        let params = to_params(&zeroes).unwrap();
        assert_eq!(params.discard.max_discard_sectors, 0);
        assert_eq!(params.discard.discard_granularity, 4096);
    }

    #[test]
    fn what_the_driver_would_refuse_is_refused_with_a_reason() {
        let refused = |l: BlockLimits| to_params(&l).unwrap_err();
        let block = BlockLimits {
            logical_block_bytes: 8192,
            ..limits()
        };
        assert_eq!(refused(block), LimitsError::LogicalBlock(8192));
        assert_eq!(
            refused(BlockLimits {
                size_bytes: 4097,
                ..limits()
            }),
            LimitsError::Capacity(4097)
        );
        assert_eq!(
            refused(BlockLimits {
                max_io_bytes: 0,
                ..limits()
            }),
            LimitsError::MaxIo(0)
        );
        let physical = BlockLimits {
            physical_block_bytes: 512,
            ..limits()
        };
        assert!(matches!(refused(physical), LimitsError::Shift { .. }));
    }
}
