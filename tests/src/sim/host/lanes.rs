//! Queue threads: the engine that ships, one round at a time.
//!
//! A thread sleeps until something comes for it or the time it asked for is over; then it does
//! rounds until it wishes to sleep again. A thread that stands still finds what came meanwhile.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use umpath_core::{
    GhostTable, Lane, LaneCommand, LaneConfig, LaneId, OnNoPath, PathTable, VolumeShared,
};
use umpath_engine::{Channel, Event, LaneReport, LaneSetup, Polling, QueueThread};
use umpath_host::{LaneNews, Remains};

use super::front::{Front, Reports, Wish};
use super::{Brought, Did, Inside, SimQp, words};
use crate::sim::arenas;
use crate::sim::array::LBA_SHIFT;
use crate::sim::checker::Violation;
use crate::sim::clock::{MICRO, Nanos, duration, nanos};
use crate::sim::happening::Happening;
use crate::sim::plan::{Plan, REQUEST_BLOCKS};
use crate::sim::qp::{HostEnd, QpId};
use crate::sim::world::World;

/// Rounds in a row before the world looks at other things.
const ROUNDS_MAX: u32 = 4;
/// How long a round takes for a thread that goes on at once.
const ROUND: Nanos = 5 * MICRO;

/// Which queue thread: of a block device, by its place among all of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneAt {
    pub(crate) device: usize,
    pub(crate) queue: usize,
}

/// A queue thread.
pub(crate) struct LaneActor {
    thread: Option<QueueThread<Front, Reports>>,
    pub(crate) stalled_until: Nanos,
    /// When the last message in each direction arrives.
    pub(crate) inbox_at: Nanos,
    pub(crate) outbox_at: Nanos,
    round_at: Option<Nanos>,
    /// Rounds on the agenda. One that comes too early for a timer is put off then: a thread's timer moves with
    /// each answer, and the agenda would be full of rounds nobody waits for.
    rounds_set: Vec<Nanos>,
    /// Rounds in a row that wished not to sleep although nothing had come.
    restless: u32,
    /// Queue pairs it has.
    pub(crate) qps: Vec<QpId>,
    /// Its table lets nothing wait.
    pub(crate) fails: bool,
    /// A table that a mutant keeps back, and the ghosts it was told of.
    pub(crate) kept_back: Option<Arc<PathTable>>,
    pub(crate) ghosts: Option<Arc<GhostTable>>,
}

impl std::fmt::Debug for LaneActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneActor")
            .field("qps", &self.qps)
            .finish_non_exhaustive()
    }
}

impl LaneActor {
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_none()
    }
}

impl World {
    pub(super) fn new_lane(&self, queue: u16, shared: &Arc<VolumeShared>) -> LaneActor {
        let config = LaneConfig {
            id: LaneId(queue),
            tags: self.plan.tags,
            buffer_bytes: (REQUEST_BLOCKS as u32) << LBA_SHIFT,
            lba_shift: LBA_SHIFT,
        };
        let table = Arc::new(PathTable::empty(LBA_SHIFT));
        let setup = LaneSetup {
            lane: Lane::new(config, table, Arc::clone(shared)),
            arena: arenas::take(),
            reports: Reports(Rc::clone(&self.log)),
            polling: Polling {
                at_most: duration(self.plan.polling),
            },
            drain_deadline: self.seam_drain_deadline(),
        };
        LaneActor {
            thread: Some(QueueThread::new(Front::new(Rc::clone(&self.log)), setup)),
            stalled_until: 0,
            inbox_at: 0,
            outbox_at: 0,
            round_at: None,
            rounds_set: Vec::new(),
            restless: 0,
            qps: Vec::new(),
            fails: false,
            kept_back: None,
            ghosts: None,
        }
    }

    pub(crate) fn lane(&mut self, at: LaneAt) -> Option<&mut LaneActor> {
        self.devices.get_mut(at.device)?.lanes.get_mut(at.queue)
    }

    fn front(&mut self, at: LaneAt) -> Option<&mut Front> {
        Some(self.lane(at)?.thread.as_mut()?.frontend())
    }

