//! What the configuration leaves alone although a controller offers it.
//!
//! Which entry names it is decided in `config`; here it is told to whoever asked, and to the event log
//! once. What exists is never touched: a volume taken over has users, so its paths are made and met
//! whatever the entries say by now.

use umpath_protocol::{EventKind, Failure};
use umpath_session::NamespaceFacts;

use super::Hub;
use crate::config::{Config, IgnoreEntry};
use crate::events::{EventLog, Subject};

/// The words for a person who asked for something that is left alone.
fn failure(what: &str, entry: &IgnoreEntry) -> Failure {
    Failure::new(
        format!("{what} is ignored"),
        format!("{entry} in umpath.toml names it"),
        "remove that entry, or add one that names this and has except = true; then restart umpathd",
    )
}

/// Why a subsystem is left alone, if it is.
pub(super) fn subsystem(config: &Config, nqn: &str) -> Option<Failure> {
    let entry = config.ignored_subsystem(nqn)?;
    Some(failure(nqn, entry))
}

/// Tells the event log what is left alone.
pub(super) fn note(events: &EventLog, subject: Subject, failure: &Failure) {
    let words = format!("{}: {}", failure.what, failure.why);
    events.record(EventKind::Ignored, subject, words);
}

impl Hub {
    /// A path to a subsystem that is left alone is refused, unless a volume of it is there.
    pub(super) fn may_connect(&self, nqn: &str) -> Result<(), Failure> {
        match subsystem(&self.context.config, nqn) {
            Some(failure) if self.volumes.values().all(|volume| volume.nqn() != nqn) => {
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    /// Whether a namespace that would begin a volume is left alone; if so, that is noted.
    pub(super) fn leaves_alone(&mut self, path: u32, nsid: u32, facts: &NamespaceFacts) -> bool {
        let Some(record) = self.paths.get_mut(&path) else {
            return false;
        };
        let Some(live) = &mut record.live else {
            return false;
        };
        let config = &self.context.config;
        let Some(entry) = config.ignored_namespace(&live.ready.facts.model, facts) else {
            return false;
        };
        let what = format!("namespace {nsid} ({}) of {}", facts.id, record.spec.nqn);
        let failure = failure(&what, entry);
        // Every association meets it again; that is no news.
        if record.left_alone.insert(facts.id) {
            note(&self.context.events, Subject::path(path), &failure);
        }
        live.ignored.push(failure);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_named_as_it_stands_in_the_file() {
        let text = "[[ignore]]\nnqn = '^GB\\d+$'\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(subsystem(&config, "nqn.2026-11.example:a"), None);
        let failure = subsystem(&config, "GB01").unwrap();
        assert_eq!(failure.what, "GB01 is ignored");
        let why = "[[ignore]] nqn = '^GB\\d+$' in umpath.toml names it";
        assert_eq!(failure.why, why);
    }
}
