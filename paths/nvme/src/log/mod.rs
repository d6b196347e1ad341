//! Log pages (NVMe Base 2.1 §5.1.12).

pub mod ana;
pub mod discovery;
pub mod health;
pub mod reset;

pub use ana::{AnaGroup, AnaGroupHeader, AnaLog, AnaLogHeader, AnaLogWriter, AnaState};
pub use discovery::{DiscoveryEntry, DiscoveryHeader, DiscoveryLog};
pub use health::{
    CommandEffects, EffectsLog, ErrorEntry, FirmwareSlotLog, SmartLog, SupportedLogPages,
};

/// Log page identifiers.
pub mod lid {
    /// Supported Log Pages.
    pub const SUPPORTED: u8 = 0x00;
    /// Error Information.
    pub const ERROR: u8 = 0x01;
    /// SMART / Health Information.
    pub const SMART: u8 = 0x02;
    /// Firmware Slot Information.
    pub const FIRMWARE_SLOT: u8 = 0x03;
    /// Changed Attached Namespace List, an [`NsList`](crate::identify::NsList).
    pub const CHANGED_NAMESPACES: u8 = 0x04;
    /// Commands Supported and Effects.
    pub const COMMAND_EFFECTS: u8 = 0x05;
    /// Asymmetric Namespace Access.
    pub const ANA: u8 = 0x0c;
    /// Cross-Controller Reset (TP8028).
    pub const CROSS_CONTROLLER_RESET: u8 = 0x1e;
    /// Lost Host Communication (TP8028).
    pub const LOST_HOST_COMMUNICATION: u8 = 0x1f;
    /// Discovery.
    pub const DISCOVERY: u8 = 0x70;
}

/// First entry of a changed namespace list if more than 1,024 namespaces have changed.
pub const CHANGED_NAMESPACES_OVERFLOW: u32 = 0xffff_ffff;
