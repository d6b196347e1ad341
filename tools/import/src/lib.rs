//! Reads multipath.conf and writes umpath.toml.
//!
//! Decided here: what each setting of dm-multipath becomes, and which findings are reported. There
//! are two readings: *literal* is what multipathd does with the file, *intended* what its author
//! evidently meant; where they differ, the lint says why. The whole file is read, whatever is wrong
//! with it. Not decided here: where files are read from and written to; the command line decides
//! that.
//!
//! Text in, text out: no file, no clock, and memory limited to a multiple of the input's size. The
//! stages are `lines`, `lexer`, `statement`, `grammar` (the file as read), `repair` (intended
//! only), `merge`, `hardware` and `resolve` (the settings in force), `translate`, `ignore` and
//! `plan` (our keys), `toml`; `lint` reports findings. `understood` compares the result with
//! `multipath -t`.

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

/// Upper bound for the size of a multipath.conf.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;

/// How to interpret the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// As multipathd does.
    #[default]
    Literal,
    /// As its author evidently meant it.
    Intended,
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The configuration; `None` if there is nothing to write: multipathd refuses the file and
    /// literal mode was requested, or it is not a configuration at all.
    pub toml: Option<String>,
    /// Findings sorted by line.
    pub findings: Vec<Finding>,
}

/// Imports a multipath.conf, with the bindings file if there is one.
pub fn import(text: &[u8], bindings: Option<&[u8]>, mode: Mode) -> Import {
    let mut findings = Findings::default();
    if text.len() > BYTES_MAX || bindings.is_some_and(|text| text.len() > BYTES_MAX) {
        let cause = format!(
            "the file is larger than {} MiB and was not read",
            BYTES_MAX / 1024 / 1024
        );
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

/// A keyword of multipath.conf, for documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeywordFact {
    /// The keyword as spelled in the file.
    pub name: &'static str,
    /// Sections that allow it.
    pub places: String,
    /// What becomes of it, in Markdown.
    pub fate: String,
}

/// All keywords except those that open sections.
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
