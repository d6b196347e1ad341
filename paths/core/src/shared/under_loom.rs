//! Lanes that count and a health check that reads, in every order that the atomics allow.
//!
//! A lane's clock and health's are one clock here: seconds since the model began.

use core::time::Duration;

use loom::sync::Arc;
use loom::thread;

use super::{COMMAND, Pulse, VolumeShared};
use crate::sync::{AtomicU64, Ordering};
use crate::table::PathId;

const PATH: PathId = PathId(0);

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn explore(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// A path that was used long ago.
fn used_at(seconds: u64) -> Arc<VolumeShared> {
    let shared = VolumeShared::new();
    shared.sent(PATH, 1, at(seconds));
    shared.answered(PATH, 1, at(seconds));
    Arc::new(shared)
}

#[test]
fn no_command_is_lost_from_the_count() {
    explore(|| {
        let shared = used_at(1);
        let lanes: Vec<_> = [3, 4]
            .into_iter()
            .map(|bytes| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.sent(PATH, bytes, at(10));
                    assert!((1..=2).contains(&shared.in_flight(PATH)));
                    if bytes == 3 {
                        shared.answered(PATH, bytes, at(11));
                    } else {
                        shared.dropped(PATH, bytes);
                    }
                })
            })
            .collect();
        for lane in lanes {
            lane.join().expect("it ends");
        }
        assert_eq!(shared.in_flight(PATH), 0);
        assert_eq!(shared.in_flight_bytes(PATH), 0);
        let idle = Pulse {
            in_flight: 0,
            unanswered_since: None,
            answered: at(11),
        };
        assert_eq!(shared.pulse(PATH), idle);
    });
}

#[test]
fn a_path_that_was_idle_is_not_taken_for_silent() {
    explore(|| {
        let shared = used_at(1);
        let lane = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.sent(PATH, 1, at(100)))
        };
        let pulse = shared.pulse(PATH);
        assert!(
            pulse.unanswered_since.is_none_or(|since| since == at(100)),
            "{pulse:?}: nothing was in flight before"
        );
        lane.join().expect("it ends");
        assert_eq!(shared.pulse(PATH).unanswered_since, Some(at(100)));
    });
}

#[test]
fn a_path_that_answered_is_not_taken_for_silent_when_the_next_lane_sends() {
    explore(|| {
        let shared = used_at(1);
        shared.sent(PATH, 1, at(50));
        let answered = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.answered(PATH, 1, at(100)))
        };
        let sent = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.sent(PATH, 2, at(100)))
        };
        let pulse = shared.pulse(PATH);
        assert!(pulse.unanswered_since.is_none_or(|since| since >= at(50)));
        answered.join().expect("it ends");
        sent.join().expect("it ends");
        assert_eq!(shared.pulse(PATH).unanswered_since, Some(at(100)));
    });
}

#[test]
fn lanes_of_different_stripes_lose_no_latency_to_each_other() {
    explore(|| {
        let shared = used_at(1);
        let lane = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.took(1, PATH, 0))
        };
        shared.took(0, PATH, 0);
        lane.join().expect("it ends");
        assert_eq!(shared.latencies(PATH).0.iter().sum::<u32>(), 2);
    });
}

/// The mistakes that these would find.
mod planted {
    use super::*;

    /// Counts with a load and a store.
    #[test]
    #[should_panic(expected = "two were sent")]
    fn a_count_that_is_not_one_step() {
        explore(|| {
            let count = Arc::new(AtomicU64::new(0));
            let send = |count: &AtomicU64| {
                count.store(count.load(Ordering::Relaxed) + COMMAND, Ordering::Relaxed);
            };
            let lane = {
                let count = Arc::clone(&count);
                thread::spawn(move || send(&count))
            };
            send(&count);
            lane.join().expect("it ends");
            assert_eq!(count.load(Ordering::Relaxed), 2 * COMMAND, "two were sent");
        });
    }

    /// Counts first and says since when afterwards: health may read in between.
    #[test]
    #[should_panic(expected = "nothing was in flight before")]
    fn a_time_that_comes_after_the_count() {
        silent_by(|count, since| {
            count.fetch_add(COMMAND, Ordering::Release);
            since.store(100, Ordering::Relaxed);
        });
    }

    /// In the right order, which nobody promises to health.
    #[test]
    #[should_panic(expected = "nothing was in flight before")]
    fn a_count_that_is_not_released() {
        silent_by(|count, since| {
            since.store(100, Ordering::Relaxed);
            count.fetch_add(COMMAND, Ordering::Relaxed);
        });
    }

    fn silent_by(send: fn(&AtomicU64, &AtomicU64)) {
        explore(move || {
            let shared = Arc::new((AtomicU64::new(0), AtomicU64::new(1)));
            let lane = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || send(&shared.0, &shared.1))
            };
            if shared.0.load(Ordering::Acquire) > 0 {
                let since = shared.1.load(Ordering::Relaxed);
                assert_eq!(since, 100, "nothing was in flight before");
            }
            lane.join().expect("it ends");
        });
    }
}
