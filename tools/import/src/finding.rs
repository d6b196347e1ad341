//! Lint findings: where, what is wrong, why, and what to write instead.

use serde::Serialize;

use crate::rule::{Rule, Severity};

/// Maximum number of findings kept per file. A file with more mistakes is not a multipath.conf.
const FINDINGS_MAX: usize = 5000;

/// One finding about the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The line concerned; `None`: the whole file.
    pub line: Option<u32>,
    /// Severity of the rule.
    pub severity: Severity,
    /// The rule that found it.
    pub rule: Rule,
    /// What is wrong and why.
    pub cause: String,
    /// How to correct it.
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

/// Findings in the order they are made.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    left_out: usize,
}

impl Findings {
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

    /// All findings sorted by line, those about the whole file first.
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
