//! The configuration as multipathd understands it, in the format of `multipath -t`.
//!
//! `multipath -t` prints the configuration after reading: built-in values merged with the file.
//! This module computes the same from the file and from the output of `multipath -t` without one,
//! so that the two can be compared for any version's built-in values.

use std::collections::BTreeMap;

use crate::document::{Document, Filters, Section, Setting, Settings};
use crate::finding::Findings;
use crate::keyword::{Kind, Value};
use crate::{Mode, grammar, merge};

/// Keys and values as printed, quotes included.
type Keys = BTreeMap<String, String>;

/// `blacklist` or `blacklist_exceptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnderstoodFilters {
    rules: Vec<(String, String)>,
    devices: Vec<Keys>,
}

/// The output of `multipath -t`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Understood {
    defaults: Keys,
    overrides: Keys,
    protocols: Vec<Keys>,
    devices: Vec<Keys>,
    multipaths: Vec<Keys>,
    blacklist: UnderstoodFilters,
    exceptions: UnderstoodFilters,
}

impl Understood {
    /// Parses the output of `multipath -t`.
    pub fn from_output(text: &str) -> Self {
        let mut all = Self::default();
        let mut section = String::new();
        let mut inner: Option<Keys> = None;
        for line in text.lines() {
            let (key, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            // Some versions omit the brace of a section that lacks its last key.
            if (value == "{" || key == "}")
                && let Some(keys) = inner.take()
            {
                all.add_inner(&section, keys);
                if key == "}" && line.starts_with('\t') {
                    continue;
                }
            }
            match (key, value, &mut inner) {
                ("", ..) => {}
                (key, "{", _) if section.is_empty() => key.clone_into(&mut section),
                (_, "{", _) => inner = Some(Keys::new()),
                ("}", ..) => section.clear(),
                (key, value, Some(keys)) => {
                    keys.insert(key.to_owned(), value.to_owned());
                }
                (key, value, None) => all.add(&section, key, value),
            }
        }
        all
    }

    fn add(&mut self, section: &str, key: &str, value: &str) {
        let (key, value) = (key.to_owned(), value.to_owned());
        match section {
            "defaults" => {
                self.defaults.insert(key, value);
            }
            "overrides" => {
                self.overrides.insert(key, value);
            }
            "blacklist" => self.blacklist.rules.push((key, value)),
            "blacklist_exceptions" => self.exceptions.rules.push((key, value)),
            _ => {}
        }
    }

    fn add_inner(&mut self, section: &str, keys: Keys) {
        match section {
            "overrides" => self.protocols.push(keys),
            "devices" => self.devices.push(keys),
            "multipaths" => self.multipaths.push(keys),
            "blacklist" => self.blacklist.devices.push(keys),
            "blacklist_exceptions" => self.exceptions.devices.push(keys),
            _ => {}
        }
    }

    /// What multipathd makes of this file; `None` if it refuses it. `builtin` is what it
    /// understands without a file.
    pub fn from_file(text: &[u8], builtin: &Self) -> Option<Self> {
        let mut findings = Findings::default();
        let mut document = grammar::parse(text, Mode::Literal, &mut findings);
        if document.refused {
            return None;
        }
        merge::merge(&mut document, &mut findings);
        let mut all = builtin.clone();
        let said = document.defaults.iter();
        for setting in said.filter(|setting| setting.keyword.kind != Kind::Ignored) {
            all.defaults
                .insert(setting.keyword.name.to_owned(), printed(setting));
        }
        old_names(&mut all.defaults);
        intervals(&document.defaults, &mut all.defaults);
        all.overrides = keys(&document.overrides);
        all.protocols = document
            .protocols
            .iter()
            .map(|p| keys(&p.settings))
            .collect();
        all.multipaths = document
            .multipaths
            .iter()
            .map(|m| keys(&m.settings))
            .collect();
        all.devices = devices(&document, &builtin.devices);
        all.blacklist = filters(&document.blacklist, &builtin.blacklist);
        all.exceptions = filters(&document.exceptions, &builtin.exceptions);
        hidden_products(&document, &mut all.blacklist);
        Some(all)
    }

    /// Removes keys that only some versions know or print.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        let unknown = |keys: &mut Keys| keys.retain(|key, _| !names.contains(&key.as_str()));
        unknown(&mut self.defaults);
        unknown(&mut self.overrides);
        let lists = [&mut self.protocols, &mut self.devices, &mut self.multipaths];
        lists.into_iter().flatten().for_each(unknown);
        self
    }

