//! Logs that a Linux host reads during controller setup or for a health query.
//!
//! NVMe Base 2.1 §5.1.12.1.

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::status::Status;
use crate::text;

/// SMART / Health Information (log 02h).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SmartLog {
    /// Critical warnings: spare, temperature, reliability, read-only, backup, PMR.
    pub critical_warning: u8,
    /// Composite temperature in kelvins, 0 when not reported.
    pub temperature_k: U16,
    /// Available spare in percent.
    pub available_spare: u8,
    /// Available spare threshold in percent.
    pub spare_threshold: u8,
    /// Endurance used in percent, may exceed 100.
    pub percentage_used: u8,
    /// Endurance group critical warnings.
    pub endurance_warning: u8,
    /// Reserved.
    pub reserved0: [u8; 25],
    /// Data read by the host, in thousands of 512-byte units.
    pub data_units_read: U128,
    /// Data written by the host, in thousands of 512-byte units.
    pub data_units_written: U128,
    /// Read commands completed.
    pub host_reads: U128,
    /// Write commands completed.
    pub host_writes: U128,
    /// Minutes busy with I/O commands.
    pub busy_minutes: U128,
    /// Power cycles.
    pub power_cycles: U128,
    /// Hours powered on.
    pub power_on_hours: U128,
    /// Shutdowns without notification.
    pub unsafe_shutdowns: U128,
    /// Unrecovered data integrity errors.
    pub media_errors: U128,
    /// Entries ever written to the error log.
    pub error_log_entries: U128,
    /// Minutes above the warning temperature.
    pub warning_temp_minutes: U32,
    /// Minutes above the critical temperature.
    pub critical_temp_minutes: U32,
    /// Temperature sensors in kelvins, 0 when absent.
    pub temp_sensors_k: [U16; 8],
    /// Thermal management counters and reserved bytes.
    pub reserved1: [u8; 296],
}

impl SmartLog {
    /// Bytes on the wire.
    pub const SIZE: usize = 512;
}

impl Default for SmartLog {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// One entry of Error Information (log 01h), newest first.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ErrorEntry {
    /// Serial number of the error; 0 for an unused entry.
    pub error_count: U64,
    /// Queue of the command; FFFFh for none.
    pub sqid: U16,
    /// Identifier of the command; FFFFh for none.
    pub cid: U16,
    /// Status in bits 15:1.
    pub status: U16,
    /// Byte (7:0) and bit (10:8) of the invalid parameter.
    pub parameter_location: U16,
    /// First failing block.
    pub lba: U64,
    /// Namespace.
    pub nsid: U32,
    /// Vendor specific log, 0 for none.
    pub vendor_lid: u8,
    /// Transport type of a transport error.
    pub trtype: u8,
    /// Command set of the command, valid from log version 1.
    pub csi: u8,
    /// Opcode of the command, valid from log version 1.
    pub opcode: u8,
    /// Command specific information.
    pub command_specific: U64,
    /// Transport specific information.
    pub transport_specific: U16,
    /// Reserved.
    pub reserved: [u8; 21],
    /// Log page version.
    pub version: u8,
}

impl ErrorEntry {
    /// Bytes on the wire.
    pub const SIZE: usize = 64;

    /// The status without the phase tag.
    pub const fn status(&self) -> Status {
        Status::from_wire(self.status.get())
    }
}

impl Default for ErrorEntry {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Firmware Slot Information (log 03h).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FirmwareSlotLog {
    /// Active slot (2:0), slot used after the next reset (6:4).
    pub active: u8,
    /// Reserved.
    pub reserved0: [u8; 7],
    /// Revisions of slots 1 to 7, padded text.
    pub revisions: [[u8; 8]; 7],
    /// Reserved.
    pub reserved1: [u8; 448],
}

impl FirmwareSlotLog {
    /// Bytes on the wire.
    pub const SIZE: usize = 512;

    /// A controller with one active slot holding `revision`.
    #[must_use]
    pub fn single(revision: &str) -> Self {
        let mut log = Self {
            active: 1,
            ..Self::new_zeroed()
        };
        let [first, ..] = &mut log.revisions;
        text::fill(first, revision, b' ');
        log
    }

