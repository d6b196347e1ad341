//! Target processes: their clocks, their lives, and what they serve.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use umpath_nvme::Sqe;
use umpath_nvme::command::Instance;
use umpath_target::array::Array;
use umpath_target::config::CntlidRange;
use umpath_target::controller::Answer;
use umpath_target::controller::TargetLimits;
use umpath_target::controller::view::Shared;
use umpath_target::gate::board::{Board, PROCESSES_MAX, Witness};
use umpath_target::model::{AnaState, PortId};
use umpath_target::subsystem::Subsystem;

use super::array::NQN;
use super::clock::{MICRO, MILLI, Nanos, duration};
use super::happening::Happening;
use super::store::{StoreId, ana_group_of};
use super::world::World;

/// A target process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) alive: bool,
    /// Counts its lives.
    pub(crate) life: u32,
    pub(crate) stopped_until: Nanos,
    pub(crate) array: Array<StoreId>,
    /// Controllers whose keep-alive timer any command restarts.
    traffic: Vec<Traffic>,
    /// Thousandths its clock is fast.
    skew: i64,
    pub(crate) timer_at: Option<Nanos>,
    /// Its row of the board it shares with the others.
    pub(crate) row: usize,
    /// Controllers whose reset its log calls failed, by a fault.
    pub(crate) failing: Vec<Instance>,
}

/// What the kernel knows of the processes of a board: the locks of the real fence.
#[derive(Debug, Default)]
pub(crate) struct Graves {
    /// By row: 1 for a living owner, and 2 for every command on the medium.
    rows: [AtomicU32; PROCESSES_MAX],
}

impl Graves {
    pub(crate) fn enters(&self, row: usize) {
        self.rows[row].fetch_add(2, SeqCst);
    }

    pub(crate) fn leaves(&self, row: usize) {
        self.rows[row].fetch_sub(2, SeqCst);
    }

    fn set_alive(&self, row: usize, alive: bool) {
        if alive {
            self.rows[row].fetch_or(1, SeqCst);
        } else {
            self.rows[row].fetch_and(!1, SeqCst);
        }
    }

    /// A row nobody owns and nothing is under way for.
    pub(crate) fn free_row(&self) -> Option<usize> {
        self.rows.iter().position(|row| row.load(SeqCst) == 0)
    }
}

impl Witness for Graves {
    fn is_over(&self, row: usize, _: usize) -> bool {
        self.rows[row].load(SeqCst) == 0
    }
}

impl Process {
    /// The process's own time.
    pub(crate) fn clock(&self, now: Nanos) -> Nanos {
        now.saturating_add_signed(now as i64 / 1000 * self.skew)
    }

    /// When, in the world's time, its clock shows `at`.
    pub(crate) fn when(&self, at: Nanos) -> Nanos {
        (u128::from(at) * 1000 / (1000 + self.skew) as u128) as u64 + MICRO
    }
}

/// A traffic-based keep-alive timer. When it runs out and there was any command since it was
/// started, it is started once more: a Keep Alive is a command like any other.
#[derive(Debug)]
struct Traffic {
    shared: Arc<Shared<StoreId>>,
    any: bool,
}

/// What a process serves, made once and copied for each life.
pub(crate) fn subsystem() -> Subsystem<StoreId> {
    let mut subsystem = Subsystem::new(NQN.to_owned(), "SIM".to_owned(), "umpath".to_owned(), 0);
    subsystem.allow_any_host = true;
    subsystem
}

impl Process {
    /// Starts timers once more that ran out although there was traffic. To be asked before anybody
    /// checks a deadline.
    pub(crate) fn restart_timers(&mut self, now: Duration, kato: Duration) {
        self.traffic
            .retain(|known| Arc::strong_count(&known.shared) > 1);
        for known in &mut self.traffic {
            let gate = &known.shared.gate;
            if let Some(deadline) = gate.deadline().filter(|deadline| *deadline <= now)
                && std::mem::take(&mut known.any)
            {
                gate.set_deadline(Some(deadline + kato));
            }
        }
    }

    /// When a controller's timer expires for good, should nothing more come.
    pub(crate) fn expires(
        &self,
        shared: &Arc<Shared<StoreId>>,
        kato: Duration,
    ) -> Option<Duration> {
        let known = |known: &&Traffic| Arc::ptr_eq(&known.shared, shared);
        let restarts = self
            .traffic
            .iter()
            .find(known)
            .is_some_and(|known| known.any);
        let deadline = shared.gate.deadline()?;
        Some(if restarts { deadline + kato } else { deadline })
    }

    /// Lets the array take an admin command. It restarts timers at every Keep Alive; those that
    /// traffic restarts only note that there was one.
    pub(crate) fn admin(
        &mut self,
        cntlid: u16,
        sqe: &Sqe,
        data: &mut [u8],
        now: Duration,
    ) -> Answer {
        let deadlines = |known: &[Traffic]| -> Vec<_> {
            known
                .iter()
                .map(|known| known.shared.gate.deadline())
                .collect()
        };
        let before = deadlines(&self.traffic);
        let answer = self.array.admin(cntlid, sqe, data, now);
        for (known, before) in self.traffic.iter_mut().zip(before) {
            let gate = &known.shared.gate;
            if gate.deadline() > before {
                gate.set_deadline(before);
                known.any = true;
            }
        }
        answer
    }

