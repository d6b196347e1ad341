//! The board: where the gates of one subsystem's controllers are kept, in every process serving it.
//!
//! A fixed layout of atomics, in memory of this process alone or in a mapping shared by the
//! processes that serve the same store. Each process has a row of cells and gives one to every
//! controller it makes; the cell says which incarnation it is ([`Instance`]), whose host's, and
//! holds its gate's epoch and count. Anyone may *condemn* a cell: raise its epoch for good. From
//! then on its owner's gate refuses everything, whether or not the owner has noticed; and once the
//! count is zero as well nothing of that incarnation can reach the media any more. A condemned cell
//! stays readable until it is the oldest, so that a reset asked for late finds its answer.
//!
//! Whether a process that will never count down again (it died) is off the media is not decided
//! here but by a [`Witness`].
//!
//! A cell is condemned by exchanging the very epoch under which its identity was read, and no epoch
//! is ever used twice in a cell: a controller made meanwhile in the same cell cannot be hit.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use umpath_nvme::command::Instance;
use uuid::Uuid;

use super::Gate;
use super::cell::{CELLS_EACH, CONDEMNED, Cell, Place, Row, USED, first_epoch};
pub use super::cell::{Memory, PROCESSES_MAX};
use crate::sync::AtomicU64;

/// Knows about the other processes' fate.
pub trait Witness: fmt::Debug + Send + Sync {
    /// Whether process `row`, which had the stores of mark `stores` open, has ended *and* nothing
    /// it gave to the kernel is under way any more on any of them.
    fn is_over(&self, row: usize, stores: usize) -> bool;
}

/// One cell of one board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellIndex(usize);

/// What has become of a condemned incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing of it is on the media, and nothing can get there.
    Off,
    /// Commands it admitted before are still counted.
    OnMedia,
}

/// A controller of another process that lost its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The controller incarnation.
    pub instance: Instance,
    /// The host's mark, see [`host_mark`].
    pub host: u64,
}

/// A subsystem's board, as one process uses it.
#[derive(Debug, Clone)]
pub struct Board {
    place: Place,
    row: usize,
    witness: Option<Arc<dyn Witness>>,
    order: Arc<AtomicU64>,
}

/// A host's name in 64 bits.
pub fn host_mark(nqn: &str) -> u64 {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, nqn.as_bytes())
        .as_u64_pair()
        .0
}

impl Board {
    /// A board nobody else sees.
    pub fn private() -> Self {
        Self {
            place: Place::Own(Arc::default()),
            row: 0,
            witness: None,
            order: Arc::default(),
        }
    }

    /// A board in shared memory. The caller owns `row` for as long as this process lives, and
    /// nothing of the row's former owner is on the media any more.
    pub fn shared(memory: &'static Memory, row: usize, witness: Arc<dyn Witness>) -> Self {
        Self::joined(Place::Shared(memory), row, witness)
    }

    /// The same in memory of this process, for several arrays in one process.
    pub fn common(memory: Arc<Memory>, row: usize, witness: Arc<dyn Witness>) -> Self {
        Self::joined(Place::Own(memory), row, witness)
    }

    fn joined(place: Place, row: usize, witness: Arc<dyn Witness>) -> Self {
        assert!(row < PROCESSES_MAX, "the board has no row {row}");
        let board = Self {
            place,
            row,
            witness: Some(witness),
            order: Arc::default(),
        };
        let mut newest = 0;
        for cell in board.own_cells() {
            cell.epoch.store(CONDEMNED, SeqCst);
            // A dead owner's count never falls.
            if cell.in_flight.load(SeqCst) != 0 {
                cell.in_flight.store(0, SeqCst);
            }
            newest = newest.max(cell.taken.load(SeqCst));
        }
        board.order.store(newest, SeqCst);
        board
    }

    /// Whether other processes can see it.
    pub fn is_shared(&self) -> bool {
        self.witness.is_some()
    }

    fn own_cells(&self) -> impl Iterator<Item = &Cell> {
        self.place.of_row(self.row).iter()
    }

