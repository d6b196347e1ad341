//! Device sections that apply to NVMe: the file's, and those built into multipathd.
//!
//! The vendor of every NVMe device is the word `NVME`, its product the controller's model.
//! multipathd checks sections from the last to the first, and its own after the file's. The entries
//! for particular arrays are from its hardware table, version 0.14.

use crate::document::{Document, Section, Setting};
use crate::keyword::{Keyword, read};
use crate::pattern::Pattern;

/// multipathd's built-in sections for NVMe: pattern of the model, and the settings.
const BUILTIN: &[(&str, &[(&str, &str)])] = &[
    (
        ".*",
        &[
            ("uid_attribute", "ID_WWN"),
            ("path_checker", "none"),
            ("path_grouping_policy", "group_by_prio"),
            ("failback", "immediate"),
        ],
    ),
    ("HPE Alletra", &[("no_path_retry", "queue")]),
    ("EMC PowerMax", &[("no_path_retry", "queue")]),
    ("dellemc-powerstore", &[("no_path_retry", "3")]),
    ("HITACHI SVOS-RF-System", &[("no_path_retry", "queue")]),
    ("IBM[ ]+2145", &[("no_path_retry", "queue")]),
    ("FlashSystem", &[("no_path_retry", "fail")]),
    ("^NetApp ONTAP Controller", &[("no_path_retry", "queue")]),
    ("Pure Storage FlashArray", &[("no_path_retry", "10")]),
    ("Huawei-XSG1", &[("no_path_retry", "12")]),
    ("InfiniBox", &[("no_path_retry", "queue")]),
    ("VASTData", &[("no_path_retry", "queue")]),
];

/// A device section that applies to NVMe devices.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) section: Section,
    /// Whether it applies to every model.
    pub(crate) generic: bool,
    /// Whether it is built into multipathd.
    pub(crate) builtin: bool,
    /// The models it applies to, in the syntax of `umpath.toml`; `None` if that cannot express
    /// them.
    pub(crate) model: Option<String>,
}

/// All sections in the order of multipathd's table: later ones take precedence.
pub(crate) fn devices(document: &Document) -> Vec<Device> {
    let builtin = BUILTIN.iter().filter_map(|(model, settings)| {
        let mut section = Section::default();
        let named = [("vendor", "NVME"), ("product", *model)];
        for (name, text) in named.iter().chain(settings.iter()) {
            let keyword = Keyword::named(name)?;
            let value = read(keyword.kind, text).0?;
            section.settings.set(Setting {
                keyword,
                value,
                line: 0,
            });
        }
        device(&section, true)
    });
    let file = document
        .devices
        .iter()
        .filter_map(|section| device(section, false));
    // A section of the file with the exact patterns of a built-in one is merged into it, in its
    // place.
    let file: Vec<Device> = file.collect();
    let same = |a: &Device, b: &Device| {
        a.section.settings.text("product") == b.section.settings.text("product")
    };
    let mut all = Vec::new();
    let mut file = file;
    for builtin in builtin {
        let twin = file.iter_mut().find(|device| {
            let vendor = device.section.settings.text("vendor");
            let expected = if builtin.generic { "^NVME" } else { "NVME" };
            vendor == Some(expected)
                && same(device, &builtin)
                && device.section.settings.get("revision").is_none()
        });
        match twin {
            Some(device) => device.section.settings.fill(builtin.section.settings),
            None => all.push(builtin),
        }
    }
    all.append(&mut file);
    all
}

fn device(section: &Section, builtin: bool) -> Option<Device> {
    if !is_nvme(section.settings.text("vendor")?) {
        return None;
    }
    let product = Pattern::new(section.settings.text("product")?).ok()?;
    Some(Device {
        section: section.clone(),
        generic: product.matches_everything(),
        builtin,
        model: product.source().map(str::to_owned),
    })
}

/// Whether a vendor pattern matches NVMe devices.
pub(crate) fn is_nvme(vendor: &str) -> bool {
    Pattern::new(vendor).is_ok_and(|pattern| pattern.matches("NVME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_section_is_read() {
        let devices = devices(&Document::default());
        assert_eq!(devices.len(), BUILTIN.len());
        assert!(devices[0].generic && devices.iter().skip(1).all(|device| !device.generic));
        assert!(devices.iter().all(|device| device.model.is_some()));
    }

    /// The expected values were captured from `multipath -t`.
    #[test]
    fn the_built_in_sections_are_multipathds() {
        let seen = include_str!("../tests/corpus/builtin.t");
        let sections = seen.split("\tdevice {").skip(1);
        let captured: Vec<Vec<(&str, &str)>> = sections
            .map(|section| {
                let lines = section
                    .lines()
                    .filter_map(|line| line.trim().split_once(' '));
                lines
                    .map(|(key, value)| (key, value.trim_matches('"')))
                    .collect()
            })
            .collect();
        assert_eq!(captured.len(), BUILTIN.len());
        for ((model, settings), captured) in BUILTIN.iter().zip(captured) {
            assert!(captured.contains(&("product", model)), "{model}");
            for setting in *settings {
                assert!(captured.contains(setting), "{model} {setting:?}");
            }
            assert_eq!(captured.len(), settings.len() + 2, "{model}: {captured:?}");
        }
    }

    #[test]
    fn the_vendor_of_nvme_is_one_word() {
        assert!(is_nvme("NVME") && is_nvme("^NVM") && is_nvme(".*") && is_nvme(""));
        assert!(!is_nvme("PVL-*") && !is_nvme("*") && !is_nvme("nvme"));
    }
}
