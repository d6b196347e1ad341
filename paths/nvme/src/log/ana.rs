//! Asymmetric Namespace Access log: the access state of each ANA group through this controller.
//!
//! NVMe Base 2.1 §5.1.12.1.13. The log's length depends on the number of groups and namespaces;
//! [`IdentifyController::ana_log_bytes_max`](crate::identify::IdentifyController) gives the limit.

use core::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Access state of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum AnaState {
    /// Full performance.
    Optimized = 0x1,
    /// Usable, but slower.
    NonOptimized = 0x2,
    /// Unusable for now.
    Inaccessible = 0x3,
    /// Permanently unusable.
    PersistentLoss = 0x4,
    /// Changing to another state.
    Change = 0xf,
}

impl AnaState {
    /// Decodes the low nibble of the state byte; `None` for reserved values.
    #[must_use]
    pub const fn from_wire(byte: u8) -> Option<Self> {
        match byte & 0xf {
            0x1 => Some(Self::Optimized),
            0x2 => Some(Self::NonOptimized),
            0x3 => Some(Self::Inaccessible),
            0x4 => Some(Self::PersistentLoss),
            0xf => Some(Self::Change),
            _ => None,
        }
    }

    /// Whether I/O is served: optimized or non-optimized.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Optimized | Self::NonOptimized)
    }

    /// The name Linux uses in sysfs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        }
    }
}

impl fmt::Display for AnaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Log specific parameter, bit 0: groups only, no namespace identifiers.
pub const LSP_GROUPS_ONLY: u8 = 1;

/// Header of the log.
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
pub struct AnaLogHeader {
    /// Change count: incremented by every change of any group.
    pub change_count: U64,
    /// Group descriptors that follow.
    pub groups: U16,
    /// Reserved.
    pub reserved: [u8; 6],
}

/// Header of one group descriptor; `nsid_count` 32-bit namespace identifiers follow.
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
pub struct AnaGroupHeader {
    /// Group identifier, from 1.
    pub group_id: U32,
    /// Namespace identifiers that follow.
    pub nsid_count: U32,
    /// Change count of the last change of this group.
    pub change_count: U64,
    /// State, low nibble.
    pub state: u8,
    /// Reserved.
    pub reserved: [u8; 15],
}

/// The log is shorter than its counts require.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ANA log is shorter than its counts say")
    }
}

impl core::error::Error for Truncated {}

/// A received log.
#[derive(Clone, Copy, Debug)]
pub struct AnaLog<'a> {
    header: AnaLogHeader,
    body: &'a [u8],
}

impl<'a> AnaLog<'a> {
    /// Decodes the header of `bytes`; groups are checked during iteration.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Truncated> {
        let (header, body) = AnaLogHeader::read_from_prefix(bytes).map_err(|_| Truncated)?;
        Ok(Self { header, body })
    }

    /// Change count of the log.
    pub fn change_count(&self) -> u64 {
        self.header.change_count.get()
    }

    /// Number of groups according to the header.
    pub fn group_count(&self) -> u16 {
        self.header.groups.get()
    }

    /// The groups; ends after the first one that is truncated.
    pub fn groups(&self) -> Groups<'a> {
        Groups {
            left: self.header.groups.get(),
            body: self.body,
        }
    }
}

/// One group of a received log.
#[derive(Clone, Copy, Debug)]
pub struct AnaGroup<'a> {
    header: AnaGroupHeader,
    nsids: &'a [U32],
}

impl<'a> AnaGroup<'a> {
    /// Group identifier.
    pub fn id(&self) -> u32 {
        self.header.group_id.get()
    }

    /// Change count of the last change of this group.
    pub fn change_count(&self) -> u64 {
        self.header.change_count.get()
    }

    /// State, `None` for a reserved value.
    pub fn state(&self) -> Option<AnaState> {
        AnaState::from_wire(self.header.state)
    }

    /// Namespaces of the group.
    pub fn nsids(&self) -> impl ExactSizeIterator<Item = u32> + 'a + use<'a> {
        self.nsids.iter().map(|nsid| nsid.get())
    }
}

/// Iterator of [`AnaLog::groups`].
#[derive(Clone, Debug)]
pub struct Groups<'a> {
    left: u16,
    body: &'a [u8],
}

