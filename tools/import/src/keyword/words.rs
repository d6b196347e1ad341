//! The words allowed as values, each with its canonical spelling.

use super::Kind;

pub(super) const MAX: i64 = i32::MAX as i64;

pub(super) type Words = &'static [(&'static str, &'static str)];

pub(super) const GROUPINGS: &[&str] = &[
    "failover",
    "multibus",
    "group_by_serial",
    "group_by_prio",
    "group_by_node_name",
    "group_by_tpg",
];
pub(super) const FAILBACKS: Words = &[
    ("manual", "manual"),
    ("immediate", "immediate"),
    ("followover", "followover"),
];
pub(super) const NO_PATH_RETRIES: Words = &[("fail", "fail"), ("0", "fail"), ("queue", "queue")];
pub(super) const RR_WEIGHTS: Words = &[("priorities", "priorities"), ("uniform", "uniform")];
pub(super) const FLUSHES: Words = &[
    ("never", "never"),
    ("always", "always"),
    ("unused", "unused"),
    ("no", "unused"),
    ("0", "unused"),
    ("yes", "always"),
    ("1", "always"),
];
pub(super) const OFFS: Words = &[("off", "off"), ("0", "0")];
pub(super) const OFF_OR_TIME: Kind = Kind::BareChoiceOr(OFFS, 1, MAX);
pub(super) const OFF_OR_COUNT: Kind = Kind::ChoiceOr(&[("no", "no"), ("0", "no")], 1, MAX);
pub(super) const MARGINALS: Words = &[
    ("off", "off"),
    ("on", "on"),
    ("fpin", "fpin"),
    ("no", "off"),
    ("0", "off"),
    ("yes", "on"),
    ("1", "on"),
];
pub(super) const RESIZES: Words = &[
    ("never", "never"),
    ("grow_only", "grow_only"),
    ("grow_shrink", "grow_shrink"),
];
pub(super) const FINDS: Words = &[
    ("off", "off"),
    ("on", "on"),
    ("strict", "strict"),
    ("greedy", "greedy"),
    ("smart", "smart"),
    ("no", "off"),
    ("0", "off"),
    ("yes", "on"),
    ("1", "on"),
];
pub(super) const LOGS: Words = &[("once", "once"), ("always", "always")];
pub(super) const MAXIMUM: Words = &[("max", "max")];
pub(super) const VPD_VENDORS: Words = &[("undef", "undef"), ("hp3par", "hp3par")];
pub(super) const PROTOCOLS: Words = &[
    ("undef", "undef"),
    ("ccw", "ccw"),
    ("cciss", "cciss"),
    ("scsi:fcp", "scsi:fcp"),
    ("scsi:spi", "scsi:spi"),
    ("scsi:ssa", "scsi:ssa"),
    ("scsi:sbp", "scsi:sbp"),
    ("scsi:srp", "scsi:srp"),
    ("scsi:iscsi", "scsi:iscsi"),
    ("scsi:sas", "scsi:sas"),
    ("scsi:adt", "scsi:adt"),
    ("scsi:ata", "scsi:ata"),
    ("scsi:usb", "scsi:usb"),
    ("scsi:unspec", "scsi:unspec"),
    ("nvme:pcie", "nvme:pcie"),
    ("nvme:rdma", "nvme:rdma"),
    ("nvme:fc", "nvme:fc"),
    ("nvme:tcp", "nvme:tcp"),
    ("nvme:loop", "nvme:loop"),
    ("nvme:apple-nvme", "nvme:apple-nvme"),
    ("nvme:unspec", "nvme:unspec"),
];
