//! Making a volume's block device and queue threads. Everything here blocks, so it runs elsewhere.

use std::sync::Arc;

use tokio::sync::mpsc;
use umpath_core::{Lane, LaneConfig, LaneId, PathTable, VolumeShared};
use umpath_protocol::Failure;
use umpath_rdma::{Arena, HostQueue};
use umpath_ublk::{Clock, Device, DeviceSpec, LaneReport, LaneSetup, Polling};

use super::VolumeSpec;
use crate::clock;
use crate::hub::Message;

/// The block device of a volume.
pub(crate) type BlockDevice = Device<HostQueue>;

/// A block device nobody sees yet, and its queue threads.
pub(crate) struct Built {
    pub(crate) device: BlockDevice,
    /// Memory of each queue thread.
    pub(crate) arenas: Vec<Arc<Arena>>,
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built")
            .field("device", self.device.info())
            .finish_non_exhaustive()
    }
}

/// Makes both. When a step fails nothing is left behind.
pub(crate) fn build(
    spec: &VolumeSpec,
    shared: &Arc<VolumeShared>,
    hub: &mpsc::UnboundedSender<Message>,
) -> Result<Built, Failure> {
    let failed = |why: String, fix: &str| {
        Failure::new(
            format!("cannot make a block device for {} ({})", spec.name, spec.id),
            why,
            fix,
        )
    };
    let wish = DeviceSpec {
        id: None,
        queues: spec.queues,
        depth: spec.depth,
        limits: spec.limits.clone(),
    };
    let mut device: BlockDevice = Device::create(&wish).map_err(|error| {
        failed(
            with_sources(&error),
            "check `modprobe ublk_drv`, the kernel log and umpath.toml",
        )
    })?;
    let info = *device.info();
    let mut arenas = Vec::new();
    let mut lanes = Vec::new();
    for queue in 0..info.queues {
        let arena =
            Arena::new(u32::from(info.depth), spec.limits.max_io_bytes).map_err(|error| {
                failed(
                    error.to_string(),
                    "lower queue_depth, io_queues or max_io_kib in umpath.toml",
                )
            })?;
        arenas.push(arena.clone());
        lanes.push(lane_setup(spec, shared, hub, queue, info.depth, arena));
    }
    device
        .serve(lanes)
        .map_err(|error| failed(with_sources(&error), "the kernel log tells more"))?;
    Ok(Built { device, arenas })
}

fn lane_setup(
    spec: &VolumeSpec,
    shared: &Arc<VolumeShared>,
    hub: &mpsc::UnboundedSender<Message>,
    queue: u16,
    depth: u16,
    arena: Arc<Arena>,
) -> LaneSetup<HostQueue> {
    let config = LaneConfig {
        id: LaneId(queue),
        tags: depth,
        buffer_bytes: spec.limits.max_io_bytes,
        lba_shift: spec.namespace.lba_shift,
    };
    let table = Arc::new(PathTable::empty(spec.namespace.lba_shift));
    let (id, hub) = (spec.id, hub.clone());
    let reports = Box::new(move |queue: u16, report: LaneReport<HostQueue>| {
        let _ = hub.send(Message::Lane(id, queue, Box::new(report)));
    });
    LaneSetup {
        lane: Lane::new(config, table, shared.clone()),
        arena,
        reports,
        polling: Polling {
            at_most: spec.polling,
        },
        clock: Clock {
            origin: clock::origin(),
        },
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
