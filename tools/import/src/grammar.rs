//! Builds the document from statements, nested as multipathd does it or as the author evidently
//! meant.
//!
//! Decided here: which section a keyword belongs to, and that parsing always continues to the end
//! of the file. multipathd does not recognize an unknown section: it looks its keywords up in the
//! enclosing section, and the closing brace then closes that one.

use std::collections::BTreeSet;

use crate::Mode;
use crate::document::{Document, Filters, Section, Setting};
use crate::finding::Findings;
use crate::keyword::{Keyword, Kind, Problem, Scope, read};
use crate::lexer::{Token, tokens};
use crate::lines::{Line, lines};
use crate::repair;
use crate::rule::Rule;
use crate::statement::{Statement, split, statement};

/// Parses the file.
pub(crate) fn parse(text: &[u8], mode: Mode, findings: &mut Findings) -> Document {
    let mut parser = Parser {
        mode,
        document: Document::default(),
        open: Vec::new(),
        seen: vec![BTreeSet::new()],
        unknown: 0,
        awaited: None,
        findings,
    };
    for line in lines(text) {
        parser.line(line);
    }
    parser.end();
    parser.document
}

struct Parser<'a> {
    mode: Mode,
    document: Document,
    /// Open sections, with the lines they begin on.
    open: Vec<(Scope, u32)>,
    /// Keywords seen in the file and in each open section.
    seen: Vec<BTreeSet<String>>,
    /// Number of open unknown sections, in intended mode.
    unknown: u32,
    /// A section whose opening brace is still missing, in intended mode.
    awaited: Option<(Scope, u32)>,
    findings: &'a mut Findings,
}

