//! `umpath.toml`: what an administrator can configure.
//!
//! Decided here: the keys, their defaults and their bounds. One type is parsed once; an unknown key
//! is an error that names file and line. `umpath.toml` in this crate documents every key, and a
//! test checks it against this type. Not decided here: the effect of a value, which belongs to the
//! core and the policies.

mod bounds;
mod connect;
mod device;
mod discovery_conf;
mod ignore;
mod load;
mod mistake;
mod parse;
mod volume;

pub(crate) use connect::{ConnectEntry, parse_portal};
pub(crate) use device::DeviceEntry;
pub(crate) use discovery_conf::{DiscoveryLine, read_discovery_conf};
pub(crate) use ignore::IgnoreEntry;
pub(crate) use load::load;
pub(crate) use mistake::{Mistake, Place};
pub(crate) use volume::{VolumeEntry, is_name};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use umpath_core::policies::DampingConfig;
use umpath_host::policy::{
    Failback, Grouping, NoPathRetry, Prio, RrWeight, Selector, VolumePolicy,
};
use umpath_host::policy_keys;

/// The documented file: every key with its default.
pub(crate) const DOCUMENTED: &str = include_str!("../umpath.toml");

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) control: Control,
    /// Settings of every volume and path that does not override them.
    pub(crate) defaults: Defaults,
    /// Paths to connect at start and keep connected.
    pub(crate) connect: Vec<ConnectEntry>,
    /// Subsystems and namespaces to ignore although a controller offers them.
    pub(crate) ignore: Vec<IgnoreEntry>,
    /// Settings for the volumes of one array model.
    pub(crate) device: Vec<DeviceEntry>,
    /// Settings for single volumes.
    pub(crate) volume: Vec<VolumeEntry>,
}

/// The control socket, and what to connect at start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Control {
    /// Group that may read listings; absent: only root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Also connect every line of `discovery.conf` at start.
    pub(crate) discovery_conf: bool,
}

