//! Reading the configuration: the main file, then `conf.d/*.toml` in order of name.
//!
//! Tables are merged key by key, the later file winning; arrays of tables are appended. Each file is
//! parsed on its own first, so that a mistake is named with its file and line.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Config;
use super::mistake::File;

/// Reads everything. A main file that does not exist counts as empty.
pub(crate) fn load(main: &Path) -> Result<Config, String> {
    let files = read(main)?;
    checked(&files)
}

/// Every file there is, with its text.
pub(super) fn read(main: &Path) -> Result<Vec<File>, String> {
    let mut read = Vec::new();
    for path in files(main)? {
        match std::fs::read_to_string(&path) {
            Ok(text) => read.push((path, text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path == main => {}
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        }
    }
    Ok(read)
}

/// One configuration of all files, in order. A mistake is named with file and line.
pub(super) fn checked(files: &[File]) -> Result<Config, String> {
    let config = merged(files)?;
    match config.check() {
        Ok(()) => Ok(config),
        Err(mistake) => Err(match mistake.locate(files) {
            Some(place) => format!("{place}: {mistake}"),
            None => mistake.to_string(),
        }),
    }
}

pub(super) fn merged(files: &[File]) -> Result<Config, String> {
    let mut merged = Table::new();
    for (path, text) in files {
        let named = |error: toml::de::Error| format!("{}: {error}", path.display());
        toml::from_str::<Config>(text).map_err(named)?;
        merge(&mut merged, text.parse().map_err(named)?);
    }
    Value::Table(merged)
        .try_into()
        .map_err(|error| error.to_string())
}

fn files(main: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = main.parent().unwrap_or(Path::new(".")).join("conf.d");
    let mut found = match std::fs::read_dir(&folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("cannot read {}: {error}", folder.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("cannot read {}: {error}", folder.display())),
    };
    found.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    found.sort();
    found.insert(0, main.to_owned());
    Ok(found)
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (Some(Value::Array(into)), Value::Array(from))
                if from.iter().chain(into.iter()).all(Value::is_table) =>
            {
                into.extend(from);
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_add_and_override() {
        let folder = std::env::temp_dir().join(format!("umpathd-load-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("conf.d")).unwrap();
        let main = folder.join("umpath.toml");
        std::fs::write(
            &main,
            "[defaults]\nkato_ms = 800\nheartbeat_ms = 50\n[[connect]]\ncontrollers = [\"10.0.0.1\"]\n",
        )
        .unwrap();
        std::fs::write(
            folder.join("conf.d/10.toml"),
            "[defaults]\nkato_ms = 900\n[[connect]]\ncontrollers = [\"10.0.0.2\"]\n",
        )
        .unwrap();
        std::fs::write(folder.join("conf.d/notes.txt"), "not read").unwrap();
        let config = load(&main).unwrap();
        assert_eq!(config.defaults.kato_ms, 900);
        assert_eq!(config.defaults.heartbeat_ms, 50);
        assert_eq!(config.connect.len(), 2);

        std::fs::write(folder.join("conf.d/20.toml"), "[defaults]\nkato = 1\n").unwrap();
        let error = load(&main).unwrap_err();
        assert!(
            error.contains("20.toml") && error.contains("kato"),
            "{error}"
        );
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(load(&main).unwrap(), Config::default());
    }
}
