//! The contents of `umpath.toml`: tables of entries, before they become text.

use crate::Mode;
use crate::document::Document;
use crate::finding::Findings;
use crate::hardware::Device;
use crate::ignore;
use crate::resolve::{Class, Layer, View};
use crate::toml::{Value, Writer};
use crate::translate::{self, Entry};
use crate::volume;

/// Entries of this table have no key that identifies them.
const IGNORE: &str = "[[ignore]]";

/// A key with its origin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) key: &'static str,
    pub(crate) value: Value,
    comment: String,
}

/// One table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    /// `[defaults]`, `[[device]]`, `[[volume]]` or `[[ignore]]`.
    header: &'static str,
    comment: String,
    /// Whether it concerns arrays that the file does not mention.
    builtin: bool,
    pub(crate) keys: Vec<Key>,
}

impl Table {
    /// The table with its identifying key.
    pub(crate) fn name(&self) -> String {
        match self.keys.first() {
            Some(Key {
                key: "model" | "id",
                value,
                ..
            }) if self.header != IGNORE => format!("{} {value}", self.header),
            _ => self.header.to_owned(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) tables: Vec<Table>,
}

pub(crate) fn plan(
    document: &Document,
    devices: &[Device],
    bindings: Option<&[u8]>,
    mode: Mode,
    findings: &mut Findings,
) -> Plan {
    let mut tables = Vec::new();
    let general = View::new(document, devices, Class::Any, mode);
    let keys = translate::entries(&general, mode);
    tables.push(Table {
        header: "[defaults]",
        comment: String::new(),
        builtin: false,
        keys: keys
            .iter()
            .map(|entry| key(entry, &general, devices))
            .collect(),
    });
    for (index, device) in devices
        .iter()
        .enumerate()
        .filter(|(_, device)| !device.generic)
    {
        let view = View::new(document, devices, Class::Device(index), mode);
        let mut own = own_keys(&view, devices, Layer::Device(index), mode);
        if device.builtin {
            // Only the defaults are weaker.
            own.retain(|own| {
                keys.iter()
                    .all(|key| key.key != own.key || key.value != own.value)
            });
        }
        let (Some(model), false) = (&device.model, own.is_empty()) else {
            continue;
        };
        let comment = if device.builtin {
            "built into multipathd".to_owned()
        } else {
            format!("device section of line {}", device.section.line)
        };
        tables.push(Table {
            builtin: device.builtin,
            ..table("[[device]]", comment, "model", model, own)
        });
    }
    for volume in volume::volumes(document, devices, bindings, mode, findings) {
        let mut own = Vec::new();
        if let Some((alias, line)) = &volume.alias {
            own.push(Key {
                key: "alias",
                value: Value::from(alias.as_str()),
                comment: line.map_or("bindings".to_owned(), |line| format!("line {line}")),
            });
        }
        let mut comment = String::new();
        if let Some(section) = volume.section {
            let view = View::new(document, devices, Class::Volume(section), mode);
            own.extend(own_keys(&view, devices, Layer::Multipath, mode));
            comment = format!("multipath section of line {}", section.line);
        }
        if !own.is_empty() {
            tables.push(table("[[volume]]", comment, "id", &volume.id, own));
        }
    }
    tables.extend(ignore::entries(document).iter().map(ignored));
    Plan { tables }
}

fn ignored(entry: &ignore::Ignore) -> Table {
    let own = entry.except.then(|| Key {
        key: "except",
        value: Value::from(true),
        comment: String::new(),
    });
    let list = if entry.except {
        "blacklist_exceptions"
    } else {
        "blacklist"
    };
    let comment = format!("line {} of {list}", entry.line);
    table(
        IGNORE,
        comment,
        entry.key,
        &entry.pattern,
        own.into_iter().collect(),
    )
}

fn table(
    header: &'static str,
    comment: String,
    name: &'static str,
    value: &str,
    own: Vec<Key>,
) -> Table {
    let mut keys = vec![Key {
        key: name,
        value: Value::from(value),
        comment: String::new(),
    }];
    keys.extend(own);
    Table {
        header,
        comment,
        builtin: false,
        keys,
    }
}

/// The keys that this layer sets.
fn own_keys(view: &View<'_>, devices: &[Device], layer: Layer, mode: Mode) -> Vec<Key> {
    let decided = |entry: &&Entry| {
        let mut from = entry.from.iter().filter_map(|name| view.get(name));
        from.any(|(decided, _)| decided == layer) && !translate::DEFAULTS_ONLY.contains(&entry.key)
    };
    let entries = translate::entries(view, mode);
    entries
        .iter()
        .filter(decided)
        .map(|entry| key(entry, view, devices))
        .collect()
}

fn key(entry: &Entry, view: &View<'_>, devices: &[Device]) -> Key {
    let said = entry.from.iter().find_map(|name| view.get(name));
    let comment = match said {
        Some((Layer::Device(index), _)) if devices.get(index).is_some_and(|d| d.builtin) => {
            "multipathd's own for NVMe".to_owned()
        }
        Some((_, setting)) => format!("line {}: {}", setting.line, setting.keyword.name),
        None => "multipathd's default".to_owned(),
    };
    Key {
        key: entry.key,
        value: entry.value.clone(),
        comment,
    }
}

impl Plan {
    /// The text of the file.
    pub(crate) fn to_toml(&self, mode: Mode) -> String {
        let mut writer = Writer::default();
        writer.comment(match mode {
            Mode::Literal => "Generated from a multipath.conf by `umpath import --mode literal`: what multipathd does with it.",
            Mode::Intended => "Generated from a multipath.conf by `umpath import --mode intended`: what it evidently means.",
        });
        for table in &self.tables {
            writer.table(table.header);
            writer.comment(&table.comment);
            for key in &table.keys {
                writer.key(key.key, &key.value, &key.comment);
            }
        }
        writer.finish()
    }

    /// Differences from another plan, by table. Arrays that only multipathd knows are left out.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let flat = |plan: &Self| -> Vec<(String, &'static str, String)> {
            let tables = plan.tables.iter().filter(|table| !table.builtin);
            tables
                .flat_map(|table| {
                    let keys = table.keys.iter();
                    keys.map(|key| (table.name(), key.key, key.value.to_string()))
                })
                .collect()
        };
        let (ours, theirs) = (flat(self), flat(other));
        let mut by_table: Vec<(String, Vec<String>)> = Vec::new();
        let mut add = |table: &str, words: String| match by_table
            .last_mut()
            .filter(|(last, _)| last == table)
        {
            Some((_, list)) => list.push(words),
            None => by_table.push((table.to_owned(), vec![words])),
        };
        for (table, key, value) in theirs.iter().filter(|key| !ours.contains(key)) {
            if !matches!(*key, "model" | "id") || table == IGNORE {
                add(table, format!("{key} = {value}"));
            }
        }
        let has = |table: &str, key: &str| theirs.iter().any(|(t, k, _)| t == table && *k == key);
        for (table, key, _) in ours.iter().filter(|(table, key, _)| !has(table, key)) {
            add(table, format!("no {key}"));
        }
        by_table
            .into_iter()
            .map(|(table, list)| format!("{table}: {}", list.join(", ")))
            .collect()
    }
}