    fn row(&self) -> &Row {
        &self.place.rows[self.row]
    }

    /// Shows the others which stores this process has open: the mark its witness knows them by.
    pub fn set_stores(&self, stores: usize) {
        let stores = u32::try_from(stores).expect("a mark of 32 bits");
        self.row().stores.store(stores, SeqCst);
    }

    /// A cell for a new controller; `None` when this process has too many.
    pub fn take(&self, instance: Instance, host: &str) -> Option<Gate> {
        let (at, cell) = self
            .own_cells()
            .enumerate()
            .filter(|(_, cell)| cell.is_retired())
            .min_by_key(|(_, cell)| cell.taken.load(SeqCst))?;
        // Whoever reads it meanwhile sees a retired cell of a changing identity, and matches none.
        cell.epoch.store(CONDEMNED, SeqCst);
        cell.identity.store(0, SeqCst);
        cell.cirn.store(instance.cirn, SeqCst);
        cell.host.store(host_mark(host), SeqCst);
        cell.lost.store(0, SeqCst);
        let order = self.order.fetch_add(1, SeqCst) + 1;
        cell.taken.store(order, SeqCst);
        let identity = u64::from(instance.cntlid) | u64::from(instance.ciu) << 16 | USED;
        cell.identity.store(identity, SeqCst);
        let generation = cell.generation.fetch_add(1, SeqCst) + 1;
        cell.epoch.store(first_epoch(generation), SeqCst);
        let index = CellIndex(self.row * CELLS_EACH + at);
        Some(Gate::of_board(self.place.clone(), index.0, generation))
    }

    /// The cell of an incarnation of `host`'s, ended or not.
    pub fn find(&self, instance: Instance, host: &str) -> Option<CellIndex> {
        let host = host_mark(host);
        let mut cells = self.place.cells.iter();
        cells
            .position(|cell| cell.instance() == Some(instance) && cell.host.load(SeqCst) == host)
            .map(CellIndex)
    }

    /// Ends the incarnation in a cell, if it is still there. True when it was not ended before.
    pub fn condemn(&self, index: CellIndex, instance: Instance) -> bool {
        let cell = self.place.cell(index.0);
        loop {
            let epoch = cell.epoch.load(SeqCst);
            if epoch == CONDEMNED || cell.instance() != Some(instance) {
                return false;
            }
            let swapped = cell
                .epoch
                .compare_exchange(epoch, CONDEMNED, SeqCst, SeqCst);
            if swapped.is_ok() {
                let row = &self.place.rows[index.0 / CELLS_EACH];
                row.condemned.fetch_add(1, SeqCst);
                return true;
            }
        }
    }

    /// What has become of a condemned incarnation.
    pub fn fate(&self, index: CellIndex, instance: Instance) -> Fate {
        let cell = self.place.cell(index.0);
        // A cell is given to another incarnation only when the one before is off the media.
        if cell.instance() != Some(instance) || cell.in_flight.load(SeqCst) == 0 {
            return Fate::Off;
        }
        let row = index.0 / CELLS_EACH;
        let over = row != self.row
            && self
                .witness
                .as_ref()
                .is_some_and(|witness| witness.is_over(row, self.place.stores(row)));
        if over { Fate::Off } else { Fate::OnMedia }
    }

    /// A number that changes when another process has condemned one of this process' cells.
    pub fn condemnations(&self) -> u32 {
        self.row().condemned.load(SeqCst)
    }

    /// Notifies the others that the controller behind `gate` lost its host.
    pub fn note_loss(&self, gate: &Gate) {
        let Some(cell) = gate.own_cell() else {
            return;
        };
        cell.lost.store(1, SeqCst);
        self.row().losses.fetch_add(1, SeqCst);
    }

    /// A number that changes when a controller of another process lost its host.
    pub fn foreign_losses(&self) -> u32 {
        let foreign = self.place.rows.iter().enumerate();
        foreign
            .filter(|(row, _)| *row != self.row)
            .fold(0, |sum: u32, (_, row)| {
                sum.wrapping_add(row.losses.load(SeqCst))
            })
    }

