//! What the running kernel's ublk driver can do.
//!
//! Decided here: which of the driver's abilities a device of ours is created with. Detected, never
//! derived from the version: distributions backport. The one exception is a pair of releases on
//! which creating a device crashes the kernel, and a crash cannot be probed for.

use std::fmt;

use libublk::sys;

/// The driver's abilities, as a set of `UBLK_F_*` bits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u64);

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({:#x})", self.0)
    }
}

impl Features {
    /// In-flight requests survive the server: they wait for the next one and are issued again.
    pub const RECOVERY: Self =
        Self((sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE) as u64);
    /// Commands carry ioctl-encoded numbers; stock kernels refuse the older numbers.
    pub const IOCTL_ENCODE: Self = Self(sys::UBLK_F_CMD_IOCTL_ENCODE as u64);
    /// The size of a live device can change.
    pub const UPDATE_SIZE: Self = Self(sys::UBLK_F_UPDATE_SIZE as u64);
    /// A live device can be handed to another server between two requests.
    pub const QUIESCE: Self = Self(sys::UBLK_F_QUIESCE as u64);
    /// A device can be stopped on condition that nobody has it open.
    pub const SAFE_STOP: Self = Self(sys::UBLK_F_SAFE_STOP_DEV as u64);
    /// Starting a device does not read its partition table.
    pub const NO_AUTO_PARTITION_SCAN: Self = Self(sys::UBLK_F_NO_AUTO_PART_SCAN as u64);

    /// What Linux 6.1 offers; later drivers say what they have.
    pub(crate) const BASELINE: Self = Self::RECOVERY;

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The raw `UBLK_F_*` bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flags to create a device with on a driver that has these features.
    ///
    /// Recovery cannot be added later, so it is there from the start. The kernel copies data to and
    /// from a fixed buffer of the tag (no `USER_COPY`): see `docs/decisions/0003`. Partitions are
    /// not read by the driver where that can be avoided, because the read is I/O inside
    /// `START_DEV` and waits for a path: [`crate::Device`] asks for them once the device runs.
    #[must_use]
    pub const fn of_new_device(self) -> Self {
        let wanted = Self::RECOVERY
            .with(Self::IOCTL_ENCODE)
            .with(Self::UPDATE_SIZE)
            .with(Self::QUIESCE)
            .with(Self::SAFE_STOP)
            .with(Self::NO_AUTO_PARTITION_SCAN);
        Self(self.0 & wanted.0)
    }
}

/// The release of the running kernel, as far as it can be told from its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KernelVersion {
    /// 6 in 6.18.4.
    pub major: u32,
    /// 18 in 6.18.4.
    pub minor: u32,
    /// 4 in 6.18.4; 0 when the name has none.
    pub patch: u32,
}

impl KernelVersion {
    /// The running kernel's.
    pub fn running() -> Option<Self> {
        Self::parse(rustix::system::uname().release().to_str().ok()?)
    }

    /// Reads `uname -r`: numbers up to the first character that is neither digit nor dot.
    pub fn parse(release: &str) -> Option<Self> {
        let end = release
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(release.len());
        let mut numbers = release.get(..end)?.split('.').map(str::parse::<u32>);
        Some(Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
            patch: numbers.next().and_then(Result::ok).unwrap_or(0),
        })
    }

    /// Whether adding a ublk device crashes this kernel.
    pub const fn crashes_on_add(self) -> bool {
        self.major == 6 && self.minor == 18 && (self.patch == 4 || self.patch == 5)
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_names_of_distributions_parse() {
        let v = |major, minor, patch| {
            Some(KernelVersion {
                major,
                minor,
                patch,
            })
        };
        assert_eq!(KernelVersion::parse("6.12.57+deb13-amd64"), v(6, 12, 57));
        assert_eq!(KernelVersion::parse("6.18.44-fc-v669"), v(6, 18, 44));
        assert_eq!(KernelVersion::parse("7.2-rc1"), v(7, 2, 0));
        assert_eq!(KernelVersion::parse("6.1.0-38-amd64"), v(6, 1, 0));
        assert_eq!(KernelVersion::parse(""), None);
        assert_eq!(KernelVersion::parse("rolling"), None);
    }

    #[test]
    fn only_the_two_crashing_releases_are_refused() {
        let refused = |r| KernelVersion::parse(r).is_some_and(KernelVersion::crashes_on_add);
        assert!(refused("6.18.4") && refused("6.18.5-arch1-1"));
        assert!(!refused("6.18.3") && !refused("6.18.6") && !refused("6.12.4"));
    }

    #[test]
    fn a_device_takes_only_what_the_driver_has() {
        assert_eq!(Features::BASELINE.of_new_device(), Features::RECOVERY);
        let everything = Features::from_bits(u64::MAX).of_new_device();
        assert!(everything.contains(Features::QUIESCE));
        assert_eq!(everything.bits() & u64::from(sys::UBLK_F_USER_COPY), 0);
    }
}
