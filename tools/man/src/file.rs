//! The manual page of a configuration file, generated from the file itself: TOML in which comments
//! explain the keys below them.
//!
//! `# words` explain, `key = value` is a key at its default, `# key = value` one that is absent by
//! default, and lines after `#:` are an example of an entry that does not exist by default.

use std::io;

use clap_mangen::roff::{Inline, Roff, bold, roman};

use crate::{MANUAL, NO_DATE, Page};

/// Lines of TOML with the explanation above them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// The explanation, one string per paragraph.
    pub words: Vec<String>,
    /// The lines, without comment marks.
    pub lines: Vec<Line>,
}

/// One line of TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The line as it would be in force.
    pub toml: String,
    /// Whether it is in force by default.
    pub kind: Kind,
}

/// Role of a line of TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In force by default.
    Default,
    /// A key that is absent by default.
    Absent,
    /// Part of an example.
    Example,
}

impl Line {
    /// The name of the table it opens, if any.
    pub fn table(&self) -> Option<&str> {
        self.toml.starts_with('[').then_some(self.toml.as_str())
    }

    /// The key it sets, if any.
    pub fn key(&self) -> Option<&str> {
        key(&self.toml)
    }
}

fn key(toml: &str) -> Option<&str> {
    let (key, _) = toml.split_once(" = ")?;
    let is_bare = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    key.bytes().all(is_bare).then_some(key)
}

/// The file's blocks, in order.
pub fn blocks(documented: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut block = Block::default();
    let mut paragraph_ends = false;
    for line in documented.lines() {
        let (toml, kind) = match (line.strip_prefix("#: "), line.strip_prefix("# ")) {
            (Some(example), _) => (example, Kind::Example),
            (_, Some(words)) if key(words).is_some() => (words, Kind::Absent),
            (_, Some(words)) => {
                if !block.lines.is_empty() {
                    blocks.push(std::mem::take(&mut block));
                }
                match block.words.last_mut().filter(|_| !paragraph_ends) {
                    Some(paragraph) => {
                        paragraph.push(' ');
                        paragraph.push_str(words);
                    }
                    None => block.words.push(words.to_owned()),
                }
                paragraph_ends = false;
                continue;
            }
            _ if matches!(line, "" | "#" | "#:") => {
                paragraph_ends = true;
                continue;
            }
            _ => (line, Kind::Default),
        };
        let toml = toml.to_owned();
        let line = Line { toml, kind };
        if line.table().is_some() && !block.lines.is_empty() {
            blocks.push(std::mem::take(&mut block));
        }
        block.lines.push(line);
        paragraph_ends = false;
    }
    blocks.push(block);
    blocks
}

/// The page `name`.5 of a documented file. `name` and `about` are its heading, `see_also` its end.
pub fn of_file(
    name: &str,
    version: &str,
    about: &str,
    documented: &str,
    see_also: &str,
) -> io::Result<Page> {
    let mut roff = Roff::new();
    let source = format!("umpath {version}");
    roff.control("TH", [name, "5", NO_DATE, &source, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {about}"))]);
    roff.control("SH", ["DESCRIPTION"]);
    let mut section = String::new();
    for block in blocks(documented) {
        block.render(&mut section, &mut roff);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(see_also)]);
    let mut text = Vec::new();
    roff.to_writer(&mut text)?;
    Ok(Page {
        name: format!("{name}.5"),
        roff: text,
    })
}

impl Block {
    fn render(&self, section: &mut String, roff: &mut Roff) {
        let (opened, keys): (Vec<_>, Vec<_>) =
            self.lines.iter().partition(|line| line.table().is_some());
        let Some(table) = opened.first().and_then(|line| line.table()) else {
            self.render_keys(&keys, roff);
            return;
        };
        // The text above the first table describes the whole file.
        if section.is_empty() {
            self.render_words(roff);
        }
        let first = section.is_empty();
        if section != table {
            table.clone_into(section);
            roff.control("SH", [table]);
        }
        if !first {
            self.render_words(roff);
        }
        if !keys.is_empty() {
            roff.control("PP", []);
            roff.control("nf", []);
            for line in &self.lines {
                roff.text([bold(line.toml.as_str())]);
            }
            roff.control("fi", []);
        }
    }

    fn render_words(&self, roff: &mut Roff) {
        for paragraph in &self.words {
            roff.control("PP", []);
            roff.text([roman(paragraph.as_str())]);
        }
    }

    /// Keys with their explanation as a hanging paragraph.
    fn render_keys(&self, keys: &[&Line], roff: &mut Roff) {
        for (index, line) in keys.iter().enumerate() {
            roff.control(if index == 0 { "TP" } else { "TQ" }, []);
            let mut tag: Vec<Inline> = vec![bold(line.toml.as_str())];
            if line.kind == Kind::Absent {
                tag.push(roman(" (for example; absent by default)"));
            }
            roff.text(tag);
        }
        for (index, paragraph) in self.words.iter().enumerate() {
            if index > 0 {
                roff.control("IP", []);
            }
            roff.text([roman(paragraph.as_str())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# About the file,\n# on two lines.\n\n[first]\n# Explains one.\n# one = 1\n\
                        # Explains two and three.\ntwo = 2\nthree = 3\n\n[second]\n# Explains six.\nsix = 6\n# An entry.\n#: [[entry]]\n\
                        #: four = 4\n#\n# Another paragraph.\n#: five = 5\n";

    #[test]
    fn words_go_with_the_lines_below_them() {
        let blocks = blocks(FILE);
        let words: Vec<_> = blocks.iter().map(|block| block.words.join("|")).collect();
        let expected = [
            "About the file, on two lines.",
            "Explains one.",
            "Explains two and three.",
            "",
            "Explains six.",
            "An entry.",
            "Another paragraph.",
        ];
        assert_eq!(words, expected);
        let keys: Vec<_> = blocks[2].lines.iter().filter_map(Line::key).collect();
        assert_eq!(keys, ["two", "three"]);
        assert_eq!(blocks[1].lines[0].kind, Kind::Absent);
        assert_eq!(blocks[5].lines[0].table(), Some("[[entry]]"));
        assert_eq!(blocks[6].lines[0].kind, Kind::Example);
    }

    #[test]
    fn the_page_has_a_section_for_each_table() {
        let page = of_file("x.toml", "1.2", "what it is", FILE, "x(8)").unwrap();
        assert_eq!(page.name, "x.toml.5");
        let text = String::from_utf8(page.roff).unwrap();
        let heads: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with(".SH"))
            .collect();
        let expected = [
            ".SH NAME",
            ".SH DESCRIPTION",
            ".SH [first]",
            ".SH [second]",
            ".SH [[entry]]",
            ".SH \"SEE ALSO\"",
        ];
        assert_eq!(heads, expected);
        let at = |words: &str| {
            text.find(words)
                .unwrap_or_else(|| panic!("{words}: {text}"))
        };
        assert!(at("About the file") < at("[first]"));
        assert!(at("[[entry]]") < at("An entry."));
        assert!(at("two = 2") < at("three = 3") && at("three = 3") < at("Explains two"));
    }
}
