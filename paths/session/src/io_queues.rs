//! The I/O queues of an enabled controller: opened and connected a batch at a time.
//!
//! Decided here: which identifiers a batch gets, and what becomes of a queue that fails. Each queue
//! fails for itself; the batch is over when every one is connected or given up.
//!
//! An identifier is used again if its queue certainly never came to be at the controller: the
//! transport could not open it, it was closed before its Connect was sent, or the Connect was
//! answered with an error. It is not used again in this association if its Connect was sent and not
//! answered: the controller may have executed it and hold a queue of that identifier, for as long as
//! it does not notice the end of the connection, and it refuses a Connect that names a queue it has
//! (NVMe over Fabrics 1.1 §3.3).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use umpath_nvme::{Cqe, Status};

use crate::answer::Answer;
use crate::connect::Connector;
use crate::error::{PeerError, SessionError, TransportError, TransportSource};
use crate::output::SessionOutput;
use crate::refusal::Refusal;
use crate::step::Step;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The transport opens it.
    Opening { deadline: Duration },
    /// Its Connect is under way.
    Connecting { deadline: Duration },
    /// Waits for the others of its batch.
    Connected,
    /// The data path has it.
    InUse,
    /// Given up before the transport had opened it, or had failed to.
    LateOpening,
    /// Given up before its Connect was answered.
    LateConnect,
    /// Given up, and the controller may hold it.
    Spent,
}

/// Queues that were asked for together, each connected or given up by now.
#[derive(Debug)]
pub(crate) struct Batch {
    /// How many were asked for.
    pub(crate) asked: u16,
    /// Those that connected.
    pub(crate) connected: Vec<u16>,
    /// What befell the first that did not.
    pub(crate) error: Option<SessionError>,
}

/// I/O queues of one association.
#[derive(Debug)]
pub(crate) struct IoQueues {
    connector: Connector,
    open_timeout: Duration,
    command_timeout: Duration,
    /// Identifiers are `1..=granted`.
    granted: u16,
    /// Identifiers used up to now.
    last: u16,
    /// Identifiers up to `last` that may be used again; the one that failed first comes first.
    free: VecDeque<u16>,
    /// All others up to `last`.
    states: BTreeMap<u16, State>,
    /// Those asked for and not reported yet.
    batch: Vec<u16>,
    /// Why the first of the batch failed.
    error: Option<SessionError>,
}

impl IoQueues {
    /// No queue yet, of `granted`.
    pub(crate) fn new(connector: Connector, granted: u16) -> Self {
        let config = connector.config();
        Self {
            open_timeout: config.open_timeout,
            command_timeout: config.command_timeout,
            connector,
            granted,
            last: 0,
            free: VecDeque::new(),
            states: BTreeMap::new(),
            batch: Vec::new(),
            error: None,
        }
    }

    /// Queues that can still be asked for.
    pub(crate) fn available(&self) -> u16 {
        self.granted - self.last + self.free.len() as u16
    }

    /// The error of a queue whose identifier cannot be used again, if there is one.
    pub(crate) fn take_spent(&mut self) -> Option<SessionError> {
        let mut states = self.states.values();
        let spent = states.any(|state| matches!(state, State::LateConnect | State::Spent));
        self.error.take_if(|_| spent)
    }

