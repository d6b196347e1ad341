//! Source files that no crate compiles.
//!
//! `mod name;` lines lead from every target's root file to further files. Files of a package that
//! are not reached this way are orphans: dead code the compiler never sees.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::files::Source;
use super::{Finding, Package};

pub(super) fn check(packages: &[Package], tree: &[Source]) -> Vec<Finding> {
    let roots = packages
        .iter()
        .flat_map(|package| &package.targets)
        .map(|target| target.src_path.clone());
    let mut reached = BTreeSet::new();
    let mut pending: Vec<PathBuf> = roots.collect();
    let root_files: BTreeSet<PathBuf> = pending.iter().cloned().collect();
    while let Some(path) = pending.pop() {
        let Some(source) = tree.iter().find(|source| source.path == path) else {
            continue;
        };
        if reached.insert(path.clone()) {
            pending.extend(modules(&path, &source.text, root_files.contains(&path)));
        }
    }
    let own: Vec<&Path> = packages
        .iter()
        .filter_map(|package| package.manifest_path.parent())
        .collect();
    tree.iter()
        .filter(|source| {
            source
                .path
                .extension()
                .is_some_and(|extension| extension == "rs")
        })
        .filter(|source| own.iter().any(|dir| source.path.starts_with(dir)))
        .filter(|source| !reached.contains(&source.path))
        .map(|source| Finding {
            file: source.path.clone(),
            words: "no crate compiles this file: declare it with `mod` or remove it".to_owned(),
        })
        .collect()
}

/// The files that a source file's `mod` lines may refer to.
pub(super) fn modules(path: &Path, text: &str, is_root: bool) -> Vec<PathBuf> {
    let Some(dir) = path.parent() else {
        return Vec::new();
    };
    let inside = path
        .file_stem()
        .map(|stem| dir.join(stem))
        .unwrap_or_default();
    let base = if is_root || path.ends_with("mod.rs") {
        dir.to_path_buf()
    } else {
        inside
    };
    let mut files = Vec::new();
    let mut path_attribute: Option<&str> = None;
    for line in text.lines().map(str::trim) {
        if let Some(value) = line
            .strip_prefix("#[path = \"")
            .and_then(|rest| rest.strip_suffix("\"]"))
        {
            path_attribute = Some(value);
        } else if let Some(name) = declared(line) {
            if let Some(file) = path_attribute.take() {
                files.push(dir.join(file));
            } else {
                files.push(base.join(format!("{name}.rs")));
                files.push(base.join(name).join("mod.rs"));
            }
        }
    }
    files
}

/// The name in `mod name;`, `pub mod name;`, `pub(crate) mod name;`.
fn declared(line: &str) -> Option<&str> {
    let name = line.strip_suffix(';')?;
    let (visibility, name) = name.split_once("mod ").unwrap_or(("-", name));
    let visibility = visibility.trim();
    let visible = visibility.is_empty()
        || visibility == "pub"
        || (visibility.starts_with("pub(") && visibility.ends_with(')'));
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (visible && plain && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;

    #[test]
    fn declarations_are_read() {
        assert_eq!(declared("mod a;"), Some("a"));
        assert_eq!(declared("pub mod a_b;"), Some("a_b"));
        assert_eq!(declared("pub(crate) mod a;"), Some("a"));
        assert_eq!(declared("mod a {"), None);
        assert_eq!(declared("let x = 5;"), None);
        assert_eq!(declared("// mod a;"), None);
    }

    #[test]
    fn unreachable_files_are_orphans() {
        let files = [
            ("/r/p/src/lib.rs", "mod a;\n#[path = \"odd.rs\"]\nmod b;"),
            ("/r/p/src/a.rs", "mod c;"),
            ("/r/p/src/a/c.rs", ""),
            ("/r/p/src/odd.rs", ""),
            ("/r/p/src/lost.rs", ""),
            ("/r/p/tests/t.rs", "mod shared;"),
            ("/r/p/tests/shared/mod.rs", ""),
        ];
        let tree = files.map(|(path, text)| Source {
            path: path.into(),
            text: text.to_owned(),
        });
        let targets = ["/r/p/src/lib.rs", "/r/p/tests/t.rs"].map(|path| Target {
            src_path: path.into(),
        });
        let package = Package {
            name: "p".to_owned(),
            manifest_path: "/r/p/Cargo.toml".into(),
            dependencies: Vec::new(),
            targets: targets.into(),
        };
        let lost: Vec<_> = check(&[package], &tree)
            .into_iter()
            .map(|finding| finding.file)
            .collect();
        assert_eq!(lost, [PathBuf::from("/r/p/src/lost.rs")]);
    }
}
