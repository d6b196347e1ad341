//! Reading a new device's partition table, where the driver was told not to.
//!
//! Done after the device has started and outside any command of the driver, so that a volume
//! without a path delays nothing but its own partitions.

// UNSAFETY: an ioctl without argument.
#![expect(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

/// `BLKRRPART`, `_IO(0x12, 95)`.
const REREAD_PARTITIONS: libc::Ioctl = 0x125f;
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// Has the kernel read the partition table. A table that cannot be read leaves the whole device
/// usable, so there is nobody to tell.
pub(crate) fn read(path: &str) {
    // udev looks at a new device too, and whoever has a partition open makes it busy.
    for _ in 0..TRIES {
        let Ok(device) = File::open(path) else { return };
        // SAFETY: the request takes no argument and touches no memory of ours.
        let outcome = unsafe { libc::ioctl(device.as_raw_fd(), REREAD_PARTITIONS) };
        let busy =
            outcome < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EBUSY);
        if !busy {
            return;
        }
        drop(device);
        sleep(BETWEEN_TRIES);
    }
}
