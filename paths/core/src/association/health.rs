//! Evidence about an association, and the verdict it adds up to.
//!
//! Two verdicts. A *suspicion* costs nothing and is cleared when its evidence is gone: no new I/O
//! is sent there, or, if only commands are late and the controller lives, none while there is
//! another path ([`Suspicion::stops`]). A *conviction* is final for this association: it is torn
//! down and fenced. Hard evidence (the connection or the device is gone) convicts alone; a quiet
//! peer is convicted by two independent signals (keep-alives, and I/O or an admin command), or by
//! its session giving up after a whole KATO without an answer.
//!
//! An answer to any command speaks for the association: a slow medium behind a live controller is
//! not silence, and neither are keep-alives whose answers come late, as long as they come. If I/O is answered
//! and keep-alives are not, the admin queue is deaf: other paths are preferred, and the last path stays in
//! use. A suspicion of silence is cleared by an answered keep-alive, or by answers to I/O over some time,
//! not by a single one. Silence is measured against what is usual: if keep-alives have lately taken
//! long, because a machine is busy, a conviction needs a longer silence. I/O that is stuck while
//! keep-alives are answered raises a suspicion. So does a single command that is never answered, even if
//! others are; in the end it convicts, because nothing else would ever end it. An association that is
//! merely slow is given longer the next time ([`Patience`]).
//!
//! Suspicions are raised at once and cleared with hysteresis (`calm`): whatever comes in, the verdict
//! changes a few times a second at most.

use core::time::Duration;

use super::Patience;
use super::calm::Calm;
use super::verdict::{Conviction, Suspicion, Verdict};
use crate::shared::Pulse;

/// When evidence becomes a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthConfig {
    /// How long our own link may be down before the association is given up.
    pub link_down_grace: Duration,
    /// Keep-alives without an answer that make a suspicion.
    pub missed_max: u32,
    /// I/O unanswered for this long is the second signal against a suspect that misses keep-alives;
    /// longer where keep-alives have lately been slow.
    pub io_silence: Duration,
    /// I/O unanswered for this long makes a suspicion although keep-alives are answered.
    pub io_stuck: Duration,
    /// A single command unanswered for this long makes a suspicion although others are answered.
    pub io_slow: Duration,
    /// A single command unanswered for this long convicts; longer where that happened before on
    /// this path.
    pub io_timeout: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            link_down_grace: Duration::from_millis(10),
            missed_max: 3,
            io_silence: Duration::from_millis(200),
            io_stuck: Duration::from_secs(1),
            io_slow: Duration::from_secs(10),
            io_timeout: Duration::from_secs(30),
        }
    }
}

/// Silence counts when it is so many times longer than the slowest keep-alive of late.
const SLOWNESS: u32 = 2;
/// However slow keep-alives have been, so much silence counts.
const SILENCE_MAX: Duration = Duration::from_millis(500);
/// How long a slow keep-alive is remembered, at least; at most twice as long.
const MEMORY: Duration = Duration::from_secs(5);

/// The slowest keep-alive of late.
#[derive(Debug, Clone, Default)]
struct Slowest {
    since: Duration,
    now: Duration,
    before: Duration,
}

impl Slowest {
    fn note(&mut self, took: Duration, at: Duration) {
        let age = at.saturating_sub(self.since);
        if age >= MEMORY {
            let stale = age >= MEMORY * 2;
            self.before = if stale { Duration::ZERO } else { self.now };
            (self.now, self.since) = (Duration::ZERO, at);
        }
        self.now = self.now.max(took);
    }

    fn get(&self) -> Duration {
        self.now.max(self.before)
    }
}

/// The oldest command without an answer, as a lane reported it.
#[derive(Debug, Clone, Copy)]
struct Overdue {
    since: Duration,
    told_at: Duration,
}

impl Overdue {
    /// Its age when it was reported; what has happened since is not known.
    fn age(self) -> Duration {
        self.told_at.saturating_sub(self.since)
    }
}

/// Lanes report an overdue command several times in this time. If it is not reported again, it was
/// answered.
const OVERDUE_MEMORY: Duration = Duration::from_millis(1500);

/// How often a suspect is checked again: its I/O may have aged into the second signal.
const RECHECK: Duration = Duration::from_millis(20);

/// Answers to I/O over so long refute a suspicion of silence; a single one may have been on its way.
const SUSTAINED: Duration = Duration::from_millis(100);

/// Keep-alives without an answer, since the last that had one.
#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Duration,
    /// How often it was reported.
    reports: u32,
    /// How many in a row.
    count: u32,
    /// I/O was answered meanwhile: first, and last.
    io_answered: Option<(Duration, Duration)>,
    /// That was enough to distinguish a deaf admin queue from a silent controller.
    deaf: bool,
}

