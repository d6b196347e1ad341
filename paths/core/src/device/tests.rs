//! The control side against hand-made situations.

use umpath_policies::{DampingConfig, Failback, Grouping, Ranking, SelectorConfig};

use super::*;
use crate::ghost::{GHOSTS_MAX, Ghost, Owner, Resend};
use crate::table::{CommandLimits, OnNoPath};

const LANES: u16 = 2;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn config() -> DeviceConfig {
    DeviceConfig {
        lba_shift: 12,
        lanes: LANES,
        selector: SelectorConfig::default(),
        grouping: Grouping::ByPriority,
        ranking: Ranking::default(),
        failback: Failback::Immediate,
        no_path: NoPath::Queue,
        damping: DampingConfig::default(),
        fast_io_fail: Duration::ZERO,
        shared_with_other_hosts: false,
        flush_on_last_del: false,
    }
}

pub(super) fn ready(association: u64, ana: AnaState) -> Ready {
    Ready {
        association: AssociationId(association),
        nsid: 1,
        limits: CommandLimits::default(),
        ana: Some(ana),
        ana_group: 1,
        controller: None,
        node: None,
    }
}

/// Primary optimized on path 0, standby non-optimized on path 1.
pub(super) fn two_paths(config: DeviceConfig) -> Device {
    let mut device = Device::new(config, ms(0));
    for (number, ana) in [(0, AnaState::Optimized), (1, AnaState::NonOptimized)] {
        let path = PathConfig {
            preferred: false,
            ..PathConfig::default()
        };
        device.add_path(PathId(number), path, ms(0)).unwrap();
        device.path_ready(PathId(number), ready(u64::from(number), ana), ms(1));
    }
    outputs(&mut device);
    device
}

pub(super) fn outputs(device: &mut Device) -> Vec<DeviceOutput> {
    std::iter::from_fn(|| device.poll_output()).collect()
}

pub(super) fn active_paths(device: &Device) -> Vec<PathId> {
    let table = device.table();
    let Some(group) = table.active.and_then(|at| table.groups.get(at)) else {
        return Vec::new();
    };
    group
        .paths
        .iter()
        .map(|at| &table.paths[usize::from(*at)])
        .filter(|p| p.usable)
        .map(|p| p.path)
        .collect()
}

pub(super) fn kinds(outputs: &[DeviceOutput]) -> Vec<&'static str> {
    outputs
        .iter()
        .map(|output| match output {
            DeviceOutput::Publish(_) => "publish",
            DeviceOutput::Convict(_) => "convict",
            DeviceOutput::Guard(_) => "guard",
            DeviceOutput::Locked(_) => "locked",
            DeviceOutput::Fenced(_) => "fenced",
            DeviceOutput::FailQueued => "fail_queued",
            DeviceOutput::Event(event) => event.kind.word(),
        })
        .collect()
}

#[test]
fn the_optimized_path_carries_the_io() {
    let device = two_paths(config());
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert_eq!(device.table().groups.len(), 2);
}

#[test]
fn a_failover_goes_through_every_step_and_back() {
    let mut device = two_paths(config());
    device.suspect(AssociationId(0), Suspicion::LinkDown, ms(10));
    assert_eq!(active_paths(&device), [PathId(1)]);
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["suspected", "group_switched", "publish"]
    );
    device.convict(AssociationId(0), Conviction::LinkDown, ms(110));
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["convicted", "convict", "publish"]
    );
    device.lane_drained(AssociationId(0), LaneId(0), Vec::new(), ms(111));
    device.lane_drained(AssociationId(0), LaneId(0), Vec::new(), ms(112));
    assert_eq!(outputs(&mut device), []);
    device.lane_drained(AssociationId(0), LaneId(1), Vec::new(), ms(113));
    assert_eq!(kinds(&outputs(&mut device)), ["buffer_fenced"]);
    device.order_fenced(AssociationId(0), ms(700));
    assert_eq!(kinds(&outputs(&mut device)), ["order_fenced", "fenced"]);
    device.path_ready(PathId(0), ready(7, AnaState::Optimized), ms(900));
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["path_up", "failed_back", "publish"]
    );
}

