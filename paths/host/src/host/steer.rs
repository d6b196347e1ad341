//! Manual changes to paths and groups. `umpath_core` decides whether a change is possible; this
//! module resolves the names operators use.

use std::collections::BTreeMap;
use std::fmt::Display;

use umpath_protocol::{Failure, Reply, Steer};
use umpath_session::StableId;

use super::{Host, PathRecord};
use crate::effects::Effects;
use crate::policy::VolumePolicy;
use crate::volume::Volume;

/// What was done, and the volumes it was done to.
type Outcome = Result<String, Failure>;

impl Host {
    pub(super) fn steer(&mut self, steer: Steer) -> Reply {
        let outcome = match steer {
            Steer::FailPath { path, volume } => {
                self.each_volume_of(&path, volume.as_deref(), "failed", Volume::fail_path)
            }
            Steer::ReinstatePath { path, volume } => {
                let done = Volume::reinstate_path;
                self.each_volume_of(&path, volume.as_deref(), "reinstated", done)
            }
            Steer::Prefer { path, volume, on } => {
                let word = if on { "preferred" } else { "not preferred" };
                self.each_volume_of(&path, volume.as_deref(), word, |volume, path, fx| {
                    volume.prefer(path, on, fx)
                })
            }
            Steer::SwitchGroup { volume, group } => self.switch_group(&volume, group),
            Steer::Set { volume, policies } => self.set_policies(volume.as_deref(), &policies),
        };
        match outcome {
            Ok(done) => Reply::Done(done),
            Err(failure) => Reply::Failed(failure),
        }
    }

    /// Applies a change to a path in every volume it serves, or in one of them.
    fn each_volume_of<E: Display>(
        &mut self,
        path: &str,
        wanted: Option<&str>,
        done: &str,
        action: impl Fn(&mut Volume, u32, &mut Effects) -> Result<(), E>,
    ) -> Outcome {
        let path = self.path_named(path)?;
        let mut names = Vec::new();
        for id in self.named(wanted)? {
            let Some(volume) = self.volumes.get_mut(&id).filter(|v| v.has_path(path)) else {
                continue;
            };
            let name = volume.name().to_owned();
            action(volume, path, &mut self.fx).map_err(|why| {
                Failure::new(format!("path {path} of {name}"), why.to_string(), "")
            })?;
            names.push(name);
        }
        if names.is_empty() {
            return Err(Failure::new(
                format!("no path {path}"),
                "no volume is served through it",
                "umpath show paths",
            ));
        }
        Ok(format!("path {path} {done}: {}\n", names.join(" ")))
    }

    fn switch_group(&mut self, wanted: &str, group: u32) -> Outcome {
        let volume = self.named(Some(wanted))?;
        let volume = volume.first().and_then(|id| self.volumes.get_mut(id));
        let refused = |why: String| {
            let fix = "umpath -ll shows the groups, the first one is 1";
            Failure::new(format!("cannot switch {wanted} to group {group}"), why, fix)
        };
        let volume = volume.ok_or_else(|| refused("it is gone".to_owned()))?;
        let at = (group as usize).checked_sub(1);
        let at = at.ok_or_else(|| refused("groups count from 1".to_owned()))?;
        volume
            .switch_group(at, &mut self.fx)
            .map_err(|why| refused(why.to_string()))?;
        Ok(format!(
            "group {group} carries the I/O: {}\n",
            volume.name()
        ))
    }

    fn set_policies(&mut self, wanted: Option<&str>, keys: &BTreeMap<String, String>) -> Outcome {
        let set = |policy: &mut VolumePolicy| {
            let mut each = keys.iter().map(|(key, value)| policy.set(key, value));
            each.try_for_each(|one| one).map_err(|why| {
                let fix = "keys and values are those of [[volume]] in umpath.toml: umpath config \
                           show --defaults";
                Failure::new("no policy was changed", why, fix)
            })
        };
        // Report a bad value even when there is no volume.
        set(&mut self.settings.default_policy())?;
        let ids = self.named_or_any(wanted, "no policy was changed")?;
        // All or nothing: every value is parsed before the first volume changes.
        let mut changes = Vec::new();
        for id in ids {
            if let Some(volume) = self.volumes.get(&id) {
                let mut policy = volume.policy();
                set(&mut policy)?;
                changes.push((id, policy));
            }
        }
        let mut names = Vec::new();
        for (id, policy) in changes {
            if let Some(volume) = self.volumes.get_mut(&id) {
                volume.set_policy(policy, &mut self.fx);
                names.push(volume.name().to_owned());
            }
        }
        let words: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Ok(format!("{}: {}\n", words.join(" "), names.join(" ")))
    }

    /// The path meant: by number, by address, or by address and port.
    pub(super) fn path_named(&self, wanted: &str) -> Result<u32, Failure> {
        let meant = |(number, record): (&u32, &PathRecord)| {
            let address = record.spec.traddr;
            let names = [
                number.to_string(),
                address.ip().to_string(),
                address.to_string(),
                record.spec.address(),
            ];
            (names.iter().any(|name| name == wanted) && !record.ending).then_some(*number)
        };
        let found: Vec<u32> = self.paths.iter().filter_map(meant).collect();
        let several = |found: &[u32]| {
            let found: Vec<String> = found.iter().map(u32::to_string).collect();
            format!("paths {} have this address", found.join(" and "))
        };
        match found.as_slice() {
            [path] => Ok(*path),
            [] => Err(Failure::new(
                format!("no path {wanted}"),
                "no path has this number or address",
                "umpath show paths",
            )),
            more => Err(Failure::new(
                format!("path {wanted} is not one path"),
                several(more),
                "name it by its number: umpath show paths",
            )),
        }
    }

    /// The volumes meant, at least one: with nothing to change, `undone` is what is said.
    pub(super) fn named_or_any(
        &self,
        wanted: Option<&str>,
        undone: &str,
    ) -> Result<Vec<StableId>, Failure> {
        let ids = self.named(wanted)?;
        if ids.is_empty() {
            return Err(Failure::new(
                undone,
                "there is no volume",
                "connect one first (umpath connect); for volumes to come, write it into \
                 [defaults] of umpath.toml",
            ));
        }
        Ok(ids)
    }

    /// The volumes meant: one by name, identity or device, or all.
    pub(super) fn named(&self, wanted: Option<&str>) -> Result<Vec<StableId>, Failure> {
        let meant = |volume: &Volume| {
            wanted.is_none_or(|wanted| {
                volume.name() == wanted
                    || volume.device_name() == wanted
                    || volume.id().to_string() == wanted
            })
        };
        let found: Vec<StableId> = self
            .volumes
            .values()
            .filter(|volume| meant(volume))
            .map(Volume::id)
            .collect();
        match wanted {
            Some(wanted) if found.is_empty() => Err(Failure::new(
                format!("no volume {wanted}"),
                "no volume has this name, identity or device",
                "umpath list",
            )),
            _ => Ok(found),
        }
    }
}
