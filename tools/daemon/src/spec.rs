//! From a portal, options and defaults to everything a path needs.
//!
//! Decided here: precedence (options, then `[defaults]`) and what is refused before anything is
//! tried. Messages name the option as the user wrote it.

use std::time::Duration;

use umpath_core::association::HealthConfig;
use umpath_host::PathSpec;
use umpath_host::record::Asked;
use umpath_nvme::Nqn;
use umpath_protocol::{ConnectOptions, Failure};
use umpath_rdma::ConnectParams;
use umpath_session::{BackoffPolicy, IO_QUEUES_MAX, ReconnectPolicy, SessionConfig};

use crate::config::{Config, Defaults, is_name, parse_portal};
use crate::detection::ack_timeout_exponent;
use crate::identity::{Identity, parse_id};

/// Builds a path; its number is the host's to give.
pub(crate) fn path_spec(
    asked: &Asked,
    config: &Config,
    host: &Identity,
) -> Result<PathSpec, Failure> {
    let Asked {
        portal,
        nqn,
        options,
        ..
    } = asked;
    let refused = |why: String, fix: &str| {
        Failure::new(
            format!("cannot connect to {nqn:?} at {}", portal.traddr),
            why,
            fix,
        )
    };
    let (traddr, host_traddr) = parse_portal(portal)
        .map_err(|why| refused(why, "umpath connect -t rdma -a ADDRESS [-s PORT] -n NQN"))?;
    let subsystem = Nqn::new(nqn).map_err(|error| {
        refused(
            format!("the NQN is not valid: {error}"),
            "`umpath discover` lists valid names",
        )
    })?;
    let host = presented_host(options, host)
        .map_err(|why| refused(why, "leave --hostnqn and --hostid away to use /etc/nvme"))?;
    if let Some(alias) = options.alias.as_ref().filter(|alias| !is_name(alias)) {
        return Err(refused(
            format!("--alias {alias:?} may hold letters, digits, `.`, `_` and `-` only"),
            "choose another name",
        ));
    }
    let session = session_config(options, &config.defaults, &host, subsystem.clone())
        .map_err(|why| refused(why, "umpathd --print-defaults explains each setting"))?;
    Ok(PathSpec {
        id: 0,
        traddr,
        host_traddr,
        nqn: subsystem,
        session,
        reconnect: reconnect_policy(options, &config.defaults),
        health: HealthConfig {
            link_down_grace: Duration::from_millis(config.defaults.link_down_grace_ms),
            missed_max: config.defaults.heartbeats_missed,
            io_silence: Duration::from_millis(config.defaults.io_silence_ms),
            io_stuck: Duration::from_millis(config.defaults.io_stuck_ms),
            io_slow: Duration::from_millis(config.defaults.io_slow_ms),
            io_timeout: Duration::from_millis(config.defaults.io_timeout_ms),
        },
        drain_deadline: Duration::from_millis(config.defaults.drain_deadline_ms),
        preferred: options.preferred,
        weight: options.weight.unwrap_or(1),
        throughput: options.throughput.unwrap_or(1).min(100),
    })
}

/// How to reach a portal at all; the same for discovery and for paths.
pub(crate) fn connect_params(
    defaults: &Defaults,
    traddr: std::net::SocketAddr,
    host_traddr: Option<std::net::IpAddr>,
) -> ConnectParams {
    ConnectParams {
        host_traddr,
        timeout: Duration::from_millis(defaults.connect_timeout_ms),
        ack_timeout_exponent: ack_timeout_exponent(defaults),
        retries: defaults.retry_count,
        ..ConnectParams::admin(traddr)
    }
}

/// The host as presented to this controller.
pub(crate) fn presented_host(
    options: &ConnectOptions,
    host: &Identity,
) -> Result<Identity, String> {
    let mut presented = host.clone();
    if let Some(text) = &options.hostnqn {
        presented.nqn = Nqn::new(text).map_err(|error| format!("--hostnqn: {error}"))?;
    }
    if let Some(text) = &options.hostid {
        presented.id = parse_id(text).map_err(|error| format!("--hostid: {error}"))?;
    }
    Ok(presented)
}

/// Timeouts and identity of a session; queue counts for paths.
pub(crate) fn session_config(
    options: &ConnectOptions,
    defaults: &Defaults,
    host: &Identity,
    subsystem: Nqn,
) -> Result<SessionConfig, String> {
    let kato = u64::from(options.kato_ms.unwrap_or(defaults.kato_ms as u32));
    // A short timeout asked for one path must not need a second setting.
    let heartbeat = defaults.heartbeat_ms.min(kato / 4).max(1);
    let depth = options.queue_size.unwrap_or(defaults.queue_depth);
    if !(2..=1024).contains(&depth) {
        return Err(format!("a queue size of {depth} is outside 2..=1024"));
    }
    let queues = options.nr_io_queues.unwrap_or_else(|| defaults.io_queues());
    if !(1..=64).contains(&queues) {
        return Err(format!("{queues} I/O queues are outside 1..=64"));
    }
    let config = SessionConfig {
        kato: Duration::from_millis(kato),
        heartbeat: Duration::from_millis(heartbeat),
        io_queues: IO_QUEUES_MAX,
        io_queues_per_namespace: queues,
        // One more entry than commands: a full ring cannot be told from an empty one.
        io_depth: (depth + 1).min(1024),
        // Longer than the transport's own, which knows better what it was waiting for.
        // A request that was lost is noticed after half of the time, and sent again with all of it.
        open_timeout: Duration::from_millis(defaults.connect_timeout_ms * 3 / 2 + 500),
        command_timeout: Duration::from_millis(defaults.command_timeout_ms),
        ..SessionConfig::new(host.nqn.clone(), host.id.into_bytes(), subsystem)
    };
    Ok(config)
}

fn reconnect_policy(options: &ConnectOptions, defaults: &Defaults) -> ReconnectPolicy {
    let base = options
        .reconnect_delay_ms
        .unwrap_or(defaults.reconnect_delay_ms);
    let ctrl_loss = options.ctrl_loss_tmo_ms.or(defaults.ctrl_loss_tmo_ms);
    ReconnectPolicy {
        first: Duration::from_millis(defaults.reconnect_first_ms),
        backoff: BackoffPolicy {
            base: Duration::from_millis(base),
            cap: Duration::from_millis(defaults.reconnect_delay_max_ms.max(base)),
        },
        ctrl_loss: ctrl_loss.map(Duration::from_millis),
        ..ReconnectPolicy::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_override_defaults_and_heartbeats_follow() {
        let host = Identity {
            nqn: Nqn::new("nqn.2026-11.example:host").unwrap(),
            id: uuid::Uuid::from_u128(1),
        };
        let subsystem = Nqn::new("nqn.2026-11.example:vol1").unwrap();
        let options = ConnectOptions {
            kato_ms: Some(200),
            nr_io_queues: Some(8),
            queue_size: Some(32),
            ..ConnectOptions::default()
        };
        let defaults = Defaults::default();
        let session = session_config(&options, &defaults, &host, subsystem.clone()).unwrap();
        assert_eq!(session.kato, Duration::from_millis(200));
        assert_eq!(session.heartbeat, Duration::from_millis(50));
        assert_eq!((session.io_queues_per_namespace, session.io_depth), (8, 33));
        let many = ConnectOptions {
            nr_io_queues: Some(65),
            ..ConnectOptions::default()
        };
        assert!(session_config(&many, &defaults, &host, subsystem).is_err());
    }
}
