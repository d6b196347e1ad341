//! What a device section or a value evidently means although multipathd drops it.
//!
//! A section with a vendor and no product is meant to name an array. If the vendor is not NVMe's,
//! it must be the model, because NVMe arrays differ in nothing else. A pattern that begins with a
//! star, which can repeat nothing there, is a shell pattern. A word in capitals is the word, and a
//! selector with a wrong argument count is the selector.

use crate::document::{Document, Section, Setting};
use crate::finding::Findings;
use crate::hardware::is_nvme;
use crate::keyword::{Keyword, Value, read};
use crate::rule::Rule;
use crate::translate::selector_name;

/// Completes sections without vendor or product, or with one that cannot be a pattern.
pub(crate) fn repair(document: &mut Document, findings: &mut Findings) {
    for device in &mut document.devices {
        let Some((vendor, product)) = meant(device) else {
            continue;
        };
        let cause = format!("read as vendor {vendor:?} and product {product:?}");
        set(device, "vendor", &vendor);
        set(device, "product", &product);
        findings.add(Rule::Intended, device.line, cause, String::new());
    }
}

/// The vendor and product meant by an incomplete section; `None` if it is complete or empty.
pub(crate) fn meant(device: &Section) -> Option<(String, String)> {
    let vendor = device.settings.text("vendor");
    let product = device.settings.text("product");
    match (vendor, product) {
        (Some(vendor), None) if is_nvme(vendor) => Some((vendor.to_owned(), ".*".to_owned())),
        (Some(vendor), None) => Some(("NVME".to_owned(), product_meant(vendor))),
        (None, Some(product)) => Some(("NVME".to_owned(), starred(product))),
        (Some(vendor), Some(product)) if vendor.starts_with('*') || product.starts_with('*') => {
            Some((starred(vendor), starred(product)))
        }
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn set(device: &mut Section, name: &str, text: &str) {
    let Some(keyword) = Keyword::named(name) else {
        return;
    };
    let (Some(value), _) = read(keyword.kind, text) else {
        return;
    };
    let line = device.line;
    device.settings.set(Setting {
        keyword,
        value,
        line,
    });
}

/// The product pattern meant by a vendor that is not one: `PVL-*` means everything that begins with
/// `PVL-`, as in a shell.
fn product_meant(vendor: &str) -> String {
    match vendor.strip_suffix('*') {
        Some(stem) if is_glob(vendor) => format!("{stem}.*"),
        _ => starred(vendor),
    }
}

/// Reads a leading `*` as a shell does: anything.
fn starred(pattern: &str) -> String {
    let dot = if pattern.starts_with('*') { "." } else { "" };
    format!("{dot}{pattern}")
}

/// A value that multipathd ignores, with its spelling corrected.
pub(crate) fn value_meant(keyword: &Keyword, text: &str) -> Option<Value> {
    let word = text.trim().to_ascii_lowercase();
    let spelled = match keyword.name {
        "path_selector" => format!("{} 0", selector_name(&word)?),
        _ => word,
    };
    read(keyword.kind, &spelled).0
}

/// Whether a pattern makes more sense to a shell than to the C library: it ends with a star after a
/// literal character.
pub(crate) fn is_glob(pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|stem| {
        stem.ends_with(|char: char| char.is_alphanumeric() || matches!(char, '-' | '_' | ' '))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_patterns_become_regular_expressions() {
        assert_eq!(product_meant("PVL-*"), "PVL-.*");
        assert_eq!(product_meant("PVL-.*"), "PVL-.*");
        assert_eq!(product_meant("PVL"), "PVL");
        assert_eq!(product_meant("[A-Z]*"), "[A-Z]*");
        assert_eq!(product_meant("*"), ".*");
        assert_eq!(starred("*PVL"), ".*PVL");
    }
}
