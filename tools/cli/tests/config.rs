//! `umpath config` together with the umpathd it runs. If only this package was built, there is no
//! umpathd and the tests are skipped.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory for this test; `None` if no umpathd was built.
fn folder(name: &str) -> Option<PathBuf> {
    let umpathd = Path::new(env!("CARGO_BIN_EXE_umpath")).with_file_name("umpathd");
    if !umpathd.exists() {
        eprintln!("skipped: there is no {}", umpathd.display());
        return None;
    }
    let folder = std::env::temp_dir().join(format!("umpath-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    Some(folder)
}

fn umpath(words: &[&str]) -> (Option<i32>, String) {
    let outcome = Command::new(env!("CARGO_BIN_EXE_umpath"))
        .args(words)
        .output()
        .unwrap();
    (
        outcome.status.code(),
        String::from_utf8(outcome.stdout).unwrap(),
    )
}

#[test]
fn mistakes_are_named_with_file_and_line() {
    let Some(folder) = folder("check") else {
        return;
    };
    let file = folder.join("umpath.toml");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "[defaults]\nretry_count = 9\nkato = 1\n").unwrap();
    let (status, words) = umpath(&["config", "check", name]);
    assert_eq!(status, Some(1));
    assert!(words.contains(&format!("{name}:2: retry_count")), "{words}");
    assert!(
        words.contains(&format!("{name}:3: unknown field")),
        "{words}"
    );
    let (status, words) = umpath(&["config", "check", name, "-o", "json"]);
    assert_eq!(status, Some(1));
    let answer: serde_json::Value = serde_json::from_str(&words).unwrap();
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["mistakes"].as_array().unwrap().len(), 2);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(umpath(&["config", "check", name]).0, Some(1));
}

#[test]
fn the_defaults_are_a_file_in_order() {
    let Some(folder) = folder("defaults") else {
        return;
    };
    let (status, defaults) = umpath(&["config", "show", "--defaults"]);
    assert_eq!(status, Some(0));
    let file = folder.join("umpath.toml");
    std::fs::write(&file, &defaults).unwrap();
    let checked = umpath(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(checked, (Some(0), "ok\n".to_owned()));
    std::fs::remove_dir_all(&folder).unwrap();
}