/// Health of one association.
#[derive(Debug, Clone)]
pub struct Health {
    config: HealthConfig,
    patience: Patience,
    link_down_since: Option<Duration>,
    missing: Option<Missing>,
    /// Since when the volume that waits longest has had no answer, as reported since the last verdict.
    io_silent_since: Option<Duration>,
    /// When any volume last had an answer.
    io_answered: Duration,
    admin_silent_since: Option<Duration>,
    overdue: Option<Overdue>,
    slowest: Slowest,
    hard: Option<Conviction>,
    /// By the word of another controller; an answered keep-alive refutes it.
    host_lost: bool,
    /// What was reported last, and how long it lasts.
    reported: Option<Suspicion>,
    calm: Calm,
    convicted: bool,
    judged_at: Duration,
}

impl Health {
    /// An association that has just become ready. `patience` is what the one before it on this path
    /// [left](Self::patience).
    #[must_use]
    pub fn new(config: HealthConfig, patience: Patience, now: Duration) -> Self {
        Self {
            config,
            patience,
            link_down_since: None,
            missing: None,
            io_silent_since: None,
            io_answered: Duration::ZERO,
            admin_silent_since: None,
            overdue: None,
            slowest: Slowest::default(),
            hard: None,
            host_lost: false,
            reported: None,
            calm: Calm::default(),
            convicted: false,
            judged_at: now,
        }
    }

    /// A keep-alive was answered: the controller is alive and reachable.
    pub fn keep_alive_answered(&mut self, sent_at: Duration, at: Duration) {
        self.missing = None;
        self.slowest.note(at.saturating_sub(sent_at), at);
        self.host_lost = false;
    }

    /// Another controller of the subsystem says that this one has lost us.
    pub fn host_lost(&mut self, _now: Duration) {
        self.host_lost = true;
    }

    /// The oldest keep-alive without an answer is `count` heartbeats old. Report it at each
    /// heartbeat: the controller is as silent as there were reports since its last answer, so answers
    /// that come late, but come, are no silence.
    pub fn keep_alive_missed(&mut self, count: u32, now: Duration) {
        let missing = self.missing.get_or_insert(Missing {
            since: now,
            reports: 0,
            count: 0,
            io_answered: None,
            deaf: false,
        });
        missing.reports = missing.reports.saturating_add(1);
        missing.count = count.min(missing.reports);
    }

    /// The session is over.
    pub fn session_failed(&mut self, _now: Duration) {
        self.hard.get_or_insert(Conviction::SessionFailed);
    }

    /// An I/O queue pair is in the error state, or its peer disconnected.
    pub fn queue_failed(&mut self, _now: Duration) {
        self.hard.get_or_insert(Conviction::QueueFailed);
    }

    /// An I/O queue pair is cut off from the controller and cannot be replaced alone.
    pub fn queue_silent(&mut self, _now: Duration) {
        self.hard.get_or_insert(Conviction::QueueSilent);
    }

    /// The local link works.
    pub fn link_up(&mut self, _now: Duration) {
        self.link_down_since = None;
    }

    /// The local link went down at `at`.
    pub fn link_down(&mut self, at: Duration) {
        self.link_down_since.get_or_insert(at);
    }

    /// The RDMA device is of no use any more.
    pub fn device_fatal(&mut self, _now: Duration) {
        self.hard.get_or_insert(Conviction::DeviceFatal);
    }

