//! One association from its first packet to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use umpath_core::association::{Aborts, Health, Patience, Stuck, Verdict};
use umpath_core::{AssociationId, PathId, VolumeShared};
use umpath_nvme::command::Instance;
use umpath_session::{
    ConfigError, Controller, Event, IoCommand, Ready, Reconnect, ResetAnswer, ResetRecord,
    SessionError, SessionOutput,
};

use super::{End, Link, PathOrder, PathSpec, Report, Request, Up};

#[derive(Debug)]
pub(super) struct Attempt {
    association: AssociationId,
    session: Controller,
    /// Set once the association is ready.
    health: Option<Health>,
    /// What the previous association learned about late commands.
    patience: Patience,
    /// Commands the controller was asked to abort.
    aborts: Aborts,
    /// Volumes served; their load is evidence.
    serves: Vec<(PathId, Arc<VolumeShared>)>,
    /// In-capsule data size of an I/O queue; 0 until the controller has reported it.
    in_capsule_bytes: u32,
    convicted: bool,
    stopping: bool,
}

/// What handling an output needs besides the attempt.
struct Around<'a> {
    spec: &'a PathSpec,
    reconnect: &'a mut Reconnect,
    orders: &'a mut VecDeque<PathOrder>,
    now: Duration,
}

impl Around<'_> {
    fn report(&mut self, report: Report) {
        self.orders.push_back(PathOrder::Report(report));
    }
}

