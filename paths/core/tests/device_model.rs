//! The control side of a volume under random histories: what it promises whatever happens to it.
//!
//! Paths come and go, are suspected, cleared, given up and fenced, ANA states change, operators
//! interfere, the host is late. After every step its outputs are taken and the promises checked.

use core::time::Duration;

use proptest::prelude::*;
use umpath_core::association::{Conviction, Suspicion};
use umpath_core::policies::{AnaState, DampingConfig, Failback, Grouping, Ranking, SelectorConfig};
use umpath_core::{
    AssociationId, CommandLimits, Device, DeviceConfig, DeviceOutput, LaneEvent, LaneId, NoPath,
    OnNoPath, PathConfig, PathId, Ready,
};
use umpath_nvme::Status;

const PATHS: u8 = 3;
const LANES: u16 = 2;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Add(u8),
    Remove(u8),
    Retire(u8),
    Ready(u8, AnaState),
    Ana(u8, AnaState),
    AnaTerms(u8, u64),
    Withdraw(u8, bool),
    Suspect(u8, Suspicion),
    Clear(u8),
    Convict(u8),
    Drain { pick: usize, lane: u16 },
    Fence { pick: usize },
    Refused(u8),
    NoPath(NoPath),
    Configure(usize),
    Fail(u8),
    Reinstate(u8),
    Switch(usize),
    Pass(u64),
}

fn suspicion() -> impl Strategy<Value = Suspicion> {
    prop::sample::select(vec![
        Suspicion::LinkDown,
        Suspicion::KeepAlivesMissed(3),
        Suspicion::IoStuck,
        Suspicion::IoSlow(Duration::from_secs(10)),
        Suspicion::HostLost,
    ])
}

fn ana() -> impl Strategy<Value = AnaState> {
    prop::sample::select(vec![
        AnaState::Optimized,
        AnaState::Optimized,
        AnaState::NonOptimized,
        AnaState::Inaccessible,
        AnaState::PersistentLoss,
        AnaState::Change,
    ])
}

fn no_path() -> impl Strategy<Value = NoPath> {
    prop::sample::select(vec![NoPath::Queue, NoPath::Fail, NoPath::QueueFor(ms(700))])
}

fn step() -> impl Strategy<Value = Step> {
    let path = || 0..PATHS;
    prop_oneof![
        2 => path().prop_map(Step::Add),
        1 => path().prop_map(Step::Remove),
        1 => path().prop_map(Step::Retire),
        6 => (path(), ana()).prop_map(|(path, state)| Step::Ready(path, state)),
        4 => (path(), ana()).prop_map(|(path, state)| Step::Ana(path, state)),
        1 => (path(), 0_u64..3_000).prop_map(|(path, longest)| Step::AnaTerms(path, longest)),
        1 => (path(), any::<bool>()).prop_map(|(path, gone)| Step::Withdraw(path, gone)),
        5 => (path(), suspicion()).prop_map(|(path, why)| Step::Suspect(path, why)),
        5 => path().prop_map(Step::Clear),
        4 => path().prop_map(Step::Convict),
        3 => (any::<usize>(), 0..LANES).prop_map(|(pick, lane)| Step::Drain { pick, lane }),
        2 => any::<usize>().prop_map(|pick| Step::Fence { pick }),
        2 => path().prop_map(Step::Refused),
        1 => no_path().prop_map(Step::NoPath),
        1 => (0_usize..6).prop_map(Step::Configure),
        1 => path().prop_map(Step::Fail),
        1 => path().prop_map(Step::Reinstate),
        1 => (0_usize..3).prop_map(Step::Switch),
        12 => (0_u64..1_500).prop_map(Step::Pass),
    ]
}

fn config(variant: usize) -> DeviceConfig {
    let failbacks = [
        Failback::Immediate,
        Failback::Manual,
        Failback::Followover,
        Failback::After(ms(900)),
    ];
    DeviceConfig {
        lba_shift: 12,
        lanes: LANES,
        selector: SelectorConfig::default(),
        grouping: [Grouping::ByPriority, Grouping::Failover][variant % 2],
        ranking: Ranking {
            marginal_pathgroups: variant.is_multiple_of(3),
            ..Ranking::default()
        },
        failback: failbacks[variant % 4],
        no_path: NoPath::Queue,
        damping: DampingConfig::default(),
        fast_io_fail: [ms(0), ms(1_200)][variant % 2],
        shared_with_other_hosts: false,
        flush_on_last_del: variant > 2,
    }
}

struct World {
    device: Device,
    now: Duration,
    next: u64,
    /// Associations by path, and those given up.
    live: [Option<AssociationId>; PATHS as usize],
    dying: Vec<(AssociationId, Vec<LaneId>)>,
}

impl World {
    fn new() -> Self {
        Self {
            device: Device::new(config(0), ms(0)),
            now: ms(0),
            next: 0,
            live: [None; PATHS as usize],
            dying: Vec::new(),
        }
    }

