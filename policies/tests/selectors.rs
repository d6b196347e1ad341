//! One conformance suite over every selector of the registry, then what each promises beyond it.

use umpath_policies::{Candidates, PathId, Priority, Selector, SelectorConfig, SelectorKind};

#[derive(Clone)]
struct Paths(Vec<(PathId, u32, Priority)>);

impl Paths {
    fn new(count: u8) -> Self {
        Self((0..count).map(|id| (PathId(id * 2), 0, 50)).collect())
    }
}

impl Candidates for Paths {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn path(&self, at: usize) -> PathId {
        self.0[at].0
    }
    fn in_flight(&self, at: usize) -> u32 {
        self.0[at].1
    }
    fn priority(&self, at: usize) -> Priority {
        self.0[at].2
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
    for (name, mut selector) in every_selector() {
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..20_000 {
            let count = random(&mut seed) % 16 + 1;
            let mut paths = Paths(Vec::new());
            for id in 0..=u8::MAX {
                if paths.0.len() as u64 == count {
                    break;
                }
                if random(&mut seed).is_multiple_of(4) {
                    let load = (random(&mut seed) % 200) as u32;
                    let priority = (random(&mut seed) % 140) as Priority - 2;
                    paths.0.push((PathId(id), load, priority));
                }
            }
            if paths.count() > 0 {
                assert!(selector.select(&paths) < paths.count(), "{name}");
            }
        }
    }
}

#[test]
fn nothing_offered_is_no_panic() {
    for (name, mut selector) in every_selector() {
        assert_eq!(selector.select(&Paths(Vec::new())), 0, "{name}");
        assert_eq!(selector.select(&Paths::new(1)), 0, "{name}");
    }
}

#[test]
fn equal_idle_paths_share_equally() {
    for (name, mut selector) in every_selector() {
        for count in 1..=16 {
            let paths = Paths::new(count);
            let mut taken = vec![0; usize::from(count)];
            for _ in 0..usize::from(count) * 10 {
                taken[selector.select(&paths)] += 1;
            }
            assert!(
                taken.iter().all(|times| (9..=11).contains(times)),
                "{name}: {taken:?}"
            );
        }
    }
}

#[test]
fn no_path_starves_under_load() {
    for (name, mut selector) in every_selector() {
        let mut paths = Paths::new(4);
        let mut taken = [0; 4];
        let mut seed = 1;
        for _ in 0..10_000 {
            let at = selector.select(&paths);
            taken[at] += 1;
            paths.0[at].1 += 1;
            let done = (random(&mut seed) % 4) as usize;
            paths.0[done].1 = paths.0[done].1.saturating_sub(1);
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
            .map(|_| {
                let at = (random(&mut seed) % 5) as usize;
                paths.0[at].1 = (random(&mut seed) % 9) as u32;
                selector.select(&paths)
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
    assert!(SelectorKind::parse("fastest").is_err());
    assert!(SelectorKind::parse("").is_err());
}

#[test]
fn queue_length_takes_the_shortest_queue() {
    let mut selector = SelectorConfig::default().start();
    let mut paths = Paths::new(3);
    paths.0[0].1 = 5;
    paths.0[1].1 = 2;
    paths.0[2].1 = 9;
    for _ in 0..10 {
        assert_eq!(selector.select(&paths), 1);
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
        .map(|_| paths.0[selector.select(paths)].0.0)
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
    paths.0[0].2 = 3;
    paths.0[1].2 = -1;
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