impl Attempt {
    pub(super) fn begin(
        spec: &PathSpec,
        association: AssociationId,
        patience: Patience,
        now: Duration,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            association,
            session: Controller::new(spec.session.clone(), now)?,
            health: None,
            patience,
            aborts: Aborts::new(spec.health.io_slow),
            serves: Vec::new(),
            in_capsule_bytes: 0,
            convicted: false,
            stopping: false,
        })
    }

    pub(super) fn association(&self) -> AssociationId {
        self.association
    }

    pub(super) fn session(&mut self) -> &mut Controller {
        &mut self.session
    }

    pub(super) fn was_ready(&self) -> bool {
        self.health.is_some()
    }

    /// Handed to the next association.
    pub(super) fn patience(&self) -> Patience {
        self.health.as_ref().map_or(self.patience, Health::patience)
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        // A path being shut down is no longer judged.
        let judged = self.health.as_ref().filter(|_| !self.stopping);
        let health = judged.and_then(Health::poll_timeout);
        self.session.poll_timeout().into_iter().chain(health).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(now);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(super) fn shut_down(&mut self, now: Duration) {
        self.stopping = true;
        self.session.shutdown(now);
    }

    /// Handles the session's outputs and judges health; `Some` when the association is over.
    pub(super) fn settle(
        &mut self,
        spec: &PathSpec,
        reconnect: &mut Reconnect,
        orders: &mut VecDeque<PathOrder>,
        now: Duration,
    ) -> Option<End> {
        let mut around = Around {
            spec,
            reconnect,
            orders,
            now,
        };
        while let Some(output) = self.session.poll_output() {
            if let Some(end) = self.output(output, &mut around) {
                return Some(end);
            }
        }
        self.judge(&mut around);
        self.convicted.then_some(End::Lost {
            refused: false,
            error: None,
        })
    }

    fn output(&mut self, output: SessionOutput, around: &mut Around<'_>) -> Option<End> {
        let association = self.association;
        match output {
            SessionOutput::OpenQueue { qid, cntlid, depth } => {
                let in_capsule_bytes = self.in_capsule_bytes;
                around.orders.push_back(PathOrder::OpenQueue {
                    association,
                    qid,
                    cntlid,
                    depth,
                    in_capsule_bytes,
                });
            }
            SessionOutput::Send { qid, sqe, data } => around.orders.push_back(PathOrder::Send {
                association,
                qid,
                sqe,
                data,
            }),
            SessionOutput::CloseQueue { qid } => around
                .orders
                .push_back(PathOrder::CloseQueue { association, qid }),
            SessionOutput::Event(event) => return self.event(event, around),
            // The session's last event follows and ends the attempt.
            SessionOutput::CloseAll => {}
        }
        None
    }

    /// Handles a session event; `Some` when the association is over.
    fn event(&mut self, event: Event, around: &mut Around<'_>) -> Option<End> {
        let (association, path, now) = (self.association, around.spec.id, around.now);
        match event {
            Event::Identified(facts) => {
                // Data may travel in a capsule only directly after the command.
                let adjacent = facts.in_capsule_offset == 0;
                self.in_capsule_bytes = if adjacent { facts.in_capsule_bytes } else { 0 };
            }
            Event::Ready(ready) => {
                around.reconnect.established(now);
                self.ready(*ready, around);
            }
            Event::QueuesAdded(qids) => around.report(Report::Queues(association, qids)),
            Event::AnaChanged(table) => around.report(Report::Ana(association, table)),
            Event::NamespacesChanged(list) => around.report(Report::Namespaces(association, list)),
            Event::AnaStale(error) | Event::NamespacesStale(error) => {
                tracing::warn!(path, "{error}; what was known stays in force");
            }
            Event::KeepAlive {
                sent_at,
                answered_at,
            } => {
                if let Some(health) = &mut self.health {
                    health.keep_alive_answered(sent_at, answered_at);
                }
            }
            Event::KeepAliveMissed { count } => {
                if let Some(health) = &mut self.health {
                    health.keep_alive_missed(count, now);
                }
            }
            Event::Reset { impacted, answer } => around.report(Report::Reset {
                association,
                impacted,
                answer,
            }),
            Event::Abort { command, answer } => {
                if let Some(stuck) = self.aborts.last_asked(command.qid, command.cid) {
                    around.report(Report::Abort { stuck, answer });
                }
            }
            Event::Resets(records) => self.reset_log(Some(records), around),
            Event::ResetsUnknown(error) => {
                tracing::warn!(path, "{error}");
                self.reset_log(None, around);
            }
            Event::LostHosts(lost) => around.report(Report::LostHosts(lost)),
            Event::Notice(notice) => tracing::info!(path, "asynchronous event: {notice:?}"),
            Event::Discovered(_) => {}
            Event::Closed { orderly } => {
                if !orderly {
                    tracing::info!(path, "the controller did not confirm shutdown");
                }
                return Some(End::Shutdown);
            }
            Event::Failed(error) => return Some(self.failed(error, around)),
        }
        None
    }

    /// The session is over: a ready association is convicted, an unready one is a failed attempt.
    fn failed(&mut self, error: SessionError, around: &mut Around<'_>) -> End {
        if self.stopping {
            return End::Shutdown;
        }
        let refused = error.is_refusal();
        let Some(health) = &mut self.health else {
            let error = Some(error);
            return End::Lost { refused, error };
        };
        tracing::warn!(path = around.spec.id, "{error}");
        health.session_failed(around.now);
        self.judge(around);
        assert!(
            self.convicted,
            "a ready association whose session is over is convicted"
        );
        let error = None;
        End::Lost { refused, error }
    }

    fn ready(&mut self, ready: Ready, around: &mut Around<'_>) {
        let association = self.association;
        self.health = Some(Health::new(around.spec.health, self.patience, around.now));
        // The last association may have used another port, whose link says nothing about this one.
        around.orders.push_back(PathOrder::WatchLink(association));
        around.report(Report::Up(Box::new(Up {
            association,
            ready,
            device: String::new(),
            node: None,
        })));
    }

    pub(super) fn handle_request(
        &mut self,
        request: Request,
        now: Duration,
        orders: &mut VecDeque<PathOrder>,
    ) {
        let own = self.association;
        match request {
            Request::Serves(association, path, shared) if association == own => {
                self.serves.push((path, shared));
            }
            Request::Broken(association, why) if association == own => {
                tracing::warn!("an I/O queue of association {own} broke: {why}");
                if let Some(health) = &mut self.health {
                    health.queue_failed(now);
                }
            }
            Request::CutOff(association) if association == own => {
                if let Some(health) = &mut self.health {
                    health.queue_silent(now);
                }
            }
            Request::Overdue(association, since, stuck) if association == own => {
                if let Some(health) = &mut self.health {
                    health.io_overdue(since, now);
                }
                if let Some(stuck) = stuck {
                    self.ask_back(stuck, now);
                }
            }
            Request::RefreshAna(association) if association == own => {
                self.session.refresh_ana(now);
            }
            Request::ResetOther(association, impacted) if association == own => {
                self.reset_other(impacted, now, orders);
            }
            Request::OpenQueues(association, count) if association == own => {
                let begun = self.session.add_io_queues(count, now);
                if !begun {
                    let none = Report::Queues(association, Vec::new());
                    orders.push_back(PathOrder::Report(none));
                }
            }
            Request::ReadResets(association) if association == own => {
                self.session.read_resets(now);
            }
            Request::HostLost(association) if association == own => {
                if let Some(health) = &mut self.health {
                    health.host_lost(now);
                }
            }
            // For an association that is gone, or there is nothing to hurry.
            _ => {}
        }
    }

    /// Asks the controller to abort a command that is overdue.
    fn ask_back(&mut self, stuck: Stuck, now: Duration) {
        let (qid, cid) = (stuck.qid, stuck.cid);
        let session = &mut self.session;
        self.aborts
            .ask(stuck, now, || session.abort(IoCommand { qid, cid }, now));
    }

    fn reset_other(&mut self, impacted: Instance, now: Duration, orders: &mut VecDeque<PathOrder>) {
        if !self.session.reset_other(impacted, now) {
            orders.push_back(PathOrder::Report(Report::Reset {
                association: self.association,
                impacted,
                answer: ResetAnswer::Unanswered,
            }));
        }
    }

    fn reset_log(&self, records: Option<Vec<ResetRecord>>, around: &mut Around<'_>) {
        let association = self.association;
        around.report(Report::ResetLog {
            association,
            records,
        });
    }

    /// Its link changed, or this is its state when monitoring starts.
    pub(super) fn handle_link(&mut self, link: Link, now: Duration) {
        let Some(health) = &mut self.health else {
            return;
        };
        match link {
            Link::Up => health.link_up(now),
            Link::Down(at) => health.link_down(at),
            Link::Fatal => health.device_fatal(now),
            Link::Unwatched => {}
        }
    }

    /// Runs the health checks and reports their verdicts.
    fn judge(&mut self, around: &mut Around<'_>) {
        let Some(health) = &mut self.health else {
            return;
        };
        if self.convicted || self.stopping {
            return;
        }
        let (association, at) = (self.association, around.now);
        for (path, shared) in &self.serves {
            health.pulse(shared.pulse(*path), at);
        }
        let report = match health.verdict(at) {
            None => return,
            Some(Verdict::Suspect(why)) => Report::Suspect {
                association,
                at,
                why,
            },
            Some(Verdict::Clear) => Report::Clear { association, at },
            Some(Verdict::Convict(why)) => {
                self.convicted = true;
                Report::Convict {
                    association,
                    at,
                    why,
                }
            }
        };
        around.report(report);
    }
}
