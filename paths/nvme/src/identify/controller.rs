//! Identify Controller, CNS 01h (NVMe Base 2.1 §5.1.13.2.1, figure "Identify Controller").

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::flags::{cmic, cntrltype, ctratt, oncs, sgls, vwc};
use crate::log::ana::{AnaGroupHeader, AnaLogHeader};
use crate::nqn::{Nqn, NqnError};
use crate::property::Version;
use crate::text;

/// The Identify Controller data structure. Field names are the spec's; text is padded with spaces,
/// and every field that a peer may set to an invalid value has a checked accessor.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IdentifyController {
    /// PCI vendor.
    pub vid: U16,
    /// PCI subsystem vendor.
    pub ssvid: U16,
    /// Serial number.
    pub sn: [u8; 20],
    /// Model number.
    pub mn: [u8; 40],
    /// Firmware revision.
    pub fr: [u8; 8],
    /// Recommended arbitration burst, a power of two.
    pub rab: u8,
    /// IEEE OUI.
    pub ieee: [u8; 3],
    /// Multi-path and sharing capabilities, see [`cmic`].
    pub cmic: u8,
    /// Maximum data transfer size: smallest pages, a power of two; 0 for no limit.
    pub mdts: u8,
    /// Controller identifier.
    pub cntlid: U16,
    /// Version, as VS.
    pub ver: U32,
    /// RTD3 resume latency in microseconds.
    pub rtd3r: U32,
    /// RTD3 entry latency in microseconds.
    pub rtd3e: U32,
    /// Optional asynchronous events, see [`crate::aen::config`].
    pub oaes: U32,
    /// Controller attributes, see [`ctratt`].
    pub ctratt: U32,
    /// Read recovery levels.
    pub rrls: U16,
    /// Boot partition capabilities.
    pub bpcap: u8,
    /// Reserved.
    pub reserved103: u8,
    /// NVM subsystem shutdown latency in microseconds.
    pub nssl: U32,
    /// Reserved.
    pub reserved108: [u8; 2],
    /// Power loss signaling information.
    pub plsi: u8,
    /// Controller type, see [`cntrltype`].
    pub cntrltype: u8,
    /// FRU globally unique identifier.
    pub fguid: [u8; 16],
    /// Command retry delay times 1 to 3, in 100 ms.
    pub crdt: [U16; 3],
    /// Controller reachability capabilities (NVMe Base 2.2); unrelated to resets, see `ccrl`.
    pub crcap: u8,
    /// Controller instance uniquifier (NVMe Base 2.3, TP8028).
    pub ciu: u8,
    /// Controller instance random number (NVMe Base 2.3, TP8028).
    pub cirn: U64,
    /// Reserved.
    pub reserved144: [u8; 109],
    /// NVM subsystem report.
    pub nvmsr: u8,
    /// VPD write cycle information.
    pub vwci: u8,
    /// Management endpoint capabilities.
    pub mec: u8,
    /// Optional admin commands.
    pub oacs: U16,
    /// Abort command limit, counted from zero.
    pub acl: u8,
    /// Asynchronous event request limit, counted from zero.
    pub aerl: u8,
    /// Firmware updates.
    pub frmw: u8,
    /// Log page attributes, see [`lpa`](super::flags::lpa).
    pub lpa: u8,
    /// Error log entries, counted from zero.
    pub elpe: u8,
    /// Power states, counted from zero.
    pub npss: u8,
    /// Vendor specific admin command format.
    pub avscc: u8,
    /// Autonomous power state transitions.
    pub apsta: u8,
    /// Warning temperature in kelvins.
    pub wctemp: U16,
    /// Critical temperature in kelvins.
    pub cctemp: U16,
    /// Longest firmware activation in 100 ms.
    pub mtfa: U16,
    /// Host memory buffer, preferred size in 4 KiB.
    pub hmpre: U32,
    /// Host memory buffer, minimum size in 4 KiB.
    pub hmmin: U32,
    /// Total capacity in bytes.
    pub tnvmcap: U128,
    /// Unallocated capacity in bytes.
    pub unvmcap: U128,
    /// Replay protected memory block support.
    pub rpmbs: U32,
    /// Extended self-test time in minutes.
    pub edstt: U16,
    /// Self-test options.
    pub dsto: u8,
    /// Firmware update granularity in 4 KiB.
    pub fwug: u8,
    /// Keep alive granularity in 100 ms; 0 when keep alive is not supported.
    pub kas: U16,
    /// Host controlled thermal management.
    pub hctma: U16,
    /// Minimum thermal management temperature.
    pub mntmt: U16,
    /// Maximum thermal management temperature.
    pub mxtmt: U16,
    /// Sanitize capabilities.
    pub sanicap: U32,
    /// Host memory buffer minimum descriptor entry.
    pub hmminds: U32,
    /// Host memory buffer maximum descriptors.
    pub hmmaxd: U16,
    /// Largest NVM set identifier.
    pub nsetidmax: U16,
    /// Largest endurance group identifier.
    pub endgidmax: U16,
    /// Longest ANA transition in seconds.
    pub anatt: u8,
    /// ANA capabilities, see [`anacap`](super::flags::anacap).
    pub anacap: u8,
    /// Largest ANA group identifier.
    pub anagrpmax: U32,
    /// ANA groups.
    pub nanagrpid: U32,
    /// Persistent event log size in 64 KiB.
    pub pels: U32,
    /// Domain.
    pub domainid: U16,
    /// Key per I/O capabilities.
    pub kpioc: u8,
    /// Reserved.
    pub reserved359: u8,
    /// Longest activation without reset.
    pub mptfawr: U16,
    /// Reserved.
    pub reserved362: [u8; 6],
    /// Largest endurance group capacity in bytes.
    pub megcap: U128,
    /// Temperature threshold hysteresis.
    pub tmpthha: u8,
    /// Reserved.
    pub reserved385: u8,
    /// Command quiesce time in milliseconds (NVMe Base 2.1); 0 when not reported.
    pub cqt: U16,
    /// Configurable device personality and power fields.
    pub reserved388: [u8; 124],
    /// Submission entry sizes: log2 required (3:0) and maximum (7:4).
    pub sqes: u8,
    /// Completion entry sizes: log2 required (3:0) and maximum (7:4).
    pub cqes: u8,
    /// Commands the controller processes at once; 0 if not reported.
    pub maxcmd: U16,
    /// Largest namespace identifier.
    pub nn: U32,
    /// Optional I/O commands, see [`oncs`].
    pub oncs: U16,
    /// Fused operations.
    pub fuses: U16,
    /// Format attributes.
    pub fna: u8,
    /// Volatile write cache, see [`vwc`].
    pub vwc: u8,
    /// Atomic write unit in blocks, counted from zero.
    pub awun: U16,
    /// Atomic write unit at power fail in blocks, counted from zero.
    pub awupf: U16,
    /// Vendor specific I/O command format.
    pub icsvscc: u8,
    /// Namespace write protection capabilities.
    pub nwpc: u8,
    /// Atomic compare and write unit in blocks, counted from zero.
    pub acwu: U16,
    /// Copy descriptor formats.
    pub ocfs: U16,
    /// SGL support, see [`sgls`].
    pub sgls: U32,
    /// Most namespaces allowed; 0 for the value of `nn`.
    pub mnan: U32,
    /// Largest domain attachment.
    pub maxdna: U128,
    /// Most namespaces attached to an I/O controller; 0 for no limit.
    pub maxcna: U32,
    /// Optimal aggregated queue depth.
    pub oaqd: U32,
    /// Rapid hibernation, migration and tracking fields.
    pub reserved568: [u8; 200],
    /// Subsystem name, NUL-terminated.
    pub subnqn: [u8; 256],
    /// Reserved.
    pub reserved1024: [u8; 768],
    /// I/O command capsule: largest size in 16 bytes, at least 4.
    pub ioccsz: U32,
    /// I/O response capsule: largest size in 16 bytes, at least 1.
    pub iorcsz: U32,
    /// In-capsule data offset in 16 bytes from the end of the command.
    pub icdoff: U16,
    /// Fabrics controller attributes: bit 0 static controller model.
    pub fcatt: u8,
    /// Most data block descriptors in a command capsule; 0 for no limit.
    pub msdbd: u8,
    /// Optional fabrics commands: bit 0 Disconnect.
    pub ofcs: U16,
    /// Discovery controller type.
    pub dctype: u8,
    /// Number of concurrent cross-controller resets; 0 if not supported (NVMe Base 2.3, TP8028).
    pub ccrl: u8,
    /// Reserved.
    pub reserved1808: [u8; 240],
    /// Power state descriptors.
    pub psd: [PowerState; 32],
    /// Vendor specific.
    pub vs: [u8; 1024],
}