impl Parser<'_> {
    fn scope(&self) -> Scope {
        self.open.last().map_or(Scope::Root, |(scope, _)| *scope)
    }

    fn line(&mut self, line: Line<'_>) {
        let number = line.number;
        let tokens = tokens(line.bytes);
        if line.continued && !tokens.is_empty() {
            self.findings.add(
                Rule::LineTooLong,
                number,
                "multipathd treats what follows the first 1,023 bytes as a separate line",
                "split the line, or shorten it",
            );
        }
        if line.lost && !tokens.is_empty() {
            self.findings.add(
                Rule::LineCutOff,
                number,
                "multipathd reads the line only up to a zero byte or a carriage return",
                "end lines with a newline; convert files of other systems with dos2unix -c mac",
            );
        }
        if self.mode == Mode::Literal {
            self.tokens(&tokens, number);
            return;
        }
        for part in split(tokens, |word| Keyword::named(word).is_some()) {
            self.tokens(&part, number);
        }
    }

    fn tokens(&mut self, tokens: &[Token], line: u32) {
        if self.mode == Mode::Intended && self.intended_section(tokens, line) {
            return;
        }
        match statement(tokens, line, self.findings) {
            None => {}
            Some(Statement::End) => self.close(line),
            Some(Statement::Pair(keyword, value)) => self.pair(&keyword, value, line),
        }
    }

    /// Handles braces as the author meant them: a `{` on the next line, and unknown sections that
    /// nest. `true` if the line is done.
    fn intended_section(&mut self, tokens: &[Token], line: u32) -> bool {
        if let Some((scope, begun)) = self.awaited.take()
            && matches!(tokens, [Token::Open, ..])
        {
            self.enter(scope, begun);
            return true;
        }
        if self.unknown > 0 {
            match tokens {
                [Token::Close, ..] => self.unknown -= 1,
                [.., Token::Open] => self.unknown += 1,
                _ => {}
            }
            return true;
        }
        let [Token::Word(word), rest @ ..] = tokens else {
            return false;
        };
        match (self.scope().child(word), rest) {
            (Some(scope), []) => {
                self.findings.add(
                    Rule::MissingBrace,
                    line,
                    format!("the section {word} has no {{ on its line"),
                    format!("write: {word} {{"),
                );
                self.awaited = Some((scope, line));
                true
            }
            (None, [Token::Open]) => {
                self.unknown_keyword(word, true, line);
                self.unknown = 1;
                true
            }
            _ => false,
        }
    }

    fn pair(&mut self, word: &str, value: Option<String>, line: u32) {
        let scope = self.scope();
        if let Some(child) = scope.child(word) {
            // `protocol` is a keyword in blacklists and a section in overrides.
            self.note_duplicate(word, child.is_unique(), line);
            self.enter(child, line);
            return;
        }
        let Some(keyword) = Keyword::in_scope(word, scope) else {
            let opens = value.is_none() || value.as_deref() == Some("{");
            self.unknown_keyword(word, opens, line);
            return;
        };
        self.note_duplicate(word, !keyword.is_repeatable(scope), line);
        let Some(text) = value else { return };
        if let Some(setting) = self.setting(keyword, &text, line) {
            self.store(setting);
        }
    }

    fn note_duplicate(&mut self, word: &str, unique: bool, line: u32) {
        let new = self
            .seen
            .last_mut()
            .is_none_or(|seen| seen.insert(word.to_owned()));
        if !new && unique {
            self.findings.add(
                Rule::DuplicateKeyword,
                line,
                format!("{word} is set again in this section; the last one counts"),
                "keep one of them",
            );
        }
    }

    fn unknown_keyword(&mut self, word: &str, opens: bool, line: u32) {
        let scope = self.scope();
        if opens {
            let cause = if self.mode == Mode::Literal && scope != Scope::Root {
                format!(
                    "multipathd knows no section {word} here: its }} will close {}",
                    scope.name()
                )
            } else {
                format!("there is no section {word} here")
            };
            self.findings
                .add(Rule::UnknownSection, line, cause, spelling(word));
            return;
        }
        let elsewhere = Keyword::named(word).map(Keyword::places);
        let (cause, correction) = match elsewhere {
            Some(places) => (
                format!("{word} is not allowed in {}", scope.name()),
                format!("it belongs in: {places}"),
            ),
            None => (format!("there is no keyword {word}"), spelling(word)),
        };
        self.findings
            .add(Rule::UnknownKeyword, line, cause, correction);
    }

    fn setting(&mut self, keyword: &'static Keyword, text: &str, line: u32) -> Option<Setting> {
        let kind = if is_filter(self.scope()) {
            Kind::Filter
        } else {
            keyword.kind
        };
        let (mut value, problem) = read(kind, text);
        let name = keyword.name;
        if self.mode == Mode::Intended && matches!(problem, Some(Problem::Invalid(_))) {
            value = repair::value_meant(keyword, text);
            if let Some(value) = &value {
                let cause = format!("{name} {text:?} is read as {:?}", value.text);
                self.findings
                    .add(Rule::Intended, line, cause, String::new());
            }
        }
        match problem {
            None => {}
            Some(Problem::Invalid(why)) => self.findings.add(
                Rule::BadValue,
                line,
                format!("{name} {text:?} is ignored: {why}"),
                "correct the value, or remove the line",
            ),
            Some(Problem::Capped(bound)) => self.findings.add(
                Rule::ValueCapped,
                line,
                format!("{name} {text:?} is out of bounds, multipathd uses {bound}"),
                "write the number you want",
            ),
            Some(Problem::Zero) => self.zero(name, line),
            Some(Problem::Refused(why)) => {
                let rule = if kind == Kind::Filter {
                    Rule::BadPattern
                } else {
                    Rule::BadValue
                };
                self.findings.add(
                    rule,
                    line,
                    format!("{name} {text:?}: {why}; multipathd refuses the whole file"),
                    "correct the value, or remove the line",
                );
                self.document.refused = true;
            }
        }
        let value = value.filter(|value| name != "polling_interval" || value.text != "0");
        if name == "polling_interval" && value.is_none() {
            self.no_interval(line);
        }
        let value = value?;
        if is_unset(keyword, &value.text) {
            self.zero(name, line);
        }
        Some(Setting {
            keyword,
            value,
            line,
        })
    }

    /// multipathd 0.14 hangs or crashes if the interval is zero or not a number.
    fn no_interval(&mut self, line: u32) {
        self.findings.add(
            Rule::BadValue,
            line,
            "polling_interval must be a number of at least 1: multipathd 0.14 hangs or crashes",
            "correct the value, or remove the line",
        );
        self.document.refused = true;
    }

    fn zero(&mut self, name: &str, line: u32) {
        self.findings.add(
            Rule::ZeroIsUnset,
            line,
            format!("{name} 0 counts as unset: the next less specific setting applies"),
            "remove the line, or write the value you want",
        );
    }

    fn store(&mut self, setting: Setting) {
        let scope = self.scope();
        let document = &mut self.document;
        let last = |sections: &'_ mut Vec<Section>, setting: Setting| {
            if let Some(section) = sections.last_mut() {
                put(&mut section.settings, setting);
            }
        };
        match scope {
            Scope::Defaults => put(&mut document.defaults, setting),
            Scope::Overrides => put(&mut document.overrides, setting),
            Scope::Protocol => last(&mut document.protocols, setting),
            Scope::Device => last(&mut document.devices, setting),
            Scope::Multipath => last(&mut document.multipaths, setting),
            Scope::Blacklist => document.blacklist.rules.push(setting),
            Scope::Exceptions => document.exceptions.rules.push(setting),
            Scope::FilterDevice => {
                last(&mut filters_around(&self.open, document).devices, setting);
            }
            Scope::Root | Scope::Devices | Scope::Multipaths => {}
        }
    }

    fn enter(&mut self, scope: Scope, line: u32) {
        let section = Section {
            line,
            ..Section::default()
        };
        match scope {
            Scope::Protocol => self.document.protocols.push(section),
            Scope::Device => self.document.devices.push(section),
            Scope::Multipath => self.document.multipaths.push(section),
            Scope::FilterDevice => {
                filters_around(&self.open, &mut self.document)
                    .devices
                    .push(section);
            }
            _ => {}
        }
        self.open.push((scope, line));
        self.seen.push(BTreeSet::new());
    }

    fn close(&mut self, line: u32) {
        if self.open.pop().is_some() {
            self.seen.pop();
            return;
        }
        self.findings.add(
            Rule::UnmatchedBrace,
            line,
            "this } closes nothing",
            "check for an unknown section above: its } closed the enclosing section",
        );
    }

    fn end(&mut self) {
        let open = self.open.iter().chain(&self.awaited);
        for (scope, line) in open {
            self.findings.add(
                Rule::UnclosedSection,
                *line,
                format!(
                    "the section {} is not closed before the file ends",
                    scope.name()
                ),
                "add the missing }",
            );
        }
    }
}

