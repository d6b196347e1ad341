//! What the lint says: where, what is the matter, why, and what to write instead.

use serde::Serialize;

use crate::rule::{Rule, Severity};

/// Findings kept of one file. A file with more mistakes than this is not a multipath.conf.
const FINDINGS_MAX: usize = 5000;

/// One thing worth knowing about the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The line it is about; none: the file as a whole.
    pub line: Option<u32>,
    /// How bad it is.
    pub severity: Severity,
    /// Which rule found it.
    pub rule: Rule,
    /// What is the matter and why.
    pub cause: String,
    /// What to do.
    pub correction: String,
}

impl std::fmt::Display for Finding {
    /// `12: warning: alua-on-nvme: cause; correction`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{} [{}]: {}", self.severity, self.rule, self.cause)?;
        if !self.correction.is_empty() {
            write!(f, "\n    {}", self.correction)?;
        }
        Ok(())
    }
}

/// Findings as they come.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    left_out: usize,
}

impl Findings {
    /// Adds one.
    pub(crate) fn add(
        &mut self,
        rule: Rule,
        line: impl Into<Option<u32>>,
        cause: impl Into<String>,
        correction: impl Into<String>,
    ) {
        if self.list.len() >= FINDINGS_MAX {
            self.left_out += 1;
            return;
        }
        self.list.push(Finding {
            line: line.into(),
            severity: rule.severity(),
            rule,
            cause: cause.into(),
            correction: correction.into(),
        });
    }

    /// All of them in the order of lines, those about the whole file first.
    pub(crate) fn sorted(mut self) -> Vec<Finding> {
        if self.left_out > 0 {
            self.list.push(Finding {
                line: None,
                severity: Rule::TooManyFindings.severity(),
                rule: Rule::TooManyFindings,
                cause: format!("{} more findings are not shown", self.left_out),
                correction: "check that this is a multipath.conf".to_owned(),
            });
        }
        self.list.sort_by_key(|finding| finding.line);
        self.list.dedup();
        self.list
    }
}