    /// Something has come for a queue thread.
    pub(crate) fn arrive(&mut self, at: LaneAt, event: Event) {
        let Some(front) = self.front(at) else { return };
        front.arrived.push_back(event);
        let latency = self.fabric_chance.tail(MICRO, 20 * MICRO);
        self.round_by(at, self.now + latency);
    }

    fn round_by(&mut self, at: LaneAt, when: Nanos) {
        let life = self.host.life;
        let Some(lane) = self.lane(at) else { return };
        if lane.round_at.is_some_and(|known| known <= when) {
            return;
        }
        lane.round_at = Some(when);
        if lane.rounds_set.iter().all(|set| when < *set) {
            lane.rounds_set.push(when);
            let due = when;
            self.agenda.push(when, Happening::Round { life, at, due });
        }
    }

    /// Every tag of a device was taken away.
    pub(super) fn end_tags(&mut self, at: LaneAt) {
        if let Some(front) = self.front(at) {
            front.ended = true;
            self.arrive(at, Event::TagEnded);
        }
    }

    /// The ring of a queue thread breaks.
    pub(crate) fn break_ring(&mut self, at: LaneAt) {
        if let Some(front) = self.front(at) {
            front.broken = true;
            self.round_by(at, self.now);
        }
    }

    /// A queue pair has something for the thread that has it.
    pub(crate) fn ring_bell(&mut self, qp: QpId, channel: Channel) {
        let known = &self.qps[qp];
        let (Some(lane), Some(port)) = (known.lane, &known.port) else {
            return;
        };
        let Some(pair) = port.pair.get() else { return };
        if channel == Channel::Completions && !port.armed.replace(false) {
            return;
        }
        let watched = !self.fabric_chance.percent(5);
        let event = Event::QueuePair {
            pair,
            channel,
            watched,
        };
        self.arrive(lane, event);
    }

    /// A queue thread does rounds until it sleeps.
    pub(crate) fn round(&mut self, at: LaneAt, due: Nanos) {
        let now = self.now;
        let Some(lane) = self.lane(at) else { return };
        let Some(place) = lane.rounds_set.iter().position(|set| *set == due) else {
            return;
        };
        lane.rounds_set.swap_remove(place);
        let Some(wanted) = lane.round_at.take() else {
            return;
        };
        if wanted > now {
            return self.round_by(at, wanted);
        }
        for _ in 0..ROUNDS_MAX {
            let Some(lane) = self.lane(at) else { return };
            let Some(thread) = lane.thread.as_mut() else {
                return;
            };
            thread.frontend().now = duration(now);
            let news = !thread.frontend().arrived.is_empty();
            let outcome = thread.round(duration(now));
            let (wish, over) = (thread.frontend().wish, thread.is_over());
            self.did(at);
            if self.violation.is_some() {
                return;
            }
            if outcome.is_err() || over {
                return self.end_thread(at, outcome);
            }
            if let Wish::Sleep(at_most) = wish {
                return self.sleeps(at, at_most, news);
            }
        }
        self.round_by(at, now + ROUND);
    }

    fn sleeps(&mut self, at: LaneAt, at_most: Option<Duration>, news: bool) {
        let Some(lane) = self.lane(at) else { return };
        lane.restless = if at_most == Some(Duration::ZERO) && !news {
            lane.restless + 1
        } else {
            0
        };
        if lane.restless > 3 {
            let what = "(13) a queue thread waits for a time that is over".to_owned();
            return self.fail(Violation(what));
        }
        if let Some(at_most) = at_most {
            self.round_by(at, self.now + nanos(at_most));
        }
    }

    fn end_thread(&mut self, at: LaneAt, outcome: io::Result<()>) {
        let Some(lane) = self.lane(at) else { return };
        if let Some(thread) = lane.thread.take() {
            thread.end(outcome);
            self.did(at);
            self.thread_ended(at.device);
        }
    }

    /// What a queue thread did takes effect.
    fn did(&mut self, at: LaneAt) {
        if self.log.borrow().is_empty() {
            return;
        }
        let mut log = std::mem::take(&mut *self.log.borrow_mut());
        for did in log.drain(..) {
            match did {
                Did::Sent { qp, sqe, range } => self.lane_sends(at, qp, &sqe, range),
                Did::Reaped(copy) => self.reaped(at, copy),
                Did::Answered { tag, result } => self.answered(at, tag, result),
                Did::Drains(qp) => self.lane_drains(qp),
                Did::Reported(report) => self.lane_reports(at, report),
            }
            if self.violation.is_some() {
                break;
            }
        }
        log.clear();
        *self.log.borrow_mut() = log;
    }

