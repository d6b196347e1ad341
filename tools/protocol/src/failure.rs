//! Failures in user-facing form: what failed, why, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A failure in three parts. `what` is never empty; `why` and `fix` may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed; names objects as the user named them.
    pub what: String,
    /// Why, if known.
    pub why: String,
    /// What to do: a command to run or a setting to change.
    pub fix: String,
}

impl Failure {
    /// A failure with its cause and remedy.
    pub fn new(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        if !self.fix.is_empty() {
            write!(f, "\n  fix: {}", self.fix.replace('\n', "\n       "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_why_and_fix() {
        let failure = Failure::new("cannot connect", "no route", "ping it");
        assert_eq!(
            failure.to_string(),
            "cannot connect: no route\n  fix: ping it"
        );
        assert_eq!(Failure::new("gone", "", "").to_string(), "gone");
    }
}
