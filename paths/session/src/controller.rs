//! One association with an NVM controller, from the admin queue to the end.
//!
//! Decided here: the order of the phases and what interrupts which. Each phase is a procedure of its
//! own (`handshake`, `setup`, `scan`, `ana_log`, `io_queues`, `stop`) that asks one thing at a time.
//!
//! Changes the controller announces while a procedure runs are remembered and read when the
//! association is ready and idle, so a change during bring-up is never lost and a storm of events
//! costs at most one read at a time. A read that fails leaves what was known in force, and is repeated
//! (`pending`).

mod changes;
mod queues;

use std::time::Duration;

use changes::Work;
use umpath_nvme::Cqe;
use umpath_nvme::command::Instance;

use crate::abort::{AbortAnswer, IoCommand};
use crate::admin_queue::{AdminQueue, Matched};
use crate::ana::AnaTable;
use crate::ana_log::AnaRead;
use crate::answer::Answer;
use crate::ask::ADMIN_DEPTH;
use crate::ask::Next;
use crate::config::SessionConfig;
use crate::connect::Connector;
use crate::error::{ConfigError, SessionError, TransportError, TransportSource};
use crate::facts::{ControllerFacts, Role};
use crate::handshake::Handshake;
use crate::io_queues::IoQueues;
use crate::namespace::Namespace;
use crate::output::{Event, Ready, SessionOutput};
use crate::pending::Pending;
use crate::resets::ResetAnswer;
use crate::scan::{Changed, Scan};
use crate::setup::{self, Setup};
use crate::step::Step;
use crate::stop::Stop;

#[derive(Debug)]
enum Phase {
    /// The transport opens the admin queue.
    Opening {
        deadline: Duration,
    },
    Handshake(Box<Handshake>),
    Setup(Setup),
    /// First look at the namespaces.
    Scanning(Scan),
    /// First look at the ANA log.
    ReadingAna(AnaRead),
    /// The I/O queues are opened and connected.
    Connecting,
    Ready(Work),
    Stopping(Stop),
    Over,
}

/// Drives one association; see the crate's head for the host's contract.
#[derive(Debug)]
pub struct Controller {
    admin: AdminQueue,
    phase: Phase,
    connector: Connector,
    /// Set once the handshake is over.
    facts: Option<ControllerFacts>,
    /// I/O queues the controller grants, of those asked.
    granted: u16,
    /// Set once they are opened.
    queues: Option<IoQueues>,
    namespaces: Vec<Namespace>,
    /// Namespaces that may have changed since, and could not be read.
    unread: Changed,
    /// What was last reported.
    ana: Option<AnaTable>,
    pending: Pending,
}

impl Controller {
    /// Begins: the first output asks for the admin queue.
    pub fn new(config: SessionConfig, now: Duration) -> Result<Self, ConfigError> {
        config.check()?;
        let mut admin = AdminQueue::new(config.command_timeout);
        let connector = Connector::new(config, true);
        let deadline = now.saturating_add(connector.config().open_timeout);
        admin.push(SessionOutput::OpenQueue {
            qid: 0,
            cntlid: connector.cntlid(),
            depth: ADMIN_DEPTH,
        });
        Ok(Self {
            admin,
            phase: Phase::Opening { deadline },
            connector,
            facts: None,
            granted: 0,
            queues: None,
            namespaces: Vec::new(),
            unread: Changed::default(),
            ana: None,
            pending: Pending::default(),
        })
    }

    /// The next order or report, oldest first.
    pub fn poll_output(&mut self) -> Option<SessionOutput> {
        self.admin.poll_output()
    }

    /// What is known of the controller, once it is identified.
    pub fn facts(&self) -> Option<&ControllerFacts> {
        self.facts.as_ref()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; may move after any call. Right after that
    /// call it lies in the future.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Opening { deadline } => Some(*deadline),
            Phase::Stopping(stop) => Some(stop.deadline()),
            Phase::Ready(Work::Idle) => self.pending.due(),
            _ => None,
        };
        let queues = self.queues.as_ref().filter(|_| self.wants_queues());
        let queues = queues.and_then(IoQueues::poll_timeout);
        [phase, queues, self.admin.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        let result = self.tick(now);
        self.settle(result);
    }

