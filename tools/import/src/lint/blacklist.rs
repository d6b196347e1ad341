//! Rules about `blacklist` and `blacklist_exceptions`.
//!
//! `ignore` decides what becomes of wwid filters and device sections. umpath uses only what it is
//! configured to connect, so the other filters are not carried over; still, a file that keeps NVMe
//! away from multipathd shows what its author wants.

use crate::document::{Document, Filters, Section, Setting};
use crate::finding::Findings;
use crate::hardware::is_nvme;
use crate::ignore::{self, Fate};
use crate::pattern::Filter;
use crate::repair::is_glob;
use crate::rule::Rule;

/// Sample names, protocols and so on of NVMe devices, by the keyword that matches them.
const NVME: &[(&str, &[&str])] = &[
    ("devnode", &["nvme0n1", "nvme1n1", "nvme12n3"]),
    ("protocol", &["nvme:rdma", "nvme:tcp"]),
    ("property", &["ID_WWN", "ID_SERIAL", "DEVTYPE"]),
];

pub(super) fn lint(document: &Document, findings: &mut Findings) {
    let (blacklist, exceptions) = (&document.blacklist, &document.exceptions);
    for rule in &blacklist.rules {
        let fate = match rule.keyword.name {
            "wwid" => ignore::hidden_wwid(rule, exceptions),
            _ if hides_nvme(rule, exceptions) => Fate::Everything,
            _ => Fate::Foreign,
        };
        report_rule(&fate, rule, findings);
    }
    for rule in &exceptions.rules {
        let fate = match rule.keyword.name {
            "wwid" => ignore::excepted_wwid(rule, document),
            _ => Fate::Foreign,
        };
        report_rule(&fate, rule, findings);
    }
    for device in &blacklist.devices {
        let fate = ignore::hidden_device(device, exceptions);
        report(&fate, "device", named(device), device.line, findings);
    }
    for device in &exceptions.devices {
        let fate = ignore::excepted_device(device, document);
        report(&fate, "device", named(device), device.line, findings);
    }
}

/// The name of a device section in messages.
fn named(device: &Section) -> &str {
    let text = |key| device.settings.text(key);
    match text("vendor") {
        Some(vendor) if is_nvme(vendor) => text("product").unwrap_or(vendor),
        vendor => vendor.or(text("product")).unwrap_or_default(),
    }
}

/// Reports what becomes of a filter that is a keyword with a value, and whether its value is odd.
fn report_rule(fate: &Fate, rule: &Setting, findings: &mut Findings) {
    odd(rule, findings);
    let (name, text) = (rule.keyword.name, &rule.value.text);
    report(fate, name, text, rule.line, findings);
}

/// Reports what becomes of a filter.
fn report(fate: &Fate, name: &str, text: &str, line: u32, findings: &mut Findings) {
    let (rule, cause, correction) = match fate {
        Fate::Carried(pattern) => (
            Rule::FilterCarried,
            format!("{name} {text:?} becomes an [[ignore]] entry: {pattern:?}"),
            "",
        ),
        Fate::Everything => (
            Rule::NvmeBlacklisted,
            format!("{name} {text:?} covers NVMe: multipathd ignores such devices"),
            "umpath uses what it is configured to connect, whatever this line says; [[ignore]] in \
             umpath.toml leaves subsystems and namespaces alone",
        ),
        Fate::Foreign => (
            Rule::FilterNotNeeded,
            format!("{name} {text:?}: umpath uses only what it is configured to connect"),
            "",
        ),
        Fate::Unsayable => (
            Rule::FilterLeftOut,
            format!(
                "{name} {text:?} contains a back-reference, which umpath.toml does not support"
            ),
            "write an [[ignore]] entry with another regular expression",
        ),
    };
    findings.add(rule, line, cause, correction);
}

/// Whether the rule hides NVMe devices that no exception restores.
fn hides_nvme(rule: &Setting, exceptions: &Filters) -> bool {
    let names = NVME
        .iter()
        .find(|(keyword, _)| *keyword == rule.keyword.name);
    let (Some((_, names)), Ok(filter)) = (names, Filter::new(&rule.value.text)) else {
        return false;
    };
    let excepted = |name: &str| {
        exceptions.rules.iter().any(|exception| {
            exception.keyword.name == rule.keyword.name
                && Filter::new(&exception.value.text).is_ok_and(|filter| filter.matches(name))
        })
    };
    names
        .iter()
        .any(|name| filter.matches(name) && !excepted(name))
}

/// Patterns that do not mean what they seem to.
fn odd(rule: &Setting, findings: &mut Findings) {
    let (name, text) = (rule.keyword.name, &rule.value.text);
    if is_glob(text) {
        findings.add(
            Rule::GlobNotPattern,
            rule.line,
            format!(
                "{name} {text:?} is a regular expression: the star repeats the character before it"
            ),
            format!(
                "write: {name} \"^{}\"",
                text.trim_end_matches('*').trim_start_matches('^')
            ),
        );
    }
    if name == "devnode" && text.contains(' ') {
        findings.add(
            Rule::FilterMatchesNothing,
            rule.line,
            format!("devnode {text:?} contains a blank, but no device name does"),
            format!("write: devnode {:?}", text.replace(' ', "")),
        );
    }
}
