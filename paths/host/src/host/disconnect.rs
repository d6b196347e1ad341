//! Removal that refuses rather than half-removes.
//!
//! First it is settled what goes: paths, and volumes that are left without any. Then all of those
//! volumes are looked at; if one is in use, nothing happens at all, unless `--force`. Then block
//! devices go, one after the other, and only after them the paths that served them.

use std::collections::BTreeSet;

use tokio::sync::oneshot;
use umpath_protocol::{DisconnectTarget, EventKind, Failure, PathOutcome, Reply};
use umpath_session::StableId;

use super::{Hub, Message};
use crate::events::Subject;
use crate::usage::users_of;
use crate::volume::{BlockDevice, Volume};

/// A removal under way.
#[derive(Debug)]
pub(crate) struct Removal {
    reply: Option<oneshot::Sender<Reply>>,
    /// Volumes whose block device goes.
    volumes: BTreeSet<StableId>,
    /// Paths that go.
    paths: BTreeSet<u32>,
    /// What is told about those paths.
    outcomes: Vec<PathOutcome>,
    /// Devices removed so far.
    deleted: Vec<String>,
    failure: Option<Failure>,
    force: bool,
    /// Volumes are gone; the paths are being ended.
    ending: bool,
}

impl Hub {
    /// Begins a removal.
    pub(super) fn disconnect(
        &mut self,
        target: &DisconnectTarget,
        force: bool,
        reply: oneshot::Sender<Reply>,
    ) {
        let (paths, volumes) = match self.what_goes(target) {
            Ok(found) => found,
            Err(failure) => {
                let _ = reply.send(Reply::Failed(failure));
                return;
            }
        };
        self.removal_last += 1;
        let number = self.removal_last;
        let outcomes = paths
            .iter()
            .filter_map(|path| Some(self.outcome(*path, self.paths.get(path)?)))
            .collect();
        let removal = Removal {
            reply: Some(reply),
            volumes: volumes.clone(),
            paths,
            outcomes,
            deleted: Vec::new(),
            failure: None,
            force,
            ending: false,
        };
        self.removals.insert(number, removal);
        let devices: Vec<(StableId, String)> = volumes
            .iter()
            .filter_map(|id| Some((*id, self.volumes.get(id)?.device_name())))
            .collect();
        self.elsewhere(move || {
            let look = |(id, device): (StableId, String)| {
                (id, if force { Vec::new() } else { users_of(&device) })
            };
            Message::Looked(number, devices.into_iter().map(look).collect())
        });
    }

    /// Paths and volumes a target names, or that are left without the other.
    fn what_goes(
        &self,
        target: &DisconnectTarget,
    ) -> Result<(BTreeSet<u32>, BTreeSet<StableId>), Failure> {
        let known = |path: &u32| self.paths.get(path).is_some_and(|record| !record.ending);
        let (mut paths, mut volumes) = (BTreeSet::new(), BTreeSet::new());
        match target {
            DisconnectTarget::Nqn(nqn) => {
                let all = self
                    .paths
                    .iter()
                    .filter(|(_, record)| record.spec.nqn.as_str() == nqn);
                paths.extend(all.map(|(path, _)| *path).filter(known));
                // Volumes without any path left belong to their subsystem still.
                volumes.extend(
                    self.volumes
                        .values()
                        .filter(|volume| volume.nqn() == nqn)
                        .map(Volume::id),
                );
            }
            DisconnectTarget::Path(path) => {
                paths.extend(Some(*path).filter(known));
            }
            DisconnectTarget::Device(device) => {
                let named = self.volumes.values().find(|volume| {
                    volume.device_name() == *device
                        || volume.name() == device
                        || volume.id().to_string() == *device
                });
                volumes.extend(named.map(Volume::id));
                paths.extend(self.paths.keys().filter(|path| {
                    let mut served = self
                        .volumes
                        .values()
                        .filter(|volume| volume.has_path(**path))
                        .peekable();
                    served.peek().is_some() && served.all(|volume| volumes.contains(&volume.id()))
                }));
            }
        }
        if !matches!(target, DisconnectTarget::Device(_)) {
            let left = self.volumes.values().filter(|volume| {
                volume.paths().next().is_some() && volume.paths().all(|path| paths.contains(&path))
            });
            volumes.extend(left.map(Volume::id).collect::<Vec<_>>());
        }
        if paths.is_empty() && volumes.is_empty() {
            let what = match target {
                DisconnectTarget::Nqn(nqn) => format!("no path to subsystem {nqn}"),
                DisconnectTarget::Device(device) => format!("no volume {device}"),
                DisconnectTarget::Path(path) => format!("no path {path}"),
            };
            return Err(Failure::new(
                what,
                "nothing was changed",
                "umpath show paths; umpath list",
            ));
        }
        Ok((paths, volumes))
    }