/// Later values replace earlier ones; a value that counts as unset removes them.
fn put(settings: &mut crate::document::Settings, setting: Setting) {
    if is_unset(setting.keyword, &setting.value.text) {
        settings.remove(setting.keyword.name);
    } else {
        settings.set(setting);
    }
}

fn is_unset(keyword: &Keyword, text: &str) -> bool {
    let zero_says_nothing = keyword.kind == Kind::Count || keyword.name == "failback";
    zero_says_nothing && text == "0"
}

/// In these sections, keywords are patterns, whatever they are elsewhere.
fn is_filter(scope: Scope) -> bool {
    matches!(
        scope,
        Scope::Blacklist | Scope::Exceptions | Scope::FilterDevice
    )
}

fn filters_around<'a>(open: &[(Scope, u32)], document: &'a mut Document) -> &'a mut Filters {
    let in_exceptions = open.iter().any(|(scope, _)| *scope == Scope::Exceptions);
    if in_exceptions {
        &mut document.exceptions
    } else {
        &mut document.blacklist
    }
}

/// Suggests the keyword that a misspelled word resembles.
fn spelling(word: &str) -> String {
    const SECTIONS: &[&str] = &[
        "defaults",
        "blacklist",
        "blacklist_exceptions",
        "devices",
        "device",
        "overrides",
        "protocol",
        "multipaths",
        "multipath",
    ];
    let names = crate::keyword::KEYWORDS.iter().map(|keyword| keyword.name);
    let nearest = names
        .chain(SECTIONS.iter().copied())
        .map(|name| (distance(word, name), name))
        .min();
    match nearest {
        Some((1..=2, name)) if word.len() > 3 => format!("did you mean {name}?"),
        _ => "remove the line".to_owned(),
    }
}

/// Edit distance, up to a small limit.
fn distance(a: &str, b: &str) -> usize {
    const FAR: usize = 100;
    if a.len().abs_diff(b.len()) > 2 || a.len() > 64 {
        return FAR;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            *cell = (diagonal + usize::from(x != *y))
                .min(above + 1)
                .min(left + 1);
            left = *cell;
            diagonal = above;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(FAR)
}

#[cfg(test)]
mod tests;
