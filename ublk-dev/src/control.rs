//! The commands of `/dev/ublk-control`.
//!
//! Decided here: how a command reaches the driver and what its refusals mean. Not decided here: the
//! order of commands in a device's life ([`crate::Device`]).
//!
//! A [`Control`] is one open control device with a ring of its own; it may move between threads. A
//! command blocks its caller until the driver is done: `START_DEV` may read a partition table
//! through the new device and `STOP_DEV` waits for requests in flight, so neither may be issued by
//! a thread that serves them.

// UNSAFETY: pushes entries to an io_uring and copies plain C structs in and out of their buffer.
#![expect(unsafe_code)]

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use libublk::sys;
use rustix::thread::CpuSet;
use umpath_core::BlockLimits;

use crate::Error;
use crate::command::Command;
use crate::features::{Features, KernelVersion};
use crate::limits;

const CONTROL_PATH: &str = "/dev/ublk-control";
/// The kernel's `ENOTSUPP`, which libc does not name: the driver's answer to an unknown command.
const ENOTSUPP: i32 = 524;
/// How long a deletion is retried while someone (udev, as a rule) still has a node open.
const DELETE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stop of an unused device waits for a visitor (udev again) to close it. A user proper
/// keeps it open for longer.
const VISIT_TIMEOUT: Duration = Duration::from_secs(2);
const DELETE_RETRY: Duration = Duration::from_millis(20);

/// Where a device is in its life, as the driver sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not started, or stopped.
    Dead,
    /// Serving.
    Live,
    /// Its server died; requests wait for the next one.
    Quiesced,
    /// Its server died; requests fail.
    FailIo,
    /// A state of a later kernel.
    Unknown(u16),
}

/// What the driver knows of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// The number in `/dev/ublkbN`.
    pub id: u32,
    /// Hardware queues; the driver cuts the wish down to the number of CPUs.
    pub queues: u16,
    /// Tags of each queue.
    pub depth: u16,
    /// Size of each tag's buffer, bytes.
    pub buffer_bytes: u32,
    /// Where the device is in its life.
    pub state: State,
    /// Process that serves it, if any.
    pub server_pid: Option<u32>,
    /// Flags the device was created with.
    pub flags: Features,
    /// What its creator left with it: tells its devices from those of other servers.
    pub cookie: u64,
}

impl DeviceInfo {
    fn from_raw(raw: &sys::ublksrv_ctrl_dev_info) -> Self {
        Self {
            id: raw.dev_id,
            queues: raw.nr_hw_queues,
            depth: raw.queue_depth,
            buffer_bytes: raw.max_io_buf_bytes,
            state: match u32::from(raw.state) {
                sys::UBLK_S_DEV_DEAD => State::Dead,
                sys::UBLK_S_DEV_LIVE => State::Live,
                sys::UBLK_S_DEV_QUIESCED => State::Quiesced,
                sys::UBLK_S_DEV_FAIL_IO => State::FailIo,
                _ => State::Unknown(raw.state),
            },
            server_pid: u32::try_from(raw.ublksrv_pid).ok().filter(|&pid| pid > 0),
            flags: Features::from_bits(raw.flags),
            cookie: raw.ublksrv_flags,
        }
    }
}

/// 8-byte words of the buffer commands exchange data through; enough CPU bits for any kernel.
const BUFFER_WORDS: usize = 128;

