//! Names and texts that appear on the wire in fixed-size fields.

/// The well-known name every discovery subsystem answers to.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// NVMe qualified names are at most this long (NVMe Base 2.0 §4.5).
const NQN_BYTES_MAX: usize = 223;

/// Checks that a name can serve as a subsystem's or host's NVMe qualified name.
pub fn check_nqn(name: &str) -> Result<(), String> {
    if name.len() > NQN_BYTES_MAX {
        return Err(format!(
            "an NQN has at most {NQN_BYTES_MAX} bytes, this has {}",
            name.len()
        ));
    }
    let date = name.strip_prefix("nqn.").map(str::as_bytes);
    let dated = date.is_some_and(|rest| {
        matches!(rest, [y1, y2, y3, y4, b'-', m1, m2, b'.', _, ..]
            if [y1, y2, y3, y4, m1, m2].iter().all(|digit| digit.is_ascii_digit()))
    });
    if !dated {
        return Err(format!(
            "\"{name}\" is not an NQN: write nqn.YYYY-MM.reversed.domain:anything, for example \
             nqn.2026-11.com.example:vol1"
        ));
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("\"{name}\" has blanks or control characters"));
    }
    Ok(())
}

/// Checks a text that is padded with blanks on the wire.
pub fn check_text(what: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > bytes_max {
        return Err(format!("{what} must have 1 to {bytes_max} characters"));
    }
    if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(format!("{what} must be printable ASCII"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in [
            "nqn.2026-11.io.umpath:vol1",
            "nqn.2014-08.org.nvmexpress:uuid:2ad8f0a8-0000-4000-8000-000000000000",
            DISCOVERY_NQN,
        ] {
            assert_eq!(check_nqn(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "disk",
            "nqn.",
            "nqn.2026-1.io:x",
            "nqn.2026-11.",
            "nqn.2026-11.io:a b",
        ] {
            assert!(check_nqn(name).is_err(), "{name}");
        }
        assert!(check_nqn(&format!("nqn.2026-11.io:{}", "x".repeat(230))).is_err());
    }
}
