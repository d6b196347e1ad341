//! Asynchronous events: dword 0 of the completion of an Asynchronous Event Request.
//!
//! NVMe Base 2.1 §5.1.2.

use crate::log::lid;

/// Bits of the Asynchronous Event Configuration feature (0Bh), the notices the host wants, and of
/// OAES in Identify Controller, those the controller can send.
pub mod config {
    /// Attached Namespace Attribute Notices.
    pub const NAMESPACE_ATTRIBUTE: u32 = 1 << 8;
    /// Firmware Activation Notices.
    pub const FIRMWARE_ACTIVATION: u32 = 1 << 9;
    /// Asymmetric Namespace Access Change Notices.
    pub const ANA_CHANGE: u32 = 1 << 11;
    /// Cross-Controller Reset Completed Notices (TP8028).
    pub const CCR_COMPLETED: u32 = 1 << 20;
    /// Lost Host Communication Notices (TP8028).
    pub const LOST_HOST: u32 = 1 << 21;
    /// Discovery Log Page Change Notices.
    pub const DISCOVERY_CHANGE: u32 = 1 << 31;
}

/// Event types, bits 2:0.
pub mod kind {
    /// Error status.
    pub const ERROR: u8 = 0;
    /// SMART / health status.
    pub const SMART: u8 = 1;
    /// Notice.
    pub const NOTICE: u8 = 2;
    /// Immediate.
    pub const IMMEDIATE: u8 = 3;
    /// Vendor specific.
    pub const VENDOR: u8 = 7;
}

/// Dword 0 of the completion: type 2:0, information 15:8, log page 23:16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AsyncEvent {
    /// Event type, see [`kind`].
    pub kind: u8,
    /// Event information; its meaning depends on the type.
    pub info: u8,
    /// The log page with details; reading it re-arms the event.
    pub lid: u8,
}

impl AsyncEvent {
    /// The attached namespaces or their attributes changed; read the changed namespace list.
    pub const NAMESPACE_ATTRIBUTE: Self = Self::notice(0x00, lid::CHANGED_NAMESPACES);
    /// Firmware is being activated.
    pub const FIRMWARE_ACTIVATION: Self = Self::notice(0x01, lid::FIRMWARE_SLOT);
    /// ANA states changed; read the ANA log.
    pub const ANA_CHANGE: Self = Self::notice(0x03, lid::ANA);
    /// The discovery log changed.
    pub const DISCOVERY_CHANGE: Self = Self::notice(0xf0, lid::DISCOVERY);
    /// A cross-controller reset completed (TP8028).
    pub const CCR_COMPLETED: Self = Self::notice(0xf4, lid::CROSS_CONTROLLER_RESET);
    /// The controller lost contact with a host on another controller (TP8028).
    pub const LOST_HOST: Self = Self::notice(0xf5, lid::LOST_HOST_COMMUNICATION);

    /// A notice.
    #[must_use]
    pub const fn notice(info: u8, lid: u8) -> Self {
        Self {
            kind: kind::NOTICE,
            info,
            lid,
        }
    }

    /// Decodes dword 0 of the completion; reserved bits are dropped.
    #[must_use]
    pub const fn from_dw0(dw0: u32) -> Self {
        Self {
            kind: (dw0 & 7) as u8,
            info: (dw0 >> 8) as u8,
            lid: (dw0 >> 16) as u8,
        }
    }

    /// Dword 0 of the completion.
    pub const fn to_dw0(self) -> u32 {
        (self.kind & 7) as u32 | ((self.info as u32) << 8) | ((self.lid as u32) << 16)
    }

    /// Whether two events are the same, whatever log page they name.
    pub const fn is(self, other: Self) -> bool {
        self.kind == other.kind && self.info == other.info
    }

    /// The bit of [`config`] that must be set before a controller sends this; `None` for events
    /// that need no configuration.
    pub const fn config_bit(self) -> Option<u32> {
        match (self.kind, self.info) {
            (kind::NOTICE, 0x00) => Some(config::NAMESPACE_ATTRIBUTE),
            (kind::NOTICE, 0x01) => Some(config::FIRMWARE_ACTIVATION),
            (kind::NOTICE, 0x03) => Some(config::ANA_CHANGE),
            (kind::NOTICE, 0xf0) => Some(config::DISCOVERY_CHANGE),
            (kind::NOTICE, 0xf4) => Some(config::CCR_COMPLETED),
            (kind::NOTICE, 0xf5) => Some(config::LOST_HOST),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dword_layout() {
        assert_eq!(AsyncEvent::ANA_CHANGE.to_dw0(), 0x000c_0302);
        assert_eq!(AsyncEvent::DISCOVERY_CHANGE.to_dw0(), 0x0070_f002);
        assert_eq!(AsyncEvent::NAMESPACE_ATTRIBUTE.to_dw0(), 0x0004_0002);
        assert_eq!(AsyncEvent::from_dw0(0xffff_ffff).to_dw0(), 0x00ff_ff07);
        assert_eq!(AsyncEvent::ANA_CHANGE.config_bit(), Some(1 << 11));
        assert!(AsyncEvent::from_dw0(0x0302).is(AsyncEvent::ANA_CHANGE));
    }
}