    /// A controller's timer is to be restarted by traffic: one timer, however many queues.
    pub(crate) fn time_by_traffic(&mut self, shared: &Arc<Shared<StoreId>>) {
        let known = |known: &&mut Traffic| Arc::ptr_eq(&known.shared, shared);
        if let Some(known) = self.traffic.iter_mut().find(known) {
            known.any = true;
        } else {
            let shared = Arc::clone(shared);
            self.traffic.push(Traffic { shared, any: true });
        }
    }

    /// A command came. It counts unless the timer has expired already: a process that wakes up
    /// checks its timer first.
    pub(crate) fn note_traffic(&mut self, shared: &Arc<Shared<StoreId>>, now: Duration) {
        if shared
            .gate
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            return;
        }
        let known = self
            .traffic
            .iter_mut()
            .find(|known| Arc::ptr_eq(&known.shared, shared));
        if let Some(known) = known {
            known.any = true;
        }
    }
}

impl World {
    pub(crate) fn process_of(&self, path: usize) -> usize {
        path % self.plan.processes
    }

    /// `row`: of the board.
    pub(crate) fn new_process(&self, process: usize, life: u32, row: usize) -> Process {
        let first = 1 + 16 * process as u16;
        let limits = TargetLimits {
            cntlid: CntlidRange {
                first,
                last: first + self.plan.cntlids - 1,
            },
            depth_max: 128,
            io_queues_max: self.plan.io_queues,
            in_capsule_bytes: 4096,
        };
        let mut array = Array::new(limits, u64::from(life) << 16 | process as u64);
        let mut subsystem = self.subsystem.clone();
        subsystem.ccr = self.plan.ccr;
        self.graves.set_alive(row, true);
        subsystem.board = if self.plan.common_board {
            let witness = Arc::clone(&self.graves) as Arc<dyn Witness>;
            let board = Board::common(Arc::clone(&self.board), row, witness);
            board.set_stores(1);
            board
        } else {
            Board::private()
        };
        subsystem.cqt_ms = if self.plan.cqt_unreported {
            0
        } else {
            (self.plan.cqt / MILLI) as u16
        };
        for (store, known) in self.stores.iter().enumerate() {
            if self.is_presented(store, process) {
                let namespace = known.namespace(store, self.plan.cache);
                subsystem.namespaces.insert(namespace.nsid, namespace);
            }
        }
        for path in 0..self.plan.paths() {
            if self.process_of(path) == process {
                let port = PortId(path as u16 + 1);
                let address = ([10, 0, path as u8, 1], 4420).into();
                let added = array.add_port(port, address);
                debug_assert!(added.is_ok());
                subsystem.ports.insert(port);
            }
        }
        let added = array.add_subsystem(subsystem);
        debug_assert!(added.is_ok());
        Process {
            alive: true,
            life,
            stopped_until: 0,
            array,
            traffic: Vec::new(),
            skew: self.plan.skew[process],
            timer_at: None,
            row,
            failing: Vec::new(),
        }
    }

    pub(crate) fn process_timer(&mut self, process: usize, life: u32, at: Nanos) {
        let known = &mut self.processes[process];
        if !known.alive || known.life != life || known.timer_at != Some(at) {
            return;
        }
        known.timer_at = None;
        let now = duration(known.clock(self.now));
        known.restart_timers(now, duration(self.plan.kato));
        known.array.handle_timeout(now);
        self.array_outputs(process);
    }

    pub(crate) fn crash(&mut self, process: usize) {
        self.processes[process].alive = false;
        self.graves.set_alive(self.processes[process].row, false);
        let life = self.processes[process].life;
        for qp in 0..self.qps.len() {
            if self.qps[qp].process == process && self.qps[qp].life == life {
                self.close_target_end(qp);
            }
        }
    }

    pub(crate) fn restart(&mut self, process: usize) {
        if self.processes[process].alive {
            return;
        }
        let life = self.processes[process].life + 1;
        let Some(row) = self.graves.free_row() else {
            // As the real one: it waits for what its predecessors left.
            let at = self.now + MILLI;
            return self.agenda.push(at, Happening::Restart { process });
        };
        self.processes[process] = self.new_process(process, life, row);
    }

    pub(crate) fn set_ana(&mut self, path: usize, state: AnaState) {
        let process = self.process_of(path);
        let port = PortId(path as u16 + 1);
        for store in 0..self.stores.len() {
            let array = &mut self.processes[process].array;
            let done = array.set_ana(NQN, port, ana_group_of(store), state);
            debug_assert!(done.is_ok());
        }
        self.array_outputs(process);
    }
}
