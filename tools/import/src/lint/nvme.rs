//! Rules about SCSI settings that have no effect on NVMe.

use super::Place;
use crate::document::Setting;
use crate::finding::Findings;
use crate::rule::Rule;

/// Prioritizers that read SCSI pages.
const SCSI_PRIOS: &[&str] = &[
    "sysfs", "emc", "rdac", "hp_sw", "hds", "ontap", "datacore", "iet",
];

/// The other prioritizers.
const OTHER_PRIOS: &[&str] = &[
    "const",
    "none",
    "ana",
    "alua",
    "random",
    "weightedpath",
    "path_latency",
];

pub(super) fn lint(place: &Place<'_>, findings: &mut Findings) {
    for setting in place.settings.iter() {
        match setting.keyword.name {
            "prio" => prio(place, setting, findings),
            "prio_args" => prio_args(place, setting, findings),
            "hardware_handler" if setting.value.text.trim() != "0" => findings.add(
                Rule::HandlerOnNvme,
                setting.line,
                format!(
                    "hardware_handler {:?} does nothing: multipath -ll shows hwhandler='0' on NVMe",
                    setting.value.text
                ),
                "remove the line; umpath follows the controller's ANA states by itself",
            ),
            "fast_io_fail_tmo" => timer(setting, "fast_io_fail_ms", findings),
            "dev_loss_tmo" => timer(setting, "ctrl_loss_tmo_ms", findings),
            "eh_deadline" => findings.add(
                Rule::ScsiOnly,
                setting.line,
                "eh_deadline is a timer of the SCSI error handler",
                "remove the line",
            ),
            "path_checker" | "checker" => findings.add(
                Rule::CheckerOnNvme,
                setting.line,
                format!(
                    "path_checker {:?}: umpath checks every path with heartbeats and carrier events",
                    setting.value.text
                ),
                "heartbeat_ms and heartbeats_missed determine how fast a silent path is detected",
            ),
            "path_grouping_policy" => grouping(setting, findings),
            "marginal_pathgroups" if setting.value.text == "fpin" => findings.add(
                Rule::ScsiOnly,
                setting.line,
                "fpin uses notifications of Fibre Channel fabrics",
                "marginal_pathgroups = true uses flapping paths only as a last resort",
            ),
            _ => {}
        }
    }
}

fn prio(place: &Place<'_>, setting: &Setting, findings: &mut Findings) {
    let name = setting.value.text.as_str();
    let detects = place.text("detect_prio") != Some("no");
    if name == "alua" {
        findings.add(
            Rule::AluaOnNvme,
            setting.line,
            "prio alua queries SCSI target port groups, which NVMe does not have: every path gets priority 1",
            "write prio \"ana\", which gives the same priorities from the controller's ANA log",
        );
    } else if SCSI_PRIOS.contains(&name) {
        findings.add(
            Rule::PrioScsiOnly,
            setting.line,
            format!("prio {name} reads SCSI pages and fails on NVMe"),
            "write prio \"ana\", or \"const\"",
        );
    } else if !OTHER_PRIOS.contains(&name) {
        findings.add(
            Rule::BadValue,
            setting.line,
            format!("there is no prioritizer {name:?}"),
            "write prio \"ana\", or \"const\"",
        );
    } else if matches!(name, "weightedpath" | "random" | "path_latency") {
        findings.add(
            Rule::NoEquivalent,
            setting.line,
            format!("prio {name} has no counterpart that takes its arguments"),
            match name {
                "weightedpath" => {
                    "give weight = N to the [[connect]] entries, and prio = \"weighted\""
                }
                "path_latency" => "the path selector latency chooses by measured latency",
                _ => "write prio \"ana\", or \"const\"",
            },
        );
    }
    if detects && name != "ana" {
        findings.add(
            Rule::DetectPrioWins,
            setting.line,
            format!(
                "prio {name} applies only if the controller does not report ANA: detect_prio is on"
            ),
            "write detect_prio no to apply it everywhere",
        );
    }
}

fn prio_args(place: &Place<'_>, setting: &Setting, findings: &mut Findings) {
    let args = setting.value.text.trim();
    let prio = place.text("prio").unwrap_or("const");
    if args.is_empty() || matches!(prio, "weightedpath" | "path_latency") {
        return;
    }
    let correction = if args.contains("exclusive_pref_bit") {
        "umpath has exclusive_pref_bit = true, with preferred paths set in [[connect]] or [[volume]]"
    } else {
        "remove the line"
    };
    findings.add(
        Rule::PrioArgsUnused,
        setting.line,
        if prio == "alua" {
            format!("prio_args {args:?} is for alua, which is not used on NVMe")
        } else {
            format!("prio {prio} takes no argument {args:?}")
        },
        correction,
    );
}

fn timer(setting: &Setting, key: &str, findings: &mut Findings) {
    findings.add(
        Rule::ScsiOnly,
        setting.line,
        format!(
            "{} {} is set on SCSI devices only",
            setting.keyword.name, setting.value.text
        ),
        format!("umpath's equivalent is {key}; --mode intended sets it"),
    );
}

fn grouping(setting: &Setting, findings: &mut Findings) {
    let (cause, correction) = match setting.value.text.as_str() {
        "group_by_tpg" => (
            "group_by_tpg needs prio alua on all paths: on NVMe multipathd falls back to failover",
            "write path_grouping_policy = \"group_by_ana_group\" in umpath.toml",
        ),
        "group_by_node_name" => (
            "NVMe paths have no target node name: all of them are put in one group",
            "write path_grouping_policy group_by_serial, or group_by_prio",
        ),
        _ => return,
    };
    findings.add(Rule::ScsiOnly, setting.line, cause, correction);
}
