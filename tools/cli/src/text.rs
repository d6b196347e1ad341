//! Numbers as people write and read them.

/// Milliseconds from `5` (seconds), `0.5`, `500ms`, `30s` or `2m`.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let (number, scale) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1e3)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60e3)
    } else {
        (text, 1e3)
    };
    let value: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is not a time"))?;
    if !(0.0..=1e9).contains(&value) {
        return Err(format!("`{text}` is out of range"));
    }
    Ok((value * scale).round() as u64)
}

/// A size in binary units as multipath prints it: one decimal below 10, none above.
pub(crate) fn binary_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 'B';
    for next in ['K', 'M', 'G', 'T', 'P', 'E'] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 10.0 && unit != 'B' {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// A size in decimal units as nvme-cli prints it: `107.37 GB`.
pub(crate) fn decimal_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.2} {unit:>2}")
}

/// A block size as nvme-cli prints it: `4 KiB + 0 B`, in its columns.
pub(crate) fn block_format(block_bytes: u32) -> String {
    if block_bytes >= 1024 && block_bytes.is_multiple_of(1024) {
        format!("{:>3} KiB + {:>2} B", block_bytes / 1024, 0)
    } else {
        format!("{block_bytes:>3}   B + {:>2} B", 0)
    }
}

/// UTC date and time with milliseconds, `2026-11-20T20:39:01.234Z`.
pub(crate) fn utc(unix_ms: u64) -> String {
    let days = unix_ms / 86_400_000;
    let ms = unix_ms % 86_400_000;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        ms % 1000
    )
}

/// The proleptic Gregorian date of a day counted from 1970-01-01, by eras of 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration_ms("5"), Ok(5000));
        assert_eq!(duration_ms("0.5"), Ok(500));
        assert_eq!(duration_ms("500ms"), Ok(500));
        assert_eq!(duration_ms("30s"), Ok(30_000));
        assert_eq!(duration_ms("2m"), Ok(120_000));
        assert!(duration_ms("-1").is_err());
        assert!(duration_ms("soon").is_err());
        assert!(duration_ms("NaN").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(binary_size(200 << 30), "200G");
        assert_eq!(binary_size(1 << 30), "1.0G");
        assert_eq!(binary_size(1536 << 20), "1.5G");
        assert_eq!(binary_size(512), "512B");
        assert_eq!(decimal_size(107_374_182_400), "107.37 GB");
        assert_eq!(block_format(4096), "  4 KiB +  0 B");
        assert_eq!(block_format(512), "512   B +  0 B");
    }

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(1_709_210_096_789), "2024-02-29T12:34:56.789Z");
        assert_eq!(utc(4_102_444_800_000), "2100-01-01T00:00:00.000Z");
    }
}