impl<'a> Iterator for Groups<'a> {
    type Item = Result<AnaGroup<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let group = AnaGroupHeader::read_from_prefix(self.body)
            .ok()
            .and_then(|(header, rest)| {
                let count = usize::try_from(header.nsid_count.get()).ok()?;
                let (nsids, rest) = <[U32]>::ref_from_prefix_with_elems(rest, count).ok()?;
                self.body = rest;
                Some(AnaGroup { header, nsids })
            });
        if group.is_none() {
            self.left = 0;
        }
        Some(group.ok_or(Truncated))
    }
}

/// The buffer has no room for the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Writes a log into a buffer, group by group.
#[derive(Debug)]
pub struct AnaLogWriter<'a> {
    buffer: &'a mut [u8],
    used: usize,
    change_count: u64,
    groups: u16,
}

impl<'a> AnaLogWriter<'a> {
    /// Starts a log; `None` when `buffer` has no room for the header.
    pub fn new(buffer: &'a mut [u8], change_count: u64) -> Option<Self> {
        let used = size_of::<AnaLogHeader>();
        (buffer.len() >= used).then_some(Self {
            buffer,
            used,
            change_count,
            groups: 0,
        })
    }

    /// Appends a group; after [`Full`] the log does not include it.
    pub fn group(
        &mut self,
        id: u32,
        state: AnaState,
        change_count: u64,
        nsids: impl IntoIterator<Item = u32>,
    ) -> Result<(), Full> {
        let body = self.used + size_of::<AnaGroupHeader>();
        let mut end = body;
        let mut nsid_count = 0_u32;
        for nsid in nsids {
            let to = self.buffer.get_mut(end..end + 4).ok_or(Full)?;
            to.copy_from_slice(&nsid.to_le_bytes());
            end += 4;
            nsid_count += 1;
        }
        let header = AnaGroupHeader {
            group_id: U32::new(id),
            nsid_count: U32::new(nsid_count),
            change_count: U64::new(change_count),
            state: state as u8,
            reserved: [0; 15],
        };
        let groups = self.groups.checked_add(1).ok_or(Full)?;
        let to = self.buffer.get_mut(self.used..body).ok_or(Full)?;
        to.copy_from_slice(header.as_bytes());
        self.used = end;
        self.groups = groups;
        Ok(())
    }

    /// Writes the header and returns the bytes used.
    pub fn finish(self) -> usize {
        let header = AnaLogHeader {
            change_count: U64::new(self.change_count),
            groups: U16::new(self.groups),
            reserved: [0; 6],
        };
        for (to, from) in self.buffer.iter_mut().zip(header.as_bytes()) {
            *to = *from;
        }
        self.used
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<AnaLogHeader>(), 16);
        assert_eq!(size_of::<AnaGroupHeader>(), 32);
        assert_eq!(core::mem::offset_of!(AnaGroupHeader, state), 16);
    }

    #[test]
    fn written_log_is_read_back() {
        let mut buffer = [0xff; 256];
        let mut writer = AnaLogWriter::new(&mut buffer, 9).unwrap();
        writer.group(1, AnaState::Optimized, 3, [1, 2]).unwrap();
        writer.group(2, AnaState::Change, 9, []).unwrap();
        let used = writer.finish();
        assert_eq!(used, 16 + 32 + 8 + 32);

        let log = AnaLog::parse(&buffer[..used]).unwrap();
        let groups: Vec<_> = log.groups().map(|group| group.unwrap()).collect();
        assert_eq!((log.change_count(), groups.len()), (9, 2));
        assert_eq!(groups[0].nsids().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            (groups[1].id(), groups[1].state()),
            (2, Some(AnaState::Change))
        );
    }

    #[test]
    fn promises_it_cannot_keep() {
        let mut bytes = [0_u8; 48];
        bytes[8] = 2;
        bytes[20..24].fill(0xff);
        let log = AnaLog::parse(&bytes).unwrap();
        assert_eq!(log.groups().count(), 1);
        assert!(log.groups().next().unwrap().is_err());
        assert!(AnaLog::parse(&bytes[..15]).is_err());
    }

    #[test]
    fn full_buffer_keeps_the_log_whole() {
        let mut buffer = [0; 52];
        let mut writer = AnaLogWriter::new(&mut buffer, 1).unwrap();
        writer.group(1, AnaState::Inaccessible, 1, [5]).unwrap();
        assert_eq!(writer.group(2, AnaState::Optimized, 1, [6]), Err(Full));
        let used = writer.finish();
        let log = AnaLog::parse(&buffer[..used]).unwrap();
        assert_eq!(log.group_count(), 1);
    }
}
