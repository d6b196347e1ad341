//! `cargo xtask vm`: one command, as root, on a stock Debian kernel.
//!
//! Decided here: where a command runs (VM, or this kernel with `--here`) and what its status means.
//! The command's own exit status is passed through; 124 means a timeout, 125 that the VM itself
//! failed (no boot, kernel panic, no answer). `kernel` chooses the kernel, `boot` runs the VM and
//! returns output and status, `life` detects a hung guest, `accel` decides on KVM, `emulator`
//! chooses the QEMU.

mod accel;
mod apt;
mod boot;
mod emulator;
mod guest;
mod here;
mod kernel;
mod life;
mod priority;
mod run_dir;
mod stream;
mod vng;

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

pub(crate) use boot::Machine;
pub(crate) use here::run as run_here;
pub(crate) use priority::First;

use crate::host;

/// Exit status after a timeout.
pub(crate) const STATUS_TIMEOUT: u8 = 124;
/// Exit status if the VM failed before the command ended.
pub(crate) const STATUS_VM_FAILED: u8 = 125;

#[derive(Args)]
pub(crate) struct VmArgs {
    /// Kernel series, such as 6.12 or 7.2; default: the newest in Debian's backports
    #[arg(long, value_name = "SERIES")]
    kernel: Option<String>,
    /// Use the running kernel, no VM (it must have ublk and RDMA)
    #[arg(long)]
    here: bool,
    /// Memory of the VM
    #[arg(long, default_value = "4G")]
    memory: String,
    /// Virtual CPUs
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// More words for the kernel's command line, such as nvme_core.multipath=N
    #[arg(long, value_name = "WORDS")]
    append: Vec<String>,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    timeout: u64,
    /// A further directory the command may write to
    #[arg(long, value_name = "DIR")]
    rwdir: Vec<std::path::PathBuf>,
    /// More arguments for QEMU
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    qemu_opts: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &VmArgs) -> Result<u8> {
    if args.here {
        return here::run(&args.command);
    }
    let repository = host::repository()?;
    let mut machine = Machine::prepare(&repository, args.kernel.as_deref())?;
    machine.memory.clone_from(&args.memory);
    machine.cpus = args.cpus;
    machine.append.clone_from(&args.append);
    machine.writable.extend(args.rwdir.iter().cloned());
    machine.qemu_opts.clone_from(&args.qemu_opts);
    machine.timeout = Duration::from_secs(args.timeout);
    eprintln!("xtask: {}", machine.describe());
    machine.run(&args.command)
}
