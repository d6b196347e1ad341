//! Detecting a lost controller: the timers and their combined effect.
//!
//! Decided here: the ACK timeout if none is configured, and the text of `umpath show status`.
//! `umpath_core::association` decides what evidence means.

use crate::config::Defaults;

/// Converts an exponent to `4.096 us x 2^e`, in nanoseconds.
fn ack_timeout_ns(exponent: u8) -> u64 {
    4096 << exponent.min(40)
}

/// The exponent of the local ACK timeout.
///
/// If none is configured: the least with which a NIC with an exact timer gives up no earlier than
/// after twice the heartbeat detection time. A queue pair that gives up is hard evidence and ends
/// the association at once, however busy the machines are, so heartbeats should decide first. The
/// ACK timeout still catches a queue that gets no acknowledgements while heartbeats are answered.
/// NICs may take up to four times as long (IBTA 9.7.6.1.3).
pub(crate) fn ack_timeout_exponent(defaults: &Defaults) -> u8 {
    let budget_ms = match defaults.ack_timeout_ms {
        0 => {
            let (_, latest) = heartbeats_ms(defaults);
            (latest * 2).div_ceil(u64::from(defaults.retry_count) + 1)
        }
        ms => u64::from(ms),
    };
    let units = (budget_ms * 1_000_000).div_ceil(4096).max(1);
    // Accept up to an eighth less: 67 ms is the customary 2^14.
    let units = units - units / 8;
    (units.next_power_of_two().trailing_zeros() as u8).clamp(1, 31)
}

/// Earliest and latest time at which missing heartbeats cause suspicion: the first unanswered
/// heartbeat is sent right after the loss or up to a heartbeat interval later.
fn heartbeats_ms(defaults: &Defaults) -> (u64, u64) {
    let missed = u64::from(defaults.heartbeats_missed);
    let first = defaults.heartbeat_ms.saturating_mul(missed);
    (first, first.saturating_add(defaults.heartbeat_ms))
}

/// The text of `umpath show status`, one line per mechanism.
pub(crate) fn explain(defaults: &Defaults) -> Vec<String> {
    let exponent = ack_timeout_exponent(defaults);
    let ack_ms = ack_timeout_ns(exponent) / 1_000_000;
    let tries = u64::from(defaults.retry_count) + 1;
    let gives_up_ms = ack_timeout_ns(exponent).saturating_mul(tries) / 1_000_000;
    let (earliest, latest) = heartbeats_ms(defaults);
    vec![
        format!(
            "link down (carrier, port event): no new I/O at once; path given up after {} ms",
            defaults.link_down_grace_ms
        ),
        "connection closed, queue pair or device failed: path given up at once".to_owned(),
        format!(
            "silence: a heartbeat every {} ms; no new I/O after {} without an answer ({earliest} to \
             {latest} ms); path given up when I/O has had no answer for {} ms either, longer if \
             heartbeats were slow recently",
            defaults.heartbeat_ms, defaults.heartbeats_missed, defaults.io_silence_ms
        ),
        format!(
            "I/O stuck while heartbeats are answered: new I/O on another path, if any, after {} ms",
            defaults.io_stuck_ms
        ),
        format!(
            "one command without an answer while others are answered: new I/O on another path, if \
             any, after {} ms; path given up after {} ms, doubling each time",
            defaults.io_slow_ms, defaults.io_timeout_ms
        ),
        format!(
            "no acknowledgement: ACK timeout {ack_ms} ms (4.096 us x 2^{exponent}, {}), {} retries: a \
             NIC gives up after {gives_up_ms} to {} ms",
            if defaults.ack_timeout_ms == 0 {
                "so that heartbeats detect a loss first"
            } else {
                "as configured"
            },
            defaults.retry_count,
            gives_up_ms.saturating_mul(4),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_timeouts_become_exponents() {
        let exponent = |ms| {
            ack_timeout_exponent(&Defaults {
                ack_timeout_ms: ms,
                ..Defaults::default()
            })
        };
        assert_eq!(exponent(67), 14);
        assert_eq!(exponent(1), 8);
        assert_eq!(exponent(134), 15);
        assert_eq!(exponent(60_000), 24);
    }

    #[test]
    fn a_nic_gives_up_no_earlier_than_heartbeats() {
        for (heartbeat_ms, heartbeats_missed, retry_count) in [
            (60, 3, 6),
            (500, 3, 6),
            (60, 3, 0),
            (10, 1, 6),
            (60_000, 9, 2),
        ] {
            let defaults = Defaults {
                heartbeat_ms,
                heartbeats_missed,
                retry_count,
                ..Defaults::default()
            };
            let nic_ms = ack_timeout_ns(ack_timeout_exponent(&defaults)) / 1_000_000
                * (u64::from(retry_count) + 1);
            assert!(nic_ms >= heartbeats_ms(&defaults).1, "{heartbeat_ms}");
        }
    }

    #[test]
    fn the_defaults_are_explained() {
        let lines = explain(&Defaults::default()).join("\n");
        assert!(lines.contains("180 to 240 ms"), "{lines}");
        assert!(
            lines.contains("ACK timeout 67 ms (4.096 us x 2^14, so that"),
            "{lines}"
        );
        assert!(lines.contains("after 469 to 1876 ms"), "{lines}");
    }
}
