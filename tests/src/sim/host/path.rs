//! What a path's task does: one session after another, and its health.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::association::{Aborts, Health, HealthConfig, Patience, Stuck, Verdict};
use umpath_core::{AssociationId, PathId};
use umpath_nvme::Cqe;
use umpath_session::{
    AdminData, BackoffPolicy, Controller, Event, IoCommand, Output, Ready, Reconnect,
    ReconnectPolicy, Verdict as Retry,
};

use crate::sim::checker::Violation;
use crate::sim::clock::{MICRO, MILLI, Nanos, duration, nanos};
use crate::sim::fabric::{HostEnd, Packet, QpId, Way};
use crate::sim::plan::Plan;
use crate::sim::world::{Happening, World};

/// An association from its first packet to its end.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) association: AssociationId,
    pub(crate) session: Box<Controller>,
    /// Set once it is ready.
    pub(crate) ready: Option<Box<Ready>>,
    pub(crate) health: Option<Health>,
    pub(crate) answered: Nanos,
    aborts: Aborts,
    /// Queue pairs by identifier.
    pub(crate) qps: Vec<(u16, QpId)>,
    session_timer: Option<Nanos>,
    health_timer: Option<Nanos>,
}

/// A path.
#[derive(Debug)]
pub(crate) struct PathActor {
    pub(crate) attempt: Option<Attempt>,
    reconnect: Reconnect,
    health_config: HealthConfig,
}

impl Attempt {
    /// Asks its controller to give a command back that it has had for too long.
    pub(crate) fn ask_back(&mut self, stuck: Stuck, now: Duration) {
        let Stuck { qid, cid, .. } = stuck;
        let session = &mut self.session;
        self.aborts
            .ask(stuck, now, || session.abort(IoCommand { qid, cid }, now));
    }

    /// It is up, and its controller can be asked to reset others.
    pub(crate) fn offers_reset(&self) -> bool {
        let ready = self.ready.as_ref();
        ready.is_some_and(|ready| ready.facts.ccr_limit > 0)
    }
}

impl PathActor {
    pub(crate) fn new(plan: &Plan) -> Self {
        let policy = ReconnectPolicy {
            first: Duration::from_millis(20),
            backoff: BackoffPolicy {
                base: Duration::from_millis(50),
                cap: Duration::from_millis(500),
            },
            refused: Duration::from_millis(500),
            settle: Duration::from_secs(1),
            ctrl_loss: None,
        };
        let health_config = HealthConfig {
            link_down_grace: Duration::from_millis(50),
            io_silence: duration(plan.heartbeat),
            io_slow: duration(Plan::IO_TIMEOUT / 2),
            io_timeout: duration(Plan::IO_TIMEOUT),
            ..HealthConfig::default()
        };
        Self {
            attempt: None,
            reconnect: Reconnect::new(policy),
            health_config,
        }
    }
}

impl World {
    /// Begins an association.
    pub(crate) fn connect(&mut self, path: usize) {
        if self.host.paths[path].attempt.is_some() {
            return;
        }
        let association = AssociationId(self.host.next_association);
        self.host.next_association += 1;
        let config = self.host.session_config.clone();
        let Ok(session) = Controller::new(config, duration(self.now)) else {
            return;
        };
        self.note(|| format!("path {path}: association {association} begins"));
        self.host.paths[path].attempt = Some(Attempt {
            association,
            session: Box::new(session),
            ready: None,
            health: None,
            answered: 0,
            aborts: Aborts::new(self.host.paths[path].health_config.io_slow),
            qps: Vec::new(),
            session_timer: None,
            health_timer: None,
        });
        self.pump_session(path);
    }

    fn attempt(&mut self, path: usize, association: AssociationId) -> Option<&mut Attempt> {
        let attempt = self.host.paths[path].attempt.as_mut();
        attempt.filter(|attempt| attempt.association == association)
    }

    /// Carries out a session's orders and hears its reports.
    pub(crate) fn pump_session(&mut self, path: usize) {
        while let Some(attempt) = &mut self.host.paths[path].attempt {
            let association = attempt.association;
            let Some(output) = attempt.session.poll_output() else {
                break;
            };
            match output {
                Output::OpenQueue { qid, .. } => {
                    let at = self.now + self.travel(path);
                    let life = self.host.life;
                    if !self.routes[path].is_cut(Way::ToTarget) {
                        self.agenda.push(
                            at,
                            Happening::OpenArrives {
                                life,
                                path,
                                association,
                                qid,
                            },
                        );
                    }
                }
                Output::Send { qid, sqe, data } => {
                    let data = match data {
                        AdminData::ToController(bytes) => bytes,
                        AdminData::None | AdminData::FromController(_) => Vec::new(),
                    };
                    let found = attempt.qps.iter().find(|(known, _)| *known == qid);
                    if let Some((_, qp)) = found.copied()
                        && self.qps[qp].host == HostEnd::Open
                    {
                        self.transmit(qp, Way::ToTarget, Packet::Admin { sqe, data });
                    }
                }
                Output::Event(event) => self.session_event(path, event),
                // The last event follows.
                Output::CloseAll => {}
            }
        }
        self.judge(path);
        self.set_session_timer(path);
    }