#[test]
fn the_first_io_counts_once_whether_it_comes_before_the_order_fence_or_after() {
    for after_fence in [false, true] {
        let mut device = two_paths(config());
        device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
        for lane in 0..2 {
            device.lane_drained(AssociationId(0), LaneId(lane), Vec::new(), ms(2));
        }
        if after_fence {
            device.order_fenced(AssociationId(0), ms(3));
        }
        outputs(&mut device);
        let event = LaneEvent::FirstIo {
            lost: AssociationId(0),
            path: PathId(1),
            stall: ms(5),
        };
        device.lane_event(LaneId(1), event, ms(6));
        assert_eq!(kinds(&outputs(&mut device)), ["first_io"]);
        device.lane_event(LaneId(0), event, ms(7));
        assert_eq!(outputs(&mut device), []);
    }
}

#[test]
fn a_suspicion_that_ends_brings_the_path_back() {
    let mut device = two_paths(config());
    device.suspect(AssociationId(0), Suspicion::KeepAlivesMissed(3), ms(10));
    device.clear(AssociationId(0), ms(20));
    assert_eq!(active_paths(&device), [PathId(0)]);
}

#[test]
fn manual_failback_stays() {
    let mut device = two_paths(DeviceConfig {
        failback: Failback::Manual,
        ..config()
    });
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
    device.path_ready(PathId(0), ready(7, AnaState::Optimized), ms(900));
    assert_eq!(active_paths(&device), [PathId(1)]);
}

#[test]
fn an_ana_change_regroups_at_once() {
    let mut device = two_paths(config());
    device.ana(PathId(0), AnaState::Inaccessible, ms(5));
    assert_eq!(active_paths(&device), [PathId(1)]);
    device.ana(PathId(1), AnaState::Optimized, ms(6));
    device.ana(PathId(0), AnaState::Optimized, ms(7));
    assert_eq!(active_paths(&device), [PathId(0), PathId(1)]);
}

#[test]
fn a_controller_that_lost_the_namespace_is_left_alone_until_it_is_back() {
    let mut device = two_paths(config());
    assert!(device.withdraw(PathId(0), true, ms(10)));
    assert!(!device.withdraw(PathId(0), true, ms(11)), "no news");
    assert_eq!(active_paths(&device), [PathId(1)]);
    // Its log may still speak of the number, or speak of it again.
    device.ana(PathId(0), AnaState::Optimized, ms(20));
    assert_eq!(active_paths(&device), [PathId(1)]);
    assert!(device.withdraw(PathId(0), false, ms(30)));
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert!(device.withdraw(PathId(0), true, ms(40)));
    device.path_ready(PathId(0), ready(7, AnaState::Optimized), ms(50));
    assert_eq!(active_paths(&device), [PathId(0)], "a new association");
    assert!(
        !device.withdraw(PathId(0), false, ms(60)),
        "it never lost it"
    );
}

fn lose_everything(device: &mut Device, at: Duration) {
    for association in [0, 1] {
        device.convict(AssociationId(association), Conviction::QueueFailed, at);
    }
}

#[test]
fn without_a_path_io_waits_for_as_long_as_it_takes() {
    let mut device = two_paths(config());
    lose_everything(&mut device, ms(10));
    assert_eq!(device.poll_timeout(), None);
    assert_eq!(device.table().on_no_path, OnNoPath::Queue);
    assert_eq!(device.table().active, None);
    assert!(kinds(&outputs(&mut device)).contains(&"no_path"));
    device.path_ready(PathId(1), ready(9, AnaState::NonOptimized), ms(99_000));
    assert!(kinds(&outputs(&mut device)).contains(&"path_again"));
    assert_eq!(active_paths(&device), [PathId(1)]);
}

#[test]
fn a_wait_that_runs_out_fails_what_is_queued_until_a_path_returns() {
    let wait = NoPath::QueueFor(ms(5_000));
    let mut device = two_paths(DeviceConfig {
        no_path: wait,
        ..config()
    });
    lose_everything(&mut device, ms(10));
    outputs(&mut device);
    assert_eq!(device.poll_timeout(), Some(ms(5_010)));
    device.handle_timeout(ms(5_010));
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["queueing_expired", "fail_queued", "publish"]
    );
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
    assert_eq!(device.poll_timeout(), None);
    device.path_ready(PathId(0), ready(9, AnaState::Optimized), ms(6_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Queue);
}

