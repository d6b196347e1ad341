//! Changes that a controller announces, and how a ready session reads them again: one read at a time.
//!
//! Decided here: what is read first. Writes may wait for what became of a reset. Then comes the ANA log, by
//! which I/O finds its paths, and only then the namespaces. When a read that failed is repeated is
//! decided in `pending`.

use std::time::Duration;

use umpath_nvme::Cqe;

use super::{Controller, Phase};
use crate::ana::AnaTable;
use crate::ana_log::AnaRead;
use crate::answer::Answer;
use crate::error::SessionError;
use crate::notice::Notice;
use crate::output::Event;
use crate::pending::PAUSE;
use crate::resets::{self, LogKind};
use crate::scan::{Changed, Found, Scan};

/// What a ready session is busy with.
#[derive(Debug)]
pub(super) enum Work {
    Idle,
    Scan(Scan),
    Ana(AnaRead),
    Log(LogKind),
}

impl Controller {
    pub(super) fn async_event(&mut self, cqe: &Cqe, now: Duration) {
        if !cqe.status().is_success() {
            // The controller holds fewer requests than it said: make do with those it has.
            return;
        }
        if !matches!(self.phase, Phase::Stopping(_) | Phase::Over) {
            self.admin.request_event();
        }
        match Notice::of(cqe.dw0()) {
            Notice::Namespaces => self.pending.namespaces.news(now),
            Notice::Ana if self.reports_ana() => self.pending.ana.news(now),
            Notice::Ana => {}
            Notice::Resets => self.pending.resets = true,
            Notice::LostHosts => self.pending.lost_hosts = true,
            Notice::Other(event) => self.admin.event(Event::Notice(event)),
        }
        self.look(now);
    }

    pub(super) fn reports_ana(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.ana.is_some())
    }

    /// Starts to read what has changed if nothing else is going on.
    pub(super) fn look(&mut self, now: Duration) {
        let (Phase::Ready(work @ Work::Idle), Some(facts)) = (&mut self.phase, &self.facts) else {
            return;
        };
        if self.pending.settled_at.take_if(|at| *at <= now).is_some() {
            self.pending.ana.news(now);
        }
        if std::mem::take(&mut self.pending.resets) {
            self.admin.ask(LogKind::Resets.begin(), now);
            *work = Work::Log(LogKind::Resets);
        } else if self.pending.ana.take(now)
            && let Ok(Some(read)) = AnaRead::new(facts)
        {
            self.admin.ask(read.begin(), now);
            *work = Work::Ana(read);
        } else if self.pending.namespaces.take(now) {
            let limit = self.connector.config().namespaces_max;
            let unread = std::mem::take(&mut self.unread);
            let scan = Scan::changes(facts, limit, self.namespaces.clone(), unread);
            self.admin.ask(scan.begin(), now);
            *work = Work::Scan(scan);
        } else if std::mem::take(&mut self.pending.lost_hosts) {
            self.admin.ask(LogKind::LostHosts.begin(), now);
            *work = Work::Log(LogKind::LostHosts);
        }
    }

    /// Goes on with a read after [`Phase::Ready`]; a failure costs only the read.
    pub(super) fn work(&mut self, work: Work, answer: &Answer<'_>, now: Duration) {
        let next = match work {
            Work::Idle => Work::Idle,
            Work::Log(kind) => {
                self.log_read(kind, answer);
                Work::Idle
            }
            Work::Scan(scan) => self.scan(scan, answer, now),
            Work::Ana(read) => self.read_ana(read, answer, now),
        };
        self.phase = Phase::Ready(next);
        self.look(now);
    }

    fn scan(&mut self, mut scan: Scan, answer: &Answer<'_>, now: Duration) -> Work {
        match scan.answer(answer) {
            Ok(next) => match self.admin.proceed(next, now) {
                None => return Work::Scan(scan),
                Some(found) => self.scanned(found, now),
            },
            Err(error) => {
                self.unread = scan.into_unread();
                self.pending.namespaces.failed(now);
                self.admin.event(Event::NamespacesStale(error));
            }
        }
        Work::Idle
    }

    fn scanned(&mut self, found: Found, now: Duration) {
        if found.namespaces != self.namespaces {
            self.namespaces.clone_from(&found.namespaces);
            let namespaces = found.namespaces.clone();
            self.admin.event(Event::NamespacesChanged(namespaces));
        }
        if self.reports_ana() {
            // A new namespace may have joined a group.
            self.pending.ana.news(now);
        }
        if let Some(error) = self.note_unread(found, now) {
            self.admin.event(Event::NamespacesStale(error));
        }
    }

    /// What could not be read is read again later; until then what was known of it stands. Returns
    /// why, if that is news.
    pub(super) fn note_unread(&mut self, found: Found, now: Duration) -> Option<SessionError> {
        self.unread = Changed::Some(found.unread);
        if found.error.is_none() {
            self.pending.namespaces.succeeded();
            return None;
        }
        let again = self.pending.namespaces.failed(now);
        found.error.filter(|_| !again)
    }

    fn read_ana(&mut self, mut read: AnaRead, answer: &Answer<'_>, now: Duration) -> Work {
        match read.answer(answer) {
            Ok(next) => match self.admin.proceed(next, now) {
                None => return Work::Ana(read),
                Some(table) => {
                    self.pending.ana.succeeded();
                    self.note_transition(&table, now);
                    self.ana_read(table);
                }
            },
            Err(error) => {
                self.pending.ana.failed(now);
                self.admin.event(Event::AnaStale(error));
            }
        }
        Work::Idle
    }

    /// A log of resets or lost hosts is not read again by itself: whoever waits for it asks.
    fn log_read(&mut self, kind: LogKind, answer: &Answer<'_>) {
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
        self.admin.event(event);
    }

    /// No transition lasts longer than ANATT, in whole seconds.
    pub(super) fn note_transition(&mut self, table: &AnaTable, now: Duration) {
        let longest = self.facts.as_ref().and_then(|facts| facts.ana);
        let longest = longest.map_or(Duration::ZERO, |ana| ana.transition);
        self.pending.settled_at = table
            .is_changing()
            .then(|| now.saturating_add(longest.max(PAUSE)));
    }

    fn ana_read(&mut self, table: AnaTable) {
        if std::mem::take(&mut self.pending.ana_asked) || self.ana.as_ref() != Some(&table) {
            self.ana = Some(table.clone());
            self.admin.event(Event::AnaChanged(table));
        }
    }
}
