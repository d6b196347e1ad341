//! Namespaces and subsystems that a controller offers and the configuration ignores.
//!
//! [`Settings`](crate::settings::Settings) decides which entry matches; this module reports it to
//! the caller and once to the event log. It never touches what exists: a volume that was taken over
//! has users, so its paths are created and matched whatever the entries now say.

use std::time::Duration;

use umpath_protocol::{EventKind, Failure};
use umpath_session::NamespaceFacts;

use super::Host;
use crate::events::Subject;
use crate::settings::Settings;

/// The message for someone who asked for something that is ignored.
fn failure(what: &str, entry: &str) -> Failure {
    Failure::new(
        format!("{what} is ignored"),
        format!("{entry} in umpath.toml names it"),
        "remove that entry, or add one that names this and has except = true; then restart umpathd",
    )
}

/// Why a subsystem is ignored, if it is.
pub fn ignored_subsystem(settings: &dyn Settings, nqn: &str) -> Option<Failure> {
    let entry = settings.ignored_subsystem(nqn)?;
    Some(failure(nqn, &entry))
}

impl Host {
    /// Refuses a path to an ignored subsystem, unless a volume of that subsystem exists.
    pub(super) fn may_connect(&self, nqn: &str) -> Result<(), Failure> {
        match ignored_subsystem(&*self.settings, nqn) {
            Some(failure) if self.volumes.values().all(|volume| volume.nqn() != nqn) => {
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    /// Whether to ignore a namespace that would start a new volume; if so, logs it.
    pub(super) fn leaves_alone(&mut self, path: u32, nsid: u32, facts: &NamespaceFacts) -> bool {
        let record = self.paths.get_mut(&path).expect("a path that is there");
        let live = record.live.as_mut().expect("an association to match");
        let model = &live.ready.facts.model;
        let Some(entry) = self.settings.ignored_namespace(model, facts) else {
            return false;
        };
        let what = format!("namespace {nsid} ({}) of {}", facts.id, record.spec.nqn);
        let failure = failure(&what, &entry);
        // Every association finds it again; log it only once.
        if record.left_alone.insert(facts.id) {
            let words = format!("{}: {}", failure.what, failure.why);
            self.fx
                .event(EventKind::Ignored, Subject::path(path), words);
        }
        live.ignored.push(failure);
        true
    }

    /// Logs that a portal offered an ignored subsystem.
    pub fn note_ignored(&mut self, failure: &Failure, now: Duration) {
        self.begin(now);
        let words = format!("{}: {}", failure.what, failure.why);
        self.fx.event(EventKind::Ignored, Subject::default(), words);
    }
}
