//! Making a volume's block device and queue threads. Everything here blocks, so it runs elsewhere.

use std::sync::Arc;

use tokio::sync::mpsc;
use umpath_core::{Lane, LaneConfig, LaneId, PathTable};
use umpath_engine::{LaneReport, LaneSetup, Polling};
use umpath_host::VolumeSpec;
use umpath_host::record::VolumeRecord;
use umpath_protocol::Failure;
use umpath_rdma::HostQueue;
use umpath_transport::Arena;
use umpath_ublk::{Clock, Device, DeviceSpec, Reports};

use crate::clock;
use crate::config::Waits;
use crate::keeper::Keeper;
use crate::message::{BlockDevice, Built, Message};

/// Makes both, and notes them for the next umpathd. When a step fails nothing is left behind.
pub(crate) fn build(
    spec: &VolumeSpec,
    keeper: &Keeper,
    waits: Waits,
    shell: &mpsc::UnboundedSender<Message>,
) -> Result<Built, Failure> {
    let wish = DeviceSpec {
        id: None,
        queues: spec.queues,
        depth: spec.depth,
        limits: spec.limits.clone(),
        cookie: uuid::Uuid::new_v4().as_u64_pair().1,
    };
    let device: BlockDevice = Device::create(&wish).map_err(|error| {
        failed(
            spec,
            with_sources(&error),
            "check `modprobe ublk_drv`, the kernel log and umpath.toml",
        )
    })?;
    let record = VolumeRecord::new(spec, device.info().id, wish.cookie);
    // Before anyone can use it: a device that nobody remembers could not be taken over.
    keeper.write(&record).map_err(|error| {
        failed(
            spec,
            format!("{error:#}"),
            "make room in the state directory",
        )
    })?;
    let built = serve(spec, device, record.clone(), waits, shell);
    if built.is_err() {
        keeper.remove(&record);
    }
    built
}

/// Takes over the block device `device` of an umpathd that died, and gives it queue threads. When
/// a step fails the device is left as it was.
pub(crate) fn recover(
    spec: &VolumeSpec,
    device: u32,
    cookie: u64,
    waits: Waits,
    shell: &mpsc::UnboundedSender<Message>,
) -> Result<Built, Failure> {
    let record = VolumeRecord::new(spec, device, cookie);
    let device: BlockDevice = Device::recover(device, spec.limits.clone())
        .map_err(|error| failed(spec, with_sources(&error), "the kernel log tells more"))?;
    serve(spec, device, record, waits, shell)
}

fn failed(spec: &VolumeSpec, why: String, fix: &str) -> Failure {
    Failure::new(
        format!("cannot make a block device for {} ({})", spec.name, spec.id),
        why,
        fix,
    )
}

/// Starts the queue threads.
fn serve(
    spec: &VolumeSpec,
    mut device: BlockDevice,
    record: VolumeRecord,
    waits: Waits,
    shell: &mpsc::UnboundedSender<Message>,
) -> Result<Built, Failure> {
    let info = *device.info();
    let mut arenas = Vec::new();
    let mut lanes = Vec::new();
    for queue in 0..info.queues {
        let arena =
            Arena::new(u32::from(info.depth), spec.limits.max_io_bytes).map_err(|error| {
                failed(
                    spec,
                    error.to_string(),
                    "lower queue_depth, io_queues or max_io_kib in umpath.toml",
                )
            })?;
        arenas.push(arena.clone());
        lanes.push(lane_setup(spec, waits, shell, queue, info.depth, arena));
    }
    let clock = Clock {
        origin: clock::origin(),
    };
    device
        .serve(lanes, clock)
        .map_err(|error| failed(spec, with_sources(&error), "the kernel log tells more"))?;
    Ok(Built {
        device,
        arenas,
        record,
    })
}

fn lane_setup(
    spec: &VolumeSpec,
    waits: Waits,
    shell: &mpsc::UnboundedSender<Message>,
    queue: u16,
    depth: u16,
    arena: Arc<Arena>,
) -> LaneSetup<Reports<HostQueue>> {
    let config = LaneConfig {
        id: LaneId(queue),
        tags: depth,
        buffer_bytes: spec.limits.max_io_bytes,
        lba_shift: spec.namespace.lba_shift,
    };
    let table = Arc::new(PathTable::empty(spec.namespace.lba_shift));
    let (volume, shell) = (spec.key(), shell.clone());
    let reports: Reports<HostQueue> = Box::new(move |report: LaneReport<HostQueue>| {
        let _ = shell.send(Message::Lane(volume, queue, Box::new(report)));
    });
    LaneSetup {
        lane: Lane::new(config, table, spec.shared.clone()),
        arena,
        reports,
        polling: Polling {
            at_most: waits.polling,
        },
        drain_deadline: waits.drain_deadline,
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        words = format!("{words}: {next}");
        cause = next.source();
    }
    words
}