#[test]
fn queueing_turned_off_by_hand_reaches_the_lanes() {
    let mut device = two_paths(config());
    lose_everything(&mut device, ms(10));
    outputs(&mut device);
    device.set_no_path(NoPath::Fail, ms(20));
    assert_eq!(kinds(&outputs(&mut device)), ["publish"]);
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
    device.set_no_path(NoPath::Queue, ms(30));
    assert_eq!(device.table().on_no_path, OnNoPath::Queue, "and on again");
}

#[test]
fn what_is_unknown_changes_nothing() {
    let mut device = two_paths(config());
    device.suspect(AssociationId(77), Suspicion::LinkDown, ms(1));
    device.convict(AssociationId(77), Conviction::LinkDown, ms(1));
    device.lane_drained(AssociationId(77), LaneId(0), Vec::new(), ms(1));
    device.order_fenced(AssociationId(77), ms(1));
    device.ana(PathId(9), AnaState::Change, ms(1));
    device.remove_path(PathId(9), ms(1));
    assert_eq!(outputs(&mut device), []);
    let again = device.add_path(
        PathId(0),
        PathConfig {
            preferred: false,
            ..PathConfig::default()
        },
        ms(1),
    );
    assert_eq!(again, Err(DeviceError::Exists(PathId(0))));
}

#[test]
fn an_order_fence_is_passed_on_with_the_last_lane() {
    let mut device = two_paths(config());
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
    device.lane_drained(AssociationId(0), LaneId(0), Vec::new(), ms(2));
    outputs(&mut device);
    device.order_fenced(AssociationId(0), ms(3));
    assert_eq!(outputs(&mut device), []);
    device.lane_drained(AssociationId(0), LaneId(1), Vec::new(), ms(4));
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["buffer_fenced", "order_fenced", "fenced"]
    );
}

#[test]
fn a_refused_path_is_tried_again_when_the_state_is_read_or_after_a_while() {
    let mut device = two_paths(config());
    let refused = LaneEvent::AnaStatus {
        path: PathId(0),
        association: AssociationId(0),
        status: umpath_nvme::Status::ANA_TRANSITION,
    };
    let epoch = |device: &Device| device.table().entry(PathId(0)).map(|entry| entry.ana_epoch);
    let before = epoch(&device);
    device.lane_event(LaneId(0), refused, ms(10));
    assert_eq!(active_paths(&device), [PathId(1)]);
    device.ana(PathId(0), AnaState::Optimized, ms(20));
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert_eq!(epoch(&device), before.map(|epoch| epoch + 1));
    device.lane_event(LaneId(0), refused, ms(30));
    assert_eq!(device.poll_timeout(), Some(ms(1_030)));
    device.handle_timeout(ms(1_030));
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert_eq!(epoch(&device), before.map(|epoch| epoch + 2));
    assert_eq!(device.poll_timeout(), None);
}

#[test]
fn one_shaky_path_alone_fails_nothing() {
    let mut device = two_paths(DeviceConfig {
        no_path: NoPath::Fail,
        ..config()
    });
    device.convict(AssociationId(1), Conviction::QueueFailed, ms(1));
    device.suspect(AssociationId(0), Suspicion::LinkDown, ms(2));
    assert_eq!(active_paths(&device), []);
    assert_eq!(
        device.table().on_no_path,
        OnNoPath::Queue,
        "it may be cleared"
    );
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(3));
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
}

fn ghost(association: u64, lane: u16, birth: u64, lba: u64) -> Ghost {
    Ghost {
        owner: Some(Owner {
            lane: LaneId(lane),
            birth,
        }),
        association: AssociationId(association),
        lba,
        blocks: 8,
    }
}

fn guarded(device: &mut Device, lane: u16, generation: u64) {
    device.lane_event(LaneId(lane), LaneEvent::Guarded { generation }, ms(50));
}

