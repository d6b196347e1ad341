//! `[[device]]`: settings for the volumes of one array model.
//!
//! An entry applies if its pattern matches the model that controllers report. If several apply, the
//! later one wins key by key, as in the devices section of multipath.conf.

use regex::Regex;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use umpath_host::policy::VolumePolicy;

use super::Defaults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeviceEntry {
    /// Regular expression for the model.
    pub(crate) model: String,
    /// Keys of `[[volume]]` except those that identify one; checked before use.
    #[serde(flatten)]
    pub(crate) policies: Table,
}

impl DeviceEntry {
    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if let Err(error) = Regex::new(&self.model) {
            // The last line holds the reason, those before it show the position.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default();
            mistakes.push(format!("model is not a regular expression: {why}"));
        }
        let mut policy = Defaults::default().policy();
        for (key, value) in &self.policies {
            mistakes.extend(set_one(&mut policy, key, value).err());
        }
        for why in &mut mistakes {
            *why = format!("[[device]] {:?}: {why}", self.model);
        }
        mistakes
    }

    /// Whether it applies to controllers of this model.
    pub(crate) fn holds_for(&self, model: &str) -> bool {
        Regex::new(&self.model).is_ok_and(|pattern| pattern.is_match(model))
    }

    /// Applies its settings; invalid ones were reported when the file was read.
    pub(crate) fn set(&self, policy: &mut VolumePolicy) {
        for (key, value) in &self.policies {
            let _ = set_one(policy, key, value);
        }
    }
}

fn set_one(policy: &mut VolumePolicy, key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => policy.set(key, text),
        value => policy.set(key, &value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn later_devices_win_and_volumes_win_over_them() {
        let config: Config = toml::from_str(
            "[defaults]\nfailback = \"manual\"\nno_path_retry = \"fail\"\n\
             [[device]]\nmodel = \"^PVL-\"\nfailback = 10\nexclusive_pref_bit = true\n\
             [[device]]\nmodel = \"MX09\"\nfailback = \"followover\"\n\
             [[volume]]\nid = \"uuid.1\"\nfailback = \"immediate\"\n",
        )
        .unwrap();
        assert_eq!(config.mistakes(), []);
        let failback = |id: &str, model: &str| config.policy(id, model).failback.to_string();
        assert_eq!(failback("uuid.2", "Linux"), "manual");
        assert_eq!(failback("uuid.2", "PVL-X"), "10");
        assert_eq!(failback("uuid.2", "PVL-MX09"), "followover");
        assert_eq!(failback("UUID.1", "PVL-MX09"), "immediate");
        assert!(config.policy("uuid.2", "PVL-X").exclusive_pref_bit);
        assert_eq!(
            config.policy("uuid.2", "PVL-X").no_path_retry.to_string(),
            "fail"
        );
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str| {
            let config = toml::from_str::<Config>(text).unwrap();
            config.mistakes()[0].to_string()
        };
        let error = refused("[[device]]\nmodel = \"A(\"\n");
        assert!(error.contains("[[device]]"), "{error}");
        let error = refused("[[device]]\nmodel = \"A\"\nfailbak = 3\n");
        assert!(error.contains("failbak"), "{error}");
        let error = refused("[[device]]\nmodel = \"A\"\npath_selector = \"fastest\"\n");
        assert!(error.contains("fastest"), "{error}");
        assert!(toml::from_str::<Config>("[[device]]\nfailback = 3\n").is_err());
    }

    /// What `umpath import` writes is a valid configuration.
    #[test]
    fn imported_files_are_configurations() {
        use umpath_import::{Mode, import};

        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../import/tests/corpus");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "conf") {
                continue;
            }
            let text = std::fs::read(&path).unwrap();
            let bindings = std::fs::read(path.with_extension("bindings")).ok();
            for mode in [Mode::Literal, Mode::Intended] {
                let Some(toml) = import(&text, bindings.as_deref(), mode).toml else {
                    continue;
                };
                let config = toml::from_str::<Config>(&toml).map_err(|error| error.to_string());
                let mistakes = config.map(|config| config.mistakes());
                assert_eq!(
                    mistakes,
                    Ok(Vec::new()),
                    "{} {mode:?}\n{toml}",
                    path.display()
                );
                count += 1;
            }
        }
        assert!(count >= 120, "{count}");
    }
}
