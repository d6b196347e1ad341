//! `[[volume]]`: settings for one volume.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use umpath_host::policy::{
    Failback, Grouping, NoPathRetry, Prio, RrWeight, Selector, VolumePolicy,
};
use umpath_host::policy_keys;

macro_rules! volume_entry {
    ({ $($own:tt)* } $($key:ident: $type:ty = $default:expr,)*) => {
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct VolumeEntry {
            $($own)*
            $(
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub(crate) $key: Option<$type>,
            )*
        }

        impl VolumeEntry {
            /// Applies the entry's settings to a volume's policies.
            pub(crate) fn set(&self, policy: &mut VolumePolicy) {
                $(if let Some(value) = self.$key { policy.$key = value; })*
                // A more specific entry overrides a general one.
                policy.shared_with_other_hosts |= self.shared_with_other_hosts;
            }

            /// An entry that sets every key, to test that each is documented.
            #[cfg(test)]
            pub(super) fn with_every_key() -> Self {
                Self {
                    id: "uuid.1".into(),
                    alias: Some("x".into()),
                    preferred: vec!["10.0.0.1".into()],
                    shared_with_other_hosts: false,
                    $($key: Some($default),)*
                }
            }
        }
    };
}

policy_keys!(volume_entry {
    /// Identity, as `umpath -ll` prints it in parentheses.
    pub(crate) id: String,
    /// Name of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alias: Option<String>,
    /// Preferred controllers: addresses or CIDR blocks.
    #[serde(default)]
    pub(crate) preferred: Vec<String>,
    /// Other hosts write to the namespace too. A write of unknown fate is then resent only once the
    /// old controller has provably stopped: umpath cannot hold back other hosts' writes to its
    /// blocks.
    #[serde(default)]
    pub(crate) shared_with_other_hosts: bool,
});

impl VolumeEntry {
    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.rr_min_io == Some(0) {
            mistakes.push("rr_min_io = 0; a turn is at least one request".to_owned());
        }
        for text in &self.preferred {
            if block(text).is_none() {
                mistakes.push(format!("preferred {text:?} is not an address"));
            }
        }
        if let Some(alias) = self.alias.as_deref().filter(|alias| !is_name(alias)) {
            mistakes.push(format!(
                "alias {alias:?} may hold letters, digits, `.`, `_` and `-` only"
            ));
        }
        for why in &mut mistakes {
            *why = format!("[[volume]] {}: {why}", self.id);
        }
        mistakes
    }

    /// Whether paths to this controller address are preferred.
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

/// Whether a name is safe in file paths and in listings.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 127
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !text.starts_with('.')
}

/// An address or CIDR block: the network and its prefix length.
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
    use super::super::Defaults;
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
        assert!(entry("192.168.10.0/24").prefers(ip("192.168.10.200")));
        assert!(!entry("192.168.10.0/24").prefers(ip("192.168.11.15")));
        assert!(entry("0.0.0.0/0").prefers(ip("1.2.3.4")));
        assert!(entry("fe80::/10").prefers(ip("fe80::1")));
        assert!(!entry("fe80::/10").prefers(ip("1.2.3.4")));
        assert_eq!(entry("10.0.0.0/33").mistakes().len(), 1);
        assert_eq!(entry("somewhere").mistakes().len(), 1);
    }

    #[test]
    fn every_policy_of_a_volume_can_be_set_by_its_key() {
        let mut policy = Defaults::default().policy();
        let mut all = toml::Table::try_from(VolumeEntry::with_every_key()).unwrap();
        // Describes the volume, not its use: no command changes it.
        for key in ["id", "alias", "preferred", "shared_with_other_hosts"] {
            all.remove(key);
        }
        let mut known = VolumePolicy::KEYS.to_vec();
        known.sort_unstable();
        assert!(all.keys().eq(known), "{all}");
        for (key, value) in &all {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            policy.set(key, &text).unwrap();
        }
        policy.set("path_selector", "latency").unwrap();
        assert_eq!(policy.path_selector.to_string(), "latency 0");
        let refused = policy.set("path_selector", "fastest").unwrap_err();
        assert!(refused.contains("path_selector") && refused.contains("queue-length"));
        assert!(policy.set("rr_min_io", "0").is_err());
        let unknown = policy.set("kato_ms", "1").unwrap_err();
        assert!(unknown.contains("kato_ms") && unknown.contains("failback"));
    }

    #[test]
    fn names_are_safe_in_paths() {
        assert!(is_name("vol1"));
        assert!(!is_name("../x"));
        assert!(!is_name(""));
        assert!(!is_name("a/b"));
    }
}