/// A power state descriptor; only the power is used here.
#[derive(
    FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct PowerState {
    /// Maximum power in centiwatts (or in 0.1 mW when bit 0 of `flags` is set).
    pub mp: U16,
    /// Reserved.
    pub reserved2: u8,
    /// Scale and non-operational flags.
    pub flags: u8,
    /// Latencies, throughputs and powers.
    pub rest: [u8; 28],
}

impl IdentifyController {
    /// Bytes on the wire.
    pub const SIZE: usize = 4096;

    /// Sets serial, model and firmware revision, padded with spaces and cut to their fields.
    pub fn set_texts(&mut self, serial: &str, model: &str, firmware: &str) {
        text::fill(&mut self.sn, serial, b' ');
        text::fill(&mut self.mn, model, b' ');
        text::fill(&mut self.fr, firmware, b' ');
    }

    /// Serial number without padding.
    pub fn serial(&self) -> &str {
        text::trimmed(&self.sn)
    }

    /// Model number without padding.
    pub fn model(&self) -> &str {
        text::trimmed(&self.mn)
    }

    /// Firmware revision without padding.
    pub fn firmware(&self) -> &str {
        text::trimmed(&self.fr)
    }

    /// Subsystem name, validated.
    pub fn subsystem(&self) -> Result<Nqn, NqnError> {
        Nqn::from_field(&self.subnqn)
    }

