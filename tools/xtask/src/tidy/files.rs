//! Rules for sizes, names and words of files.
//!
//! Size counts lines outside the trailing `#[cfg(test)]` module: tests may be of any length. File
//! names that do not describe the content are rejected, and so are paths that exist on one machine
//! only.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Finding;

const LINES_MAX: usize = 600;
const EMPTY_NAMES: [&str; 8] = [
    "util",
    "utils",
    "common",
    "helper",
    "helpers",
    "misc",
    "utilities",
    "stuff",
];
const EXTENSIONS: [&str; 9] = [
    "rs", "toml", "md", "sh", "yml", "yaml", "service", "rules", "conf",
];
/// Split strings, so that this file does not match itself.
const FORBIDDEN: [(&str, &str); 2] = [
    (concat!("..", "/shared"), "points outside the repository"),
    (concat!("/wo", "rk/"), "is a path of one machine"),
];

/// A text file of the tree.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Reads all text files except those in hidden and build directories.
pub(super) fn tree(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        let entries =
            fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                let kept = name == ".ci" || name == ".cargo" || !name.starts_with('.');
                if kept && path != root.join("target") && !path.join("CACHEDIR.TAG").exists() {
                    pending.push(path);
                }
            } else if kind.is_file()
                && is_text(&path)
                && let Ok(text) = fs::read_to_string(&path)
            {
                sources.push(Source { path, text });
            }
        }
    }
    Ok(sources)
}

fn is_text(path: &Path) -> bool {
    match path.extension() {
        Some(extension) => EXTENSIONS.iter().any(|known| extension == *known),
        None => path
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|dir| dir == ".ci"),
    }
}

pub(super) fn check(tree: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree {
        let mut report = |words| {
            findings.push(Finding {
                file: source.path.clone(),
                words,
            });
        };
        if source
            .path
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            let lines = lines_without_tests(&source.text);
            if lines > LINES_MAX {
                report(format!(
                    "{lines} lines without tests, over the limit of {LINES_MAX}: split it"
                ));
            }
            if let Some(name) = empty_name(&source.path) {
                report(format!(
                    "`{name}` does not describe the content: name what it does"
                ));
            }
            if !source.text.trim_start().starts_with("//!") {
                report("starts without a module head (//!): say what is decided here".to_owned());
            }
        }
        for (number, line) in source.text.lines().enumerate() {
            for (words, why) in FORBIDDEN {
                if line.contains(words) {
                    report(format!("line {}: `{words}` {why}", number + 1));
                }
            }
        }
    }
    findings
}

fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        matches!(pair, [attribute, module]
            if *attribute == "#[cfg(test)]" && module.starts_with("mod ") && module.ends_with('{'))
    });
    tests.unwrap_or(lines.len())
}

fn empty_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    let dir = path.parent()?.file_name()?.to_string_lossy().into_owned();
    [stem, dir]
        .into_iter()
        .find(|name| EMPTY_NAMES.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str, text: &str) -> Vec<String> {
        let source = Source {
            path: path.into(),
            text: text.to_owned(),
        };
        check(&[source])
            .into_iter()
            .map(|finding| finding.words)
            .collect()
    }

    #[test]
    fn tests_do_not_count_as_lines() {
        let body = "//! Head.\n".to_owned() + &"fn f() {}\n".repeat(590);
        let tests = "#[cfg(test)]\nmod tests {\n".to_owned() + &"// t\n".repeat(500) + "}\n";
        assert!(words("a/x.rs", &(body.clone() + &tests)).is_empty());
        assert_eq!(
            words("a/x.rs", &(body + &"fn f() {}\n".repeat(10))).len(),
            1
        );
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        assert_eq!(words("a/util.rs", "//! Head.\n").len(), 1);
        assert_eq!(words("a/helpers/mod.rs", "//! Head.\n").len(), 1);
        assert!(words("a/arena.rs", "//! Head.\n").is_empty());
    }

    #[test]
    fn machine_paths_are_found_in_every_text() {
        let line = format!("see {}/x", FORBIDDEN[0].0);
        assert_eq!(words("docs/x.md", &line).len(), 1);
        assert_eq!(
            words("docs/x.md", &format!("cd {}main", FORBIDDEN[1].0)).len(),
            1
        );
    }

    #[test]
    fn a_head_is_asked_for() {
        assert_eq!(words("a/x.rs", "fn f() {}\n").len(), 1);
    }
}
