//! Removal of volumes and paths, all or nothing.
//!
//! First the targets are settled: paths, and volumes left without any path. Then the users of all
//! those volumes are determined; if there is one, nothing is removed unless the removal is forced.
//! Then the block devices are removed one after another, and only after them the paths that served
//! them.

use std::collections::BTreeSet;
use std::time::Duration;

use umpath_protocol::{DisconnectTarget, EventKind, Failure, PathOutcome, Reply};
use umpath_session::StableId;

use super::{Host, numbers, same};
use crate::events::Subject;
use crate::order::{CallId, Order, RemovalOutcome};
use crate::spec::VolumeKey;
use crate::volume::Volume;

/// A removal in progress.
#[derive(Debug)]
pub(super) struct Removal {
    /// The caller waiting for the answer; `None` when the process is stopping.
    call: Option<CallId>,
    /// Volumes whose block device is removed.
    volumes: BTreeSet<VolumeKey>,
    /// Paths to remove.
    paths: BTreeSet<u32>,
    /// How the answer describes those paths.
    outcomes: Vec<PathOutcome>,
    /// Devices removed so far.
    deleted: Vec<String>,
    failure: Option<Failure>,
    force: bool,
    /// The volumes are gone and the paths are ending.
    ending: bool,
}

impl Removal {
    /// Stops the removal; what it has not removed yet stays.
    fn give_up(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.volumes.clear();
        self.paths.clear();
    }
}

impl Host {
    /// Starts a removal.
    pub(super) fn disconnect(
        &mut self,
        target: &DisconnectTarget,
        force: bool,
        call: Option<CallId>,
    ) {
        let (paths, volumes) = match self.what_goes(target) {
            Ok(found) => found,
            Err(failure) => {
                if let Some(call) = call {
                    self.reply(call, Reply::Failed(failure));
                }
                return;
            }
        };
        self.removal_last += 1;
        let number = self.removal_last;
        let outcomes = paths.iter().map(|path| self.outcome(*path)).collect();
        let removal = Removal {
            call,
            volumes: volumes.clone(),
            paths,
            outcomes,
            deleted: Vec::new(),
            failure: None,
            force,
            ending: false,
        };
        self.removals.insert(number, removal);
        if force || volumes.is_empty() {
            return self.remove_next(number);
        }
        let name = |key: &VolumeKey| Some((key.id, self.volumes.get(&key.id)?.device_name()));
        let volumes = volumes.iter().filter_map(name).collect();
        self.fx.order(Order::FindUsers {
            removal: number,
            volumes,
        });
    }

