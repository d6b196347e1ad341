//! Names of volumes: aliases from the configuration, otherwise `vol1`, `vol2`, … bound for good.
//!
//! The bindings file in the state directory holds one `name identity` pair a line. A name once
//! given to an identity is never given to another one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The bindings.
#[derive(Debug)]
pub(crate) struct Names {
    path: PathBuf,
    /// Identity to name.
    bound: BTreeMap<String, String>,
}

impl Names {
    /// Reads the bindings.
    pub(crate) fn load(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join("bindings");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let pairs = text.lines().filter(|line| !line.starts_with('#'));
        let bound = pairs
            .filter_map(|line| line.split_once(' '))
            .map(|(name, id)| (id.trim().to_owned(), name.to_owned()))
            .collect();
        Ok(Self { path, bound })
    }

    /// The name of an identity: its alias, or the name bound to it, or a new one. Names `in_use` by
    /// other volumes are not given.
    pub(crate) fn name(
        &mut self,
        id: &str,
        alias: Option<&str>,
        in_use: &dyn Fn(&str) -> bool,
    ) -> String {
        if let Some(alias) = alias
            && !in_use(alias)
        {
            return alias.to_owned();
        }
        if let Some(name) = self.bound.get(id)
            && !in_use(name)
        {
            return name.clone();
        }
        let taken = |name: &str| in_use(name) || self.bound.values().any(|bound| bound == name);
        let name = (1..u64::MAX)
            .map(|n| format!("vol{n}"))
            .find(|name| !taken(name));
        let name = name.unwrap_or_else(|| id.to_owned());
        self.bound.insert(id.to_owned(), name.clone());
        if let Err(error) = self.save() {
            tracing::warn!("cannot keep the name {name} of {id}: {error:#}");
        }
        name
    }

    /// Writes a new file and renames it over the old one, so that a crash leaves one of the two.
    fn save(&self) -> anyhow::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        writeln!(file, "# name identity: written by umpathd")?;
        for (id, name) in &self.bound {
            writeln!(file, "{name} {id}")?;
        }
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_with_its_identity() {
        let folder = std::env::temp_dir().join(format!("umpathd-names-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let free = |_: &str| false;
        let mut names = Names::load(&folder).unwrap();
        assert_eq!(names.name("uuid.b", None, &free), "vol1");
        assert_eq!(names.name("uuid.a", None, &free), "vol2");
        assert_eq!(names.name("uuid.c", Some("db"), &free), "db");
        let mut again = Names::load(&folder).unwrap();
        assert_eq!(again.name("uuid.a", None, &free), "vol2");
        assert_eq!(again.name("uuid.d", None, &free), "vol3");
        assert_eq!(
            again.name("uuid.e", Some("db"), &|name| name == "db"),
            "vol4"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
