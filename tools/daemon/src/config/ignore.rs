//! `[[ignore]]`: subsystems and namespaces to ignore although a controller offers them.
//!
//! An entry names subsystems, namespaces or array models by a regular expression that must match,
//! or with a leading `!` must not match. Exceptions win over entries of the same kind, in whatever
//! order, and do not affect other kinds, as in multipath.conf.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use umpath_session::{NamespaceFacts, StableId};

use super::Config;

/// Exactly one of `nqn`, `wwid` and `model` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IgnoreEntry {
    /// Pattern for subsystem NQNs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nqn: Option<String>,
    /// Pattern for namespaces, by any of their identifiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wwid: Option<String>,
    /// Pattern for the models that controllers report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Use what this names, whatever other entries of its kind say.
    #[serde(default)]
    pub(crate) except: bool,
}

/// What a pattern is matched against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nqn,
    Wwid,
    Model,
}

impl IgnoreEntry {
    pub(super) fn check(&self) -> Result<(), String> {
        let mut names = self.names();
        let (Some((kind, pattern)), None) = (names.next(), names.next()) else {
            return Err(
                "[[ignore]] has one of nqn, wwid and model; write an entry for each".into(),
            );
        };
        let (_, pattern) = inversion(pattern);
        match regex(kind, pattern) {
            Ok(_) => Ok(()),
            // The error draws a picture and gives the reason on its last line; a mistake has only
            // one line.
            Err(error) => {
                let words = error.to_string();
                let last = words.lines().next_back().unwrap_or_default();
                Err(format!("{self}: {last}"))
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = (Kind, &str)> {
        [
            (Kind::Nqn, &self.nqn),
            (Kind::Wwid, &self.wwid),
            (Kind::Model, &self.model),
        ]
        .into_iter()
        .filter_map(|(kind, name)| Some((kind, name.as_deref()?)))
    }

    /// Whether it is of this kind and matches one of these names.
    fn holds_for(&self, wanted: Kind, names: &[String]) -> bool {
        let Some((_, pattern)) = self.names().find(|(kind, _)| *kind == wanted) else {
            return false;
        };
        let (inverted, pattern) = inversion(pattern);
        // Checked when the file was read.
        let Ok(regex) = regex(wanted, pattern) else {
            return false;
        };
        names.iter().any(|name| regex.is_match(name)) != inverted
    }
}

impl fmt::Display for IgnoreEntry {
    /// The entry as written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, pattern) = match self.names().next() {
            Some((Kind::Nqn, pattern)) => ("nqn", pattern),
            Some((Kind::Wwid, pattern)) => ("wwid", pattern),
            Some((Kind::Model, pattern)) => ("model", pattern),
            None => return f.write_str("[[ignore]]"),
        };
        write!(f, "[[ignore]] {key} = {}", toml::Value::from(pattern))
    }
}

fn inversion(pattern: &str) -> (bool, &str) {
    match pattern.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    }
}

/// Identities are hexadecimal and may be written in capitals.
fn regex(kind: Kind, pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .case_insensitive(kind == Kind::Wwid)
        .build()
}

impl Config {
    /// The entry that ignores a subsystem.
    pub(crate) fn ignored_subsystem(&self, nqn: &str) -> Option<&IgnoreEntry> {
        self.ignored(Kind::Nqn, &[nqn.to_owned()])
    }

    /// The entry that ignores a namespace behind a controller of this model.
    pub(crate) fn ignored_namespace(
        &self,
        model: &str,
        facts: &NamespaceFacts,
    ) -> Option<&IgnoreEntry> {
        self.ignored(Kind::Model, &[model.to_owned()])
            .or_else(|| self.ignored(Kind::Wwid, &identifiers(facts)))
    }

    fn ignored(&self, kind: Kind, names: &[String]) -> Option<&IgnoreEntry> {
        let holds = |except: bool| {
            let mut entries = self.ignore.iter();
            entries.find(|entry| entry.except == except && entry.holds_for(kind, names))
        };
        holds(false).filter(|_| holds(true).is_none())
    }
}