/// Path 0 is lost with one ghost on lane 0; every lane has drained. Returns the generation of the
/// table that holds it.
fn lost_with_a_ghost(device: &mut Device) -> u64 {
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
    outputs(device);
    let lost = vec![ghost(0, 0, 1, 100)];
    device.lane_drained(AssociationId(0), LaneId(0), lost, ms(2));
    device.lane_drained(AssociationId(0), LaneId(1), Vec::new(), ms(3));
    assert_eq!(kinds(&outputs(device)), ["guard", "buffer_fenced"]);
    device.ghosts().generation()
}

#[test]
fn ghosts_are_sent_again_when_every_lane_keeps_off_them() {
    let mut device = two_paths(config());
    let generation = lost_with_a_ghost(&mut device);
    guarded(&mut device, 0, generation);
    guarded(&mut device, 1, generation - 1);
    assert_eq!(outputs(&mut device), []);
    guarded(&mut device, 1, generation);
    assert_eq!(kinds(&outputs(&mut device)), ["ghosts_locked", "locked"]);
    guarded(&mut device, 1, generation);
    assert_eq!(outputs(&mut device), [], "reported once");
    assert_eq!(device.ghosts().len(), 1, "locked until the order fence");
    device.order_fenced(AssociationId(0), ms(99));
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["order_fenced", "fenced", "guard"]
    );
    assert!(device.ghosts().is_empty());
    assert!(device.ghosts().generation() > generation);
}

#[test]
fn lanes_guard_early_and_ghosts_wait_for_the_last_lane_to_drain() {
    let mut device = two_paths(config());
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
    let first = vec![ghost(0, 0, 1, 100)];
    device.lane_drained(AssociationId(0), LaneId(0), first, ms(2));
    guarded(&mut device, 0, 1);
    guarded(&mut device, 1, 1);
    outputs(&mut device);
    let second = vec![ghost(0, 1, 1, 100)];
    device.lane_drained(AssociationId(0), LaneId(1), second, ms(3));
    assert_eq!(device.ghosts().len(), 2);
    guarded(&mut device, 0, 2);
    assert_eq!(kinds(&outputs(&mut device)), ["guard", "buffer_fenced"]);
    guarded(&mut device, 1, 2);
    assert_eq!(kinds(&outputs(&mut device)), ["ghosts_locked", "locked"]);
}

#[test]
fn a_lane_that_guarded_before_the_last_lane_drained_need_not_guard_again() {
    let mut device = two_paths(config());
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
    let lost = vec![ghost(0, 0, 1, 100)];
    device.lane_drained(AssociationId(0), LaneId(0), lost, ms(2));
    guarded(&mut device, 0, 1);
    guarded(&mut device, 1, 1);
    outputs(&mut device);
    device.lane_drained(AssociationId(0), LaneId(1), Vec::new(), ms(3));
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["buffer_fenced", "ghosts_locked", "locked"]
    );
}

#[test]
fn a_second_conviction_locks_on_its_own() {
    let mut device = two_paths(config());
    let first = lost_with_a_ghost(&mut device);
    device.convict(AssociationId(1), Conviction::QueueFailed, ms(4));
    device.lane_drained(
        AssociationId(1),
        LaneId(1),
        vec![ghost(1, 1, 9, 500)],
        ms(5),
    );
    let second = device.ghosts().generation();
    assert_eq!(device.ghosts().len(), 2);
    guarded(&mut device, 0, first);
    guarded(&mut device, 1, second);
    let locked = |outputs: &[DeviceOutput]| -> Vec<AssociationId> {
        let of = |output: &DeviceOutput| match output {
            DeviceOutput::Locked(association) => Some(*association),
            _ => None,
        };
        outputs.iter().filter_map(of).collect()
    };
    assert_eq!(locked(&outputs(&mut device)), [AssociationId(0)]);
    guarded(&mut device, 0, second);
    assert_eq!(locked(&outputs(&mut device)), [], "a lane has not drained");
    device.lane_drained(AssociationId(1), LaneId(0), Vec::new(), ms(6));
    assert_eq!(locked(&outputs(&mut device)), [AssociationId(1)]);
    device.order_fenced(AssociationId(0), ms(7));
    let left: Vec<Ghost> = device.ghosts().ghosts().copied().collect();
    assert_eq!(left, [ghost(1, 1, 9, 500)]);
}

