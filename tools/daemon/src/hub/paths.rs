//! Paths come, try, and go.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use umpath_protocol::{EventKind, Failure, PathOutcome};
use umpath_session::StableId;

use super::{Hub, Wanted};
use crate::association::{self, Order, PathSpec, Report};
use crate::clock;
use crate::events::{FailoverId, Subject};
use crate::keeper::Asked;
use crate::spec::path_spec;
use crate::volume::Volume;

use super::attach::Live;
use super::teardown::FencedQueue;

/// What is known of a path.
#[derive(Debug)]
pub(super) struct PathRecord {
    pub(super) spec: PathSpec,
    /// As it was asked for, for the next umpathd.
    pub(super) asked: Asked,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// Kept although it was never up.
    pub(super) standing: bool,
    /// Told when the path is up with all its volumes, or could not be made.
    pub(super) waiting: Vec<Waiting>,
    /// The association, while there is one.
    pub(super) live: Option<Live>,
    /// The failover being written down, from the first suspicion until I/O is back.
    pub(super) failover: Option<FailoverId>,
    /// What was said at the last connection; empty before it.
    pub(super) known: Known,
    /// Why the last attempt failed; empty after one that did not.
    pub(super) last_error: String,
    pub(super) connects: u64,
    /// Volumes that were removed by hand: their namespaces are left alone.
    pub(super) ignored: BTreeSet<StableId>,
    /// Namespaces that the configuration leaves alone, as far as the event log was told.
    pub(super) left_alone: BTreeSet<StableId>,
    /// The path is being removed.
    pub(super) ending: bool,
    /// Name for a volume the path brings.
    pub(super) alias: Option<String>,
}

/// Someone who asked for a path.
#[derive(Debug)]
pub(super) struct Waiting {
    reply: oneshot::Sender<Result<PathOutcome, Failure>>,
    /// The path was there before.
    already: bool,
}

impl Waiting {
    pub(super) fn tell(self, mut answer: Result<PathOutcome, Failure>) {
        if let Ok(outcome) = &mut answer {
            outcome.already = self.already;
        }
        // An asker that has gone away needs no answer.
        let _ = self.reply.send(answer);
    }
}

/// What a controller said about itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) serial: String,
    pub(super) model: String,
    pub(super) cntlid: u16,
    pub(super) kato: Option<Duration>,
}

impl Hub {
    /// Makes a path, or finds that it exists.
    pub(super) fn connect(&mut self, wanted: Wanted) {
        match self.connect_checked(&wanted) {
            Ok((path, already)) => {
                if let (Some(record), Some(reply)) = (self.paths.get_mut(&path), wanted.reply) {
                    record.waiting.push(Waiting { reply, already });
                }
            }
            Err(failure) => {
                self.context.events.record(
                    EventKind::Refused,
                    Subject::default(),
                    failure.to_string(),
                );
                if let Some(reply) = wanted.reply {
                    let _ = reply.send(Err(failure));
                }
            }
        }
    }

    /// The path's number, and whether it was there before.
    fn connect_checked(&mut self, wanted: &Wanted) -> Result<(u32, bool), Failure> {
        if self.stopping.is_some() {
            return Err(Failure::new("umpathd is stopping", "", ""));
        }
        let id = self.path_last + 1;
        let context = &self.context;
        let Wanted {
            portal,
            nqn,
            options,
            ..
        } = wanted;
        let spec = path_spec(id, portal, nqn, options, &context.config, &context.host)?;
        self.may_connect(nqn)?;
        let twin = self.paths.values_mut().find(|record| {
            record.spec.traddr == spec.traddr
                && record.spec.host_traddr == spec.host_traddr
                && record.spec.nqn == spec.nqn
                && !record.ending
        });
        if let Some(twin) = twin {
            twin.standing |= wanted.standing;
            let _ = twin.orders.send(Order::Retry);
            let (known, ignored) = (twin.spec.id, std::mem::take(&mut twin.ignored));
            self.meet_again(known, &ignored);
            return Ok((known, true));
        }
        self.path_last = id;
        let (orders, inbox) = mpsc::unbounded_channel();
        let links = context.links.clone();
        tokio::spawn(association::run(
            spec.clone(),
            links,
            inbox,
            self.outbox.clone(),
        ));
        let record = PathRecord {
            spec,
            asked: Asked {
                portal: portal.clone(),
                nqn: nqn.clone(),
                options: options.clone(),
            },
            orders,
            standing: wanted.standing,
            waiting: Vec::new(),
            live: None,
            failover: None,
            known: Known::default(),
            last_error: String::new(),
            connects: 0,
            ignored: BTreeSet::new(),
            left_alone: BTreeSet::new(),
            ending: false,
            alias: wanted.options.alias.clone(),
        };
        self.paths.insert(id, record);
        Ok((id, false))
    }

