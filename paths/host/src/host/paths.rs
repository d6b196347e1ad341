//! Paths come, try, and go.

use std::collections::BTreeSet;
use std::time::Duration;

use umpath_protocol::{EventKind, Failure, PathOutcome};
use umpath_session::StableId;

use super::{Host, numbers};
use crate::events::{FailoverId, Subject};
use crate::order::{Answer, CallId, Order};
use crate::path::{PathSpec, Report, Request};
use crate::record::Asked;
use crate::volume::Volume;

use super::attach::Live;

/// A path to make.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it is; its number is given here.
    pub spec: PathSpec,
    /// As it was asked for, for the next process.
    pub asked: Asked,
    /// Keep trying although it was never up.
    pub standing: bool,
    /// Whoever asked; [`Answer::Path`] follows.
    pub call: Option<CallId>,
}

/// What is known of a path.
#[derive(Debug)]
pub(super) struct PathRecord {
    pub(super) spec: PathSpec,
    /// As it was asked for, for the next process.
    pub(super) asked: Asked,
    /// Kept although it was never up.
    pub(super) standing: bool,
    /// Told when the path is up with all its volumes, or could not be made.
    waiting: Vec<Waiting>,
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
}

/// Someone who asked for a path.
#[derive(Debug)]
struct Waiting {
    call: CallId,
    /// The path was there before.
    already: bool,
}

/// What a controller said about itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) serial: String,
    pub(super) model: String,
    pub(super) cntlid: u16,
    pub(super) kato: Option<Duration>,
}

