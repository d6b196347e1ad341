//! Controller properties: the registers a fabrics host accesses with Property Get and Set.
//!
//! NVMe Base 2.1 §3.1.4.

use core::fmt;

/// Property offsets.
pub mod offset {
    /// Controller Capabilities, 8 bytes.
    pub const CAP: u32 = 0x00;
    /// Version, 4 bytes.
    pub const VS: u32 = 0x08;
    /// Controller Configuration, 4 bytes.
    pub const CC: u32 = 0x14;
    /// Controller Status, 4 bytes.
    pub const CSTS: u32 = 0x1c;
    /// Controller Ready Timeouts, 4 bytes.
    pub const CRTO: u32 = 0x68;
}

/// Controller Capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cap(pub u64);

impl Cap {
    /// CSS: the NVM command set.
    pub const CSS_NVM: u64 = 1 << 37;
    /// CSS: command sets chosen through Identify (CNS 1Ch).
    pub const CSS_IOCS: u64 = 1 << 43;
    /// Contiguous queues required; always set over fabrics.
    pub const CQR: u64 = 1 << 16;
    /// CRMS: the controller supports "ready with media".
    pub const CRWMS: u64 = 1 << 59;

    /// Capabilities of a fabrics controller of the NVM command set: queues of at most `entries`
    /// commands, ready within `timeout_ms` (rounded up to 500 ms), 4 KiB pages.
    #[must_use]
    pub const fn fabrics(entries: u16, timeout_ms: u32) -> Self {
        let ticks = timeout_ms.div_ceil(500);
        let ticks = if ticks > 255 { 255 } else { ticks };
        Self(entries.saturating_sub(1) as u64 | Self::CQR | ((ticks as u64) << 24) | Self::CSS_NVM)
    }

    /// Largest queue in entries, at least 1.
    pub const fn queue_entries_max(self) -> u32 {
        (self.0 & 0xffff) as u32 + 1
    }

    /// TO: the longest time CSTS.RDY may take to follow CC.EN, in milliseconds.
    pub const fn ready_timeout_ms(self) -> u32 {
        (((self.0 >> 24) & 0xff) * 500) as u32
    }

    /// MPSMIN: the smallest memory page is 4 KiB shifted left by this.
    pub const fn mpsmin(self) -> u8 {
        ((self.0 >> 48) & 0xf) as u8
    }

    /// Smallest memory page in bytes: the unit of MDTS and of the NVM size limits.
    pub const fn page_bytes_min(self) -> u64 {
        4096 << self.mpsmin()
    }

    /// Whether the NVM command set can be selected (CC.CSS 000b).
    pub const fn has_nvm(self) -> bool {
        self.0 & Self::CSS_NVM != 0
    }

    /// Whether several command sets can be enabled (CC.CSS 110b).
    pub const fn has_iocs(self) -> bool {
        self.0 & Self::CSS_IOCS != 0
    }
}

/// Version: major 31:16, minor 15:8, tertiary 7:0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u32);

impl Version {
    /// A version from its parts.
    #[must_use]
    pub const fn new(major: u16, minor: u8, tertiary: u8) -> Self {
        Self(((major as u32) << 16) | ((minor as u32) << 8) | tertiary as u32)
    }

