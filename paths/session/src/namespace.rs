//! What a controller says about one namespace, checked.
//!
//! A namespace that cannot be used is reported with the reason and does not disturb its neighbours:
//! whoever builds a volume refuses it in those words.

use std::fmt;

use serde::{Deserialize, Serialize};
use umpath_nvme::Status;
use umpath_nvme::identify::flags::nsfeat;
use umpath_nvme::identify::{IdentifyNamespace, NsDescriptors, NsIdentifier, csi};

use crate::error::Fault;

/// Block sizes served, as base 2 logarithms.
const LBA_SHIFTS: std::ops::RangeInclusive<u8> = 9..=16;

/// One active namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Namespace identifier.
    pub nsid: u32,
    /// What is known of it, or why it cannot be used.
    pub facts: Result<NamespaceFacts, NamespaceProblem>,
}

/// A namespace that can carry a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceFacts {
    /// The identifier that is the same on every path.
    pub id: StableId,
    /// UUID, if it has one.
    pub uuid: Option<[u8; 16]>,
    /// NGUID, if it has one.
    pub nguid: Option<[u8; 16]>,
    /// EUI-64, if it has one.
    pub eui64: Option<[u8; 8]>,
    /// Size in logical blocks, not zero.
    pub blocks: u64,
    /// Base 2 logarithm of the logical block size in bytes, `9..=16`.
    pub lba_shift: u8,
    /// Whether several controllers may attach it (NMIC bit 0).
    pub shared: bool,
    /// ANA group; 0 if it is in none.
    pub ana_group: u32,
    /// Whether it is write protected now (NSATTR bit 0).
    pub write_protected: bool,
    /// Whether unmapped blocks read as zeroes (DLFEAT bits 2:0 = 1).
    pub deallocated_reads_zero: bool,
    /// Whether Write Zeroes may deallocate (DLFEAT bit 3).
    pub write_zeroes_deallocates: bool,
    /// Preferred granularity of deallocation in logical blocks, 1 or more.
    pub dealloc_granularity: u32,
    /// Preferred alignment of deallocation in logical blocks, 1 or more.
    pub dealloc_alignment: u32,
    /// Preferred granularity of writes in logical blocks, 1 or more.
    pub write_granularity: u32,
    /// Optimal write size in logical blocks; `None` if not reported.
    pub write_optimal: Option<u32>,
    /// Blocks a write should not cross (NOIOB); `None` if there is no such boundary.
    pub io_boundary: Option<u16>,
}

impl NamespaceFacts {
    /// Logical block size in bytes.
    pub fn block_bytes(&self) -> u32 {
        1 << self.lba_shift
    }
}

/// Identifiers gathered from Identify Namespace and from the identification descriptors.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Identifiers {
    uuid: Option<[u8; 16]>,
    nguid: Option<[u8; 16]>,
    eui64: Option<[u8; 8]>,
    command_set: Option<u8>,
}

impl Identifiers {
    pub(crate) fn of_page(id: &IdentifyNamespace) -> Self {
        Self {
            nguid: id.nguid(),
            eui64: id.eui64(),
            ..Self::default()
        }
    }

    /// Adds what the descriptors say. Two sources that disagree are worth less than none.
    pub(crate) fn add_descriptors(&mut self, page: &[u8]) -> Result<(), NamespaceProblem> {
        for identifier in NsDescriptors::new(page) {
            let identifier =
                identifier.map_err(|error| NamespaceProblem::Garbage(Fault::Descriptors(error)))?;
            match identifier {
                NsIdentifier::Uuid(uuid) => merge(&mut self.uuid, uuid)?,
                NsIdentifier::Nguid(nguid) => merge(&mut self.nguid, nguid)?,
                NsIdentifier::Eui64(eui64) => merge(&mut self.eui64, eui64)?,
                NsIdentifier::CommandSet(csi) => self.command_set = Some(csi),
            }
        }
        Ok(())
    }

    /// UUID before NGUID before EUI-64.
    fn stable(&self) -> Option<StableId> {
        let nguid = || self.nguid.map(StableId::Nguid);
        let eui64 = || self.eui64.map(StableId::Eui64);
        self.uuid.map(StableId::Uuid).or_else(nguid).or_else(eui64)
    }
}

fn merge<const N: usize>(
    known: &mut Option<[u8; N]>,
    found: [u8; N],
) -> Result<(), NamespaceProblem> {
    if found == [0; N] {
        return Ok(());
    }
    match known.replace(found) {
        Some(before) if before != found => Err(NamespaceProblem::Contradiction),
        _ => Ok(()),
    }
}

