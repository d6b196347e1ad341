//! Locating a mistake in the configuration files.
//!
//! Values of the wrong type are found while a file is parsed. Values that parse and are still
//! invalid are found only after the files have been merged; this module finds their section again
//! in the original text.

use std::fmt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::parse::File;

/// The section with the mistake. Array indexes count through all files, in reading order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The `[defaults]` table.
    Defaults,
    /// The `[[connect]]` entry with this index.
    Connect(usize),
    /// The `[[ignore]]` entry with this index.
    Ignore(usize),
    /// The `[[device]]` entry with this index.
    Device(usize),
    /// The `[[volume]]` entry with this index.
    Volume(usize),
}

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(super) place: Place,
    /// The key and what is wrong with its value.
    pub(super) why: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Mistake {
    /// File and line of the first key it names, else of its section.
    pub(super) fn locate<'f>(&self, files: &[File<'f>]) -> Option<(&'f Path, usize)> {
        match self.place {
            // The last file that sets a key determines its value.
            Place::Defaults => files.iter().rev().find_map(|file| {
                let defaults = table(file.root.get_ref().get("defaults")?)?;
                Some((file.path, file.line(self.key(defaults)?)))
            }),
            Place::Connect(index) => self.entry(files, "connect", index),
            Place::Ignore(index) => self.entry(files, "ignore", index),
            Place::Device(index) => self.entry(files, "device", index),
            Place::Volume(index) => self.entry(files, "volume", index),
        }
    }

    fn entry<'f>(
        &self,
        files: &[File<'f>],
        section: &str,
        mut index: usize,
    ) -> Option<(&'f Path, usize)> {
        for file in files {
            let Some(DeValue::Array(entries)) =
                file.root.get_ref().get(section).map(Spanned::get_ref)
            else {
                continue;
            };
            let Some(entry) = entries.get(index) else {
                index -= entries.len();
                continue;
            };
            let at = self.key(table(entry)?).unwrap_or(entry.span().start);
            return Some((file.path, file.line(at)));
        }
        None
    }

    /// The line of the first key of `section` that the message names.
    fn key(&self, section: &DeTable<'_>) -> Option<usize> {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let named = |key: &str| {
            self.why.match_indices(key).map(|(at, _)| at).find(|at| {
                let bytes = self.why.as_bytes();
                let before = at.checked_sub(1).and_then(|at| bytes.get(at));
                let after = bytes.get(at + key.len());
                !before.is_some_and(is_word) && !after.is_some_and(is_word)
            })
        };
        section
            .iter()
            .filter_map(|(key, _)| Some((named(key.get_ref())?, key.span().start)))
            .min()
            .map(|(_, at)| at)
    }
}

fn table<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Option<&'a DeTable<'i>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::checked;
    use std::path::PathBuf;

    /// The places of the mistakes in these files, read in this order.
    fn places(texts: &[&str]) -> Vec<String> {
        let files: Vec<_> = (0..)
            .zip(texts)
            .map(|(index, text)| (PathBuf::from(format!("{index}.toml")), (*text).to_owned()))
            .collect();
        let wrong = checked(&files).unwrap_err().to_string();
        let place = |line: &str| line.split(": ").next().unwrap().to_owned();
        wrong.lines().map(place).collect()
    }

    #[test]
    fn a_value_out_of_bounds_is_named_with_file_and_line() {
        assert_eq!(
            places(&["# one\n[defaults]\n\nretry_count = 9\n"]),
            ["0.toml:4"]
        );
        let both = "[defaults]\nheartbeat_ms = 400\n\nkato_ms = 500\n";
        assert_eq!(places(&[both]), ["0.toml:4"]);
        let later = [
            "[defaults]\nretry_count = 9\n",
            "[defaults]\nretry_count = 8\n",
        ];
        assert_eq!(places(&later), ["1.toml:2"]);
    }

    #[test]
    fn an_entry_is_found_in_the_file_it_came_from() {
        let one = "[[volume]]\nid = \"uuid.1\"\n[[device]]\nmodel = \"A\"\nfailback = 3\n";
        let two = "[[volume]]\nid = \"uuid.2\"\npreferred = [\"nowhere\"]\n";
        assert_eq!(places(&[one, two]), ["1.toml:3"]);
        let three = "\n[[device]]\nmodel = \"B\"\nfailbak = 3\n";
        assert_eq!(places(&[one, three]), ["1.toml:4"]);
        let twins = [
            "[[volume]]\nid = \"uuid.1\"\n",
            "\n[[volume]]\nid = \"uuid.1\"\n",
        ];
        assert_eq!(places(&twins), ["1.toml:3"], "the second of two that clash");
        let ignore = "[[ignore]]\nnqn = \"GB\"\n[[ignore]]\nwwid = \"a(\"\n";
        assert_eq!(places(&[one, ignore]), ["1.toml:4"]);
        let nobody = "[[connect]]\ncontrollers = []\n";
        assert_eq!(places(&[one, nobody]), ["1.toml:2"]);
    }
}