    /// Major version.
    pub const fn major(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Minor version.
    pub const fn minor(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Tertiary version.
    pub const fn tertiary(self) -> u8 {
        self.0 as u8
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())?;
        if self.tertiary() != 0 {
            write!(f, ".{}", self.tertiary())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

/// CC.SHN: shutdown notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// None.
    None,
    /// Normal shutdown.
    Normal,
    /// Abrupt shutdown.
    Abrupt,
    /// The reserved value 3.
    Reserved,
}

/// Controller Configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cc(pub u32);

impl Cc {
    /// EN.
    pub const ENABLE: u32 = 1;
    const SHN_SHIFT: u32 = 14;
    const SHN_MASK: u32 = 3 << Self::SHN_SHIFT;
    const CSS_MASK: u32 = 7 << 4;

    /// The value a host writes to enable a controller: 64-byte submission and 16-byte completion
    /// entries, pages of 4 KiB shifted left by `mps`, NVM command set, round robin.
    #[must_use]
    pub const fn enabled(mps: u8) -> Self {
        Self(Self::ENABLE | (((mps & 0xf) as u32) << 7) | (6 << 16) | (4 << 20))
    }

    /// The same with all supported command sets selected (CSS 110b).
    #[must_use]
    pub const fn with_iocs(self) -> Self {
        Self((self.0 & !Self::CSS_MASK) | (6 << 4))
    }

    /// The same with a normal shutdown requested.
    #[must_use]
    pub const fn with_normal_shutdown(self) -> Self {
        Self((self.0 & !Self::SHN_MASK) | (1 << Self::SHN_SHIFT))
    }

    /// The same with EN clear.
    #[must_use]
    pub const fn disabled(self) -> Self {
        Self(self.0 & !Self::ENABLE)
    }

    /// EN.
    pub const fn is_enabled(self) -> bool {
        self.0 & Self::ENABLE != 0
    }

    /// SHN.
    pub const fn shutdown(self) -> Shutdown {
        match (self.0 & Self::SHN_MASK) >> Self::SHN_SHIFT {
            0 => Shutdown::None,
            1 => Shutdown::Normal,
            2 => Shutdown::Abrupt,
            _ => Shutdown::Reserved,
        }
    }

    /// MPS.
    pub const fn mps(self) -> u8 {
        ((self.0 >> 7) & 0xf) as u8
    }

    /// CSS: 0 NVM, 6 all supported, 7 admin only.
    pub const fn css(self) -> u8 {
        ((self.0 >> 4) & 7) as u8
    }

    /// AMS: arbitration, 0 round robin.
    pub const fn ams(self) -> u8 {
        ((self.0 >> 11) & 7) as u8
    }

    /// IOSQES: log2 of the submission entry, 6.
    pub const fn iosqes(self) -> u8 {
        ((self.0 >> 16) & 0xf) as u8
    }

    /// IOCQES: log2 of the completion entry, 4.
    pub const fn iocqes(self) -> u8 {
        ((self.0 >> 20) & 0xf) as u8
    }
}

/// Controller Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Csts(pub u32);

impl Csts {
    /// RDY.
    pub const READY: u32 = 1;
    /// CFS: controller fatal status.
    pub const FATAL: u32 = 1 << 1;
    /// SHST: shutdown in progress.
    pub const SHUTDOWN_OCCURRING: u32 = 1 << 2;
    /// SHST: shutdown complete.
    pub const SHUTDOWN_COMPLETE: u32 = 2 << 2;
    const SHST_MASK: u32 = 3 << 2;

    /// RDY.
    pub const fn is_ready(self) -> bool {
        self.0 & Self::READY != 0
    }

    /// CFS.
    pub const fn is_fatal(self) -> bool {
        self.0 & Self::FATAL != 0
    }

    /// Whether a shutdown has completed.
    pub const fn shutdown_complete(self) -> bool {
        self.0 & Self::SHST_MASK == Self::SHUTDOWN_COMPLETE
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn cap_fields() {
        let cap = Cap::fabrics(128, 7_600);
        assert_eq!(
            (cap.queue_entries_max(), cap.ready_timeout_ms()),
            (128, 8_000)
        );
        assert!(cap.has_nvm() && !cap.has_iocs());
        assert_eq!(Cap(u64::MAX).page_bytes_min(), 4096 << 15);
        assert_eq!(Cap(u64::MAX).ready_timeout_ms(), 127_500);
    }

    #[test]
    fn cc_is_what_linux_writes() {
        // drivers/nvme/host/core.c, nvme_enable_ctrl: NVM, 4 KiB, RR, IOSQES 6, IOCQES 4.
        assert_eq!(Cc::enabled(0).0, 0x0046_0001);
        let down = Cc::enabled(0).with_normal_shutdown();
        assert_eq!(down.0, 0x0046_4001);
        assert_eq!(
            (down.shutdown(), down.iosqes(), down.iocqes()),
            (Shutdown::Normal, 6, 4)
        );
        assert!(!Cc::enabled(0).disabled().is_enabled());
        assert_eq!(Cc::enabled(0).with_iocs().css(), 6);
    }

    #[test]
    fn status_and_version() {
        assert!(Csts(Csts::SHUTDOWN_COMPLETE).shutdown_complete());
        assert!(!Csts(0xc).shutdown_complete());
        assert_eq!(Version(0x0002_0100).to_string(), "2.1");
        assert_eq!(Version::new(1, 3, 2).to_string(), "1.3.2");
    }
}