    /// How one volume's I/O on this association is doing; before each [verdict](Self::verdict),
    /// for each volume.
    pub fn pulse(&mut self, pulse: Pulse, _now: Duration) {
        self.io_answered = self.io_answered.max(pulse.answered);
        self.io_silent_since = match (self.io_silent_since, pulse.unanswered_since) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// A lane has a command in flight that was sent at `since`; reported again while that is so.
    pub fn io_overdue(&mut self, since: Duration, now: Duration) {
        let older = |known: &Overdue| known.since < since && now < known.told_at + OVERDUE_MEMORY;
        if !self.overdue.as_ref().is_some_and(older) {
            let told_at = now;
            self.overdue = Some(Overdue { since, told_at });
        }
    }

    /// When the admin command that waits longest was sent; `None`: none waits. Keep-alives do not
    /// count, or one signal would be two.
    pub fn admin_waiting(&mut self, since: Option<Duration>) {
        self.admin_silent_since = since;
    }

    /// What has changed since the last call.
    pub fn verdict(&mut self, now: Duration) -> Option<Verdict> {
        self.judged_at = now;
        self.overdue = self
            .overdue
            .filter(|overdue| now < overdue.told_at + OVERDUE_MEMORY);
        self.hear_io();
        // A deaf admin queue is one signal, however many of its commands wait.
        let admin = self.admin_silent_since.filter(|_| !self.is_deaf());
        let waiting = [self.io_silent_since.take(), admin];
        let oldest = waiting.into_iter().flatten().min();
        let silent_since = oldest.map(|since| since.max(self.io_answered));
        if self.convicted {
            return None;
        }
        if let Some(why) = self.conviction(silent_since, now) {
            self.convicted = true;
            if matches!(why, Conviction::IoTimeout(_)) {
                self.patience.timed_out(now);
            }
            return Some(Verdict::Convict(why));
        }
        let suspicion = self.suspicion(silent_since, now);
        self.report(suspicion, now)
    }

    /// What of it is news: a graver suspicion at once, a lesser one or none after a while.
    fn report(&mut self, suspicion: Option<Suspicion>, now: Duration) -> Option<Verdict> {
        let (gravity, reported) = (
            Suspicion::gravity(suspicion),
            Suspicion::gravity(self.reported),
        );
        if gravity > reported {
            self.calm.raised(now);
        } else if gravity == reported {
            self.calm.confirmed();
        } else if !self.calm.gone(now) {
            return None;
        }
        self.reported = suspicion;
        (gravity != reported).then(|| suspicion.map_or(Verdict::Clear, Verdict::Suspect))
    }

    /// Notes what answers to I/O say about keep-alives that have none.
    fn hear_io(&mut self) {
        let (answered, max) = (self.io_answered, self.config.missed_max);
        let suspected = self.reported.is_some_and(Suspicion::stops);
        let Some(missing) = &mut self.missing else {
            return;
        };
        if answered > missing.since {
            let (first, _) = missing.io_answered.unwrap_or((answered, answered));
            missing.io_answered = Some((first, answered));
        }
        // What was answered before the suspicion is raised keeps it from being one of silence.
        missing.deaf |= missing.io_answered.is_some_and(|(first, last)| {
            missing.count >= max && (!suspected || last.saturating_sub(first) >= SUSTAINED)
        });
    }

    fn is_deaf(&self) -> bool {
        self.missing.is_some_and(|missing| missing.deaf)
    }

    /// Keep-alives in a row without an answer, where they are enough for a suspicion.
    fn missed(&self) -> Option<u32> {
        let count = self.missing.map(|missing| missing.count);
        count.filter(|count| *count >= self.config.missed_max)
    }

    /// For the next association on this path.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// When to ask for a [verdict](Self::verdict) although nothing was reported. Right after a verdict
    /// it lies in the future.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.convicted {
            return None;
        }
        let grace = self
            .link_down_since
            .map(|at| at + self.config.link_down_grace);
        let recheck = self.missed().map(|_| self.judged_at + RECHECK);
        let forgotten = self.overdue.map(|overdue| overdue.told_at + OVERDUE_MEMORY);
        let calm = self.calm.over_at();
        [grace, recheck, forgotten, calm]
            .into_iter()
            .flatten()
            .min()
    }

    fn suspicion(&self, silent_since: Option<Duration>, now: Duration) -> Option<Suspicion> {
        if self.link_down_since.is_some() {
            return Some(Suspicion::LinkDown);
        }
        if let Some(missed) = self.missed() {
            return Some(if self.is_deaf() {
                Suspicion::AdminSilent(missed)
            } else {
                Suspicion::KeepAlivesMissed(missed)
            });
        }
        let stuck = silent_since.is_some_and(|since| now >= since + self.config.io_stuck);
        if stuck {
            return Some(Suspicion::IoStuck);
        }
        if let Some(age) = self.oldest().filter(|age| *age >= self.config.io_slow) {
            return Some(Suspicion::IoSlow(age));
        }
        self.host_lost.then_some(Suspicion::HostLost)
    }

    /// Age of the oldest command that is overdue.
    fn oldest(&self) -> Option<Duration> {
        self.overdue.map(Overdue::age)
    }

    /// How much silence counts as a signal.
    fn silence_needed(&self) -> Duration {
        let unusual = (self.slowest.get() * SLOWNESS).min(SILENCE_MAX);
        self.config.io_silence.max(unusual)
    }

    fn conviction(&self, silent_since: Option<Duration>, now: Duration) -> Option<Conviction> {
        if let Some(hard) = self.hard {
            // What broke because the cable is out is the cable's fault.
            let cable = self.link_down_since.is_some() && hard != Conviction::DeviceFatal;
            return Some(if cable { Conviction::LinkDown } else { hard });
        }
        if self
            .link_down_since
            .is_some_and(|at| now >= at + self.config.link_down_grace)
        {
            return Some(Conviction::LinkDown);
        }
        // Two independent witnesses: the array's, and whatever of ours speaks against the path.
        if self.host_lost && (self.link_down_since.is_some() || self.missed().is_some()) {
            return Some(Conviction::HostLost);
        }
        let patience = self.patience.granted(self.config.io_timeout, now);
        if let Some(age) = self.oldest().filter(|age| *age >= patience) {
            return Some(Conviction::IoTimeout(age));
        }
        let (missed, io) = (self.missed()?, now.saturating_sub(silent_since?));
        (io >= self.silence_needed()).then_some(Conviction::Silent { missed, io })
    }
}

#[cfg(test)]
mod tests;
