//! Splits a line of multipath.conf into tokens.
//!
//! Outside quotes, blanks and all non-ASCII bytes separate words; `{`, `}` and `"` are tokens of
//! their own, and `!` or `#` ends the line wherever a word could begin or continue. Inside quotes
//! every byte counts, and two quotes in a row stand for one.

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// `"` at the beginning or end of a string.
    Quote,
    /// `{` outside quotes.
    Open,
    /// `}` outside quotes.
    Close,
    /// A word, or the text between two quotes.
    Word(String),
}

impl Token {
    /// The token as written in the file.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Quote => "\"",
            Self::Open => "{",
            Self::Close => "}",
            Self::Word(text) => text,
        }
    }
}

/// The tokens of a line; empty for a blank line or a comment.
pub(crate) fn tokens(line: &[u8]) -> Vec<Token> {
    let mut cursor = Cursor { line, at: 0 };
    let mut tokens = Vec::new();
    let mut quoted = false;
    cursor.skip_blanks();
    while let Some(byte) = cursor.peek(0) {
        if !quoted && matches!(byte, b'!' | b'#') {
            break;
        }
        let doubled = quoted && cursor.peek(1) == Some(b'"');
        match byte {
            b'"' if !doubled => {
                cursor.at += 1;
                quoted = !quoted;
                tokens.push(Token::Quote);
            }
            b'{' | b'}' if !quoted => {
                cursor.at += 1;
                tokens.push(if byte == b'{' {
                    Token::Open
                } else {
                    Token::Close
                });
            }
            _ => tokens.push(Token::Word(cursor.word(quoted))),
        }
        if !quoted {
            cursor.skip_blanks();
        }
    }
    tokens
}

struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.line.get(self.at + ahead).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek(0).is_some_and(is_blank) {
            self.at += 1;
        }
    }

    fn word(&mut self, quoted: bool) -> String {
        let start = self.at;
        while let Some(byte) = self.peek(0) {
            if byte == b'"' {
                if quoted && self.peek(1) == Some(b'"') {
                    self.at += 2;
                    continue;
                }
                break;
            }
            if !quoted && (is_blank(byte) || matches!(byte, b'!' | b'#' | b'{' | b'}')) {
                break;
            }
            self.at += 1;
        }
        let bytes = self.line.get(start..self.at).unwrap_or_default();
        String::from_utf8_lossy(bytes).replace("\"\"", "\"")
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r') || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let texts: Vec<_> = tokens(line.as_bytes())
            .iter()
            .map(|token| match token {
                Token::Word(text) => format!("<{text}>"),
                other => other.text().to_owned(),
            })
            .collect();
        texts.join(" ")
    }

    #[test]
    fn words_braces_and_comments() {
        assert_eq!(shown("  defaults {"), "<defaults> {");
        assert_eq!(shown("} # end"), "}");
        assert_eq!(shown("! a comment"), "");
        assert_eq!(shown("a b!c"), "<a> <b>");
        assert_eq!(shown("a{b}c"), "<a> { <b> } <c>");
        assert_eq!(shown("ä\u{a0}x"), "<x>");
    }

    #[test]
    fn strings_keep_everything_and_two_quotes_are_one() {
        assert_eq!(shown("a \"b {!# c\""), "<a> \" <b {!# c> \"");
        assert_eq!(shown("a \"\""), "<a> \" \"");
        assert_eq!(shown("a \"x \"\"y\"\" z\""), "<a> \" <x \"y\" z> \"");
        assert_eq!(shown("a \"open"), "<a> \" <open>");
        assert_eq!(shown("a \"b\"c"), "<a> \" <b> \" <c>");
        assert_eq!(shown("devnode !^sd"), "<devnode>");
        assert_eq!(shown("a \"ä\""), "<a> \" <ä> \"");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(line in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let count = tokens(&line).len();
            proptest::prop_assert!(count <= line.len());
        }
    }
}
