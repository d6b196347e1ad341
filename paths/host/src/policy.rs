//! The policies of a volume, in the terms of the configuration.

mod words;

use std::fmt::Display;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use umpath_core::policies::{DampingConfig, Ranking, SelectorConfig};
use umpath_core::{DeviceConfig, NoPath};

pub use words::{Failback, Grouping, NoPathRetry, Prio, RrWeight, Selector};

/// The policies of one volume, defaults filled in. `umpath.toml` documents each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct VolumePolicy {
    pub no_path_retry: NoPathRetry,
    pub failback: Failback,
    pub grouping: Grouping,
    pub selector: Selector,
    pub prio: Prio,
    pub rr_min_io: u32,
    pub rr_weight: RrWeight,
    pub exclusive_pref_bit: bool,
    pub marginal_pathgroups: bool,
    pub flush_on_last_del: bool,
    pub fast_io_fail_ms: u64,
    pub damping: DampingConfig,
    pub shared_with_other_hosts: bool,
}

impl VolumePolicy {
    /// The keys that [`VolumePolicy::set`] knows.
    pub const KEYS: [&str; 11] = [
        "no_path_retry",
        "failback",
        "path_grouping_policy",
        "path_selector",
        "prio",
        "rr_min_io",
        "rr_weight",
        "exclusive_pref_bit",
        "marginal_pathgroups",
        "flush_on_last_del",
        "fast_io_fail_ms",
    ];

    /// Changes one policy, by its key and value in `umpath.toml`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        fn parse<T: FromStr<Err: Display>>(key: &str, value: &str) -> Result<T, String> {
            value
                .parse()
                .map_err(|why| format!("{key} = {value}: {why}"))
        }
        match key {
            "no_path_retry" => self.no_path_retry = parse(key, value)?,
            "failback" => self.failback = parse(key, value)?,
            "path_grouping_policy" => self.grouping = parse(key, value)?,
            "path_selector" => self.selector = parse(key, value)?,
            "prio" => self.prio = parse(key, value)?,
            "rr_min_io" => self.rr_min_io = parse::<NonZeroU32>(key, value)?.get(),
            "rr_weight" => self.rr_weight = parse(key, value)?,
            "exclusive_pref_bit" => self.exclusive_pref_bit = parse(key, value)?,
            "marginal_pathgroups" => self.marginal_pathgroups = parse(key, value)?,
            "flush_on_last_del" => self.flush_on_last_del = parse(key, value)?,
            "fast_io_fail_ms" => self.fast_io_fail_ms = parse(key, value)?,
            _ => {
                return Err(format!(
                    "{key} is no policy of volumes; there are {}",
                    Self::KEYS.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// The same policies as the core's configuration.
    pub fn device_config(&self, lba_shift: u8, lanes: u16) -> DeviceConfig {
        DeviceConfig {
            lba_shift,
            lanes,
            selector: SelectorConfig {
                kind: self.selector.0,
                rr_min_io: self.rr_min_io,
                rr_weight_priorities: self.rr_weight == RrWeight::Priorities,
            },
            grouping: self.grouping.0,
            ranking: Ranking {
                prioritizer: self.prio.0,
                exclusive_pref_bit: self.exclusive_pref_bit,
                marginal_pathgroups: self.marginal_pathgroups,
            },
            failback: self.failback.0,
            no_path: self.no_path(),
            damping: self.damping,
            flush_on_last_del: self.flush_on_last_del,
            fast_io_fail: Duration::from_millis(self.fast_io_fail_ms),
            shared_with_other_hosts: self.shared_with_other_hosts,
        }
    }

    /// The core's policy for I/O without a path.
    pub fn no_path(&self) -> NoPath {
        match self.no_path_retry {
            NoPathRetry::Queue => NoPath::Queue,
            NoPathRetry::Fail => NoPath::Fail,
            NoPathRetry::For(time) => NoPath::QueueFor(time),
        }
    }
}
