//! The steps of the demo.
//!
//! Guards are created in the order network, array, daemon, mount, load, so that a failing step
//! tears everything down in reverse order. A step that cannot be done is an error; one with a wrong
//! result is a failed check, and the demo continues.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::bed::{
    Network, STEP_TIMEOUT, Side, load as load_modules, unix_ms, within, within_value,
};

use super::array::{self, Allowance, Array, PRIMARY, STANDBY};
use super::file_system::{self, MountPoint, Mounted};
use super::host::{Daemon, Traffic, kernel_complaints};
use super::load::{self, Load};
use super::report::Report;
use super::steady::Steady;
use super::switch::Switch;
use super::timeline::{Cause, Timeline};
use super::{Options, tree};

/// Requests that must complete for I/O to count as flowing.
const FLOWING: u64 = 100;

/// Runs all steps.
pub(super) fn run(options: &Options, work: &Path, report: &mut Report) -> Result<()> {
    let allowance = Allowance::of(options.target);
    load_modules(&["ublk_drv"])?;
    let network = match options.target {
        super::Target::Umpath => Network::separate(2)?,
        super::Target::Kernel => Network::kernel_array(2)?,
    };
    report.say("two cables (veth, a switch each, soft-RoCE) between host and array");
    let array = Array::start(options.target, &network, work)?;
    report.say(&array.describe());
    let daemon = Daemon::start(&network, work, &allowance)?;
    let (volume, primary) = connect(&network, &daemon, report)?;
    let mark = mark_kernel_log()?;
    file_system::make(&volume)?;
    let mut scene = Scene {
        network,
        array,
        daemon,
        volume,
        primary,
        tree: work.join("mnt/tree"),
        seed: options.seed,
    };
    let mount_point = work.join("mnt");
    let _shared = MountPoint::make(&mount_point)?;
    let mounted = Mounted::new(&scene.volume, &mount_point, "rw,noatime")?;
    report.say("ext4 made and mounted");
    scene.write_files("before", report)?;
    let steady = Steady::start(mounted.root(), options.seed)?;
    let load = Load::start(mounted.root(), work, options.seed);
    report.say(
        "fio writes and compares, two lanes: 4k and 32k blocks, every block checked; \
         4 writers never pause",
    );
    let failovers = scene.fail_twice(&load, report)?;
    scene.note_others(&failovers, report)?;
    let waits = steady.finish()?;
    let rounds = load.finish()?;
    report.say("fio stopped after a last comparison of every block");
    report.rounds(&rounds);
    report.steady(&waits);
    for mut failover in failovers {
        let (from, to) = (
            failover.at_unix_ms,
            failover.at_unix_ms + span_ms(&failover),
        );
        failover.fio_longest_ms = load::longest_ms(&rounds, from, to);
        failover.write_longest_ms = waits.longest_ms(from, to);
        failover.writes_in_flight = waits.in_flight_at(from);
        println!("\n{}", failover.text());
        report.failover(failover);
    }
    scene.compare(mounted, report)?;
    let complaints = kernel_complaints(&mark, &scene.volume);
    report.check(
        "no I/O error in the kernel log",
        complaints.is_empty(),
        complaints.join("\n"),
    );
    scene.leave(report)
}

/// Milliseconds from the fault until the I/O was back for good on the standby.
fn span_ms(timeline: &Timeline) -> u64 {
    let fences = timeline
        .marks
        .iter()
        .filter(|mark| mark.kind == "order_fenced" || mark.kind == "first_io");
    fences
        .map(|mark| u64::try_from(mark.after_ms).unwrap_or_default())
        .max()
        .unwrap_or(10_000)
}

/// Connects both controllers; returns the volume's device and the number of the primary's path.
fn connect(network: &Network, daemon: &Daemon, report: &Report) -> Result<(PathBuf, u32)> {
    let address = |number| array::address(network, number);
    let primary = daemon.connect(address(PRIMARY))?;
    let standby = daemon.connect(address(STANDBY))?;
    ensure!(
        primary.devices.len() == 1 && primary.devices == standby.devices,
        "both paths must lead to one volume, but the primary's has {:?} and the standby's {:?}",
        primary.devices,
        standby.devices
    );
    let name = primary.devices.first().context("no device")?;
    let device = Path::new("/dev").join(name.trim_start_matches("/dev/"));
    within(
        STEP_TIMEOUT,
        &format!("{} appearing", device.display()),
        || device.exists(),
    )?;
    report.say(&format!(
        "umpathd has two paths to {}\n{}",
        device.display(),
        daemon.umpath(&["-ll"])?
    ));
    Ok((device, primary.path))
}

