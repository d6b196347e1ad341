//! Making a failure small: what of its plan it does not need.
//!
//! Parts of the plan are left out one after the other, and stay out while the run still breaks the
//! same promise. Every part has a name, so that what is left can be run again.

use std::fmt;
use std::str::FromStr;

use umpath_host::policy::VolumePolicy;

use super::clock::{MICRO, MILLI, Nanos};
use super::plan::{FaultKind, NamespaceChange, Nuisance, Plan};

/// A part of a plan that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A fault, by its position in the plan.
    Fault(usize),
    /// What an operator asks, by its position in the plan.
    Verb(usize),
    /// Everything after this many milliseconds.
    After(u64),
    /// An option that makes a world less simple, by its position in [`OPTIONS`].
    Option(usize),
}

type Simplify = fn(&mut Plan);

/// Options, simplified.
const OPTIONS: &[(&str, Simplify)] = &[
    ("volumes", |plan| plan.volumes.truncate(1)),
    ("lanes", |plan| (plan.lanes, plan.lanes_later) = (1, 1)),
    ("few-driver-queues", |plan| plan.driver_queues = 8),
    ("tags", |plan| plan.tags = 1),
    ("skew", |plan| plan.skew.fill(0)),
    ("lost-markers", |plan| plan.lost_markers = 0),
    ("steps", |plan| plan.split = 0),
    ("cache", |plan| plan.cache = false),
    ("overlaps", |plan| plan.overlaps = false),
    ("policies", |plan| {
        for volume in &mut plan.volumes {
            volume.policy = VolumePolicy::default();
        }
    }),
    ("fetching", |plan| plan.inline = true),
    ("resets", |plan| plan.ccr = false),
    ("common-board", |plan| plan.common_board = false),
    ("few-cntlids", |plan| plan.cntlids = 16),
    ("few-queues", |plan| plan.io_queues = 32),
    ("traffic-timer", |plan| plan.traffic_based = false),
    ("long-requests", |plan| plan.request_blocks = 1),
    ("split-requests", |plan| {
        plan.routes.iter_mut().for_each(|route| route.mdts = 0);
    }),
    ("by-hand", |plan| {
        plan.routes
            .iter_mut()
            .for_each(|route| route.configured = true);
    }),
    ("preferences", |plan| {
        plan.routes
            .iter_mut()
            .for_each(|route| route.preferred = false);
    }),
    ("ctrl-loss", |plan| plan.ctrl_loss = None),
    ("slow-messages", |plan| plan.message_delay = 10 * MICRO),
    ("slow-packets", |plan| plan.delay = 20 * MICRO),
    ("slow-work", |plan| plan.work_delay = 500 * MICRO),
    ("polling", |plan| plan.polling = 0),
    ("shallow-queues", |plan| plan.depth = 9),
];

impl Plan {
    /// The same plan without some of its parts.
    pub(crate) fn without(mut self, parts: &[Part]) -> Self {
        let left_out = |part: Part| parts.contains(&part);
        let mut position = 0..;
        self.faults
            .retain(|_| !position.next().map(Part::Fault).is_some_and(left_out));
        let mut position = 0..;
        self.verbs
            .retain(|_| !position.next().map(Part::Verb).is_some_and(left_out));
        for part in parts {
            match part {
                Part::Fault(_) | Part::Verb(_) => {}
                Part::After(end) => self.end_at(*end * MILLI),
                Part::Option(at) => {
                    if let Some((_, simplify)) = OPTIONS.get(*at) {
                        simplify(&mut self);
                    }
                }
            }
        }
        let (lanes, volumes) = (self.lanes, self.volumes.len());
        self.faults.retain(|fault| match fault.kind {
            FaultKind::LaneStall { lane, volume } | FaultKind::ThreadFails { lane, volume } => {
                lane < lanes && volume < volumes
            }
            FaultKind::Namespace(
                NamespaceChange::Add { volume }
                | NamespaceChange::Grow { volume }
                | NamespaceChange::Detach { volume, .. },
            ) => volume < volumes,
            _ => true,
        });
        self.verbs.retain(|(_, verb)| match verb {
            Nuisance::SwitchGroup { volume, .. }
            | Nuisance::Selector { volume }
            | Nuisance::DisconnectDevice { volume, .. }
            | Nuisance::Close { volume, .. } => *volume < volumes,
            _ => true,
        });
        self
    }

    fn end_at(&mut self, end: Nanos) {
        self.active = self.active.min(end);
        self.faults.retain(|fault| fault.at < end);
        self.verbs.retain(|(at, _)| *at < end);
    }

    fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let faults = (0..self.faults.len()).map(Part::Fault);
        let verbs = (0..self.verbs.len()).map(Part::Verb);
        faults
            .chain(verbs)
            .chain((0..OPTIONS.len()).map(Part::Option))
    }
}

/// Finds parts that a failure does not need. `fails` tells whether the plan without some parts
/// still fails in the same way.
pub(crate) fn shrink(plan: &Plan, mut fails: impl FnMut(&[Part]) -> bool) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    loop {
        let before = out.len();
        for part in plan.parts() {
            if out.contains(&part) {
                continue;
            }
            out.push(part);
            if !fails(&out) {
                out.pop();
            }
        }
        if out.len() == before {
            break;
        }
    }
    let (mut least, mut most) = (0, plan.active / MILLI);
    while most - least > 1 {
        let middle = least + (most - least) / 2;
        out.push(Part::After(middle));
        if fails(&out) {
            most = middle;
        } else {
            least = middle;
        }
        out.pop();
    }
    if most < plan.active / MILLI {
        out.push(Part::After(most));
    }
    out
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(at) => write!(f, "fault-{at}"),
            Self::Verb(at) => write!(f, "verb-{at}"),
            Self::After(end) => write!(f, "after-{end}"),
            Self::Option(at) => f.write_str(OPTIONS.get(*at).map_or("?", |(name, _)| name)),
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |prefix| text.strip_prefix(prefix).and_then(|rest| rest.parse().ok());
        if let Some(at) = number("fault-") {
            return Ok(Self::Fault(at));
        }
        if let Some(at) = number("verb-") {
            return Ok(Self::Verb(at));
        }
        if let Some(end) = number("after-") {
            return Ok(Self::After(end as u64));
        }
        let known = OPTIONS.iter().position(|(name, _)| *name == text);
        known.map(Self::Option).ok_or_else(|| {
            let names: Vec<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
            format!("there are fault-N, verb-N, after-MS, {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_names() {
        for part in Plan::new(1).parts().chain([Part::After(12)]) {
            assert_eq!(part.to_string().parse(), Ok(part));
        }
        assert!("fault-x".parse::<Part>().is_err());
    }

    #[test]
    fn what_is_needed_stays() {
        let plan = (1..100).map(Plan::new).find(|plan| plan.faults.len() > 4);
        let plan = plan.expect("a plan with faults");
        let needed = [Part::Fault(2), Part::Option(4)];
        let fails = |out: &[Part]| {
            let late = out.iter().all(|part| match part {
                Part::After(end) => *end >= 77,
                _ => true,
            });
            late && !out.iter().any(|part| needed.contains(part))
        };
        let out = shrink(&plan, fails);
        assert_eq!(out.last(), Some(&Part::After(77)));
        let left: Vec<Part> = plan.parts().filter(|part| !out.contains(part)).collect();
        assert_eq!(left, needed);
        let small = plan.clone().without(&out);
        assert!(small.faults.len() <= 1 && small.lanes == 1);
    }
}
