//! `[[ignore]]` entries from `blacklist` and `blacklist_exceptions`.
//!
//! wwid filters and device sections for NVMe become entries; in both programs exceptions win within
//! their kind. A filter that covers every NVMe namespace is not carried over unless exceptions
//! select some: it keeps multipathd away from NVMe, but whoever imports the file wants umpath to
//! use it.

use crate::document::{Document, Filters, Section, Setting};
use crate::pattern::Filter;

/// Sample identities of namespaces: a pattern that matches all of them covers every namespace.
const IDENTITIES: &[&str] = &[
    "eui.0025385b71b00a01",
    "eui.6c8f5d3e2a1940b7a0369f0000000001",
    "uuid.8a1b2c3d-0000-4000-8000-0123456789ab",
];

/// Sample models of arrays.
const MODELS: &[&str] = &["Linux", "PVL-MX09S0P2L2C1-F100TP0TY1", "0"];

/// What becomes of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// An entry with this pattern.
    Carried(String),
    /// Dropped: it would leave umpath without any namespace.
    Everything,
    /// Dropped: it does not concern NVMe, or has no effect.
    Foreign,
    /// Dropped: `umpath.toml` cannot express it.
    Unsayable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ignore {
    /// `wwid` or `model`.
    pub(crate) key: &'static str,
    pub(crate) pattern: String,
    pub(crate) except: bool,
    pub(crate) line: u32,
}

/// All entries from the file's filters, exceptions after the entries they restrict.
pub(crate) fn entries(document: &Document) -> Vec<Ignore> {
    let (blacklist, exceptions) = (&document.blacklist, &document.exceptions);
    let mut entries = Vec::new();
    let mut add = |key, fate, except, line| {
        if let Fate::Carried(pattern) = fate {
            entries.push(Ignore {
                key,
                pattern,
                except,
                line,
            });
        }
    };
    for rule in wwids(blacklist) {
        add("wwid", hidden_wwid(rule, exceptions), false, rule.line);
    }
    for rule in wwids(exceptions) {
        add("wwid", excepted_wwid(rule, document), true, rule.line);
    }
    for device in &blacklist.devices {
        add(
            "model",
            hidden_device(device, exceptions),
            false,
            device.line,
        );
    }
    for device in &exceptions.devices {
        add(
            "model",
            excepted_device(device, document),
            true,
            device.line,
        );
    }
    entries
}

fn wwids(filters: &Filters) -> impl Iterator<Item = &Setting> {
    let rules = filters.rules.iter();
    rules.filter(|rule| rule.keyword.name == "wwid")
}

/// What becomes of a wwid in the blacklist.
pub(crate) fn hidden_wwid(rule: &Setting, exceptions: &Filters) -> Fate {
    let picks = wwids(exceptions).any(picks_volumes);
    match wwid(rule) {
        Fate::Carried(_) if covers(&rule.value.text, IDENTITIES) && !picks => Fate::Everything,
        fate => fate,
    }
}

/// Whether an exception concerns NVMe: it names a kind of NVMe identity, or matches one. Most
/// exceptions select SCSI disks.
fn picks_volumes(rule: &Setting) -> bool {
    let text = &rule.value.text;
    let spelled = !text.starts_with('!') && (text.contains("eui") || text.contains("uuid"));
    matches!(wwid(rule), Fate::Carried(_))
        && (spelled || IDENTITIES.iter().any(|identity| holds(text, identity)))
}

/// What becomes of a wwid in the exceptions: dropped unless it restricts an entry.
pub(crate) fn excepted_wwid(rule: &Setting, document: &Document) -> Fate {
    let hidden = |rule| hidden_wwid(rule, &document.exceptions);
    beside(wwid(rule), wwids(&document.blacklist).map(hidden))
}

/// What becomes of a device section in the blacklist.
pub(crate) fn hidden_device(device: &Section, exceptions: &Filters) -> Fate {
    let picks = exceptions
        .devices
        .iter()
        .any(|device| matches!(model(device), Fate::Carried(_)));
    let every = |device: &Section| {
        let product = device.settings.text("product");
        product.is_none_or(|product| covers(product, MODELS))
    };
    match model(device) {
        Fate::Carried(_) if every(device) && !picks => Fate::Everything,
        fate => fate,
    }
}

/// What becomes of a device section in the exceptions.
pub(crate) fn excepted_device(device: &Section, document: &Document) -> Fate {
    let hidden = |device| hidden_device(device, &document.exceptions);
    beside(model(device), document.blacklist.devices.iter().map(hidden))
}

fn beside(fate: Fate, mut hidden: impl Iterator<Item = Fate>) -> Fate {
    if hidden.any(|fate| matches!(fate, Fate::Carried(_))) {
        fate
    } else {
        Fate::Foreign
    }
}

fn wwid(rule: &Setting) -> Fate {
    if is_scsi(&rule.value.text) {
        return Fate::Foreign;
    }
    carried(&rule.value.text)
}

fn model(device: &Section) -> Fate {
    let (vendor, product) = (
        device.settings.text("vendor"),
        device.settings.text("product"),
    );
    match (vendor, product) {
        (None, None) => Fate::Foreign,
        (Some(vendor), _) if !holds(vendor, "NVME") => Fate::Foreign,
        (_, product) => carried(product.unwrap_or(".*")),
    }
}

fn carried(text: &str) -> Fate {
    match Filter::new(text).map(|filter| filter.source()) {
        Ok(Some(pattern)) => Fate::Carried(pattern),
        Ok(None) => Fate::Unsayable,
        // multipathd refuses the file for it, or the line was dropped.
        Err(_) => Fate::Foreign,
    }
}

fn holds(pattern: &str, text: &str) -> bool {
    Filter::new(pattern).is_ok_and(|filter| filter.matches(text))
}

fn covers(pattern: &str, names: &[&str]) -> bool {
    names.iter().all(|name| holds(pattern, name))
}

/// An identity of a SCSI disk: one digit for its kind, then 16 or 32 hexadecimal digits.
fn is_scsi(text: &str) -> bool {
    let plain = text.strip_prefix('^').unwrap_or(text);
    let plain = plain.strip_suffix('$').unwrap_or(plain);
    matches!(plain.len(), 17 | 33) && plain.bytes().all(|byte| byte.is_ascii_hexdigit())
}
