//! What can go wrong between this process and the ublk driver, split by who has to act.
//!
//! Nothing here is about a path or a peer: those never make a device fail, they make it wait.

use std::io;

use crate::command::Command;
use crate::features::KernelVersion;
use crate::limits::LimitsError;

/// Why a ublk device could not be made, run or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The driver is not there.
    #[error(
        "this kernel offers no /dev/ublk-control: load the driver with `modprobe ublk_drv`; if \
         there is no such module, the kernel was built without CONFIG_BLK_DEV_UBLK"
    )]
    NoControlDevice(#[source] io::Error),

    /// The caller lacks privilege.
    #[error("no permission for /dev/ublk-control: ublk needs root (CAP_SYS_ADMIN)")]
    NotPermitted(#[source] io::Error),

    /// The control device exists and cannot be opened for another reason.
    #[error("cannot open /dev/ublk-control")]
    OpenControl(#[source] io::Error),

    /// Adding a device would crash this kernel.
    #[error(
        "kernel {0} crashes when a ublk device is added (6.18.4 and 6.18.5 do): boot 6.18.6 or \
         later, or 6.18.3"
    )]
    BrokenKernel(KernelVersion),

    /// The driver lacks something this crate cannot do without.
    #[error("this kernel's ublk driver does not support {0}")]
    MissingFeature(&'static str),

    /// The volume cannot be shown as a ublk device.
    #[error(transparent)]
    Limits(#[from] LimitsError),

    /// A control command was refused.
    #[error("ublk {command} failed for device {}", device_name(*.device))]
    Command {
        /// The command.
        command: Command,
        /// The device it named; `u32::MAX` when the driver was to choose one.
        device: u32,
        /// What the driver answered.
        #[source]
        source: io::Error,
    },

    /// Someone has the block device open or mounted.
    #[error("/dev/ublkb{device} is in use: unmount it and close it first")]
    InUse {
        /// The device.
        device: u32,
    },

    /// io_uring is missing, forbidden or out of memory.
    #[error(
        "cannot set up io_uring for {what}: check kernel.io_uring_disabled and the memlock limit"
    )]
    Ring {
        /// Whose ring it was.
        what: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },

    /// The character device of a new ublk device cannot be used.
    #[error("cannot {action} {path}")]
    CharDevice {
        /// What was tried.
        action: &'static str,
        /// Which node.
        path: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },

    /// A thread could not be started.
    #[error("cannot start a queue thread")]
    Thread(#[source] io::Error),

    /// There is no such device.
    #[error("there is no ublk device {device}")]
    NoSuchDevice {
        /// Its number.
        device: u32,
    },

    /// A queue thread could not take its queue over.
    #[error("queue {queue} of /dev/ublkb{device} could not be set up")]
    QueueSetup {
        /// The device.
        device: u32,
        /// The queue.
        queue: u16,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },

    /// A queue thread ended while the device was being set up.
    #[error("queue {queue} of /dev/ublkb{device} ended while the device was being set up")]
    QueueEnded {
        /// The device.
        device: u32,
        /// The queue.
        queue: u16,
    },

    /// The caller's lanes do not fit the device the kernel made.
    #[error("{given} lanes given for a device of {queues} queues")]
    LaneCount {
        /// Lanes the caller supplied.
        given: usize,
        /// Queues the device has.
        queues: u16,
    },

    /// A lane's buffers are too few or too small for its queue.
    #[error("the arena of queue {queue} has no buffer of {bytes} bytes for each of {depth} tags")]
    ArenaTooSmall {
        /// The queue.
        queue: u16,
        /// Tags of that queue.
        depth: u16,
        /// Largest request.
        bytes: u32,
    },
}

fn device_name(id: u32) -> String {
    if id == u32::MAX {
        "(new)".to_owned()
    } else {
        format!("ublkb{id}")
    }
}
