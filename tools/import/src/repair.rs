//! What a device section or a value evidently means although multipathd drops it.
//!
//! A section with a vendor and no product is a person's way to name an array. Where the vendor is not
//! NVMe's, it must be the model: NVMe has nothing else to tell arrays by. A pattern that begins with a
//! star, which can repeat nothing there, is a shell's. A word in capitals is the word, and a selector
//! with a wrong number of arguments is the selector.

use crate::document::{Document, Section, Setting};
use crate::finding::Findings;
use crate::hardware::is_nvme;
use crate::keyword::{Keyword, Value, read};
use crate::rule::Rule;
use crate::translate::selector_name;

/// Completes sections that lack a vendor or a product, or have one that cannot be a pattern.
pub(crate) fn repair(document: &mut Document, findings: &mut Findings) {
    for device in &mut document.devices {
        let Some((vendor, product)) = meant(device) else {
            continue;
        };
        let cause = format!("taken for vendor {vendor:?} and product {product:?}");
        set(device, "vendor", &vendor);
        set(device, "product", &product);
        findings.add(Rule::Intended, device.line, cause, String::new());
    }
}

/// Vendor and product that an incomplete section means; none when it is complete or empty.
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

/// The product pattern meant by a vendor that is none: `PVL-*` means everything that begins with
/// `PVL-`, as it would in a shell.
fn product_meant(vendor: &str) -> String {
    match vendor.strip_suffix('*') {
        Some(stem) if is_glob(vendor) => format!("{stem}.*"),
        _ => starred(vendor),
    }
}

/// `*` at the beginning as a shell reads it: anything.
fn starred(pattern: &str) -> String {
    let dot = if pattern.starts_with('*') { "." } else { "" };
    format!("{dot}{pattern}")
}

/// A value that multipathd ignores, spelled as it would have to be.
pub(crate) fn value_meant(keyword: &Keyword, text: &str) -> Option<Value> {
    let word = text.trim().to_ascii_lowercase();
    let spelled = match keyword.name {
        "path_selector" => format!("{} 0", selector_name(&word)?),
        _ => word,
    };
    read(keyword.kind, &spelled).0
}

/// True for a pattern that a shell would understand better than the C library: it ends in a star
/// after a plain character.
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
