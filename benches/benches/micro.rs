//! The CPU cost of a request before any NIC: the lane's decisions and the wire format.
//!
//! The benchmark drives the lane as a queue thread does, with completions generated on the spot, so
//! the numbers are the lower bound of CPU time per request.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use umpath_core::policies::{Ask, Candidates, Done, Selector, SelectorConfig, SelectorKind};
use umpath_core::{
    Action, AssociationId, BlockRequest, CommandLimits, GroupEntry, Lane, LaneConfig, LaneId,
    OnNoPath, Op, PathEntry, PathId, PathTable, Steering, Tag, VolumeShared,
};
use umpath_nvme::command::io::{self, BlockCount, ReadWrite};
use umpath_nvme::{Cqe, IntoBytes as _, Sqe, Status};

const LBA_SHIFT: u8 = 12;
const DEPTH: u16 = 128;
const BUFFER_BYTES: u32 = 1 << 20;

/// A lane with this many optimized paths in one group, as with queue-length over two controllers.
fn lane(paths: u8, tags: u16) -> Lane {
    let config = LaneConfig {
        id: LaneId(0),
        tags,
        buffer_bytes: BUFFER_BYTES,
        lba_shift: LBA_SHIFT,
    };
    let entries = (0..paths)
        .map(|number| PathEntry {
            path: PathId(number),
            association: AssociationId(u64::from(number) + 1),
            usable: true,
            nsid: 1,
            limits: CommandLimits::default(),
            priority: Default::default(),
            ana: None,
            ana_epoch: 0,
            steering: Steering::default(),
        })
        .collect();
    let table = PathTable {
        generation: 1,
        paths: entries,
        groups: vec![GroupEntry {
            paths: (0..paths).collect(),
            priority: Default::default(),
        }],
        active: Some(0),
        on_no_path: OnNoPath::Queue,
        ..PathTable::empty(LBA_SHIFT)
    };
    let mut lane = Lane::new(config, Arc::new(table), Arc::new(VolumeShared::new()));
    for number in 0..paths {
        let association = AssociationId(u64::from(number) + 1);
        let taken = lane.attach(PathId(number), association, DEPTH, Duration::ZERO);
        taken.expect("room for it");
    }
    lane
}

fn request(op: Op, tag: u16, blocks: u32) -> BlockRequest {
    BlockRequest {
        tag: Tag(tag),
        op,
        lba: u64::from(tag) * 256,
        blocks,
        fua: false,
        no_unmap: false,
    }
}

/// One request on each of `tags` tags, from submission to completion; returns the number completed.
fn round(lane: &mut Lane, op: Op, tags: u16, blocks: u32, now: Duration) -> u32 {
    for tag in 0..tags {
        lane.submit(request(op, tag, blocks), now)
            .expect("an idle tag");
    }
    let mut completed = 0;
    while let Some(action) = lane.poll_action() {
        match action {
            Action::Send(send) => {
                let cqe = Cqe::new(black_box(send.sqe.cid.get()), 0, Status::SUCCESS, 0);
                lane.complete(send.path, send.association, &cqe, now);
            }
            Action::Complete { result, .. } => {
                result.expect("success");
                completed += 1;
            }
        }
    }
    completed
}

fn lane_requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane");
    for (name, op, paths, tags, blocks) in [
        ("read-4k-qd1-1path", Op::Read, 1, 1, 1),
        ("read-4k-qd32-1path", Op::Read, 1, 32, 1),
        ("read-4k-qd32-2paths", Op::Read, 2, 32, 1),
        ("read-4k-qd32-16paths", Op::Read, 16, 32, 1),
        ("write-4k-qd32-2paths", Op::Write, 2, 32, 1),
        ("read-1m-qd4-2paths-split", Op::Read, 2, 4, 256),
    ] {
        group.throughput(Throughput::Elements(u64::from(tags)));
        group.bench_function(name, |bencher| {
            let mut lane = lane(paths, tags);
            let mut now = Duration::ZERO;
            bencher.iter(|| {
                now += Duration::from_micros(1);
                let completed = round(&mut lane, op, tags, blocks, now);
                assert_eq!(completed, u32::from(tags), "every request completes once");
            });
        });
    }
    group.finish();
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    group.bench_function("build-read-command", |bencher| {
        bencher.iter(|| io::read(black_box(1), black_box(4096), BlockCount::ONE));
    });
    let sqe = io::read(1, 4096, BlockCount::ONE);
    group.bench_function("parse-read-command", |bencher| {
        bencher.iter(|| ReadWrite::parse(black_box(&sqe)));
    });
    group.bench_function("parse-command-capsule", |bencher| {
        bencher.iter(|| Sqe::from_capsule(black_box(sqe.as_bytes())).map(|(sqe, _)| sqe.cid));
    });
    let capsule = Cqe::new(7, 3, Status::SUCCESS, 0);
    group.bench_function("read-response-capsule", |bencher| {
        let bytes = capsule.as_bytes();
        bencher.iter(|| Cqe::from_capsule(black_box(bytes)).map(|cqe| cqe.status()));
    });
    group.finish();
}

/// Paths with the load of a busy lane.
struct Loaded(u8);

impl Candidates for Loaded {
    fn count(&self) -> usize {
        self.0.into()
    }
    fn path(&self, at: usize) -> PathId {
        PathId(at as u8)
    }
    fn in_flight(&self, at: usize) -> u32 {
        black_box(at as u32 * 7 % 5 + 1)
    }
    fn in_flight_bytes(&self, at: usize) -> u64 {
        black_box(at as u64 * 7 % 5 + 1) * 4096
    }
    fn priority(&self, _: usize) -> i32 {
        50
    }
    fn throughput(&self, at: usize) -> u8 {
        at as u8 % 3 + 1
    }
    fn is_near(&self, at: usize) -> bool {
        at.is_multiple_of(2)
    }
}

/// The choice alone, and the selector's cost of a completion.
fn selectors(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select");
    for kind in SelectorKind::ALL {
        for paths in [2, 8, 16] {
            let config = SelectorConfig {
                kind: *kind,
                ..SelectorConfig::default()
            };
            let mut selector = config.start();
            let mut now = Duration::from_secs(1);
            let mut answer = |selector: &mut Selector, path: u8| {
                now += Duration::from_micros(10);
                selector.completed(&Done {
                    path: PathId(path),
                    bytes: 4096,
                    write: false,
                    sent: now.saturating_sub(Duration::from_micros(80 + u64::from(path))),
                    at: now,
                });
                now
            };
            for path in (0..paths).cycle().take(1000) {
                answer(&mut selector, path);
            }
            let ask = Ask {
                bytes: 4096,
                write: false,
                now: answer(&mut selector, 0),
            };
            group.bench_function(format!("{}-{paths}paths", kind.word()), |bencher| {
                bencher.iter(|| selector.select(&Loaded(paths), black_box(&ask)));
            });
            if paths == 2 {
                group.bench_function(format!("{}-answer", kind.word()), |bencher| {
                    bencher.iter(|| answer(&mut selector, 1));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, lane_requests, selectors, codec);
criterion_main!(benches);
