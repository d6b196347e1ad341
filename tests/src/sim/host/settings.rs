//! The configuration the host runs by.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use umpath_core::association::HealthConfig;
use umpath_host::PathSpec;
use umpath_host::policy::VolumePolicy;
use umpath_host::record::Asked;
use umpath_host::settings::Settings;
use umpath_protocol::{ConnectOptions, Portal};
use umpath_session::{
    BackoffPolicy, IO_QUEUES_MAX, NamespaceFacts, ReconnectPolicy, SessionConfig, StableId,
};

use crate::sim::array::NQN;
use crate::sim::clock::duration;
use crate::sim::plan::Plan;

/// What is configured of volumes.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) volumes: Vec<(StableId, VolumePolicy)>,
    pub(crate) default: VolumePolicy,
    /// What controllers need to quiesce that do not say so.
    pub(crate) quiesce: Option<Duration>,
}

impl Settings for InForce {
    fn default_policy(&self) -> VolumePolicy {
        self.default
    }

    fn policy(&self, volume: &StableId, _: &str) -> VolumePolicy {
        let known = self.volumes.iter().find(|(id, _)| id == volume);
        known.map_or(self.default, |(_, policy)| *policy)
    }

    fn alias(&self, _: &StableId) -> Option<String> {
        None
    }

    fn prefers(&self, _: &StableId, _: IpAddr) -> bool {
        false
    }

    fn ignored_subsystem(&self, _: &str) -> Option<String> {
        None
    }

    fn ignored_namespace(&self, _: &str, _: &NamespaceFacts) -> Option<String> {
        None
    }

    fn max_io_bytes(&self) -> u32 {
        Plan::max_io_bytes()
    }

    fn quiesce_floor(&self) -> Option<Duration> {
        self.quiesce
    }
}

/// A path as people ask for it.
pub(crate) fn asked_for(route: usize) -> Asked {
    Asked {
        portal: Portal {
            transport: "rdma".to_owned(),
            traddr: format!("10.0.{route}.1"),
            trsvcid: Some("4420".to_owned()),
            host_traddr: None,
            host_iface: None,
        },
        nqn: NQN.to_owned(),
        options: ConnectOptions::default(),
        number: None,
    }
}

/// The route that leads to an address.
pub(crate) fn route_of(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => usize::from(address.octets()[2]),
        IpAddr::V6(_) => 0,
    }
}

/// Everything a path needs.
pub(crate) fn spec_for(plan: &Plan, life: u32, route: usize, session: &SessionConfig) -> PathSpec {
    let ms = Duration::from_millis;
    let mut session = session.clone();
    session.kato = duration(plan.kato);
    session.heartbeat = duration(plan.heartbeat);
    session.io_queues = IO_QUEUES_MAX;
    let lanes = if life > 1 {
        plan.lanes_later
    } else {
        plan.lanes
    };
    session.io_queues_per_namespace = lanes as u16;
    session.io_depth = plan.depth;
    session.open_timeout = ms(300);
    session.command_timeout = duration(plan.command_timeout);
    session.shutdown_timeout = ms(500);
    let pause = duration(Plan::PAUSE_MAX);
    let usual = HealthConfig::default();
    PathSpec {
        id: 0,
        traddr: SocketAddr::from(([10, 0, route as u8, 1], 4420)),
        host_traddr: None,
        nqn: session.subsystem_nqn.clone(),
        session,
        reconnect: ReconnectPolicy {
            first: ms(20),
            backoff: BackoffPolicy {
                base: ms(if plan.shipped { 250 } else { 50 }),
                cap: pause,
            },
            refused: pause,
            settle: ms(1_000),
            ctrl_loss: plan.ctrl_loss.map(duration),
        },
        health: HealthConfig {
            link_down_grace: if plan.shipped {
                usual.link_down_grace
            } else {
                ms(50)
            },
            io_silence: if plan.shipped {
                usual.io_silence
            } else {
                duration(plan.heartbeat)
            },
            io_slow: duration(plan.io_timeout / 2),
            io_timeout: duration(plan.io_timeout),
            ..usual
        },
        drain_deadline: duration(plan.drain_deadline),
        preferred: plan.routes[route].preferred,
        weight: 1,
        throughput: 1,
    }
}
