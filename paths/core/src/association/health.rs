//! Evidence about an association, and the verdict it adds up to.
//!
//! Two verdicts. A *suspicion* costs nothing and is taken back when the evidence goes: no new I/O
//! is sent there, or, where only commands are late and the controller lives, none while there is
//! another path ([`Suspicion::stops`]). A *conviction* is final for this association: it is torn
//! down and fenced. Hard evidence (the connection or the device is gone) convicts alone; a quiet
//! peer is convicted by two independent signals (keep-alives, and I/O or an admin command), or by
//! its session giving up after a whole KATO without an answer.
//!
//! An answer to any command speaks for the association: a slow medium behind a live controller is
//! not silence. Silence is measured against what is usual: where keep-alives have lately taken long,
//! because a machine is busy, more of it is needed for a conviction. I/O that is stuck while
//! keep-alives are answered makes a suspicion; a single command that is never answered, whatever
//! becomes of the others, makes one as well and convicts in the end: nothing else would ever end
//! it. Whoever is merely slow is given longer the next time ([`Patience`]).

use core::fmt;
use core::time::Duration;

use super::Patience;
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

/// What speaks against a path for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// The local link has no carrier.
    LinkDown,
    /// This many keep-alives in a row have no answer.
    KeepAlivesMissed(u32),
    /// Keep-alives are answered and I/O is not.
    IoStuck,
    /// A command has had no answer for this long; others may have.
    IoSlow(Duration),
    /// Another controller of the subsystem says that this one has lost us.
    HostLost,
}

impl Suspicion {
    /// Nothing new is sent there, not even on the last path. Otherwise the controller answers and
    /// only commands are late: then others are better, it is better than none, and it has not been
    /// away when that is over.
    #[must_use]
    pub fn stops(self) -> bool {
        !matches!(self, Self::IoStuck | Self::IoSlow(_))
    }
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkDown => f.write_str("the local link is down"),
            Self::KeepAlivesMissed(count) => write!(f, "{count} keep-alives without an answer"),
            Self::IoStuck => f.write_str("I/O without an answer, although the controller lives"),
            Self::IoSlow(age) => {
                write!(f, "a command has had no answer for {} ms", age.as_millis())
            }
            Self::HostLost => f.write_str("another controller says that this one has lost us"),
        }
    }
}

/// Why an association is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conviction {
    /// The local link stayed down for the grace time.
    LinkDown,
    /// Keep-alives and I/O are both unanswered.
    Silent {
        /// Keep-alives in a row without an answer.
        missed: u32,
        /// How long I/O has had no answer.
        io: Duration,
    },
    /// A command had no answer for this long, whatever became of others.
    IoTimeout(Duration),
    /// Another controller says that this one has lost us, and our own evidence agrees.
    HostLost,
    /// The session ended: disconnected by the peer, a refused keep-alive, a KATO of silence.
    SessionFailed,
    /// An I/O queue pair failed.
    QueueFailed,
    /// The RDMA device reported a fatal error or was removed.
    DeviceFatal,
    /// Somebody took the path out of the configuration.
    Operator,
}

impl fmt::Display for Conviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkDown => f.write_str("the local link stayed down"),
            Self::Silent { missed, io } => write!(
                f,
                "{missed} keep-alives and all I/O since {} ms without an answer",
                io.as_millis()
            ),
            Self::IoTimeout(age) => write!(
                f,
                "a command had no answer for {} ms (io_timeout_ms)",
                age.as_millis()
            ),
            Self::HostLost => f.write_str("it has lost us, as another controller says and we see"),
            Self::SessionFailed => f.write_str("the session with the controller ended"),
            Self::QueueFailed => f.write_str("an I/O queue pair failed"),
            Self::DeviceFatal => f.write_str("the RDMA device failed"),
            Self::Operator => f.write_str("it was taken out of the configuration"),
        }
    }
}

/// What has changed in the judgement; told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send nothing new there, or as little as possible ([`Suspicion::stops`]). Told again when it
    /// comes to the other.
    Suspect(Suspicion),
    /// The suspicion is over.
    Clear,
    /// Give the association up.
    Convict(Conviction),
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

/// The oldest command without an answer, as a lane told it.
#[derive(Debug, Clone, Copy)]
struct Overdue {
    since: Duration,
    told_at: Duration,
}

impl Overdue {
    /// Its age when it was told: what came since nobody knows.
    fn age(self) -> Duration {
        self.told_at.saturating_sub(self.since)
    }
}

/// Lanes tell of an overdue command several times in this time. Not told again, it was answered.
const OVERDUE_MEMORY: Duration = Duration::from_millis(1500);

/// How often a suspect is looked at again: its I/O may have aged into the second signal.
const RECHECK: Duration = Duration::from_millis(20);

