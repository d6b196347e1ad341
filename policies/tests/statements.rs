//! docs/policies.md names a test for every statement it makes; each of them must exist.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names of functions that stand right under `#[test]`.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for (_, after) in text
                .match_indices("#[test]")
                .map(|(at, it)| text.split_at(at + it.len()))
            {
                let name = after.trim_start().strip_prefix("fn ");
                found.extend(
                    name.and_then(|name| name.split_once('('))
                        .map(|(name, _)| name.to_owned()),
                );
            }
        }
    }
}

#[test]
fn every_statement_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut tests = BTreeSet::new();
    for folder in ["policies", "paths", "tools"] {
        tests_below(&root.join(folder), &mut tests);
    }
    let text = fs::read_to_string(root.join("docs/policies.md")).unwrap();
    let (_, table) = text.split_once("<!-- statements -->").unwrap();
    let (table, _) = table.split_once("<!-- end of statements -->").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut named = 0;
    for row in rows {
        let (_, cell) = row.trim_end_matches([' ', '|']).rsplit_once(" | ").unwrap();
        for name in cell.split(", ").map(|name| name.trim_matches('`')) {
            assert!(tests.contains(name), "no test {name}: {row}");
            named += 1;
        }
    }
    assert!(named >= 50, "{named} tests are named");
}