/// One open control device.
pub struct Control {
    // Dropped before `buffer`, which entries of the ring point into.
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    buffer: Box<[u64; BUFFER_WORDS]>,
    file: File,
    features: Features,
    /// The driver predates ioctl-encoded command numbers.
    bare_numbers: bool,
    sequence: u64,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Opens the control device and asks the driver what it can do.
    pub fn open() -> Result<Self, Error> {
        if let Some(version) = KernelVersion::running().filter(|v| v.crashes_on_add()) {
            return Err(Error::BrokenKernel(version));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(CONTROL_PATH)
            .map_err(|e| match e.raw_os_error() {
                Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => Error::NoControlDevice(e),
                Some(libc::EPERM | libc::EACCES) => Error::NotPermitted(e),
                _ => Error::OpenControl(e),
            })?;
        let ring = IoUring::builder()
            .dontfork()
            .build(4)
            .map_err(|source| Error::Ring {
                what: "ublk control commands",
                source,
            })?;
        let mut control = Self {
            ring,
            buffer: Box::new([0; BUFFER_WORDS]),
            file,
            features: Features::default(),
            bare_numbers: false,
            sequence: 0,
        };
        control.detect()?;
        if !control.features.contains(Features::RECOVERY) {
            return Err(Error::MissingFeature(
                "recovery by another server (Linux 6.1)",
            ));
        }
        Ok(control)
    }

    /// What the driver can do.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Asks for features. Linux 6.1 knows neither the question nor ioctl-encoded numbers.
    fn detect(&mut self) -> Result<(), Error> {
        match self.transfer(Command::GetFeatures, u32::MAX, u16::MAX, 0_u64) {
            Ok(_) => {
                self.features = Features::from_bits(self.read_buffer::<u64>());
                Ok(())
            }
            Err(e) => match e.raw_os_error() {
                Some(ENOTSUPP | libc::EOPNOTSUPP | libc::EINVAL | libc::ENODEV | libc::ENOTTY) => {
                    self.features = Features::BASELINE;
                    self.bare_numbers = true;
                    Ok(())
                }
                Some(libc::EPERM | libc::EACCES) => Err(Error::NotPermitted(e)),
                _ => Err(failed(Command::GetFeatures, u32::MAX, e)),
            },
        }
    }

    /// Creates a device, not yet visible as a block device. `id`: `None` lets the driver choose.
    /// `cookie`: kept by the driver for the server's own use.
    pub fn add(
        &mut self,
        id: Option<u32>,
        queues: u16,
        depth: u16,
        buffer_bytes: u32,
        cookie: u64,
    ) -> Result<DeviceInfo, Error> {
        let id = id.unwrap_or(u32::MAX);
        let info = sys::ublksrv_ctrl_dev_info {
            nr_hw_queues: queues,
            queue_depth: depth,
            max_io_buf_bytes: buffer_bytes,
            dev_id: id,
            ublksrv_pid: std::process::id().cast_signed(),
            flags: self.features.of_new_device().bits(),
            ublksrv_flags: cookie,
            ..sys::ublksrv_ctrl_dev_info::default()
        };
        let answer = self.transfer(Command::AddDev, id, u16::MAX, info);
        answer.map_err(|e| failed(Command::AddDev, id, e))?;
        Ok(DeviceInfo::from_raw(&self.read_buffer()))
    }

    /// Sets a new device's limits; only before it is started.
    pub fn set_params(&mut self, id: u32, limits: &BlockLimits) -> Result<(), Error> {
        let params = limits::to_params(limits)?;
        let answer = self.transfer(Command::SetParams, id, u16::MAX, params);
        answer
            .map(drop)
            .map_err(|e| failed(Command::SetParams, id, e))
    }

    /// Makes the block device appear. All tags of all queues must have been fetched by `pid`, whose
    /// queues must be served meanwhile.
    pub fn start(&mut self, id: u32, pid: u32) -> Result<(), Error> {
        self.simple(Command::StartDev, id, u64::from(pid))
    }

    /// Removes the block device. Waits for requests in flight, fails later ones, and ends every
    /// fetch of its queues. Succeeds on a device never started.
    pub fn stop(&mut self, id: u32) -> Result<(), Error> {
        self.simple(Command::StopDev, id, 0)
    }

    /// [`Self::stop`] on condition that nobody has the block device open or mounted.
    ///
    /// Linux before 7.0 cannot do this in one step; there the check is an exclusive open just
    /// before, and someone may open the device in between.
    pub fn stop_if_unused(&mut self, id: u32) -> Result<(), Error> {
        if self.features.contains(Features::SAFE_STOP) {
            let deadline = Instant::now() + VISIT_TIMEOUT;
            loop {
                match self.simple(Command::TryStopDev, id, 0) {
                    Err(Error::Command { source, .. })
                        if source.raw_os_error() == Some(libc::EBUSY) =>
                    {
                        if Instant::now() >= deadline {
                            return Err(Error::InUse { device: id });
                        }
                        std::thread::sleep(DELETE_RETRY);
                    }
                    other => return other,
                }
            }
        }
        let flags = rustix::fs::OFlags::EXCL | rustix::fs::OFlags::CLOEXEC;
        let probe = rustix::fs::open(block_path(id), flags, rustix::fs::Mode::empty());
        match probe.map(drop) {
            Err(rustix::io::Errno::BUSY) => Err(Error::InUse { device: id }),
            _ => self.stop(id),
        }
    }

    /// Forgets a device and frees its number. Waits until every reference is gone, our own
    /// character device and mappings among them: close those first.
    pub fn delete(&mut self, id: u32) -> Result<(), Error> {
        let deadline = Instant::now() + DELETE_TIMEOUT;
        loop {
            match self.transfer(Command::DelDev, id, u16::MAX, ()) {
                Ok(_) => return Ok(()),
                Err(e) => match e.raw_os_error() {
                    // Already gone: what was asked for.
                    Some(libc::ENODEV) => return Ok(()),
                    Some(libc::EBUSY | libc::EINTR) if Instant::now() < deadline => {
                        std::thread::sleep(DELETE_RETRY);
                    }
                    _ => return Err(failed(Command::DelDev, id, e)),
                },
            }
        }
    }

    /// [`Self::delete`] without waiting for those who still have the device open or mounted: the number
    /// is free when the last of them has gone. Linux before 6.9 can only wait.
    pub fn delete_in_use(&mut self, id: u32) -> Result<(), Error> {
        match self.transfer(Command::DelDevAsync, id, u16::MAX, ()) {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error() {
                Some(libc::ENODEV) => Ok(()),
                Some(ENOTSUPP | libc::EOPNOTSUPP | libc::EINVAL) => self.delete(id),
                _ => Err(failed(Command::DelDevAsync, id, e)),
            },
        }
    }

    /// What the driver knows of a device; `None` if there is no such device.
    ///
    /// Asks with `GET_DEV_INFO`: its later form adds the node's path for the sake of unprivileged
    /// servers, and fails where that node has not been made yet.
    pub fn info(&mut self, id: u32) -> Result<Option<DeviceInfo>, Error> {
        let raw = sys::ublksrv_ctrl_dev_info::default();
        match self.transfer(Command::GetDevInfo, id, u16::MAX, raw) {
            Ok(_) => Ok(Some(DeviceInfo::from_raw(&self.read_buffer()))),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(failed(Command::GetDevInfo, id, e)),
        }
    }

    /// The CPUs whose requests arrive on a queue.
    pub fn queue_affinity(&mut self, id: u32, queue: u16) -> Result<CpuSet, Error> {
        let answer = self.transfer(Command::GetQueueAffinity, id, queue, [0_u64; BUFFER_WORDS]);
        answer.map_err(|e| failed(Command::GetQueueAffinity, id, e))?;
        let mut cpus = CpuSet::new();
        for cpu in 0..CpuSet::MAX_CPU.min(BUFFER_WORDS * 64) {
            if self
                .buffer
                .get(cpu / 64)
                .is_some_and(|word| word >> (cpu % 64) & 1 == 1)
            {
                cpus.set(cpu);
            }
        }
        Ok(cpus)
    }

    /// Takes over a device whose server died; waits until that server is gone entirely.
    pub fn start_recovery(&mut self, id: u32) -> Result<(), Error> {
        let deadline = Instant::now() + DELETE_TIMEOUT;
        loop {
            match self.simple(Command::StartUserRecovery, id, 0) {
                Err(Error::Command { source, .. })
                    if source.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
                {
                    std::thread::sleep(DELETE_RETRY);
                }
                other => return other,
            }
        }
    }

    /// Makes a device under recovery live again; requests of the dead server are issued anew.
    pub fn end_recovery(&mut self, id: u32, pid: u32) -> Result<(), Error> {
        self.simple(Command::EndUserRecovery, id, u64::from(pid))
    }

    /// Changes a live device's size ([`Features::UPDATE_SIZE`]).
    pub fn update_size(&mut self, id: u32, sectors: u64) -> Result<(), Error> {
        self.simple(Command::UpdateSize, id, sectors)
    }

    fn simple(&mut self, command: Command, id: u32, data: u64) -> Result<(), Error> {
        let header = sys::ublksrv_ctrl_cmd {
            dev_id: id,
            queue_id: u16::MAX,
            data: [data],
            ..sys::ublksrv_ctrl_cmd::default()
        };
        loop {
            match self.submit(command, header) {
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
                other => return other.map(drop).map_err(|e| failed(command, id, e)),
            }
        }
    }

    /// Issues a command whose data is a `T`, sent and possibly overwritten by the driver.
    fn transfer<T: Copy>(
        &mut self,
        command: Command,
        id: u32,
        queue: u16,
        data: T,
    ) -> io::Result<i32> {
        self.write_buffer(data);
        // GET_QUEUE_AFFINITY alone names its queue a second time, in the inline data.
        let inline = if command == Command::GetQueueAffinity {
            u64::from(queue)
        } else {
            0
        };
        let header = sys::ublksrv_ctrl_cmd {
            dev_id: id,
            queue_id: queue,
            len: size_of::<T>() as u16,
            addr: if size_of::<T>() == 0 {
                0
            } else {
                self.buffer.as_ptr() as u64
            },
            data: [inline],
            ..sys::ublksrv_ctrl_cmd::default()
        };
        self.submit(command, header)
    }

    fn submit(&mut self, command: Command, header: sys::ublksrv_ctrl_cmd) -> io::Result<i32> {
        self.sequence += 1;
        let sequence = self.sequence;
        let mut bytes = [0_u8; 80];
        // SAFETY: the header is plain C data without padding, shorter than the 80 bytes; both live
        // on this stack for the length of the copy.
        unsafe {
            let from = (&raw const header).cast::<u8>();
            from.copy_to_nonoverlapping(bytes.as_mut_ptr(), size_of_val(&header));
        }
        let number = command.number();
        let number = if self.bare_numbers {
            number & 0xff
        } else {
            number
        };
        let entry = opcode::UringCmd80::new(types::Fd(self.file.as_raw_fd()), number)
            .cmd(bytes)
            .build()
            .user_data(sequence);
        // SAFETY: the entry points at most into `self.buffer`, which outlives the ring.
        unsafe { self.ring.submission().push(&entry) }
            .map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))?;
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(e) if retryable(&e) => {}
                Err(e) => return Err(e),
            }
            let done = self.ring.completion().find(|c| c.user_data() == sequence);
            if let Some(result) = done.map(|c| c.result()) {
                return if result < 0 {
                    Err(io::Error::from_raw_os_error(-result))
                } else {
                    Ok(result)
                };
            }
        }
    }

    fn write_buffer<T: Copy>(&mut self, data: T) {
        const { assert!(size_of::<T>() <= BUFFER_WORDS * 8 && align_of::<T>() <= 8) };
        // SAFETY: the buffer is large and aligned enough, checked above.
        unsafe { self.buffer.as_mut_ptr().cast::<T>().write(data) }
    }

    fn read_buffer<T: Copy + Default>(&self) -> T {
        const { assert!(size_of::<T>() <= BUFFER_WORDS * 8 && align_of::<T>() <= 8) };
        // SAFETY: large and aligned enough, checked above; only called with integers and plain C
        // structs of integers, for which every bit pattern is a value.
        unsafe { self.buffer.as_ptr().cast::<T>().read() }
    }
}

fn retryable(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

fn failed(command: Command, device: u32, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Error::NotPermitted(source),
        _ => Error::Command {
            command,
            device,
            source,
        },
    }
}

/// The block device's node.
pub(crate) fn block_path(id: u32) -> String {
    format!("/dev/ublkb{id}")
}

/// The character device's node.
pub(crate) fn char_path(id: u32) -> String {
    format!("/dev/ublkc{id}")
}