    /// Differences, one per line; empty if they agree.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (self.lines(), other.lines());
        let missing = ours.iter().filter(|line| !theirs.contains(line));
        let more = theirs.iter().filter(|line| !ours.contains(line));
        let mut all: Vec<String> = missing.map(|line| format!("- {line}")).collect();
        all.extend(more.map(|line| format!("+ {line}")));
        if all.is_empty() && ours != theirs {
            all.push("the order of sections differs".to_owned());
        }
        all
    }

    /// What is not in `builtin`, one line per key.
    pub fn since(&self, builtin: &Self) -> Vec<String> {
        let before = builtin.lines();
        let new = self.lines().into_iter();
        new.filter(|line| !before.contains(line)).collect()
    }

    /// One line per key of a section that occurs once, one per section of the others.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let single = |name: &str, keys: &Keys, lines: &mut Vec<String>| {
            lines.extend(
                keys.iter()
                    .map(|(key, value)| format!("{name}: {key} {value}")),
            );
        };
        let several = |name: &str, list: &[Keys], lines: &mut Vec<String>| {
            for keys in list {
                let words: Vec<_> = keys
                    .iter()
                    .map(|(key, value)| format!("{key} {value}"))
                    .collect();
                lines.push(format!("{name}: {}", words.join(", ")));
            }
        };
        single("defaults", &self.defaults, &mut lines);
        single("overrides", &self.overrides, &mut lines);
        several("protocol", &self.protocols, &mut lines);
        several("device", &self.devices, &mut lines);
        several("multipath", &self.multipaths, &mut lines);
        for (name, filters) in [
            ("blacklist", &self.blacklist),
            ("blacklist_exceptions", &self.exceptions),
        ] {
            // Each kind keeps its own order.
            let mut rules = filters.rules.clone();
            rules.sort_by(|a, b| a.0.cmp(&b.0));
            lines.extend(
                rules
                    .iter()
                    .map(|(key, value)| format!("{name}: {key} {value}")),
            );
            several(&format!("{name} device"), &filters.devices, &mut lines);
        }
        lines
    }
}

fn printed(setting: &Setting) -> String {
    show(&setting.value)
}

fn show(value: &Value) -> String {
    if value.bare {
        value.text.clone()
    } else {
        format!("\"{}\"", value.text.replace('"', "\"\""))
    }
}

fn keys(settings: &Settings) -> Keys {
    let mut keys: Keys = settings
        .iter()
        .filter(|setting| setting.keyword.kind != Kind::Ignored)
        .map(|setting| (setting.keyword.name.to_owned(), printed(setting)))
        .collect();
    old_names(&mut keys);
    keys
}

/// `checker` is `path_checker`.
fn old_names(keys: &mut Keys) {
    if let Some(value) = keys.remove("checker") {
        keys.insert("path_checker".to_owned(), value);
    }
}

/// A polling interval and its maximum limit each other.
fn intervals(defaults: &Settings, printed: &mut Keys) {
    let number = |key: &str| defaults.get(key).and_then(|setting| setting.value.number());
    let said = (number("polling_interval"), number("max_polling_interval"));
    if said == (None, None) {
        return;
    }
    let (interval, most) = crate::resolve::intervals(said.0, said.1);
    for (key, value) in [
        ("polling_interval", interval),
        ("max_polling_interval", most),
    ] {
        printed.insert(key.to_owned(), value.to_string());
    }
}

fn devices(document: &Document, builtin: &[Keys]) -> Vec<Keys> {
    let same = |a: &Keys, b: &Keys| {
        ["vendor", "product", "revision"]
            .iter()
            .all(|key| a.get(*key) == b.get(*key))
    };
    let mut all: Vec<Keys> = builtin.to_vec();
    for device in &document.devices {
        let mut device = keys(&device.settings);
        if let Some(index) = all.iter().position(|older| same(older, &device)) {
            let older = all.remove(index);
            for (key, value) in older {
                device.entry(key).or_insert(value);
            }
        }
        all.push(device);
    }
    all
}

/// The file's rules come before the built-in ones, without duplicates.
fn filters(file: &Filters, builtin: &UnderstoodFilters) -> UnderstoodFilters {
    let mut all = UnderstoodFilters::default();
    let rules = file
        .rules
        .iter()
        .map(|rule| (rule.keyword.name.to_owned(), printed(rule)));
    for rule in rules.chain(builtin.rules.iter().cloned()) {
        if rule.0 == "protocol" || !all.rules.contains(&rule) {
            all.rules.push(rule);
        }
    }
    let named = |section: &&Section| section.settings.iter().next().is_some();
    let devices = file
        .devices
        .iter()
        .filter(named)
        .map(|section| keys(&section.settings));
    for device in devices.chain(builtin.devices.iter().cloned()) {
        if !all.devices.contains(&device) {
            all.devices.push(device);
        }
    }
    all
}

/// `product_blacklist` of a device section is a blacklist rule.
fn hidden_products(document: &Document, blacklist: &mut UnderstoodFilters) {
    for device in &document.devices {
        let Some(product) = device.settings.get("product_blacklist") else {
            continue;
        };
        let mut rule = Keys::from([("product".to_owned(), printed(product))]);
        if let Some(vendor) = device.settings.get("vendor") {
            rule.insert("vendor".to_owned(), printed(vendor));
        }
        if !blacklist.devices.contains(&rule) {
            blacklist.devices.push(rule);
        }
    }
}
