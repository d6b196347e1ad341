//! `[[volume]]`: what holds for one volume.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use umpath_core::policies::{Ranking, SelectorConfig};
use umpath_core::{DeviceConfig, NoPath};

use super::{Defaults, Failback, Grouping, NoPathRetry, Prio, Selector};

/// One `[[volume]]` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeEntry {
    /// Identity as `umpath -ll` prints it in parentheses.
    pub(crate) id: String,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alias: Option<String>,
    /// Preferred controllers: addresses or CIDR blocks.
    #[serde(default)]
    pub(crate) preferred: Vec<String>,
    /// As in `[defaults]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) no_path_retry: Option<NoPathRetry>,
    /// As in `[defaults]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failback: Option<Failback>,
    /// As in `[defaults]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path_grouping_policy: Option<Grouping>,
    /// As in `[defaults]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path_selector: Option<Selector>,
    /// As in `[defaults]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prio: Option<Prio>,
}

/// The policies of one volume, defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VolumePolicy {
    pub(crate) no_path_retry: NoPathRetry,
    pub(crate) failback: Failback,
    pub(crate) grouping: Grouping,
    pub(crate) selector: Selector,
    pub(crate) prio: Prio,
    pub(crate) rr_min_io: u32,
}

impl VolumePolicy {
    /// What holds for the volume with this entry, if it has one.
    pub(crate) fn new(defaults: &Defaults, entry: Option<&VolumeEntry>) -> Self {
        Self {
            no_path_retry: entry
                .and_then(|e| e.no_path_retry)
                .unwrap_or(defaults.no_path_retry),
            failback: entry.and_then(|e| e.failback).unwrap_or(defaults.failback),
            grouping: entry
                .and_then(|e| e.path_grouping_policy)
                .unwrap_or(defaults.path_grouping_policy),
            selector: entry
                .and_then(|e| e.path_selector)
                .unwrap_or(defaults.path_selector),
            prio: entry.and_then(|e| e.prio).unwrap_or(defaults.prio),
            rr_min_io: defaults.rr_min_io,
        }
    }
}

impl VolumePolicy {
    /// The same for the core.
    pub(crate) fn device_config(&self, lba_shift: u8, lanes: u16) -> DeviceConfig {
        DeviceConfig {
            lba_shift,
            lanes,
            selector: SelectorConfig {
                kind: self.selector.0,
                rr_min_io: self.rr_min_io,
                ..SelectorConfig::default()
            },
            grouping: self.grouping.0,
            ranking: Ranking {
                prioritizer: self.prio.0,
                ..Ranking::default()
            },
            failback: self.failback.0,
            no_path: self.no_path(),
        }
    }

    /// What becomes of I/O without a path, for the core.
    pub(crate) fn no_path(&self) -> NoPath {
        match self.no_path_retry {
            NoPathRetry::Queue => NoPath::Queue,
            NoPathRetry::Fail => NoPath::Fail,
            NoPathRetry::For(time) => NoPath::QueueFor(time),
        }
    }
}

impl VolumeEntry {
    pub(super) fn check(&self) -> Result<(), String> {
        for text in &self.preferred {
            if block(text).is_none() {
                return Err(format!(
                    "[[volume]] {}: preferred {text:?} is no address",
                    self.id
                ));
            }
        }
        match &self.alias {
            Some(alias) if !is_name(alias) => Err(format!(
                "[[volume]] {}: alias {alias:?} may hold letters, digits, `.`, `_` and `-` only",
                self.id
            )),
            _ => Ok(()),
        }
    }

    /// True when paths to this controller address are preferred.
    pub(crate) fn prefers(&self, address: IpAddr) -> bool {
        self.preferred
            .iter()
            .filter_map(|text| block(text))
            .any(|(network, bits)| {
                let (network, address) = match (network, address) {
                    (IpAddr::V4(n), IpAddr::V4(a)) => {
                        (u128::from(n.to_bits()) << 96, u128::from(a.to_bits()) << 96)
                    }
                    (IpAddr::V6(n), IpAddr::V6(a)) => (n.to_bits(), a.to_bits()),
                    _ => return false,
                };
                bits == 0 || (network ^ address) >> (128 - bits) == 0
            })
    }
}

/// A name that is safe in paths and in listings.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 127
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !text.starts_with('.')
}

/// An address or CIDR block: the network and the number of leading bits that count.
fn block(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let widest = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(widest);
    (bits <= widest).then_some((address, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(preferred: &str) -> VolumeEntry {
        toml::from_str(&format!("id = \"uuid.1\"\npreferred = [{preferred:?}]")).unwrap()
    }

    #[test]
    fn preferences_are_addresses_or_blocks() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(entry("192.168.10.14").prefers(ip("192.168.10.14")));
        assert!(!entry("192.168.10.14").prefers(ip("192.168.10.15")));
        assert!(entry("192.168.10.0/24").prefers(ip("192.168.10.15")));
        assert!(!entry("192.168.10.0/24").prefers(ip("192.168.11.15")));
        assert!(entry("0.0.0.0/0").prefers(ip("1.2.3.4")));
        assert!(entry("fe80::/10").prefers(ip("fe80::1")));
        assert!(!entry("fe80::/10").prefers(ip("1.2.3.4")));
        assert!(entry("10.0.0.0/33").check().is_err());
        assert!(entry("somewhere").check().is_err());
    }

    #[test]
    fn names_are_safe_in_paths() {
        assert!(is_name("vol1"));
        assert!(!is_name("../x"));
        assert!(!is_name(""));
        assert!(!is_name("a/b"));
    }
}
