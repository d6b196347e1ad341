//! What a volume makes of evidence that comes and goes: health and device together, under random
//! evidence on two paths. Nothing a user sees may change more than a few times a second.

use core::time::Duration;

use proptest::prelude::*;
use umpath_core::association::{Health, HealthConfig, Patience, Verdict};
use umpath_core::policies::{
    AnaState, DampingConfig, Failback, Grouping, Ranking, SelectorConfig, Standing,
};
use umpath_core::{
    AssociationId, CommandLimits, Device, DeviceConfig, NoPath, PathConfig, PathId, Pulse, Ready,
};

const PATHS: u8 = 2;

/// Most changes within any second: of a path's suspicion, of its being held, of the active group.
const SUSPICIONS_MAX: usize = 12;
const HOLDS_MAX: usize = 2;
const GROUPS_MAX: usize = 16;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Debug, Clone, Copy)]
enum Evidence {
    Link(u8, bool),
    Answered(u8),
    Missed(u8),
    Io(u8),
    Pass(u64),
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let path = || 0..PATHS;
    prop_oneof![
        4 => (path(), any::<bool>()).prop_map(|(path, up)| Evidence::Link(path, up)),
        3 => path().prop_map(Evidence::Answered),
        6 => path().prop_map(Evidence::Missed),
        2 => path().prop_map(Evidence::Io),
        8 => (0_u64..60).prop_map(Evidence::Pass),
    ]
}

fn config(marginal_pathgroups: bool) -> DeviceConfig {
    DeviceConfig {
        lba_shift: 12,
        lanes: 1,
        selector: SelectorConfig::default(),
        grouping: Grouping::Failover,
        ranking: Ranking {
            marginal_pathgroups,
            ..Ranking::default()
        },
        failback: Failback::Immediate,
        no_path: NoPath::Queue,
        damping: DampingConfig::default(),
        fast_io_fail: ms(0),
        shared_with_other_hosts: false,
        flush_on_last_del: false,
    }
}

/// Times at which something changed.
#[derive(Debug, Default)]
struct Changes<T> {
    last: T,
    at: Vec<Duration>,
}

impl<T: PartialEq> Changes<T> {
    fn note(&mut self, value: T, now: Duration) {
        if self.last != value {
            self.last = value;
            self.at.push(now);
        }
    }

    /// Most of them within any second.
    fn most(&self) -> usize {
        let within = |first: &Duration| {
            let second = *first..*first + ms(1_000);
            self.at.iter().filter(|at| second.contains(at)).count()
        };
        self.at.iter().map(within).max().unwrap_or(0)
    }
}

struct World {
    now: Duration,
    device: Device,
    health: Vec<Health>,
    pulses: Vec<Pulse>,
    suspicions: [Changes<bool>; PATHS as usize],
    holds: [Changes<bool>; PATHS as usize],
    group: Changes<Option<PathId>>,
}

impl World {
    fn new(marginal_pathgroups: bool) -> Self {
        let mut device = Device::new(config(marginal_pathgroups), ms(0));
        // Never given up: what convicts is no flapping.
        let never = Duration::from_secs(1 << 20);
        let patient = HealthConfig {
            link_down_grace: never,
            io_silence: never,
            ..HealthConfig::default()
        };
        for path in 0..PATHS {
            let added = device.add_path(PathId(path), PathConfig::default(), ms(0));
            added.expect("a new path");
            let ready = Ready {
                association: AssociationId(path.into()),
                nsid: 1,
                limits: CommandLimits::default(),
                ana: Some(AnaState::Optimized),
                ana_group: 1,
                controller: None,
                node: None,
            };
            device.path_ready(PathId(path), ready, ms(0));
        }
        let idle = Pulse {
            in_flight: 0,
            unanswered_since: None,
            answered: ms(0),
        };
        Self {
            now: ms(0),
            device,
            health: vec![Health::new(patient, Patience::default(), ms(0)); usize::from(PATHS)],
            pulses: vec![idle; usize::from(PATHS)],
            suspicions: Default::default(),
            holds: Default::default(),
            group: Changes::default(),
        }
    }

    fn take(&mut self, evidence: Evidence) {
        let now = self.now;
        match evidence {
            Evidence::Link(path, true) => self.health[usize::from(path)].link_up(now),
            Evidence::Link(path, false) => self.health[usize::from(path)].link_down(now),
            Evidence::Answered(path) => {
                self.health[usize::from(path)].keep_alive_answered(now, now);
            }
            Evidence::Missed(path) => self.health[usize::from(path)].keep_alive_missed(9, now),
            Evidence::Io(path) => self.pulses[usize::from(path)].answered = now,
            Evidence::Pass(time) => self.pass(now + ms(time)),
        }
        self.judge();
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, until: Duration) {
        loop {
            let timers = self.health.iter().filter_map(Health::poll_timeout);
            let due = timers.chain(self.device.poll_timeout()).min();
            let Some(due) = due.filter(|due| *due <= until) else {
                break;
            };
            self.now = due;
            self.device.handle_timeout(due);
            self.judge();
        }
        self.now = until;
    }

    fn judge(&mut self) {
        let now = self.now;
        for (path, health) in (0_u64..).zip(&mut self.health) {
            health.pulse(self.pulses[path as usize], now);
            let association = AssociationId(path);
            match health.verdict(now) {
                None => {}
                Some(Verdict::Suspect(why)) => self.device.suspect(association, why, now),
                Some(Verdict::Clear) => self.device.clear(association, now),
                Some(Verdict::Convict(why)) => panic!("{why}"),
            }
        }
        while self.device.poll_output().is_some() {}
        for path in self.device.paths() {
            let at = path.path.index();
            self.suspicions[at].note(path.suspect, now);
            let held = matches!(path.standing, Standing::Held { .. });
            self.holds[at].note(held, now);
        }
        let table = self.device.table();
        let group = table.active.map(|at| &table.groups[at]);
        let first = group.map(|group| table.paths[usize::from(group.paths[0])].path);
        self.group.note(first, now);
    }

    fn check(&self) {
        for path in 0..usize::from(PATHS) {
            let most = self.suspicions[path].most();
            assert!(
                most <= SUSPICIONS_MAX,
                "path {path} is suspected {most} times a second"
            );
            let most = self.holds[path].most();
            assert!(
                most <= HOLDS_MAX,
                "path {path} is held {most} times a second"
            );
        }
        let most = self.group.most();
        assert!(
            most <= GROUPS_MAX,
            "the group changes {most} times a second"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_changes_more_than_a_few_times_a_second(
        marginal in any::<bool>(),
        history in prop::collection::vec(evidence(), 0..400),
    ) {
        let mut world = World::new(marginal);
        for evidence in history {
            world.take(evidence);
        }
        world.check();
    }
}

/// The admin queue of the better path answers late, by more than three heartbeats, and I/O works.
#[test]
fn a_slow_admin_queue_holds_nothing_back() {
    let mut world = World::new(false);
    for at in (400..30_000_u64).step_by(20) {
        world.pass(ms(at));
        world.take(Evidence::Io(0));
        match at % 100 {
            0 => world.health[0].keep_alive_missed(3, ms(at)),
            40 => world.health[0].keep_alive_answered(ms(at - 340), ms(at)),
            _ => {}
        }
        world.judge();
    }
    assert_eq!(world.group.at.len(), 1, "the first, and no other");
    assert!(world.suspicions[0].at.is_empty() && world.holds[0].at.is_empty());
}