macro_rules! defaults {
    (
        { $($(#[$meta:meta])* $key:ident: $type:ty = $default:expr,)* }
        $($policy:ident: $kind:ty = $value:expr,)*
    ) => {
        /// Settings of every volume and path that does not override them. `umpath.toml` documents
        /// each key.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct Defaults {
            $(pub(crate) $policy: $kind,)*
            $($(#[$meta])* pub(crate) $key: $type,)*
        }

        impl Default for Defaults {
            fn default() -> Self {
                Self {
                    $($policy: $value,)*
                    $($key: $default,)*
                }
            }
        }

        impl Defaults {
            /// The policies of volumes without settings of their own.
            pub(crate) fn policy(&self) -> VolumePolicy {
                VolumePolicy {
                    $($policy: self.$policy,)*
                    damping: self.damping(),
                    shared_with_other_hosts: false,
                }
            }
        }
    };
}

policy_keys!(defaults {
    flap_threshold: u32 = 2,
    flap_hold_ms: u64 = 1000,
    flap_hold_max_ms: u64 = 300_000,
    flap_forget_ms: u64 = 60_000,
    outlier_factor: u32 = 3,
    outlier_window_ms: u64 = 1000,
    outlier_windows: u32 = 3,

    heartbeat_ms: u64 = 60,
    heartbeats_missed: u32 = 3,
    kato_ms: u64 = 1000,
    link_down_grace_ms: u64 = 10,
    io_silence_ms: u64 = 200,
    io_stuck_ms: u64 = 1000,
    io_slow_ms: u64 = 10_000,
    io_timeout_ms: u64 = 30_000,

    io_queues: u16 = 0,
    queue_depth: u16 = 64,
    max_io_kib: u32 = 1024,
    poll_us: u32 = 50,

    connect_timeout_ms: u64 = 3000,
    command_timeout_ms: u64 = 5000,
    ack_timeout_ms: u32 = 0,
    retry_count: u8 = 6,
    drain_deadline_ms: u64 = 500,
    reconnect_first_ms: u64 = 20,
    reconnect_delay_ms: u64 = 250,
    reconnect_delay_max_ms: u64 = 10_000,
    rediscover_ms: u64 = 60_000,
    #[serde(skip_serializing_if = "Option::is_none")]
    ctrl_loss_tmo_ms: Option<u64> = None,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiesce_floor_ms: Option<u64> = None,
});

impl Config {
    /// Values that parse and are still invalid. Each message names its key.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut found = |place: Place, whys: Vec<String>| {
            mistakes.extend(whys.into_iter().map(|why| Mistake { place, why }));
        };
        found(Place::Defaults, self.defaults.mistakes());
        for (index, entry) in self.connect.iter().enumerate() {
            found(Place::Connect(index), entry.mistakes());
        }
        for (index, entry) in self.ignore.iter().enumerate() {
            found(
                Place::Ignore(index),
                entry.check().err().into_iter().collect(),
            );
        }
        for (index, device) in self.device.iter().enumerate() {
            found(Place::Device(index), device.mistakes());
        }
        for (index, volume) in self.volume.iter().enumerate() {
            found(Place::Volume(index), volume.mistakes());
            let twin = |other: &&VolumeEntry| {
                other.id.eq_ignore_ascii_case(&volume.id)
                    || (volume.alias.is_some() && other.alias == volume.alias)
            };
            if let Some(twin) = self.volume.iter().take(index).find(twin) {
                let why = format!(
                    "[[volume]] {} and {} share an id or an alias; each must be its own",
                    twin.id, volume.id
                );
                found(Place::Volume(index), vec![why]);
            }
        }
        mistakes
    }

    /// The whole configuration with defaults filled in, as TOML.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// The policies of the volume with this identity behind controllers of this model.
    pub(crate) fn policy(&self, id: &str, model: &str) -> VolumePolicy {
        let mut policy = self.defaults.policy();
        for device in self.device.iter().filter(|device| device.holds_for(model)) {
            device.set(&mut policy);
        }
        if let Some(entry) = self.volume(id) {
            entry.set(&mut policy);
        }
        policy
    }

    /// The configured entry of a volume, by identity.
    pub(crate) fn volume(&self, id: &str) -> Option<&VolumeEntry> {
        self.volume
            .iter()
            .find(|entry| entry.id.eq_ignore_ascii_case(id))
    }
}

impl Defaults {
    /// Settings for paths that keep failing.
    pub(crate) fn damping(&self) -> DampingConfig {
        DampingConfig {
            threshold: self.flap_threshold,
            hold: Duration::from_millis(self.flap_hold_ms),
            hold_max: Duration::from_millis(self.flap_hold_max_ms),
            forget: Duration::from_millis(self.flap_forget_ms),
            outlier_factor: self.outlier_factor,
            window: Duration::from_millis(self.outlier_window_ms),
            windows: self.outlier_windows,
        }
    }

    /// Timeouts of the queue threads.
    pub(crate) fn waits(&self) -> Waits {
        Waits {
            polling: Duration::from_micros(self.poll_us.into()),
            drain_deadline: Duration::from_millis(self.drain_deadline_ms),
        }
    }

    /// I/O queues per volume: as configured, or one per CPU up to 4.
    pub(crate) fn io_queues(&self) -> u16 {
        match self.io_queues {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get().min(4)) as u16,
            n => n,
        }
    }
}

/// Waits of queue threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// Longest time a thread polls before it sleeps.
    pub(crate) polling: Duration,
    /// Longest time a queue pair may take to drain; then it is destroyed.
    pub(crate) drain_deadline: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drain_deadline_is_that_of_io_queue_pairs_too() {
        let defaults = Defaults {
            drain_deadline_ms: 70,
            ..Defaults::default()
        };
        assert_eq!(defaults.waits().drain_deadline, Duration::from_millis(70));
    }

    #[test]
    fn the_documented_file_shows_every_key_at_its_default() {
        let documented: Config = toml::from_str(DOCUMENTED).unwrap();
        assert_eq!(documented, Config::default());
        // A key that is not written has its default too, so compare only those that are written.
        let written: toml::Table = DOCUMENTED.parse().unwrap();
        let defaults: toml::Table = Config::default().to_toml().parse().unwrap();
        for section in ["control", "defaults"] {
            assert_eq!(written.get(section), defaults.get(section));
        }
        let with_examples: String = DOCUMENTED
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n")
            .collect();
        let examples: Config = toml::from_str(&with_examples).unwrap();
        assert_eq!(examples.mistakes(), []);
        assert_eq!(examples.connect.len(), 2);
        assert_eq!(examples.ignore.len(), 4);
        assert_eq!(examples.device.len(), 1);
        assert_eq!(examples.volume.len(), 1);
        let mut full = examples.clone();
        full.control.group = Some("x".into());
        full.defaults.ctrl_loss_tmo_ms = Some(1);
        full.defaults.quiesce_floor_ms = Some(1);
        full.volume[0] = VolumeEntry::with_every_key();
        full.connect[0].weight = Some(1);
        full.connect[0].throughput = Some(1);
        let table: toml::Table = full.to_toml().parse().unwrap();
        let mut keys = Vec::new();
        collect_keys(&toml::Value::Table(table), &mut keys);
        for key in keys {
            assert!(
                DOCUMENTED.lines().any(|line| {
                    let line = line.trim_start_matches(['#', ':', ' ']);
                    line.starts_with(&format!("{key} =")) || line.contains(&format!("[{key}]"))
                }),
                "{key} is not documented in umpath.toml"
            );
        }
    }

    fn collect_keys(value: &toml::Value, keys: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    keys.push(key.clone());
                    collect_keys(value, keys);
                }
            }
            toml::Value::Array(values) => values.iter().for_each(|v| collect_keys(v, keys)),
            _ => {}
        }
    }

    #[test]
    fn bounds_name_the_key() {
        let refused = |text: &str| {
            let config = toml::from_str::<Config>(text).unwrap();
            config.mistakes()[0].to_string()
        };
        assert!(refused("[defaults]\nkato_ms = 110\n").contains("two heartbeats"));
        assert!(refused("[defaults]\nretry_count = 7\n").contains("retry_count"));
        assert!(
            refused("[[volume]]\nid = \"uuid.1\"\n[[volume]]\nid = \"uuid.1\"\n").contains("share")
        );
        assert!(refused("[defaults]\noutlier_factor = 1\n").contains("outlier_factor"));
        assert!(refused("[defaults]\nrr_min_io = 0\n").contains("rr_min_io"));
        assert!(toml::from_str::<Config>("[defaults]\nkato = 1\n").is_err());
    }

    #[test]
    fn what_is_printed_is_what_is_read() {
        let config = Config::default();
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    }
}
