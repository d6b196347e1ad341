//! Every file of the corpus, compared with the expected result and with multipath-tools itself.
//!
//! `NAME.expected` holds our result for `NAME.conf`: run with `UMPATH_BLESS=1` to rewrite it, and
//! review the diff. `NAME.seen` holds what `multipath -t` of multipath-tools 0.14.3 printed for it
//! beyond its output without a file; `builtin.t` is the part of the latter that matters for NVMe.
//! They were captured with `UMPATH_SEEN=DIRECTORY`, a directory of such outputs (`NAME.t`, the exit
//! status in `NAME.rc`, the output without a file in `BASE.t`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use umpath_import::{Mode, Rule, Understood, import};

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Our result for a file, in reviewable form.
fn shown(path: &Path) -> String {
    let text = fs::read(path).unwrap();
    let bindings = fs::read(path.with_extension("bindings")).ok();
    let [literal, intended] =
        [Mode::Literal, Mode::Intended].map(|mode| import(&text, bindings.as_deref(), mode));
    let body = |toml: &Option<String>| match toml {
        Some(toml) => toml
            .split_once('\n')
            .unwrap_or_default()
            .1
            .trim()
            .to_owned(),
        None => "(nothing is written)".to_owned(),
    };
    let mut out = format!("== literal\n{}\n", body(&literal.toml));
    if body(&literal.toml) == body(&intended.toml) {
        out.push_str("== intended: the same\n");
    } else {
        let _ = writeln!(out, "== intended\n{}", body(&intended.toml));
    }
    out.push_str("== lint\n");
    for finding in &literal.findings {
        let _ = writeln!(out, "{finding}");
    }
    let more = intended
        .findings
        .iter()
        .filter(|finding| !literal.findings.contains(finding));
    let more: Vec<_> = more.map(ToString::to_string).collect();
    if !more.is_empty() {
        let _ = writeln!(out, "== lint, intended only\n{}", more.join("\n"));
    }
    out
}

#[test]
fn every_file_gives_what_was_expected() {
    let bless = std::env::var_os("UMPATH_BLESS").is_some();
    let files = corpus();
    assert!(files.len() >= 60, "{} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let expected = path.with_extension("expected");
        let shown = shown(&path);
        if bless {
            fs::write(&expected, &shown).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", name(&path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_result_is_toml_and_every_keyword_and_rule_is_met() {
    let mut words = BTreeSet::new();
    let mut rules = BTreeSet::new();
    for path in corpus() {
        let text = fs::read(&path).unwrap();
        let lossy = String::from_utf8_lossy(&text);
        words.extend(lossy.split_whitespace().map(str::to_owned));
        let bindings = fs::read(path.with_extension("bindings")).ok();
        for mode in [Mode::Literal, Mode::Intended] {
            let import = import(&text, bindings.as_deref(), mode);
            rules.extend(import.findings.iter().map(|finding| finding.rule.name()));
            if let Some(toml) = import.toml {
                let parsed = toml.parse::<toml::Table>();
                assert!(parsed.is_ok(), "{}: {parsed:?}\n{toml}", name(&path));
            }
        }
    }
    for keyword in umpath_import::keywords() {
        assert!(words.contains(keyword.name), "no file has {}", keyword.name);
    }
    // Files that trigger these are generated in other tests.
    let elsewhere = [Rule::TooLarge, Rule::TooManyFindings];
    for rule in Rule::ALL.iter().filter(|rule| !elsewhere.contains(rule)) {
        assert!(rules.contains(rule.name()), "no file meets {rule}");
    }
}

/// Files on which multipath-tools 0.14.3 crashes or hangs; we report them as refused.
const BEYOND_IT: &[&str] = &["polling-unreadable", "polling-zero"];

/// Most builds do not include Fibre Channel listeners.
const COMPILED_OUT: &[&str] = &["marginal-fpin"];

#[test]
fn multipathd_understands_the_same() {
    let folder = std::env::var_os("UMPATH_SEEN").map(PathBuf::from);
    let builtin_path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/builtin.t");
    let builtin = Understood::from_output(&fs::read_to_string(builtin_path).unwrap());
    let mut wrong = Vec::new();
    for path in corpus() {
        let name = name(&path);
        if BEYOND_IT.contains(&name.as_str()) || COMPILED_OUT.contains(&name.as_str()) {
            continue;
        }
        if let Some(folder) = &folder {
            capture(folder, &path);
        }
        let seen = fs::read_to_string(path.with_extension("seen")).unwrap_or_default();
        let ours = Understood::from_file(&fs::read(&path).unwrap(), &builtin);
        let ours = ours.map_or("refused".to_owned(), |ours| ours.since(&builtin).join("\n"));
        if ours.trim() != seen.trim() {
            wrong.push(format!("{name}\nmultipathd:\n{seen}\nwe:\n{ours}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn capture(folder: &Path, path: &Path) {
    let read = |name: &str| {
        let bytes = fs::read(folder.join(name)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let name = name(path);
    let seen = if read(&format!("{name}.rc")).trim() == "0" {
        let base = Understood::from_output(&read("BASE.t"));
        let seen = Understood::from_output(&read(&format!("{name}.t")));
        seen.since(&base).join("\n") + "\n"
    } else {
        "refused\n".to_owned()
    };
    fs::write(path.with_extension("seen"), seen).unwrap();
}
