//! Opening and connecting the I/O queues of an enabled controller, all at once.

use std::time::Duration;

use umpath_nvme::Cqe;

use crate::answer::Answer;
use crate::connect::Connector;
use crate::error::{PeerError, SessionError, TransportError};
use crate::output::SessionOutput;
use crate::step::Step;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Connecting,
    Connected,
}

/// I/O queues of one association, identifiers from `first` on.
#[derive(Debug)]
pub(crate) struct IoQueues {
    connector: Connector,
    first: u16,
    states: Vec<(State, Duration)>,
    open_timeout: Duration,
    command_timeout: Duration,
}

impl IoQueues {
    /// Orders for all queues to be opened.
    pub(crate) fn begin(
        connector: Connector,
        first: u16,
        count: u16,
        now: Duration,
    ) -> (Self, impl Iterator<Item = SessionOutput>) {
        let config = connector.config();
        let (open_timeout, command_timeout) = (config.open_timeout, config.command_timeout);
        let (cntlid, depth) = (connector.cntlid(), connector.io_depth());
        let qids = first..first + count;
        let orders = qids.map(move |qid| SessionOutput::OpenQueue { qid, cntlid, depth });
        let states = vec![(State::Opening, now.saturating_add(open_timeout)); usize::from(count)];
        (
            Self {
                connector,
                first,
                states,
                open_timeout,
                command_timeout,
            },
            orders,
        )
    }

    /// Their identifiers.
    pub(crate) fn qids(&self) -> std::ops::Range<u16> {
        self.first..self.first + self.states.len() as u16
    }

    pub(crate) fn depth(&self) -> u16 {
        self.connector.io_depth()
    }

    /// Whether the transport is still to open this queue.
    pub(crate) fn is_opening(&mut self, qid: u16) -> bool {
        self.state(qid)
            .is_some_and(|state| state.0 == State::Opening)
    }

    fn state(&mut self, qid: u16) -> Option<&mut (State, Duration)> {
        self.states
            .get_mut(usize::from(qid.checked_sub(self.first)?))
    }

    /// The transport opened a queue: connect it. `None` if it was not being opened.
    pub(crate) fn opened(&mut self, qid: u16, now: Duration) -> Option<SessionOutput> {
        let deadline = now.saturating_add(self.command_timeout);
        let state = self.state(qid).filter(|state| state.0 == State::Opening)?;
        *state = (State::Connecting, deadline);
        let ask = self.connector.ask(qid);
        Some(SessionOutput::Send {
            qid,
            sqe: ask.sqe,
            data: ask.data,
        })
    }

    /// A completion on an I/O queue: it can only answer that queue's Connect. Returns whether every
    /// queue is connected.
    pub(crate) fn answer(&mut self, qid: u16, cqe: &Cqe) -> Result<bool, SessionError> {
        let cid = cqe.cid.get();
        let awaited = |state: &&mut (State, Duration)| state.0 == State::Connecting && cid == 0;
        let Some(state) = self.state(qid).filter(awaited) else {
            return Err(PeerError::UnexpectedCompletion { qid, cid }.into());
        };
        state.0 = State::Connected;
        self.connector
            .answer(qid, &Answer::new(Step::Connect { qid }, cqe, &[]))?;
        Ok(self
            .states
            .iter()
            .all(|(state, _)| *state == State::Connected))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let waiting = self
            .states
            .iter()
            .filter(|(state, _)| *state != State::Connected);
        waiting.map(|(_, deadline)| *deadline).min()
    }

    pub(crate) fn handle_timeout(&self, now: Duration) -> Result<(), SessionError> {
        for (qid, (state, deadline)) in self.qids().zip(&self.states) {
            if *deadline > now {
                continue;
            }
            match state {
                State::Opening => {
                    let after = self.open_timeout;
                    return Err(TransportError::OpenTimeout { qid, after }.into());
                }
                State::Connecting => {
                    let (step, after) = (Step::Connect { qid }, self.command_timeout);
                    return Err(PeerError::Unanswered { step, after }.into());
                }
                State::Connected => {}
            }
        }
        Ok(())
    }
}