impl NamespaceFacts {
    /// Judges Identify Namespace and whatever identifiers were found.
    pub(crate) fn judge(
        id: &IdentifyNamespace,
        identifiers: &Identifiers,
    ) -> Result<Self, NamespaceProblem> {
        if let Some(other) = identifiers.command_set.filter(|csi| *csi != csi::NVM) {
            return Err(NamespaceProblem::CommandSet(other));
        }
        let (blocks, lba_shift) = judge_size(id)?;
        let sizes = id.nsfeat & nsfeat::OPTIMAL_SIZES != 0;
        let optional = |field: u16| if sizes { u32::from(field) + 1 } else { 1 };
        Ok(Self {
            id: identifiers.stable().ok_or(NamespaceProblem::NoStableId)?,
            uuid: identifiers.uuid,
            nguid: identifiers.nguid,
            eui64: identifiers.eui64,
            blocks,
            lba_shift,
            shared: id.is_shared(),
            ana_group: id.anagrpid.get(),
            write_protected: id.is_write_protected(),
            deallocated_reads_zero: id.deallocated_reads_zero(),
            write_zeroes_deallocates: id.write_zeroes_deallocates(),
            dealloc_granularity: optional(id.npdg.get()),
            dealloc_alignment: optional(id.npda.get()),
            write_granularity: optional(id.npwg.get()),
            write_optimal: (sizes && id.nows.get() != 0).then(|| u32::from(id.nows.get()) + 1),
            io_boundary: (id.noiob.get() != 0).then(|| id.noiob.get()),
        })
    }
}

/// Size in blocks and block size as base 2 logarithm of bytes.
fn judge_size(id: &IdentifyNamespace) -> Result<(u64, u8), NamespaceProblem> {
    let blocks = id.nsze.get();
    if blocks == 0 || !id.is_active() {
        return Err(NamespaceProblem::ZeroSize);
    }
    let index = id.format_index();
    let formats = usize::from(id.nlbaf) + usize::from(id.nulbaf) + 1;
    let format = id.format().filter(|_| index < formats);
    let format = format.ok_or(NamespaceProblem::NoSuchFormat(index as u8))?;
    let lba_shift = format.lbads;
    if !LBA_SHIFTS.contains(&lba_shift) {
        return Err(NamespaceProblem::LbaShift(lba_shift));
    }
    if id.has_metadata() {
        return Err(NamespaceProblem::Metadata(format.ms.get()));
    }
    if blocks > i64::MAX as u64 >> lba_shift {
        return Err(NamespaceProblem::Oversize { blocks, lba_shift });
    }
    Ok((blocks, lba_shift))
}

/// An identifier that outlives paths and reconnects: UUID before NGUID before EUI-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StableId {
    /// UUID.
    Uuid([u8; 16]),
    /// NGUID.
    Nguid([u8; 16]),
    /// EUI-64.
    Eui64([u8; 8]),
}

impl fmt::Display for StableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| -> fmt::Result {
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        match self {
            Self::Uuid(bytes) => {
                f.write_str("uuid.")?;
                for (at, byte) in bytes.iter().enumerate() {
                    let dash = if matches!(at, 4 | 6 | 8 | 10) {
                        "-"
                    } else {
                        ""
                    };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
            Self::Nguid(bytes) => {
                f.write_str("eui.")?;
                hex(f, bytes)
            }
            Self::Eui64(bytes) => {
                f.write_str("eui.")?;
                hex(f, bytes)
            }
        }
    }
}

/// Why a namespace cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceProblem {
    /// It has neither UUID nor NGUID nor EUI-64, so paths to it cannot be told apart from paths to
    /// another namespace.
    #[error("it has no stable identifier (UUID, NGUID or EUI-64)")]
    NoStableId,
    /// Its size is zero.
    #[error("its size is zero, or it is no longer active")]
    ZeroSize,
    /// Its size in bytes exceeds 63 bits.
    #[error("its size of {blocks} blocks of 2^{lba_shift} bytes is impossible")]
    Oversize {
        /// Blocks.
        blocks: u64,
        /// Base 2 logarithm of the block size.
        lba_shift: u8,
    },
    /// FLBAS names a format beyond NLBAF.
    #[error("its LBA format {0} does not exist")]
    NoSuchFormat(u8),
    /// The block size is not between 512 bytes and 64 KiB.
    #[error("its block size of 2^{0} bytes is outside 2^9..=2^16")]
    LbaShift(u8),
    /// Blocks carry metadata.
    #[error("its blocks carry {0} bytes of metadata each, which is not supported")]
    Metadata(u16),
    /// It does not speak the NVM command set.
    #[error("its command set {0} is not NVM")]
    CommandSet(u8),
    /// Identify Namespace and the identification descriptors name different identifiers.
    #[error("its identifiers contradict each other")]
    Contradiction,
    /// A command to identify it failed.
    #[error("it could not be identified: {0}")]
    Refused(Status),
    /// An answer cannot be decoded.
    #[error("it could not be identified: {0}")]
    Garbage(Fault),
}
