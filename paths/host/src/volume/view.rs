//! A volume as listings show it: the table its queue threads use, plus the paths that have no
//! association.

use umpath_core::PathEntry;
use umpath_core::policies::{AnaState, Standing};
use umpath_protocol::{self as protocol, AnaView, Group, GroupState, NoPath, Path, PathState};

use super::{Member, Volume};
use crate::policy::NoPathRetry;

/// What the host knows about a path and a volume does not.
#[derive(Debug, Clone)]
pub(crate) struct PathFacts {
    /// Address and service, `192.168.10.14:4420`.
    pub(crate) address: String,
    /// Controller identifier at the last association.
    pub(crate) cntlid: u16,
    /// Whether there is evidence against it.
    pub(crate) suspect: bool,
}

impl Volume {
    /// The volume's current state. `facts_of` looks up the host's paths.
    pub(crate) fn view(&self, facts_of: &dyn Fn(u32) -> Option<PathFacts>) -> protocol::Volume {
        let spec = &self.spec;
        protocol::Volume {
            name: spec.name.clone(),
            id: spec.id.to_string(),
            device: self.device_name(),
            nqn: spec.nqn.clone(),
            serial: spec.serial.clone(),
            model: spec.model.clone(),
            firmware: spec.firmware.clone(),
            nsid: spec.nsid,
            size_bytes: spec.limits.size_bytes,
            used_bytes: spec.limits.size_bytes,
            block_bytes: spec.limits.logical_block_bytes,
            read_only: spec.limits.read_only,
            ana: self
                .core
                .table()
                .paths
                .iter()
                .any(|path| path.ana.is_some()),
            grouping: spec.policy.path_grouping_policy.to_string(),
            selector: spec.policy.path_selector.to_string(),
            failback: spec.policy.failback.to_string(),
            no_path: match spec.policy.no_path_retry {
                NoPathRetry::Queue => NoPath::Queue,
                NoPathRetry::Fail => NoPath::Fail,
                NoPathRetry::For(time) => NoPath::QueueForMs(time.as_millis() as u64),
            },
            queueing: self.core.is_queueing(),
            groups: self.groups(facts_of),
            path_faults: self.path_faults,
            group_switches: self.group_switches,
            in_flight: self
                .members
                .iter()
                .map(|m| u64::from(self.shared().in_flight(m.number)))
                .sum(),
        }
    }

    fn groups(&self, facts_of: &dyn Fn(u32) -> Option<PathFacts>) -> Vec<Group> {
        let mut groups = Vec::new();
        let mut listed = Vec::new();
        for (position, group) in self.core.table().groups.iter().enumerate() {
            let entries = group
                .paths
                .iter()
                .filter_map(|at| self.core.table().paths.get(usize::from(*at)));
            let entries: Vec<&PathEntry> = entries.collect();
            let usable = entries.iter().any(|entry| entry.usable);
            listed.extend(entries.iter().map(|entry| entry.path));
            groups.push(Group {
                priority: group.priority.into(),
                marginal: self.is_marginal(&entries),
                state: match (self.core.table().active == Some(position), usable) {
                    (true, _) => GroupState::Active,
                    (_, true) => GroupState::Enabled,
                    _ => GroupState::Disabled,
                },
                paths: entries
                    .iter()
                    .filter_map(|entry| {
                        let member = self.members.iter().find(|m| m.number == entry.path)?;
                        Some(self.path_view(member, Some(entry), facts_of))
                    })
                    .collect(),
            });
        }
        let lost = self
            .members
            .iter()
            .filter(|member| !listed.contains(&member.number));
        let lost: Vec<Path> = lost
            .map(|member| self.path_view(member, None, facts_of))
            .collect();
        if !lost.is_empty() {
            groups.push(Group {
                priority: 0,
                marginal: false,
                state: GroupState::Disabled,
                paths: lost,
            });
        }
        groups
    }

    /// Whether the group holds marginal paths.
    fn is_marginal(&self, entries: &[&PathEntry]) -> bool {
        let sound = |entry: &&PathEntry| {
            self.core
                .paths()
                .any(|path| path.path == entry.path && path.standing == Standing::Sound)
        };
        self.spec.policy.marginal_pathgroups && !entries.iter().any(sound)
    }

    fn path_view(
        &self,
        member: &Member,
        entry: Option<&PathEntry>,
        facts_of: &dyn Fn(u32) -> Option<PathFacts>,
    ) -> Path {
        let facts = facts_of(member.path);
        let core = self.core.paths().find(|path| path.path == member.number);
        let failed = core.is_some_and(|path| path.failed);
        let standing = core.map_or(Standing::Sound, |path| path.standing);
        let suspect = facts.as_ref().is_some_and(|facts| facts.suspect);
        Path {
            id: member.path,
            cntlid: facts.as_ref().map_or(0, |facts| facts.cntlid),
            nsid: member.nsid,
            transport: "rdma".to_owned(),
            address: facts.map(|facts| facts.address).unwrap_or_default(),
            ana: entry
                .and_then(|entry| entry.ana)
                .map_or(AnaView::None, ana_view),
            ana_group: member.ana_group,
            state: match entry {
                None => PathState::Connecting,
                Some(_) if failed => PathState::Failed,
                Some(_) if suspect => PathState::Suspect,
                Some(_) if matches!(standing, Standing::Held { .. }) => PathState::Held,
                Some(entry) if entry.usable && standing != Standing::Sound => PathState::Probation,
                Some(entry) if entry.usable => PathState::Ready,
                Some(_) => PathState::Standby,
            },
            priority: entry.map_or(0, |entry| entry.priority.into()),
            preferred: core.map_or(member.preferred, |path| path.preferred),
            in_flight: self.shared().in_flight(member.number).into(),
        }
    }
}

fn ana_view(state: AnaState) -> AnaView {
    match state {
        AnaState::Optimized => AnaView::Optimized,
        AnaState::NonOptimized => AnaView::NonOptimized,
        AnaState::Inaccessible => AnaView::Inaccessible,
        AnaState::PersistentLoss => AnaView::PersistentLoss,
        AnaState::Change => AnaView::Change,
    }
}
