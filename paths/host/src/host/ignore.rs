//! What the configuration leaves alone although a controller offers it.
//!
//! Which entry names it is the configuration's word ([`Settings`](crate::settings::Settings)); here it is
//! passed to whoever asked, and to the event log once. What exists is never touched: a volume taken
//! over has users, so its paths are made and matched whatever the entries say by now.

use std::time::Duration;

use umpath_protocol::{EventKind, Failure};
use umpath_session::NamespaceFacts;

use super::Host;
use crate::events::Subject;
use crate::settings::Settings;

/// The words for a person who asked for something that is left alone.
fn failure(what: &str, entry: &str) -> Failure {
    Failure::new(
        format!("{what} is ignored"),
        format!("{entry} in umpath.toml names it"),
        "remove that entry, or add one that names this and has except = true; then restart umpathd",
    )
}

/// Why a subsystem is left alone, if it is.
pub fn ignored_subsystem(settings: &dyn Settings, nqn: &str) -> Option<Failure> {
    let entry = settings.ignored_subsystem(nqn)?;
    Some(failure(nqn, &entry))
}

impl Host {
    /// A path to a subsystem that is left alone is refused, unless a volume of it is there.
    pub(super) fn may_connect(&self, nqn: &str) -> Result<(), Failure> {
        match ignored_subsystem(&*self.settings, nqn) {
            Some(failure) if self.volumes.values().all(|volume| volume.nqn() != nqn) => {
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    /// Whether a namespace that would begin a volume is left alone; if so, that is noted.
    pub(super) fn leaves_alone(&mut self, path: u32, nsid: u32, facts: &NamespaceFacts) -> bool {
        let record = self.paths.get_mut(&path).expect("a path that is there");
        let live = record.live.as_mut().expect("an association to match");
        let model = &live.ready.facts.model;
        let Some(entry) = self.settings.ignored_namespace(model, facts) else {
            return false;
        };
        let what = format!("namespace {nsid} ({}) of {}", facts.id, record.spec.nqn);
        let failure = failure(&what, &entry);
        // Every association finds it again; that is no news.
        if record.left_alone.insert(facts.id) {
            let words = format!("{}: {}", failure.what, failure.why);
            self.fx
                .event(EventKind::Ignored, Subject::path(path), words);
        }
        live.ignored.push(failure);
        true
    }

    /// A portal offered a subsystem that is left alone.
    pub fn note_ignored(&mut self, failure: &Failure, now: Duration) {
        self.begin(now);
        let words = format!("{}: {}", failure.what, failure.why);
        self.fx.event(EventKind::Ignored, Subject::default(), words);
    }
}