    /// A queue asked for with [`SessionOutput::OpenQueue`] is open.
    pub fn handle_queue_connected(&mut self, qid: u16, now: Duration) {
        match &mut self.phase {
            Phase::Opening { .. } if qid == 0 => {
                let handshake = Handshake::new(self.connector.clone(), Role::Nvm);
                self.admin.ask(handshake.begin(), now);
                self.phase = Phase::Handshake(Box::new(handshake));
            }
            _ => self.io_queue_opened(qid, now),
        }
    }

    /// A queue asked for could not be opened, or an open one was lost. Either ends the association,
    /// except where it is an I/O queue that was not reported yet.
    pub fn handle_queue_failed(&mut self, qid: u16, source: TransportSource) {
        if self.io_queue_failed(qid, &source) {
            let result = self.report_io_queues();
            return self.settle(result);
        }
        let opening = qid == 0 && matches!(self.phase, Phase::Opening { .. });
        self.settle(Err(
            TransportError::queue_failed(opening, qid, source).into()
        ));
    }

    /// A completion arrived, with what the controller wrote (empty if nothing).
    pub fn handle_response(&mut self, qid: u16, cqe: &Cqe, data: &[u8], now: Duration) {
        if self.admin.is_over() {
            return;
        }
        let result = if qid == 0 {
            self.admin_response(cqe, data, now)
        } else {
            self.io_response(qid, cqe)
        };
        self.settle(result);
        self.look(now);
    }

    /// Reads the ANA log again: a command came back with an ANA status. The next reading is reported
    /// even where it says nothing new. No effect without ANA reporting.
    pub fn refresh_ana(&mut self, now: Duration) {
        if self.reports_ana() {
            self.pending.ana.news(now);
            self.pending.ana_asked = true;
        }
        self.look(now);
    }

    /// Asks this controller to reset another incarnation of the same subsystem; the answer is
    /// [`Event::Reset`]. False, and no answer, unless the session is ready, the controller offers it
    /// and not too many are outstanding. The session's own work goes on meanwhile.
    pub fn reset_other(&mut self, impacted: Instance, now: Duration) -> bool {
        let offers = self.facts.as_ref().is_some_and(|facts| facts.ccr_limit > 0);
        matches!(self.phase, Phase::Ready(_)) && offers && self.admin.reset(impacted, now)
    }

    /// Asks this controller to abort an I/O command; the answer is [`Event::Abort`]. False, and no
    /// answer, while another one is outstanding or the session is not ready.
    pub fn abort(&mut self, command: IoCommand, now: Duration) -> bool {
        matches!(self.phase, Phase::Ready(_)) && self.admin.abort(command, now)
    }

    /// Reads the log of resets, which [`Event::Resets`] or [`Event::ResetsUnknown`] reports. No
    /// effect unless the controller offers resets.
    pub fn read_resets(&mut self, now: Duration) {
        self.pending.resets |= self.facts.as_ref().is_some_and(|facts| facts.ccr_limit > 0);
        self.look(now);
    }

