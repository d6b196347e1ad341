//! A plan in words.

use std::fmt;

use super::{Fault, Plan, RoutePlan, VolumePlan};
use crate::sim::clock::{MILLI, Nanos};

fn ms(time: Nanos) -> f64 {
    time as f64 / MILLI as f64
}

fn or(is: bool, yes: &'static str, no: &'static str) -> &'static str {
    if is { yes } else { no }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (ms(self.at), ms(self.lasts));
        write!(f, "{:?} from {at} ms for {lasts} ms", self.kind)
    }
}

impl fmt::Display for VolumePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = &self.policy;
        write!(
            f,
            "{} blocks{}; no_path_retry {}, fast_io_fail {} ms, failback {}, {:?}, {}, {}{}{}",
            self.blocks,
            or(self.from_start, "", ", made later"),
            policy.no_path_retry,
            policy.fast_io_fail_ms,
            policy.failback,
            policy.path_grouping_policy.0,
            policy.path_selector,
            or(
                policy.marginal_pathgroups,
                "marginal path groups",
                "no marginal path groups"
            ),
            or(
                policy.shared_with_other_hosts,
                ", shared with other hosts",
                ""
            ),
            or(policy.flush_on_last_del, ", flush_on_last_del", "")
        )?;
        writeln!(f, ", damping {:?}", policy.damping)
    }
}

impl fmt::Display for RoutePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (preferred, standing) = (
            or(self.preferred, ", preferred", ""),
            or(self.configured, "", ", asked for by hand"),
        );
        write!(f, "MDTS {}{preferred}{standing}", self.mdts)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed, tags, depth, ..
        } = self;
        let plain = or(self.plain, ", a plain failover", "");
        let for_ever = or(self.for_ever, ", faults without end", "");
        writeln!(
            f,
            "seed {seed}, {} ms of work{plain}{for_ever}",
            ms(self.active)
        )?;
        for (at, volume) in self.volumes.iter().enumerate() {
            write!(f, "  volume {at}: {volume}")?;
        }
        writeln!(
            f,
            "  application: requests of up to {} blocks, {} overlapping, every {} ms",
            self.request_blocks,
            or(self.overlaps, "some", "none"),
            ms(self.think)
        )?;
        writeln!(
            f,
            "  host: {} queues wished for ({} after a restart), at most {} to be had, {tags} tags, queue pairs of {depth}; \
             messages take up to {} ms, work up to {} ms, a drain up to {} ms, {} % of the markers are \
             lost; polling for {} us",
            self.lanes,
            self.lanes_later,
            self.driver_queues,
            ms(self.message_delay),
            ms(self.work_delay),
            ms(self.drain_deadline),
            self.lost_markers,
            self.polling / 1_000
        )?;
        for (at, route) in self.routes.iter().enumerate() {
            writeln!(f, "  route {at}: {route}")?;
        }
        writeln!(
            f,
            "  fabric: packets take up to {} ms and are repeated for {} ms by the host, {} ms by the target",
            ms(self.delay),
            ms(self.patience[0]),
            ms(self.patience[1])
        )?;
        writeln!(
            f,
            "  target: {} processes, {} controllers each with {} I/O queues, clocks {:?} thousandths \
             fast; {}, {}, {}, {} % of long writes in two steps",
            self.processes,
            self.cntlids,
            self.io_queues,
            self.skew,
            or(self.cache, "a volatile cache", "no cache"),
            or(self.ccr, "resets offered", "no resets"),
            or(self.common_board, "a common board", "boards apart"),
            self.split
        )?;
        writeln!(
            f,
            "  times: KATO {} ms ({}), heartbeat {} ms, CQT {} ms{}, admin commands {} ms, {}",
            ms(self.kato),
            match (self.traffic_based, self.ends_count) {
                (true, true) => "by traffic, ends of queue pairs included",
                (true, false) => "by traffic",
                (false, _) => "by command",
            },
            ms(self.heartbeat),
            ms(self.cqt),
            or(self.cqt_unreported, " (not reported)", ""),
            ms(self.command_timeout),
            self.ctrl_loss
                .map_or("no ctrl_loss_tmo".to_owned(), |time| {
                    format!("ctrl_loss_tmo {} ms", ms(time))
                })
        )?;
        for (at, fault) in self.faults.iter().enumerate() {
            writeln!(f, "  fault-{at}: {fault}")?;
        }
        for (at, (when, verb)) in self.verbs.iter().enumerate() {
            writeln!(f, "  verb-{at}: {verb:?} at {} ms", ms(*when))?;
        }
        Ok(())
    }
}
