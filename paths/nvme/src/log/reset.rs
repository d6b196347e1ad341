//! Cross-Controller Reset and Lost Host Communication logs (NVMe Base 2.3, TP8028).
//!
//! Layouts are libnvme's (linux-nvme/nvme-cli 03d73220, `nvme-types-base.h`).

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Log specific parameter of the Cross-Controller Reset log, bit 0: remove completed entries.
pub const LSP_REMOVE_COMPLETED: u8 = 1;

/// Header of both logs; 8-byte entries follow.
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
pub struct EntriesHeader {
    /// Entries that follow.
    pub entries: U16,
    /// Reserved.
    pub reserved: [u8; 6],
}

impl EntriesHeader {
    /// The header of a log of `entries` entries.
    pub const fn new(entries: u16) -> Self {
        Self {
            entries: U16::new(entries),
            reserved: [0; 6],
        }
    }
}

/// Result of one cross-controller reset.
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
pub struct ResetEntry {
    /// Impacted controller.
    pub icid: U16,
    /// Its instance uniquifier.
    pub ciu: u8,
    /// Reserved.
    pub reserved: u8,
    /// Alternate controller: another one to send the request to.
    pub acid: U16,
    /// Status, see [`ResetEntry::outcome`].
    pub ccrs: u8,
    /// Flags: validated (0), reset initiated (1), retry (3:2).
    pub ccrf: u8,
}

/// Status of one cross-controller reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetOutcome {
    /// In progress.
    InProgress,
    /// Done: the impacted controller executes nothing any more.
    Success,
    /// Failed; the impacted controller may still execute.
    Failed,
}

impl ResetEntry {
    /// Flag of [`ResetEntry::ccrf`]: the impacted controller was found under the given identity.
    pub const VALIDATED: u8 = 1;
    /// Flag of [`ResetEntry::ccrf`]: a controller level reset was initiated.
    pub const INITIATED: u8 = 1 << 1;

    /// An entry of a log.
    pub const fn new(icid: u16, ciu: u8, acid: u16, outcome: ResetOutcome, flags: u8) -> Self {
        let ccrs = match outcome {
            ResetOutcome::InProgress => 0,
            ResetOutcome::Success => 1,
            ResetOutcome::Failed => 2,
        };
        Self {
            icid: U16::new(icid),
            ciu,
            reserved: 0,
            acid: U16::new(acid),
            ccrs,
            ccrf: flags,
        }
    }

    /// The status; `None` for a reserved value, which proves nothing.
    pub const fn outcome(&self) -> Option<ResetOutcome> {
        match self.ccrs {
            0 => Some(ResetOutcome::InProgress),
            1 => Some(ResetOutcome::Success),
            2 => Some(ResetOutcome::Failed),
            _ => None,
        }
    }
}

/// One controller that lost contact with its host.
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
pub struct LostHostEntry {
    /// The controller.
    pub cntlid: U16,
    /// Number of losses.
    pub losses: u8,
    /// Its instance uniquifier.
    pub ciu: u8,
    /// Reserved.
    pub reserved: [u8; 4],
}

/// The entries that both the header announces and the bytes contain.
fn entries<T: FromBytes + KnownLayout + Immutable + Unaligned>(log: &[u8]) -> Option<&[T]> {
    let (header, rest) = EntriesHeader::ref_from_prefix(log).ok()?;
    let held = rest.len().checked_div(size_of::<T>())?;
    let count = usize::from(header.entries.get()).min(held);
    <[T]>::ref_from_prefix_with_elems(rest, count)
        .ok()
        .map(|(entries, _)| entries)
}

/// Entries of a Cross-Controller Reset log (1Eh); `None` if the header is truncated.
pub fn reset_entries(log: &[u8]) -> Option<&[ResetEntry]> {
    entries(log)
}

/// Entries of a Lost Host Communication log (1Fh); `None` if the header is truncated.
pub fn lost_host_entries(log: &[u8]) -> Option<&[LostHostEntry]> {
    entries(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_bounded_by_the_bytes() {
        assert_eq!(
            (size_of::<ResetEntry>(), size_of::<LostHostEntry>()),
            (8, 8)
        );
        let mut log = [0; 8 + 8 + 3];
        log[0] = 9;
        log[8..16].copy_from_slice(&[7, 0, 3, 0, 8, 0, 1, 2]);
        let resets = reset_entries(&log).unwrap();
        assert_eq!(resets.len(), 1);
        assert_eq!(
            (resets[0].icid.get(), resets[0].ciu, resets[0].acid.get()),
            (7, 3, 8)
        );
        assert_eq!(resets[0].outcome(), Some(ResetOutcome::Success));
        assert_eq!(lost_host_entries(&log).unwrap()[0].losses, 3);
        let entry = ResetEntry::new(7, 3, 8, ResetOutcome::Success, ResetEntry::INITIATED);
        assert_eq!(entry.as_bytes(), &log[8..16]);
        assert!(reset_entries(&log[..7]).is_none());
    }
}
