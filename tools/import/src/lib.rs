//! Reads multipath.conf and writes umpath.toml.
//!
//! Decided here: what each setting of dm-multipath becomes, and what is said about it. Two readings
//! are offered: *literal* is what multipathd does with the file, *intended* what its author evidently
//! meant; where they differ, the lint says why. The whole file is read whatever is wrong with it.
//! Not decided here: where files are read from and written to, which is the command line's affair.
//!
//! Text in, text out: no file, no clock, and nothing that a hostile file could make grow beyond a
//! multiple of its size. The order is `lines`, `lexer`, `statement`, `grammar` (the file as read),
//! `repair` (intended only), `merge`, `hardware` and `resolve` (what holds), `translate`, `ignore` and
//! `plan` (our keys), `toml`; `lint` looks on. `understood` is how all that is compared with `multipath -t`.

#![forbid(unsafe_code)]

mod document;
mod features;
mod finding;
mod grammar;
mod hardware;
mod ignore;
mod keyword;
mod lexer;
mod lines;
mod lint;
mod merge;
mod pattern;
mod plan;
mod repair;
mod resolve;
mod rule;
mod statement;
mod toml;
mod translate;
mod understood;
mod volume;

pub use finding::Finding;
pub use rule::{Rule, Severity};
pub use understood::{Understood, UnderstoodFilters};

use finding::Findings;
use plan::Plan;

/// No multipath.conf is larger than this.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;

/// How the file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// What multipathd does with it.
    #[default]
    Literal,
    /// What a person evidently means by it.
    Intended,
}

/// What came of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Our configuration; none where there is nothing to write: multipathd refuses the file and that is
    /// what was asked for, or it is no configuration at all.
    pub toml: Option<String>,
    /// What is worth knowing, in the order of lines.
    pub findings: Vec<Finding>,
}

/// Reads a multipath.conf, with the bindings file if there is one.
pub fn import(text: &[u8], bindings: Option<&[u8]>, mode: Mode) -> Import {
    let mut findings = Findings::default();
    if text.len() > BYTES_MAX || bindings.is_some_and(|text| text.len() > BYTES_MAX) {
        let cause = format!("more than {} MiB are not read", BYTES_MAX / 1024 / 1024);
        findings.add(
            Rule::TooLarge,
            None,
            cause,
            "check that this is a multipath.conf",
        );
        return Import {
            toml: None,
            findings: findings.sorted(),
        };
    }
    let outcome = read(text, bindings, mode, &mut findings);
    if outcome.refused {
        findings.add(
            Rule::FileRefused,
            None,
            "multipathd does not start with this file",
            "correct the lines below; --mode intended leaves them out",
        );
    }
    if outcome.refused && mode == Mode::Literal {
        return Import {
            toml: None,
            findings: findings.sorted(),
        };
    }
    if mode == Mode::Literal {
        let intended = read(text, bindings, Mode::Intended, &mut Findings::default());
        for difference in outcome.plan.differences(&intended.plan) {
            findings.add(
                Rule::IntendedDiffers,
                None,
                format!("--mode intended: {difference}"),
                String::new(),
            );
        }
    }
    Import {
        toml: Some(outcome.plan.to_toml(mode)),
        findings: findings.sorted(),
    }
}

struct Outcome {
    plan: Plan,
    refused: bool,
}

fn read(text: &[u8], bindings: Option<&[u8]>, mode: Mode, findings: &mut Findings) -> Outcome {
    let as_read = grammar::parse(text, mode, findings);
    let mut document = as_read.clone();
    if mode == Mode::Intended {
        repair::repair(&mut document, findings);
    }
    merge::merge(&mut document, findings);
    let devices = hardware::devices(&document);
    lint::lint(&as_read, &document, &devices, findings);
    let plan = plan::plan(&document, &devices, bindings, mode, findings);
    Outcome {
        plan,
        refused: document.refused,
    }
}

/// A keyword of multipath.conf for documents about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeywordFact {
    /// As the file spells it.
    pub name: &'static str,
    /// Sections it may stand in.
    pub places: String,
    /// What becomes of it, in Markdown.
    pub fate: String,
}

/// Every keyword but those that open sections.
pub fn keywords() -> Vec<KeywordFact> {
    let fact = |keyword: &keyword::Keyword| KeywordFact {
        name: keyword.name,
        places: keyword.places(),
        fate: match keyword.fate {
            keyword::Fate::Becomes(what) => what.to_owned(),
            keyword::Fate::NotNeeded(why) => format!("not needed: {why}"),
            keyword::Fate::Missing(why) => format!("missing: {why}"),
        },
    };
    keyword::KEYWORDS.iter().map(fact).collect()
}
