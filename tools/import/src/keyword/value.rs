//! Parsing values as multipathd does.

use super::Kind;

/// A parsed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    /// Its meaning in multipathd's own spelling.
    pub(crate) text: String,
    /// Whether it is printed without quotes.
    pub(crate) bare: bool,
}

impl Value {
    fn quoted(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            bare: false,
        }
    }

    fn bare(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            bare: true,
        }
    }

    /// The value as a number, if it is one.
    pub(crate) fn number(&self) -> Option<u64> {
        self.text.parse().ok()
    }
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The value is ignored, for this reason.
    Invalid(String),
    /// The value was moved to this bound.
    Capped(i64),
    /// The value counts as unset.
    Zero,
    /// multipathd refuses the whole file, for this reason.
    Refused(String),
}

/// Parses a value. If there is none, an earlier value stays in force.
pub(crate) fn read(kind: Kind, text: &str) -> (Option<Value>, Option<Problem>) {
    let invalid = |why: &str| (None, Some(Problem::Invalid(why.to_owned())));
    match kind {
        Kind::Pairs if text.split_whitespace().all(|word| word.contains(':')) => {
            (Some(Value::bare(text)), None)
        }
        Kind::Pairs => invalid("each word needs a colon, as in nvme:ID_WWN"),
        Kind::Name if text.contains('/') => invalid("it contains a slash"),
        Kind::Text | Kind::Ignored | Kind::Name => (Some(Value::quoted(text)), None),
        Kind::Counted(index) => match count_words(text, index) {
            Ok(()) => (Some(Value::quoted(text)), None),
            Err(why) => invalid(&why),
        },
        Kind::YesNo => {
            choice(YES_NO, text).map_or_else(|| invalid(&words(YES_NO)), |v| (Some(v), None))
        }
        Kind::Choice(choices) => {
            choice(choices, text).map_or_else(|| invalid(&words(choices)), |v| (Some(v), None))
        }
        Kind::ChoiceOr(choices, low, high) => {
            choice(choices, text).map_or_else(|| number(text, low, high), |v| (Some(v), None))
        }
        Kind::BareChoiceOr(choices, low, high) => choice(choices, text).map_or_else(
            || number(text, low, high),
            |value| (Some(Value::bare(value.text)), None),
        ),
        Kind::Prefix(names) => match names.iter().find(|name| text.starts_with(**name)) {
            Some(name) => (Some(Value::quoted(name)), None),
            None => invalid(&format!("it is not one of {}", names.join(", "))),
        },
        Kind::Number(low, high) => number(text, low, high),
        Kind::Count => number(text, 0, i32::MAX.into()),
        Kind::Unsigned => match unsigned(text) {
            Some(number) => (Some(Value::bare(number.to_string())), None),
            None => invalid("it is not a number"),
        },
        Kind::Loss => loss(text),
        Kind::Mode => match leading(text, 8).filter(|mode| *mode <= 0o777) {
            Some(mode) => (Some(Value::bare(format!("0{mode:o}"))), None),
            None => invalid("it is not a file mode up to 0777"),
        },
        Kind::Owner => (Some(owner(text)), None),
        Kind::Key => key(text),
        Kind::Filter => match crate::pattern::Filter::new(text) {
            Ok(_) => (Some(Value::quoted(text)), None),
            Err(why) => (None, Some(Problem::Refused(why))),
        },
    }
}

const YES_NO: &[(&str, &str)] = &[("yes", "yes"), ("1", "yes"), ("no", "no"), ("0", "no")];

fn choice(choices: &[(&str, &str)], text: &str) -> Option<Value> {
    let found = choices.iter().find(|(spelled, _)| *spelled == text)?;
    Some(Value::quoted(found.1))
}

fn words(choices: &[(&str, &str)]) -> String {
    let list: Vec<_> = choices.iter().map(|(spelled, _)| *spelled).collect();
    format!("it is not one of {}", list.join(", "))
}

/// Like strtol: blanks, a sign, digits, blanks.
fn signed(text: &str) -> Option<i64> {
    let text = text.trim_matches(is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative {
        size.saturating_neg()
    } else {
        size
    })
}

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t'..='\r')
}

fn number(text: &str, low: i64, high: i64) -> (Option<Value>, Option<Problem>) {
    match signed(text) {
        None => (
            None,
            Some(Problem::Invalid("it is not a number".to_owned())),
        ),
        Some(number) if number < low || number > high => {
            let bound = number.clamp(low, high);
            (
                Some(Value::bare(bound.to_string())),
                Some(Problem::Capped(bound)),
            )
        }
        Some(number) => (Some(Value::bare(number.to_string())), None),
    }
}

