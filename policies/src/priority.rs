//! What a path is worth.
//!
//! The numbers are dm-multipath's `ana` and `alua` prioritizers, preferred bit included, so that
//! configurations and habits carry over. NVMe has no preferred bit on the wire: preference is
//! configured.

use crate::{AnaState, PathFacts, UnknownWord};

/// Worth of a path; more is better. Negative: could not be determined.
pub type Priority = i32;

const PREFERRED: Priority = 80;
const WORDS: &[&str] = &["auto", "ana", "alua", "const", "weighted"];

/// Where priorities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prioritizer {
    /// `ana` when any path reports ANA, else `const`.
    #[default]
    Auto,
    /// ANA state: 50, 10, 1, 1, 0; -1 where the controller reports none. `alua` means this too:
    /// on NVMe the source is the same.
    Ana,
    /// Every path 1.
    Const,
    /// The configured number.
    Weighted,
}

impl Prioritizer {
    /// Understands the configuration's word.
    pub fn parse(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "auto" => Ok(Self::Auto),
            "ana" | "alua" => Ok(Self::Ana),
            "const" => Ok(Self::Const),
            "weighted" => Ok(Self::Weighted),
            _ => Err(UnknownWord {
                expected: "prioritizer",
                word: word.into(),
                known: WORDS,
            }),
        }
    }

    /// The configuration's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ana => "ana",
            Self::Const => "const",
            Self::Weighted => "weighted",
        }
    }

    /// `Auto` settled for these paths; the others as they are.
    #[must_use]
    pub fn settled(self, paths: &[PathFacts]) -> Self {
        match self {
            Self::Auto if paths.iter().any(|path| path.ana.is_some()) => Self::Ana,
            Self::Auto => Self::Const,
            settled => settled,
        }
    }

    /// Worth of `path`. Without `exclusive_pref_bit` an optimized path gains nothing from being
    /// preferred; with it a preferred path always gains 80 and so stands in a class of its own.
    ///
    /// `Auto` must have been [settled](Self::settled); unsettled it looks at this path alone.
    pub fn priority(self, path: &PathFacts, exclusive_pref_bit: bool) -> Priority {
        let base = match self.settled(core::slice::from_ref(path)) {
            Self::Weighted => path.weight,
            Self::Const | Self::Auto => 1,
            Self::Ana => match path.ana {
                Some(AnaState::Optimized) => 50,
                Some(AnaState::NonOptimized) => 10,
                Some(AnaState::Inaccessible | AnaState::Change) => 1,
                Some(AnaState::PersistentLoss) => 0,
                None => return -1,
            },
        };
        let optimized = path.ana == Some(AnaState::Optimized);
        if path.preferred && (exclusive_pref_bit || !optimized) {
            base.saturating_add(PREFERRED)
        } else {
            base
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PathId;

    fn path(ana: Option<AnaState>, preferred: bool) -> PathFacts {
        PathFacts {
            id: PathId(0),
            usable: true,
            ana,
            ana_group: 1,
            controller: None,
            preferred,
            weight: 7,
            marginal: false,
        }
    }

    #[test]
    fn numbers_are_those_of_dm_multipath() {
        let states = [
            (Some(AnaState::Optimized), 50, 50, 130),
            (Some(AnaState::NonOptimized), 10, 90, 90),
            (Some(AnaState::Inaccessible), 1, 81, 81),
            (Some(AnaState::Change), 1, 81, 81),
            (Some(AnaState::PersistentLoss), 0, 80, 80),
            (None, -1, -1, -1),
        ];
        for (state, plain, preferred, exclusive) in states {
            assert_eq!(
                Prioritizer::Ana.priority(&path(state, false), false),
                plain,
                "{state:?}"
            );
            assert_eq!(
                Prioritizer::Ana.priority(&path(state, true), false),
                preferred
            );
            assert_eq!(
                Prioritizer::Ana.priority(&path(state, true), true),
                exclusive
            );
        }
    }

    #[test]
    fn auto_is_ana_only_where_some_controller_reports_it() {
        let none = path(None, false);
        let some = path(Some(AnaState::NonOptimized), false);
        assert_eq!(Prioritizer::Auto.settled(&[none]), Prioritizer::Const);
        assert_eq!(Prioritizer::Auto.settled(&[none, some]), Prioritizer::Ana);
        assert_eq!(Prioritizer::Auto.priority(&none, false), 1);
        assert_eq!(Prioritizer::Weighted.priority(&some, false), 7);
    }

    #[test]
    fn alua_is_ana_by_another_name() {
        assert_eq!(Prioritizer::parse("alua"), Ok(Prioritizer::Ana));
    }

    #[test]
    fn const_is_1_and_a_preferred_path_still_gains_80() {
        for state in [
            None,
            Some(AnaState::Optimized),
            Some(AnaState::NonOptimized),
        ] {
            let path = path(state, false);
            assert_eq!(Prioritizer::Const.priority(&path, true), 1);
        }
        assert_eq!(Prioritizer::Const.priority(&path(None, true), false), 81);
    }

    #[test]
    fn every_word_is_understood_and_others_are_named() {
        for word in WORDS {
            assert!(Prioritizer::parse(word).is_ok(), "{word}");
        }
        let error = Prioritizer::parse("rdac").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown prioritizer 'rdac'; use one of: auto, ana, alua, const, weighted"
        );
    }
}
