//! Drives a session against the model in virtual time, and holds it to its contract at every step.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::command::Identify;
use umpath_nvme::identify::cns;
use umpath_nvme::opcode::admin;
use umpath_nvme::{AsyncEvent, Cqe, Sqe, Status};
use umpath_session::{
    ADMIN_DEPTH, AdminData, Controller, DATA_MAX, Discovery, Event, Ready, SessionConfig,
    SessionError, SessionOutput, TransportSource,
};

use crate::model::{Model, host, subsystem};

/// How to break something, and what is expected of that.
pub(crate) type Case<T, W> = (fn(&mut T), W);

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What `Controller` and `Discovery` have in common.
pub(crate) trait Session {
    fn poll_output(&mut self) -> Option<SessionOutput>;
    fn poll_timeout(&self) -> Option<Duration>;
    fn handle_timeout(&mut self, now: Duration);
    fn handle_queue_connected(&mut self, qid: u16, now: Duration);
    fn handle_queue_failed(&mut self, qid: u16, source: TransportSource);
    fn handle_response(&mut self, qid: u16, cqe: &Cqe, data: &[u8], now: Duration);
    fn shutdown(&mut self, now: Duration);
}

macro_rules! session {
    ($($type:ty),+) => {$(
        impl Session for $type {
            fn poll_output(&mut self) -> Option<SessionOutput> {
                self.poll_output()
            }
            fn poll_timeout(&self) -> Option<Duration> {
                self.poll_timeout()
            }
            fn handle_timeout(&mut self, now: Duration) {
                self.handle_timeout(now);
            }
            fn handle_queue_connected(&mut self, qid: u16, now: Duration) {
                self.handle_queue_connected(qid, now);
            }
            fn handle_queue_failed(&mut self, qid: u16, source: TransportSource) {
                self.handle_queue_failed(qid, source);
            }
            fn handle_response(&mut self, qid: u16, cqe: &Cqe, data: &[u8], now: Duration) {
                self.handle_response(qid, cqe, data, now);
            }
            fn shutdown(&mut self, now: Duration) {
                self.shutdown(now);
            }
        }
    )+};
}

session!(Controller, Discovery);

/// The transport's error of these tests.
#[derive(Debug, thiserror::Error)]
#[error("cable pulled")]
pub(crate) struct CablePulled;

/// What happens to one exchange (an order to open a queue, or a command and its answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The queue is lost instead.
    Lose,
    /// No answer; `Rig::held` keeps it.
    Silence,
    /// This status instead of the answer.
    Status(Status),
    /// The answer names another command.
    WrongCommand,
    /// The answer's data ends early.
    Short,
    /// The answer's data and result are all ones.
    Ones,
}

pub(crate) struct Rig<S> {
    pub(crate) session: S,
    pub(crate) model: Model,
    pub(crate) now: Duration,
    pub(crate) opened: Vec<(u16, u16, u16)>,
    /// Queues the transport opens or has.
    pub(crate) open: BTreeSet<u16>,
    pub(crate) sent: Vec<(u16, Sqe)>,
    pub(crate) events: VecDeque<Event>,
    /// Faults by number of the exchange.
    pub(crate) faults: HashMap<usize, Fault>,
    pub(crate) exchanges: usize,
    pub(crate) closed: bool,
    /// The final event came.
    pub(crate) over: bool,
    /// Answers that a fault withheld.
    pub(crate) held: Vec<(u16, Cqe, Vec<u8>)>,
    /// Outstanding commands: queue and command identifier, whether with data.
    outstanding: HashMap<(u16, u16), bool>,
}

pub(crate) fn config() -> SessionConfig {
    SessionConfig {
        io_queues: 3,
        ..SessionConfig::new(host(), [9; 16], subsystem())
    }
}

pub(crate) fn controller(model: Model) -> Rig<Controller> {
    controller_with(model, config())
}

pub(crate) fn controller_with(model: Model, config: SessionConfig) -> Rig<Controller> {
    let now = Duration::from_secs(1000);
    Rig::new(Controller::new(config, now).unwrap(), model, now)
}

impl<S: Session> Rig<S> {
    pub(crate) fn new(session: S, model: Model, now: Duration) -> Self {
        Self {
            session,
            model,
            now,
            opened: Vec::new(),
            open: BTreeSet::new(),
            sent: Vec::new(),
            events: VecDeque::new(),
            faults: HashMap::new(),
            exchanges: 0,
            closed: false,
            over: false,
            held: Vec::new(),
            outstanding: HashMap::new(),
        }
    }

    /// Obeys every order until there is none.
    pub(crate) fn settle(&mut self) {
        while let Some(output) = self.session.poll_output() {
            assert!(!self.over, "{output:?} after the final event");
            match output {
                SessionOutput::OpenQueue { qid, cntlid, depth } => {
                    assert!(!self.closed);
                    assert!(self.open.insert(qid), "queue {qid} is there already");
                    self.opened.push((qid, cntlid, depth));
                    self.open(qid);
                }
                SessionOutput::Send { qid, sqe, data } => {
                    assert!(!self.closed);
                    self.sent.push((qid, sqe));
                    self.exchange(qid, &sqe, &data);
                }
                SessionOutput::CloseQueue { qid } => {
                    assert!(!self.closed);
                    assert!(self.open.remove(&qid), "queue {qid} is not there");
                    let mut outstanding = self.outstanding.keys();
                    let sent = outstanding.any(|(queue, _)| *queue == qid);
                    assert!(!sent, "the controller may still hold queue {qid}");
                }
                SessionOutput::CloseAll => {
                    assert!(!self.closed);
                    self.closed = true;
                }
                SessionOutput::Event(event) => {
                    let last = matches!(event, Event::Failed(_) | Event::Closed { .. });
                    assert_eq!(last, self.closed, "{event:?}");
                    self.over |= last;
                    self.events.push_back(event);
                }
            }
        }
    }