impl PathRecord {
    fn new(spec: PathSpec, asked: Asked, standing: bool) -> Self {
        Self {
            spec,
            asked,
            standing,
            waiting: Vec::new(),
            live: None,
            failover: None,
            known: Known::default(),
            last_error: String::new(),
            connects: 0,
            ignored: BTreeSet::new(),
            left_alone: BTreeSet::new(),
            ending: false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.live.as_ref().and_then(Live::poll_timeout)
    }

    /// Somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Host {
    /// The number of a path that the configuration wants to stand, from now on and whichever is up
    /// first.
    pub fn reserve(&mut self, asked: &Asked) -> u32 {
        let key = numbers::key(&asked.portal, &asked.nqn);
        let (number, news) = self.numbers.number(&key);
        self.save_numbers_if(news);
        number
    }

    /// A path was refused before it came here.
    pub fn note_refused(&mut self, failure: &Failure, now: Duration) {
        self.begin(now);
        let subject = Subject::default();
        self.fx
            .event(EventKind::Refused, subject, failure.to_string());
    }

    /// Makes a path, or finds that it exists.
    pub fn handle_connect(&mut self, wanted: Wanted, now: Duration) {
        self.begin(now);
        self.connect(wanted);
        self.settle();
    }

    pub(super) fn connect(&mut self, wanted: Wanted) {
        let call = wanted.call;
        match self.connect_checked(wanted) {
            Ok((path, already)) => {
                if let Some(call) = call {
                    let waiting = Waiting { call, already };
                    self.path_mut(path).waiting.push(waiting);
                }
            }
            Err(failure) => {
                let subject = Subject::default();
                self.fx
                    .event(EventKind::Refused, subject, failure.to_string());
                if let Some(call) = call {
                    self.fx
                        .order(Order::Answer(call, Answer::Path(Err(failure))));
                }
            }
        }
    }

    /// The path's number, and whether it was there before.
    fn connect_checked(&mut self, wanted: Wanted) -> Result<(u32, bool), Failure> {
        if self.stopping.is_some() {
            return Err(Failure::new("umpathd is stopping", "", ""));
        }
        let Wanted {
            mut spec,
            mut asked,
            standing,
            ..
        } = wanted;
        self.may_connect(&asked.nqn)?;
        let twin = self
            .paths
            .iter_mut()
            .find(|(_, record)| record.spec.leads_where(&spec) && !record.ending);
        if let Some((&known, twin)) = twin {
            twin.standing |= standing;
            let ignored = std::mem::take(&mut twin.ignored);
            self.fx.to_path(known, Request::Retry);
            self.match_again(known, &ignored);
            self.retry_refusals_of(known);
            return Ok((known, true));
        }
        let (number, news) = self.number_for(&asked);
        self.save_numbers_if(news);
        spec.id = number;
        asked.number = Some(number);
        self.fit_queues(&mut spec);
        self.fx.order(Order::RunPath(Box::new(spec.clone())));
        let record = PathRecord::new(spec, asked, standing);
        self.paths.insert(number, record);
        Ok((number, false))
    }

    /// The number that belongs to the path; another one while a path of that number is being removed.
    fn number_for(&mut self, asked: &Asked) -> (u32, bool) {
        let key = numbers::key(&asked.portal, &asked.nqn);
        let reserved = asked
            .number
            .filter(|number| !self.paths.contains_key(number));
        if let Some(number) = reserved {
            return (number, self.numbers.bind(&key, number));
        }
        let (number, news) = self.numbers.number(&key);
        if !self.paths.contains_key(&number) {
            return (number, news);
        }
        self.numbers.forget(number);
        self.numbers.number(&key)
    }

    fn save_numbers_if(&mut self, news: bool) {
        if news {
            self.fx.order(Order::SaveNumbers(self.numbers.pairs()));
        }
    }

    /// A path needs a queue pair for each queue thread of each volume of its subsystem, also where
    /// the configuration asks for fewer by now: the block device keeps the queues it was made with.
    fn fit_queues(&self, spec: &mut PathSpec) {
        let volumes = self.volumes.values();
        let wanted = volumes
            .filter(|volume| volume.nqn() == spec.nqn.as_str())
            .map(Volume::queues_wanted)
            .max();
        let queues = &mut spec.session.io_queues_per_namespace;
        *queues = (*queues).max(wanted.unwrap_or(0));
    }

    /// A path reports.
    pub fn handle_report(&mut self, path: u32, report: Report, now: Duration) {
        self.begin(now);
        self.report(path, report);
        self.settle();
    }

    fn report(&mut self, path: u32, report: Report) {
        match report {
            Report::Failed { failure, retry_at } => self.attempt_failed(path, &failure, retry_at),
            Report::Up(up) => self.up(path, *up),
            Report::Queues(association, qids) => self.queues_opened(path, association, qids),
            Report::GivenUp => self.given_up(path),
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
                let age = self.fx.now.saturating_sub(stuck.since);
                let words = format!(
                    "command {:#06x} of queue {}, sent {:.1} s ago: {answer}",
                    stuck.cid,
                    stuck.qid,
                    age.as_secs_f64()
                );
                self.fx
                    .event(EventKind::CommandAborted, Subject::path(path), words);
            }
            Report::ResetLog {
                association,
                records,
            } => self.reset_log(association, records.as_deref()),
            Report::LostHosts(lost) => self.lost_hosts(path, &lost),
            Report::AdminSilent { association, at } => self.admin_silent(association, at),
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
        let keep = retry_at.is_some() && (record.standing || record.connects > 0);
        self.answer_waiting(path, &Err(failure.clone()));
        if !repeated || !keep {
            let words = if keep { "trying again" } else { "given up" };
            let words = format!("{}: {}; {words}", failure.what, failure.why);
            self.fx
                .event(EventKind::ConnectFailed, Subject::path(path), words);
        }
        if !keep && retry_at.is_some() {
            self.end_path(path);
        }
    }

    /// The path did not come back in time. I/O does not wait for it any more; one that is to stand
    /// is still asked for.
    fn given_up(&mut self, path: u32) {
        let Some(record) = self.paths.get(&path) else {
            return;
        };
        if !record.standing {
            return self.end_path(path);
        }
        let words = format!(
            "{} did not come back within ctrl_loss_tmo: no I/O waits for it; trying again",
            record.spec.address()
        );
        self.fx
            .event(EventKind::ConnectFailed, Subject::path(path), words);
        for volume in self.volumes.values_mut() {
            volume.path_removed(path, &mut self.fx);
        }
    }

    /// Everybody who waits for a path gets this answer.
    pub(super) fn answer_waiting(&mut self, path: u32, answer: &Result<PathOutcome, Failure>) {
        let waiting = std::mem::take(&mut self.path_mut(path).waiting);
        for Waiting { call, already } in waiting {
            let mut answer = answer.clone();
            if let Ok(outcome) = &mut answer {
                outcome.already = already;
            }
            self.fx.order(Order::Answer(call, Answer::Path(answer)));
        }
    }

    /// Ends a path that carries no volume any more.
    pub(super) fn end_path(&mut self, path: u32) {
        let record = self.path_mut(path);
        record.ending = true;
        self.destroy_spares(path);
        self.fx.to_path(path, Request::Shutdown);
    }

    fn path_ended(&mut self, path: u32) {
        if !self.paths.contains_key(&path) {
            return;
        }
        self.leave_volumes(path);
        let stopping = Failure::new("the path was removed", "", "");
        self.answer_waiting(path, &Err(stopping));
        let record = self.paths.remove(&path).expect("a path that is there");
        if !record.standing {
            let news = self.numbers.forget(path);
            self.save_numbers_if(news);
        }
        let words = format!("{} {}", record.spec.address(), record.spec.nqn);
        self.fx
            .event(EventKind::PathRemoved, Subject::path(path), words);
    }

    /// The outcome of a path that is up.
    pub(super) fn outcome(&self, path: u32) -> PathOutcome {
        let record = self.path(path);
        let volumes = || self.volumes.values().filter(|volume| volume.has_path(path));
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
