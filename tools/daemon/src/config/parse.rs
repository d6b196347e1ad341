//! Parsing one file and collecting everything that does not fit the configuration's type.
//!
//! serde stops at the first error. So that an administrator does not have to fix a file error by
//! error, this module removes the offending item and parses the rest again. A file that is not TOML
//! is reported with all its syntax errors and counts as empty: guessing its content would only
//! mislead.

use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::Config;

#[derive(Debug)]
pub(super) struct File<'t> {
    pub(super) path: &'t Path,
    text: &'t str,
    /// The part of it that fits.
    pub(super) root: Spanned<DeTable<'t>>,
}

/// The byte offset of an item that does not fit, and the reason.
type Misfit = (usize, String);

impl<'t> File<'t> {
    /// Parses a file; returns what fits, and line and reason for the rest, in line order.
    pub(super) fn parse(path: &'t Path, text: &'t str) -> (Self, Vec<(usize, String)>) {
        let (mut root, errors) = DeTable::parse_recoverable(text);
        let mut misfits: Vec<Misfit>;
        if errors.is_empty() {
            misfits = take_out_misfits(&mut root);
        } else {
            misfits = errors.iter().map(misfit).collect();
            root = Spanned::new(0..0, DeTable::new());
        }
        let file = Self { path, text, root };
        misfits.sort();
        let mut placed: Vec<_> = misfits
            .into_iter()
            .map(|(at, why)| (file.line(at), why))
            .collect();
        // One typo often breaks several grammar rules.
        if !errors.is_empty() {
            placed.dedup_by_key(|(line, _)| *line);
        }
        (file, placed)
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        1 + before.matches('\n').count()
    }
}

fn misfit(error: &Error) -> Misfit {
    let at = error.span().map_or(0, |span| span.start);
    let words: Vec<&str> = error.message().split_whitespace().collect();
    (at, words.join(" "))
}

fn take_out_misfits(root: &mut Spanned<DeTable<'_>>) -> Vec<Misfit> {
    let mut misfits: Vec<Misfit> = Vec::new();
    let mut taken: Vec<Taken> = Vec::new();
    while let Err(error) = Config::deserialize(Deserializer::from(root.clone())) {
        let (at, mut why) = misfit(&error);
        // Do not report a removed key as missing.
        let ours =
            |gone: &Taken| gone.section == at && why == format!("missing field `{}`", gone.key);
        let said = taken.iter().any(ours);
        let section = root.span().start;
        let gone = take_out(root.get_mut(), section, at);
        // The error for a value does not name its key.
        if let Some(gone) = gone.as_ref().filter(|gone| !why.contains(&gone.key)) {
            why = format!("{}: {why}", gone.key);
        }
        if !said {
            misfits.push((at, why));
        }
        match gone {
            Some(gone) => taken.push(gone),
            None => break,
        }
    }
    misfits
}

/// A key removed from the table that begins at byte `section`.
struct Taken {
    section: usize,
    key: String,
}

/// Removes the smallest item that contains `at`: a key with its value, or an array entry.
fn take_out(table: &mut DeTable<'_>, section: usize, at: usize) -> Option<Taken> {
    let mut whole = None;
    for (key, value) in table.iter_mut() {
        let within = key.span().contains(&at) || value.span().contains(&at);
        let start = value.span().start;
        let inner = match value.get_mut() {
            DeValue::Table(inner) => take_out(inner, start, at),
            DeValue::Array(entries) => entries.iter_mut().find_map(|entry| {
                let start = entry.span().start;
                match entry.get_mut() {
                    DeValue::Table(inner) => take_out(inner, start, at),
                    _ => None,
                }
            }),
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
        if let DeValue::Array(entries) = value.get_mut()
            && let Some(misfit) = entries
                .iter()
                .position(|entry| entry.get_ref().is_table() && entry.span().contains(&at))
        {
            let fits = entries.iter().enumerate().filter(|(at, _)| *at != misfit);
            *entries = fits.map(|(_, entry)| entry.clone()).collect();
            let key = key.get_ref().to_string();
            return Some(Taken { section, key });
        }
        if within {
            whole = Some(key.clone());
        }
    }
    let key = whole?;
    table.remove(&key)?;
    let key = key.get_ref().to_string();
    Some(Taken { section, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<(usize, String)> {
        File::parse(Path::new("umpath.toml"), text).1
    }

    fn lines(text: &str) -> Vec<usize> {
        mistakes(text).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn everything_that_does_not_fit_is_named() {
        let text = "[control]\ngroup = 3\n[defaults]\nkato = 1\nkato_ms = \"x\"\nqueue_depth = -1\n\
                    failback = \"never\"\n[[connect]]\ncontrollers = [\"10.0.0.1\", 2]\nnqn = \"x\"\n\
                    [[connect]]\nnqns = []\n[[volume]]\nalias = \"a\"\n[deflts]\nkato_ms = 3\n\
                    [[device]]\nfailback = 3\n";
        assert_eq!(
            lines(text),
            [2, 4, 5, 6, 7, 9, 10, 11, 13, 15, 17],
            "{:#?}",
            mistakes(text)
        );
        let whys: Vec<_> = mistakes(text).into_iter().map(|(_, why)| why).collect();
        assert!(whys[1].starts_with("unknown field `kato`"), "{whys:#?}");
        assert!(whys[2].starts_with("kato_ms: invalid type"), "{whys:#?}");
        assert_eq!(whys[7], "connect: missing field `controllers`");
    }

    #[test]
    fn what_fits_is_kept() {
        let text = "[defaults]\nkato = 1\nkato_ms = 900\n[[connect]]\nx = 1\n[[connect]]\n\
                    controllers = [\"10.0.0.2\"]\n";
        let (file, mistakes) = File::parse(Path::new("a"), text);
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        let config = Config::deserialize(Deserializer::from(file.root)).unwrap();
        assert_eq!(config.defaults.kato_ms, 900);
        assert_eq!(config.connect.len(), 1);
    }

    #[test]
    fn errors_of_grammar_are_named_once_a_line() {
        let text =
            "[defaults]\nkato_ms = 1\nkato_ms = 2\nfailback = \"x\n\n[control]\ngroup = = 3\n";
        let mistakes = mistakes(text);
        assert_eq!(lines(text), [3, 4, 7], "{mistakes:#?}");
        assert!(mistakes.iter().all(|(_, why)| !why.contains('\n')));
    }

    /// This parser reports mistakes exactly when serde rejects the file, however broken it is.
    #[test]
    fn broken_files_are_refused_and_no_others() {
        let examples: String = crate::config::DOCUMENTED
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.to_owned() + "\n")
            .collect();
        let mut lot: u64 = 1;
        let mut draw = |below: usize| {
            lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (lot >> 33) as usize % below
        };
        let mut refused = 0;
        for _ in 0..400 {
            let mut bytes = examples.clone().into_bytes();
            for _ in 0..=draw(3) {
                let at = draw(bytes.len());
                match draw(3) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes[at] = b"\"=[]\n3x{},"[draw(10)],
                    _ => bytes.insert(at, b"\"=[]\n3x{},"[draw(10)]),
                }
            }
            let Ok(text) = String::from_utf8(bytes) else {
                continue;
            };
            let wrong = !mistakes(&text).is_empty();
            assert_eq!(wrong, toml::from_str::<Config>(&text).is_err(), "{text}");
            refused += usize::from(wrong);
        }
        assert!((100..400).contains(&refused), "{refused}");
    }
}
