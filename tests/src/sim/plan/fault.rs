//! What may go wrong, and what people do at the wrong moment.

use crate::sim::clock::Nanos;
use crate::sim::resets::OddReset;

/// Something that goes wrong, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Nanos,
    pub(crate) lasts: Nanos,
    pub(crate) kind: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Packets of a path do not get through, one way or both.
    Partition {
        path: usize,
        to_target: bool,
        to_host: bool,
    },
    /// Packets of one I/O queue of a path do not get through; its siblings live.
    QueueSilent { path: usize, queue: u16 },
    /// The host's own port loses its carrier.
    LinkDown { path: usize },
    /// The host's adapter fails with everything on it, and is back afterwards.
    AdapterFails { path: usize },
    /// Every packet takes longer.
    Slow { path: usize, extra: Nanos },
    /// I/O commands that arrive at a process wait before they ask the gate.
    Park { process: usize, longest: Nanos },
    /// A process executes some commands and never answers them.
    Forget { process: usize },
    /// A process dies, and its place is taken by a new one afterwards. Commands on the medium
    /// complete.
    Crash { process: usize },
    /// The power fails: every process dies, and so does what is not durable.
    PowerFails,
    /// What a controller of a process had accepted is executed for as long as its keep-alive timer
    /// allows, although the controller has said that it is over (CSTS.RDY is 0).
    Lingers { process: usize },
    /// A process stands still; its NIC does not.
    Stop { process: usize },
    /// Admin commands of a path vanish in the controller.
    AdminDead { path: usize },
    /// A process refuses this once: Connect, Identify, or whatever comes next.
    RefusesOnce { process: usize, opcode: u8 },
    /// A process cannot identify its namespaces for now.
    Unreadable { process: usize },
    /// The host's process is killed once it has carried out so many more orders; another takes its
    /// place.
    Kill { orders: u32 },
    /// The same, and the machine with it: block devices are gone, and so is what was not synced.
    Reboot,
    /// A queue thread of the host fails.
    ThreadFails { volume: usize, lane: usize },
    /// The control side of the host stands still.
    ControlStall,
    /// A queue thread stands still.
    LaneStall { volume: usize, lane: usize },
    /// The whole host stands still.
    HostStall,
    /// A queue pair of the host fails.
    QueueFails { path: usize, queue: u16 },
    /// A path's ANA state changes, and changes back.
    Ana { path: usize, inaccessible: bool },
    /// A process answers requests to reset oddly.
    Resets { process: usize, odd: OddReset },
    /// Nothing can be written to disk.
    DiskFull,
    /// Writes to disk take long.
    DiskSlow,
    /// The driver refuses to make devices and to register memory.
    DriverFails,
    /// The driver refuses to let devices be taken over.
    DriverBusy,
    /// The array's administrator is at work.
    Namespace(NamespaceChange),
}

/// What an array's administrator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamespaceChange {
    /// Makes a namespace.
    Add { volume: usize },
    /// Makes a namespace larger.
    Grow { volume: usize },
    /// Takes a namespace from the controllers of one process, and gives it back.
    Detach { volume: usize, process: usize },
    /// Gives a namespace another number.
    Renumber { volume: usize },
    /// Takes a namespace away and gives its number to another one. It comes back under a new number.
    Replace { volume: usize, by: usize },
}

/// What an operator asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nuisance {
    /// Counters.
    Stats,
    FailPath {
        path: usize,
    },
    ReinstatePath {
        path: usize,
    },
    Prefer {
        path: usize,
        on: bool,
    },
    SwitchGroup {
        volume: usize,
        group: u32,
    },
    /// Another selector.
    Selector {
        volume: usize,
    },
    Queueing {
        on: bool,
    },
    /// A path that is there, or was.
    Connect {
        path: usize,
    },
    DisconnectPath {
        path: usize,
        force: bool,
    },
    DisconnectDevice {
        volume: usize,
        force: bool,
    },
    DisconnectAll {
        force: bool,
    },
    /// The application closes its device, and opens it again later.
    Close {
        volume: usize,
        lasts: Nanos,
    },
    /// The end of the process, in good order; once more: at once.
    Stop {
        times: u32,
    },
}
