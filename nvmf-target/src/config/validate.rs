//! What a configuration must satisfy before anything is opened.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{Backend, Config, Namespace, Subsystem};
use crate::model::{ANA_GROUP_MAX, NSID_MAX, check_nqn, check_text};

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not TOML, or a key this version does not know.
    #[error("{0}")]
    Syntax(#[source] toml::de::Error),
    /// A value out of range or in conflict with another.
    #[error("{place}: {why}")]
    Value {
        /// Which table.
        place: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

/// The highest controller identifier the specification leaves for use.
const CNTLID_MAX: u16 = 0xffef;

fn refuse<T>(place: impl Into<String>, why: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Value {
        place: place.into(),
        why: why.into(),
    })
}

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    check_process(config)?;
    check_rdma(config)?;
    let mut ids = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for port in &config.ports {
        let place = format!("port {}", port.id);
        if !ids.insert(port.id) {
            return refuse(
                place,
                "there is another port with this id; give each its own",
            );
        }
        if !addresses.insert((port.traddr, port.trsvcid)) {
            return refuse(place, format!("{}:{} is taken", port.traddr, port.trsvcid));
        }
        if port.traddr.is_unspecified() {
            return refuse(
                place,
                "traddr must be the address of one interface: hosts learn it by discovery",
            );
        }
    }
    let mut names = BTreeSet::new();
    for subsystem in &config.subsystems {
        check_subsystem(subsystem)?;
        if !names.insert(&subsystem.nqn) {
            return refuse(
                format!("subsystem {}", subsystem.nqn),
                "is configured twice",
            );
        }
        let mut named = subsystem
            .ports
            .iter()
            .chain(subsystem.ana.iter().map(|ana| &ana.port));
        if let Some(port) = named.find(|port| !ids.contains(port)) {
            return refuse(
                format!("subsystem {}", subsystem.nqn),
                format!("names port {port}, and there is no [[port]] with that id"),
            );
        }
    }
    Ok(())
}

fn check_process(config: &Config) -> Result<(), ConfigError> {
    let range = config.process.cntlid;
    if range.first == 0 || range.last > CNTLID_MAX || range.first > range.last {
        return refuse(
            "process.cntlid",
            format!("first..last must be a range within 1..{CNTLID_MAX}"),
        );
    }
    if !(1..=64).contains(&config.process.reactors) {
        return refuse("process.reactors", "must be 1 to 64");
    }
    Ok(())
}

fn check_rdma(config: &Config) -> Result<(), ConfigError> {
    let rdma = &config.rdma;
    if !(16..=1024).contains(&rdma.depth_max) {
        return refuse("rdma.depth_max", "must be 16 to 1024");
    }
    if rdma.io_queues_max == 0 || rdma.io_queues_max > 1024 {
        return refuse("rdma.io_queues_max", "must be 1 to 1024");
    }
    if !rdma.in_capsule_bytes.is_multiple_of(16) || rdma.in_capsule_bytes > 65536 {
        return refuse(
            "rdma.in_capsule_bytes",
            "must be a multiple of 16, at most 65536",
        );
    }
    if rdma.buffer.0 < 4 << 20 {
        return refuse("rdma.buffer", "must be at least 4MiB");
    }
    Ok(())
}

/// Checks one subsystem by itself.
pub(crate) fn check_subsystem(subsystem: &Subsystem) -> Result<(), ConfigError> {
    let place = || format!("subsystem {}", subsystem.nqn);
    check_nqn(&subsystem.nqn).or_else(|why| refuse(place(), why))?;
    for host in &subsystem.hosts {
        check_nqn(host).or_else(|why| refuse(place(), format!("host {host}: {why}")))?;
    }
    check_text("model", &subsystem.model, 40).or_else(|why| refuse(place(), why))?;
    if let Some(serial) = &subsystem.serial {
        check_text("serial", serial, 20).or_else(|why| refuse(place(), why))?;
    }
    let mut nsids = BTreeSet::new();
    for namespace in &subsystem.namespaces {
        check_namespace(namespace)
            .or_else(|why| refuse(format!("{}, namespace {}", place(), namespace.nsid), why))?;
        if !nsids.insert(namespace.nsid) {
            return refuse(
                place(),
                format!("namespace {} is configured twice", namespace.nsid),
            );
        }
    }
    for ana in &subsystem.ana {
        check_group(ana.group).or_else(|why| refuse(place(), why))?;
    }
    Ok(())
}

/// Checks an ANA group identifier.
pub(crate) fn check_group(group: u32) -> Result<(), String> {
    if (1..=ANA_GROUP_MAX).contains(&group) {
        Ok(())
    } else {
        Err(format!(
            "ANA group {group} is out of range: use 1 to {ANA_GROUP_MAX}"
        ))
    }
}

/// Checks one namespace by itself.
pub(crate) fn check_namespace(namespace: &Namespace) -> Result<(), String> {
    if !(1..=NSID_MAX).contains(&namespace.nsid) {
        return Err(format!("nsid must be 1 to {NSID_MAX}"));
    }
    if !matches!(namespace.block_size, 512 | 4096) {
        return Err("block_size must be 512 or 4096".to_owned());
    }
    check_group(namespace.ana_group)?;
    let size = match &namespace.backend {
        Backend::Memory { size } | Backend::Null { size } => Some(*size),
        Backend::File { size, .. } => *size,
        Backend::Block { .. } => None,
    };
    match size {
        Some(size) if size.0 == 0 || !size.0.is_multiple_of(namespace.block_size as u64) => {
            Err(format!("size {size} is not a whole number of blocks"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        Config::parse(text)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn the_example_is_valid() {
        Config::parse(include_str!("../../examples/array.toml")).expect("valid");
    }

    #[test]
    fn an_empty_file_is_valid() {
        let config = Config::parse("").expect("valid");
        assert_eq!(config.rdma.depth_max, 128);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(complaint("[prozess]").contains("prozess"));
        assert!(complaint("[process]\ncntlid = { first = 9, last = 3 }").contains("cntlid"));
        assert!(complaint("[[port]]\nid = 1\ntraddr = \"0.0.0.0\"").contains("interface"));
        assert!(complaint("[[subsystem]]\nnqn = \"disk\"").contains("disk"));
        assert!(
            complaint("[[subsystem]]\nnqn = \"nqn.2026-11.test:a\"\nports = [3]")
                .contains("port 3")
        );
        assert!(
            complaint(
                "[[subsystem]]\nnqn = \"nqn.2026-11.test:a\"\n[[subsystem.namespace]]\nnsid = 1\n\
                 backend = { type = \"memory\", size = \"1000B\" }"
            )
            .contains("whole number of blocks")
        );
    }
}
