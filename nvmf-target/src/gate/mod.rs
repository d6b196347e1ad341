//! The gate between a controller and the media: the one place every backend I/O passes.
//!
//! A queue learns the gate's epoch when it is connected and shows it for each submission. Closing
//! the gate raises the epoch, so everything admitted under the old one is refused from then on,
//! whatever thread it is on and however long it was parked. Submissions are counted before the
//! epoch is read, so once the gate is closed *and* the count is zero nothing of the old epoch
//! is on the media or can get there. A *condemned* gate admits no epoch any more.
//!
//! Epoch and count lie in a [`Cell`](cell::Cell), where other processes serving the same
//! store can see and condemn them. A condemned gate may lose its cell to a new controller before
//! its own has noticed: it knows the cell's generation, and from then on is condemned, counts
//! nothing and leaves the cell alone.
//!
//! The keep-alive deadline is checked here too, by the clock and not by a timer: a process that was
//! stopped for longer than the timeout and then continues finds its deadline passed before it can
//! submit what it had parked. What remains are submissions that passed the check just before the
//! process was stopped: a reactor's turn of them, since it submits all at its end. They are counted,
//! so no cross-controller reset is reported complete before them; a host that goes by time alone is
//! covered as far as the quiesce time the controller reports.

pub mod board;
mod cell;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use thiserror::Error;

use self::cell::{CONDEMNED, Cell, GENERATION_SHIFT, Place, first_epoch};
use crate::sync::AtomicU64;

/// Which incarnation of a gate a queue was connected under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// Why a submission was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fenced {
    /// The gate was closed after the queue was connected.
    #[error("the controller was reset")]
    Closed,
    /// The host's keep-alive timer ran out.
    #[error("the keep-alive timer expired")]
    KeepAliveExpired,
}

const NO_DEADLINE: u64 = u64::MAX;
/// One controller's gate.
#[derive(Debug)]
pub struct Gate {
    cell: Home,
    /// Which of its cell's controllers this gate is.
    generation: u64,
    deadline_ns: AtomicU64,
}

#[derive(Debug)]
enum Home {
    Alone(Box<Cell>),
    Board { place: Place, index: usize },
}

impl Default for Gate {
    /// A gate on no board: nobody else can condemn it.
    fn default() -> Self {
        let cell = Box::<Cell>::default();
        cell.epoch.store(first_epoch(0), SeqCst);
        Self {
            cell: Home::Alone(cell),
            generation: 0,
            deadline_ns: AtomicU64::new(NO_DEADLINE),
        }
    }
}

impl Gate {
    fn of_board(place: Place, index: usize, generation: u64) -> Self {
        Self {
            cell: Home::Board { place, index },
            generation,
            deadline_ns: AtomicU64::new(NO_DEADLINE),
        }
    }

    fn cell(&self) -> &Cell {
        match &self.cell {
            Home::Alone(cell) => cell,
            Home::Board { place, index } => place.cell(*index),
        }
    }

    /// The cell, as long as it was not given to another controller. It is given away only when
    /// this gate is condemned and its count zero.
    fn own_cell(&self) -> Option<&Cell> {
        let cell = self.cell();
        (cell.generation.load(SeqCst) == self.generation).then_some(cell)
    }

    const fn is_own(&self, epoch: u64) -> bool {
        epoch >> GENERATION_SHIFT == self.generation
    }

    /// The epoch queues connected now are admitted under.
    pub fn epoch(&self) -> Epoch {
        let epoch = self.cell().epoch.load(SeqCst);
        Epoch(if self.is_own(epoch) { epoch } else { CONDEMNED })
    }

    /// Admits one command to the media and counts it; pair with [`Gate::leave`].
    pub fn enter(&self, epoch: Epoch, now: Duration) -> Result<(), Fenced> {
        // Not for safety: a gate long closed must not disturb the count of the cell's next owner.
        self.permits(epoch, now)?;
        self.cell().in_flight.fetch_add(1, SeqCst);
        self.permits(epoch, now).inspect_err(|_| self.leave())
    }

    /// Whether a command admitted earlier may submit another step.
    pub fn permits(&self, epoch: Epoch, now: Duration) -> Result<(), Fenced> {
        if epoch.0 == CONDEMNED || self.cell().epoch.load(SeqCst) != epoch.0 {
            return Err(Fenced::Closed);
        }
        if nanoseconds(now) >= self.deadline_ns.load(SeqCst) {
            return Err(Fenced::KeepAliveExpired);
        }
        Ok(())
    }

    /// A command admitted by [`Gate::enter`] is off the media.
    pub fn leave(&self) {
        let before = self.cell().in_flight.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "a command left that never entered");
    }

    /// Refuses everything of the current epoch from now on.
    pub fn close(&self) {
        let next = |epoch: u64| self.is_own(epoch).then(|| epoch + 1);
        // A condemned gate is closed already.
        let _ = self.cell().epoch.fetch_update(SeqCst, SeqCst, next);
    }

    /// Refuses everything from now on, for good.
    pub fn condemn(&self) {
        let next = |epoch: u64| self.is_own(epoch).then_some(CONDEMNED);
        let _ = self.cell().epoch.fetch_update(SeqCst, SeqCst, next);
    }

    /// Whether the gate was condemned, here or in another process.
    pub fn is_condemned(&self) -> bool {
        !self.is_own(self.cell().epoch.load(SeqCst))
    }

    /// Commands on the media. Zero after [`Gate::close`] means that the fence is complete.
    pub fn in_flight(&self) -> u32 {
        self.own_cell()
            .map_or(0, |cell| cell.in_flight.load(SeqCst))
    }

    /// When the keep-alive timer runs out; `None` switches it off.
    pub fn set_deadline(&self, deadline: Option<Duration>) {
        self.deadline_ns
            .store(deadline.map_or(NO_DEADLINE, nanoseconds), SeqCst);
    }

    /// When the keep-alive timer runs out.
    pub fn deadline(&self) -> Option<Duration> {
        match self.deadline_ns.load(SeqCst) {
            NO_DEADLINE => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NO_DEADLINE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    #[test]
    fn closing_refuses_what_was_admitted_before() {
        let gate = Gate::default();
        let old = gate.epoch();
        gate.enter(old, NOW).expect("open");
        gate.close();
        assert_eq!(gate.enter(old, NOW), Err(Fenced::Closed));
        assert_eq!(
            gate.permits(old, NOW),
            Err(Fenced::Closed),
            "not even a further step"
        );
        assert_eq!(gate.in_flight(), 1, "the one on the media is still there");
        gate.leave();
        assert_eq!(gate.in_flight(), 0);
        assert_eq!(gate.enter(gate.epoch(), NOW), Ok(()));
    }

    #[test]
    fn a_condemned_gate_stays_closed() {
        let gate = Gate::default();
        let old = gate.epoch();
        gate.condemn();
        gate.close();
        assert!(gate.is_condemned());
        assert_eq!(gate.permits(old, NOW), Err(Fenced::Closed));
        assert_eq!(gate.permits(gate.epoch(), NOW), Err(Fenced::Closed));
    }

    #[test]
    fn the_deadline_holds_without_a_timer() {
        let gate = Gate::default();
        gate.set_deadline(Some(NOW));
        let epoch = gate.epoch();
        assert_eq!(gate.permits(epoch, Duration::from_millis(4999)), Ok(()));
        assert_eq!(gate.permits(epoch, NOW), Err(Fenced::KeepAliveExpired));
        gate.set_deadline(None);
        assert_eq!(gate.permits(epoch, NOW), Ok(()));
    }
}
