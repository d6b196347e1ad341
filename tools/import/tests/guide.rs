//! docs/migrating-from-multipath.md lists every keyword and every rule. `UMPATH_BLESS=1` rewrites
//! its two tables.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use umpath_import::{Rule, keywords};

fn keyword_table() -> String {
    let mut table = String::from("| keyword | in | becomes |\n|---|---|---|\n");
    let mut facts = keywords();
    facts.sort_by_key(|fact| fact.name);
    for fact in facts {
        let _ = writeln!(
            table,
            "| `{}` | {} | {} |",
            fact.name, fact.places, fact.fate
        );
    }
    table
}

fn rule_table() -> String {
    let mut table = String::from("| rule | severity | meaning |\n|---|---|---|\n");
    for rule in Rule::ALL {
        let _ = writeln!(
            table,
            "| `{rule}` | {} | {} |",
            rule.severity(),
            rule.meaning()
        );
    }
    table
}

/// The text between two markers.
fn between<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<!-- {name} -->\n")).unwrap();
    rest.split_once(&format!("<!-- end of {name} -->"))
        .unwrap()
        .0
}

#[test]
fn the_guide_has_every_keyword_and_rule() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/migrating-from-multipath.md");
    let mut text = fs::read_to_string(&path).unwrap();
    for (name, table) in [("keywords", keyword_table()), ("rules", rule_table())] {
        let now = between(&text, name).to_owned();
        if std::env::var_os("UMPATH_BLESS").is_some() {
            text = text.replace(
                &format!("<!-- {name} -->\n{now}<!--"),
                &format!("<!-- {name} -->\n{table}<!--"),
            );
            fs::write(&path, &text).unwrap();
        } else {
            assert_eq!(now, table, "run with UMPATH_BLESS=1");
        }
    }
}
