//! A lane without a host: hand-made tables, and what comes out.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::policies::SelectorConfig;
use umpath_core::{
    Action, AssociationId, BlockError, BlockRequest, CommandLimits, Ghost, GhostTable, GroupEntry,
    Lane, LaneConfig, LaneEvent, LaneId, OnNoPath, Op, Owner, PathEntry, PathId, PathTable, Resend,
    SendCommand, Tag, VolumeShared,
};
use umpath_nvme::{Cqe, Status};

pub(crate) const SHIFT: u8 = 12;
pub(crate) const BLOCK: u32 = 1 << SHIFT;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn limits() -> CommandLimits {
    CommandLimits {
        transfer_bytes_max: 4 * BLOCK,
        write_zeroes_blocks_max: 100,
        write_zeroes_deallocate: true,
        discard_blocks_max: 1_000,
        retry_delays: [ms(300), ms(0), ms(0)],
    }
}

/// Path `n` has association `n` and is in group `n`.
pub(crate) fn table(paths: &[u8], limits: CommandLimits, on_no_path: OnNoPath) -> Arc<PathTable> {
    let entry = |number: &u8| PathEntry {
        path: PathId(*number),
        association: AssociationId(u64::from(*number)),
        usable: true,
        nsid: 7,
        limits,
        priority: 50 - i32::from(*number),
        ana: None,
        ana_epoch: 1,
        steering: umpath_core::Steering::default(),
    };
    Arc::new(PathTable {
        generation: 1,
        lba_shift: SHIFT,
        paths: paths.iter().map(entry).collect(),
        groups: (0..paths.len() as u8)
            .map(|at| GroupEntry {
                paths: vec![at],
                priority: 1,
            })
            .collect(),
        active: (!paths.is_empty()).then_some(0),
        on_no_path,
        selector: SelectorConfig::default(),
    })
}

pub(crate) fn lane(id: u16, shared: &Arc<VolumeShared>) -> Lane {
    let config = LaneConfig {
        id: LaneId(id),
        tags: 16,
        buffer_bytes: 256 * BLOCK,
        lba_shift: SHIFT,
    };
    let mut lane = Lane::new(
        config,
        Arc::new(PathTable::empty(SHIFT)),
        Arc::clone(shared),
    );
    for path in 0..2 {
        attach(&mut lane, path, path.into(), ms(0));
    }
    lane
}

/// Gives the lane a queue pair of an association on a path.
pub(crate) fn attach(lane: &mut Lane, path: u8, association: u64, now: Duration) {
    let taken = lane.attach(PathId(path), AssociationId(association), 32, now);
    taken.expect("room for it");
}

/// A lane with path 0 active and path 1 as standby.
pub(crate) fn two_paths() -> Lane {
    let mut lane = lane(0, &Arc::new(VolumeShared::new()));
    lane.set_table(table(&[0, 1], limits(), OnNoPath::Queue), ms(0));
    lane
}

pub(crate) fn request(tag: u16, op: Op, lba: u64, blocks: u32) -> BlockRequest {
    BlockRequest {
        tag: Tag(tag),
        op,
        lba,
        blocks,
        fua: false,
        no_unmap: false,
    }
}

pub(crate) type Completion = (u16, Result<(), BlockError>);

pub(crate) fn actions(lane: &mut Lane) -> (Vec<SendCommand>, Vec<Completion>) {
    let (mut sends, mut completions) = (Vec::new(), Vec::new());
    while let Some(action) = lane.poll_action() {
        match action {
            Action::Send(send) => sends.push(send),
            Action::Complete { tag, result } => completions.push((tag.0, result)),
        }
    }
    (sends, completions)
}

pub(crate) fn sends(lane: &mut Lane) -> Vec<SendCommand> {
    let (sends, completions) = actions(lane);
    assert_eq!(completions, []);
    sends
}

pub(crate) fn only_send(lane: &mut Lane) -> SendCommand {
    let mut sends = sends(lane);
    assert_eq!(sends.len(), 1, "{sends:?}");
    sends.remove(0)
}

pub(crate) fn completions(lane: &mut Lane) -> Vec<Completion> {
    let (sends, completions) = actions(lane);
    assert_eq!(sends, []);
    completions
}

pub(crate) fn events(lane: &mut Lane) -> Vec<LaneEvent> {
    std::iter::from_fn(|| lane.poll_event()).collect()
}

pub(crate) fn submit(lane: &mut Lane, request: BlockRequest, now: Duration) {
    lane.submit(request, now)
        .expect("a request that makes sense");
}

pub(crate) fn answer(lane: &mut Lane, send: &SendCommand, status: Status, now: Duration) {
    let cqe = Cqe::new(send.sqe.cid.get(), 0, status, 0);
    lane.complete(send.path, send.association, &cqe, now);
}

/// The table with these ghosts.
pub(crate) fn locks(generation: u64, ghosts: &[Ghost]) -> Arc<GhostTable> {
    let ghosts = ghosts.iter().copied();
    Arc::new(GhostTable::new(generation, Resend::OnceGuarded, ghosts))
}

pub(crate) fn extents(ghosts: &[Ghost]) -> Vec<(u64, u64)> {
    ghosts.iter().map(|g| (g.lba, g.blocks)).collect()
}

pub(crate) fn guarded(generation: u64) -> LaneEvent {
    LaneEvent::Guarded { generation }
}

/// Another lane's ghost.
pub(crate) fn ghost(association: u64, lba: u64, blocks: u64) -> Ghost {
    Ghost {
        owner: Some(Owner {
            lane: LaneId(99),
            birth: lba,
        }),
        association: AssociationId(association),
        lba,
        blocks,
    }
}
