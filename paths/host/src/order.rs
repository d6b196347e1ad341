//! The host's orders to its shell, and the keys of the objects they name.
//!
//! The host names everything the shell holds for it: a queue pair by its association and queue
//! identifier, a block device and its memory by their volume, a queue thread by its volume and
//! queue number.

use umpath_core::{AssociationId, LaneCommand};
use umpath_protocol::{DisconnectTarget, Failure, PathOutcome, Reply, Steer};
use umpath_session::StableId;

use crate::path::{PathSpec, Request};
use crate::record::{AssociationRecord, RecordKey, VolumeRecord};
use crate::spec::{VolumeKey, VolumeSpec};

/// A caller that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A queue pair of an association, as its order fence counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueKey {
    /// The admin queue.
    Admin,
    /// All queue pairs that no queue thread ever held, together.
    Spare,
    /// The one held by a volume's queue thread.
    Lane(VolumeKey, u16),
}

/// What the shell still holds of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remains {
    /// Queue pairs that no queue thread ever held, and the association's other resources.
    Spare,
    /// The queue pair that a queue thread handed back.
    Lane(VolumeKey, u16),
}

/// What became of a block device that was to be removed.
#[derive(Debug, Clone)]
pub enum RemovalOutcome {
    /// It is deleted, and so is its record.
    Deleted,
    /// It has stopped for good and its queue threads have ended, but it could not be deleted: it
    /// still has its number, and its record was kept.
    Stopped(Failure),
    /// It was not stopped: it is served as before.
    Kept(Failure),
}

/// An order of the host to its shell.
#[derive(Debug)]
pub enum Order {
    /// Run a [`Path`](crate::Path) with this description and pass its reports to
    /// [`Host::handle_report`](crate::Host::handle_report).
    RunPath(Box<PathSpec>),
    /// Pass a request to a path; drop it if the path has ended.
    ToPath(u32, Request),
    /// Pass a command to a queue thread. It names a queue pair by queue identifier; attaching the
    /// queue pair moves it from the shell's store for the association to the thread.
    Lane {
        /// The volume the thread serves.
        volume: VolumeKey,
        /// Number of the queue thread.
        queue: u16,
        /// The command to the thread.
        command: LaneCommand<u16>,
    },
    /// Destroy what is left of an association. If `report` is set,
    /// [`Host::handle_destroyed`](crate::Host::handle_destroyed) follows with the time of
    /// destruction.
    Destroy {
        /// Its owner.
        association: AssociationId,
        /// The part of it to destroy.
        remains: Remains,
        /// Whether the host waits for the destruction.
        report: bool,
    },
    /// Write an association's record; [`Host::handle_recorded`](crate::Host::handle_recorded)
    /// follows when it is durable or has failed.
    Record {
        /// The path that has the association.
        path: u32,
        /// The association to record.
        association: AssociationId,
        /// What the next process needs to fence it.
        record: Box<AssociationRecord>,
    },
    /// Delete the record of an association that needs no fence. A leftover record costs the next
    /// process a wait.
    Forget(RecordKey),
    /// Create a volume's block device with its queue threads and their memory, durably recorded
    /// before anyone can use it; [`Host::handle_built`](crate::Host::handle_built) follows. If a
    /// step fails, nothing is left behind.
    Build(Box<VolumeSpec>),
    /// Take over the block device of an earlier process in the same way. If a step fails, the
    /// device is left as it was.
    Recover {
        /// The volume it belongs to.
        spec: Box<VolumeSpec>,
        /// Number of the block device.
        device: u32,
        /// The cookie under which the driver holds it.
        cookie: u64,
    },
    /// Find out whether the block device of this record exists;
    /// [`Host::handle_found`](crate::Host::handle_found) follows.
    FindDevice(Box<VolumeRecord>),
    /// Register the memory of a volume's queue threads with an association;
    /// [`Host::handle_registered`](crate::Host::handle_registered) follows.
    Register {
        /// The volume that owns the memory.
        volume: VolumeKey,
        /// The association to register it with.
        association: AssociationId,
    },
    /// Deregister it from every association that still exists, after whatever is being registered
    /// there: the volume is gone or being dropped, and nothing else is ordered for it.
    Unregister(VolumeKey),
    /// Make the block device visible; [`Host::handle_started`](crate::Host::handle_started)
    /// follows.
    Start(VolumeKey),
    /// Determine who uses these volumes (mounts, holders, openers), unless `force`;
    /// [`Host::handle_users`](crate::Host::handle_users) follows.
    FindUsers {
        /// Number of the removal.
        removal: u64,
        /// Volumes and the names of their block devices.
        volumes: Vec<(StableId, String)>,
    },
    /// Remove a block device and then its record; without `force`, only if it is not open.
    /// [`Host::handle_removed`](crate::Host::handle_removed) follows.
    Remove {
        /// Number of the removal; 0: no removal waits for it.
        removal: u64,
        /// The volume whose device goes.
        volume: VolumeKey,
        /// Remove it even while it is in use.
        force: bool,
    },
    /// Drop a block device that was never visible, and its record. [`Self::Unregister`] follows.
    Discard(VolumeKey),
    /// Leave a block device to the next process: its requests wait.
    Abandon(VolumeKey),
    /// Delete a block device that nobody serves any more, without waiting for those who have it open,
    /// and then its record; [`Host::handle_swept`](crate::Host::handle_swept) follows.
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
    /// Rewrite a volume's record eventually, if it still exists then. Until that is done the next
    /// process sees the previous version.
    Rewrite(Box<VolumeRecord>),
    /// Save the volume name bindings.
    SaveNames(Vec<(String, String)>),
    /// Save the path number bindings.
    SaveNumbers(Vec<(String, u32)>),
    /// Answer a caller.
    Answer(CallId, Answer),
    /// Exit at once, as if killed: the next process repairs what this one cannot.
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

/// An operator's request to the host.
#[derive(Debug, Clone)]
pub enum Verb {
    /// Counters of all volumes.
    Stats,
    /// Change paths, groups or policies by hand.
    Steer(Steer),
    /// Queue or fail I/O while there is no path.
    Queueing {
        /// Name, identity or device; `None`: all volumes.
        volume: Option<String>,
        /// `true`: it waits.
        on: bool,
    },
    /// Remove paths and volumes.
    Disconnect {
        /// What to remove.
        target: DisconnectTarget,
        /// Remove them even while in use.
        force: bool,
    },
}
