//! Fixed-width text fields: ASCII padded with spaces, or NUL-terminated.

/// The text of a padded field: everything before the first NUL, without surrounding spaces.
///
/// Cuts the text at the first byte that is not printable ASCII, so the result is safe to print to a
/// terminal whatever the peer sent.
#[must_use]
pub fn trimmed(field: &[u8]) -> &str {
    let end = field
        .iter()
        .position(|&b| !(b.is_ascii_graphic() || b == b' '))
        .unwrap_or(field.len());
    let text = field.get(..end).unwrap_or_default();
    core::str::from_utf8(text)
        .unwrap_or_default()
        .trim_matches(' ')
}

/// Writes `text` into a field padded with `pad`, truncating it to the field.
pub fn fill(field: &mut [u8], text: &str, pad: u8) {
    let padded = text.bytes().chain(core::iter::repeat(pad));
    for (to, from) in field.iter_mut().zip(padded) {
        *to = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_and_fills() {
        assert_eq!(trimmed(b"Linux   "), "Linux");
        assert_eq!(trimmed(b"4420\0\0garbage"), "4420");
        assert_eq!(trimmed(b"a\x1b[31mb"), "a");
        assert_eq!(trimmed(&[0xff; 4]), "");
        let mut field = [0; 6];
        fill(&mut field, "abc", b' ');
        assert_eq!(&field, b"abc   ");
        fill(&mut field, "abcdefgh", 0);
        assert_eq!(&field, b"abcdef");
    }
}
