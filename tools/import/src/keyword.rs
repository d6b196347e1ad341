//! The keywords of multipath.conf: the sections that allow them, their values, and what becomes of
//! them.
//!
//! Decided here: the vocabulary of the importer. `translate` decides what a value means for umpath.
//! The facts are from multipath.conf(5) and multipathd 0.14.

mod table;
mod value;
mod words;

pub(crate) use table::KEYWORDS;
pub(crate) use value::{Problem, Value, read};

/// A section of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The top level.
    Root,
    /// `defaults`.
    Defaults,
    /// `blacklist`.
    Blacklist,
    /// `blacklist_exceptions`.
    Exceptions,
    /// `device` in either of the two.
    FilterDevice,
    /// `devices`.
    Devices,
    /// `device` in `devices`.
    Device,
    /// `overrides`.
    Overrides,
    /// `protocol` in `overrides`.
    Protocol,
    /// `multipaths`.
    Multipaths,
    /// `multipath` in `multipaths`.
    Multipath,
}

impl Scope {
    /// The section's keyword.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Root => "file",
            Self::Defaults => "defaults",
            Self::Blacklist => "blacklist",
            Self::Exceptions => "blacklist_exceptions",
            Self::Devices => "devices",
            Self::FilterDevice | Self::Device => "device",
            Self::Overrides => "overrides",
            Self::Protocol => "protocol",
            Self::Multipaths => "multipaths",
            Self::Multipath => "multipath",
        }
    }

    /// The section that `word` opens here.
    pub(crate) fn child(self, word: &str) -> Option<Self> {
        Some(match (self, word) {
            (Self::Root, "defaults") => Self::Defaults,
            (Self::Root, "blacklist") => Self::Blacklist,
            (Self::Root, "blacklist_exceptions") => Self::Exceptions,
            (Self::Root, "devices") => Self::Devices,
            (Self::Root, "overrides") => Self::Overrides,
            (Self::Root, "multipaths") => Self::Multipaths,
            (Self::Blacklist | Self::Exceptions, "device") => Self::FilterDevice,
            (Self::Devices, "device") => Self::Device,
            (Self::Overrides, "protocol") => Self::Protocol,
            (Self::Multipaths, "multipath") => Self::Multipath,
            _ => return None,
        })
    }

    /// Whether the section may be opened only once.
    pub(crate) fn is_unique(self) -> bool {
        !matches!(
            self,
            Self::FilterDevice | Self::Device | Self::Protocol | Self::Multipath
        )
    }

    fn bit(self) -> u8 {
        match self {
            Self::Root | Self::Devices | Self::Multipaths => 0,
            Self::Defaults => D,
            Self::Device => H,
            Self::Overrides => O,
            Self::Protocol => P,
            Self::Multipath => M,
            Self::Blacklist | Self::Exceptions => B,
            Self::FilterDevice => F,
        }
    }
}

/// Scopes as bits, for the table: defaults, device, overrides, protocol, multipath, blacklist and
/// its exceptions, and device in those.
const D: u8 = 1;
const H: u8 = 2;
const O: u8 = 4;
const P: u8 = 8;
const M: u8 = 16;
const B: u8 = 32;
const F: u8 = 64;

/// Syntax of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// Text without a slash.
    Name,
    /// Text in which the word at this index is the number of words after it.
    Counted(usize),
    /// `yes`, `no`, `1`, `0`.
    YesNo,
    /// A number; one out of bounds is moved to the bound.
    Number(i64, i64),
    /// A number; zero counts as unset.
    Count,
    /// An unsigned number without bounds.
    Unsigned,
    /// One of these words, each with its canonical spelling.
    Choice(&'static [(&'static str, &'static str)]),
    /// One of these words, or a number within bounds.
    ChoiceOr(&'static [(&'static str, &'static str)], i64, i64),
    /// As `ChoiceOr`, but printed without quotes.
    BareChoiceOr(&'static [(&'static str, &'static str)], i64, i64),
    /// One of these words, or anything that begins with one.
    Prefix(&'static [&'static str]),
    /// A number of seconds, possibly followed by other text, or `infinity`.
    Loss,
    /// Octal file mode.
    Mode,
    /// User or group.
    Owner,
    /// Reservation key; an invalid one makes multipathd refuse the file.
    Key,
    /// Regular expression of a filter; an invalid one makes multipathd refuse the file.
    Filter,
    /// `name:attribute` pairs.
    Pairs,
    /// Read and ignored.
    Ignored,
}

/// What becomes of a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It becomes these keys of `umpath.toml`, or helps to find them.
    Becomes(&'static str),
    /// It is not needed, for this reason.
    NotNeeded(&'static str),
    /// It is useful, but umpath has no equivalent.
    Missing(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Keyword {
    /// The keyword as spelled in the file.
    pub(crate) name: &'static str,
    scopes: u8,
    /// Syntax of its value.
    pub(crate) kind: Kind,
    /// What becomes of it.
    pub(crate) fate: Fate,
}

impl Keyword {
    /// The keyword with this name, in any section.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KEYWORDS.iter().find(|keyword| keyword.name == name)
    }

    /// The keyword with this name in this section.
    pub(crate) fn in_scope(name: &str, scope: Scope) -> Option<&'static Self> {
        Self::named(name).filter(|keyword| keyword.scopes & scope.bit() != 0)
    }

    /// Whether the section may contain it any number of times.
    pub(crate) fn is_repeatable(&self, scope: Scope) -> bool {
        matches!(scope, Scope::Blacklist | Scope::Exceptions) && self.scopes & B != 0
    }

    /// The sections that allow it, for messages.
    pub(crate) fn places(&self) -> String {
        let places = [
            (D, "defaults"),
            (H, "device"),
            (O, "overrides"),
            (P, "protocol"),
            (M, "multipath"),
            (B, "blacklist"),
            (F, "blacklist device"),
        ];
        let names: Vec<_> = places
            .iter()
            .filter(|(bit, _)| self.scopes & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_keyword_is_listed_twice() {
        for (index, keyword) in KEYWORDS.iter().enumerate() {
            let twin = KEYWORDS
                .iter()
                .skip(index + 1)
                .find(|k| k.name == keyword.name);
            assert!(twin.is_none(), "{}", keyword.name);
            assert!(!keyword.places().is_empty(), "{}", keyword.name);
        }
    }

    #[test]
    fn scopes_are_those_of_the_manual_page() {
        assert!(Keyword::in_scope("alias", Scope::Multipath).is_some());
        assert!(Keyword::in_scope("alias", Scope::Defaults).is_none());
        assert!(Keyword::in_scope("hardware_handler", Scope::Device).is_some());
        assert!(Keyword::in_scope("hardware_handler", Scope::Overrides).is_none());
        assert!(Keyword::in_scope("path_checker", Scope::Multipath).is_none());
        assert!(Keyword::in_scope("fast_io_fail_tmo", Scope::Protocol).is_some());
        assert!(Keyword::in_scope("vendor", Scope::FilterDevice).is_some());
        assert!(Keyword::in_scope("devnode", Scope::Devices).is_none());
    }
}
