//! Namespaces an association cannot serve, and when to retry them.
//!
//! No refusal is permanent: its cause (a full disk, a missing driver, a contradicting path, an
//! array setting) may go away without notice. So every refusal is retried periodically, and at once
//! when a likely cause has changed or an operator asks. It is logged only when its reason changes.

use std::collections::BTreeMap;
use std::time::Duration;

use umpath_protocol::{EventKind, Failure};
use umpath_session::StableId;

use super::Host;
use super::inherited::Recorded;
use crate::events::Subject;

/// First and longest pause between retries.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

#[derive(Debug)]
struct Refusal {
    failure: Failure,
    /// `None`: a retry is in progress.
    retry_at: Option<Duration>,
    pause: Duration,
    /// It waits for the last volume of the namespace to go.
    until_gone: bool,
}

impl Refusal {
    /// Its retry is due now, unless it is in progress.
    fn hurry(&mut self, now: Duration) {
        self.retry_at = self.retry_at.map(|at| at.min(now));
    }
}

/// The refusals of one association, by NSID.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<u32, Refusal>);

impl Refusals {
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.0.values().filter_map(|refusal| refusal.retry_at).min()
    }

    /// The namespace is in use or gone.
    pub(super) fn clear(&mut self, nsid: u32) {
        self.0.remove(&nsid);
    }

    pub(super) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.0.values().map(|refusal| &refusal.failure)
    }

    /// `true` if this refusal is new or its reason has changed.
    fn note(&mut self, nsid: u32, failure: Failure, now: Duration) -> bool {
        let [first, longest] = PAUSES;
        let known = self.0.get(&nsid);
        let news = known.is_none_or(|known| known.failure != failure);
        let pause = known.map_or(first, |known| (known.pause * 2).min(longest));
        let refusal = Refusal {
            failure,
            retry_at: Some(now + pause),
            pause,
            until_gone: false,
        };
        self.0.insert(nsid, refusal);
        news
    }

    /// Takes the refusals that are due; their retries are now in progress.
    fn take_due(&mut self, now: Duration) -> Vec<u32> {
        let due = |refusal: &&mut Refusal| refusal.retry_at.is_some_and(|at| at <= now);
        let mut nsids = Vec::new();
        for (nsid, refusal) in &mut self.0 {
            if due(&refusal) {
                refusal.retry_at = None;
                nsids.push(*nsid);
            }
        }
        nsids
    }

    /// It is tried again later: what it waits for is still under way.
    fn postpone(&mut self, nsid: u32, now: Duration) {
        if let Some(refusal) = self.0.get_mut(&nsid) {
            refusal.retry_at = Some(now + refusal.pause);
        }
    }

    /// Whether a namespace waits for its last volume to go.
    pub(super) fn waits_until_gone(&self, nsid: u32) -> bool {
        self.0.get(&nsid).is_some_and(|refusal| refusal.until_gone)
    }

    fn hurry(&mut self, now: Duration) {
        for refusal in self.0.values_mut() {
            refusal.hurry(now);
        }
    }
}

impl Host {
    /// Refuses a namespace on a path, with a reason and a remedy.
    pub(super) fn refuse(&mut self, path: u32, nsid: u32, why: String, fix: &str) {
        let record = self.path(path);
        let what = format!(
            "namespace {nsid} of {} at {} is refused",
            record.spec.nqn,
            record.spec.address()
        );
        self.note_refusal(path, nsid, &Failure::new(what, why, fix));
    }

    /// Refuses a namespace whose last volume is still going.
    pub(super) fn refuse_until_gone(&mut self, path: u32, nsid: u32, why: String) {
        self.refuse(path, nsid, why, "");
        if let Some(live) = self.live_mut(path)
            && let Some(refusal) = live.refusals.0.get_mut(&nsid)
        {
            refusal.until_gone = true;
        }
    }

