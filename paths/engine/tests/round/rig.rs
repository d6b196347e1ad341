//! A queue thread on one page: a front end, queue pairs and a clock that do what a test says.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use umpath_core::policies::SelectorConfig;
use umpath_core::{
    AssociationId, BlockError, BlockRequest, CommandLimits, GroupEntry, Lane, LaneCommand,
    LaneConfig, LaneId, OnNoPath, Op, PathEntry, PathId, PathTable, Steering, Tag, VolumeShared,
};
use umpath_engine::{
    Channel, Event, Frontend, LaneReport, LaneReports, LaneSetup, Polling, QueuePairId, QueueThread,
};
use umpath_nvme::{Cqe, Sqe, Status};
use umpath_transport::{Arena, Data, Drain, Loss, PushError, Silence, Transport};

pub(crate) const SHIFT: u8 = 12;
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_millis(500);
const TAGS: u16 = 4;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A queue pair that hands its commands to the test and takes answers from it.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) pushed: Vec<Sqe>,
    pub(crate) rung: Vec<Sqe>,
    pub(crate) answers: VecDeque<Cqe>,
    pub(crate) failure: Option<io::ErrorKind>,
    pub(crate) gone: bool,
    /// Its device does not confirm that it sends nothing.
    pub(crate) stuck: bool,
    pub(crate) armed: bool,
    /// When it gives up draining, once it does.
    pub(crate) deadline: Option<Duration>,
    /// The device has confirmed that it let go of memory.
    pub(crate) flushed: bool,
    /// Nothing arrives at the other end.
    pub(crate) cut_off: bool,
    in_flight: usize,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self {
            pushed: Vec::new(),
            rung: Vec::new(),
            answers: VecDeque::new(),
            failure: None,
            gone: false,
            stuck: false,
            armed: false,
            deadline: None,
            flushed: false,
            cut_off: false,
            in_flight: 0,
        }
    }

    /// Answers every command sent so far.
    pub(crate) fn answer_all(&mut self, status: Status) {
        let answer = |sqe: Sqe| Cqe::new(sqe.cid.get(), 0, status, 0);
        self.answers.extend(self.rung.drain(..).map(answer));
    }
}

impl Transport for Pair {
    type Error = io::Error;

    fn depth(&self) -> u16 {
        8
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn has_arrived(&self, _: u16) -> bool {
        !self.cut_off
    }

    fn push(&mut self, sqe: Sqe, _: Data<'_>) -> Result<(), PushError> {
        if self.deadline.is_some() {
            return Err(PushError::Closed);
        }
        self.in_flight += 1;
        self.pushed.push(sqe);
        Ok(())
    }

    fn ring(&mut self) -> io::Result<()> {
        self.rung.append(&mut self.pushed);
        Ok(())
    }

    fn poll(&mut self, mut report: impl FnMut(Cqe)) -> io::Result<usize> {
        let count = self.answers.len();
        for cqe in self.answers.drain(..) {
            self.in_flight -= 1;
            report(cqe);
        }
        self.failure.map_or(Ok(count), |kind| Err(kind.into()))
    }

    fn arm(&mut self) -> io::Result<()> {
        self.armed = true;
        Ok(())
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.armed = false;
        Ok(())
    }

    fn loss(&mut self) -> Option<Loss<io::Error>> {
        self.gone.then_some(Loss::Disconnected)
    }

    fn begin_drain(&mut self, deadline: Duration) -> Silence {
        self.deadline = Some(deadline);
        if self.stuck {
            Silence::Unproved
        } else {
            Silence::Proved
        }
    }

    fn poll_drained(&mut self, now: Duration, report: impl FnMut(Cqe)) -> Drain {
        let _ = self.poll(report);
        match self.deadline {
            _ if self.flushed => Drain::Quiet,
            Some(deadline) if now >= deadline => Drain::DeadlinePassed,
            _ => Drain::Pending,
        }
    }
}

/// How a round ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Wish {
    /// The next one may begin at once.
    #[default]
    GoOn,
    /// The next one begins when something comes, or after so long.
    Sleep(Option<Duration>),
}

/// A block layer of one page.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) now: Duration,
    pub(crate) arrived: VecDeque<Event>,
    pub(crate) mail: VecDeque<LaneCommand<Pair>>,
    pub(crate) answers: Vec<(u16, Result<u32, BlockError>)>,
    /// What the thread last wished.
    pub(crate) wish: Wish,
    pub(crate) watched: Vec<(QueuePairId, Channel)>,
}

impl Frontend for Page {
    type Transport = Pair;

    fn now(&self) -> Duration {
        self.now
    }

    fn next(&mut self) -> Option<Event> {
        self.arrived.pop_front()
    }

    fn next_command(&mut self) -> Option<LaneCommand<Pair>> {
        self.mail.pop_front()
    }

