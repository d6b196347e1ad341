//! What a run of the ghost drill showed, and whether it passed.

use serde::Serialize;

/// How umpathd describes a fence by time.
pub(super) const BY_TIME: &str = "by time";

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct GhostRun {
    pub(super) title: String,
    pub(super) fencing: bool,
    #[serde(skip)]
    pub(super) fence_expected: &'static str,
    /// Attempts until there was a ghost.
    pub(super) attempts: u32,
    /// How long the primary held the write.
    pub(super) late_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<Seen>,
    pub(super) error: String,
}

/// Observations of one attempt.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seen {
    /// Time until value 2 was acknowledged.
    pub(super) resent_ms: u64,
    /// Time until value 3 was acknowledged.
    pub(super) overwrite_ms: u64,
    /// The block's value right after that.
    pub(super) read_at_once: u64,
    /// The block's value after the ghost's time.
    pub(super) read_late: u64,
    /// The proof of fencing as umpathd logged it.
    pub(super) fenced_by: String,
    /// Whether the primary logged that it did not execute its copy.
    pub(super) refused: bool,
}

impl Seen {
    /// The run tested no fence. A fence by reset would itself end the ghost.
    pub(super) fn no_ghost(&self, fencing: bool, fence_expected: &str) -> bool {
        if fencing {
            self.refused && fence_expected == BY_TIME
        } else {
            self.read_late == 3
        }
    }
}

impl GhostRun {
    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// Whether the run passed, and a description of it.
    pub(super) fn verdict(&self) -> (bool, String) {
        let Some(seen) = &self.seen else {
            return (false, self.error.clone());
        };
        let words = format!(
            "fenced {}; value 2 acknowledged after {} ms, value 3 after {} ms; the block held {} \
             then and {} after the ghost's time",
            seen.fenced_by, seen.resent_ms, seen.overwrite_ms, seen.read_at_once, seen.read_late
        );
        let expected = if self.fencing { 3 } else { 2 };
        let fence = !self.fencing || seen.fenced_by.contains(self.fence_expected);
        let blind = seen.no_ghost(self.fencing, self.fence_expected);
        let right = fence && !blind && seen.read_at_once == 3 && seen.read_late == expected;
        let meaning = match (self.fencing, seen.read_late) {
            (true, 3) if fence && blind => "the primary executed nothing, so no fence was needed",
            (true, 3) if fence => "no ghost",
            (true, 3) => "no corruption, but not by the fence under test",
            (true, _) => "CORRUPTED",
            (false, 2) => "corrupted, as expected without fences: the drill detects ghosts",
            (false, _) => {
                "not corrupted although nothing was fenced: the drill cannot detect ghosts"
            }
        };
        (right, format!("{meaning}; {words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(fencing: bool, fence: &'static str, read_late: u64, refused: bool) -> bool {
        let run = GhostRun {
            title: String::new(),
            fencing,
            fence_expected: fence,
            attempts: 1,
            late_ms: 2500,
            seen: Some(Seen {
                resent_ms: 500,
                overwrite_ms: 8000,
                read_at_once: 3,
                read_late,
                fenced_by: fence.to_owned(),
                refused,
            }),
            error: String::new(),
        };
        run.verdict().0
    }

    #[test]
    fn a_run_without_a_ghost_proves_nothing() {
        assert!(passes(true, BY_TIME, 3, false));
        assert!(!passes(true, BY_TIME, 3, true), "it was never executed");
        assert!(passes(true, "by ccr", 3, true), "as the reset wants it");
        assert!(!passes(true, BY_TIME, 2, false), "corrupted");
        assert!(passes(false, BY_TIME, 2, false));
        assert!(!passes(false, BY_TIME, 3, true), "blind");
    }
}
