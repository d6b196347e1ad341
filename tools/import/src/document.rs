//! The parsed file: sections, and the last valid value of each keyword in them.

use std::collections::BTreeMap;

use crate::keyword::{Keyword, Value};

/// A keyword with its value and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) keyword: &'static Keyword,
    pub(crate) value: Value,
    pub(crate) line: u32,
}

/// The keywords of one section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    /// The value's text, if the section sets it.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(|setting| setting.value.text.as_str())
    }

    pub(crate) fn set(&mut self, setting: Setting) {
        self.0.insert(setting.keyword.name, setting);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.values()
    }

    /// Takes from `older` the keywords that this section does not set.
    pub(crate) fn fill(&mut self, older: Self) {
        for (name, setting) in older.0 {
            self.0.entry(name).or_insert(setting);
        }
    }
}

/// A `device`, `protocol` or `multipath` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Section {
    /// Line it begins on.
    pub(crate) line: u32,
    pub(crate) settings: Settings,
}

/// `blacklist` or `blacklist_exceptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    /// `devnode`, `wwid`, `property` and `protocol` entries in file order.
    pub(crate) rules: Vec<Setting>,
    /// `device` sections.
    pub(crate) devices: Vec<Section>,
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) defaults: Settings,
    pub(crate) overrides: Settings,
    pub(crate) protocols: Vec<Section>,
    pub(crate) devices: Vec<Section>,
    pub(crate) multipaths: Vec<Section>,
    pub(crate) blacklist: Filters,
    pub(crate) exceptions: Filters,
    /// Whether multipathd refuses to start with this file.
    pub(crate) refused: bool,
}
