//! Which kinds of trouble a run has, and the policies of its volumes.
//!
//! A run that has a bit of everything tests few things deeply, so every seed leaves some kinds out
//! and has more of others.

use std::time::Duration;

use umpath_core::policies::{self, DampingConfig, SelectorKind};
use umpath_host::policy::{Failback, Grouping, NoPathRetry, Selector, VolumePolicy};

use crate::sim::chance::Chance;

/// Kinds of trouble, and how often each befalls a run: weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Swarm {
    /// Fabric: partitions, links, adapters, slowness.
    pub(crate) fabric: u64,
    /// Target: crashes, stops, parked and forgotten commands.
    pub(crate) target: u64,
    /// Admin commands and resets.
    pub(crate) admin: u64,
    /// Host: stalls, kills, failing threads.
    pub(crate) host: u64,
    /// Disk and driver.
    pub(crate) machine: u64,
    /// Namespaces and ANA states.
    pub(crate) array: u64,
    /// Faults at random.
    pub(crate) most: u64,
    /// Operators.
    pub(crate) verbs: u64,
}

impl Swarm {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let mut weight = || chance.pick(&[0, 1, 2, 4]);
        let (fabric, target, admin) = (weight() + 1, weight(), weight());
        let (host, machine, array) = (weight(), weight(), weight());
        Self {
            fabric,
            target,
            admin,
            host,
            machine,
            array,
            most: chance.pick(&[0, 2, 4, 6, 8]),
            verbs: chance.pick(&[0, 0, 0, 2, 6]),
        }
    }
}

pub(super) fn draw(chance: &mut Chance, swarm: &Swarm) -> VolumePolicy {
    let mut policy = VolumePolicy::default();
    let ms = Duration::from_millis;
    if chance.percent(30) {
        policy.no_path_retry = chance.pick(&[
            NoPathRetry::Fail,
            NoPathRetry::For(ms(100)),
            NoPathRetry::For(ms(1_000)),
        ]);
        policy.fast_io_fail_ms = chance.pick(&[0, 0, 100, 500]);
    }
    policy.shared_with_other_hosts = chance.percent(10);
    if chance.percent(40) {
        return policy;
    }
    policy.failback = Failback(chance.pick(&[
        policies::Failback::Immediate,
        policies::Failback::Manual,
        policies::Failback::Followover,
        policies::Failback::After(ms(300)),
    ]));
    policy.path_grouping_policy = Grouping(chance.pick(&[
        policies::Grouping::Failover,
        policies::Grouping::Multibus,
        policies::Grouping::ByPriority,
        policies::Grouping::BySerial,
        policies::Grouping::ByAnaGroup,
    ]));
    policy.path_selector = Selector(chance.pick(SelectorKind::ALL));
    policy.rr_min_io = chance.within(1, 3) as u32;
    policy.marginal_pathgroups = chance.percent(70);
    policy.flush_on_last_del = swarm.verbs > 0 && chance.percent(20);
    if chance.percent(50) {
        policy.damping = DampingConfig {
            threshold: chance.within(0, 3) as u32,
            hold: ms(chance.pick(&[50, 200, 1_000])),
            window: ms(chance.pick(&[100, 300, 1_000])),
            outlier_factor: chance.pick(&[0, 3]),
            ..DampingConfig::default()
        };
    }
    policy
}
