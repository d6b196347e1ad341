//! POSIX extended regular expressions, the syntax of names in multipath.conf.
//!
//! Decided here: which patterns the C library accepts (an invalid pattern makes multipathd refuse
//! the file, or the entry never match), and what they match. Patterns are translated to the syntax
//! of the `regex` crate, whose time and memory are bounded for any pattern. Back-references cannot
//! be translated: such a pattern is accepted, but what it matches is unknown.

use regex::{Regex, RegexBuilder};

/// Memory limit of one compiled pattern, bytes.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// Can be matched.
    Known(Box<Regex>),
    /// The C library accepts it, but what it matches is unknown here.
    Unknown,
}

impl Pattern {
    /// Parses a pattern; the error says why the C library rejects it.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let translated = translate(text)?;
        let Some(translated) = translated else {
            return Ok(Self::Unknown);
        };
        let regex = RegexBuilder::new(&translated)
            .dot_matches_new_line(true)
            .unicode(true)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX)
            .nest_limit(64)
            .build();
        Ok(regex.map_or(Self::Unknown, |regex| Self::Known(Box::new(regex))))
    }

    /// Whether it matches anywhere in `text`; unknown patterns match nothing.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Known(regex) => regex.is_match(text),
            Self::Unknown => false,
        }
    }

    /// The same pattern in the syntax of `umpath.toml`.
    pub(crate) fn source(&self) -> Option<&str> {
        match self {
            Self::Known(regex) => Some(regex.as_str()),
            Self::Unknown => None,
        }
    }

    /// Whether it matches every sample model name.
    pub(crate) fn matches_everything(&self) -> bool {
        let names = [
            "A",
            "z",
            "0",
            " ",
            "-",
            "~",
            "Linux",
            "PVL-MX09S0P2L2C1-F100TP0TY1",
        ];
        names.iter().all(|name| self.matches(name))
    }
}

/// A pattern that a leading `!` inverts.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    inverted: bool,
    pattern: Pattern,
}

impl Filter {
    /// Parses `pattern`, `!pattern`, or `\!pattern` for a pattern that begins with an exclamation
    /// mark.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let (inverted, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None if text.starts_with("\\!") => (false, text.get(1..).unwrap_or_default()),
            None => (false, text),
        };
        Pattern::new(rest).map(|pattern| Self { inverted, pattern })
    }

    /// The same filter in the syntax of `umpath.toml`, where a leading `!` inverts too.
    pub(crate) fn source(&self) -> Option<String> {
        let pattern = self.pattern.source()?;
        Some(match (self.inverted, pattern.starts_with('!')) {
            (true, _) => format!("!{pattern}"),
            (false, true) => format!("\\{pattern}"),
            (false, false) => pattern.to_owned(),
        })
    }

    /// Whether it applies to `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.pattern.matches(text) != self.inverted
    }
}

/// Translates the pattern, or rejects it as the C library does. `None`: it has a back-reference.
fn translate(text: &str) -> Result<Option<String>, String> {
    let mut writer = Writer::default();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '*' | '+' | '?' => writer.repeat(char, &char.to_string())?,
            '{' => {
                let bounds = interval(&mut chars)?;
                writer.repeat('{', &bounds)?;
            }
            '(' => writer.open(),
            ')' if writer.groups.is_empty() => writer.literal(')'),
            ')' => writer.close(),
            '|' => writer.separator("|"),
            '^' => writer.separator("^"),
            '$' => writer.atom("$"),
            '.' => writer.atom("."),
            '[' => writer.atom(&bracket(&mut chars)?),
            '\\' => match chars.next() {
                None => return Err("it ends with a backslash".to_owned()),
                Some('1'..='9') => writer.known = false,
                Some(known @ ('w' | 'W' | 's' | 'S' | 'b' | 'B')) => {
                    writer.atom(&format!("\\{known}"));
                }
                Some('<' | '>') => writer.atom("\\b"),
                Some('`') => writer.atom("\\A"),
                Some('\'') => writer.atom("\\z"),
                Some(other) => writer.literal(other),
            },
            other => writer.literal(other),
        }
    }
    if !writer.groups.is_empty() {
        return Err("a parenthesis is not closed".to_owned());
    }
    Ok(writer.known.then_some(writer.out))
}

struct Writer {
    out: String,
    /// Start of the expression that a repetition would apply to, if there is one.
    last: Option<usize>,
    /// Starts of the open groups.
    groups: Vec<usize>,
    known: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            out: String::new(),
            last: None,
            groups: Vec::new(),
            known: true,
        }
    }
}

