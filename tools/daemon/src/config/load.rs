//! Reading the configuration: the main file, then `conf.d/*.toml` in name order.
//!
//! Tables are merged key by key and the later file wins; arrays of tables are appended. All
//! mistakes in all files are reported with file and line, not only the first.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::Deserializer;
use toml::{Table, Value};

use super::Config;
use super::parse::File;

/// All mistakes, one line each: `umpath.toml:7: why`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong(Vec<String>);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Wrong {}

/// Reads all files. A missing main file counts as empty.
pub(crate) fn load(main: &Path) -> Result<Config, Wrong> {
    checked(&read(main).map_err(|why| Wrong(vec![why]))?)
}

/// All existing files with their text.
fn read(main: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let mut read = Vec::new();
    for path in files(main)? {
        match std::fs::read_to_string(&path) {
            Ok(text) => read.push((path, text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path == main => {}
            Err(error) => return Err(format!("{}: cannot read it: {error}", path.display())),
        }
    }
    Ok(read)
}

/// Merges all files, in order, into one configuration.
pub(super) fn checked(texts: &[(PathBuf, String)]) -> Result<Config, Wrong> {
    let mut wrong: Vec<(&Path, usize, String)> = Vec::new();
    let mut files = Vec::new();
    for (path, text) in texts {
        let (file, mistakes) = File::parse(path, text);
        wrong.extend(mistakes.into_iter().map(|(line, why)| (&**path, line, why)));
        files.push(file);
    }
    let config = match merged(&files) {
        Ok(config) => config,
        // Merging failed because of a mistake in a file; if there is none, report this error
        // itself.
        Err(why) if wrong.is_empty() => return Err(Wrong(vec![why.to_string()])),
        Err(_) => return Err(in_order(wrong, &files)),
    };
    for mistake in config.mistakes() {
        // A mistake in no file would be one in the defaults, and those are valid.
        let (path, line) = mistake
            .locate(&files)
            .unwrap_or((Path::new("umpath.toml"), 1));
        wrong.push((path, line, mistake.to_string()));
    }
    if wrong.is_empty() {
        Ok(config)
    } else {
        Err(in_order(wrong, &files))
    }
}

/// Sorts mistakes by file in reading order, then by line.
fn in_order(mut wrong: Vec<(&Path, usize, String)>, files: &[File<'_>]) -> Wrong {
    let read_as = |path: &Path| files.iter().position(|file| file.path == path);
    wrong.sort_by_key(|(path, line, _)| (read_as(path), *line));
    let lines = wrong
        .into_iter()
        .map(|(path, line, why)| format!("{}:{line}: {why}", path.display()));
    Wrong(lines.collect())
}

fn merged(files: &[File<'_>]) -> Result<Config, toml::de::Error> {
    let mut merged = Table::new();
    for file in files {
        let table = Table::deserialize(Deserializer::from(file.root.clone()))?;
        merge(&mut merged, table);
    }
    Value::Table(merged).try_into()
}

fn files(main: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = main.parent().unwrap_or(Path::new(".")).join("conf.d");
    let mut found = match std::fs::read_dir(&folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("{}: cannot read it: {error}", folder.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("{}: cannot read it: {error}", folder.display())),
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
        std::fs::write(
            folder.join("conf.d/30.toml"),
            "[defaults]\n\nretry_count = 7\nmax_io_kib = 5\n",
        )
        .unwrap();
        let wrong = load(&main).unwrap_err().to_string();
        let lines: Vec<&str> = wrong.lines().collect();
        let place = |name: &str| folder.join("conf.d").join(name).display().to_string();
        assert_eq!(lines.len(), 3, "{wrong}");
        assert!(
            lines[0].starts_with(&place("20.toml:2: unknown field `kato`")),
            "{wrong}"
        );
        assert!(
            lines[1].starts_with(&place("30.toml:3: retry_count")),
            "{wrong}"
        );
        assert!(
            lines[2].starts_with(&place("30.toml:4: max_io_kib")),
            "{wrong}"
        );
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(load(&main).unwrap(), Config::default());
    }
}
