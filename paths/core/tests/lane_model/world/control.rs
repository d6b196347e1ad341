//! The control side: the real device for convictions, ghosts and fences, with a mailbox for each
//! lane in between, so that lanes hear of everything at different times.

use std::sync::Arc;

use umpath_core::policies::{DampingConfig, Failback, Grouping, Ranking, SelectorConfig};
use umpath_core::{
    AssociationId, CommandLimits, Data, Device, DeviceConfig, DeviceOutput, Ghost, GhostTable,
    LaneId, NoPath, Op, PathConfig, PathId, Ready, SendCommand, Tag,
};
use umpath_nvme::Sqe;

use super::{Association, BUFFER_BLOCKS, Copy, LANES, PATHS, Request, SHIFT, World};

/// A message to a lane.
#[derive(Debug, Clone)]
pub(super) enum Mail {
    Convict(AssociationId),
    Guard(Arc<GhostTable>),
    Locked(AssociationId),
    Fenced(AssociationId),
}

pub(super) fn device(sharing: bool) -> Device {
    let config = DeviceConfig {
        lba_shift: SHIFT,
        lanes: LANES as u16,
        selector: SelectorConfig::default(),
        grouping: Grouping::ByPriority,
        ranking: Ranking::default(),
        failback: Failback::Immediate,
        no_path: NoPath::Queue,
        damping: DampingConfig::default(),
        fast_io_fail: core::time::Duration::ZERO,
        shared_with_other_hosts: sharing,
        flush_on_last_del: false,
    };
    let now = core::time::Duration::ZERO;
    let mut device = Device::new(config, now);
    for path in 0..PATHS as u8 {
        device
            .add_path(PathId(path), PathConfig::default(), now)
            .expect("a path of its own");
    }
    device
}

impl World {
    pub(super) fn new_association(&mut self) -> AssociationId {
        let id = AssociationId(self.associations.len() as u64);
        self.associations.push(Association {
            id,
            convicted: false,
            heard: [false; LANES],
            drained: [false; LANES],
            lock_known: [false; LANES],
            fenced: false,
            fence_known: [false; LANES],
            ana_refuses: [false; LANES],
        });
        id
    }

    pub(super) fn ready(&mut self, path: PathId, association: AssociationId) {
        let ready = Ready {
            association,
            nsid: 1,
            limits: CommandLimits::default(),
            ana: None,
            ana_group: 0,
            controller: None,
            node: None,
        };
        self.device.path_ready(path, ready, self.now);
        self.collect();
    }

    /// An earlier run of the host left a write behind that was over long ago, for the host.
    pub(super) fn inherit(&mut self) {
        let association = self.new_association();
        let known = self.associations.last_mut().expect("just made");
        known.convicted = true;
        known.heard = [true; LANES];
        known.drained = [true; LANES];
        self.device.inherit(association, self.now);
        self.collect();
        let body = umpath_core::BlockRequest {
            tag: Tag(0),
            op: Op::Write,
            lba: 0,
            blocks: 32 + BUFFER_BLOCKS,
            fua: false,
            no_unmap: false,
        };
        self.copies.push(Copy {
            request: self.requests.len(),
            lane: 0,
            send: SendCommand {
                path: PathId(0),
                association,
                sqe: Sqe::default(),
                tag: Tag(0),
                data: Data::None,
            },
            lba: body.lba,
            blocks: body.blocks,
            executed: false,
            answered: false,
            lost: true,
        });
        self.requests.push(Request {
            body,
            submitted: 0,
            completed: Some(0),
            may_fail: false,
            // As far as anyone knows.
            failed: true,
        });
    }

    /// Another host writes, and is answered at once.
    pub(crate) fn write_elsewhere(&mut self, lba: u8, blocks: u8) {
        if !self.sharing {
            return;
        }
        self.tick();
        let body = umpath_core::BlockRequest {
            tag: Tag(0),
            op: Op::Write,
            lba: u64::from(lba % 32),
            blocks: u32::from(blocks) % BUFFER_BLOCKS + 1,
            fua: false,
            no_unmap: false,
        };
        self.requests.push(Request {
            body,
            submitted: self.step,
            completed: Some(self.step),
            may_fail: false,
            failed: false,
        });
        self.put(self.requests.len() - 1, body.lba, body.blocks);
    }

