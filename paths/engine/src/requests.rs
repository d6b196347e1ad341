//! The requests the block layer waits for, and what they add to the thread's counters.

use std::time::Duration;

use umpath_core::{BlockError, BlockRequest, Op, QueueStats, Tag};

/// A request the block layer waits for.
#[derive(Clone, Copy)]
struct Pending {
    request: BlockRequest,
    since: Duration,
}

/// One place for each tag.
pub(crate) struct Requests {
    pending: Box<[Option<Pending>]>,
    lba_shift: u8,
    pub(crate) stats: QueueStats,
}

impl Requests {
    pub(crate) fn new(tags: u16, lba_shift: u8) -> Self {
        Self {
            pending: vec![None; usize::from(tags)].into(),
            lba_shift,
            stats: QueueStats::default(),
        }
    }

    /// A request arrived.
    pub(crate) fn accept(&mut self, request: BlockRequest, now: Duration) {
        match request.op {
            Op::Read => self.stats.reads += 1,
            Op::Write => self.stats.writes += 1,
            Op::Flush => self.stats.flushes += 1,
            Op::Discard | Op::WriteZeroes => self.stats.clears += 1,
        }
        let pending = Pending {
            request,
            since: now,
        };
        let before = self.place(request.tag).replace(pending);
        assert!(
            before.is_none(),
            "{request:?} came before the tag's last one was answered"
        );
    }

    /// A request is over. What the block layer is told: bytes of data moved, or why not.
    pub(crate) fn answer(
        &mut self,
        tag: Tag,
        result: Result<(), BlockError>,
        now: Duration,
    ) -> Result<u32, BlockError> {
        let pending = self.place(tag).take();
        let pending = pending.unwrap_or_else(|| panic!("{tag:?} is answered without a request"));
        self.stats.answered(now.saturating_sub(pending.since), now);
        if let Err(error) = result {
            return self.refuse(error);
        }
        let bytes = pending.request.blocks << self.lba_shift;
        match pending.request.op {
            Op::Read => self.stats.read_bytes += u64::from(bytes),
            Op::Write => self.stats.written_bytes += u64::from(bytes),
            Op::Flush | Op::Discard | Op::WriteZeroes => return Ok(0),
        }
        Ok(bytes)
    }

    fn place(&mut self, tag: Tag) -> &mut Option<Pending> {
        let place = self.pending.get_mut(usize::from(tag.0));
        place.unwrap_or_else(|| panic!("{tag:?} is beyond the lane's tags"))
    }

    /// A request fails.
    pub(crate) fn refuse(&mut self, error: BlockError) -> Result<u32, BlockError> {
        self.stats.errors += 1;
        Err(error)
    }

    /// The counters, with what is measured from one snapshot to the next.
    pub(crate) fn snapshot(&mut self, now: Duration) -> QueueStats {
        let waiting = self.pending.iter().flatten();
        let oldest = waiting.clone().map(|pending| pending.since).min();
        let stats = QueueStats {
            in_flight: waiting.count() as u32,
            oldest_waiting: oldest.map_or(Duration::ZERO, |since| now.saturating_sub(since)),
            ..self.stats
        };
        self.stats.longest = Duration::ZERO;
        stats
    }
}