    /// Ends the association in an orderly manner; the host has stopped I/O. Ends in
    /// [`Event::Closed`].
    pub fn shutdown(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Stopping(_) | Phase::Over) {
            return;
        }
        let Some(facts) = &self.facts else {
            self.finish(Event::Closed { orderly: false });
            return;
        };
        let stop = Stop::new(facts, self.connector.config().shutdown_timeout, now);
        self.admin.abandon();
        self.admin.ask(stop.begin(), now);
        self.phase = Phase::Stopping(stop);
    }

    fn tick(&mut self, now: Duration) -> Result<(), SessionError> {
        match &self.phase {
            Phase::Opening { deadline } if *deadline <= now => {
                let after = self.connector.config().open_timeout;
                return Err(TransportError::OpenTimeout { qid: 0, after }.into());
            }
            Phase::Stopping(stop) if stop.deadline() <= now => {
                self.finish(Event::Closed { orderly: false });
                return Ok(());
            }
            _ => {}
        }
        if let Some(queues) = self.queues_wanted() {
            queues.handle_timeout(now);
            self.report_io_queues()?;
        }
        self.admin.handle_timeout(now)?;
        self.look(now);
        Ok(())
    }

    fn admin_response(
        &mut self,
        cqe: &Cqe,
        data: &[u8],
        now: Duration,
    ) -> Result<(), SessionError> {
        match self.admin.accept(cqe, now)? {
            Matched::Procedure(step) => self.advance(Answer::new(step, cqe, data), now),
            Matched::AsyncEvent => {
                self.async_event(cqe, now);
                Ok(())
            }
            Matched::Reset(impacted) => {
                let answer = ResetAnswer::of(cqe);
                self.admin.event(Event::Reset { impacted, answer });
                Ok(())
            }
            Matched::Abort(command) => {
                let answer = AbortAnswer::of(cqe);
                self.admin.event(Event::Abort { command, answer });
                Ok(())
            }
            Matched::KeepAlive | Matched::Abandoned => Ok(()),
        }
    }

    /// Gives the running procedure its answer and starts the next phase when it is over.
    fn advance(&mut self, answer: Answer<'_>, now: Duration) -> Result<(), SessionError> {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                let next = handshake.answer(&answer, now)?;
                if matches!(&next, Next::Ask(ask) if ask.step == Step::IdentifyController) {
                    // It is enabled, so its timer runs: nothing that follows may hold it up.
                    let config = self.connector.config();
                    self.admin
                        .start_heartbeat(config.heartbeat, config.kato, now);
                }
                if let Some(facts) = self.admin.proceed(next, now) {
                    self.handshake_done(facts, now);
                }
            }
            Phase::Setup(setup) => {
                let Some(facts) = &mut self.facts else {
                    return Ok(());
                };
                let next = setup.answer(&answer, facts)?;
                if let Some(granted) = self.admin.proceed(next, now) {
                    self.setup_done(granted, now);
                }
            }
            Phase::Scanning(scan) => {
                let next = scan.answer(&answer)?;
                if let Some(found) = self.admin.proceed(next, now) {
                    self.namespaces.clone_from(&found.namespaces);
                    // The list itself says which.
                    drop(self.note_unread(found, now));
                    self.first_ana(now)?;
                }
            }
            Phase::ReadingAna(read) => {
                let next = read.answer(&answer)?;
                if let Some(table) = self.admin.proceed(next, now) {
                    self.note_transition(&table, now);
                    self.ana = Some(table);
                    self.open_io_queues(now);
                }
            }
            Phase::Ready(work) => {
                let work = std::mem::replace(work, Work::Idle);
                self.work(work, &answer, now);
            }
            Phase::Stopping(stop) => {
                let next = stop.answer(&answer, now)?;
                if self.admin.proceed(next, now).is_some() {
                    self.finish(Event::Closed { orderly: true });
                }
            }
            Phase::Opening { .. } | Phase::Connecting | Phase::Over => {}
        }
        Ok(())
    }

    fn handshake_done(&mut self, facts: ControllerFacts, now: Duration) {
        self.connector.joined(&facts);
        let interval = self.connector.config().heartbeat;
        self.admin.agree_heartbeat(interval, facts.kato, now);
        let setup = Setup::new(&facts, self.connector.config());
        self.admin.ask(setup.begin(), now);
        self.phase = Phase::Setup(setup);
        self.facts = Some(facts);
    }

    fn setup_done(&mut self, granted: u16, now: Duration) {
        self.granted = granted;
        let Some(facts) = &self.facts else { return };
        for _ in 0..setup::event_slots(facts) {
            self.admin.request_event();
        }
        let scan = Scan::everything(facts, self.connector.config().namespaces_max);
        self.admin.ask(scan.begin(), now);
        self.phase = Phase::Scanning(scan);
    }

    fn first_ana(&mut self, now: Duration) -> Result<(), SessionError> {
        match self
            .facts
            .as_ref()
            .and_then(|facts| AnaRead::new(facts).transpose())
        {
            Some(read) => {
                let read = read?;
                self.admin.ask(read.begin(), now);
                self.phase = Phase::ReadingAna(read);
            }
            None => self.open_io_queues(now),
        }
        Ok(())
    }

    fn ready(&mut self, io_queues: Vec<u16>, io_depth: u16) {
        self.phase = Phase::Ready(Work::Idle);
        let Some(facts) = self.facts.clone() else {
            return;
        };
        let (namespaces, ana) = (self.namespaces.clone(), self.ana.clone());
        let ready = Ready {
            facts,
            namespaces,
            ana,
            io_queues,
            io_depth,
        };
        self.admin.event(Event::Ready(Box::new(ready)));
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