    /// Controllers of other processes that lost their hosts, as far as still known.
    pub fn losses(&self) -> Vec<Loss> {
        let own = self.row * CELLS_EACH..(self.row + 1) * CELLS_EACH;
        let foreign = self.place.cells.iter().enumerate();
        foreign
            .filter(|(at, cell)| !own.contains(at) && cell.lost.load(SeqCst) != 0)
            .filter_map(|(_, cell)| {
                Some(Loss {
                    instance: cell.instance()?,
                    host: cell.host.load(SeqCst),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::super::Fenced;
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const HOST: &str = "nqn.2026-11.test:host";

    fn instance(cirn: u64) -> Instance {
        Instance {
            cntlid: 7,
            ciu: cirn as u8,
            cirn,
        }
    }

    #[derive(Debug, Default)]
    struct Death(AtomicBool);

    impl Witness for Death {
        fn is_over(&self, _: usize, stores: usize) -> bool {
            stores == 1 && self.0.load(SeqCst)
        }
    }

    fn pair() -> (Board, Board, Arc<Death>) {
        let memory: &'static Memory = Box::leak(Box::default());
        let death = Arc::new(Death::default());
        let board = |row| Board::shared(memory, row, Arc::clone(&death) as Arc<dyn Witness>);
        (board(0), board(1), death)
    }

    #[test]
    fn another_process_closes_the_gate_and_sees_the_count() {
        let (owner, peer, _) = pair();
        let gate = owner.take(instance(1), HOST).expect("a cell");
        let epoch = gate.epoch();
        gate.enter(epoch, NOW).expect("open");
        let index = peer.find(instance(1), HOST).expect("known");
        let before = owner.condemnations();
        assert!(peer.condemn(index, instance(1)));
        assert!(!peer.condemn(index, instance(1)), "once");
        assert_ne!(owner.condemnations(), before, "the owner can notice");
        assert_eq!(gate.permits(epoch, NOW), Err(Fenced::Closed));
        assert_eq!(
            gate.enter(gate.epoch(), NOW),
            Err(Fenced::Closed),
            "not even for a queue connected afterwards"
        );
        assert_eq!(peer.fate(index, instance(1)), Fate::OnMedia);
        gate.leave();
        assert_eq!(peer.fate(index, instance(1)), Fate::Off);
    }

    #[test]
    fn only_the_named_incarnation_of_the_same_host_is_hit() {
        let (owner, peer, _) = pair();
        let gate = owner.take(instance(1), HOST).expect("a cell");
        assert_eq!(peer.find(instance(2), HOST), None);
        assert_eq!(peer.find(instance(1), "nqn.2026-11.test:other"), None);
        let index = peer.find(instance(1), HOST).expect("known");
        assert!(!peer.condemn(index, instance(2)));
        assert_eq!(gate.permits(gate.epoch(), NOW), Ok(()));
    }

    #[test]
    fn a_cell_given_to_a_successor_is_not_condemned_for_its_predecessor() {
        let (owner, peer, _) = pair();
        let first = owner.take(instance(1), HOST).expect("a cell");
        let index = peer.find(instance(1), HOST).expect("known");
        first.condemn();
        // Every other cell is older, so this cell comes round again last.
        for cirn in 2..=CELLS_EACH as u64 {
            owner.take(instance(cirn), HOST).expect("a cell").condemn();
        }
        let successor = owner.take(instance(999), HOST).expect("a cell");
        assert_eq!(peer.find(instance(999), HOST), Some(index), "the same cell");
        assert!(!peer.condemn(index, instance(1)));
        assert_eq!(successor.permits(successor.epoch(), NOW), Ok(()));
        assert_eq!(
            peer.fate(index, instance(1)),
            Fate::Off,
            "it was off before"
        );
    }

    #[test]
    fn a_gate_that_lost_its_cell_is_condemned_and_leaves_the_next_one_alone() {
        let (owner, peer, _) = pair();
        let first = owner.take(instance(1), HOST).expect("a cell");
        let old = first.epoch();
        for cirn in 2..=CELLS_EACH as u64 {
            owner.take(instance(cirn), HOST).expect("a cell").condemn();
        }
        let index = peer.find(instance(1), HOST).expect("known");
        assert!(peer.condemn(index, instance(1)));
        // Its owner has not noticed.
        let successor = owner.take(instance(999), HOST).expect("a cell");
        assert_eq!(peer.find(instance(999), HOST), Some(index), "the same cell");
        successor.enter(successor.epoch(), NOW).expect("open");

        assert!(first.is_condemned());
        assert_eq!(first.in_flight(), 0, "none of its own");
        assert_eq!(first.enter(old, NOW), Err(Fenced::Closed));
        assert_eq!(
            first.enter(first.epoch(), NOW),
            Err(Fenced::Closed),
            "a queue it connects now is not the successor's"
        );
        first.close();
        first.condemn();
        owner.note_loss(&first);
        assert_eq!(successor.permits(successor.epoch(), NOW), Ok(()));
        assert_eq!(successor.in_flight(), 1);
        assert_eq!(peer.losses(), []);
    }

    #[test]
    fn a_dead_process_is_off_when_its_witness_says_so() {
        let (owner, peer, death) = pair();
        let gate = owner.take(instance(1), HOST).expect("a cell");
        gate.enter(gate.epoch(), NOW).expect("open");
        let index = peer.find(instance(1), HOST).expect("known");
        peer.condemn(index, instance(1));
        death.0.store(true, SeqCst);
        assert_eq!(
            peer.fate(index, instance(1)),
            Fate::OnMedia,
            "it had stores the witness cannot see"
        );
        owner.set_stores(1);
        assert_eq!(peer.fate(index, instance(1)), Fate::Off);
    }

    #[test]
    fn a_row_taken_over_remembers_and_is_quiet() {
        let memory: &'static Memory = Box::leak(Box::default());
        let death = Arc::new(Death::default());
        let board = || Board::shared(memory, 0, Arc::clone(&death) as Arc<dyn Witness>);
        let dead = board();
        let gate = dead.take(instance(1), HOST).expect("a cell");
        gate.enter(gate.epoch(), NOW).expect("open");
        let successor = board();
        let index = successor.find(instance(1), HOST).expect("still known");
        assert_eq!(successor.fate(index, instance(1)), Fate::Off);
        successor.take(instance(2), HOST).expect("another cell");
        assert!(successor.find(instance(1), HOST).is_some());
    }

    #[test]
    fn losses_are_seen_by_the_others_only() {
        let (owner, peer, _) = pair();
        let gate = owner.take(instance(1), HOST).expect("a cell");
        let before = (owner.foreign_losses(), peer.foreign_losses());
        owner.note_loss(&gate);
        assert_eq!(owner.foreign_losses(), before.0);
        assert_ne!(peer.foreign_losses(), before.1);
        let loss = Loss {
            instance: instance(1),
            host: host_mark(HOST),
        };
        assert_eq!((owner.losses(), peer.losses()), (vec![], vec![loss]));
    }

    #[test]
    #[should_panic(expected = "the board has no row 4")]
    fn a_row_that_is_not_there_is_a_bug() {
        let (memory, death) = (Arc::default(), Arc::new(Death::default()));
        Board::common(memory, PROCESSES_MAX, death);
    }

    #[test]
    fn too_many_controllers_are_refused() {
        let board = Board::private();
        let gates: Vec<_> = (0..CELLS_EACH as u64)
            .map(|cirn| board.take(instance(cirn), HOST).expect("a cell"))
            .collect();
        assert!(board.take(instance(1000), HOST).is_none());
        drop(gates);
        assert!(
            board.take(instance(1000), HOST).is_none(),
            "condemned, not dropped"
        );
    }
}

#[cfg(all(test, feature = "loom"))]
mod under_loom;
