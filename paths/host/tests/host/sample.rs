//! A configuration, controllers and namespaces for the rig.

use std::net::IpAddr;
use std::time::Duration;

use umpath_host::policy::VolumePolicy;
use umpath_host::record::Asked;
use umpath_host::settings::Settings;
use umpath_nvme::property::{Cap, Version};
use umpath_protocol::{ConnectOptions, Portal};
use umpath_session::{
    AnaFacts, AnaGroup, AnaState, AnaTable, ControllerFacts, Namespace, NamespaceFacts, NvmLimits,
    StableId,
};

pub(crate) const NQN: &str = "nqn.2026-11.example:array";

/// A configuration of defaults.
#[derive(Debug)]
pub(crate) struct Plain(pub(crate) VolumePolicy);

impl Settings for Plain {
    fn default_policy(&self) -> VolumePolicy {
        self.0
    }
    fn policy(&self, _: &StableId, _: &str) -> VolumePolicy {
        self.0
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
        1 << 20
    }
    fn quiesce_floor(&self) -> Option<Duration> {
        Some(Duration::from_millis(100))
    }
}

pub(crate) fn policy() -> VolumePolicy {
    VolumePolicy::default()
}

pub(crate) fn asked(last: u8) -> Asked {
    Asked {
        portal: Portal {
            transport: "rdma".to_owned(),
            traddr: format!("10.0.0.{last}"),
            trsvcid: Some("4420".to_owned()),
            host_traddr: None,
            host_iface: None,
        },
        nqn: NQN.to_owned(),
        options: ConnectOptions::default(),
        number: None,
    }
}

pub(crate) fn facts(cntlid: u16) -> ControllerFacts {
    ControllerFacts {
        cntlid,
        ciu: 0,
        cirn: 0,
        ccr_limit: 0,
        kato: Some(Duration::from_secs(1)),
        traffic_based: false,
        cqt: Duration::ZERO,
        version: Version(0x0001_0400),
        cap: Cap(0),
        max_transfer: None,
        io_capsule_bytes: 64,
        in_capsule_bytes: 0,
        io_response_bytes: 16,
        in_capsule_offset: 0,
        sgl_descriptors_max: None,
        sgls: 0,
        volatile_cache: false,
        oncs: 0,
        nvm_limits: NvmLimits::default(),
        commands_max: None,
        queue_entries_max: 128,
        oaes: 0,
        async_events_max: 4,
        ctratt: 0,
        lpa: 0,
        shutdown_latency: None,
        namespaces_max: 16,
        ana: None,
        serial: "S".to_owned(),
        model: "M".to_owned(),
        firmware: "1".to_owned(),
        subnqn: NQN.to_owned(),
    }
}

/// A controller whose namespace 1 is in this state, and its ANA log.
pub(crate) fn with_ana(cntlid: u16, state: AnaState) -> (ControllerFacts, Option<AnaTable>) {
    let terms = AnaFacts {
        transition: Duration::from_secs(10),
        anacap: 0,
        group_max: 1,
        groups: 1,
        namespaces: 1,
    };
    let facts = ControllerFacts {
        ana: Some(terms),
        ..facts(cntlid)
    };
    let group = AnaGroup {
        id: 1,
        state,
        nsids: vec![1],
        change_count: 1,
    };
    let table = AnaTable {
        change_count: 1,
        groups: vec![group],
    };
    (facts, Some(table))
}

pub(crate) fn id(name: u8) -> StableId {
    StableId::Uuid([name; 16])
}

pub(crate) fn namespace(nsid: u32, name: u8, blocks: u64) -> Namespace {
    let facts = NamespaceFacts {
        id: id(name),
        uuid: Some([name; 16]),
        nguid: None,
        eui64: None,
        blocks,
        lba_shift: 12,
        shared: true,
        ana_group: 1,
        write_protected: false,
        deallocated_reads_zero: true,
        write_zeroes_deallocates: true,
        dealloc_granularity: 1,
        dealloc_alignment: 1,
        write_granularity: 1,
        write_optimal: None,
        io_boundary: None,
    };
    Namespace {
        nsid,
        facts: Ok(facts),
    }
}