    /// A thread's report is on its way to the host.
    fn lane_reports(&mut self, at: LaneAt, report: LaneReport<SimQp>) {
        let (news, queue_pairs) = LaneNews::from_report(report);
        let mut brought = Brought::new();
        for (association, transport) in queue_pairs {
            self.forget_qp(at, transport.id);
            brought.push((association, 0, transport.id));
        }
        if let LaneNews::BufferFenced {
            association,
            ghosts,
            ..
        } = &news
        {
            self.note(|| format!("{at} left {} ghosts on {association}", ghosts.len()));
            self.lost_with(at, *association);
            self.judge_buffer_fence(at, *association);
        }
        for (news, brought) in self.seam_from_lane(at, news, brought) {
            self.send_news(at, news, brought);
        }
    }

    pub(crate) fn send_news(&mut self, at: LaneAt, news: LaneNews, brought: Brought) {
        let delay = self.fabric_chance.tail(MICRO, self.plan.message_delay);
        let (now, life) = (self.now, self.host.life);
        let Some(lane) = self.lane(at) else { return };
        lane.outbox_at = lane.outbox_at.max(now + delay);
        let when = lane.outbox_at;
        self.inside(when, life, Inside::FromLane(at, Box::new(news), brought));
    }

    fn forget_qp(&mut self, at: LaneAt, qp: QpId) {
        if let Some(lane) = self.lane(at) {
            lane.qps.retain(|known| *known != qp);
        }
    }

    /// Sends a message to a queue thread.
    pub(crate) fn send_command(&mut self, at: LaneAt, command: LaneCommand<SimQp>) {
        let delay = self.fabric_chance.tail(MICRO, self.plan.message_delay);
        let (now, life) = (self.now, self.host.life);
        let Some(lane) = self.lane(at) else { return };
        lane.inbox_at = lane.inbox_at.max(now + delay);
        let when = lane.inbox_at;
        self.inside(when, life, Inside::ToLane(at, Box::new(command)));
    }

    /// A queue thread's message reaches the host.
    pub(crate) fn news_arrives(&mut self, at: LaneAt, news: LaneNews, brought: Brought) {
        let volume = self.devices[at.device].volume;
        let queue = at.queue as u16;
        for (association, _, qp) in brought {
            let key = (association, Remains::Lane(volume, queue));
            self.host.handed_back.insert(key, qp);
        }
        self.note(|| format!("{at} tells {}", words::of_news(&news)));
        self.tell_host(|host, now| host.handle_lane(volume, queue, news, now));
    }

    /// A message reaches a queue thread's mailbox.
    pub(crate) fn mail(&mut self, at: LaneAt, command: LaneCommand<SimQp>) {
        self.note(|| format!("{at}: told {}", words::of_command(&command)));
        let Some(lane) = self.lane(at) else { return };
        if let LaneCommand::SetTable(table) = &command {
            lane.fails = table.on_no_path == OnNoPath::Fail && !table.has_usable();
        }
        let fails = lane.fails || matches!(command, LaneCommand::FailQueued | LaneCommand::Close);
        if let LaneCommand::Attach { transport, .. } = &command {
            lane.qps.push(transport.id);
        }
        if fails {
            self.doom(at);
        }
        if let Some(front) = self.front(at) {
            front.mail.push_back(command);
            self.arrive(at, Event::Mail);
        } else if let LaneCommand::Attach { transport, .. } = command {
            // The thread has ended: what it was to have goes.
            self.silence(transport.id);
            self.qps[transport.id].host = HostEnd::Drained;
        }
    }
}

impl Plan {
    /// Largest request of the block layer.
    pub(crate) fn max_io_bytes() -> u32 {
        (REQUEST_BLOCKS as u32) << LBA_SHIFT
    }
}

impl std::fmt::Display for LaneAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lane {}.{}", self.device, self.queue)
    }
}