    /// Puts what the device says into the lanes' mailboxes.
    pub(super) fn collect(&mut self) {
        while let Some(output) = self.device.poll_output() {
            let mail = match output {
                DeviceOutput::Convict(association) => Mail::Convict(association),
                DeviceOutput::Guard(table) => Mail::Guard(table),
                DeviceOutput::Locked(association) => {
                    self.check_lock(association);
                    Mail::Locked(association)
                }
                DeviceOutput::Fenced(association) => Mail::Fenced(association),
                DeviceOutput::Publish(_) | DeviceOutput::FailQueued | DeviceOutput::Event(_) => {
                    continue;
                }
            };
            for inbox in &mut self.mail {
                inbox.push_back(mail.clone());
            }
        }
    }

    /// One lane reads a message.
    pub(crate) fn hear(&mut self, pick: u8) {
        let waiting: Vec<usize> = (0..LANES)
            .filter(|lane| !self.mail[*lane].is_empty())
            .collect();
        if let Some(lane) = waiting.get(usize::from(pick) % waiting.len().max(1)) {
            self.read_one(*lane);
            self.carry_out();
        }
    }

    fn read_one(&mut self, lane: usize) -> bool {
        let Some(mail) = self.mail[lane].pop_front() else {
            return false;
        };
        self.tick();
        let now = self.now;
        match mail {
            Mail::Convict(id) => {
                self.associations[id.0 as usize].heard[lane] = true;
                self.lanes[lane].convict(id, now);
            }
            Mail::Guard(table) => {
                self.tables[lane] = Arc::clone(&table);
                self.lanes[lane].guard(table, now);
            }
            Mail::Locked(id) => {
                self.associations[id.0 as usize].lock_known[lane] = true;
                self.lanes[lane].locked(id, now);
            }
            Mail::Fenced(id) => {
                self.associations[id.0 as usize].fence_known[lane] = true;
                self.lanes[lane].fenced(id, now);
            }
        }
        true
    }

    /// A lane reads everything it was sent, before the host takes anything from it.
    pub(super) fn read_mail(&mut self, lane: usize) {
        while self.read_one(lane) {}
    }

    pub(super) fn read_all_mail(&mut self) {
        while (0..LANES).any(|lane| !self.mail[lane].is_empty()) {
            for lane in 0..LANES {
                self.read_one(lane);
                self.carry_out();
            }
        }
    }

    pub(crate) fn drain(&mut self, pick: u8) {
        let draining = |association: &Association, lane: usize| {
            association.heard[lane] && !association.drained[lane]
        };
        let Some((at, lane)) = self.pick_lane(pick, draining) else {
            return;
        };
        self.tick();
        self.associations[at].drained[lane] = true;
        let id = self.associations[at].id;
        for copy in &mut self.copies {
            copy.lost |= copy.lane == lane && copy.send.association == id && !copy.answered;
        }
        let ghosts = self.lanes[lane].drained(id, self.now);
        self.note_owners(lane, id, &ghosts);
        self.device
            .lane_drained(id, LaneId(lane as u16), ghosts, self.now);
        self.collect();
        self.carry_out();
    }

    /// Every lost mutation is reported, and nothing else.
    fn note_owners(&mut self, lane: usize, association: AssociationId, ghosts: &[Ghost]) {
        let mut lost: Vec<&Copy> = self
            .copies
            .iter()
            .filter(|copy| {
                copy.lane == lane
                    && copy.send.association == association
                    && copy.lost
                    && self.requests[copy.request].body.op.is_mutation()
            })
            .collect();
        assert_eq!(ghosts.len(), lost.len());
        for ghost in ghosts {
            let same =
                |copy: &&Copy| (copy.lba, u64::from(copy.blocks)) == (ghost.lba, ghost.blocks);
            let at = lost.iter().position(same).expect("a ghost is a lost copy");
            let copy = lost.remove(at);
            let owner = ghost.owner.expect("a lane knows its own");
            let before = self.owners.insert(owner, copy.request);
            assert!(before.is_none_or(|request| request == copy.request));
        }
    }

    /// An association executes nothing more.
    pub(crate) fn fence(&mut self, pick: u8) {
        let ready: Vec<usize> = (0..self.associations.len())
            .filter(|at| {
                let association = &self.associations[*at];
                !association.fenced && association.convicted
            })
            .collect();
        if ready.is_empty() {
            return;
        }
        let at = ready[usize::from(pick) % ready.len()];
        self.tick();
        self.associations[at].fenced = true;
        let id = self.associations[at].id;
        self.device.order_fenced(id, self.now);
        self.collect();
    }
}
