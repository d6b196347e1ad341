//! Values of policy keys, as dm-multipath users know them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use umpath_policies as policies;

/// Seconds a numeric `no_path_retry` counts for: multipathd's default polling interval.
const POLLING_INTERVAL: Duration = Duration::from_secs(5);

/// What happens to I/O while a volume has no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPathRetry {
    /// It waits.
    Queue,
    /// It fails.
    Fail,
    /// It waits this long, then fails.
    For(Duration),
}

/// When I/O returns to a better group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failback(pub policies::Failback);

/// How paths form priority groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grouping(pub policies::Grouping);

/// How to choose a path within the group in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selector(pub policies::SelectorKind);

/// Where priorities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prio(pub policies::Prioritizer);

/// The multiplier of `rr_min_io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RrWeight {
    /// One.
    #[default]
    Uniform,
    /// The path's priority.
    Priorities,
}

impl Default for Selector {
    fn default() -> Self {
        Self(policies::SelectorConfig::default().kind)
    }
}

/// People write `5`, `"5"` and `"30s"`.
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
        match self.0 {
            policies::Failback::Immediate => f.write_str("immediate"),
            policies::Failback::Manual => f.write_str("manual"),
            policies::Failback::Followover => f.write_str("followover"),
            policies::Failback::After(delay) => write!(f, "{}", delay.as_secs()),
        }
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.word())
    }
}

impl fmt::Display for Selector {
    /// With the argument count of multipath.conf: `queue-length 0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} 0", self.0.word())
    }
}

impl fmt::Display for Prio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.word())
    }
}

impl fmt::Display for RrWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Priorities => "priorities",
        })
    }
}

impl std::str::FromStr for RrWeight {
    type Err = policies::UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "priorities" => Ok(Self::Priorities),
            _ => Err(policies::UnknownWord {
                expected: "rr_weight",
                word: text.into(),
                known: &["uniform", "priorities"],
            }),
        }
    }
}

/// Words that `umpath_policies` parses.
macro_rules! policy_word {
    ($($type:ident = $policy:ty),+) => {$(
        impl std::str::FromStr for $type {
            type Err = policies::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                <$policy>::parse(text).map(Self)
            }
        }
    )+};
}

policy_word!(
    Failback = policies::Failback,
    Grouping = policies::Grouping,
    Selector = policies::SelectorKind,
    Prio = policies::Prioritizer
);

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

as_text!(NoPathRetry, Failback, Grouping, Selector, Prio, RrWeight);

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
        let wait = NoPathRetry::For(Duration::from_millis(1500));
        assert_eq!("1500ms".parse(), Ok(wait));
        assert!("often".parse::<NoPathRetry>().is_err());
        assert!("-1".parse::<NoPathRetry>().is_err());
    }

    #[test]
    fn selectors_take_dms_argument_count() {
        let kind = |text: &str| text.parse::<Selector>().unwrap().0;
        assert_eq!(kind("queue-length 0"), policies::SelectorKind::QueueLength);
        assert_eq!(kind("round-robin"), policies::SelectorKind::RoundRobin);
        assert_eq!(
            "round-robin".parse::<Selector>().unwrap().to_string(),
            "round-robin 0"
        );
        let known = policies::SelectorKind::ALL;
        for word in known.iter().map(|kind| kind.word()) {
            assert_eq!(kind(&format!("{word} 0")).word(), word);
        }
        assert_eq!(kind("numa"), policies::SelectorKind::IoAffinity);
        assert!("fastest 0".parse::<Selector>().is_err());
    }
}
