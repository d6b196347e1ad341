//! A namespace's block device limits, and the limits of a path to it.
//!
//! Decided here: how Identify data become limits of the block device and of each queue thread, and
//! whether two paths lead to the same namespace. A feature the controller does not report is not
//! used.

use std::fmt::Write as _;

use umpath_core::{BlockLimits, CommandLimits, Discard};
use umpath_session::{ControllerFacts, NamespaceFacts};

/// ONCS bits (NVMe Base 2.x, Identify Controller).
const ONCS_DATASET_MANAGEMENT: u16 = 1 << 2;
const ONCS_WRITE_ZEROES: u16 = 1 << 3;

/// Blocks one Write Zeroes can address (its 0-based 16-bit field).
const WRITE_ZEROES_BLOCKS: u64 = 1 << 16;

/// Largest data transfer if the controller reports no limit: what a keyed SGL can describe, in
/// whole pages.
const TRANSFER_BYTES: u64 = (1 << 24) - 4096;

/// Optimal I/O size if the namespace reports none.
const OPTIMAL_BYTES: u32 = 128 * 1024;

/// Limits of commands to this namespace through this controller.
#[must_use]
pub fn path_limits(controller: &ControllerFacts, namespace: &NamespaceFacts) -> CommandLimits {
    let transfer = controller
        .max_transfer
        .unwrap_or(TRANSFER_BYTES)
        .min(TRANSFER_BYTES);
    // As in Linux: without its own limit a Write Zeroes is bounded by MDTS.
    let zeroes_bytes = controller.nvm_limits.write_zeroes_bytes.unwrap_or(transfer);
    let zeroes = (zeroes_bytes >> namespace.lba_shift).min(WRITE_ZEROES_BLOCKS) as u32;
    // One range a command: the limit of a range (DMRSL) and of all together (DMSL).
    let range = controller.nvm_limits.dsm_range_blocks.unwrap_or(u32::MAX);
    let ranges = controller.nvm_limits.dsm_blocks.unwrap_or(u64::MAX);
    let discard = ranges.min(range.into()) as u32;
    CommandLimits {
        transfer_bytes_max: transfer as u32,
        write_zeroes_blocks_max: only(controller.oncs & ONCS_WRITE_ZEROES != 0, zeroes),
        write_zeroes_deallocate: namespace.write_zeroes_deallocates
            && namespace.deallocated_reads_zero,
        discard_blocks_max: only(controller.oncs & ONCS_DATASET_MANAGEMENT != 0, discard),
        ..CommandLimits::default()
    }
}

fn only(supported: bool, value: u32) -> u32 {
    if supported { value } else { 0 }
}

/// The volume's limits as the kernel sees them.
#[must_use]
pub fn block_limits(
    controller: &ControllerFacts,
    namespace: &NamespaceFacts,
    max_io_bytes: u32,
) -> BlockLimits {
    let block = namespace.block_bytes();
    let path = path_limits(controller, namespace);
    let in_bytes = |blocks: u32| u64::from(blocks) << namespace.lba_shift;
    let physical = power_of_two(in_bytes(namespace.write_granularity), block);
    let discard = (path.discard_blocks_max > 0).then(|| Discard {
        max_bytes: in_bytes(path.discard_blocks_max),
        granularity_bytes: power_of_two(in_bytes(namespace.dealloc_granularity), block),
    });
    let optimal = namespace
        .write_optimal
        .map_or(OPTIMAL_BYTES.into(), in_bytes);
    BlockLimits {
        size_bytes: namespace.blocks << namespace.lba_shift,
        logical_block_bytes: block,
        physical_block_bytes: physical,
        io_min_bytes: physical,
        io_opt_bytes: power_of_two(optimal, physical),
        max_io_bytes,
        // Whatever this controller says: a later one may have a cache, and the kernel asks once. A
        // controller without one answers FLUSH at once.
        volatile_cache: true,
        read_only: namespace.write_protected,
        discard,
        write_zeroes_max_bytes: in_bytes(path.write_zeroes_blocks_max),
    }
}

/// `bytes` if the block layer can express it (a power of two from `least` to 1 MiB), else `least`.
fn power_of_two(bytes: u64, least: u32) -> u32 {
    match u32::try_from(bytes) {
        Ok(bytes) if bytes.is_power_of_two() && (least..=1 << 20).contains(&bytes) => bytes,
        _ => least,
    }
}

/// Why a path's namespace is not the volume's; `None` if it is. `volume` and `path` hold the NQN
/// and facts of each.
pub(crate) fn difference(
    volume: (&str, &NamespaceFacts),
    path: (&str, &NamespaceFacts),
) -> Option<String> {
    let ((volume_nqn, volume), (path_nqn, path)) = (volume, path);
    let blocks = |blocks: &u64| format!("{blocks} blocks");
    let bytes = |bytes: &u32| format!("{bytes} bytes");
    differ("subsystem", [volume_nqn, path_nqn], |nqn| (*nqn).to_owned())
        .or_else(|| differ("size", [volume.blocks, path.blocks], blocks))
        .or_else(|| {
            differ(
                "block size",
                [volume, path].map(NamespaceFacts::block_bytes),
                bytes,
            )
        })
        .or_else(|| differ("UUID", [volume.uuid, path.uuid], |id| hex(id.as_ref())))
        .or_else(|| differ("NGUID", [volume.nguid, path.nguid], |id| hex(id.as_ref())))
        .or_else(|| differ("EUI64", [volume.eui64, path.eui64], |id| hex(id.as_ref())))
}

