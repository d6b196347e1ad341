//! Rules about the names of hardware.

use crate::document::{Section, Setting};
use crate::finding::Findings;
use crate::hardware::is_nvme;
use crate::pattern::Pattern;
use crate::repair::{is_glob, meant};
use crate::rule::Rule;

pub(super) fn lint(device: &Section, findings: &mut Findings) {
    for name in ["vendor", "product", "revision"] {
        if let Some(setting) = device.settings.get(name) {
            pattern(setting, findings);
        }
    }
    incomplete(device, findings);
    let vendor = device.settings.get("vendor");
    if let Some(vendor) = vendor.filter(|vendor| !is_nvme(&vendor.value.text)) {
        findings.add(
            Rule::VendorNotNvme,
            vendor.line,
            format!(
                "vendor {:?} matches no NVMe device: multipathd calls the vendor of all of them \
                 NVME and their model the product",
                vendor.value.text
            ),
            match meant(device) {
                Some((_, product)) => format!("write: vendor \"NVME\" and product {product:?}"),
                None => {
                    "if this array is reached over NVMe, write vendor \"NVME\" and its model as \
                         product; if not, umpath has nothing to do with it"
                        .to_owned()
                }
            },
        );
    }
    let ours = vendor.is_some_and(|vendor| is_nvme(&vendor.value.text));
    if let Some(revision) = device.settings.get("revision").filter(|_| ours) {
        let cause =
            "multipathd does not check the revision of NVMe devices: the section applies to all";
        findings.add(
            Rule::RevisionNeverMatches,
            revision.line,
            cause,
            "remove the line",
        );
    }
}

fn incomplete(device: &Section, findings: &mut Findings) {
    let vendor = device.settings.text("vendor");
    let product = device.settings.text("product");
    let (there, missing) = match (vendor, product) {
        (Some(_), Some(_)) => return,
        (Some(vendor), None) => (format!("vendor {vendor:?}"), "product"),
        (None, Some(product)) => (format!("product {product:?}"), "vendor"),
        (None, None) => ("neither vendor".to_owned(), "product"),
    };
    let correction = match meant(device) {
        Some((vendor, product)) => format!("write: vendor {vendor:?} and product {product:?}"),
        None => {
            "write vendor \"NVME\" and the array's model as product, or remove the section".into()
        }
    };
    let joined = if vendor.or(product).is_none() {
        "nor"
    } else {
        "but no"
    };
    findings.add(
        Rule::DeviceWithoutProduct,
        device.line,
        format!("multipathd drops this device section: it has {there} {joined} {missing}"),
        correction,
    );
}

fn pattern(setting: &Setting, findings: &mut Findings) {
    let (name, text) = (setting.keyword.name, &setting.value.text);
    match Pattern::new(text) {
        Err(why) => findings.add(
            Rule::BadPattern,
            setting.line,
            format!("{name} {text:?} matches nothing: {why}"),
            "write .* for anything, and a backslash before a literal special character",
        ),
        Ok(_) if is_glob(text) => findings.add(
            Rule::GlobNotPattern,
            setting.line,
            format!(
                "{name} {text:?} is a regular expression: the star repeats the character before it"
            ),
            format!("write: {name} \"{}.*\"", text.trim_end_matches('*')),
        ),
        Ok(_) => {}
    }
}
