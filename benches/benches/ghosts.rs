//! The cost of the ghost-range lock: a write while there are ghosts, and a failover from the
//! conviction until the last ghost is resent.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use umpath_core::association::Conviction;
use umpath_core::policies::{DampingConfig, Failback, Grouping, Ranking, SelectorConfig};
use umpath_core::{
    Action, AssociationId, BlockRequest, CommandLimits, Device, DeviceConfig, DeviceOutput, Ghost,
    GhostTable, Lane, LaneConfig, LaneId, NoPath, Op, Owner, PathConfig, PathId, PathTable, Ready,
    Resend, Tag, VolumeShared,
};
use umpath_nvme::{Cqe, Status};

const LBA_SHIFT: u8 = 12;
const LOST: AssociationId = AssociationId(0);

/// A volume with one lane and two paths.
struct Volume {
    device: Device,
    lane: Lane,
    now: Duration,
}

impl Volume {
    fn new(tags: u16) -> Self {
        let now = Duration::from_secs(1);
        let config = DeviceConfig {
            lba_shift: LBA_SHIFT,
            lanes: 1,
            selector: SelectorConfig::default(),
            grouping: Grouping::ByPriority,
            ranking: Ranking::default(),
            failback: Failback::Immediate,
            no_path: NoPath::Queue,
            damping: DampingConfig::default(),
            fast_io_fail: Duration::ZERO,
            flush_on_last_del: false,
            shared_with_other_hosts: false,
        };
        let lane = LaneConfig {
            id: LaneId(0),
            tags,
            buffer_bytes: 1 << 20,
            lba_shift: LBA_SHIFT,
        };
        let table = Arc::new(PathTable::empty(LBA_SHIFT));
        let mut volume = Self {
            device: Device::new(config, now),
            lane: Lane::new(lane, table, Arc::new(VolumeShared::new())),
            now,
        };
        volume.connect(0, tags);
        volume
    }

    fn connect(&mut self, path: u8, tags: u16) {
        let association = AssociationId(path.into());
        let depth = 2 * tags + 2;
        let taken = self.lane.attach(PathId(path), association, depth, self.now);
        taken.expect("room for it");
        self.device
            .add_path(PathId(path), PathConfig::default(), self.now)
            .expect("a path of its own");
        let ready = Ready {
            association,
            nsid: 1,
            limits: CommandLimits::default(),
            ana: None,
            ana_group: 0,
            controller: None,
            node: None,
        };
        self.device.path_ready(PathId(path), ready, self.now);
        self.pump();
    }

    /// Passes messages both ways until there are none.
    fn pump(&mut self) {
        loop {
            while let Some(output) = self.device.poll_output() {
                match output {
                    DeviceOutput::Publish(table) => self.lane.set_table(table, self.now),
                    DeviceOutput::Convict(association) => self.lane.convict(association, self.now),
                    DeviceOutput::Guard(ghosts) => self.lane.guard(ghosts, self.now),
                    DeviceOutput::Locked(association) => self.lane.locked(association, self.now),
                    DeviceOutput::Fenced(association) => self.lane.fenced(association, self.now),
                    DeviceOutput::FailQueued | DeviceOutput::Event(_) => {}
                }
            }
            let Some(event) = self.lane.poll_event() else {
                return;
            };
            self.device.lane_event(LaneId(0), event, self.now);
        }
    }

    fn submit(&mut self, tag: u16) {
        let write = BlockRequest {
            tag: Tag(tag),
            op: Op::Write,
            lba: u64::from(tag) * 8,
            blocks: 1,
            fua: false,
            no_unmap: false,
        };
        self.lane.submit(write, self.now).expect("an idle tag");
    }

    fn sends(&mut self) -> usize {
        let mut sends = 0;
        while let Some(action) = self.lane.poll_action() {
            sends += usize::from(matches!(action, Action::Send(_)));
        }
        sends
    }
}

/// A write from submission to completion while other blocks are locked.
fn check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ghost-check");
    group.throughput(Throughput::Elements(32));
    for count in [0_u64, 1, 1_000] {
        group.bench_function(format!("write-4k-qd32-{count}ghosts"), |bencher| {
            let mut volume = Volume::new(32);
            let ghost = |birth| Ghost {
                owner: Some(Owner {
                    lane: LaneId(9),
                    birth,
                }),
                association: AssociationId(9),
                lba: birth * 8 + 4,
                blocks: 1,
            };
            let ghosts = GhostTable::new(1, Resend::OnceGuarded, (0..count).map(ghost));
            volume.lane.guard(Arc::new(ghosts), volume.now);
            bencher.iter(|| {
                for tag in 0..32 {
                    volume.submit(tag);
                }
                let mut completed = 0;
                while let Some(action) = volume.lane.poll_action() {
                    match action {
                        Action::Send(send) => {
                            let cqe = Cqe::new(send.sqe.cid.get(), 0, Status::SUCCESS, 0);
                            let now = volume.now;
                            volume.lane.complete(send.path, send.association, &cqe, now);
                        }
                        Action::Complete { .. } => completed += 1,
                    }
                }
                assert_eq!(completed, 32);
            });
        });
    }
    group.finish();
}

/// From the conviction until every lost write has been resent.
fn failover(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("failover");
    for count in [0_u16, 1, 1_000] {
        let prepare = || {
            let mut volume = Volume::new(count.max(1));
            for tag in 0..count {
                volume.submit(tag);
            }
            assert_eq!(volume.sends(), usize::from(count));
            volume.connect(1, count.max(1));
            volume
        };
        let run = |mut volume: Volume| {
            let now = volume.now;
            volume.device.convict(LOST, Conviction::QueueFailed, now);
            volume.pump();
            let ghosts = volume.lane.drained(LOST, now);
            volume.device.lane_drained(LOST, LaneId(0), ghosts, now);
            volume.pump();
            assert_eq!(volume.sends(), usize::from(count), "all are sent again");
            volume
        };
        group.bench_function(format!("{count}ghosts"), |bencher| {
            bencher.iter_batched(prepare, run, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, check, failover);
criterion_main!(benches);
