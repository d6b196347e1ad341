//! Policy words of the configuration, as dm-multipath's users know them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Seconds a numeric `no_path_retry` counts for: multipathd's default polling interval.
const POLLING_INTERVAL: Duration = Duration::from_secs(5);

/// What happens to I/O while a volume has no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPathRetry {
    /// It waits.
    Queue,
    /// It fails.
    Fail,
    /// It waits so long, then fails.
    For(Duration),
}

/// When I/O returns to a better group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failback {
    /// At once.
    Immediate,
    /// Not before the group in use has no path left.
    Manual,
}

/// How paths form priority groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grouping {
    /// One group for each priority.
    GroupByPrio,
    /// All paths in one group.
    Multibus,
    /// One path in each group.
    Failover,
}

/// How a path is chosen inside the group in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selector {
    /// Fewest requests in flight.
    QueueLength,
    /// One after the other.
    RoundRobin,
}

/// Where priorities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Prio {
    /// ANA states.
    #[serde(alias = "alua")]
    Ana,
    /// All the same.
    Const,
}

/// `5`, `"5"` and `"30s"` are all written by people.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Number(u64),
    Text(String),
}

impl Word {
    fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

impl fmt::Display for NoPathRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue => f.write_str("queue"),
            Self::Fail => f.write_str("fail"),
            Self::For(time) if time.subsec_millis() == 0 => write!(f, "{}s", time.as_secs()),
            Self::For(time) => write!(f, "{}ms", time.as_millis()),
        }
    }
}

impl std::str::FromStr for NoPathRetry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse::<u32>().ok();
        match text {
            "queue" => return Ok(Self::Queue),
            "fail" => return Ok(Self::Fail),
            _ => {}
        }
        let time = if let Some(digits) = text.strip_suffix("ms") {
            number(digits).map(|ms| Duration::from_millis(ms.into()))
        } else if let Some(digits) = text.strip_suffix('s') {
            number(digits).map(|s| Duration::from_secs(s.into()))
        } else {
            number(text).map(|checks| POLLING_INTERVAL * checks)
        };
        match time {
            Some(Duration::ZERO) => Ok(Self::Fail),
            Some(time) => Ok(Self::For(time)),
            None => Err(format!(
                "no_path_retry = {text:?}: write \"queue\", \"fail\", a number of checks of 5 s, \
                 or a time such as \"30s\""
            )),
        }
    }
}

impl fmt::Display for Failback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Immediate => "immediate",
            Self::Manual => "manual",
        })
    }
}

impl std::str::FromStr for Failback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "immediate" => Ok(Self::Immediate),
            "manual" => Ok(Self::Manual),
            _ => Err(format!(
                "failback = {text:?}: write \"immediate\" or \"manual\""
            )),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueLength => "queue-length 0",
            Self::RoundRobin => "round-robin 0",
        })
    }
}

impl std::str::FromStr for Selector {
    type Err = String;

    /// With or without the argument count that multipath.conf carries.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix(" 0").unwrap_or(text) {
            "queue-length" => Ok(Self::QueueLength),
            "round-robin" => Ok(Self::RoundRobin),
            _ => Err(format!(
                "path_selector = {text:?}: write \"queue-length\" or \"round-robin\""
            )),
        }
    }
}

/// Text forms in TOML for the types above.
macro_rules! as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Word::deserialize(deserializer)?.into_text();
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

as_text!(NoPathRetry, Failback, Selector);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_retry_reads_what_multipath_conf_holds() {
        assert_eq!("queue".parse(), Ok(NoPathRetry::Queue));
        assert_eq!("fail".parse(), Ok(NoPathRetry::Fail));
        assert_eq!("0".parse(), Ok(NoPathRetry::Fail));
        assert_eq!("12".parse(), Ok(NoPathRetry::For(Duration::from_secs(60))));
        assert_eq!("30s".parse(), Ok(NoPathRetry::For(Duration::from_secs(30))));
        assert_eq!(
            NoPathRetry::For(Duration::from_millis(1500)).to_string(),
            "1500ms"
        );
        assert!("often".parse::<NoPathRetry>().is_err());
        assert!("-1".parse::<NoPathRetry>().is_err());
    }

    #[test]
    fn selectors_take_dms_argument_count() {
        assert_eq!("queue-length 0".parse(), Ok(Selector::QueueLength));
        assert_eq!("round-robin".parse(), Ok(Selector::RoundRobin));
        assert!("service-time 0".parse::<Selector>().is_err());
    }
}
