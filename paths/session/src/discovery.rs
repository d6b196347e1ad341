//! One association with a discovery controller: connect, read the log, shut down.
//!
//! The log is reported with [`Event::Discovered`]; the session then shuts the controller down by
//! itself and ends in [`Event::Closed`]. No keep-alive timer is asked for: the association is short.

use std::time::Duration;

use umpath_nvme::{Cqe, Nqn};

use crate::admin_queue::{AdminQueue, Matched};
use crate::answer::Answer;
use crate::ask::ADMIN_DEPTH;
use crate::config::SessionConfig;
use crate::connect::Connector;
use crate::discovery_log::LogRead;
use crate::error::{ConfigError, PeerError, SessionError, TransportError, TransportSource};
use crate::facts::{ControllerFacts, Role};
use crate::handshake::Handshake;
use crate::output::{Event, SessionOutput};
use crate::stop::Stop;

#[derive(Debug)]
enum Phase {
    Opening {
        deadline: Duration,
    },
    Handshake(Box<Handshake>),
    Reading {
        facts: Box<ControllerFacts>,
        read: LogRead,
    },
    Stopping(Stop),
    Over,
}

/// Reads the log of one discovery controller; the host's contract is that of
/// [`Controller`](crate::Controller), with the admin queue only.
#[derive(Debug)]
pub struct Discovery {
    admin: AdminQueue,
    phase: Phase,
    connector: Connector,
}

impl Discovery {
    /// Begins: the first output asks for the admin queue. `subsystem` is the discovery subsystem,
    /// normally [`Nqn::discovery`].
    pub fn new(
        host_nqn: Nqn,
        host_id: [u8; 16],
        subsystem: Nqn,
        now: Duration,
    ) -> Result<Self, ConfigError> {
        Self::with_config(SessionConfig::new(host_nqn, host_id, subsystem), now)
    }

    /// The same with other timeouts; settings of I/O queues and keep-alives are ignored.
    pub fn with_config(config: SessionConfig, now: Duration) -> Result<Self, ConfigError> {
        config.check_times()?;
        let mut admin = AdminQueue::new(config.command_timeout);
        let deadline = now.saturating_add(config.open_timeout);
        let connector = Connector::new(config, false);
        admin.push(SessionOutput::OpenQueue {
            qid: 0,
            cntlid: connector.cntlid(),
            depth: ADMIN_DEPTH,
        });
        Ok(Self {
            admin,
            phase: Phase::Opening { deadline },
            connector,
        })
    }

    /// The next order or report, oldest first.
    pub fn poll_output(&mut self) -> Option<SessionOutput> {
        self.admin.poll_output()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; may move after any call.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Opening { deadline } => Some(*deadline),
            Phase::Stopping(stop) => Some(stop.deadline()),
            _ => None,
        };
        [phase, self.admin.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        let after = self.connector.config().open_timeout;
        let result = match &self.phase {
            Phase::Opening { deadline } if *deadline <= now => {
                Err(TransportError::OpenTimeout { qid: 0, after }.into())
            }
            Phase::Stopping(stop) if stop.deadline() <= now => Err(PeerError::Unanswered {
                step: crate::Step::Shutdown,
                after,
            }
            .into()),
            _ => self.admin.handle_timeout(now),
        };
        self.settle(result);
    }

    /// The admin queue is open.
    pub fn handle_queue_connected(&mut self, qid: u16, now: Duration) {
        if qid == 0 && matches!(self.phase, Phase::Opening { .. }) {
            let handshake = Handshake::new(self.connector.clone(), Role::Discovery);
            self.admin.ask(handshake.begin(), now);
            self.phase = Phase::Handshake(Box::new(handshake));
        }
    }

    /// The admin queue could not be opened, or was lost.
    pub fn handle_queue_failed(&mut self, qid: u16, source: TransportSource) {
        let opening = matches!(self.phase, Phase::Opening { .. });
        self.settle(Err(
            TransportError::queue_failed(opening, qid, source).into()
        ));
    }

    /// A completion arrived, with what the controller wrote (empty if nothing).
    pub fn handle_response(&mut self, qid: u16, cqe: &Cqe, data: &[u8], now: Duration) {
        if self.admin.is_over() {
            return;
        }
        let result = match (qid, self.admin.accept(cqe, now)) {
            (0, Ok(Matched::Procedure(step))) => self.advance(Answer::new(step, cqe, data), now),
            (0, Ok(_)) => Ok(()),
            (0, Err(error)) => Err(error),
            _ => Err(PeerError::UnexpectedCompletion {
                qid,
                cid: cqe.cid.get(),
            }
            .into()),
        };
        self.settle(result);
    }

    /// Ends the association before it would end by itself.
    pub fn shutdown(&mut self, now: Duration) {
        match &self.phase {
            Phase::Reading { facts, .. } => {
                let stop = Stop::new(facts, self.connector.config().shutdown_timeout, now);
                self.stop(stop, now);
            }
            Phase::Opening { .. } | Phase::Handshake(_) => {
                self.finish(Event::Closed { orderly: false });
            }
            Phase::Stopping(_) | Phase::Over => {}
        }
    }

    fn advance(&mut self, answer: Answer<'_>, now: Duration) -> Result<(), SessionError> {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                let next = handshake.answer(&answer, now)?;
                if let Some(facts) = self.admin.proceed(next, now) {
                    let read = LogRead::new(facts.transfer_limit());
                    self.admin.ask(LogRead::begin(), now);
                    self.phase = Phase::Reading {
                        facts: Box::new(facts),
                        read,
                    };
                }
            }
            Phase::Reading { facts, read } => {
                let next = read.answer(&answer)?;
                if let Some(log) = self.admin.proceed(next, now) {
                    let stop = Stop::new(facts, self.connector.config().shutdown_timeout, now);
                    self.admin.event(Event::Discovered(log));
                    self.stop(stop, now);
                }
            }
            Phase::Stopping(stop) => {
                let next = stop.answer(&answer, now)?;
                if self.admin.proceed(next, now).is_some() {
                    self.finish(Event::Closed { orderly: true });
                }
            }
            Phase::Opening { .. } | Phase::Over => {}
        }
        Ok(())
    }

    fn stop(&mut self, stop: Stop, now: Duration) {
        self.admin.abandon();
        self.admin.ask(stop.begin(), now);
        self.phase = Phase::Stopping(stop);
    }

    /// Ends the association if `result` says so. While stopping, nothing is an error any more.
    fn settle(&mut self, result: Result<(), SessionError>) {
        match (result, &self.phase) {
            (Ok(()), _) | (_, Phase::Over) => {}
            (Err(_), Phase::Stopping(_)) => self.finish(Event::Closed { orderly: false }),
            (Err(error), _) => self.finish(Event::Failed(error)),
        }
    }

    fn finish(&mut self, last: Event) {
        self.admin.end(last);
        self.phase = Phase::Over;
    }
}
