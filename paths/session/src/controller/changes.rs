//! Changes that a controller announces, and how a ready session reads them again: one read at a time.

use std::time::Duration;

use umpath_nvme::Cqe;

use super::{Controller, Phase};
use crate::ana::AnaTable;
use crate::ana_log::AnaRead;
use crate::answer::Answer;
use crate::namespace::{Namespace, NamespaceProblem};
use crate::notice::Notice;
use crate::output::Event;
use crate::resets::{self, LogKind};
use crate::scan::Scan;

/// Pause before a failed read of the ANA log or of the namespaces is repeated.
const REREAD_PAUSE: Duration = Duration::from_secs(1);

/// What a ready session is busy with.
#[derive(Debug)]
pub(super) enum Work {
    Idle,
    Scan(Scan),
    Ana(AnaRead),
    Log(LogKind),
}

/// Changes not yet looked at, and from when on they may be.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) namespaces: bool,
    pub(super) ana: bool,
    pub(super) resets: bool,
    pub(super) lost_hosts: bool,
    pub(super) not_before: Duration,
    /// A group is in transition, which is over by then: the log is read again whether or not an
    /// event says so.
    pub(super) settled_at: Option<Duration>,
    /// A namespace could not be identified for now, and nothing will announce that it can be.
    pub(super) rescan_at: Option<Duration>,
}

impl Pending {
    pub(super) fn any(&self) -> bool {
        self.namespaces || self.ana || self.resets || self.lost_hosts
    }
}

impl Controller {
    pub(super) fn async_event(&mut self, cqe: &Cqe, now: Duration) {
        if !cqe.status().is_success() {
            // The controller holds fewer requests than it said: make do with those it has.
            return;
        }
        if !matches!(self.phase, Phase::Stopping(_) | Phase::Over) {
            self.link.request_event();
        }
        match Notice::of(cqe.dw0()) {
            Notice::Namespaces => self.pending.namespaces = true,
            Notice::Ana => self.pending.ana = true,
            Notice::Resets => self.pending.resets = true,
            Notice::LostHosts => self.pending.lost_hosts = true,
            Notice::Other(event) => self.link.event(Event::Notice(event)),
        }
        self.look(now);
    }

    /// Starts looking at announced changes if nothing else is going on.
    pub(super) fn look(&mut self, now: Duration) {
        let (Phase::Ready(work @ Work::Idle), Some(facts)) = (&mut self.phase, &self.facts) else {
            return;
        };
        if self.pending.settled_at.is_some_and(|at| at <= now) {
            self.pending.settled_at = None;
            self.pending.ana = true;
        }
        if self.pending.rescan_at.is_some_and(|at| at <= now) {
            self.pending.rescan_at = None;
            self.pending.namespaces = true;
        }
        let paused = now < self.pending.not_before && !self.pending.resets;
        if !self.pending.any() || paused {
            return;
        }
        // Writes may wait for what became of a reset: nothing else comes first.
        if std::mem::take(&mut self.pending.resets) {
            self.link.ask(LogKind::Resets.begin(), now);
            *work = Work::Log(LogKind::Resets);
        } else if std::mem::take(&mut self.pending.namespaces) {
            // A new namespace may have joined a group.
            self.pending.ana |= facts.ana.is_some();
            let limit = self.connector.config().namespaces_max;
            let scan = Scan::changes(facts, limit, self.namespaces.clone());
            self.link.ask(scan.begin(), now);
            *work = Work::Scan(scan);
        } else if std::mem::take(&mut self.pending.ana)
            && let Ok(Some(read)) = AnaRead::new(facts)
        {
            self.link.ask(read.begin(), now);
            *work = Work::Ana(read);
        } else if std::mem::take(&mut self.pending.lost_hosts) {
            self.link.ask(LogKind::LostHosts.begin(), now);
            *work = Work::Log(LogKind::LostHosts);
        }
    }

    /// Goes on with a read after [`Phase::Ready`]; a failure costs only the read.
    pub(super) fn work(&mut self, work: Work, answer: &Answer<'_>, now: Duration) {
        let (work, failed) = match work {
            Work::Idle => (Work::Idle, None),
            Work::Log(kind) => {
                self.log_read(kind, answer);
                (Work::Idle, None)
            }
            Work::Scan(mut scan) => match scan.answer(answer) {
                Ok(next) => match self.link.proceed(next, now) {
                    None => (Work::Scan(scan), None),
                    Some(namespaces) => {
                        self.scanned(namespaces);
                        self.note_refused(scan.is_unread(), now);
                        (Work::Idle, None)
                    }
                },
                Err(error) => {
                    self.pending.namespaces = true;
                    (Work::Idle, Some(Event::NamespacesStale(error)))
                }
            },
            Work::Ana(mut read) => match read.answer(answer) {
                Ok(next) => match self.link.proceed(next, now) {
                    None => (Work::Ana(read), None),
                    Some(table) => {
                        self.note_transition(&table, now);
                        self.ana_read(table);
                        (Work::Idle, None)
                    }
                },
                Err(error) => {
                    self.pending.ana = true;
                    (Work::Idle, Some(Event::AnaStale(error)))
                }
            },
        };
        self.phase = Phase::Ready(work);
        if let Some(event) = failed {
            self.pending.not_before = now.saturating_add(REREAD_PAUSE);
            self.link.event(event);
        }
        self.look(now);
    }

    /// A log of resets or lost hosts is not read again by itself: whoever waits for it asks.
    pub(super) fn log_read(&mut self, kind: LogKind, answer: &Answer<'_>) {
        let event = match kind {
            LogKind::Resets => match resets::resets(answer) {
                Ok(records) => Event::Resets(records),
                Err(error) => Event::ResetsUnknown(error),
            },
            LogKind::LostHosts => match resets::lost_hosts(answer) {
                Ok(lost) => Event::LostHosts(lost),
                Err(_) => return,
            },
        };
        self.link.event(event);
    }

    pub(super) fn scanned(&mut self, namespaces: Vec<Namespace>) {
        if namespaces != self.namespaces {
            self.namespaces.clone_from(&namespaces);
            self.link.event(Event::NamespacesChanged(namespaces));
        }
    }

    /// Namespaces that were refused for now are identified again after a while, and so is everything
    /// when the list of changes was refused (`unread`).
    pub(super) fn note_refused(&mut self, unread: bool, now: Duration) {
        let refused = |namespace: &Namespace| match &namespace.facts {
            Err(NamespaceProblem::Refused(status)) => !status.dnr(),
            _ => false,
        };
        let refused = unread || self.namespaces.iter().any(refused);
        self.pending.rescan_at = refused.then(|| now.saturating_add(REREAD_PAUSE));
    }

    /// No transition lasts longer than ANATT, in whole seconds.
    pub(super) fn note_transition(&mut self, table: &AnaTable, now: Duration) {
        let longest = self.facts.as_ref().and_then(|facts| facts.ana);
        let longest = longest.map_or(Duration::ZERO, |ana| ana.transition);
        self.pending.settled_at = table
            .is_changing()
            .then(|| now.saturating_add(longest.max(REREAD_PAUSE)));
    }

    pub(super) fn ana_read(&mut self, table: AnaTable) {
        if std::mem::take(&mut self.ana_asked) || self.ana.as_ref() != Some(&table) {
            self.ana = Some(table.clone());
            self.link.event(Event::AnaChanged(table));
        }
    }
}