    fn answer(&mut self, tag: Tag, result: Result<u32, BlockError>) {
        self.answers.push((tag.0, result));
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wish = Wish::GoOn;
        Ok(())
    }

    fn sleep(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.wish = Wish::Sleep(at_most);
        Ok(())
    }

    fn ended(&self) -> bool {
        false
    }

    fn anomalies(&self) -> u64 {
        0
    }

    fn watch(&mut self, pair: QueuePairId, channel: Channel, _: &Pair) {
        self.watched.push((pair, channel));
    }

    fn unwatch(&mut self, pair: QueuePairId) {
        self.watched.retain(|(known, _)| *known != pair);
    }
}

/// Keeps what a thread reports.
#[derive(Clone, Default)]
pub(crate) struct Reported(Rc<RefCell<Vec<LaneReport<Pair>>>>);

impl LaneReports<Pair> for Reported {
    fn report(&mut self, report: LaneReport<Pair>) {
        self.0.borrow_mut().push(report);
    }
}

/// A queue thread with two paths: path `n` has association `n`, the lower one carries the I/O.
pub(crate) struct Rig {
    pub(crate) thread: QueueThread<Page, Reported>,
    reported: Reported,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let config = LaneConfig {
            id: LaneId(0),
            tags: TAGS,
            buffer_bytes: 16 << SHIFT,
            lba_shift: SHIFT,
        };
        let reported = Reported::default();
        let table = Arc::new(PathTable::empty(SHIFT));
        let setup = LaneSetup {
            lane: Lane::new(config, table, Arc::new(VolumeShared::new())),
            arena: Arena::new(TAGS.into(), config.buffer_bytes).expect("memory"),
            reports: reported.clone(),
            polling: Polling {
                at_most: Duration::ZERO,
            },
            drain_deadline: DRAIN_DEADLINE,
        };
        let mut rig = Self {
            thread: QueueThread::new(Page::default(), setup),
            reported,
        };
        for number in 0..2 {
            rig.command(LaneCommand::Attach {
                path: PathId(number),
                association: AssociationId(number.into()),
                transport: Pair::new(),
            });
        }
        rig.command(LaneCommand::SetTable(both()));
        rig.rest(ms(0));
        rig
    }

    pub(crate) fn command(&mut self, command: LaneCommand<Pair>) {
        self.thread.frontend().mail.push_back(command);
        self.thread.frontend().arrived.push_back(Event::Mail);
    }

    pub(crate) fn submit(&mut self, tag: u16, op: Op, blocks: u32) {
        let request = BlockRequest {
            tag: Tag(tag),
            op,
            lba: 8,
            blocks,
            fua: false,
            no_unmap: false,
        };
        self.thread
            .frontend()
            .arrived
            .push_back(Event::Request(request));
    }

    /// One round at this time; what it wished in the end.
    pub(crate) fn round(&mut self, now: Duration) -> Wish {
        self.thread.frontend().now = now;
        self.thread.round(now).expect("a round");
        self.thread.frontend().wish
    }

    /// Rounds at this time until the thread would sleep; for how long at most.
    pub(crate) fn rest(&mut self, now: Duration) -> Option<Duration> {
        (0..10)
            .find_map(|_| match self.round(now) {
                Wish::Sleep(at_most) => Some(at_most),
                Wish::GoOn => None,
            })
            .expect("a thread that comes to rest")
    }

    pub(crate) fn pair(&mut self, association: u64) -> &mut Pair {
        self.thread
            .transport(AssociationId(association))
            .expect("a queue pair")
    }

    /// What was answered since the last call.
    pub(crate) fn answers(&mut self) -> Vec<(u16, Result<u32, BlockError>)> {
        std::mem::take(&mut self.thread.frontend().answers)
    }

    /// Ends the thread; its last reports.
    pub(crate) fn end(self) -> Vec<LaneReport<Pair>> {
        self.thread.end(Ok(()));
        self.reported.0.take()
    }

    /// What was reported since the last call.
    pub(crate) fn reports(&mut self) -> Vec<LaneReport<Pair>> {
        std::mem::take(&mut *self.reported.0.borrow_mut())
    }
}

fn both() -> Arc<PathTable> {
    let entry = |number: u8| PathEntry {
        path: PathId(number),
        association: AssociationId(number.into()),
        usable: true,
        nsid: 1,
        limits: CommandLimits::default(),
        priority: 50 - i32::from(number),
        ana: None,
        ana_epoch: 1,
        steering: Steering::default(),
    };
    let group = |at: u8| GroupEntry {
        paths: vec![at],
        priority: 1,
    };
    Arc::new(PathTable {
        generation: 1,
        lba_shift: SHIFT,
        paths: vec![entry(0), entry(1)],
        groups: vec![group(0), group(1)],
        active: Some(0),
        on_no_path: OnNoPath::Queue,
        selector: SelectorConfig::default(),
    })
}