fn differ<T: PartialEq>(
    what: &str,
    [volume, path]: [T; 2],
    show: impl Fn(&T) -> String,
) -> Option<String> {
    let words = || {
        let (volume, path) = (show(&volume), show(&path));
        format!("{what} {volume} on the volume, {path} on this path")
    };
    (volume != path).then(words)
}

fn hex<const N: usize>(bytes: Option<&[u8; N]>) -> String {
    let Some(bytes) = bytes else {
        return "none".to_owned();
    };
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why two namespaces of one subsystem with different identities are one, or may be; `None`: they are
/// two. Each has its NSID.
///
/// A controller that lists fewer identifiers than another makes another identity of the same namespace.
/// Two block devices over one namespace would know nothing of each other's lost writes.
pub(crate) fn overlap(
    one: (u32, &NamespaceFacts),
    other: (u32, &NamespaceFacts),
) -> Option<String> {
    let ((one_nsid, one), (other_nsid, other)) = (one, other);
    let identifiers = [
        ("UUID", same(one.uuid, other.uuid)),
        ("NGUID", same(one.nguid, other.nguid)),
        ("EUI64", same(one.eui64, other.eui64)),
    ];
    if let Some((what, _)) = identifiers.iter().find(|(_, same)| *same == Some(true)) {
        return Some(format!("they have the same {what}"));
    }
    let told_apart = identifiers.iter().any(|(_, same)| *same == Some(false));
    (one_nsid == other_nsid && !told_apart)
        .then(|| format!("both are namespace {one_nsid}, and no identifier tells them apart"))
}

/// Whether two identifiers are the same; `None`: one is missing.
fn same<const N: usize>(one: Option<[u8; N]>, other: Option<[u8; N]>) -> Option<bool> {
    Some(one? == other?)
}

/// A namespace for tests, with a UUID made from `name`.
#[cfg(test)]
pub(crate) fn sample(name: u8) -> NamespaceFacts {
    NamespaceFacts {
        id: umpath_session::StableId::Uuid([name; 16]),
        uuid: Some([name; 16]),
        nguid: None,
        eui64: None,
        blocks: 1 << 20,
        lba_shift: 12,
        shared: true,
        ana_group: 1,
        write_protected: false,
        deallocated_reads_zero: true,
        write_zeroes_deallocates: true,
        dealloc_granularity: 1,
        dealloc_alignment: 1,
        write_granularity: 1,
        write_optimal: Some(3),
        io_boundary: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> NamespaceFacts {
        sample(1)
    }

    #[test]
    fn odd_preferences_are_ignored_rather_than_rounded() {
        assert_eq!(power_of_two(3 * 4096, 4096), 4096);
        assert_eq!(power_of_two(1 << 17, 4096), 1 << 17);
        assert_eq!(power_of_two(512, 4096), 4096);
        assert_eq!(power_of_two(1 << 40, 4096), 4096);
    }

    #[test]
    fn namespaces_are_two_only_where_an_identifier_says_so() {
        let one = namespace();
        let nguid = |uuid, nguid| NamespaceFacts {
            uuid,
            nguid: Some([nguid; 16]),
            ..namespace()
        };
        let both = nguid(one.uuid, 7);
        let poor = nguid(None, 7);
        let words = |one, other| overlap(one, other).unwrap_or_default();
        assert!(words((1, &both), (2, &poor)).contains("NGUID"));
        assert!(words((1, &one), (1, &poor)).contains("namespace 1"));
        assert_eq!(overlap((1, &one), (2, &poor)), None);
        assert_eq!(
            overlap((1, &both), (1, &nguid(Some([9; 16]), 8))),
            None,
            "it was replaced"
        );
        let odd = nguid(Some([9; 16]), 7);
        assert!(
            words((1, &both), (1, &odd)).contains("NGUID"),
            "one of both is wrong"
        );
    }

    #[test]
    fn a_difference_names_both_sides() {
        let volume = namespace();
        assert_eq!(difference(("a", &volume), ("a", &namespace())), None);
        let smaller = NamespaceFacts {
            blocks: 5,
            ..namespace()
        };
        let words = difference(("a", &volume), ("a", &smaller)).unwrap();
        assert_eq!(
            words,
            "size 1048576 blocks on the volume, 5 blocks on this path"
        );
        let format = NamespaceFacts {
            lba_shift: 9,
            ..namespace()
        };
        assert!(
            difference(("a", &volume), ("a", &format))
                .unwrap()
                .contains("512 bytes")
        );
        let other = NamespaceFacts {
            nguid: Some([2; 16]),
            ..namespace()
        };
        assert!(
            difference(("a", &volume), ("a", &other))
                .unwrap()
                .starts_with("NGUID none")
        );
        assert!(
            difference(("a", &volume), ("b", &namespace()))
                .unwrap()
                .contains("subsystem")
        );
    }
}
