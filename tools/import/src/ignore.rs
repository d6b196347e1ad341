//! Filters that umpath can have: `[[ignore]]` entries, made of `blacklist` and `blacklist_exceptions`.
//!
//! wwid filters and device sections for NVMe become entries; both programs let exceptions win within
//! their kind. Not carried over is a filter that covers every NVMe namespace, unless exceptions pick
//! some: it keeps multipathd from NVMe, and who imports the file wants umpath to have NVMe.

use crate::document::{Document, Filters, Section, Setting};
use crate::pattern::Filter;

/// Identities of namespaces: what matches them all covers every one.
const IDENTITIES: &[&str] = &[
    "eui.0025385b71b00a01",
    "eui.6c8f5d3e2a1940b7a0369f0000000001",
    "uuid.8a1b2c3d-0000-4000-8000-0123456789ab",
];

/// The model of every array, as far as one can think of them.
const MODELS: &[&str] = &["Linux", "PVL-MX09S0P2L2C1-F100TP0TY1", "0"];

/// What becomes of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// An entry with this pattern.
    Carried(String),
    /// Nothing: it would leave umpath without any namespace.
    Everything,
    /// Nothing: it is not about NVMe, or without effect.
    Foreign,
    /// Nothing: `umpath.toml` cannot say it.
    Unsayable,
}

/// One `[[ignore]]` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ignore {
    /// `wwid` or `model`.
    pub(crate) key: &'static str,
    pub(crate) pattern: String,
    pub(crate) except: bool,
    pub(crate) line: u32,
}

/// Every entry the file's filters become, exceptions behind what they are exceptions of.
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

/// An exception that is about NVMe: it spells a kind of identity, or matches one. Most pick SCSI disks.
fn picks_volumes(rule: &Setting) -> bool {
    let text = &rule.value.text;
    let spelled = !text.starts_with('!') && (text.contains("eui") || text.contains("uuid"));
    matches!(wwid(rule), Fate::Carried(_))
        && (spelled || IDENTITIES.iter().any(|identity| holds(text, identity)))
}

/// What becomes of a wwid in the exceptions: something only beside an entry it is an exception of.
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
        // The file is refused for it, or the line left out.
        Err(_) => Fate::Foreign,
    }
}

fn holds(pattern: &str, text: &str) -> bool {
    Filter::new(pattern).is_ok_and(|filter| filter.matches(text))
}

fn covers(pattern: &str, names: &[&str]) -> bool {
    names.iter().all(|name| holds(pattern, name))
}

/// A plain identity of a SCSI disk: a digit for its kind, then 16 or 32 of the number itself.
fn is_scsi(text: &str) -> bool {
    let plain = text.strip_prefix('^').unwrap_or(text);
    let plain = plain.strip_suffix('$').unwrap_or(plain);
    matches!(plain.len(), 17 | 33) && plain.bytes().all(|byte| byte.is_ascii_hexdigit())
}
