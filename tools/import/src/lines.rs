//! Splits bytes into lines as multipathd's reader does.
//!
//! multipathd reads at most 1,023 bytes at a time: the rest of a longer line becomes a line of its
//! own. A line also ends at a carriage return and at a zero byte.

/// Longest line multipathd reads at once, including its end.
const CHUNK: usize = 1023;

/// One line as multipathd reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Line number as in an editor.
    pub(crate) number: u32,
    /// The line without its end.
    pub(crate) bytes: &'a [u8],
    /// Whether it is the rest of a longer line, which multipathd treats as a separate line.
    pub(crate) continued: bool,
    /// Whether bytes follow a zero byte or a carriage return in the line; multipathd ignores them.
    pub(crate) lost: bool,
}

/// All lines of the file.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let whole = text.split_inclusive(|byte| *byte == b'\n');
    (1_u32..).zip(whole).flat_map(|(number, line)| {
        line.chunks(CHUNK).enumerate().map(move |(index, chunk)| {
            let (bytes, lost) = visible(chunk);
            Line {
                number,
                bytes,
                continued: index > 0,
                lost,
            }
        })
    })
}

fn visible(chunk: &[u8]) -> (&[u8], bool) {
    let is_end = |byte: &u8| matches!(*byte, b'\r' | b'\n');
    let start = chunk.iter().position(|byte| !is_end(byte));
    let Some(start) = start else {
        return (&[], false);
    };
    let tail = chunk.get(start..).unwrap_or_default();
    let length = tail
        .iter()
        .position(|byte| is_end(byte) || *byte == 0)
        .unwrap_or(tail.len());
    let (seen, rest) = tail.split_at_checked(length).unwrap_or((tail, &[]));
    let lost = rest.iter().any(|byte| !is_end(byte) && *byte != b' ');
    (seen, lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &[u8]) -> Vec<(u32, String, bool, bool)> {
        lines(text)
            .map(|line| {
                let text = String::from_utf8_lossy(line.bytes).into_owned();
                (line.number, text, line.continued, line.lost)
            })
            .collect()
    }

    #[test]
    fn lines_end_at_newline_return_and_zero() {
        assert_eq!(
            seen(b"a b\r\n\nc\rd\ne\0f"),
            [
                (1, "a b".into(), false, false),
                (2, String::new(), false, false),
                (3, "c".into(), false, true),
                (4, "e".into(), false, true),
            ]
        );
        assert_eq!(seen(b""), []);
    }

    #[test]
    fn a_long_line_continues_as_another() {
        let mut text = vec![b'x'; 1030];
        text.push(b'\n');
        let seen = seen(&text);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].1.len(), 1023);
        assert_eq!((seen[1].0, seen[1].1.len(), seen[1].2), (1, 7, true));
    }
}
