//! Manual changes to a volume's paths, groups and policies, by host-wide path number.

use umpath_core::{PathId, Unchanged};

use super::Volume;
use crate::effects::Effects;
use crate::policy::VolumePolicy;

impl Volume {
    /// Sends nothing new on a path until it is reinstated.
    pub(crate) fn fail_path(&mut self, path: u32, fx: &mut Effects) -> Result<(), Unchanged> {
        let outcome = self.core.fail_path(self.number_of(path), fx.now);
        self.pump(fx);
        outcome
    }

    /// Undoes that, and clears the evidence against the path.
    pub(crate) fn reinstate_path(&mut self, path: u32, fx: &mut Effects) -> Result<(), Unchanged> {
        let outcome = self.core.reinstate_path(self.number_of(path), fx.now);
        self.pump(fx);
        outcome
    }

    pub(crate) fn prefer(
        &mut self,
        path: u32,
        on: bool,
        fx: &mut Effects,
    ) -> Result<(), Unchanged> {
        let number = self.number_of(path);
        let outcome = self.core.prefer(number, on, fx.now);
        self.pump(fx);
        outcome
    }

    /// Moves I/O to a group; `group` counts from 0.
    pub(crate) fn switch_group(&mut self, group: usize, fx: &mut Effects) -> Result<(), Unchanged> {
        let outcome = self.core.switch_group(group, fx.now);
        self.pump(fx);
        outcome
    }

    pub(crate) fn policy(&self) -> VolumePolicy {
        self.spec.policy
    }

    /// Changes the policies; requests in flight are not disturbed.
    pub(crate) fn set_policy(&mut self, policy: VolumePolicy, fx: &mut Effects) {
        // Who changes another policy has not decided against waiting for the paths it had.
        self.awaits_first_path &= policy.no_path_retry == self.spec.policy.no_path_retry;
        self.queueing = None;
        self.spec.policy = policy;
        let mut config = policy.device_config(self.spec.namespace.lba_shift, self.lanes);
        config.no_path = self.no_path();
        self.core.set_config(config, fx.now);
        self.pump(fx);
    }

    /// The core's number of a path; an unused one for a path of another volume.
    fn number_of(&self, path: u32) -> PathId {
        let member = self.members.iter().find(|member| member.path == path);
        member.map_or(PathId(u8::MAX), |member| member.number)
    }
}