fn mark_kernel_log() -> Result<String> {
    let mark = format!("umpath demo {}", unix_ms());
    fs::write("/dev/kmsg", &mark).context("cannot write to /dev/kmsg")?;
    Ok(mark)
}

/// Everything the failovers need.
struct Scene {
    daemon: Daemon,
    array: Array,
    network: Network,
    volume: PathBuf,
    primary: u32,
    tree: PathBuf,
    seed: u64,
}

impl Scene {
    /// Runs both failovers. fio's stall measurements follow later, with its reports.
    fn fail_twice(&mut self, load: &Load, report: &mut Report) -> Result<Vec<Timeline>> {
        // Created here so that it is ready when the cable is pulled.
        let switch = Switch::on(&self.network, PRIMARY)?;
        self.await_flow(load, "steady I/O")?;
        within(STEP_TIMEOUT, "the first round of fio", || {
            !load.alive() || !load.rounds().is_empty()
        })?;
        self.await_writes()?;
        let pulled = self.pull_cable(switch, load, report)?;
        self.write_files("after-the-pull", report)?;
        self.await_flow(load, "steady I/O")?;
        self.await_writes()?;
        let killed = self.kill_primary(load, report)?;
        self.write_files("after-the-kill", report)?;
        self.await_flow(load, "steady I/O")?;
        Ok(vec![pulled, killed])
    }

    fn pull_cable(
        &mut self,
        mut switch: Switch,
        load: &Load,
        report: &mut Report,
    ) -> Result<Timeline> {
        let at = switch.set("down")?;
        report.say("the primary's cable is pulled");
        let cable = self.network.cable(PRIMARY);
        within(STEP_TIMEOUT, "the host losing its carrier", || {
            !cable.carrier(Side::Host)
        })?;
        let cause = self.cause(at);
        self.survive(cause, load, report)?;
        let back = switch.set("up")?;
        report.say("the cable is back");
        self.return_to_primary(cause, load, report)?;
        self.timeline("pulled", "cable back", back, cause)
    }

    fn kill_primary(&mut self, load: &Load, report: &mut Report) -> Result<Timeline> {
        let (what, words) = self.array.fault();
        let at = self.array.kill_primary()?;
        report.say(words);
        let cause = self.cause(at);
        self.survive(cause, load, report)?;
        let back = unix_ms();
        self.array.revive_primary(&self.network)?;
        report.say("the primary is started again");
        self.return_to_primary(cause, load, report)?;
        self.timeline(what, "started again", back, cause)
    }

    /// Reports unintended failovers without judging them: on an overloaded machine a healthy path
    /// can miss its heartbeats.
    fn note_others(&self, expected: &[Timeline], report: &Report) -> Result<()> {
        let causes: Vec<_> = expected
            .iter()
            .map(|timeline| self.cause(timeline.at_unix_ms))
            .collect();
        for line in self.daemon.events()?.unexplained(&causes) {
            report.say(&format!("note: also failed over: {line}"));
        }
        Ok(())
    }

    fn cause(&self, at_unix_ms: u64) -> Cause {
        Cause {
            path: self.primary,
            at_unix_ms,
        }
    }

    /// Waits until I/O continues through the standby and every step that does not need the primary
    /// is done.
    fn survive(&mut self, cause: Cause, load: &Load, report: &mut Report) -> Result<()> {
        for step in ["convicted", "buffer_fenced", "order_fenced", "first_io"] {
            self.await_event(cause, step, load)?;
        }
        self.await_flow(load, "I/O through the standby")?;
        let daemon = &self.daemon;
        within_value(STEP_TIMEOUT, "umpathd's count of the longest stall", || {
            daemon.events().ok()?.longest_stall_ms(cause)
        })?;
        report.say(&format!(
            "I/O goes on through the standby\n{}",
            daemon.umpath(&["-ll"])?
        ));
        Ok(())
    }

    fn return_to_primary(&mut self, cause: Cause, load: &Load, report: &Report) -> Result<()> {
        self.await_event(cause, "failed_back", load)?;
        self.await_flow(load, "I/O through the primary")?;
        report.say(&format!(
            "I/O is back on the primary\n{}",
            self.daemon.umpath(&["-ll"])?
        ));
        Ok(())
    }

