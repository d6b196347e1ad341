//! Turns a line's tokens into one statement: a keyword with its value, or the end of a section.
//!
//! multipathd uses the first word and the first value of a line and ignores the rest. On request, a
//! line with several statements is first split as its author evidently meant it.

use crate::finding::Findings;
use crate::lexer::Token;
use crate::rule::Rule;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// A keyword and its value; `None` if a section's `{` is missing.
    Pair(String, Option<String>),
    /// `}`.
    End,
}

/// Keywords that multipathd treats as sections wherever they occur. `overrides` and `protocol` are
/// not among them, so they are lost if their brace is on the next line.
const SECTIONS: &[&str] = &[
    "defaults",
    "blacklist",
    "blacklist_exceptions",
    "devices",
    "device",
    "multipaths",
    "multipath",
];

/// The statement of a line with tokens; `None` if multipathd skips the line.
pub(crate) fn statement(tokens: &[Token], line: u32, findings: &mut Findings) -> Option<Statement> {
    let extra = |rest: &[Token], findings: &mut Findings| {
        if let Some(token) = rest.first() {
            findings.add(
                Rule::ExtraWords,
                line,
                format!("multipathd ignores {:?} and what follows it", token.text()),
                "write one keyword with one value on a line, and each brace at the end of one",
            );
        }
    };
    match tokens {
        [] => None,
        [Token::Close, rest @ ..] => {
            extra(rest, findings);
            Some(Statement::End)
        }
        [Token::Word(word), rest @ ..] if SECTIONS.contains(&word.as_str()) => {
            match rest {
                [Token::Open, rest @ ..] => extra(rest, findings),
                _ => findings.add(
                    Rule::MissingBrace,
                    line,
                    format!("the section {word} has no {{ on its line"),
                    format!("write: {word} {{"),
                ),
            }
            Some(Statement::Pair(word.clone(), None))
        }
        [first @ (Token::Word(_) | Token::Quote), rest @ ..] => {
            let value = value(first.text(), rest, line, findings)?;
            Some(Statement::Pair(first.text().to_owned(), Some(value)))
        }
        [Token::Open, ..] => {
            findings.add(
                Rule::NotParsed,
                line,
                "multipathd skips a line that begins with {",
                "write the { at the end of the previous line",
            );
            None
        }
    }
}

fn value(keyword: &str, rest: &[Token], line: u32, findings: &mut Findings) -> Option<String> {
    let (value, rest) = match rest {
        [] => {
            findings.add(
                Rule::MissingValue,
                line,
                format!("{keyword} has no value"),
                "give it one, in double quotes if it begins with ! or contains blanks, # or braces",
            );
            return None;
        }
        [Token::Quote] => (String::new(), None),
        [Token::Quote, Token::Quote, rest @ ..] => (String::new(), Some(rest)),
        [Token::Quote, text] => (text.text().to_owned(), None),
        [Token::Quote, text, Token::Quote, rest @ ..] => (text.text().to_owned(), Some(rest)),
        [Token::Quote, ..] => {
            findings.add(
                Rule::NotParsed,
                line,
                format!("the string of {keyword} cannot be read"),
                "write \"\" for a quote inside a string",
            );
            return None;
        }
        [value, rest @ ..] => (value.text().to_owned(), Some(rest)),
    };
    match rest {
        None => findings.add(
            Rule::MissingQuote,
            line,
            format!("the string of {keyword} is not closed"),
            "end it with a double quote",
        ),
        Some([token, ..]) => findings.add(
            Rule::ExtraWords,
            line,
            format!("multipathd ignores {:?} and what follows it", token.text()),
            "write one keyword with one value on a line; put values with blanks in double quotes",
        ),
        Some([]) => {}
    }
    Some(value)
}

/// Splits several statements on one line: after `{`, before and after `}`, and before a keyword
/// that follows a value.
pub(crate) fn split(tokens: Vec<Token>, is_keyword: impl Fn(&str) -> bool) -> Vec<Vec<Token>> {
    let mut parts: Vec<Vec<Token>> = vec![Vec::new()];
    let mut quotes = 0_usize;
    for token in tokens {
        let part = parts.last().map_or(0, Vec::len);
        let outside = quotes.is_multiple_of(2);
        let begins = match &token {
            _ if !outside => false,
            Token::Close => part > 0,
            Token::Word(word) => part > 1 && is_keyword(word),
            Token::Open | Token::Quote => false,
        };
        if begins {
            parts.push(Vec::new());
        }
        quotes += usize::from(token == Token::Quote);
        let ends = outside && matches!(token, Token::Open | Token::Close);
        if let Some(part) = parts.last_mut() {
            part.push(token);
        }
        if ends {
            parts.push(Vec::new());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::tokens;

    fn said(line: &str) -> (Option<Statement>, Vec<&'static str>) {
        let mut findings = Findings::default();
        let said = statement(&tokens(line.as_bytes()), 1, &mut findings);
        let rules = findings.sorted().iter().map(|f| f.rule.name()).collect();
        (said, rules)
    }

    fn pair(keyword: &str, value: &str) -> Statement {
        Statement::Pair(keyword.into(), Some(value.into()))
    }

    #[test]
    fn the_first_word_and_the_first_value_count() {
        assert_eq!(said("a b"), (Some(pair("a", "b")), vec![]));
        assert_eq!(said("a b c"), (Some(pair("a", "b")), vec!["extra-words"]));
        assert_eq!(said("a \"b c\""), (Some(pair("a", "b c")), vec![]));
        assert_eq!(
            said("a \"b c\" d"),
            (Some(pair("a", "b c")), vec!["extra-words"])
        );
        assert_eq!(said("a \"\""), (Some(pair("a", "")), vec![]));
        assert_eq!(said("a \"b"), (Some(pair("a", "b")), vec!["missing-quote"]));
        assert_eq!(said("a \""), (Some(pair("a", "")), vec!["missing-quote"]));
        assert_eq!(said("a"), (None, vec!["missing-value"]));
        assert_eq!(said("devnode !^sd"), (None, vec!["missing-value"]));
        assert_eq!(said("alias {"), (Some(pair("alias", "{")), vec![]));
    }

    #[test]
    fn braces_stand_at_the_end_of_a_line() {
        assert_eq!(
            said("defaults {"),
            (Some(Statement::Pair("defaults".into(), None)), vec![])
        );
        assert_eq!(said("defaults").1, ["missing-brace"]);
        assert_eq!(said("defaults x").1, ["missing-brace"]);
        assert_eq!(said("defaults { prio").1, ["extra-words"]);
        assert_eq!(said("}"), (Some(Statement::End), vec![]));
        assert_eq!(said("} x"), (Some(Statement::End), vec!["extra-words"]));
        assert_eq!(said("{"), (None, vec!["not-parsed"]));
        assert_eq!(said("overrides").1, ["missing-value"]);
    }

    #[test]
    fn several_on_a_line_can_be_split() {
        let known = |word: &str| ["vendor", "product"].contains(&word);
        let parts = split(tokens(b"device { vendor \"a {\" product vendor }"), known);
        let shown: Vec<String> = parts
            .iter()
            .map(|part| part.iter().map(Token::text).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            shown,
            ["device {", "vendor \" a { \"", "product vendor", "}"]
        );
    }
}