    /// Revision in the active slot; empty if the slot number is out of range.
    pub fn active_revision(&self) -> &str {
        usize::from(self.active & 7)
            .checked_sub(1)
            .and_then(|slot| self.revisions.get(slot))
            .map_or("", |revision| text::trimmed(revision))
    }
}

/// Commands Supported and Effects (log 05h).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EffectsLog {
    /// Admin commands by opcode.
    pub admin: [U32; 256],
    /// I/O commands by opcode.
    pub io: [U32; 256],
    /// Reserved.
    pub reserved: [u8; 2048],
}

impl EffectsLog {
    /// Bytes on the wire.
    pub const SIZE: usize = 4096;

    /// Effects of admin command `opcode`.
    pub fn admin(&self, opcode: u8) -> CommandEffects {
        CommandEffects(
            self.admin
                .get(usize::from(opcode))
                .map_or(0, |word| word.get()),
        )
    }

    /// Effects of I/O command `opcode`.
    pub fn io(&self, opcode: u8) -> CommandEffects {
        CommandEffects(
            self.io
                .get(usize::from(opcode))
                .map_or(0, |word| word.get()),
        )
    }

    /// Sets the effects of admin command `opcode`.
    pub fn set_admin(&mut self, opcode: u8, effects: CommandEffects) {
        if let Some(word) = self.admin.get_mut(usize::from(opcode)) {
            word.set(effects.0);
        }
    }

    /// Sets the effects of I/O command `opcode`.
    pub fn set_io(&mut self, opcode: u8, effects: CommandEffects) {
        if let Some(word) = self.io.get_mut(usize::from(opcode)) {
            word.set(effects.0);
        }
    }
}

impl Default for EffectsLog {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Effects of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CommandEffects(pub u32);

impl CommandEffects {
    /// CSUPP: the command is supported.
    pub const SUPPORTED: Self = Self(1);
    /// CSUPP and LBCC: it changes logical block contents.
    pub const CHANGES_BLOCKS: Self = Self(1 | 1 << 1);

    /// Whether the command is supported.
    pub const fn is_supported(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the command changes logical block contents.
    pub const fn changes_blocks(self) -> bool {
        self.0 & (1 << 1) != 0
    }
}

/// Supported Log Pages (log 00h).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SupportedLogPages {
    /// Indexed by log page identifier: bit 0 supported, bit 1 index offset supported.
    pub lids: [U32; 256],
}

impl SupportedLogPages {
    /// Bytes on the wire.
    pub const SIZE: usize = 1024;

    /// Whether log `lid` is supported.
    pub fn supports(&self, lid: u8) -> bool {
        self.lids
            .get(usize::from(lid))
            .is_some_and(|word| word.get() & 1 != 0)
    }

    /// Marks log `lid` as supported.
    pub fn add(&mut self, lid: u8) {
        if let Some(word) = self.lids.get_mut(usize::from(lid)) {
            word.set(word.get() | 1);
        }
    }
}

impl Default for SupportedLogPages {
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
        assert_eq!(size_of::<SmartLog>(), SmartLog::SIZE);
        assert_eq!(offset_of!(SmartLog, temperature_k), 1);
        assert_eq!(offset_of!(SmartLog, data_units_read), 32);
        assert_eq!(offset_of!(SmartLog, warning_temp_minutes), 192);
        assert_eq!(offset_of!(SmartLog, temp_sensors_k), 200);
        assert_eq!(size_of::<ErrorEntry>(), ErrorEntry::SIZE);
        assert_eq!(offset_of!(ErrorEntry, nsid), 24);
        assert_eq!(offset_of!(ErrorEntry, command_specific), 32);
        assert_eq!(offset_of!(ErrorEntry, version), 63);
        assert_eq!(size_of::<FirmwareSlotLog>(), FirmwareSlotLog::SIZE);
        assert_eq!(size_of::<EffectsLog>(), EffectsLog::SIZE);
        assert_eq!(size_of::<SupportedLogPages>(), SupportedLogPages::SIZE);
    }

    #[test]
    fn firmware_slots() {
        assert_eq!(FirmwareSlotLog::single("1.0").active_revision(), "1.0");
        let mut log = FirmwareSlotLog::single("1.0");
        log.active = 0;
        assert_eq!(log.active_revision(), "");
    }

    #[test]
    fn effects_and_supported() {
        let mut effects = EffectsLog::default();
        effects.set_io(1, CommandEffects::CHANGES_BLOCKS);
        assert!(effects.io(1).changes_blocks() && !effects.admin(1).is_supported());
        let mut logs = SupportedLogPages::default();
        logs.add(0x0c);
        assert!(logs.supports(0x0c) && !logs.supports(0x0d));
    }
}