    /// A batch is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.batch.is_empty()
    }

    pub(crate) fn depth(&self) -> u16 {
        self.connector.io_depth()
    }

    /// Asks for a batch of at most [`Self::available`], while none is under way: orders to open them.
    pub(crate) fn begin(&mut self, count: u16, now: Duration) -> Vec<SessionOutput> {
        assert!(!self.is_busy(), "one batch of I/O queues at a time");
        assert!(count <= self.available(), "I/O queues that were granted");
        let deadline = now.saturating_add(self.open_timeout);
        let (cntlid, depth) = (self.connector.cntlid(), self.depth());
        // One that failed may fail again: those that were never tried come first.
        let fresh = count.min(self.granted - self.last);
        self.batch.extend(self.last + 1..=self.last + fresh);
        self.last += fresh;
        self.batch
            .extend(self.free.drain(..usize::from(count - fresh)));
        let opening = State::Opening { deadline };
        self.states
            .extend(self.batch.iter().map(|qid| (*qid, opening)));
        let orders = self.batch.iter();
        orders
            .map(|qid| SessionOutput::OpenQueue {
                qid: *qid,
                cntlid,
                depth,
            })
            .collect()
    }

    /// The batch that was asked for, once it is over.
    pub(crate) fn take_batch(&mut self) -> Option<Batch> {
        let waiting = |qid: &u16| {
            let state = self.states.get(qid);
            matches!(
                state,
                Some(State::Opening { .. } | State::Connecting { .. })
            )
        };
        if self.batch.is_empty() || self.batch.iter().any(waiting) {
            return None;
        }
        let mut connected = std::mem::take(&mut self.batch);
        let asked = connected.len() as u16;
        connected.retain(|qid| self.states.get(qid) == Some(&State::Connected));
        let in_use = connected.iter().map(|qid| (*qid, State::InUse));
        self.states.extend(in_use);
        Some(Batch {
            asked,
            connected,
            error: self.error.take(),
        })
    }

    /// The transport opened a queue: what to do with it.
    pub(crate) fn opened(&mut self, qid: u16, now: Duration) -> Option<SessionOutput> {
        match self.states.get_mut(&qid)? {
            state @ State::Opening { .. } => {
                let deadline = now.saturating_add(self.command_timeout);
                *state = State::Connecting { deadline };
                let ask = self.connector.ask(qid);
                Some(SessionOutput::Send {
                    qid,
                    sqe: ask.sqe,
                    data: ask.data,
                })
            }
            State::LateOpening => {
                self.free(qid);
                Some(SessionOutput::CloseQueue { qid })
            }
            _ => None,
        }
    }

    /// The transport could not open a queue, or lost it. False: it is none of those that are being
    /// connected or were given up.
    pub(crate) fn failed(&mut self, qid: u16, source: &TransportSource) -> bool {
        let mut opening = false;
        match self.states.get_mut(&qid) {
            None | Some(State::InUse) => return false,
            Some(State::Opening { .. } | State::LateOpening) => {
                opening = true;
                self.free(qid);
            }
            Some(state) => *state = State::Spent,
        }
        if self.batch.contains(&qid) {
            let source = source.clone();
            self.blame(TransportError::queue_failed(opening, qid, source).into());
        }
        true
    }

    /// A completion on an I/O queue: it can only answer that queue's Connect. `Err`: it is of no
    /// queue that is being connected or was given up.
    pub(crate) fn answer(
        &mut self,
        qid: u16,
        cqe: &Cqe,
    ) -> Result<Option<SessionOutput>, SessionError> {
        let cid = cqe.cid.get();
        let unexpected = PeerError::UnexpectedCompletion { qid, cid };
        match self.states.get_mut(&qid) {
            None | Some(State::InUse) => Err(unexpected.into()),
            Some(State::Connecting { .. }) if cid == 0 => Ok(self.connect_answered(qid, cqe)),
            Some(state @ State::LateConnect) if cid == 0 => {
                *state = State::Spent;
                Ok(self.free_if_refused(qid, cqe))
            }
            Some(State::LateOpening | State::LateConnect | State::Spent) => Ok(None),
            Some(state) => {
                *state = State::Spent;
                self.blame(unexpected.into());
                Ok(None)
            }
        }
    }

    fn connect_answered(&mut self, qid: u16, cqe: &Cqe) -> Option<SessionOutput> {
        let answer = Answer::new(Step::Connect { qid }, cqe, &[]);
        match self.connector.answer(qid, &answer) {
            Ok(_) => {
                self.states.insert(qid, State::Connected);
                None
            }
            Err(error) => {
                self.states.insert(qid, State::Spent);
                self.blame(error);
                self.free_if_refused(qid, cqe)
            }
        }
    }

    /// A queue whose Connect was refused does not exist, and is closed. Its identifier may be used again,
    /// unless it was refused because of the identifier.
    fn free_if_refused(&mut self, qid: u16, cqe: &Cqe) -> Option<SessionOutput> {
        let status = cqe.status();
        // Linux nvmet says the first, others the second, of a queue they have.
        let codes = [Status::COMMAND_SEQUENCE_ERROR, Status::INVALID_QUEUE_ID];
        let taken = Refusal::of(cqe) == Refusal::QueueId || codes.contains(&status.code());
        if status.is_success() || taken {
            return None;
        }
        self.free(qid);
        Some(SessionOutput::CloseQueue { qid })
    }

    fn free(&mut self, qid: u16) {
        self.states.remove(&qid);
        self.free.push_back(qid);
    }

    fn blame(&mut self, error: SessionError) {
        self.error.get_or_insert(error);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let batch = self.batch.iter().filter_map(|qid| self.states.get(qid));
        let deadlines = batch.filter_map(|state| match state {
            State::Opening { deadline } | State::Connecting { deadline } => Some(*deadline),
            _ => None,
        });
        deadlines.min()
    }

    /// Gives up what takes too long.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        for qid in self.batch.clone() {
            let (late, error) = match self.states.get(&qid) {
                Some(State::Opening { deadline }) if *deadline <= now => {
                    let after = self.open_timeout;
                    let error = TransportError::OpenTimeout { qid, after }.into();
                    (State::LateOpening, error)
                }
                Some(State::Connecting { deadline }) if *deadline <= now => {
                    let (step, after) = (Step::Connect { qid }, self.command_timeout);
                    let error = PeerError::Unanswered { step, after }.into();
                    (State::LateConnect, error)
                }
                _ => continue,
            };
            self.states.insert(qid, late);
            self.blame(error);
        }
    }
}