    /// The paths and volumes a target names, plus those left without the other.
    fn what_goes(
        &self,
        target: &DisconnectTarget,
    ) -> Result<(BTreeSet<u32>, BTreeSet<VolumeKey>), Failure> {
        let known = |path: &u32| self.paths.get(path).is_some_and(|record| !record.ending);
        let (mut paths, mut volumes) = (BTreeSet::new(), BTreeSet::new());
        match target {
            DisconnectTarget::Nqn(nqn) => {
                let all = self
                    .paths
                    .iter()
                    .filter(|(_, record)| record.spec.nqn.as_str() == nqn);
                paths.extend(all.map(|(path, _)| *path).filter(known));
                // Volumes without any path still belong to their subsystem.
                let all = self.volumes.values().filter(|volume| volume.nqn() == nqn);
                volumes.extend(all.map(Volume::key));
            }
            DisconnectTarget::Path(path) => {
                paths.insert(self.path_named(path)?);
            }
            DisconnectTarget::Device(device) => {
                let named = self.volumes.values().find(|volume| {
                    volume.device_name() == *device
                        || volume.name() == device
                        || volume.id().to_string() == *device
                });
                volumes.extend(named.map(Volume::key));
                let only = |path: &u32| {
                    let mut served = self
                        .volumes
                        .values()
                        .filter(|volume| volume.has_path(*path))
                        .peekable();
                    served.peek().is_some() && served.all(|volume| volumes.contains(&volume.key()))
                };
                paths.extend(self.paths.keys().copied().filter(only).filter(known));
            }
        }
        if !matches!(target, DisconnectTarget::Device(_)) {
            let left = self.volumes.values().filter(|volume| {
                volume.paths().next().is_some() && volume.paths().all(|path| paths.contains(&path))
            });
            volumes.extend(left.map(Volume::key).collect::<Vec<_>>());
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

    /// The shell has determined who uses the volumes of a removal.
    pub fn handle_users(&mut self, number: u64, users: &[(StableId, Vec<String>)], now: Duration) {
        self.begin(now);
        self.users_found(number, users);
        self.settle();
    }

    fn users_found(&mut self, number: u64, users: &[(StableId, Vec<String>)]) {
        let used: Vec<String> = users.iter().flat_map(|(_, users)| users.clone()).collect();
        if used.is_empty() {
            return self.remove_next(number);
        }
        let names: Vec<&str> = users
            .iter()
            .filter(|(_, users)| !users.is_empty())
            .filter_map(|(id, _)| self.volumes.get(id).map(Volume::name))
            .collect();
        let failure = Failure::new(
            format!("{} is in use, nothing was removed", names.join(", ")),
            used.join("; "),
            "unmount and close it first; --force removes it all the same, and its users get \
             I/O errors",
        );
        let removal = self.removals.get_mut(&number);
        removal.expect("a removal that was begun").give_up(failure);
    }

    /// Removes the next block device of a removal.
    fn remove_next(&mut self, number: u64) {
        let removal = self.removals.get_mut(&number);
        let removal = removal.expect("a removal that was begun");
        // Another request may have removed this volume already, and its successor is not meant. One that
        // is being taken over is the same at every attempt.
        removal.volumes.retain(|key| {
            let volume = self.volumes.get(&key.id);
            volume.is_some_and(|volume| volume.key() == *key || volume.is_adopted())
        });
        let Some(&VolumeKey { id, .. }) = removal.volumes.first() else {
            return;
        };
        let volume = self.volumes.get_mut(&id).expect("a volume that is there");
        if volume.is_unrecovered() {
            if removal.force {
                return self.remove_unrecovered(number, id);
            }
            let why = volume.trouble().unwrap_or_default();
            removal.give_up(Failure::new(
                format!("volume {} is not taken over yet", volume.name()),
                format!("its users wait for that: {why}"),
                "--force fails their requests and removes its block device",
            ));
            return;
        }
        if !volume.begin_removal() {
            removal.give_up(Failure::new(
                format!("{} is being made or removed", volume.name()),
                "another request is at work on it",
                "try again",
            ));
            return;
        }
        self.fx.order(Order::Remove {
            removal: number,
            volume: volume.key(),
            force: removal.force,
        });
    }

    /// Drops a volume that could not be taken over. No queue thread serves it, so nothing is left to do
    /// but to delete its block device, as soon as the driver lets that happen; until then no other one
    /// is made for its namespace.
    fn remove_unrecovered(&mut self, number: u64, id: StableId) {
        let volume = self.volumes.remove(&id).expect("a volume that is there");
        let record = volume.record().expect("an earlier process left it").clone();
        let words = format!(
            "/dev/{}, which was not taken over; it is deleted as soon as the driver allows it",
            volume.device_name()
        );
        let subject = Subject::volume(volume.name());
        self.fx.event(EventKind::VolumeRemoved, subject, words);
        self.sweep(record);
        self.ignore_removed(volume.nqn(), id);
        let removal = self.removals.get_mut(&number);
        let removal = removal.expect("a removal that was begun");
        removal.volumes.retain(|key| key.id != id);
        self.remove_next(number);
    }

    /// Nothing matches the namespace of a volume that was removed by request again before somebody asks.
    fn ignore_removed(&mut self, nqn: &str, id: StableId) {
        for record in self.paths.values_mut() {
            // Those of its subsystem, and those that were about to serve it.
            let live = record.live.as_mut();
            let waits =
                live.is_some_and(|live| live.registered.remove(&id) | live.pending.remove(&id));
            if waits || record.spec.nqn.as_str() == nqn {
                record.ignored.insert(id);
            }
        }
    }

    /// A block device was removed, or could not be.
    pub fn handle_removed(
        &mut self,
        number: u64,
        key: VolumeKey,
        outcome: RemovalOutcome,
        now: Duration,
    ) {
        self.begin(now);
        let volume = same(&mut self.volumes, key).expect("a volume being removed");
        match outcome {
            RemovalOutcome::Deleted => self.removed(number, key, None),
            RemovalOutcome::Stopped(failure) => self.removed(number, key, Some(&failure)),
            RemovalOutcome::Kept(failure) => {
                volume.removal_failed(&failure, &mut self.fx);
                if let Some(removal) = self.removals.get_mut(&number) {
                    removal.give_up(failure);
                }
            }
        }
        self.settle();
    }

    /// `undeleted`: why its block device, which serves nobody any more, is still to be deleted.
    fn removed(&mut self, number: u64, key: VolumeKey, undeleted: Option<&Failure>) {
        let id = key.id;
        let volume = self.volumes.remove(&id).expect("a volume being removed");
        self.fx.order(Order::Unregister(key));
        let words = format!("/dev/{}", volume.device_name());
        let subject = Subject::volume(volume.name());
        self.fx
            .event(EventKind::VolumeRemoved, subject, words.clone());
        if let Some(failure) = undeleted {
            let record = volume.record().expect("it had a block device");
            self.sweep_later(record.clone(), failure);
        }
        let waiting = self.waiting_for(id);
        let Some(removal) = self.removals.get_mut(&number) else {
            // It could not be started; its namespace is retried.
            let what = format!("volume {} was removed", volume.name());
            let why = Failure::new(what, "its block device could not be started", "");
            for path in waiting {
                self.not_attached(path, id, &why);
            }
            return;
        };
        removal.volumes.retain(|key| key.id != id);
        if undeleted.is_none() {
            removal.deleted.push(words);
        }
        self.ignore_removed(volume.nqn(), id);
        self.remove_next(number);
    }

    /// Ends the paths of removals whose volumes are gone, and answers the removals that are
    /// complete.
    pub(super) fn settle_removals(&mut self) {
        let (mut going, mut by_hand): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for removal in self.removals.values_mut() {
            if removal.volumes.is_empty() && !removal.ending {
                removal.ending = true;
                going.extend(&removal.paths);
                if removal.call.is_some() {
                    by_hand.extend(&removal.paths);
                }
            }
        }
        for record in by_hand.iter().filter_map(|path| self.paths.get(path)) {
            let asked = &record.asked;
            self.removed.insert(numbers::key(&asked.portal, &asked.nqn));
        }
        for path in going {
            self.take_path_away(path);
        }
        let over = |removal: &Removal| {
            let mut paths = removal.paths.iter();
            removal.ending && paths.all(|path| !self.paths.contains_key(path))
        };
        let over: Vec<u64> = self
            .removals
            .iter()
            .filter(|(_, removal)| over(removal))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            let removal = self.removals.remove(&number).expect("it was just found");
            let reply = match removal.failure {
                Some(failure) => Reply::Failed(failure),
                None => Reply::Disconnected {
                    paths: removal.outcomes,
                    deleted: removal.deleted,
                },
            };
            match (removal.call, reply) {
                (Some(call), reply) => self.reply(call, reply),
                (None, Reply::Failed(failure)) => tracing::warn!("kept until unused: {failure}"),
                (None, _) => {}
            }
        }
    }
}
