//! Files that a crash leaves either as they were or as they are to be.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

/// Writes `value` as JSON, as [`write`] does.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    write(path, serde_json::to_string_pretty(value)?.as_bytes())
}

/// A new file takes the old one's place, and both file and folder are on disk when this returns.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let put = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    };
    put().with_context(|| format!("cannot write {}", path.display()))
}

/// Files in force in a folder of JSON files, in the order of their names.
pub(crate) fn json_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|known| known == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    };
    list().with_context(|| format!("cannot read {}", dir.display()))
}
