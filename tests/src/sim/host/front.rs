//! The block layer's side of a queue thread, played: [`Frontend`] and [`LaneReports`].

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use umpath_core::{BlockError, LaneCommand, Tag};
use umpath_engine::{Channel, Event, Frontend, LaneReport, LaneReports, QueuePairId};

use super::port::{Did, Log, Port, SimQp};

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The next one begins at once.
    GoOn,
    /// The next one begins when something comes, or after so long.
    Sleep(Option<Duration>),
}

/// What one queue thread sees of the world.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) now: Duration,
    pub(crate) arrived: VecDeque<Event>,
    pub(crate) mail: VecDeque<LaneCommand<SimQp>>,
    pub(crate) wish: Wish,
    /// Every tag was taken away.
    pub(crate) ended: bool,
    /// Its ring is broken.
    pub(crate) broken: bool,
    log: Log,
    watched: Vec<(QueuePairId, Rc<Port>)>,
}

impl Front {
    pub(crate) fn new(log: Log) -> Self {
        Self {
            now: Duration::ZERO,
            arrived: VecDeque::new(),
            mail: VecDeque::new(),
            wish: Wish::GoOn,
            ended: false,
            broken: false,
            log,
            watched: Vec::new(),
        }
    }

    fn outcome(&self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the ring is broken"));
        }
        Ok(())
    }
}

impl Frontend for Front {
    type Transport = SimQp;

    fn now(&self) -> Duration {
        self.now
    }

    fn next(&mut self) -> Option<Event> {
        self.arrived.pop_front()
    }

    fn next_command(&mut self) -> Option<LaneCommand<SimQp>> {
        self.mail.pop_front()
    }

    fn answer(&mut self, tag: Tag, result: Result<u32, BlockError>) {
        let tag = tag.0;
        self.log.borrow_mut().push(Did::Answered { tag, result });
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wish = Wish::GoOn;
        self.outcome()
    }

    fn sleep(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.wish = Wish::Sleep(at_most);
        self.outcome()
    }

    fn ended(&self) -> bool {
        self.ended
    }

    fn anomalies(&self) -> u64 {
        0
    }

    fn watch(&mut self, pair: QueuePairId, channel: Channel, transport: &SimQp) {
        if channel == Channel::Completions {
            transport.port.pair.set(Some(pair));
            self.watched.push((pair, Rc::clone(&transport.port)));
        } else if transport.port.disconnected.get() {
            // It broke before anybody watched: what is readable wakes at once.
            let watched = true;
            let event = Event::QueuePair {
                pair,
                channel,
                watched,
            };
            self.arrived.push_back(event);
        }
    }

    fn unwatch(&mut self, pair: QueuePairId) {
        self.watched.retain(|(known, port)| {
            if *known == pair {
                port.pair.set(None);
            }
            *known != pair
        });
    }
}

/// Takes a thread's reports.
#[derive(Debug)]
pub(crate) struct Reports(pub(crate) Log);

impl LaneReports<SimQp> for Reports {
    fn report(&mut self, report: LaneReport<SimQp>) {
        self.0.borrow_mut().push(Did::Reported(report));
    }
}
