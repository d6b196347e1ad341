//! The shipped [`Lane`](crate::Lane) as a part of the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use umpath_nvme::{Cqe, Status};

use super::NOW;
use super::machine::Machine;
use super::vocabulary::{
    Association, LANES, Mail, PATHS, SHIFT, Tables, WRITES, Write, Writes, ghost, only, table_of,
};
use crate::event::LaneId;
use crate::ghost::Owner;
use crate::shared::VolumeShared;
use crate::{
    Action, AssociationId, BlockRequest, LaneConfig, LaneEvent, Op, PathId, PathTable, Tag,
};

/// How much more is in flight on every other path: more than the model has writes.
const LOAD: usize = 8;
/// Entries of a queue pair.
const DEPTH: u16 = 4;

/// What a queue thread gives its lane, and takes what the lane wants done once all is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LaneInput {
    pub(super) first: Given,
    /// More mail that is read in the same round.
    pub(super) mail: Vec<Mail>,
    /// The path with the least in flight over all lanes, so the one that is chosen if it is usable.
    pub(super) idle: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Given {
    Mail(Mail),
    Request(Write),
    Answer(Write, Association),
    Drained(Association),
}

pub(super) fn given(first: Given, idle: u8) -> LaneInput {
    LaneInput {
        first,
        mail: Vec::new(),
        idle,
    }
}

/// What the lane wants done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LaneOutput {
    pub(super) sends: Vec<(Write, Association)>,
    pub(super) completed: Writes,
    /// The last table that it read is confirmed.
    pub(super) guarded: bool,
    /// What was lost, answering [`Given::Drained`].
    pub(super) ghosts: Writes,
}

/// A lane, and what its thread must remember to speak with it.
pub(super) struct LaneMachine {
    lane: crate::Lane,
    number: u8,
    shared: Arc<VolumeShared>,
    idle: Option<u8>,
    /// Of the last table of ghosts.
    generation: u64,
    /// Identifier of the last command for a write on an association.
    cids: BTreeMap<(Write, Association), u16>,
    paths: BTreeMap<Association, PathId>,
    /// What the lane called the commands it lost.
    births: BTreeMap<Write, u64>,
}

impl Machine for LaneMachine {
    type Input = LaneInput;
    type Output = LaneOutput;
    type Context = Tables;

    fn start(number: u8) -> Self {
        let shared = Arc::new(VolumeShared::new());
        let config = LaneConfig {
            id: LaneId(number.into()),
            tags: WRITES.len() as u16,
            buffer_bytes: 1 << 12,
            lba_shift: SHIFT,
        };
        let table = PathTable {
            selector: super::device::SELECTOR,
            ..PathTable::empty(SHIFT)
        };
        Self {
            lane: crate::Lane::new(config, Arc::new(table), Arc::clone(&shared)),
            number,
            shared,
            idle: None,
            generation: 0,
            cids: BTreeMap::new(),
            paths: BTreeMap::new(),
            births: BTreeMap::new(),
        }
    }

    fn apply(&mut self, input: &LaneInput, tables: &mut Tables) -> LaneOutput {
        self.weigh(input.idle);
        let mut output = LaneOutput::default();
        match input.first {
            Given::Mail(mail) => self.read(mail, tables),
            Given::Request(write) => self.submit(write),
            Given::Answer(write, association) => self.answer(write, association),
            Given::Drained(association) => output.ghosts = self.drain(association),
        }
        for mail in &input.mail {
            self.read(*mail, tables);
        }
        self.take(&mut output);
        output
    }

    fn projection(&self) -> String {
        self.lane.projection()
    }
}

impl LaneMachine {
    /// Other lanes have most in flight on all paths but one.
    fn weigh(&mut self, idle: u8) {
        if self.idle == Some(idle) {
            return;
        }
        for path in (0..PATHS as u8).filter(|path| *path != idle) {
            (0..LOAD).for_each(|_| self.shared.sent(PathId(path), 0, NOW));
        }
        if let Some(before) = self.idle.replace(idle) {
            for path in (0..PATHS as u8).filter(|path| *path != before) {
                (0..LOAD).for_each(|_| self.shared.dropped(PathId(path), 0));
            }
        }
    }

    fn read(&mut self, mail: Mail, tables: &Tables) {
        match mail {
            Mail::Attach { path, association } => {
                self.paths.insert(association, PathId(path));
                let taken = self.lane.attach(PathId(path), id(association), DEPTH, NOW);
                taken.expect("room for it");
            }
            Mail::Paths(at) => self.lane.set_table(tables.paths(at), NOW),
            Mail::Convict(association) => self.lane.convict(id(association), NOW),
            Mail::Guard(at) => {
                self.generation += 1;
                let table = table_of(self.generation, tables.ghosts(at), |write| self.own(write));
                self.lane.guard(Arc::new(table), NOW);
            }
            Mail::Locked(association) => self.lane.locked(id(association), NOW),
            Mail::Fenced(association) => self.lane.fenced(id(association), NOW),
        }
    }

    /// What this lane calls the command of a write of its own.
    fn own(&self, write: Write) -> Option<Owner> {
        let lane = usize::from(self.number);
        debug_assert!(lane < LANES);
        (WRITES[usize::from(write)].lane == lane).then(|| Owner {
            lane: LaneId(self.number.into()),
            birth: self.births.get(&write).copied().unwrap_or(u64::MAX),
        })
    }

    fn submit(&mut self, write: Write) {
        let extent = &WRITES[usize::from(write)];
        let request = BlockRequest {
            tag: Tag(write.into()),
            op: Op::Write,
            lba: extent.lba,
            blocks: extent.blocks,
            fua: false,
            no_unmap: false,
        };
        self.lane.submit(request, NOW).expect("a free tag");
    }

    fn answer(&mut self, write: Write, association: Association) {
        let cid = self.cids[&(write, association)];
        let cqe = Cqe::new(cid, 0, Status::SUCCESS, 0);
        let path = self.paths[&association];
        self.lane.complete(path, id(association), &cqe, NOW);
    }

    fn drain(&mut self, association: Association) -> Writes {
        let mut lost = 0;
        for found in self.lane.drained(id(association), NOW) {
            let owner = found.owner.expect("a lane knows its own");
            let same = |write: &Write| {
                WRITES[usize::from(*write)].lane == usize::from(self.number)
                    && ghost(*write, association, owner) == found
            };
            let write = (0..WRITES.len() as Write)
                .find(same)
                .expect("a ghost is a write of this lane");
            self.births.insert(write, owner.birth);
            lost |= only(write);
        }
        lost
    }

    fn take(&mut self, output: &mut LaneOutput) {
        while let Some(action) = self.lane.poll_action() {
            match action {
                Action::Send(send) => {
                    let write = send.tag.0 as Write;
                    let association = send.association.0 as Association;
                    self.cids.insert((write, association), send.sqe.cid.get());
                    output.sends.push((write, association));
                }
                Action::Complete { tag, result } => {
                    assert_eq!(result, Ok(()), "nothing fails here");
                    output.completed |= only(tag.0 as Write);
                }
            }
        }
        while let Some(event) = self.lane.poll_event() {
            if let LaneEvent::Guarded { generation } = event {
                assert!(generation <= self.generation);
                output.guarded |= generation == self.generation;
            }
        }
    }
}

fn id(association: Association) -> AssociationId {
    AssociationId(u64::from(association))
}
