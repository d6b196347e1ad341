//! Writes TOML with a comment beside each key that states its origin.

use std::fmt::Write as _;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => quote(text, f),
            // TOML integers are signed.
            Self::Number(number) => write!(f, "{}", (*number).min(i64::MAX as u64)),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// Writes a literal string where that is easier to read, as for patterns.
fn quote(text: &str, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    if text.contains('\\') && !text.contains(['\'', '\n']) && !text.contains(char::is_control) {
        return write!(f, "'{text}'");
    }
    f.write_char('"')?;
    for char in text.chars() {
        match char {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            char if char.is_control() => write!(f, "\\u{:04x}", u32::from(char))?,
            char => f.write_char(char)?,
        }
    }
    f.write_char('"')
}

/// The document being written.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    text: String,
}

impl Writer {
    /// A comment on separate lines.
    pub(crate) fn comment(&mut self, words: &str) {
        for line in words.lines() {
            let line: String = line.chars().filter(|char| !char.is_control()).collect();
            let _ = writeln!(self.text, "# {line}");
        }
    }

    /// `[name]` or `[[name]]` after an empty line.
    pub(crate) fn table(&mut self, header: &str) {
        let _ = writeln!(self.text, "\n{header}");
    }

    /// `key = value # comment`.
    pub(crate) fn key(&mut self, key: &str, value: &Value, comment: &str) {
        let _ = write!(self.text, "{key} = {value}");
        if !comment.is_empty() {
            let _ = write!(self.text, "  # {comment}");
        }
        self.text.push('\n');
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_text_survives(text in proptest::prelude::any::<String>()) {
            let mut writer = Writer::default();
            writer.comment(&text);
            writer.key("x", &Value::from(text.as_str()), "line 1");
            let table: toml::Table = writer.finish().parse().unwrap();
            proptest::prop_assert_eq!(table["x"].as_str(), Some(text.as_str()));
        }
    }
}