#[test]
fn an_order_fence_before_the_lock_makes_it_needless() {
    let mut device = two_paths(config());
    let generation = lost_with_a_ghost(&mut device);
    device.order_fenced(AssociationId(0), ms(4));
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["order_fenced", "fenced", "guard"]
    );
    guarded(&mut device, 0, generation + 1);
    guarded(&mut device, 1, generation + 1);
    assert_eq!(outputs(&mut device), []);
}

#[test]
fn a_fence_that_stood_before_the_last_lane_drained_frees_its_ghosts_with_it() {
    let mut device = two_paths(config());
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
    device.lane_drained(AssociationId(0), LaneId(0), Vec::new(), ms(2));
    device.order_fenced(AssociationId(0), ms(3));
    outputs(&mut device);
    let late = vec![ghost(0, 1, 1, 100)];
    device.lane_drained(AssociationId(0), LaneId(1), late, ms(4));
    assert!(device.ghosts().is_empty());
    let reported = outputs(&mut device);
    assert!(
        reported.contains(&DeviceOutput::Fenced(AssociationId(0))),
        "{reported:?}"
    );
}

#[test]
fn an_inherited_association_keeps_every_mutation_back_until_its_fence() {
    let mut device = Device::new(config(), ms(0));
    device.inherit(AssociationId(70), ms(0));
    device.inherit(AssociationId(71), ms(0));
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["inherited", "guard", "inherited", "guard"]
    );
    let someone = Owner {
        lane: LaneId(0),
        birth: 1,
    };
    let held = |device: &Device| device.ghosts().conflict(someone, 1 << 40, 1).is_some();
    guarded(&mut device, 0, 2);
    guarded(&mut device, 1, 2);
    assert_eq!(outputs(&mut device), [], "nothing to send again");
    device.order_fenced(AssociationId(70), ms(9));
    assert!(held(&device));
    device.order_fenced(AssociationId(71), ms(9));
    assert!(!held(&device));
}

#[test]
fn a_lane_that_ended_is_not_waited_for_and_may_have_lost_anything() {
    let mut device = two_paths(config());
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
    let lost = vec![ghost(0, 0, 1, 100)];
    device.lane_drained(AssociationId(0), LaneId(0), lost, ms(2));
    device.lane_gone(LaneId(1), ms(3));
    let unknown: Vec<Ghost> = device
        .ghosts()
        .ghosts()
        .filter(|ghost| ghost.owner.is_none())
        .copied()
        .collect();
    assert_eq!(unknown, [Ghost::of_everything(AssociationId(0))]);
    outputs(&mut device);
    let generation = device.ghosts().generation();
    guarded(&mut device, 0, generation);
    assert_eq!(kinds(&outputs(&mut device)), ["ghosts_locked", "locked"]);
}

#[test]
fn too_many_ghosts_become_one_over_everything() {
    let mut device = two_paths(config());
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
    let many = |lane: u16| {
        let one = move |birth: usize| ghost(0, lane, birth as u64, 16 * birth as u64);
        (0..GHOSTS_MAX).map(one).collect::<Vec<Ghost>>()
    };
    device.lane_drained(AssociationId(0), LaneId(0), many(0), ms(2));
    assert_eq!(device.ghosts().len(), GHOSTS_MAX);
    outputs(&mut device);
    device.lane_drained(AssociationId(0), LaneId(1), many(1), ms(3));
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["ghosts_overflowed", "guard", "buffer_fenced"]
    );
    let all: Vec<Ghost> = device.ghosts().ghosts().copied().collect();
    assert_eq!(all, [Ghost::of_everything(AssociationId(0))]);
    device.order_fenced(AssociationId(0), ms(9));
    assert!(device.ghosts().is_empty());
}

#[test]
fn a_volume_that_others_write_to_says_so_in_the_table() {
    let mut device = two_paths(DeviceConfig {
        shared_with_other_hosts: true,
        ..config()
    });
    lost_with_a_ghost(&mut device);
    assert_eq!(device.ghosts().resend(), Resend::OnceFenced);
    device.set_config(config(), ms(9));
    assert_eq!(device.ghosts().resend(), Resend::OnceGuarded);
    assert_eq!(device.ghosts().len(), 1);
}
