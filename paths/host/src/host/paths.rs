//! Connecting and removing paths.

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

use super::attach::{Known, Live};
use super::inherited::Recorded;

/// A request to create a path.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its description, except for the number, which the host assigns.
    pub spec: PathSpec,
    /// The original request, recorded for the next process.
    pub asked: Asked,
    /// Keep trying even if it was never up.
    pub standing: bool,
    /// Discovery found it again: what an operator has removed stays removed.
    pub rediscovered: bool,
    /// The caller to answer with [`Answer::Path`], if any.
    pub call: Option<CallId>,
}

#[derive(Debug)]
pub(super) struct PathRecord {
    pub(super) spec: PathSpec,
    /// The original request, recorded for the next process.
    pub(super) asked: Asked,
    /// Kept even if it was never up.
    pub(super) standing: bool,
    /// Callers to answer once the path is up with all its volumes, or has failed.
    waiting: Vec<Waiting>,
    /// The association, while there is one.
    pub(super) live: Option<Live>,
    /// The failover being logged, from the first suspicion until I/O is back.
    pub(super) failover: Option<FailoverId>,
    /// What the controller reported at the last connection; empty before the first.
    pub(super) known: Known,
    /// Why the last attempt failed; empty after a success.
    pub(super) last_error: String,
    pub(super) connects: u64,
    /// Volumes removed by hand: their namespaces are ignored here.
    pub(super) ignored: BTreeSet<StableId>,
    /// Namespaces the configuration ignores that the event log already mentions.
    pub(super) left_alone: BTreeSet<StableId>,
    /// The path is being removed.
    pub(super) ending: bool,
}

/// A caller waiting for a path.
#[derive(Debug)]
struct Waiting {
    call: CallId,
    /// The path existed before the call.
    already: bool,
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

    /// Whether a caller waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Host {
    /// Reserves the number of a configured path, whichever path comes up first.
    pub fn reserve(&mut self, asked: &Asked) -> u32 {
        let key = numbers::key(&asked.portal, &asked.nqn);
        let (number, news) = self.numbers.number(&key);
        self.save_numbers_if(news);
        number
    }

    /// Logs a path that was refused before it reached the host.
    pub fn note_refused(&mut self, failure: &Failure, now: Duration) {
        self.begin(now);
        let subject = Subject::default();
        self.fx
            .event(EventKind::Refused, subject, failure.to_string());
    }

    /// Creates a path, or finds the existing one.
    pub fn handle_connect(&mut self, wanted: Wanted, now: Duration) {
        self.begin(now);
        if wanted.rediscovered && self.was_removed(&wanted.asked) {
            let failure = Failure::new(
                format!(
                    "{} at {} is not connected",
                    wanted.asked.nqn, wanted.asked.portal.traddr
                ),
                "an operator removed this path",
                "umpath connect brings it back",
            );
            if let Some(call) = wanted.call {
                self.fx
                    .order(Order::Answer(call, Answer::Path(Err(failure))));
            }
            return;
        }
        self.connect(wanted);
        self.settle();
    }