    /// Version.
    pub const fn version(&self) -> Version {
        Version(self.ver.get())
    }

    /// Whether this is a discovery controller.
    pub const fn is_discovery(&self) -> bool {
        self.cntrltype == cntrltype::DISCOVERY
    }

    /// Largest data transfer in bytes, given CAP.MPSMIN; `None` for no limit.
    pub const fn max_transfer_bytes(&self, mpsmin: u8) -> Option<u64> {
        limit_bytes(self.mdts, mpsmin)
    }

    /// In-capsule data size of an I/O command capsule, in bytes.
    pub const fn in_capsule_bytes(&self) -> u64 {
        (self.ioccsz.get() as u64 * 16).saturating_sub(64)
    }

    /// Offset of in-capsule data after the command, in bytes.
    pub const fn in_capsule_offset_bytes(&self) -> u32 {
        self.icdoff.get() as u32 * 16
    }

    /// Keep alive granularity in milliseconds; `None` when keep alive is not supported.
    pub const fn keep_alive_granularity_ms(&self) -> Option<u32> {
        match self.kas.get() {
            0 => None,
            units => Some(units as u32 * 100),
        }
    }

    /// Whether any command counts as a Keep Alive.
    pub const fn has_traffic_keep_alive(&self) -> bool {
        self.ctratt.get() & ctratt::TRAFFIC_KEEP_ALIVE != 0
    }

    /// Whether the controller reports ANA.
    pub const fn has_ana(&self) -> bool {
        self.cmic & cmic::ANA != 0
    }

