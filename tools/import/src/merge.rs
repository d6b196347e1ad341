//! Merges sections with the same name, as multipathd does after reading.
//!
//! Of several `device` sections with the same vendor, product and revision, the later one wins key
//! by key, at the position of the last. The same applies to `multipath` sections with one wwid and
//! `protocol` sections with one type. Sections without a name are dropped.

use std::collections::BTreeMap;

use crate::document::{Document, Section, Setting};
use crate::features;
use crate::finding::Findings;
use crate::keyword::{Keyword, Value};
use crate::rule::Rule;

/// Drops and merges sections.
pub(crate) fn merge(document: &mut Document, findings: &mut Findings) {
    let mut devices = std::mem::take(&mut document.devices);
    devices.retain(|device| {
        ["vendor", "product"]
            .iter()
            .all(|key| device.settings.get(key).is_some())
    });
    document.devices = merge_devices(devices, findings);
    let protocols = std::mem::take(&mut document.protocols);
    document.protocols = merge_protocols(protocols, findings);
    let multipaths = std::mem::take(&mut document.multipaths);
    document.multipaths = merge_multipaths(multipaths, findings);
}

/// One section per name, at the position of the last.
fn merge_devices(devices: Vec<Section>, findings: &mut Findings) -> Vec<Section> {
    let name = |device: &Section| {
        ["vendor", "product", "revision"].map(|key| device.settings.text(key).map(str::to_owned))
    };
    let mut last: BTreeMap<_, Section> = BTreeMap::new();
    let mut order = Vec::new();
    for (index, device) in devices.into_iter().enumerate() {
        let name = name(&device);
        let merged = match last.remove(&name) {
            None => device,
            Some(older) => {
                let again = format!(
                    "the device {} {} of line {} is defined again",
                    name[0].as_deref().unwrap_or_default(),
                    name[1].as_deref().unwrap_or_default(),
                    older.line
                );
                let fix = "keep one section; of each key the later value counts";
                findings.add(Rule::DuplicateDevice, device.line, again, fix);
                merged(device, older)
            }
        };
        last.insert(name.clone(), merged);
        order.push((index, name));
    }
    let mut position: BTreeMap<_, usize> = BTreeMap::new();
    for (index, name) in order {
        position.insert(name, index);
    }
    let mut sections: Vec<(usize, Section)> = last
        .into_iter()
        .map(|(name, section)| (position.get(&name).copied().unwrap_or_default(), section))
        .collect();
    sections.sort_by_key(|(index, _)| *index);
    sections.into_iter().map(|(_, section)| section).collect()
}

/// The later section, completed from the older one; merging also resolves `queue_if_no_path`.
fn merged(mut later: Section, older: Section) -> Section {
    later.settings.fill(older.settings);
    let Some(setting) = later.settings.get("features").cloned() else {
        return later;
    };
    if !features::queue_if_no_path(&setting.value.text) {
        return later;
    }
    if later.settings.get("no_path_retry").is_none()
        && let Some(keyword) = Keyword::named("no_path_retry")
    {
        later.settings.set(Setting {
            keyword,
            value: Value {
                text: "queue".to_owned(),
                bare: false,
            },
            line: setting.line,
        });
    }
    let mut rest = setting;
    rest.value.text = features::without_queue(&rest.value.text);
    later.settings.set(rest);
    later
}

fn merge_protocols(protocols: Vec<Section>, findings: &mut Findings) -> Vec<Section> {
    let mut kept: Vec<Section> = Vec::new();
    for mut protocol in protocols {
        let Some(kind) = protocol.settings.text("type").map(str::to_owned) else {
            let cause = "multipathd drops this protocol section: it has no type";
            let fix = "write the type, such as nvme:rdma";
            findings.add(Rule::ProtocolWithoutType, protocol.line, cause, fix);
            continue;
        };
        let older = kept
            .iter()
            .position(|older| older.settings.text("type") == Some(kind.as_str()));
        if let Some(index) = older {
            protocol.settings.fill(kept.remove(index).settings);
        }
        kept.push(protocol);
    }
    kept
}

fn merge_multipaths(multipaths: Vec<Section>, findings: &mut Findings) -> Vec<Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    for mut multipath in multipaths {
        let Some(wwid) = multipath.settings.text("wwid").map(str::to_owned) else {
            findings.add(
                Rule::MultipathWithoutWwid,
                multipath.line,
                "multipathd drops this multipath section: it has no wwid",
                "write the identity that multipath -ll prints in parentheses",
            );
            continue;
        };
        if let Some(older) = sections.remove(&wwid) {
            findings.add(
                Rule::DuplicateMultipath,
                multipath.line,
                format!("the volume {wwid} of line {} is defined again", older.line),
                "keep one section; of each key the later value counts",
            );
            multipath.settings.fill(older.settings);
        }
        sections.insert(wwid, multipath);
    }
    sections.into_values().collect()
}