fn unsigned(text: &str) -> Option<u32> {
    let text = text.trim_matches(is_space);
    if !text.starts_with(|char: char| char.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The leading digits of a text, after blanks.
fn leading(text: &str, radix: u32) -> Option<u64> {
    let text = text.trim_start_matches(is_space);
    let end = text
        .find(|char: char| !char.is_digit(radix))
        .unwrap_or(text.len());
    u64::from_str_radix(text.get(..end)?, radix).ok()
}

fn loss(text: &str) -> (Option<Value>, Option<Problem>) {
    if text == "infinity" {
        return (Some(Value::quoted("infinity")), None);
    }
    match leading(text, 10).map(|seconds| seconds as u32) {
        None => {
            let why = "it is neither a number of seconds nor infinity".to_owned();
            (None, Some(Problem::Invalid(why)))
        }
        Some(0) => (None, Some(Problem::Zero)),
        Some(u32::MAX) => (Some(Value::quoted("infinity")), None),
        Some(seconds) => (Some(Value::bare(seconds.to_string())), None),
    }
}

/// A number is printed in octal; a name is resolved on the target machine.
fn owner(text: &str) -> Value {
    match leading(text, 10) {
        Some(id) => Value::bare(format!("0{:o}", id as u32)),
        None => Value::quoted(text),
    }
}

fn key(text: &str) -> (Option<Value>, Option<Problem>) {
    if text == "file" {
        return (Some(Value::quoted("file")), None);
    }
    let (digits, flag) = text.split_once(':').unwrap_or((text, ""));
    let digits = digits.strip_prefix('0').unwrap_or(digits);
    let digits = digits.strip_prefix(['x', 'X']).unwrap_or(digits);
    let proper = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    match u64::from_str_radix(digits, 16) {
        Ok(key) if proper => {
            let flag = if flag == "aptpl" { ":aptpl" } else { "" };
            (Some(Value::bare(format!("0x{key:x}{flag}"))), None)
        }
        _ => {
            let why = "a reservation key is up to 16 hexadecimal digits".to_owned();
            (None, Some(Problem::Refused(why)))
        }
    }
}

/// Whether the word at `index` equals the number of words after it.
fn count_words(text: &str, index: usize) -> Result<(), String> {
    let words: Vec<&str> = text
        .split([' ', '\u{c}', '\r', '\t', '\u{b}'])
        .filter(|word| !word.is_empty())
        .collect();
    let count = words.get(index).and_then(|word| signed(word));
    match count {
        None | Some(i64::MIN..=-1) => Err("the number of arguments is missing".to_owned()),
        Some(count) => {
            let there = words.len().saturating_sub(index + 1);
            if usize::try_from(count) == Ok(there) {
                Ok(())
            } else {
                Err(format!("it declares {count} arguments but has {there}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: Kind, text: &str) -> String {
        let (value, problem) = read(kind, text);
        let value = value.map_or("-".to_owned(), |value| {
            if value.bare {
                value.text
            } else {
                format!("{:?}", value.text)
            }
        });
        match problem {
            None => value,
            Some(Problem::Capped(_)) => format!("{value} capped"),
            Some(Problem::Zero) => format!("{value} zero"),
            Some(Problem::Invalid(_)) => format!("{value} invalid"),
            Some(Problem::Refused(_)) => format!("{value} refused"),
        }
    }

    #[test]
    fn numbers_are_read_as_the_c_library_reads_them() {
        let number = Kind::Number(1, 5);
        assert_eq!(shown(number, " +3 "), "3");
        assert_eq!(shown(number, "9"), "5 capped");
        assert_eq!(shown(number, "-99999999999999999999"), "1 capped");
        assert_eq!(shown(number, "3x"), "- invalid");
        assert_eq!(shown(number, ""), "- invalid");
        assert_eq!(shown(Kind::Unsigned, "-1"), "- invalid");
        assert_eq!(shown(Kind::Unsigned, "4294967296"), "- invalid");
        assert_eq!(shown(Kind::Unsigned, "7 "), "7");
        assert_eq!(shown(Kind::Count, "0"), "0");
        assert_eq!(shown(Kind::Loss, "30s"), "30");
        assert_eq!(shown(Kind::Loss, "infinity"), "\"infinity\"");
        assert_eq!(shown(Kind::Loss, "4294967295"), "\"infinity\"");
        assert_eq!(shown(Kind::Loss, "0"), "- zero");
        assert_eq!(shown(Kind::Mode, "644"), "0644");
        assert_eq!(shown(Kind::Mode, "1777"), "- invalid");
        assert_eq!(shown(Kind::Owner, "10"), "012");
    }

    #[test]
    fn words_are_read_as_multipathd_reads_them() {
        assert_eq!(shown(Kind::YesNo, "1"), "\"yes\"");
        assert_eq!(shown(Kind::YesNo, "on"), "- invalid");
        assert_eq!(
            shown(Kind::Counted(1), "queue-length 0"),
            "\"queue-length 0\""
        );
        assert_eq!(shown(Kind::Counted(1), "queue-length"), "- invalid");
        assert_eq!(shown(Kind::Counted(0), "1 a b"), "- invalid");
        assert_eq!(
            shown(Kind::Counted(0), "1 queue_if_no_path"),
            "\"1 queue_if_no_path\""
        );
        assert_eq!(
            shown(Kind::Prefix(&["failover"]), "failovers"),
            "\"failover\""
        );
        assert_eq!(shown(Kind::Name, "a/b"), "- invalid");
        assert_eq!(shown(Kind::Key, "0xabc:aptpl"), "0xabc:aptpl");
        assert_eq!(shown(Kind::Key, "xyz"), "- refused");
        assert_eq!(shown(Kind::Key, "12345678901234567"), "- refused");
        assert_eq!(shown(Kind::Filter, "*"), "- refused");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,30}") {
            for keyword in super::super::KEYWORDS {
                let _ = read(keyword.kind, &text);
            }
        }
    }
}
