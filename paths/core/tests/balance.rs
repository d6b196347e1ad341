//! Many lanes share paths as well as one lane with all the requests would.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::policies::{SelectorConfig, SelectorKind};
use umpath_core::{
    Action, AssociationId, BlockRequest, CommandLimits, GroupEntry, Lane, LaneConfig, LaneId, Op,
    PATHS_MAX, PathEntry, PathId, PathTable, SendCommand, Steering, Tag, VolumeShared,
};
use umpath_nvme::{Cqe, Status};

const PATHS: u8 = 4;
const REQUESTS: usize = 128;
const ROUNDS: usize = 20_000;

fn table(kind: SelectorKind) -> Arc<PathTable> {
    let entry = |number| PathEntry {
        path: PathId(number),
        association: AssociationId(number.into()),
        usable: true,
        nsid: 1,
        limits: CommandLimits::default(),
        priority: 50,
        ana: None,
        ana_epoch: 0,
        steering: Steering::default(),
    };
    Arc::new(PathTable {
        generation: 1,
        paths: (0..PATHS).map(entry).collect(),
        groups: vec![GroupEntry {
            paths: (0..PATHS).collect(),
            priority: 50,
        }],
        active: Some(0),
        selector: SelectorConfig {
            kind,
            ..SelectorConfig::default()
        },
        ..PathTable::empty(12)
    })
}

fn lanes(count: usize, shared: &Arc<VolumeShared>, kind: SelectorKind) -> Vec<Lane> {
    let lane = |number: usize| {
        let config = LaneConfig {
            id: LaneId(number as u16),
            tags: (REQUESTS / count) as u16,
            buffer_bytes: 4096,
            lba_shift: 12,
        };
        let mut lane = Lane::new(config, table(kind), Arc::clone(shared));
        for path in 0..PATHS {
            let association = AssociationId(path.into());
            let taken = lane.attach(PathId(path), association, 256, Duration::ZERO);
            taken.expect("room for it");
        }
        lane
    };
    (0..count).map(lane).collect()
}

/// Numbers below what is asked for, the same in every run (xorshift64).
fn generator() -> impl FnMut(usize) -> usize {
    let mut seed = 88_172_645_463_325_252_u64;
    move |below| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    }
}

/// Sum over time of what the busiest path has in flight, with random arrivals and answers.
fn busiest(lane_count: usize, kind: SelectorKind) -> u64 {
    let shared = Arc::new(VolumeShared::new());
    let mut lanes = lanes(lane_count, &shared, kind);
    let mut flying: Vec<(usize, SendCommand)> = Vec::new();
    let mut free: Vec<usize> = (0..REQUESTS).collect();
    let (mut sum, mut random) = (0, generator());
    for round in 0..ROUNDS {
        let now = Duration::from_micros(round as u64);
        if flying.is_empty() || (!free.is_empty() && random(2) == 0) {
            let slot = free.swap_remove(random(free.len()));
            let (at, tag) = (slot % lane_count, (slot / lane_count) as u16);
            let request = BlockRequest {
                tag: Tag(tag),
                op: Op::Read,
                lba: 0,
                blocks: 1,
                fua: false,
                no_unmap: false,
            };
            lanes[at].submit(request, now).expect("a free tag");
            while let Some(Action::Send(send)) = lanes[at].poll_action() {
                flying.push((at, send));
            }
        } else {
            let (at, send) = flying.swap_remove(random(flying.len()));
            let cqe = Cqe::new(send.sqe.cid.get(), 0, Status::SUCCESS, 0);
            lanes[at].complete(send.path, send.association, &cqe, now);
            free.push(usize::from(send.tag.0) * lane_count + at);
            while lanes[at].poll_action().is_some() {}
        }
        let most = (0..PATHS).map(|path| shared.in_flight(PathId(path))).max();
        sum += u64::from(most.unwrap_or(0));
    }
    assert!(usize::from(PATHS) <= PATHS_MAX);
    sum
}

/// The same load, shared by a counter of each path that everyone sees; ties take turns.
fn busiest_by_one_counter() -> u64 {
    let mut in_flight = [0_u64; PATHS as usize];
    let mut flying: Vec<usize> = Vec::new();
    let mut free = REQUESTS;
    let (mut next, mut sum, mut random) = (0, 0, generator());
    for _ in 0..ROUNDS {
        if flying.is_empty() || (free > 0 && random(2) == 0) {
            let _ = random(free);
            let paths = in_flight.len();
            let turn = |path: &usize| (in_flight[*path], (path + paths - next) % paths);
            let path = (0..paths).min_by_key(turn).unwrap_or(0);
            next = (path + 1) % paths;
            in_flight[path] += 1;
            flying.push(path);
            free -= 1;
        } else {
            in_flight[flying.swap_remove(random(flying.len()))] -= 1;
            free += 1;
        }
        sum += in_flight.iter().max().copied().unwrap_or(0);
    }
    sum
}

#[test]
fn queue_length_of_many_lanes_balances_within_5_percent_of_one_global_counter() {
    let ideal = busiest_by_one_counter();
    for lanes in [1, 2, 4, 16, 64] {
        let sum = busiest(lanes, SelectorKind::QueueLength);
        assert!(
            sum * 100 <= ideal * 105,
            "{lanes} lanes: {sum}, one counter: {ideal}"
        );
    }
}