    fn set_session_timer(&mut self, path: usize) {
        let (now, life) = (self.now, self.host.life);
        let Some(attempt) = &mut self.host.paths[path].attempt else {
            return;
        };
        let association = attempt.association;
        if let Some(due) = attempt.session.poll_timeout() {
            let at = nanos(due).max(now + MICRO);
            if attempt
                .session_timer
                .is_none_or(|timer| at < timer || timer <= now)
            {
                attempt.session_timer = Some(at);
                self.agenda.push(
                    at,
                    Happening::SessionTimer {
                        life,
                        path,
                        association,
                        at,
                    },
                );
            }
        }
        let due = attempt.health.as_ref().and_then(Health::poll_timeout);
        if let Some(due) = due {
            let at = nanos(due).max(now + MICRO);
            if attempt
                .health_timer
                .is_none_or(|timer| at < timer || timer <= now)
            {
                attempt.health_timer = Some(at);
                self.agenda.push(
                    at,
                    Happening::HealthTimer {
                        life,
                        path,
                        association,
                        at,
                    },
                );
            }
        }
    }

    pub(crate) fn session_timer(&mut self, path: usize, association: AssociationId, at: Nanos) {
        let now = duration(self.now);
        let Some(attempt) = self.attempt(path, association) else {
            return;
        };
        if attempt.session_timer == Some(at) {
            attempt.session_timer = None;
            attempt.session.handle_timeout(now);
            let due = attempt.session.poll_timeout();
            self.check_due("a session", due);
            self.pump_session(path);
        }
    }

    pub(crate) fn health_timer(&mut self, path: usize, association: AssociationId, at: Nanos) {
        let Some(attempt) = self.attempt(path, association) else {
            return;
        };
        if attempt.health_timer == Some(at) {
            attempt.health_timer = None;
            self.judge(path);
            let health = self.host.paths[path].attempt.as_ref();
            let health = health.and_then(|attempt| attempt.health.as_ref());
            let due = health.and_then(Health::poll_timeout);
            self.check_due("a health", due);
            self.set_session_timer(path);
        }
    }

    /// A connection request reaches the target.
    pub(crate) fn open_arrives(&mut self, path: usize, association: AssociationId, qid: u16) {
        let life = self.host.life;
        if self.routes[path].is_cut(Way::ToHost) {
            return;
        }
        let at = self.now + self.travel(path);
        let alive = self.processes[self.process_of(path)].alive;
        let qp = alive.then(|| self.new_qp(path, association, qid));
        self.agenda.push(
            at,
            Happening::Opened {
                life,
                path,
                association,
                qid,
                qp,
            },
        );
    }

    /// The answer to a connection request reaches the host.
    pub(crate) fn opened(
        &mut self,
        path: usize,
        association: AssociationId,
        qid: u16,
        qp: Option<QpId>,
    ) {
        let now = duration(self.now);
        let Some(attempt) = self.attempt(path, association) else {
            if let Some(qp) = qp {
                self.silence(qp);
            }
            return;
        };
        if let Some(qp) = qp {
            attempt.qps.push((qid, qp));
            attempt.session.handle_queue_connected(qid, now);
        } else {
            let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            attempt.session.handle_queue_failed(qid, Arc::new(refused));
        }
        self.pump_session(path);
    }

    /// An answer to a session reaches the host.
    pub(crate) fn admin_answer(&mut self, qp: QpId, cqe: &Cqe, data: &[u8]) {
        let (path, association, qid) = (
            self.qps[qp].path,
            self.qps[qp].association,
            self.qps[qp].qid,
        );
        let now = duration(self.now);
        if self.qps[qp].host != HostEnd::Open {
            return;
        }
        if let Some(attempt) = self.attempt(path, association) {
            attempt.session.handle_response(qid, cqe, data, now);
            self.pump_session(path);
        }
    }

    /// A queue pair that belongs to the session failed.
    pub(crate) fn admin_failed(&mut self, association: AssociationId) {
        for path in 0..self.host.paths.len() {
            if let Some(attempt) = self.attempt(path, association) {
                let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                attempt.session.handle_queue_failed(0, Arc::new(lost));
                return self.pump_session(path);
            }
        }
    }

