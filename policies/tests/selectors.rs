//! One conformance suite over every selector of the registry, then what each promises beyond it.

use core::time::Duration;

use umpath_policies::{
    Ask, Candidates, Done, PathId, Priority, Selector, SelectorConfig, SelectorKind,
};

#[derive(Clone)]
struct Path {
    id: PathId,
    in_flight: u32,
    bytes: u64,
    priority: Priority,
    throughput: u8,
    near: bool,
}

#[derive(Clone)]
struct Paths(Vec<Path>);

impl Paths {
    fn new(count: u8) -> Self {
        Self((0..count).map(|id| Self::path(id * 2)).collect())
    }

    fn path(id: u8) -> Path {
        Path {
            id: PathId(id),
            in_flight: 0,
            bytes: 0,
            priority: 50,
            throughput: 1,
            near: false,
        }
    }
}

/// A 4 KiB read at a time given in microseconds.
fn read(now_us: u64) -> Ask {
    Ask {
        bytes: 4096,
        write: false,
        now: Duration::from_micros(now_us),
    }
}

fn done(path: u8, sent_us: u64, took_us: u64) -> Done {
    Done {
        path: PathId(path),
        bytes: 4096,
        write: false,
        sent: Duration::from_micros(sent_us),
        at: Duration::from_micros(sent_us + took_us),
    }
}

impl Candidates for Paths {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn path(&self, at: usize) -> PathId {
        self.0[at].id
    }
    fn in_flight(&self, at: usize) -> u32 {
        self.0[at].in_flight
    }
    fn in_flight_bytes(&self, at: usize) -> u64 {
        self.0[at].bytes
    }
    fn priority(&self, at: usize) -> Priority {
        self.0[at].priority
    }
    fn throughput(&self, at: usize) -> u8 {
        self.0[at].throughput
    }
    fn is_near(&self, at: usize) -> bool {
        self.0[at].near
    }
}

fn every_selector() -> impl Iterator<Item = (&'static str, Selector)> {
    SelectorKind::ALL.iter().map(|kind| {
        (
            kind.word(),
            SelectorConfig {
                kind: *kind,
                ..Default::default()
            }
            .start(),
        )
    })
}

/// A small deterministic generator (xorshift64), so that a failure repeats.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn picks_one_of_the_offered_paths_however_the_group_changes() {
    // Turns of several requests outlast a group.
    let long_turns = [("round-robin, long turns", round_robin(7, true))];
    for (name, mut selector) in every_selector().chain(long_turns) {
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        for step in 0..20_000 {
            let count = random(&mut seed) % 16 + 1;
            let mut paths = Paths(Vec::new());
            for id in 0..=u8::MAX {
                if paths.0.len() as u64 == count {
                    break;
                }
                if random(&mut seed).is_multiple_of(4) {
                    let draw = random(&mut seed);
                    paths.0.push(Path {
                        in_flight: (draw % 200) as u32,
                        bytes: draw % (1 << 41),
                        priority: (draw % 140) as Priority - 2,
                        throughput: (draw % 255) as u8,
                        near: draw.is_multiple_of(3),
                        ..Paths::path(id)
                    });
                }
            }
            if paths.count() > 0 {
                let ask = Ask {
                    bytes: random(&mut seed) as u32,
                    write: step % 2 == 0,
                    now: Duration::from_nanos(random(&mut seed)),
                };
                assert!(selector.select(&paths, &ask) < paths.count(), "{name}");
            }
            // Times that run backwards and sizes without bound must not matter.
            selector.completed(&Done {
                path: PathId(random(&mut seed) as u8),
                bytes: random(&mut seed) as u32,
                write: step % 3 == 0,
                sent: Duration::from_nanos(random(&mut seed)),
                at: Duration::from_nanos(random(&mut seed)),
            });
            if step % 100 == 0 {
                let path = PathId(random(&mut seed) as u8);
                selector.forget(path, Duration::from_nanos(random(&mut seed)));
            }
        }
    }
}

#[test]
fn nothing_offered_is_no_panic() {
    for (name, mut selector) in every_selector() {
        assert_eq!(selector.select(&Paths(Vec::new()), &read(1)), 0, "{name}");
        assert_eq!(selector.select(&Paths::new(1), &read(1)), 0, "{name}");
    }
}

