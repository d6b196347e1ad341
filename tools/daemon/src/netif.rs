//! Addresses of network interfaces.

use std::net::IpAddr;

/// The address of an interface that has the same family as `peer`.
pub(crate) fn address_of(interface: &str, peer: IpAddr) -> Result<IpAddr, String> {
    let listed = std::process::Command::new("ip")
        .args(["-json", "address", "show", "dev", interface])
        .output()
        .map_err(|error| format!("host-iface {interface:?}: cannot run `ip`: {error}"))?;
    if !listed.status.success() {
        return Err(format!("host-iface {interface:?}: no such interface"));
    }
    first_address(&listed.stdout, peer.is_ipv4())
        .ok_or_else(|| format!("host-iface {interface:?} has no address of the family of {peer}"))
}

fn first_address(json: &[u8], ipv4: bool) -> Option<IpAddr> {
    let links: serde_json::Value = serde_json::from_slice(json).ok()?;
    let addresses = links
        .as_array()?
        .iter()
        .filter_map(|link| link["addr_info"].as_array());
    addresses
        .flatten()
        .filter_map(|info| info["local"].as_str()?.parse::<IpAddr>().ok())
        .find(|address| address.is_ipv4() == ipv4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_the_family_is_taken() {
        let json = br#"[{"ifname":"a","addr_info":[{"local":"fe80::1"},{"local":"10.0.0.2"}]}]"#;
        assert_eq!(first_address(json, true), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(first_address(json, false), Some("fe80::1".parse().unwrap()));
        assert_eq!(first_address(b"[]", true), None);
        assert_eq!(first_address(b"nonsense", true), None);
    }
}
