//! The test bed: hosts, arrays and cables made of namespaces, veth pairs and soft-RoCE.
//!
//! Everything here is a guard: it exists from `new` (or `start`) until it is dropped, even if a
//! case fails half-way. Guards must be dropped in reverse order, so create the network first, then
//! targets, then hosts, then the processes that use their devices.
//!
//! The kernel's own NVMe target and host only work in the initial namespace, so [`Network`] can put
//! either side there. With both sides in it, RDMA loops back inside one machine: fine for data,
//! useless for pulling cables.

mod clock;
mod disk;
mod fio;
mod iproute;
mod kernel;
mod kernel_host;
mod load;
mod network;
mod nvmet;
mod nvmet_trace;
mod place;
mod process;
mod remains;
mod run;
mod target;
mod wait;

pub use clock::unix_ms;
pub use disk::{LoopDisk, NullDisk, SlowDisk};
pub use fio::{Fio, FioResult};
pub use iproute::Iproute;
pub use kernel::{load, release, rxe_has_namespaces};
pub use kernel_host::{ConnectOptions, KernelHost};
pub use load::Load;
pub use network::{Cable, Network, Pull, Side};
pub use nvmet::{AnaState, Nvmet};
pub use nvmet_trace::{NvmetTrace, Received};
pub use place::Place;
pub use process::{Process, binary, log_dir};
pub use remains::{remains, sweep};
pub use run::{attempt, output, run};
pub use target::TargetProcess;
pub use wait::{STEP_TIMEOUT, pause, within, within_value};
