//! `[[connect]]`: paths to connect at start and keep connected.
//!
//! It takes the two forms that array vendors' services use: all volumes of some controllers, or a
//! list of NQNs to try on every controller of a list.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use serde::{Deserialize, Serialize};
use umpath_protocol::{ConnectOptions, Portal};

/// Default port for NVMe-oF discovery and I/O.
const PORT: u16 = 4420;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectEntry {
    /// Transport; `rdma` is the only one so far.
    #[serde(default = "rdma")]
    pub(crate) transport: String,
    /// Controller addresses, each with or without a port (4420).
    pub(crate) controllers: Vec<String>,
    /// Subsystems to connect on each controller; empty: all in its discovery log.
    #[serde(default)]
    pub(crate) nqns: Vec<String>,
    /// Local address to connect from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host_traddr: Option<String>,
    /// I/O queues per volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) io_queues: Option<u16>,
    /// Entries per I/O queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) queue_depth: Option<u16>,
    /// Keep-alive timeout, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kato_ms: Option<u32>,
    /// Prefer these paths over others of their class.
    #[serde(default)]
    pub(crate) preferred: bool,
    /// Priority of these paths if `prio` is `weighted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<i32>,
    /// Throughput of these paths relative to others, for `service-time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) throughput: Option<u8>,
}

fn rdma() -> String {
    "rdma".to_owned()
}

impl ConnectEntry {
    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.controllers.is_empty() {
            mistakes.push("[[connect]] without controllers: list at least one address".to_owned());
        }
        if self.throughput.is_some_and(|value| value > 100) {
            mistakes.push("[[connect]]: throughput is outside 0..=100".to_owned());
        }
        for why in self
            .portals()
            .iter()
            .map(parse_portal)
            .filter_map(Result::err)
        {
            let why = format!("[[connect]]: {why}");
            // Report a mistake they share only once.
            if !mistakes.contains(&why) {
                mistakes.push(why);
            }
        }
        mistakes
    }

    /// One portal per controller.
    pub(crate) fn portals(&self) -> Vec<Portal> {
        self.controllers
            .iter()
            .map(|text| {
                let (traddr, trsvcid) = split_port(text);
                Portal {
                    transport: self.transport.clone(),
                    traddr,
                    trsvcid,
                    host_traddr: self.host_traddr.clone(),
                    host_iface: None,
                }
            })
            .collect()
    }

    /// The entry's options as a connect request carries them.
    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions {
            nr_io_queues: self.io_queues,
            queue_size: self.queue_depth,
            kato_ms: self.kato_ms,
            preferred: self.preferred,
            weight: self.weight,
            throughput: self.throughput,
            ..ConnectOptions::default()
        }
    }
}

/// `10.0.0.1:4421`, `[fe80::1]:4421`, `10.0.0.1`, `fe80::1`, `array1:4421`.
fn split_port(text: &str) -> (String, Option<String>) {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.ip().to_string(), Some(address.port().to_string()));
    }
    if text.parse::<IpAddr>().is_ok() {
        return (text.to_owned(), None);
    }
    match text.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name.to_owned(), Some(port.to_owned())),
        _ => (text.to_owned(), None),
    }
}

/// Checks a portal; returns the controller's address, and the local one if given.
pub(crate) fn parse_portal(portal: &Portal) -> Result<(SocketAddr, Option<IpAddr>), String> {
    if portal.transport != "rdma" {
        return Err(format!(
            "transport {:?} is not supported; use rdma",
            portal.transport
        ));
    }
    let port: u16 = match portal.trsvcid.as_deref() {
        None | Some("") => PORT,
        Some(text) => text
            .parse()
            .map_err(|_| format!("trsvcid {text:?} is not a port number"))?,
    };
    let address = match portal.traddr.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => (portal.traddr.as_str(), port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .ok_or_else(|| format!("{:?} is neither an address nor a known name", portal.traddr))?,
    };
    if port == 0 {
        return Err("port 0 cannot be connected to".to_owned());
    }
    let from = match (portal.host_traddr.as_deref(), portal.host_iface.as_deref()) {
        (Some(text), _) => Some(
            text.parse()
                .map_err(|_| format!("host-traddr {text:?} is not an address"))?,
        ),
        (None, Some(iface)) => Some(crate::netif::address_of(iface, address.ip())?),
        (None, None) => None,
    };
    if from.is_some_and(|from: IpAddr| from.is_ipv4() != address.is_ipv4()) {
        return Err("local and remote address are of different families".to_owned());
    }
    Ok((address, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(controllers: &[&str]) -> ConnectEntry {
        let list = controllers
            .iter()
            .map(|c| format!("{c:?}"))
            .collect::<Vec<_>>()
            .join(",");
        toml::from_str(&format!("controllers = [{list}]")).unwrap()
    }

    #[test]
    fn controllers_may_carry_a_port() {
        let entry = entry(&[
            "192.168.1.110",
            "192.168.1.111:4421",
            "fe80::1",
            "[fe80::1]:4422",
        ]);
        let parsed: Vec<_> = entry
            .portals()
            .iter()
            .map(|p| parse_portal(p).unwrap().0.to_string())
            .collect();
        let expected = [
            "192.168.1.110:4420",
            "192.168.1.111:4421",
            "[fe80::1]:4420",
            "[fe80::1]:4422",
        ];
        assert_eq!(parsed, expected);
    }

    #[test]
    fn what_cannot_be_connected_is_refused() {
        assert_eq!(entry(&[]).mistakes().len(), 1);
        assert!(entry(&["10.0.0.1:x"]).mistakes()[0].contains("port"));
        let mut tcp = entry(&["10.0.0.1", "10.0.0.2"]);
        tcp.transport = "tcp".into();
        assert_eq!(tcp.mistakes().len(), 1);
        assert!(tcp.mistakes()[0].contains("rdma"));
        let mut mixed = entry(&["10.0.0.1"]);
        mixed.host_traddr = Some("fe80::2".into());
        assert!(mixed.mistakes()[0].contains("families"));
    }
}
