//! The policies of a volume, in the terms of the configuration.

mod words;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use umpath_core::policies::{DampingConfig, Ranking, SelectorConfig};
use umpath_core::{DeviceConfig, NoPath};

pub use words::{Failback, Grouping, NoPathRetry, Prio, RrWeight, Selector};

/// Every policy key of `umpath.toml`, declared once: `key: type = default`. Calls `with!` with the
/// given braces and the keys behind them; fields, parsing and lists of keys are made of it. The types
/// are those of this module.
#[macro_export]
macro_rules! policy_keys {
    ($with:ident $braces:tt) => {
        $with! {
            $braces
            no_path_retry: NoPathRetry = NoPathRetry::Queue,
            failback: Failback = Failback::default(),
            path_grouping_policy: Grouping = Grouping::default(),
            path_selector: Selector = Selector::default(),
            prio: Prio = Prio::default(),
            rr_min_io: u32 = 1,
            rr_weight: RrWeight = RrWeight::default(),
            exclusive_pref_bit: bool = false,
            marginal_pathgroups: bool = true,
            flush_on_last_del: bool = false,
            fast_io_fail_ms: u64 = 0,
        }
    };
}

macro_rules! volume_policy {
    ({ $($own:tt)* } $($key:ident: $type:ty = $default:expr,)*) => {
        /// The policies of one volume, defaults filled in. `umpath.toml` documents each of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs)]
        pub struct VolumePolicy {
            $(pub $key: $type,)*
            $($own)*
        }

        impl Default for VolumePolicy {
            fn default() -> Self {
                Self {
                    $($key: $default,)*
                    damping: DampingConfig::default(),
                    shared_with_other_hosts: false,
                }
            }
        }

        impl VolumePolicy {
            /// The keys that [`VolumePolicy::set`] knows.
            pub const KEYS: &[&str] = &[$(stringify!($key)),*];

            /// Changes one policy, by its key and value in `umpath.toml`.
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
                let mut changed = *self;
                match key {
                    $(stringify!($key) => changed.$key = parse(key, value)?,)*
                    _ => {
                        let known = Self::KEYS.join(", ");
                        return Err(format!("{key} is no policy of volumes; there are {known}"));
                    }
                }
                if changed.rr_min_io == 0 {
                    return Err(format!("{key} = {value}: a turn is at least one request"));
                }
                *self = changed;
                Ok(())
            }
        }
    };
}

policy_keys!(volume_policy {
    pub damping: DampingConfig,
    pub shared_with_other_hosts: bool,
});

fn parse<T: FromStr<Err: Display>>(key: &str, value: &str) -> Result<T, String> {
    let parsed = value.parse();
    parsed.map_err(|why| format!("{key} = {value}: {why}"))
}

impl VolumePolicy {
    /// The same policies as the core's configuration.
    pub fn device_config(&self, lba_shift: u8, lanes: u16) -> DeviceConfig {
        DeviceConfig {
            lba_shift,
            lanes,
            selector: SelectorConfig {
                kind: self.path_selector.0,
                rr_min_io: self.rr_min_io,
                rr_weight_priorities: self.rr_weight == RrWeight::Priorities,
            },
            grouping: self.path_grouping_policy.0,
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