    /// Largest ANA log in bytes with `namespaces` attached namespaces: one header, a descriptor per
    /// group, an identifier per namespace.
    pub const fn ana_log_bytes_max(&self, namespaces: u32) -> u64 {
        size_of::<AnaLogHeader>() as u64
            + self.nanagrpid.get() as u64 * size_of::<AnaGroupHeader>() as u64
            + namespaces as u64 * 4
    }

    /// Whether a volatile write cache is present.
    pub const fn has_volatile_cache(&self) -> bool {
        self.vwc & vwc::PRESENT != 0
    }

    /// Whether Dataset Management is supported.
    pub const fn has_dataset_management(&self) -> bool {
        self.oncs.get() & oncs::DATASET_MANAGEMENT != 0
    }

    /// Whether Write Zeroes is supported.
    pub const fn has_write_zeroes(&self) -> bool {
        self.oncs.get() & oncs::WRITE_ZEROES != 0
    }

    /// Whether keyed SGL descriptors are supported, which RDMA requires.
    pub const fn has_keyed_sgls(&self) -> bool {
        self.sgls.get() & sgls::KEYED != 0
    }

    /// Whether the controller accepts cross-controller resets (TP8028).
    pub const fn has_cross_controller_reset(&self) -> bool {
        self.ccrl != 0
    }
}

impl Default for IdentifyController {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// A size limit given as a power of two of the smallest page; `None` if it is 0 (no limit) or
/// exceeds 64 bits.
pub(super) const fn limit_bytes(exponent: u8, mpsmin: u8) -> Option<u64> {
    let shift = 12 + exponent as u32 + (mpsmin & 0xf) as u32;
    if exponent == 0 || shift > 63 {
        None
    } else {
        Some(1 << shift)
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<IdentifyController>(), IdentifyController::SIZE);
        macro_rules! at {
            ($($field:ident $offset:literal)*) => {
                $(assert_eq!(offset_of!(IdentifyController, $field), $offset, stringify!($field));)*
            };
        }
        at! {
            sn 4 mn 24 fr 64 cmic 76 mdts 77 cntlid 78 ver 80 oaes 92 ctratt 96 cntrltype 111
            fguid 112 crdt 128 crcap 134 ciu 135 cirn 136 nvmsr 253 oacs 256 acl 258 aerl 259
            lpa 261 wctemp 266 tnvmcap 280 rpmbs 312 kas 320 sanicap 328 anatt 342 anacap 343
            anagrpmax 344 nanagrpid 348 domainid 356 megcap 368 cqt 386 sqes 512 cqes 513
            maxcmd 514 nn 516 oncs 520 vwc 525 awun 526 nwpc 531 acwu 532 sgls 536 mnan 540
            maxcna 560 subnqn 768 ioccsz 1792 iorcsz 1796 icdoff 1800 fcatt 1802 msdbd 1803
            ofcs 1804 dctype 1806 ccrl 1807 psd 2048 vs 3072
        }
    }

    #[test]
    fn derived_values() {
        let mut id = IdentifyController::default();
        assert_eq!(id.max_transfer_bytes(0), None);
        assert_eq!(
            (id.in_capsule_bytes(), id.keep_alive_granularity_ms()),
            (0, None)
        );
        id.mdts = 8;
        id.ioccsz = U32::new(260);
        id.kas = U16::new(10);
        id.nanagrpid = U32::new(128);
        assert_eq!(id.max_transfer_bytes(0), Some(1 << 20));
        assert_eq!(
            (id.in_capsule_bytes(), id.keep_alive_granularity_ms()),
            (4096, Some(1000))
        );
        assert_eq!(id.ana_log_bytes_max(1024), 16 + 128 * 32 + 4096);
        id.mdts = 255;
        assert_eq!(id.max_transfer_bytes(15), None);
        id.set_texts("0123456789abcdefghijKLM", "umpath-array", "0.1");
        assert_eq!(
            (id.serial(), id.model()),
            ("0123456789abcdefghij", "umpath-array")
        );
    }
}
