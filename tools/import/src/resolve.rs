//! Which of several settings applies.
//!
//! multipathd uses the most specific section that sets a key: `multipath`, then `overrides` (its
//! `protocol` first), then device sections from the last to the first and its own, then `defaults`,
//! then built-in values. The author of `defaults` means NVMe too: in intended mode they take
//! precedence over multipathd's own device sections.

use crate::Mode;
use crate::document::{Document, Section, Setting, Settings};
use crate::hardware::Device;

/// Default seconds between two checks of a path.
const INTERVAL: u64 = 5;

/// The protocol whose section applies here.
const PROTOCOL: &str = "nvme:rdma";

/// The polling interval and its maximum, in seconds.
pub(crate) fn intervals(interval: Option<u64>, most: Option<u64>) -> (u64, u64) {
    let most = most.filter(|most| *most > 0);
    match (interval, most) {
        (interval, None) => {
            let interval = interval.unwrap_or(INTERVAL);
            (interval, interval.saturating_mul(4).min(u32::MAX.into()))
        }
        (None, Some(most)) => ((most / 4).max(1), most),
        (Some(interval), Some(most)) => (interval.min(most), most),
    }
}

/// The volumes to which settings apply.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Class<'a> {
    /// Volumes without a more specific class.
    Any,
    /// Volumes of the models that this device section names.
    Device(usize),
    /// This volume.
    Volume(&'a Section),
}

/// The kind of section that sets a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Multipath,
    Protocol,
    Overrides,
    Device(usize),
    Defaults,
}

/// The sections that apply to a class, strongest first.
#[derive(Debug)]
pub(crate) struct View<'a> {
    layers: Vec<(Layer, &'a Settings)>,
    interval: (u64, u64),
}

impl<'a> View<'a> {
    pub(crate) fn new(
        document: &'a Document,
        devices: &'a [Device],
        class: Class<'a>,
        mode: Mode,
    ) -> Self {
        let mut layers = Vec::new();
        if let Class::Volume(section) = class {
            layers.push((Layer::Multipath, &section.settings));
        }
        let protocol = |section: &&Section| section.settings.text("type") == Some(PROTOCOL);
        if let Some(section) = document.protocols.iter().find(protocol) {
            layers.push((Layer::Protocol, &section.settings));
        }
        layers.push((Layer::Overrides, &document.overrides));
        let wanted = |index: usize, device: &Device| {
            device.generic || matches!(class, Class::Device(wanted) if wanted == index)
        };
        let of = |builtin: bool| {
            let all = devices.iter().enumerate().rev();
            all.filter(move |(index, device)| device.builtin == builtin && wanted(*index, device))
                .map(|(index, device)| (Layer::Device(index), &device.section.settings))
        };
        layers.extend(of(false));
        if mode == Mode::Intended {
            layers.push((Layer::Defaults, &document.defaults));
        }
        layers.extend(of(true));
        if mode == Mode::Literal {
            layers.push((Layer::Defaults, &document.defaults));
        }
        let number = |key: &str| document.defaults.get(key).and_then(|s| s.value.number());
        Self {
            layers,
            interval: intervals(number("polling_interval"), number("max_polling_interval")),
        }
    }

    /// The setting in force, and its layer.
    pub(crate) fn get(&self, name: &str) -> Option<(Layer, &'a Setting)> {
        self.layers
            .iter()
            .find_map(|(layer, settings)| settings.get(name).map(|setting| (*layer, setting)))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name)
            .map(|(_, setting)| setting.value.text.as_str())
    }

    /// The setting as a number of at least one.
    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        let (_, setting) = self.get(name)?;
        setting.value.number().filter(|number| *number > 0)
    }

    /// Initial and maximum seconds between two checks of a path.
    pub(crate) fn interval(&self) -> (u64, u64) {
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_settle_each_other() {
        assert_eq!(intervals(None, None), (5, 20));
        assert_eq!(intervals(Some(10), None), (10, 40));
        assert_eq!(intervals(Some(30), Some(12)), (12, 12));
        assert_eq!(intervals(None, Some(60)), (15, 60));
        assert_eq!(intervals(None, Some(3)), (1, 3));
    }
}