/// Every identifier of a namespace, spelled as `umpath -ll` prints the preferred one.
fn identifiers(facts: &NamespaceFacts) -> Vec<String> {
    let others = [
        facts.uuid.map(StableId::Uuid),
        facts.nguid.map(StableId::Nguid),
        facts.eui64.map(StableId::Eui64),
    ];
    let others = others.into_iter().flatten().filter(|id| *id != facts.id);
    std::iter::once(facts.id)
        .chain(others)
        .map(|id| id.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let config: Config = toml::from_str(text).unwrap();
        assert!(config.mistakes().is_empty());
        config
    }

    /// A namespace with a UUID of 01 bytes, an NGUID of 02 bytes and an EUI-64 of ab bytes.
    fn namespace() -> NamespaceFacts {
        NamespaceFacts {
            id: StableId::Uuid([1; 16]),
            uuid: Some([1; 16]),
            nguid: Some([2; 16]),
            eui64: Some([0xab; 8]),
            blocks: 1,
            lba_shift: 12,
            shared: true,
            ana_group: 0,
            write_protected: false,
            deallocated_reads_zero: false,
            write_zeroes_deallocates: false,
            dealloc_granularity: 1,
            dealloc_alignment: 1,
            write_granularity: 1,
            write_optimal: None,
            io_boundary: None,
        }
    }

    fn ignored(text: &str) -> bool {
        config(text)
            .ignored_namespace("PVL-MX09", &namespace())
            .is_some()
    }

    #[test]
    fn patterns_are_found_in_names() {
        let nqn = |pattern: &str, nqn: &str| {
            let config = config(&format!("[[ignore]]\nnqn = {pattern:?}"));
            config.ignored_subsystem(nqn).is_some()
        };
        assert!(nqn("array", "nqn.2026-11.example:array1"));
        assert!(nqn("^GB0000[12]$", "GB00002"));
        assert!(!nqn("^GB0000[12]$", "GB000021"));
        assert!(
            !nqn("ARRAY", "nqn.2026-11.example:array1"),
            "NQNs have cases"
        );
        assert!(nqn("!^GB", "nqn.2026-11.example:array1"));
        assert!(!nqn("!^GB", "GB00002"));
        assert!(nqn("\\!x", "a!x"), "an escaped ! is itself");
    }

    #[test]
    fn namespaces_have_several_identifiers_and_a_model() {
        assert!(ignored("[[ignore]]\nwwid = \"^uuid.01010101-\""));
        assert!(ignored("[[ignore]]\nwwid = \"^eui.0202020202020202\""));
        assert!(ignored("[[ignore]]\nwwid = \"EUI.ABABABABABABABAB$\""));
        assert!(!ignored("[[ignore]]\nwwid = \"^eui.03\""));
        assert!(ignored("[[ignore]]\nmodel = \"^PVL-\""));
        assert!(!ignored("[[ignore]]\nmodel = \"^MX09\""));
        assert!(
            !ignored("[[ignore]]\nnqn = \".*\""),
            "that is about subsystems"
        );
    }

    #[test]
    fn exceptions_win_within_their_kind_whatever_the_order() {
        let all = "[[ignore]]\nwwid = \".*\"\n";
        let but = "[[ignore]]\nwwid = \"^eui.02\"\nexcept = true\n";
        let other = "[[ignore]]\nmodel = \".*\"\nexcept = true\n";
        assert!(ignored(all));
        assert!(!ignored(&[all, but].concat()));
        assert!(!ignored(&[but, all].concat()));
        assert!(ignored(&[all, other].concat()), "a model excepts no wwid");
        assert!(!ignored(but), "an exception alone ignores nothing");
        let inverted = "[[ignore]]\nwwid = \"!^eui.02\"\n";
        assert!(!ignored(inverted), "one of its identifiers is named");
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str| {
            let config = toml::from_str::<Config>(text).unwrap();
            let mistakes = config.mistakes();
            assert_eq!(mistakes.len(), 1, "{text}");
            mistakes[0].to_string()
        };
        assert!(refused("[[ignore]]\nexcept = true\n").contains("one of nqn"));
        let two = refused("[[ignore]]\nnqn = \"a\"\nwwid = \"b\"\n");
        assert!(two.contains("one of nqn"), "{two}");
        let pattern = refused("[[ignore]]\nwwid = \"!a(\"\n");
        assert!(pattern.contains("[[ignore]] wwid = \"!a(\""), "{pattern}");
        assert!(toml::from_str::<Config>("[[ignore]]\nserial = \"x\"\n").is_err());
    }
}