    fn was_removed(&self, asked: &Asked) -> bool {
        let key = numbers::key(&asked.portal, &asked.nqn);
        self.removed.contains(&key)
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

    /// The path's number, and whether it existed already.
    fn connect_checked(&mut self, wanted: Wanted) -> Result<(u32, bool), Failure> {
        if self.stopping.is_some() {
            return Err(Failure::new("umpathd is stopping", "", ""));
        }
        let Wanted {
            mut spec,
            mut asked,
            standing,
            rediscovered,
            ..
        } = wanted;
        self.may_connect(&asked.nqn)?;
        if !rediscovered {
            self.removed
                .remove(&numbers::key(&asked.portal, &asked.nqn));
            self.hurry_sweeps();
        }
        let twin = self
            .paths
            .iter_mut()
            .find(|(_, record)| record.spec.leads_where(&spec) && !record.ending);
        if let Some((&known, twin)) = twin {
            twin.standing |= standing;
            let ignored = if rediscovered {
                BTreeSet::new()
            } else {
                std::mem::take(&mut twin.ignored)
            };
            self.fx.ask_path(known, Request::Retry);
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
        let mut record = PathRecord::new(spec, asked, standing);
        if rediscovered {
            record.ignored = self.ignored_in(record.spec.nqn.as_str());
        }
        self.paths.insert(number, record);
        Ok((number, false))
    }

    /// Volumes of a subsystem that an operator removed.
    fn ignored_in(&self, nqn: &str) -> BTreeSet<StableId> {
        let paths = self.paths.values();
        let of_it = paths.filter(|record| record.spec.nqn.as_str() == nqn);
        of_it.flat_map(|record| record.ignored.clone()).collect()
    }

    /// The number bound to the path; a new one while another path with that number is being
    /// removed.
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

    /// A path needs a queue pair for each queue thread of each volume of its subsystem, even if the
    /// configuration now asks for fewer: a block device keeps the queues it was created with.
    fn fit_queues(&self, spec: &mut PathSpec) {
        let volumes = self.volumes.values();
        let wanted = volumes
            .filter(|volume| volume.nqn() == spec.nqn.as_str())
            .map(Volume::queues_wanted)
            .max();
        let queues = &mut spec.session.io_queues_per_namespace;
        *queues = (*queues).max(wanted.unwrap_or(0));
    }

    /// Handles a report from a path.
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

    /// Reports the failure to callers who wait for the path. A path that is not `standing` is
    /// dropped if it was never up.
    fn attempt_failed(&mut self, path: u32, failure: &Failure, retry_at: Option<Duration>) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        let repeated = record.last_error == failure.why;
        record.last_error.clone_from(&failure.why);
        let keep = retry_at.is_some() && (record.standing || record.connects > 0);
        self.answer_waiting(path, &Err(with_outlook(failure, keep)));
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

    /// The path did not come back in time. I/O no longer waits for it; a `standing` path keeps
    /// trying.
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

    /// Gives every caller who waits for a path this answer.
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

    /// Answers callers who wait for a path once all its volumes are attached or refused.
    pub(super) fn settle_connects(&mut self) {
        let settled: Vec<u32> = self
            .paths
            .iter()
            // The end of a path that is being removed answers its callers.
            .filter(|(_, record)| record.is_awaited() && !record.ending)
            .filter(|(path, record)| {
                let live = record.live.as_ref();
                live.is_some_and(|live| self.is_settled(**path, live))
            })
            .map(|(path, _)| *path)
            .collect();
        for path in settled {
            self.settle_connect(path);
        }
    }

    fn is_settled(&self, path: u32, live: &Live) -> bool {
        let troubled = |id: &_| {
            let volume = self.volumes.get(id);
            volume.is_some_and(|volume| volume.trouble().is_some())
        };
        let started = |volume: &Volume| volume.is_started() || volume.trouble().is_some();
        let mut served = self.volumes.values().filter(|volume| volume.has_path(path));
        match live.recorded {
            Recorded::Pending => false,
            Recorded::Failed { .. } => true,
            Recorded::Durable => live.pending.iter().all(troubled) && served.all(started),
        }
    }

    fn settle_connect(&mut self, path: u32) {
        let live = self.live(path).expect("an association that is settled");
        let mut refused: Vec<Failure> = live.refusals.failures().cloned().collect();
        for id in &live.pending {
            let volume = self.volumes.get(id).expect("a volume that is waited for");
            refused.extend(volume.not_served());
        }
        let ignored = live.ignored.clone();
        let mut outcome = self.outcome(path);
        let none = outcome.volumes.is_empty();
        // A volume that waits to be taken over, or for its last block device to be deleted, will need
        // it.
        let waits = !live.pending.is_empty() || self.awaits_sweep(live);
        let hopeless = none && !waits;
        let useless = hopeless && !(refused.is_empty() && ignored.is_empty());
        let ends = useless && !self.path(path).standing;
        for failure in &mut refused {
            *failure = with_outlook(failure, !ends);
        }
        let first = refused.first().filter(|_| none).cloned();
        outcome.refused = refused;
        outcome.ignored = ignored;
        let answer = first.map_or(Ok(outcome), Err);
        self.answer_waiting(path, &answer);
        if ends {
            self.end_path(path);
        }
    }

    /// Ends a path that no longer serves a volume.
    pub(super) fn end_path(&mut self, path: u32) {
        self.attach_no_more(path);
        self.destroy_spares(path);
        self.fx.ask_path(path, Request::Shutdown);
    }

    /// Attaches nothing more to a path: it is being removed.
    pub(super) fn attach_no_more(&mut self, path: u32) {
        let record = self.path_mut(path);
        record.ending = true;
        let Some(live) = &mut record.live else {
            return;
        };
        live.registered.clear();
        for id in std::mem::take(&mut live.pending) {
            self.discard_if_unwanted(id);
        }
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
        // It may have been lost while a volume that never had a path was to be attached to it.
        for id in self.volumes.keys().copied().collect::<Vec<_>>() {
            self.discard_if_unwanted(id);
        }
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

/// A failure with what follows from it for those who wait for the path.
fn with_outlook(failure: &Failure, stays: bool) -> Failure {
    let outlook = if stays {
        "it is tried again by itself"
    } else {
        "the path is given up: connect it again after that"
    };
    let mut failure = failure.clone();
    if !failure.fix.is_empty() {
        failure.fix.push_str("; ");
    }
    failure.fix.push_str(outlook);
    failure
}