#[test]
fn equal_idle_paths_share_equally() {
    for count in 1..=16 {
        for (name, mut selector) in every_selector() {
            let paths = Paths((0..count).map(Paths::path).collect());
            let mut taken = vec![0; usize::from(count)];
            for step in 0..u64::from(count) * 10 {
                let at = selector.select(&paths, &read(step * 100));
                taken[at] += 1;
                selector.completed(&done(paths.0[at].id.0, step * 100, 80));
            }
            assert!(
                taken.iter().all(|times| (9..=11).contains(times)),
                "{name}: {taken:?}"
            );
        }
    }
}

#[test]
fn equally_loaded_paths_take_turns() {
    for (name, mut selector) in every_selector() {
        let mut paths = Paths::new(4);
        for path in &mut paths.0 {
            (path.in_flight, path.bytes) = (3, 3 * 4096);
        }
        let mut taken: Vec<u8> = sequence(&mut selector, &paths, 4);
        taken.sort_unstable();
        assert_eq!(taken, [0, 2, 4, 6], "{name}");
    }
}

#[test]
fn no_path_starves_under_load() {
    for (name, mut selector) in every_selector() {
        let mut paths = Paths::new(4);
        let mut taken = [0; 4];
        let mut seed = 1;
        for step in 0..10_000 {
            let at = selector.select(&paths, &read(step * 10));
            taken[at] += 1;
            paths.0[at].in_flight += 1;
            paths.0[at].bytes += 4096;
            let over = &mut paths.0[(random(&mut seed) % 4) as usize];
            if over.in_flight > 0 {
                over.in_flight -= 1;
                over.bytes -= 4096;
                selector.completed(&done(over.id.0, step * 10, 40));
            }
        }
        assert!(
            taken.iter().all(|times| *times > 1_000),
            "{name}: {taken:?}"
        );
    }
}

#[test]
fn the_same_history_gives_the_same_choices() {
    let choices = |mut selector: Selector| -> Vec<usize> {
        let mut seed = 7;
        let mut paths = Paths::new(5);
        (0..1_000)
            .map(|step| {
                let at = (random(&mut seed) % 5) as usize;
                paths.0[at].in_flight = (random(&mut seed) % 9) as u32;
                selector.completed(&done(at as u8 * 2, step, random(&mut seed) % 500));
                selector.select(&paths, &read(step))
            })
            .collect()
    };
    for ((name, first), (_, second)) in every_selector().zip(every_selector()) {
        assert_eq!(choices(first), choices(second), "{name}");
    }
}

#[test]
fn words_name_selectors() {
    for kind in SelectorKind::ALL {
        assert_eq!(SelectorKind::parse(kind.word()), Ok(*kind));
        assert_eq!(
            SelectorKind::parse(&format!("{} 0", kind.word())),
            Ok(*kind)
        );
    }
    assert_eq!(SelectorKind::parse("numa"), Ok(SelectorKind::IoAffinity));
    assert!(SelectorKind::parse("fastest").is_err());
    assert!(SelectorKind::parse("").is_err());
}

fn started(kind: SelectorKind) -> Selector {
    SelectorConfig {
        kind,
        ..Default::default()
    }
    .start()
}

#[test]
fn queue_length_takes_the_shortest_queue() {
    let mut selector = started(SelectorKind::QueueLength);
    let mut paths = Paths::new(3);
    paths.0[0].in_flight = 5;
    paths.0[1].in_flight = 2;
    paths.0[2].in_flight = 9;
    for _ in 0..10 {
        assert_eq!(selector.select(&paths, &read(0)), 1);
    }
}

fn round_robin(rr_min_io: u32, rr_weight_priorities: bool) -> Selector {
    SelectorConfig {
        kind: SelectorKind::RoundRobin,
        rr_min_io,
        rr_weight_priorities,
    }
    .start()
}

fn sequence(selector: &mut Selector, paths: &Paths, count: usize) -> Vec<u8> {
    (0..count)
        .map(|_| paths.0[selector.select(paths, &read(0))].id.0)
        .collect()
}

