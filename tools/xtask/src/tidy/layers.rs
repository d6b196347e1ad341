//! The dependency table of docs/ARCHITECTURE.md, checked against the manifests.
//!
//! Crates that make decisions are pure: their rows list every crate they may use, inside or outside
//! the workspace. Crates that do I/O may use any outside crate, but only the listed crates of the
//! workspace. `dev-dependencies` are not restricted.

use super::{Finding, Package};

/// The outside crates a row may use.
enum Outside {
    Any,
    Only(&'static [&'static str]),
}

use Outside::{Any, Only};

/// One row: package, workspace crates it may use, outside crates it may use.
type Row = (&'static str, &'static [&'static str], Outside);

const NVME: &str = "umpath-nvme";
const POLICIES: &str = "umpath-policies";
const CORE: &str = "umpath-core";
const SESSION: &str = "umpath-session";
const HOST: &str = "umpath-host";
const TRANSPORT: &str = "umpath-transport";
const RDMA: &str = "umpath-rdma";
const TCP: &str = "umpath-tcp";
const ENGINE: &str = "umpath-engine";
const UBLK: &str = "umpath-ublk";
const TARGET: &str = "umpath-target";
const IMPORT: &str = "umpath-import";
const MAN: &str = "umpath-man";
const PROTOCOL: &str = "umpath-protocol";
const TESTS: &str = "umpath-tests";

/// The dependency table.
const TABLE: &[Row] = &[
    (POLICIES, &[], Only(&[])),
    (NVME, &[], Only(&["zerocopy"])),
    // serde derives only: a volume's limits are saved for the daemon's restart.
    (CORE, &[POLICIES, NVME], Only(&["serde", "thiserror"])),
    // serde derives only: a controller's Identify data are saved for the daemon's restart.
    (SESSION, &[NVME], Only(&["serde", "thiserror"])),
    // The protocol's user-facing types, and derives for records; see docs/decisions/0009.
    (
        HOST,
        &[CORE, SESSION, POLICIES, NVME, TRANSPORT, ENGINE, PROTOCOL],
        Only(&["serde", "tracing"]),
    ),
    (TRANSPORT, &[NVME], Only(&["rustix", "thiserror"])),
    (RDMA, &[NVME, TRANSPORT], Any),
    (TCP, &[NVME, TRANSPORT], Any),
    (ENGINE, &[CORE, NVME, TRANSPORT], Only(&[])),
    (UBLK, &[CORE, ENGINE, TRANSPORT], Any),
    (TARGET, &[MAN, NVME, TRANSPORT, RDMA, TCP], Any),
    (MAN, &[], Only(&["clap", "clap_mangen"])),
    (PROTOCOL, &[], Only(&["serde", "serde_json"])),
    (
        "umpathd",
        &[
            POLICIES, CORE, MAN, NVME, SESSION, HOST, TRANSPORT, ENGINE, RDMA, TCP, UBLK, PROTOCOL,
        ],
        Any,
    ),
    (IMPORT, &[], Only(&["regex", "serde"])),
    ("umpath", &[IMPORT, MAN, PROTOCOL], Any),
    ("xtask", &[], Any),
    (
        TESTS,
        &[
            POLICIES, CORE, NVME, SESSION, HOST, TRANSPORT, ENGINE, RDMA, TCP, UBLK, TARGET,
            PROTOCOL, IMPORT,
        ],
        Any,
    ),
    (
        "umpath-benches",
        &[
            POLICIES, CORE, NVME, SESSION, HOST, TRANSPORT, ENGINE, RDMA, TCP, UBLK, TARGET,
            PROTOCOL, TESTS,
        ],
        Any,
    ),
];

/// Findings for every dependency the table does not allow.
pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    let members: Vec<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut findings = Vec::new();
    for package in packages {
        let mut report = |words| {
            findings.push(Finding {
                file: package.manifest_path.clone(),
                words,
            });
        };
        let Some((_, neighbours, outside)) = TABLE.iter().find(|row| row.0 == package.name) else {
            report(format!(
                "{} has no row in the dependency table (tidy/layers.rs)",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if dependency.kind.as_deref() == Some("dev") {
                continue;
            }
            let allowed = if members.contains(&name) {
                neighbours.contains(&name)
            } else {
                matches!(outside, Any) || matches!(outside, Only(list) if list.contains(&name))
            };
            if !allowed {
                report(format!(
                    "{} may not depend on {name} (tidy/layers.rs)",
                    package.name
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Dependency;
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency {
                name: (*name).to_owned(),
                kind: kind.map(str::to_owned),
            })
            .collect();
        let manifest_path = format!("{name}/Cargo.toml").into();
        Package {
            name: name.to_owned(),
            manifest_path,
            dependencies,
            targets: Vec::new(),
        }
    }

    fn findings(packages: &[Package]) -> Vec<String> {
        check(packages)
            .into_iter()
            .map(|finding| finding.words)
            .collect()
    }

    #[test]
    fn neighbours_outside_the_table_are_found() {
        let packages = [
            package(TARGET, &[(CORE, None), (NVME, None)]),
            package(CORE, &[]),
            package(NVME, &[]),
        ];
        let words = findings(&packages);
        assert_eq!(
            words,
            ["umpath-target may not depend on umpath-core (tidy/layers.rs)"]
        );
    }

    #[test]
    fn pure_crates_have_a_short_list_except_in_tests() {
        let words = findings(&[package(
            NVME,
            &[("zerocopy", None), ("proptest", Some("dev"))],
        )]);
        assert!(words.is_empty());
        let words = findings(&[package(NVME, &[("tokio", None)])]);
        assert_eq!(
            words,
            ["umpath-nvme may not depend on tokio (tidy/layers.rs)"]
        );
    }

    #[test]
    fn a_new_package_needs_a_row() {
        assert_eq!(findings(&[package("umpath-new", &[])]).len(), 1);
    }
}
