//! The rules of the lint.
//!
//! Decided here: their names, which scripts may rely on, their severity, and one sentence on their
//! meaning, which the migration guide repeats.

use serde::{Serialize, Serializer};

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For information.
    Note,
    /// The file does not do what it seems to.
    Warning,
    /// Part of the file is lost, or multipathd refuses all of it.
    Error,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

macro_rules! rules {
    ($($rule:ident $severity:ident $name:literal $meaning:literal;)+) => {
        /// A rule of the lint.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $meaning] $rule,)+
        }

        impl Rule {
            /// All rules.
            pub const ALL: &[Self] = &[$(Self::$rule),+];

            /// The name, for scripts.
            pub fn name(self) -> &'static str {
                match self { $(Self::$rule => $name),+ }
            }

            /// One sentence for the migration guide.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$rule => $meaning),+ }
            }

            /// Severity of its findings.
            pub fn severity(self) -> Severity {
                match self { $(Self::$rule => Severity::$severity),+ }
            }
        }
    };
}

rules! {
    // The file.
    FileRefused Error "file-refused"
        "multipathd refuses to start with this file";
    TooLarge Error "too-large"
        "the file is larger than any multipath.conf";
    TooManyFindings Warning "too-many-findings"
        "there are more findings than shown";
    // Lines.
    LineTooLong Warning "line-too-long"
        "multipathd reads 1,023 bytes and treats the rest as another line";
    LineCutOff Warning "line-cut-off"
        "multipathd ignores what follows a zero byte or a carriage return";
    ExtraWords Warning "extra-words"
        "multipathd ignores what follows a value on the same line";
    MissingQuote Warning "missing-quote"
        "a string is not closed on its line";
    MissingValue Error "missing-value"
        "a keyword without a value is ignored";
    NotParsed Error "not-parsed"
        "the line is not a keyword with a value";
    // Sections.
    MissingBrace Warning "missing-brace"
        "the { is not on the line of its section";
    UnmatchedBrace Warning "unmatched-brace"
        "a } without a matching {";
    UnclosedSection Warning "unclosed-section"
        "the file ends inside a section";
    UnknownKeyword Warning "unknown-keyword"
        "no such keyword, or not in this section";
    UnknownSection Error "unknown-section"
        "no such section; its closing brace closes the enclosing section";
    DuplicateKeyword Warning "duplicate-keyword"
        "a keyword is given twice in one section; the last one counts";
    // Values.
    BadValue Error "bad-value"
        "multipathd ignores a value it cannot parse";
    ValueCapped Warning "value-capped"
        "a number out of bounds is moved to the nearest bound";
    ZeroIsUnset Warning "zero-is-unset"
        "zero counts as unset, so the next less specific setting applies";
    BadPattern Error "bad-pattern"
        "the C library rejects the regular expression";
    GlobNotPattern Warning "glob-not-pattern"
        "names are regular expressions: x* is any number of x, not anything that begins with x";
    Deprecated Note "deprecated"
        "current multipathd ignores the keyword, or reads it as another";
    // Devices.
    DeviceWithoutProduct Error "device-without-product"
        "multipathd drops a device section without vendor or product";
    ProtocolWithoutType Error "protocol-without-type"
        "multipathd drops a protocol section without type";
    VendorNotNvme Warning "vendor-not-nvme"
        "the vendor of every NVMe device is the word NVME; this section is for other devices";
    DuplicateDevice Warning "duplicate-device"
        "two device sections name the same hardware; the later one counts, key by key";
    RevisionNeverMatches Note "revision-ignored"
        "multipathd does not check the revision of NVMe devices";
    BuiltinWins Warning "builtin-wins"
        "multipathd's own device section for NVMe overrides defaults";
    // Not available on NVMe.
    AluaOnNvme Warning "alua-on-nvme"
        "ALUA is for SCSI; on NVMe prio alua falls back to const and every path gets priority 1";
    PrioScsiOnly Warning "prio-scsi-only"
        "the prioritizer reads SCSI pages that NVMe devices do not have";
    DetectPrioWins Note "detect-prio-wins"
        "detect_prio is on: if the controller reports ANA, prio ana replaces the configured one";
    PrioArgsUnused Warning "prio-args-unused"
        "the prioritizer in use takes no such argument";
    HandlerOnNvme Warning "hardware-handler-on-nvme"
        "hardware handlers are for SCSI; NVMe maps have none";
    ScsiOnly Warning "scsi-only"
        "multipathd does this for SCSI devices only";
    CheckerOnNvme Note "checker-on-nvme"
        "umpath checks every path with heartbeats and carrier events, whatever the path checker";
    // Dropped from the kernel.
    RepeatCountIgnored Warning "repeat-count-ignored"
        "since Linux 4.6 the kernel switches paths after every request, whatever rr_min_io says";
    RrMinIoUnused Warning "rr-min-io-unused"
        "request-based maps read rr_min_io_rq, not rr_min_io";
    RrWeightUnused Warning "rr-weight-unused"
        "rr_weight changes rr_min_io, so it needs round-robin";
    QueueIfNoPath Note "queue-if-no-path"
        "features \"1 queue_if_no_path\" is the old spelling of no_path_retry queue";
    UnknownSelector Error "unknown-selector"
        "the kernel has no such path selector, and the map cannot be made";
    SelectorArguments Note "selector-arguments"
        "arguments of a path selector are not carried over";
    // Volumes.
    MultipathWithoutWwid Error "multipath-without-wwid"
        "multipathd drops a multipath section without wwid";
    DuplicateMultipath Warning "duplicate-multipath"
        "two multipath sections for one wwid; the later one counts, key by key";
    WwidNotNvme Note "wwid-not-nvme"
        "no NVMe namespace has such an identity; the entry is left out";
    AliasRefused Warning "alias-refused"
        "the name is not valid in umpath";
    DuplicateAlias Error "duplicate-alias"
        "two volumes have one name; the first one keeps it";
    BadBinding Warning "bad-binding"
        "the line of the bindings file is not a name and an identity";
    // Filters.
    NvmeBlacklisted Warning "nvme-blacklisted"
        "the blacklist covers NVMe devices: multipathd ignores them";
    FilterMatchesNothing Warning "filter-matches-nothing"
        "the pattern matches no device name";
    FilterNotNeeded Note "filter-not-needed"
        "umpath uses only what it is configured to connect, so the filter is not needed";
    FilterCarried Note "filter-carried"
        "the filter becomes an [[ignore]] entry";
    FilterLeftOut Warning "filter-left-out"
        "the filter concerns NVMe, but umpath.toml cannot express it";
    // Different in umpath.
    NotNeeded Note "not-needed"
        "umpath does not need this setting";
    NoEquivalent Warning "no-equivalent"
        "umpath has nothing like this setting";
    Damping Note "damping"
        "one mechanism of umpath replaces delay_*_checks, san_path_err_* and marginal_path_*";
    UnsaidDefault Note "unsaid-default"
        "the file does not set it, so multipathd's default is written";
    OutOfRange Warning "out-of-range"
        "umpath's bounds are narrower; the nearest bound is written";
    Intended Note "intended"
        "the evident meaning is used instead of what multipathd does";
    IntendedDiffers Note "intended-differs"
        "the result differs with --mode intended";
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_joined_with_dashes_and_unique() {
        let mut names: Vec<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        let proper = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(names.iter().all(proper));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