    pub(super) fn note_refusal(&mut self, path: u32, nsid: u32, failure: &Failure) {
        let now = self.fx.now;
        let Some(live) = self.live_mut(path) else {
            return;
        };
        if live.refusals.note(nsid, failure.clone(), now) {
            let subject = Subject::path(path);
            self.fx
                .event(EventKind::Refused, subject, failure.to_string());
        }
    }

    /// Retries a path's refusals now: their causes may have changed.
    pub(super) fn retry_refusals_of(&mut self, path: u32) {
        let now = self.fx.now;
        if let Some(live) = self.live_mut(path) {
            live.refusals.hurry(now);
            if let Recorded::Failed { retry_at } = &mut live.recorded {
                *retry_at = now;
            }
        }
        self.retry_due(path);
    }

    /// Retries every refusal caused by this volume.
    pub(super) fn retry_refusals_for(&mut self, id: StableId) {
        for (path, _) in self.paths_with(id) {
            self.retry_refusals_of(path);
        }
    }

    /// Live paths with this namespace, and the NSID it has there.
    fn paths_with(&self, id: StableId) -> Vec<(u32, u32)> {
        let concerned = |(path, record): (&u32, &super::PathRecord)| {
            let (nsid, _) = record.live.as_ref()?.namespace(id)?;
            Some((*path, nsid))
        };
        self.paths.iter().filter_map(concerned).collect()
    }

    /// Retries the refusals that waited for this volume to go, and no others: what is retried after each
    /// end of a volume that cannot be used would make the next one at once.
    pub(super) fn retry_those_waiting_for(&mut self, id: StableId) {
        let now = self.fx.now;
        for (path, nsid) in self.paths_with(id) {
            let refusals = self.live_mut(path).map(|live| &mut live.refusals.0);
            let refusal = refusals.and_then(|refusals| refusals.get_mut(&nsid));
            if let Some(refusal) = refusal.filter(|refusal| refusal.until_gone) {
                refusal.hurry(now);
                self.retry_due(path);
            }
        }
    }

    pub(super) fn refusals_due(&mut self) {
        let paths: Vec<u32> = self.paths.keys().copied().collect();
        for path in paths {
            self.retry_due(path);
        }
    }

    fn retry_due(&mut self, path: u32) {
        let now = self.fx.now;
        let Some(live) = self.live_mut(path) else {
            return;
        };
        match live.recorded {
            Recorded::Failed { retry_at } if retry_at <= now => return self.put_on_record(path),
            Recorded::Failed { .. } | Recorded::Pending => return,
            Recorded::Durable => {}
        }
        let association = live.association;
        for nsid in live.refusals.take_due(now) {
            let live = self.live_mut(path).expect("an association with refusals");
            let mut namespaces = live.ready.namespaces.iter();
            let Some(namespace) = namespaces.find(|it| it.nsid == nsid).cloned() else {
                live.refusals.clear(nsid);
                continue;
            };
            if self.is_matched(path, association, &namespace) {
                // By a volume that is being created, or removed after it could not be started.
                let live = self.live_mut(path).expect("an association with refusals");
                live.refusals.postpone(nsid, now);
            } else {
                self.match_namespace(path, &namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_tried_again_ever_later_and_said_when_it_is_news() {
        let s = Duration::from_secs;
        let full = || Failure::new("a", "no space", "");
        let mut refusals = Refusals::default();
        assert!(refusals.note(1, full(), s(10)));
        assert_eq!(refusals.poll_timeout(), Some(s(11)));
        assert_eq!(refusals.take_due(s(10)), []);
        assert_eq!(refusals.take_due(s(11)), [1]);
        assert_eq!(refusals.poll_timeout(), None, "it is being tried");
        assert!(!refusals.note(1, full(), s(11)), "the same is no news");
        assert_eq!(refusals.poll_timeout(), Some(s(13)));
        refusals.hurry(s(12));
        assert_eq!(refusals.take_due(s(12)), [1]);
        assert!(refusals.note(1, Failure::new("a", "read-only", ""), s(12)));
        refusals.clear(1);
        assert_eq!(refusals.failures().count(), 0);
    }
}