#[test]
fn round_robin_turns_last_rr_min_io_requests() {
    let paths = Paths::new(2);
    assert_eq!(
        sequence(&mut round_robin(1, false), &paths, 4),
        [0, 2, 0, 2]
    );
    assert_eq!(
        sequence(&mut round_robin(3, false), &paths, 7),
        [0, 0, 0, 2, 2, 2, 0]
    );
    assert_eq!(
        sequence(&mut round_robin(0, false), &paths, 3),
        [0, 2, 0],
        "0 counts as 1"
    );
}

#[test]
fn round_robin_weighs_by_priority_when_asked() {
    let mut paths = Paths::new(2);
    paths.0[0].priority = 3;
    paths.0[1].priority = -1;
    assert_eq!(
        sequence(&mut round_robin(1, true), &paths, 5),
        [0, 0, 0, 2, 0]
    );
}

#[test]
fn round_robin_goes_on_where_it_was_when_a_path_leaves() {
    let mut selector = round_robin(1, false);
    let mut paths = Paths::new(3);
    assert_eq!(sequence(&mut selector, &paths, 2), [0, 2]);
    paths.0.remove(1);
    assert_eq!(sequence(&mut selector, &paths, 2), [4, 0]);
}

#[test]
fn service_time_takes_the_fewest_bytes() {
    let mut selector = started(SelectorKind::ServiceTime);
    let mut paths = Paths::new(2);
    paths.0[0].bytes = 128 * 1024;
    paths.0[1].bytes = 64 * 1024;
    paths.0[1].in_flight = 16;
    for _ in 0..5 {
        assert_eq!(selector.select(&paths, &read(0)), 1, "bytes, not requests");
    }
}

#[test]
fn service_time_weighs_by_throughput_and_keeps_0_for_the_last_resort() {
    let mut selector = started(SelectorKind::ServiceTime);
    let mut paths = Paths::new(2);
    paths.0[0].throughput = 10;
    paths.0[0].bytes = 90 * 1024;
    paths.0[1].bytes = 16 * 1024;
    assert_eq!(
        selector.select(&paths, &read(0)),
        0,
        "94 / 10 before 20 / 1"
    );
    paths.0[0].bytes = 16 * 1024;
    assert_eq!(
        selector.select(&paths, &read(0)),
        0,
        "equal bytes: throughput"
    );
    paths.0[0].throughput = 0;
    paths.0[0].bytes = 0;
    paths.0[1].bytes = 1 << 39;
    for _ in 0..5 {
        assert_eq!(selector.select(&paths, &read(0)), 1);
    }
    paths.0.remove(1);
    assert_eq!(selector.select(&paths, &read(0)), 0, "the last resort");
}

/// Both paths loaded, the second ten times as slow, each answering often enough to be fresh.
fn learnt(kind: SelectorKind) -> (Selector, Paths, u64) {
    let mut selector = started(kind);
    let mut paths = Paths::new(2);
    let mut now = 0;
    for _ in 0..1_000 {
        now += 1_000;
        selector.select(&paths, &read(now));
        selector.completed(&done(0, now - 100, 100));
        selector.completed(&done(2, now - 1_000, 1_000));
    }
    paths.0[0].in_flight = 4;
    paths.0[1].in_flight = 4;
    (selector, paths, now)
}

#[test]
fn historical_service_time_is_past_service_time_times_outstanding() {
    let (mut selector, mut paths, now) = learnt(SelectorKind::HistoricalServiceTime);
    let taken = |selector: &mut Selector, paths: &Paths| selector.select(paths, &read(now + 1));
    assert_eq!(
        taken(&mut selector, &paths),
        0,
        "equal load: the faster path"
    );
    paths.0[0].in_flight = 200;
    assert_eq!(
        taken(&mut selector, &paths),
        1,
        "201 x 100 us behind 5 x 1000 us"
    );
}

#[test]
fn historical_service_time_tries_an_idle_path_again_when_it_is_stale() {
    let (mut selector, mut paths, now) = learnt(SelectorKind::HistoricalServiceTime);
    paths.0[1].in_flight = 0;
    assert_eq!(selector.select(&paths, &read(now + 1)), 0, "still fresh");
    assert_eq!(selector.select(&paths, &read(now + 100_000)), 1, "stale");
    selector.completed(&done(0, now + 99_900, 100));
    let at = selector.select(&paths, &read(now + 100_001));
    assert_eq!(at, 1, "although the busy one is fresh");
    let later = now + 200_000;
    paths.0[1].in_flight = 4;
    paths.0[0].in_flight = 3;
    assert_eq!(selector.select(&paths, &read(later)), 0);
    paths.0[0].in_flight = 5;
    let at = selector.select(&paths, &read(later));
    assert_eq!(at, 1, "all stale: by what is outstanding alone");
}

