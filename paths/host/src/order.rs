//! What the host wants done, and the names of what it is done to.
//!
//! Everything the shell holds for the host has a name the host knows it by: a queue pair is an
//! association's queue identifier, a block device and its memory belong to a volume, a queue thread
//! is a volume's queue number.

use umpath_core::{AssociationId, LaneCommand};
use umpath_protocol::{DisconnectTarget, Failure, PathOutcome, Reply, Steer};
use umpath_session::StableId;

use crate::path::{PathSpec, Request};
use crate::record::{AssociationRecord, RecordKey, VolumeRecord};
use crate::volume::VolumeSpec;

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A queue pair of an association, for its order fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueKey {
    /// The admin queue.
    Admin,
    /// Those that no queue thread ever had, together.
    Spare,
    /// The one that a volume's queue thread has.
    Lane(StableId, u16),
}

/// What is left of an association in the shell's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remains {
    /// Queue pairs that no queue thread ever had, and the association's other resources.
    Spare,
    /// The queue pair that a queue thread handed back.
    Lane(StableId, u16),
}

/// Something to be done.
#[derive(Debug)]
pub enum Order {
    /// Run a [`Path`](crate::Path) of this description, and give its reports to
    /// [`Host::handle_report`](crate::Host::handle_report).
    RunPath(Box<PathSpec>),
    /// Pass a request to a path. One that has ended needs it no more.
    ToPath(u32, Request),
    /// Pass a command to a queue thread. A queue pair is named by its queue identifier; attaching it
    /// takes it out of what the shell keeps of its association.
    Lane {
        /// The volume.
        volume: StableId,
        /// Its queue thread.
        queue: u16,
        /// What the thread is told.
        command: LaneCommand<u16>,
    },
    /// Destroy what is left of an association. Where `report` is set,
    /// [`Host::handle_destroyed`](crate::Host::handle_destroyed) follows, with the time at which it
    /// was gone.
    Destroy {
        /// Whose.
        association: AssociationId,
        /// What.
        remains: Remains,
        /// Somebody waits for it.
        report: bool,
    },
    /// Put an association on disk; [`Host::handle_recorded`](crate::Host::handle_recorded) follows
    /// when it is durable, or could not be written.
    Record {
        /// The path, as long as it has the association.
        path: u32,
        /// Which.
        association: AssociationId,
        /// What the next process has to know.
        record: Box<AssociationRecord>,
    },
    /// An association needs no fence any more: its record goes. One that stays costs a pause.
    Forget(RecordKey),
    /// Make the block device of a volume with its queue threads and their memory, durably recorded
    /// before anyone can use it; [`Host::handle_built`](crate::Host::handle_built) follows. Where a
    /// step fails nothing is left behind.
    Build(Box<VolumeSpec>),
    /// Take over the block device of an earlier process, likewise. Where a step fails the device is
    /// left as it was.
    Recover {
        /// The volume.
        spec: Box<VolumeSpec>,
        /// Its block device.
        device: u32,
        /// The driver's cookie of it.
        cookie: u64,
    },
    /// Register the memory of a volume's queue threads with an association;
    /// [`Host::handle_registered`](crate::Host::handle_registered) follows.
    Register {
        /// Whose memory.
        volume: StableId,
        /// With whom.
        association: AssociationId,
    },
    /// Undo that for every association that is still there: the volume is gone.
    Unregister(StableId),
    /// Let the block device appear; [`Host::handle_started`](crate::Host::handle_started) follows.
    Start(StableId),
    /// Find out who uses these volumes (mounts, holders, openers), unless `force`;
    /// [`Host::handle_users`](crate::Host::handle_users) follows.
    FindUsers {
        /// Number of the removal.
        removal: u64,
        /// Volumes and the names of their block devices.
        volumes: Vec<(StableId, String)>,
    },
    /// Remove a block device and then its record; where `force` is not set, only if nobody has it
    /// open. [`Host::handle_removed`](crate::Host::handle_removed) follows.
    Remove {
        /// Number of the removal; 0: nobody waits.
        removal: u64,
        /// The volume.
        volume: StableId,
        /// Also while it is in use.
        force: bool,
    },
    /// Drop a block device that nobody ever saw, and its record.
    Discard(StableId),
    /// Leave a block device to the next process: its requests wait.
    Abandon(StableId),
    /// Delete a block device of an earlier process that nobody can use, then its record.
    Sweep(Box<VolumeRecord>),
    /// Delete a block device whose server died and of which there is no record;
    /// [`Host::handle_orphan_deleted`](crate::Host::handle_orphan_deleted) follows.
    DeleteOrphan {
        /// Its number.
        device: u32,
        /// Who asked.
        call: CallId,
    },
    /// A volume's record goes: its block device went before.
    ForgetVolume(Box<VolumeRecord>),
    /// Write a volume's record again, some time, if it still exists then. Until that is done the
    /// next process would know what the last one knew.
    Rewrite(Box<VolumeRecord>),
    /// Keep the names given to identities.
    SaveNames(Vec<(String, String)>),
    /// Keep the numbers given to paths.
    SaveNumbers(Vec<(String, u32)>),
    /// Somebody gets an answer.
    Answer(CallId, Answer),
    /// End this process at once, as if it had been killed: its successor puts right what cannot be
    /// put right here.
    LeaveToSuccessor(String),
}

/// The answer to a call.
#[derive(Debug)]
pub enum Answer {
    /// To [`Host::handle_connect`](crate::Host::handle_connect).
    Path(Result<PathOutcome, Failure>),
    /// To [`Host::handle_verb`](crate::Host::handle_verb).
    Reply(Reply),
}

/// What an operator asks of the host.
#[derive(Debug, Clone)]
pub enum Verb {
    /// Counters of all volumes.
    Stats,
    /// Paths, groups and policies by hand.
    Steer(Steer),
    /// Whether I/O waits while there is no path.
    Queueing {
        /// Absent: all volumes.
        volume: Option<String>,
        /// It waits.
        on: bool,
    },
    /// Remove paths and volumes.
    Disconnect {
        /// Which.
        target: DisconnectTarget,
        /// Also while they are in use.
        force: bool,
    },
}