    fn association(&self, path: u8) -> Option<AssociationId> {
        self.live[usize::from(path)]
    }

    fn take(&mut self, step: Step) {
        let now = self.now;
        let device = &mut self.device;
        match step {
            Step::Add(path) => drop(device.add_path(PathId(path), PathConfig::default(), now)),
            Step::Remove(path) => device.remove_path(PathId(path), now),
            Step::Retire(path) => device.retire_path(PathId(path), now),
            Step::Ready(path, state) => self.ready(path, state),
            Step::Ana(path, state) => device.ana(PathId(path), state, now),
            Step::AnaTerms(path, longest) => device.ana_terms(PathId(path), 1, ms(longest), now),
            Step::Withdraw(path, gone) => {
                device.withdraw(PathId(path), gone, now);
            }
            Step::Suspect(path, why) => {
                if let Some(association) = self.association(path) {
                    self.device.suspect(association, why, now);
                }
            }
            Step::Clear(path) => {
                if let Some(association) = self.association(path) {
                    self.device.clear(association, now);
                }
            }
            Step::Convict(path) => {
                if let Some(association) = self.association(path) {
                    self.device
                        .convict(association, Conviction::QueueFailed, now);
                }
            }
            Step::Drain { pick, lane } => self.drain(pick, LaneId(lane)),
            Step::Fence { pick } => {
                if !self.dying.is_empty() {
                    let association = self.dying[pick % self.dying.len()].0;
                    self.device.order_fenced(association, now);
                }
            }
            Step::Refused(path) => self.refused(path),
            Step::NoPath(no_path) => device.set_no_path(no_path, now),
            Step::Configure(variant) => device.set_config(config(variant), now),
            Step::Fail(path) => drop(device.fail_path(PathId(path), now)),
            Step::Reinstate(path) => drop(device.reinstate_path(PathId(path), now)),
            Step::Switch(group) => drop(device.switch_group(group, now)),
            Step::Pass(time) => self.now += ms(time),
        }
    }

    fn ready(&mut self, path: u8, state: AnaState) {
        let ready = Ready {
            association: AssociationId(self.next),
            nsid: 1,
            limits: CommandLimits::default(),
            ana: Some(state),
            ana_group: 1,
            controller: None,
            node: None,
        };
        if self.device.paths().any(|known| known.path == PathId(path)) {
            self.next += 1;
            self.device.path_ready(PathId(path), ready, self.now);
            self.live[usize::from(path)] = Some(ready.association);
        }
    }

    fn drain(&mut self, pick: usize, lane: LaneId) {
        if self.dying.is_empty() {
            return;
        }
        let at = pick % self.dying.len();
        let (association, lanes) = &mut self.dying[at];
        let association = *association;
        if let Some(known) = lanes.iter().position(|known| *known == lane) {
            lanes.remove(known);
            self.device
                .lane_drained(association, lane, Vec::new(), self.now);
        }
    }

    fn refused(&mut self, path: u8) {
        let Some(association) = self.association(path) else {
            return;
        };
        let event = LaneEvent::AnaStatus {
            path: PathId(path),
            association,
            status: Status::ANA_TRANSITION,
        };
        self.device.lane_event(LaneId(0), event, self.now);
    }

    fn outputs(&mut self) {
        while let Some(output) = self.device.poll_output() {
            match output {
                DeviceOutput::Convict(association) => {
                    let lanes = (0..LANES).map(LaneId).collect();
                    self.dying.push((association, lanes));
                    for live in &mut self.live {
                        live.take_if(|live| *live == association);
                    }
                }
                DeviceOutput::Fenced(association) => {
                    let known = |dying: &(AssociationId, Vec<LaneId>)| dying.0 == association;
                    let at = self
                        .dying
                        .iter()
                        .position(known)
                        .expect("once, after Convict");
                    let (_, lanes) = self.dying.remove(at);
                    assert!(lanes.is_empty(), "every lane has drained");
                }
                _ => {}
            }
        }
    }

    fn check(&mut self) {
        self.device.handle_timeout(self.now);
        self.outputs();
        let (due, now) = (self.device.poll_timeout(), self.now);
        assert!(due.is_none_or(|due| due > now), "{due:?} at {now:?}");
        let table = self.device.table();
        let usable = |at: &u8| table.paths[usize::from(*at)].usable;
        match table.active {
            Some(active) => assert!(table.groups[active].paths.iter().any(usable)),
            None => assert!(!table.has_usable()),
        }
        if table.active.is_some() {
            assert_eq!(table.on_no_path, OnNoPath::Queue);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_timeout_is_due_once_it_was_handled_and_every_association_is_fenced_once(
        steps in prop::collection::vec(step(), 0..120)
    ) {
        let mut world = World::new();
        for path in 0..PATHS {
            world.take(Step::Add(path));
            world.take(Step::Ready(path, AnaState::Optimized));
        }
        world.outputs();
        for step in steps {
            world.take(step);
            world.outputs();
            world.check();
        }
    }
}