/// Health of one association.
#[derive(Debug, Clone)]
pub struct Health {
    config: HealthConfig,
    patience: Patience,
    link_down_since: Option<Duration>,
    missed: u32,
    /// Since when the volume that waits longest has had no answer, as told since the last verdict.
    io_silent_since: Option<Duration>,
    /// When any volume last had an answer.
    io_answered: Duration,
    admin_silent_since: Option<Duration>,
    overdue: Option<Overdue>,
    slowest: Slowest,
    hard: Option<Conviction>,
    /// By the word of another controller; an answered keep-alive refutes it.
    host_lost: bool,
    /// What was told last.
    told: Option<Suspicion>,
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
            missed: 0,
            io_silent_since: None,
            io_answered: Duration::ZERO,
            admin_silent_since: None,
            overdue: None,
            slowest: Slowest::default(),
            hard: None,
            host_lost: false,
            told: None,
            convicted: false,
            judged_at: now,
        }
    }

    /// A keep-alive was answered: the controller is alive and reachable.
    pub fn keep_alive_answered(&mut self, sent_at: Duration, at: Duration) {
        self.missed = 0;
        self.slowest.note(at.saturating_sub(sent_at), at);
        self.host_lost = false;
    }

    /// Another controller of the subsystem says that this one has lost us.
    pub fn host_lost(&mut self, _now: Duration) {
        self.host_lost = true;
    }

    /// `count` keep-alives in a row have no answer.
    pub fn keep_alive_missed(&mut self, count: u32, _now: Duration) {
        self.missed = count;
    }

    /// The session is over.
    pub fn session_failed(&mut self, _now: Duration) {
        self.hard.get_or_insert(Conviction::SessionFailed);
    }

    /// An I/O queue pair is in the error state, or its peer disconnected.
    pub fn queue_failed(&mut self, _now: Duration) {
        self.hard.get_or_insert(Conviction::QueueFailed);
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

    /// A lane has a command in flight that was sent at `since`; told again while that is so.
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
        let waiting = [self.io_silent_since.take(), self.admin_silent_since];
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
        let changed = suspicion.map(Suspicion::stops) != self.told.map(Suspicion::stops);
        self.told = suspicion;
        changed.then(|| suspicion.map_or(Verdict::Clear, Verdict::Suspect))
    }

    /// For the next association on this path.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// When to ask for a [verdict](Self::verdict) although nothing was reported.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.convicted {
            return None;
        }
        let grace = self
            .link_down_since
            .map(|at| at + self.config.link_down_grace);
        let recheck = (self.missed >= self.config.missed_max).then(|| self.judged_at + RECHECK);
        let forgotten = self.overdue.map(|overdue| overdue.told_at + OVERDUE_MEMORY);
        [grace, recheck, forgotten].into_iter().flatten().min()
    }

    fn suspicion(&self, silent_since: Option<Duration>, now: Duration) -> Option<Suspicion> {
        if self.link_down_since.is_some() {
            return Some(Suspicion::LinkDown);
        }
        let missed = self.missed;
        if missed >= self.config.missed_max {
            return Some(Suspicion::KeepAlivesMissed(missed));
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
        if self.host_lost
            && (self.link_down_since.is_some() || self.missed >= self.config.missed_max)
        {
            return Some(Conviction::HostLost);
        }
        let patience = self.patience.granted(self.config.io_timeout, now);
        if let Some(age) = self.oldest().filter(|age| *age >= patience) {
            return Some(Conviction::IoTimeout(age));
        }
        let io = now.saturating_sub(silent_since?);
        let quiet = self.missed >= self.config.missed_max && io >= self.silence_needed();
        quiet.then_some(Conviction::Silent {
            missed: self.missed,
            io,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn health() -> Health {
        Health::new(HealthConfig::default(), Patience::default(), ms(0))
    }

    fn silent(since: u64) -> Pulse {
        Pulse {
            in_flight: 1,
            unanswered_since: Some(ms(since)),
            answered: ms(0),
        }
    }

    #[test]
    fn what_breaks_while_the_link_is_down_is_the_link_s_fault() {
        let mut health = health();
        health.link_down(ms(1));
        health.queue_failed(ms(2));
        let why = Conviction::LinkDown;
        assert_eq!(health.verdict(ms(2)), Some(Verdict::Convict(why)));
    }

    #[test]
    fn a_link_that_comes_back_within_the_grace_costs_nothing() {
        let mut health = health();
        health.link_down(ms(10));
        assert_eq!(
            health.verdict(ms(10)),
            Some(Verdict::Suspect(Suspicion::LinkDown))
        );
        assert_eq!(health.verdict(ms(19)), None);
        assert_eq!(health.poll_timeout(), Some(ms(20)));
        health.link_up(ms(19));
        assert_eq!(health.verdict(ms(19)), Some(Verdict::Clear));
        assert_eq!(health.verdict(ms(500)), None);
    }

    #[test]
    fn the_arrays_word_is_a_suspicion_and_with_ours_a_conviction() {
        let mut health = health();
        health.host_lost(ms(10));
        let suspect = Verdict::Suspect(Suspicion::HostLost);
        assert_eq!(health.verdict(ms(10)), Some(suspect));
        // It meant an earlier incarnation: this one answers us.
        health.keep_alive_answered(ms(15), ms(20));
        assert_eq!(health.verdict(ms(20)), Some(Verdict::Clear));
        health.keep_alive_missed(HealthConfig::default().missed_max, ms(300));
        health.verdict(ms(300));
        health.host_lost(ms(310));
        let convict = Verdict::Convict(Conviction::HostLost);
        assert_eq!(health.verdict(ms(310)), Some(convict));
    }

    #[test]
    fn a_link_that_stays_down_convicts_once_at_the_end_of_the_grace() {
        let mut health = health();
        health.link_down(ms(10));
        health.link_down(ms(15));
        health.verdict(ms(15));
        assert_eq!(
            health.verdict(ms(20)),
            Some(Verdict::Convict(Conviction::LinkDown))
        );
        assert_eq!(health.verdict(ms(999)), None);
        assert_eq!(health.poll_timeout(), None);
    }

    #[test]
    fn missed_keep_alives_alone_only_suspect() {
        let mut health = health();
        health.keep_alive_missed(2, ms(200));
        assert_eq!(health.verdict(ms(200)), None);
        health.keep_alive_missed(3, ms(300));
        let suspect = Verdict::Suspect(Suspicion::KeepAlivesMissed(3));
        assert_eq!(health.verdict(ms(300)), Some(suspect));
        assert_eq!(health.poll_timeout(), Some(ms(320)));
        health.keep_alive_missed(4, ms(400));
        assert_eq!(health.verdict(ms(400)), None);
        health.keep_alive_answered(ms(405), ms(410));
        assert_eq!(health.verdict(ms(410)), Some(Verdict::Clear));
    }

    #[test]
    fn missed_keep_alives_and_silent_io_convict() {
        let mut health = health();
        health.keep_alive_missed(3, ms(300));
        health.pulse(silent(101), ms(300));
        assert!(matches!(health.verdict(ms(300)), Some(Verdict::Suspect(_))));
        health.pulse(silent(150), ms(301));
        health.pulse(silent(101), ms(301));
        let why = Conviction::Silent {
            missed: 3,
            io: ms(200),
        };
        assert_eq!(health.verdict(ms(301)), Some(Verdict::Convict(why)));
    }

    #[test]
    fn an_answer_to_one_volume_speaks_for_all() {
        let mut health = health();
        health.keep_alive_missed(3, ms(400));
        health.pulse(silent(10), ms(400));
        let idle = Pulse {
            in_flight: 0,
            unanswered_since: None,
            answered: ms(390),
        };
        health.pulse(idle, ms(400));
        assert!(matches!(health.verdict(ms(400)), Some(Verdict::Suspect(_))));
    }

    #[test]
    fn an_unanswered_admin_command_is_a_second_signal() {
        let mut health = health();
        health.keep_alive_missed(3, ms(400));
        health.admin_waiting(Some(ms(150)));
        assert!(matches!(health.verdict(ms(400)), Some(Verdict::Convict(_))));
    }

    #[test]
    fn silent_io_alone_convicts_nobody_and_steers_away() {
        let mut health = health();
        health.pulse(silent(0), ms(999));
        assert_eq!(health.verdict(ms(999)), None);
        health.pulse(silent(0), ms(1_000));
        let stuck = Verdict::Suspect(Suspicion::IoStuck);
        assert_eq!(health.verdict(ms(1_000)), Some(stuck));
        health.pulse(silent(0), ms(99_000));
        assert_eq!(health.verdict(ms(99_000)), None);
        health.pulse(silent(98_500), ms(99_001));
        assert_eq!(health.verdict(ms(99_001)), Some(Verdict::Clear));
    }

    /// On a machine where answers take 200 ms, 200 ms without one say nothing.
    #[test]
    fn slow_keep_alives_ask_for_more_silence() {
        let mut health = health();
        health.keep_alive_answered(ms(0), ms(200));
        health.keep_alive_missed(3, ms(400));
        health.pulse(silent(101), ms(499));
        assert!(matches!(health.verdict(ms(499)), Some(Verdict::Suspect(_))));
        health.pulse(silent(101), ms(501));
        assert!(matches!(health.verdict(ms(501)), Some(Verdict::Convict(_))));
    }

    #[test]
    fn slowness_is_forgotten_and_asks_for_half_a_second_at_most() {
        let mut health = health();
        health.keep_alive_answered(ms(0), ms(700));
        assert_eq!(health.silence_needed(), SILENCE_MAX);
        health.keep_alive_answered(ms(5_699), ms(5_700));
        assert_eq!(
            health.silence_needed(),
            SILENCE_MAX,
            "at least five seconds"
        );
        health.keep_alive_answered(ms(10_699), ms(10_700));
        assert_eq!(health.silence_needed(), ms(200));
    }

    #[test]
    fn hard_evidence_convicts_at_once() {
        for (tell, why) in [
            (
                Health::session_failed as fn(&mut Health, Duration),
                Conviction::SessionFailed,
            ),
            (Health::queue_failed, Conviction::QueueFailed),
            (Health::device_fatal, Conviction::DeviceFatal),
        ] {
            let mut health = health();
            tell(&mut health, ms(1));
            assert_eq!(health.verdict(ms(1)), Some(Verdict::Convict(why)));
        }
    }

    /// Tells of one command as a lane does, until `until`; the verdicts.
    fn overdue(health: &mut Health, since: u64, until: u64) -> Vec<(u64, Verdict)> {
        let mut verdicts = Vec::new();
        for at in (since + 2000..=until).step_by(500) {
            health.keep_alive_answered(ms(at - 1), ms(at));
            health.pulse(
                Pulse {
                    in_flight: 9,
                    unanswered_since: Some(ms(at)),
                    answered: ms(at),
                },
                ms(at),
            );
            health.io_overdue(ms(since), ms(at));
            verdicts.extend(health.verdict(ms(at)).map(|verdict| (at, verdict)));
        }
        verdicts
    }

    #[test]
    fn a_command_never_answered_convicts_while_others_are_answered() {
        let mut health = health();
        assert_eq!(
            overdue(&mut health, 1000, 40_000),
            [
                (11_000, Verdict::Suspect(Suspicion::IoSlow(ms(10_000)))),
                (31_000, Verdict::Convict(Conviction::IoTimeout(ms(30_000)))),
            ]
        );
    }

    /// Whatever needs longer than the timeout would otherwise be sent again for ever.
    #[test]
    fn a_command_slower_than_the_timeout_is_given_twice_as_long_by_the_next_association() {
        let mut first = health();
        overdue(&mut first, 1000, 40_000);
        let mut next = Health::new(HealthConfig::default(), first.patience(), ms(32_000));
        let why = Conviction::IoTimeout(ms(60_000));
        assert_eq!(
            overdue(&mut next, 33_000, 99_000).last(),
            Some(&(93_000, Verdict::Convict(why)))
        );
    }

    #[test]
    fn a_slow_command_and_then_silence_are_told_one_after_the_other() {
        let mut health = health();
        let slow = Verdict::Suspect(Suspicion::IoSlow(ms(10_000)));
        assert_eq!(overdue(&mut health, 0, 10_000), [(10_000, slow)]);
        health.keep_alive_missed(3, ms(10_100));
        let silent = Verdict::Suspect(Suspicion::KeepAlivesMissed(3));
        assert_eq!(health.verdict(ms(10_100)), Some(silent));
        health.keep_alive_missed(4, ms(10_200));
        assert_eq!(health.verdict(ms(10_200)), None);
        health.keep_alive_answered(ms(10_290), ms(10_300));
        assert_eq!(health.verdict(ms(10_300)), Some(slow));
        assert_eq!(health.verdict(ms(12_000)), Some(Verdict::Clear));
    }

    #[test]
    fn a_command_answered_late_convicts_nobody() {
        let mut health = health();
        let told = overdue(&mut health, 1000, 30_500);
        assert_eq!(told.len(), 1, "{told:?}");
        // Answered: no lane speaks of it any more, and it does not grow older meanwhile.
        assert_eq!(health.poll_timeout(), Some(ms(32_000)));
        assert_eq!(health.verdict(ms(31_500)), None);
        assert_eq!(health.verdict(ms(32_000)), Some(Verdict::Clear));
        assert_eq!(health.poll_timeout(), None);
    }

    #[test]
    fn the_oldest_command_counts_and_is_forgotten_for_the_next() {
        let mut health = health();
        for at in [20_000, 20_500, 21_000] {
            health.io_overdue(ms(5000), ms(at));
            health.io_overdue(ms(9000), ms(at));
        }
        assert_eq!(health.oldest(), Some(ms(16_000)));
        // The older one was answered; the younger takes its place.
        health.io_overdue(ms(9000), ms(22_600));
        assert_eq!(health.oldest(), Some(ms(13_600)));
    }
}
