//! How well selectors choose: a small queueing model of paths under a closed loop of requests.
//!
//! Deterministic: integers, a seeded generator, virtual time. The table it prints stands in
//! `docs/policies.md` and is compared with it, so that no number there is from memory. After a change
//! that is meant to move numbers: `UMPATH_UPDATE=1 cargo test -p umpath-policies --test quality`.

mod model;
mod report;
mod scene;

use std::fs;

use report::{Cell, table};
use scene::{SELECTORS, Scene, scenes};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policies.md");
const BEGIN: &str = "<!-- selection quality: made by policies/tests/quality -->\n";
const END: &str = "<!-- end of selection quality -->\n";

fn results() -> Vec<(Scene, Vec<Cell>)> {
    let run = |scene: Scene| {
        let cells = SELECTORS.iter().map(|kind| model::run(scene, *kind));
        let cells = cells.collect();
        (scene, cells)
    };
    scenes().into_iter().map(run).collect()
}

#[test]
fn selection_quality() {
    let results = results();
    let fresh = table(&results);
    println!("{fresh}");
    let document = fs::read_to_string(DOCUMENT).unwrap_or_default();
    let begin = document.find(BEGIN).map(|at| at + BEGIN.len());
    let end = document.find(END);
    let (Some(begin), Some(end)) = (begin, end) else {
        panic!("docs/policies.md has no place for the table");
    };
    if std::env::var_os("UMPATH_UPDATE").is_some() {
        let updated = format!("{}{fresh}{}", &document[..begin], &document[end..]);
        fs::write(DOCUMENT, updated).expect("docs/policies.md can be written");
    } else {
        assert_eq!(
            &document[begin..end],
            fresh,
            "docs/policies.md is not of this code"
        );
    }
    report::judge(&results);
}