    /// Who uses the volumes was looked up.
    pub(super) fn looked(&mut self, number: u64, users: &[(StableId, Vec<String>)]) {
        let Some(removal) = self.removals.get_mut(&number) else {
            return;
        };
        let used: Vec<String> = users.iter().flat_map(|(_, users)| users.clone()).collect();
        if !used.is_empty() {
            let names: Vec<&str> = users
                .iter()
                .filter(|(_, users)| !users.is_empty())
                .filter_map(|(id, _)| self.volumes.get(id).map(Volume::name))
                .collect();
            removal.failure = Some(Failure::new(
                format!("{} is in use, nothing was removed", names.join(", ")),
                used.join("; "),
                "unmount and close it first; --force removes it all the same, and its users get \
                 I/O errors",
            ));
            removal.volumes.clear();
            removal.paths.clear();
            return;
        }
        self.remove_next(number);
    }

    /// Removes the next block device of a removal.
    fn remove_next(&mut self, number: u64) {
        let Some(removal) = self.removals.get_mut(&number) else {
            return;
        };
        let force = removal.force;
        // A volume that is gone already, by another request, needs no removing.
        removal.volumes.retain(|id| self.volumes.contains_key(id));
        let Some(&id) = removal.volumes.first() else {
            return;
        };
        let Some(volume) = self.volumes.get_mut(&id) else {
            return;
        };
        let Some(mut device) = volume.take_device() else {
            removal.failure = Some(Failure::new(
                format!("{} is being made or removed", volume.name()),
                "another request is at work on it",
                "try again",
            ));
            // Nobody comes back to this removal; what it has not done stays as it is.
            removal.volumes.clear();
            removal.paths.clear();
            return;
        };
        let name = volume.device_name();
        let record = volume.record();
        let keeper = self.context.keeper.clone();
        self.elsewhere(move || match device.remove(!force) {
            Ok(()) => {
                drop(device);
                keeper.remove(record.as_ref());
                Message::Removed(number, id, None, Ok(()))
            }
            Err(error) => {
                let failure = Failure::new(
                    format!("cannot remove /dev/{name}"),
                    error.to_string(),
                    "unmount and close it first, or --force",
                );
                Message::Removed(number, id, Some(Box::new(device)), Err(failure))
            }
        });
    }

    pub(super) fn removed(
        &mut self,
        number: u64,
        id: StableId,
        device: Option<Box<BlockDevice>>,
        outcome: Result<(), Failure>,
    ) {
        if let Err(failure) = outcome {
            if let (Some(volume), Some(device)) = (self.volumes.get_mut(&id), device) {
                volume.put_back(*device);
            }
            if let Some(removal) = self.removals.get_mut(&number) {
                removal.failure = Some(failure);
                removal.volumes.clear();
                removal.paths.clear();
            }
            return;
        }
        let Some(volume) = self.volumes.remove(&id) else {
            return;
        };
        self.forget_memory_of(&volume);
        let paths: Vec<u32> = volume.paths().collect();
        let words = format!("/dev/{}", volume.device_name());
        let subject = Subject::volume(volume.name());
        self.context
            .events
            .record(EventKind::VolumeRemoved, subject, words.clone());
        for path in paths {
            if let Some(record) = self.paths.get_mut(&path) {
                record.ignored.insert(id);
            }
        }
        if let Some(removal) = self.removals.get_mut(&number) {
            removal.volumes.remove(&id);
            removal.deleted.push(words);
        }
        self.remove_next(number);
    }

    /// Associations that live on let go of a removed volume's memory.
    fn forget_memory_of(&self, volume: &Volume) {
        let arenas = volume.arenas().unwrap_or_default();
        let lives = self
            .paths
            .values()
            .filter_map(|record| record.live.as_ref());
        for domain in lives.map(|live| live.domain.clone()) {
            let arenas = arenas.clone();
            tokio::task::spawn_blocking(move || {
                for arena in &arenas {
                    domain.unregister(arena);
                }
            });
        }
    }

    /// Ends the paths of removals whose volumes are gone, and answers those that are over.
    pub(super) fn settle_removals(&mut self) {
        let ready: Vec<(u64, BTreeSet<u32>)> = self
            .removals
            .iter_mut()
            .filter(|(_, removal)| removal.volumes.is_empty() && !removal.ending)
            .map(|(number, removal)| {
                removal.ending = true;
                (*number, removal.paths.clone())
            })
            .collect();
        for path in ready.into_iter().flat_map(|(_, paths)| paths) {
            self.take_path_away(path);
        }
        let over: Vec<u64> = self
            .removals
            .iter()
            .filter(|(_, removal)| {
                removal.ending
                    && removal
                        .paths
                        .iter()
                        .all(|path| !self.paths.contains_key(path))
            })
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            let Some(removal) = self.removals.remove(&number) else {
                continue;
            };
            let reply = match removal.failure {
                Some(failure) => Reply::Failed(failure),
                None => Reply::Disconnected {
                    paths: removal.outcomes,
                    deleted: removal.deleted,
                },
            };
            if let Some(sender) = removal.reply {
                let _ = sender.send(reply);
            }
        }
    }
}
