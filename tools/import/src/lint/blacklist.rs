//! Rules about `blacklist` and `blacklist_exceptions`.
//!
//! umpath takes only what it is told to connect, so filters are not carried over. They are read all
//! the same: a file that keeps NVMe away from multipathd says something about what its author wants.

use crate::document::{Document, Filters, Section, Setting};
use crate::finding::Findings;
use crate::pattern::{Filter, Pattern};
use crate::repair::is_glob;
use crate::rule::Rule;

/// Names, protocols and so on of NVMe devices, by the keyword that looks at them.
const NVME: &[(&str, &[&str])] = &[
    ("devnode", &["nvme0n1", "nvme1n1", "nvme12n3"]),
    ("protocol", &["nvme:rdma", "nvme:tcp"]),
    ("property", &["ID_WWN", "ID_SERIAL", "DEVTYPE"]),
];

pub(super) fn lint(document: &Document, findings: &mut Findings) {
    let (blacklist, exceptions) = (&document.blacklist, &document.exceptions);
    for rule in &blacklist.rules {
        odd(rule, findings);
        if let Some(what) = hides_nvme(rule, exceptions) {
            findings.add(
                Rule::NvmeBlacklisted,
                rule.line,
                format!(
                    "{} {:?} covers {what}: multipathd leaves NVMe devices alone",
                    rule.keyword.name, rule.value.text
                ),
                "umpath uses them once they are connected, whatever this file says",
            );
        } else if names_nvme_volume(rule) {
            findings.add(
                Rule::FilterLeftOut,
                rule.line,
                format!("wwid {:?} keeps an NVMe volume from multipathd", rule.value.text),
                "do not connect its subsystem, or list the subsystems you want: nqns in [[connect]]",
            );
        } else {
            not_needed(rule.keyword.name, &rule.value.text, rule.line, findings);
        }
    }
    for rule in &exceptions.rules {
        odd(rule, findings);
        not_needed(rule.keyword.name, &rule.value.text, rule.line, findings);
    }
    for device in &blacklist.devices {
        hidden_device(device, exceptions, findings);
    }
    for device in &exceptions.devices {
        let name = device.settings.text("vendor").unwrap_or_default();
        not_needed("device", name, device.line, findings);
    }
}

fn not_needed(name: &str, text: &str, line: u32, findings: &mut Findings) {
    findings.add(
        Rule::FilterNotNeeded,
        line,
        format!("{name} {text:?}: umpath takes only what it is told to connect"),
        String::new(),
    );
}

/// What of NVMe the rule hides, if no exception takes it back.
fn hides_nvme(rule: &Setting, exceptions: &Filters) -> Option<&'static str> {
    let (_, names) = NVME
        .iter()
        .find(|(keyword, _)| *keyword == rule.keyword.name)?;
    let filter = Filter::new(&rule.value.text).ok()?;
    names.iter().copied().find(|name| {
        filter.matches(name)
            && !exceptions.rules.iter().any(|exception| {
                exception.keyword.name == rule.keyword.name
                    && Filter::new(&exception.value.text).is_ok_and(|filter| filter.matches(name))
            })
    })
}

fn names_nvme_volume(rule: &Setting) -> bool {
    let text = rule.value.text.trim_start_matches(['!', '^', '(']);
    rule.keyword.name == "wwid"
        && ["eui", "uuid", "nvme"]
            .iter()
            .any(|kind| text.starts_with(kind))
}

fn hidden_device(device: &Section, exceptions: &Filters, findings: &mut Findings) {
    let vendor = device.settings.text("vendor");
    let product = device.settings.text("product");
    let holds = |pattern: Option<&str>, text: &str| {
        pattern.is_none_or(|pattern| Filter::new(pattern).is_ok_and(|filter| filter.matches(text)))
    };
    if (vendor.is_none() && product.is_none()) || !holds(vendor, "NVME") {
        not_needed(
            "device",
            vendor.or(product).unwrap_or_default(),
            device.line,
            findings,
        );
        return;
    }
    let excepted = exceptions.devices.iter().any(|exception| {
        let vendor = exception.settings.text("vendor");
        vendor.is_some() && holds(vendor, "NVME") && exception.settings.text("product").is_none()
    });
    let every = product.is_none_or(|product| {
        Pattern::new(product).is_ok_and(|pattern| pattern.matches_everything())
    });
    if excepted {
        not_needed(
            "device",
            vendor.or(product).unwrap_or_default(),
            device.line,
            findings,
        );
    } else if every {
        findings.add(
            Rule::NvmeBlacklisted,
            device.line,
            "the section covers every NVMe device: multipathd leaves them alone",
            "umpath uses them once they are connected, whatever this file says",
        );
    } else {
        findings.add(
            Rule::FilterLeftOut,
            device.line,
            format!(
                "product {:?} keeps NVMe arrays from multipathd",
                product.unwrap_or_default()
            ),
            "do not connect them",
        );
    }
}

/// Patterns that do not mean what they look like.
fn odd(rule: &Setting, findings: &mut Findings) {
    let (name, text) = (rule.keyword.name, &rule.value.text);
    if is_glob(text) {
        findings.add(
            Rule::GlobNotPattern,
            rule.line,
            format!("{name} {text:?} is a regular expression: the star repeats the sign before it"),
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
            format!("devnode {text:?} holds a blank, and no device name does"),
            format!("write: devnode {:?}", text.replace(' ', "")),
        );
    }
}
