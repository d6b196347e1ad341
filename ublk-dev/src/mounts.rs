//! Reading a mount table.

use std::path::PathBuf;

/// A mount.
pub(crate) struct Mount<'a> {
    pub(crate) device: &'a str,
    kind: &'a str,
    pub(crate) source: &'a str,
    /// Options of the file system, separated by commas.
    options: &'a str,
    pub(crate) point: PathBuf,
}

impl Mount<'_> {
    /// Where an overlay keeps what is written to it.
    pub(crate) fn upper_directory(&self) -> Option<PathBuf> {
        let mut options = self.options.split(',');
        let upper = options.find_map(|option| option.strip_prefix("upperdir="))?;
        (self.kind == "overlay").then(|| PathBuf::from(unescape(upper)))
    }
}

/// Reads one line of mountinfo: `id parent major:minor root point options [tags] - type source ..`.
pub(crate) fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ');
    let device = fields.nth(2)?;
    let point = fields.nth(1)?;
    let mut right = right.split(' ');
    let (kind, source) = (right.next()?, right.next()?);
    Some(Mount {
        device,
        kind,
        source,
        options: right.next().unwrap_or_default(),
        point: PathBuf::from(unescape(point)),
    })
}

/// Undoes the kernel's octal escapes (blank, tab, newline, backslash).
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = code {
            bytes.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mountinfo_lines_parse() {
        let line = "36 35 511:3 / /mnt/my\\040disk rw,noatime master:1 - ext4 /dev/ublkb0 rw";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.device, "511:3");
        assert_eq!(mount.point, Path::new("/mnt/my disk"));
        assert_eq!(mount.source, "/dev/ublkb0");
        assert!(parse_mount("22 28").is_none());
    }
}