    fn session_event(&mut self, path: usize, event: Event) {
        let now = duration(self.now);
        let Some(attempt) = &mut self.host.paths[path].attempt else {
            return;
        };
        match event {
            Event::Ready(ready) => {
                self.host.paths[path].reconnect.established(now);
                self.association_ready(path, ready);
            }
            Event::AnaChanged(table) => {
                let state = table.state(1, 1);
                self.ana_read(path, state);
            }
            Event::KeepAlive {
                sent_at,
                answered_at,
            } => {
                attempt.answered = nanos(answered_at);
                if let Some(health) = &mut attempt.health {
                    health.keep_alive_answered(sent_at, answered_at);
                }
            }
            Event::KeepAliveMissed { count } => {
                if let Some(health) = &mut attempt.health {
                    health.keep_alive_missed(count, now);
                }
            }
            Event::Failed(error) => {
                self.note(|| format!("path {path}: {error}"));
                let refused = error.is_refusal();
                let Some(attempt) = &mut self.host.paths[path].attempt else {
                    return;
                };
                if let Some(health) = &mut attempt.health {
                    health.session_failed(now);
                    self.judge(path);
                } else {
                    self.attempt_failed(path, refused);
                }
            }
            Event::Reset { impacted, answer } => {
                let via = attempt.association;
                self.reset_answered(via, impacted, answer);
            }
            Event::Resets(records) => {
                let via = attempt.association;
                self.reset_log(via, Some(&records));
            }
            Event::ResetsUnknown(_) => {
                let via = attempt.association;
                self.reset_log(via, None);
            }
            Event::LostHosts(lost) => self.lost_hosts(&lost),
            _ => {}
        }
    }

    /// The association never became ready.
    fn attempt_failed(&mut self, path: usize, refused: bool) {
        let Some(attempt) = self.host.paths[path].attempt.take() else {
            return;
        };
        for (_, qp) in attempt.qps {
            self.silence(qp);
            self.qps[qp].host = HostEnd::Drained;
        }
        self.reconnect_later(path, refused);
    }

    pub(crate) fn reconnect_later(&mut self, path: usize, refused: bool) {
        let random = self.fabric_chance.draw();
        let now = duration(self.now);
        let verdict = self.host.paths[path].reconnect.failed(now, refused, random);
        if let Retry::RetryAt(at) = verdict {
            let life = self.host.life;
            let at = nanos(at).max(self.now + MILLI);
            self.agenda.push(at, Happening::Reconnect { life, path });
        }
    }

    pub(crate) fn start_health(&mut self, path: usize) {
        let now = self.now;
        let config = self.host.paths[path].health_config;
        let carrier = self.routes[path].no_carrier == 0;
        if let Some(attempt) = &mut self.host.paths[path].attempt {
            attempt.answered = now;
            // Always afresh: the oracles count on a lost command being given up in time.
            let mut health = Health::new(config, Patience::default(), duration(now));
            if !carrier {
                health.link_down(duration(now));
            }
            attempt.health = Some(health);
        }
    }

    /// The host's port lost its carrier, or has it again.
    pub(crate) fn carrier(&mut self, path: usize, up: bool) {
        if !self.host.alive {
            return;
        }
        let now = duration(self.now);
        let health = self.host.paths[path]
            .attempt
            .as_mut()
            .and_then(|attempt| attempt.health.as_mut());
        if let Some(health) = health {
            if up {
                health.link_up(now);
            } else {
                health.link_down(now);
            }
        }
        self.judge(path);
        self.set_session_timer(path);
    }

    /// Lets health look at what is known, and acts on its verdict.
    pub(crate) fn judge(&mut self, path: usize) {
        let now = duration(self.now);
        let pulse = self.host.shared.pulse(PathId(path as u8));
        let Some(attempt) = &mut self.host.paths[path].attempt else {
            return;
        };
        let association = attempt.association;
        let Some(health) = &mut attempt.health else {
            return;
        };
        health.pulse(pulse, now);
        let Some(verdict) = health.verdict(now) else {
            return;
        };
        self.note(|| format!("path {path}: {verdict:?}"));
        let served = self.host.device.table().active.is_some();
        match verdict {
            Verdict::Suspect(why) => {
                self.host.device.suspect(association, why, now);
                if served && !why.stops() && self.host.device.table().active.is_none() {
                    let what = format!("(13) the last path is taken away: {why}");
                    self.fail(Violation(what));
                }
            }
            Verdict::Clear => self.host.device.clear(association, now),
            Verdict::Convict(why) => return self.convict(path, why),
        }
        self.pump_device();
    }
}
