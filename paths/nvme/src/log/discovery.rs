//! Discovery log: the subsystems and referrals of a portal.
//!
//! NVMe Base 2.1 §5.1.12.3.1. The log has 1,024 bytes of header and 1,024 per entry, and may change
//! between two reads: read the header, then the entries, then the header again, and start over if
//! the generation counter has changed.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::nqn::{Nqn, NqnError};
use crate::text;

/// Transport types.
pub mod trtype {
    /// RDMA.
    pub const RDMA: u8 = 1;
    /// Fibre Channel.
    pub const FC: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 3;
}

/// Address families.
pub mod adrfam {
    /// IPv4.
    pub const IPV4: u8 = 1;
    /// IPv6.
    pub const IPV6: u8 = 2;
    /// Fibre Channel.
    pub const FC: u8 = 4;
}

/// Subsystem types.
pub mod subtype {
    /// NVM subsystem.
    pub const NVM: u8 = 2;
    /// This discovery subsystem.
    pub const CURRENT_DISCOVERY: u8 = 3;
}

/// Transport requirements.
pub mod treq {
    /// Submission queue flow control can be disabled.
    pub const SQ_FLOW_CONTROL_DISABLE: u8 = 1 << 2;
}

/// Entry flags.
pub mod eflags {}

/// RDMA: bytes of the transport specific address subtype.
pub mod rdma {
    /// Byte 0, queue pair service: reliable connected.
    pub const QPTYPE_CONNECTED: u8 = 1;
    /// Byte 1, provider: not specified.
    pub const PRTYPE_NONE: u8 = 1;
    /// Byte 2, connection management: RDMA_CM.
    pub const CMS_RDMA_CM: u8 = 1;
}

/// Header of the log.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DiscoveryHeader {
    /// Generation counter: incremented by every change.
    pub generation: U64,
    /// Entries in the log.
    pub records: U64,
    /// Record format, 0.
    pub recfmt: U16,
    /// Reserved.
    pub reserved: [u8; 1006],
}

impl DiscoveryHeader {
    /// Bytes on the wire.
    pub const SIZE: usize = 1024;

    /// A header for `records` entries.
    #[must_use]
    pub fn new(generation: u64, records: u64) -> Self {
        Self {
            generation: U64::new(generation),
            records: U64::new(records),
            ..Self::new_zeroed()
        }
    }
}

/// One entry.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DiscoveryEntry {
    /// Transport type, see [`trtype`].
    pub trtype: u8,
    /// Address family, see [`adrfam`].
    pub adrfam: u8,
    /// Subsystem type, see [`subtype`].
    pub subtype: u8,
    /// Transport requirements, see [`treq`].
    pub treq: u8,
    /// Port identifier.
    pub portid: U16,
    /// Controller identifier: FFFFh dynamic, FFFEh static, or one controller.
    pub cntlid: U16,
    /// Largest admin queue in entries, at least 32.
    pub asqsz: U16,
    /// Entry flags, see [`eflags`].
    pub eflags: U16,
    /// Reserved.
    pub reserved0: [u8; 20],
    /// Transport service identifier (port number), text.
    pub trsvcid: [u8; 32],
    /// Reserved.
    pub reserved1: [u8; 192],
    /// Subsystem name, NUL-terminated.
    pub subnqn: [u8; 256],
    /// Transport address, text.
    pub traddr: [u8; 256],
    /// Transport specific address subtype.
    pub tsas: [u8; 256],
}

impl DiscoveryEntry {
    /// Bytes on the wire.
    pub const SIZE: usize = 1024;

    /// An entry of the dynamic controller model with a 32-entry admin queue; the caller sets what
    /// differs. Texts longer than their fields are truncated.
    #[must_use]
    pub fn new(
        trtype: u8,
        adrfam: u8,
        subtype: u8,
        subnqn: &Nqn,
        traddr: &str,
        port: &str,
    ) -> Self {
        let mut entry = Self {
            trtype,
            adrfam,
            subtype,
            cntlid: U16::new(0xffff),
            asqsz: U16::new(32),
            subnqn: subnqn.to_field(),
            ..Self::new_zeroed()
        };
        text::fill(&mut entry.traddr, traddr, 0);
        text::fill(&mut entry.trsvcid, port, 0);
        if trtype == trtype::RDMA {
            let [qptype, prtype, cms, ..] = &mut entry.tsas;
            (*qptype, *prtype, *cms) =
                (rdma::QPTYPE_CONNECTED, rdma::PRTYPE_NONE, rdma::CMS_RDMA_CM);
        }
        entry
    }

    /// The subsystem's name, validated.
    pub fn subsystem(&self) -> Result<Nqn, NqnError> {
        Nqn::from_field(&self.subnqn)
    }

    /// The address without padding.
    pub fn address(&self) -> &str {
        text::trimmed(&self.traddr)
    }

    /// The port without padding.
    pub fn service(&self) -> &str {
        text::trimmed(&self.trsvcid)
    }
}

/// A received log: header and whole entries.
#[derive(Clone, Copy, Debug)]
pub struct DiscoveryLog<'a> {
    /// Header.
    pub header: &'a DiscoveryHeader,
    /// Entries that both the header announces and the bytes contain.
    pub entries: &'a [DiscoveryEntry],
}

impl<'a> DiscoveryLog<'a> {
    /// Decodes a log; `None` if the header is truncated or its record format is not 0.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = DiscoveryHeader::ref_from_prefix(bytes).ok()?;
        if header.recfmt.get() != 0 {
            return None;
        }
        let held = rest.len() / DiscoveryEntry::SIZE;
        let count = usize::try_from(header.records.get()).map_or(held, |records| records.min(held));
        let (entries, _) = <[DiscoveryEntry]>::ref_from_prefix_with_elems(rest, count).ok()?;
        Some(Self { header, entries })
    }

    /// Whether the bytes contain every entry the header announces.
    pub fn is_complete(&self) -> bool {
        self.header.records.get() == self.entries.len() as u64
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<DiscoveryHeader>(), DiscoveryHeader::SIZE);
        assert_eq!(size_of::<DiscoveryEntry>(), DiscoveryEntry::SIZE);
        assert_eq!(core::mem::offset_of!(DiscoveryEntry, trsvcid), 32);
        assert_eq!(core::mem::offset_of!(DiscoveryEntry, subnqn), 256);
        assert_eq!(core::mem::offset_of!(DiscoveryEntry, traddr), 512);
        assert_eq!(core::mem::offset_of!(DiscoveryEntry, tsas), 768);
    }

    #[test]
    fn round_trip_and_truncation() {
        let nqn = Nqn::new("nqn.2026-11.test:vol1").unwrap();
        let entry = DiscoveryEntry::new(
            trtype::RDMA,
            adrfam::IPV4,
            subtype::NVM,
            &nqn,
            "10.9.1.1",
            "4420",
        );
        let mut bytes: Vec<u8> = DiscoveryHeader::new(5, 2).as_bytes().to_vec();
        bytes.extend_from_slice(entry.as_bytes());
        let log = DiscoveryLog::parse(&bytes).unwrap();
        assert!(!log.is_complete());
        assert_eq!(log.entries.first(), Some(&entry));
        bytes.extend_from_slice(entry.as_bytes());
        let log = DiscoveryLog::parse(&bytes).unwrap();
        assert!(log.is_complete());
        assert_eq!(
            (log.entries[1].address(), log.entries[1].service()),
            ("10.9.1.1", "4420")
        );
        assert_eq!(log.entries[1].subsystem(), Ok(nqn));
        assert!(DiscoveryLog::parse(&bytes[..1023]).is_none());
    }
}