    fn fault(&mut self) -> Option<Fault> {
        self.exchanges += 1;
        self.faults.get(&(self.exchanges - 1)).copied()
    }

    fn open(&mut self, qid: u16) {
        match self.fault() {
            None => self.session.handle_queue_connected(qid, self.now),
            Some(Fault::Silence) => {}
            Some(_) => {
                self.open.remove(&qid);
                self.session.handle_queue_failed(qid, Arc::new(CablePulled));
            }
        }
    }

    fn exchange(&mut self, qid: u16, sqe: &Sqe, data: &AdminData) {
        let cid = sqe.cid.get();
        let (bytes, room) = match data {
            AdminData::None => (&[][..], 0),
            AdminData::ToController(bytes) => (&bytes[..], 0),
            AdminData::FromController(room) => (&[][..], *room as usize),
        };
        assert!(bytes.len() <= DATA_MAX && room <= DATA_MAX);
        self.outstand(qid, cid, *data != AdminData::None);
        let Some((mut cqe, mut answer)) = self.model.answer(qid, sqe, bytes) else {
            return;
        };
        assert!(answer.len() <= room, "{} bytes for {room}", answer.len());
        match self.fault() {
            None => {}
            Some(Fault::Lose) => {
                return self.session.handle_queue_failed(qid, Arc::new(CablePulled));
            }
            Some(Fault::Silence) => {
                self.held.push((qid, cqe, answer));
                return;
            }
            Some(Fault::Status(status)) => {
                cqe = Cqe::new(cid, 0, status, 0);
                answer.clear();
            }
            Some(Fault::WrongCommand) => cqe.cid.set(cid ^ 0x40),
            Some(Fault::Short) => answer.truncate(answer.len() / 2),
            Some(Fault::Ones) => {
                cqe.result.set(u64::MAX);
                answer.fill(0xff);
            }
        }
        self.outstanding.remove(&(qid, cid));
        self.session.handle_response(qid, &cqe, &answer, self.now);
        let listed =
            sqe.opcode == admin::IDENTIFY && Identify::parse(sqe).cns == cns::ACTIVE_NAMESPACES;
        if let Some(event) = self.model.raise_at_list.take_if(|_| listed) {
            self.raise(event);
        }
    }

    /// Delivers the last answer that a fault withheld.
    pub(crate) fn release(&mut self) {
        let (qid, cqe, data) = self.held.pop().expect("an answer was withheld");
        self.outstanding.remove(&(qid, cqe.cid.get()));
        self.session.handle_response(qid, &cqe, &data, self.now);
        self.settle();
    }

    fn outstand(&mut self, qid: u16, cid: u16, with_data: bool) {
        let slot = cid % ADMIN_DEPTH;
        for (&(other_qid, other), &other_data) in &self.outstanding {
            if other_qid == qid {
                assert_ne!(other % ADMIN_DEPTH, slot, "slot taken");
                assert!(!(with_data && other_data), "two commands with data");
            }
        }
        self.outstanding.insert((qid, cid), with_data);
        assert!(self.outstanding.len() < usize::from(ADMIN_DEPTH));
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            assert!(!self.over, "a timer after the final event");
            self.now = at.max(self.now);
            self.session.handle_timeout(self.now);
            self.check_timeout();
            self.settle();
        }
        self.now = end;
    }

    /// What was due has been dealt with: a timeout in the past would make the host spin.
    fn check_timeout(&self) {
        let due = self.session.poll_timeout();
        let now = self.now;
        assert!(due.is_none_or(|due| due > now), "{due:?} at {now:?}");
    }

    pub(crate) fn raise(&mut self, event: AsyncEvent) {
        let cqe = self
            .model
            .raise(event)
            .expect("an event request is waiting");
        self.outstanding.remove(&(0, cqe.cid.get()));
        self.session.handle_response(0, &cqe, &[], self.now);
        self.settle();
    }

    /// The next event that is not a keep-alive.
    pub(crate) fn event(&mut self) -> Option<Event> {
        loop {
            match self.events.pop_front()? {
                Event::KeepAlive { .. } | Event::Identified(_) => {}
                event => return Some(event),
            }
        }
    }

    pub(crate) fn ready(&mut self) -> Ready {
        self.run_for(1000 * MS);
        match self.event() {
            Some(Event::Ready(ready)) => *ready,
            other => panic!("{other:?}"),
        }
    }

    /// Runs until the session ends with an error.
    pub(crate) fn failure(&mut self) -> SessionError {
        self.run_for(Duration::from_secs(300));
        assert!(self.closed && self.over && self.session.poll_timeout().is_none());
        match self.events.pop_back() {
            Some(Event::Failed(error)) => error,
            other => panic!("{other:?}"),
        }
    }
}