    pub(super) fn path_report(&mut self, path: u32, report: Report) {
        match report {
            Report::Failed { failure, retry_at } => self.attempt_failed(path, &failure, retry_at),
            Report::Up(up) => self.up(path, *up),
            Report::Ana(association, table) => self.ana_changed(path, association, table),
            Report::Namespaces(association, namespaces) => {
                self.namespaces_changed(path, association, &namespaces);
            }
            Report::Suspect {
                association,
                at,
                why,
            } => self.suspect(path, association, at, why),
            Report::Clear { association, at } => self.clear(path, association, at),
            Report::Convict {
                association,
                at,
                why,
            } => self.convict(path, association, at, why),
            Report::Reset {
                association,
                impacted,
                answer,
            } => self.reset_answered(association, impacted, answer),
            Report::Abort { stuck, answer } => {
                let age = clock::now().saturating_sub(stuck.since);
                let words = format!(
                    "command {:#06x} of queue {}, sent {:.1} s ago: {answer}",
                    stuck.cid,
                    stuck.qid,
                    age.as_secs_f64()
                );
                let subject = Subject::path(path);
                self.context
                    .events
                    .record(EventKind::CommandAborted, subject, words);
            }
            Report::ResetLog {
                association,
                records,
            } => self.reset_log(association, records.as_deref()),
            Report::LostHosts(lost) => self.lost_hosts(path, &lost),
            Report::AdminSilent { association, at } => {
                self.queue_silent(association, FencedQueue::Admin, at);
            }
            Report::Ended => self.path_ended(path),
        }
    }

    /// Someone who waits for the path is told why there is none yet. A path that nobody asked to keep
    /// goes, if it was never up.
    fn attempt_failed(&mut self, path: u32, failure: &Failure, retry_at: Option<Duration>) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        let repeated = record.last_error == failure.why;
        record.last_error.clone_from(&failure.why);
        for waiting in record.waiting.drain(..) {
            waiting.tell(Err(failure.clone()));
        }
        let keep = retry_at.is_some() && (record.standing || record.connects > 0);
        if !repeated || !keep {
            let words = if keep { "trying again" } else { "given up" };
            self.context.events.record(
                EventKind::ConnectFailed,
                Subject::path(path),
                format!("{}: {}; {words}", failure.what, failure.why),
            );
        }
        if retry_at.is_none() {
            self.path_ended(path);
        } else if !keep {
            self.end_path(path);
        }
    }

    /// Ends a path that carries no volume any more.
    pub(super) fn end_path(&mut self, path: u32) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        record.ending = true;
        self.let_go_of_spares(path);
        if let Some(record) = self.paths.get_mut(&path)
            && record.orders.send(Order::Shutdown).is_err()
        {
            self.path_ended(path);
        }
    }

    fn path_ended(&mut self, path: u32) {
        self.leave_volumes(path);
        if let Some(record) = self.paths.remove(&path) {
            let words = format!("{} {}", record.spec.address(), record.spec.nqn);
            self.context
                .events
                .record(EventKind::PathRemoved, Subject::path(path), words);
        }
    }

    /// The outcome of a path that is up.
    pub(super) fn outcome(&self, path: u32, record: &PathRecord) -> PathOutcome {
        let volumes = || {
            self.volumes
                .values()
                .filter(move |volume| volume.has_path(path))
        };
        PathOutcome {
            path,
            nqn: record.spec.nqn.to_string(),
            address: record.spec.address(),
            volumes: volumes().map(|volume| volume.name().to_owned()).collect(),
            devices: volumes().map(Volume::device_name).collect(),
            already: false,
            refused: Vec::new(),
            ignored: Vec::new(),
        }
    }
}
