//! Lint: settings that do not have the effect they seem to have, and what becomes of each setting.
//!
//! The lint checks the file as written, including sections that multipathd drops, because their
//! author meant them. It reports the same in both modes and changes nothing.

mod blacklist;
mod device;
mod kernel;
mod nvme;

use crate::Mode;
use crate::document::{Document, Section, Settings};
use crate::finding::Findings;
use crate::hardware::{Device, is_nvme};
use crate::keyword::{Fate, Kind, Scope};
use crate::repair;
use crate::resolve::{Class, Layer, View};
use crate::rule::Rule;

/// A section with its context.
pub(crate) struct Place<'a> {
    scope: Scope,
    settings: &'a Settings,
    /// The settings that apply to NVMe volumes in general.
    general: &'a View<'a>,
}

impl Place<'_> {
    /// The value here, or the one that applies in general.
    fn text(&self, name: &str) -> Option<&str> {
        self.settings.text(name).or_else(|| self.general.text(name))
    }
}

/// Runs all rules. `read` is the file as written, `merged` what multipathd makes of it.
pub(crate) fn lint(
    read: &Document,
    merged: &Document,
    devices: &[Device],
    findings: &mut Findings,
) {
    let general = View::new(merged, devices, Class::Any, Mode::Literal);
    for section in &read.devices {
        device::lint(section, findings);
    }
    for (scope, settings) in places(read) {
        let place = Place {
            scope,
            settings,
            general: &general,
        };
        nvme::lint(&place, findings);
        kernel::lint(&place, findings);
        fates(&place, findings);
    }
    shadowed(read, &general, devices, findings);
    unsaid(&general, findings);
    blacklist::lint(read, findings);
}

/// Every section that concerns NVMe devices or may do so.
fn places(document: &Document) -> impl Iterator<Item = (Scope, &Settings)> {
    let ours = |section: &&Section| {
        let vendor = section.settings.text("vendor");
        vendor.is_some_and(is_nvme) || repair::meant(section).is_some()
    };
    let scsi = |section: &&Section| {
        let kind = section.settings.text("type");
        kind.is_some_and(|kind| kind.starts_with("scsi:"))
    };
    let tables = [
        (Scope::Defaults, &document.defaults),
        (Scope::Overrides, &document.overrides),
    ];
    let protocols = document
        .protocols
        .iter()
        .filter(move |section| !scsi(section));
    let devices = document.devices.iter().filter(ours);
    tables
        .into_iter()
        .chain(protocols.map(|section| (Scope::Protocol, &section.settings)))
        .chain(devices.map(|section| (Scope::Device, &section.settings)))
        .chain(
            document
                .multipaths
                .iter()
                .map(|section| (Scope::Multipath, &section.settings)),
        )
}

/// What becomes of settings that have no key of their own.
fn fates(place: &Place<'_>, findings: &mut Findings) {
    // These have more specific rules.
    const SAID: &[&str] = &[
        "path_checker",
        "checker",
        "hardware_handler",
        "eh_deadline",
        "revision",
    ];
    for setting in place.settings.iter() {
        let name = setting.keyword.name;
        let (rule, why) = match setting.keyword.fate {
            _ if SAID.contains(&name) => continue,
            Fate::Becomes(_) => continue,
            Fate::NotNeeded(why) if setting.keyword.kind == Kind::Ignored => {
                (Rule::Deprecated, why)
            }
            Fate::NotNeeded(why) => (Rule::NotNeeded, why),
            Fate::Missing(why) => (Rule::NoEquivalent, why),
        };
        findings.add(rule, setting.line, format!("{name}: {why}"), String::new());
    }
}

/// Defaults overridden by multipathd's own device section for NVMe.
fn shadowed(read: &Document, general: &View<'_>, devices: &[Device], findings: &mut Findings) {
    for name in ["path_grouping_policy", "failback"] {
        let Some(setting) = read.defaults.get(name) else {
            continue;
        };
        let Some((Layer::Device(index), winner)) = general.get(name) else {
            continue;
        };
        let builtin = devices.get(index).is_some_and(|device| device.builtin);
        if builtin && winner.value.text != setting.value.text {
            findings.add(
                Rule::BuiltinWins,
                setting.line,
                format!(
                    "{name} {:?} in defaults does not apply to NVMe devices: multipathd's own device \
                     section for them says {:?}",
                    setting.value.text, winner.value.text
                ),
                "write it into overrides, or into a device section with vendor \"NVME\" and product \
                 \".*\"",
            );
        }
    }
}

fn unsaid(general: &View<'_>, findings: &mut Findings) {
    let features = general.text("features").unwrap_or_default();
    if general.get("no_path_retry").is_none() && !crate::features::queue_if_no_path(features) {
        findings.add(
            Rule::UnsaidDefault,
            None,
            "no_path_retry is not set: multipathd fails I/O as soon as the last path is lost",
            "umpath's own default is no_path_retry = \"queue\": I/O waits for a path",
        );
    }
}