#[test]
fn io_affinity_takes_a_path_on_the_queues_node_first() {
    let mut selector = started(SelectorKind::IoAffinity);
    let mut paths = Paths::new(4);
    paths.0[1].near = true;
    paths.0[1].in_flight = 7;
    paths.0[3].near = true;
    paths.0[3].in_flight = 5;
    assert_eq!(selector.select(&paths, &read(0)), 3);
    for path in &mut paths.0 {
        path.near = false;
    }
    let taken: Vec<_> = (0..4).map(|_| selector.select(&paths, &read(0))).collect();
    assert_eq!(taken, [0, 2, 0, 2], "none is near: by queue length");
}

#[test]
fn latency_is_mean_latency_of_the_size_class_times_in_flight() {
    let (mut selector, mut paths, now) = learnt(SelectorKind::Latency);
    paths.0[0].in_flight = 20;
    let taken = |selector: &mut Selector, paths: &Paths, ask: Ask| selector.select(paths, &ask);
    assert_eq!(
        taken(&mut selector, &paths, read(now)),
        0,
        "21 x (100 + 100) us before 5 x (1000 + 100) us"
    );
    paths.0[0].in_flight = 30;
    assert_eq!(
        taken(&mut selector, &paths, read(now)),
        1,
        "31 x (100 + 100) us behind 5 x (1000 + 100) us"
    );
    let write = Ask {
        write: true,
        ..read(now)
    };
    paths.0[0].in_flight = 5;
    assert_eq!(
        taken(&mut selector, &paths, write),
        1,
        "of writes nothing is known"
    );
    let large = Ask {
        bytes: 1 << 20,
        ..read(now)
    };
    assert_eq!(
        taken(&mut selector, &paths, large),
        1,
        "of large reads nothing is known"
    );
}

#[test]
fn latency_probes_the_path_that_was_silent_longest_with_less_than_1_percent() {
    let (mut selector, mut paths, mut now) = learnt(SelectorKind::Latency);
    paths.0[1].in_flight = 0;
    paths.0[0].in_flight = 0;
    let mut slow = 0;
    for _ in 0..10_000 {
        now += 100;
        let at = selector.select(&paths, &read(now));
        if at == 1 {
            slow += 1;
            selector.completed(&done(2, now, 1_000));
        } else {
            selector.completed(&done(0, now, 100));
        }
    }
    assert!((78..=79).contains(&slow), "{slow} of 10,000 / 128");
}

#[test]
fn latency_gives_a_path_that_has_become_fast_its_share_again() {
    let (mut selector, mut paths, mut now) = learnt(SelectorKind::Latency);
    let mut taken = [0; 2];
    let mut flying = std::collections::VecDeque::new();
    for step in 0..20_000 {
        now += 25;
        let at = selector.select(&paths, &read(now));
        paths.0[at].in_flight += 1;
        flying.push_back((at, now));
        if flying.len() > 8 {
            let (over, sent) = flying.pop_front().unwrap();
            paths.0[over].in_flight -= 1;
            selector.completed(&done(over as u8 * 2, sent, now - sent));
        }
        if step >= 10_000 {
            taken[at] += 1;
        }
    }
    assert!(taken[1] > 4_000, "{taken:?}");
}

#[test]
fn latency_leaves_a_path_alone_that_answers_nothing() {
    let (mut selector, mut paths, mut now) = learnt(SelectorKind::Latency);
    // By what is in flight alone, 225 requests would go there before one takes the slow path.
    (paths.0[0].in_flight, paths.0[1].in_flight) = (0, 40);
    let mut hole = 0;
    for _ in 0..1_000 {
        now += 100;
        match selector.select(&paths, &read(now)) {
            0 => {
                paths.0[0].in_flight += 1;
                hole += 1;
            }
            _ => selector.completed(&done(2, now, 1_000)),
        }
    }
    assert!(
        hole < 40,
        "{hole} requests into a hole that was the fastest path"
    );
}