    fn timeline(
        &self,
        what: &str,
        back: &str,
        back_unix_ms: u64,
        cause: Cause,
    ) -> Result<Timeline> {
        let events = self.daemon.events()?;
        let mut timeline = Timeline {
            what: what.to_owned(),
            at_unix_ms: cause.at_unix_ms,
            evidence: events.evidence(cause).unwrap_or_default().to_owned(),
            marks: events.marks(cause),
            longest_stall_ms: events.longest_stall_ms(cause),
            write_longest_ms: None,
            fio_longest_ms: None,
            writes_in_flight: 0,
        };
        timeline.add(what, cause.at_unix_ms);
        timeline.add(back, back_unix_ms);
        Ok(timeline)
    }

    fn await_event(&mut self, cause: Cause, kind: &str, load: &Load) -> Result<()> {
        let what = format!("umpathd reporting {kind}");
        let daemon = &self.daemon;
        let outcome = within(STEP_TIMEOUT, &what, || {
            !load.alive()
                || daemon
                    .events()
                    .is_ok_and(|events| events.first(cause, kind).is_some())
        });
        outcome.and_then(|()| self.all_alive(load))
    }

    /// Waits until requests complete at a rate that a stalled volume cannot reach.
    fn await_flow(&mut self, load: &Load, what: &str) -> Result<()> {
        let start = Traffic::of(&self.volume)?.completed;
        let volume = &self.volume;
        let outcome = within(STEP_TIMEOUT, what, || {
            !load.alive()
                || Traffic::of(volume).is_ok_and(|traffic| traffic.completed > start + FLOWING)
        });
        outcome.and_then(|()| self.all_alive(load))
    }

    /// Waits for writes in flight, so that the fault hits some.
    fn await_writes(&self) -> Result<()> {
        within(STEP_TIMEOUT, "writes in flight", || {
            Traffic::of(&self.volume).is_ok_and(|traffic| traffic.writes_in_flight > 2)
        })
    }

    fn all_alive(&mut self, load: &Load) -> Result<()> {
        if !self.daemon.running() {
            bail!("umpathd ended");
        }
        if let Some(words) = self.array.casualty() {
            bail!("a target ended by itself\n{words}");
        }
        ensure!(load.alive(), "fio ended with an error");
        Ok(())
    }

    /// Writes files whose checksums are compared at the end.
    fn write_files(&self, name: &str, report: &Report) -> Result<()> {
        let salt = name.bytes().fold(0_u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        let seed = self.seed ^ salt;
        let (files, bytes) = tree::write(&self.tree.join(name), seed)?;
        report.say(&format!("{files} files, {} KiB, written", bytes >> 10));
        Ok(())
    }

    /// Unmounts, checks the file system, mounts it again and compares every file.
    fn compare(&self, mounted: Mounted, report: &mut Report) -> Result<()> {
        let before = tree::sums(&self.tree)?;
        let at = mounted.root().to_path_buf();
        mounted.unmount()?;
        report.say("unmounted; checking the file system");
        let checked = file_system::check(&self.volume);
        let (clean, words) = match &checked {
            Ok(text) => (true, text.lines().last().unwrap_or_default().to_owned()),
            Err(error) => (false, format!("{error:#}")),
        };
        report.check("fsck -fn finds nothing", clean, words);
        let mounted = Mounted::new(&self.volume, &at, "ro")?;
        let after = tree::sums(&self.tree)?;
        mounted.unmount()?;
        let differences = tree::differences(&before, &after);
        let count = before.lines().count();
        report.check(
            "every file has its checksum",
            count > 0 && differences.is_empty(),
            if differences.is_empty() {
                format!("{count} files, SHA-256")
            } else {
                differences.join("\n")
            },
        );
        Ok(())
    }

    /// Disconnects and ends everything that was started.
    fn leave(self, report: &mut Report) -> Result<()> {
        self.daemon.disconnect()?;
        let gone = !self.volume.exists();
        report.check(
            "umpath disconnect removes the device",
            gone,
            self.volume.display().to_string(),
        );
        self.daemon.end()?;
        drop(self.array);
        drop(self.network);
        report.say(&format!(
            "disconnected, everything ended after {:.0} s",
            report.elapsed().as_secs_f32()
        ));
        Ok(())
    }
}
