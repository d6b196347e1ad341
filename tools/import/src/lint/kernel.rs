//! Rules about the effect of a setting in the kernel's device mapper.

use super::Place;
use crate::document::Setting;
use crate::features;
use crate::finding::Findings;
use crate::keyword::Scope;
use crate::rule::Rule;
use crate::translate::{io_bounds, selector_name};

pub(super) fn lint(place: &Place<'_>, findings: &mut Findings) {
    let selector = place.text("path_selector").and_then(selector_name);
    let round_robin = selector == Some("round-robin");
    for setting in place.settings.iter() {
        match setting.keyword.name {
            "path_selector" => path_selector(setting, findings),
            "rr_min_io" => findings.add(
                Rule::RrMinIoUnused,
                setting.line,
                "rr_min_io is for bio-based maps of kernels before 2.6.31; rr_min_io_rq replaced it",
                "remove the line",
            ),
            "rr_min_io_rq" if setting.value.text != "1" => repeat_count(setting, findings),
            "rr_weight" if setting.value.text == "priorities" => {
                if round_robin {
                    repeat_count(setting, findings);
                } else {
                    let cause = format!(
                        "rr_weight changes how many requests a path gets in turn; with {} there are \
                         no turns",
                        selector.unwrap_or("service-time")
                    );
                    findings.add(Rule::RrWeightUnused, setting.line, cause, "remove the line");
                }
            }
            "features" if features::queue_if_no_path(&setting.value.text) => findings.add(
                Rule::QueueIfNoPath,
                setting.line,
                "queue_if_no_path means no_path_retry queue if no_path_retry is not set",
                "write no_path_retry queue",
            ),
            "features" if features::without_queue(&setting.value.text) != "0" => findings.add(
                Rule::NoEquivalent,
                setting.line,
                format!("features {:?} are specific to the device mapper", setting.value.text),
                "remove the line",
            ),
            "max_sectors_kb" => max_sectors(place.scope, setting, findings),
            name if is_damping(name) && setting.value.text != "no" => {
                damping(place.scope, setting, findings);
            }
            _ => {}
        }
    }
}

fn is_damping(name: &str) -> bool {
    ["delay_w", "san_path_err_", "marginal_path_"]
        .iter()
        .any(|family| name.starts_with(family))
}

fn path_selector(setting: &Setting, findings: &mut Findings) {
    let text = &setting.value.text;
    match selector_name(text) {
        None => findings.add(
            Rule::UnknownSelector,
            setting.line,
            format!("the kernel has no path selector {text:?}: no map could be made"),
            "write one of round-robin, queue-length, service-time, historical-service-time, \
             io-affinity, each followed by 0",
        ),
        Some(name) if text.split_whitespace().nth(1) != Some("0") => findings.add(
            Rule::SelectorArguments,
            setting.line,
            format!("the arguments of {text:?} are not carried over"),
            format!("umpath's {name} takes none"),
        ),
        Some(_) => {}
    }
}

fn repeat_count(setting: &Setting, findings: &mut Findings) {
    findings.add(
        Rule::RepeatCountIgnored,
        setting.line,
        format!(
            "{} {} does nothing: since Linux 4.6 the kernel switches to the next path after every \
             request",
            setting.keyword.name, setting.value.text
        ),
        "remove the line; --mode intended carries it over for round-robin",
    );
}

fn max_sectors(scope: Scope, setting: &Setting, findings: &mut Findings) {
    if !matches!(scope, Scope::Defaults | Scope::Overrides) {
        findings.add(
            Rule::NoEquivalent,
            setting.line,
            "max_sectors_kb for some volumes only: umpath has one max_io_kib for all of them",
            "set max_sectors_kb in defaults",
        );
    }
    let Some(kib) = setting.value.number() else {
        return;
    };
    if io_bounds(kib) != kib {
        findings.add(
            Rule::OutOfRange,
            setting.line,
            format!("max_sectors_kb {kib} becomes {}", io_bounds(kib)),
            "max_io_kib is a multiple of 4 from 4 to 32768",
        );
    }
}

fn damping(scope: Scope, setting: &Setting, findings: &mut Findings) {
    let general = matches!(scope, Scope::Defaults | Scope::Overrides);
    let name = setting.keyword.name;
    let cause = match name {
        "marginal_path_err_sample_time" | "marginal_path_err_rate_threshold" => {
            format!("{name}: umpath measures paths by their own I/O, without test reads")
        }
        _ if general => {
            format!("{name} becomes part of flap_threshold, flap_hold_ms, flap_forget_ms")
        }
        _ => format!(
            "{name} for some volumes only: umpath damps the paths of all volumes in the same way"
        ),
    };
    findings.add(
        Rule::Damping,
        setting.line,
        cause,
        "a path that fails again and again is held down, longer each time, and returns on probation",
    );
}