impl Writer {
    fn atom(&mut self, text: &str) {
        self.last = Some(self.out.len());
        self.out.push_str(text);
    }

    fn literal(&mut self, char: char) {
        let special = "\\.+*?()|[]{}^$".contains(char);
        let backslash = if special { "\\" } else { "" };
        self.atom(&format!("{backslash}{char}"));
    }

    fn separator(&mut self, text: &str) {
        self.out.push_str(text);
        self.last = None;
    }

    fn open(&mut self) {
        self.groups.push(self.out.len());
        self.out.push_str("(?:");
        self.last = None;
    }

    fn close(&mut self) {
        self.out.push(')');
        self.last = self.groups.pop();
    }

    /// Repeats the last expression, which may be a repetition itself: POSIX allows `a**`.
    fn repeat(&mut self, sign: char, operator: &str) -> Result<(), String> {
        let Some(start) = self.last else {
            return Err(format!("there is nothing before the {sign:?} to repeat"));
        };
        if start < self.out.len() && self.out.ends_with(['*', '+', '?', '}']) {
            let nested = self.out.split_off(start);
            self.out.push_str("(?:");
            self.out.push_str(&nested);
            self.out.push(')');
        }
        self.out.push_str(operator);
        Ok(())
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Parses `{2}`, `{2,}`, `{,2}` or `{2,3}` after the brace.
fn interval(chars: &mut Chars<'_>) -> Result<String, String> {
    const REPEATS_MAX: u32 = 32_767;
    let mut inside = String::new();
    loop {
        match chars.next() {
            Some('}') => break,
            Some(char) if char.is_ascii_digit() || char == ',' => inside.push(char),
            Some(_) => return Err("the text between { and } is not a repeat count".to_owned()),
            None => return Err("a { is not closed".to_owned()),
        }
    }
    let wrong = || "the text between { and } is not a repeat count".to_owned();
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let (low, high) = match inside.split_once(',') {
        None => (number(&inside)?, Some(number(&inside)?)),
        Some((low, high)) => {
            let low = if low.is_empty() { 0 } else { number(low)? };
            let high = if high.is_empty() {
                None
            } else {
                Some(number(high)?)
            };
            (low, high)
        }
    };
    if high.is_some_and(|high| high < low) {
        return Err(wrong());
    }
    if low.max(high.unwrap_or(0)) > REPEATS_MAX {
        return Err("it repeats something too often".to_owned());
    }
    Ok(match high {
        Some(high) => format!("{{{low},{high}}}"),
        None => format!("{{{low},}}"),
    })
}

/// Parses a bracket expression after its `[`; a backslash is literal in it.
fn bracket(chars: &mut Chars<'_>) -> Result<String, String> {
    let open = || "a [ is not closed".to_owned();
    let mut out = String::from("[");
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut first = true;
    loop {
        let char = chars.next().ok_or_else(open)?;
        let special = chars.peek().copied();
        match (char, special) {
            (']', _) if !first => break,
            ('[', Some(':')) => out.push_str(&class(chars)?),
            ('[', Some(sign @ ('.' | '='))) => {
                chars.next();
                out.push_str(&escaped(collating(chars, sign)?));
            }
            (low, _) => {
                let mut ahead = chars.clone();
                let high = match (ahead.next(), ahead.next()) {
                    (Some('-'), Some(high)) if high != ']' => Some(high),
                    _ => None,
                };
                out.push_str(&escaped(low));
                if let Some(mut high) = high {
                    chars.next();
                    chars.next();
                    if high == '[' && chars.peek() == Some(&'.') {
                        chars.next();
                        high = collating(chars, '.')?;
                    }
                    if high < low {
                        return Err(format!("the range {low}-{high} ends before it begins"));
                    }
                    out.push('-');
                    out.push_str(&escaped(high));
                }
            }
        }
        first = false;
    }
    out.push(']');
    Ok(out)
}

fn escaped(char: char) -> String {
    if char.is_ascii_punctuation() {
        format!("\\{char}")
    } else {
        char.to_string()
    }
}

/// Parses `[:alpha:]` with the cursor at the first colon.
fn class(chars: &mut Chars<'_>) -> Result<String, String> {
    const NAMES: &[&str] = &[
        "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
        "upper", "xdigit",
    ];
    chars.next();
    let mut name = String::new();
    loop {
        match chars.next() {
            Some(':') if chars.next_if_eq(&']').is_some() => break,
            Some(char) => name.push(char),
            None => return Err("a [ is not closed".to_owned()),
        }
    }
    if NAMES.contains(&name.as_str()) {
        Ok(format!("[:{name}:]"))
    } else {
        Err(format!("there is no class [:{name}:]"))
    }
}

/// Parses `[.x.]` or `[=x=]` with the cursor after the sign.
fn collating(chars: &mut Chars<'_>, sign: char) -> Result<char, String> {
    let element = chars.next();
    match (element, chars.next(), chars.next()) {
        (Some(element), Some(end), Some(']')) if end == sign => Ok(element),
        _ => Err("there is no such collating element".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Results of glibc 2.36; `None` if it rejects the pattern.
    const ANSWERS: &[(&str, &str, Option<bool>)] = &[
        ("*", "a", None),
        ("+a", "a", None),
        ("a**", "a", Some(true)),
        ("a|*b", "b", None),
        ("()", "x", Some(true)),
        ("a)", "a)", Some(true)),
        ("(a", "a", None),
        ("a{", "a{", None),
        ("a{,2}", "aa", Some(true)),
        ("a{x}", "a{x}", None),
        ("{", "{", None),
        ("^*", "a", None),
        ("(*a)", "a", None),
        ("(^a)", "a", Some(true)),
        ("[a", "a", None),
        ("[]a]", "]", Some(true)),
        ("[^]a]", "b", Some(true)),
        ("\\d", "d", Some(true)),
        ("a\\", "a", None),
        ("[a\\]]", "\\]", Some(true)),
        ("\\w+", "ab", Some(true)),
        ("", "x", Some(true)),
        ("a||b", "b", Some(true)),
        ("[z-a]", "z", None),
        ("[[:foo:]]", "a", None),
        ("[[:alpha:]]", "a", Some(true)),
        ("(|a)", "b", Some(true)),
        ("a{2}{3}", "aaaaaa", Some(true)),
        ("^^a", "a", Some(true)),
        ("a$b", "a", Some(false)),
        ("\\.", ".", Some(true)),
        ("x{0}", "q", Some(true)),
        ("a{99999}", "a", None),
        ("[a-]", "-", Some(true)),
        ("[--a]", "-", Some(true)),
        ("}", "}", Some(true)),
        ("]", "]", Some(true)),
        ("\\<a", "a", Some(true)),
        ("\\t", "t", Some(true)),
        ("PVL-*", "NVME", Some(false)),
        ("PVL-*", "PVL", Some(true)),
        ("nvme*", "nvm", Some(true)),
        ("^(ram|raw) [0-9]*", "ram0", Some(false)),
        ("IBM[ ]+2145", "IBM  2145", Some(true)),
    ];

    #[test]
    fn patterns_mean_what_the_c_library_says() {
        for (pattern, text, answer) in ANSWERS {
            let ours = Pattern::new(pattern).ok().map(|p| p.matches(text));
            assert_eq!(ours, *answer, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn back_references_are_taken_but_unknown() {
        assert!(matches!(Pattern::new("(a)\\1"), Ok(Pattern::Unknown)));
    }

    #[test]
    fn filters_can_be_inverted() {
        let holds = |pattern: &str, text: &str| Filter::new(pattern).unwrap().matches(text);
        assert!(holds("!^sd", "nvme0n1"));
        assert!(!holds("!^sd", "sda"));
        assert!(holds("\\!x", "!x"));
        let source = |pattern: &str| Filter::new(pattern).unwrap().source().unwrap();
        assert_eq!(source("!^sd"), "!^sd");
        assert_eq!(source("\\!x"), "\\!x");
        assert_eq!(source("a/b{,2}"), "a/b{0,2}");
    }

    #[test]
    fn generic_patterns_are_told_from_names() {
        let all = |text: &str| Pattern::new(text).unwrap().matches_everything();
        assert!(all(".*") && all("") && all("^") && all(".") && all(".+"));
        assert!(!all("PVL-.*") && !all("[A-Z].*") && !all("Linux"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text in "[]\\[(){}*+?|^$.\\\\a-z0-9:,!=-]{0,40}") {
            if let Ok(pattern) = Pattern::new(&text) {
                let _ = pattern.matches("nvme0n1");
            }
        }

        #[test]
        fn what_we_translate_compiles(text in "[a-z.*()|]{0,12}") {
            if let Ok(pattern) = Pattern::new(&text) {
                proptest::prop_assert!(matches!(pattern, Pattern::Known(_)), "{text}");
            }
        }
    }
}
