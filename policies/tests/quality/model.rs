//! Paths as queues. Each controller serves eight requests at a time; service takes about 80 us for a
//! read of 4 KiB (twice that for a write, and 1 us for each further KiB), spread over +-50 %; the
//! wire adds 20 us there and back. Four lanes keep eight requests for each path in flight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use umpath_policies::{
    Ask, Candidates, Done, PathId, Priority, Selector, SelectorConfig, SelectorKind,
};

use super::report::Cell;
use super::scene::{Flaw, Load, Scene};

const LANES: usize = 4;
const IN_FLIGHT_PER_PATH: usize = 8;
const SERVERS: usize = 8;
const READ_NS: u64 = 80_000;
const KIB_NS: u64 = 1_000;
const WIRE_NS: u64 = 20_000;
/// Requests measured, after a tenth as many to warm up.
const REQUESTS_PER_PATH: usize = 20_000;

const FLAP_EVERY_NS: u64 = 50_000_000;
const FLAP_FOR_NS: u64 = 10_000_000;
const FLAP_NOTICED_NS: u64 = 1_000_000;

struct Random(u64);

impl Random {
    /// Below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct Path {
    flaw: Flaw,
    /// When each server is free.
    free_ns: [u64; SERVERS],
    in_flight: u32,
    bytes: u64,
    offered: bool,
}

impl Path {
    fn away_until(&self, now_ns: u64) -> Option<(u64, u64)> {
        let phase = now_ns % FLAP_EVERY_NS;
        let away_from = FLAP_EVERY_NS - FLAP_FOR_NS;
        (self.flaw == Flaw::Flap && phase >= away_from)
            .then(|| (phase - away_from, now_ns - phase + FLAP_EVERY_NS))
    }

    fn is_offered(&self, now_ns: u64) -> bool {
        self.away_until(now_ns)
            .is_none_or(|(away_ns, _)| away_ns < FLAP_NOTICED_NS)
    }

    /// When a request sent now is answered.
    fn answers_at(&mut self, ask: &Ask, now_ns: u64, random: &mut Random) -> u64 {
        let kib = u64::from(ask.bytes) / 1024;
        let base = READ_NS * if ask.write { 2 } else { 1 } + (kib - 4) * KIB_NS;
        let base = base * if self.flaw == Flaw::Slow { 10 } else { 1 };
        let service = base / 2 + random.below(base);
        let mut arrives = now_ns + WIRE_NS / 2;
        if self.flaw == Flaw::Loss && random.below(100) == 0 {
            arrives += 20_000_000;
        }
        let server = self.free_ns.iter_mut().min().expect("servers");
        let done = arrives.max(*server) + service;
        *server = done;
        let mut back = done + WIRE_NS / 2;
        if self.flaw == Flaw::Jitter && random.below(10) == 0 {
            back += random.below(5_000_000);
        }
        // An answer that would come while the path is away comes after it.
        match self.away_until(back) {
            Some((_, returns)) => returns + random.below(1_000_000),
            None => back,
        }
    }
}

struct Offer<'a> {
    paths: &'a [Path],
    offered: &'a [usize],
}

impl Offer<'_> {
    fn at(&self, at: usize) -> &Path {
        &self.paths[self.offered[at]]
    }
}

impl Candidates for Offer<'_> {
    fn count(&self) -> usize {
        self.offered.len()
    }
    fn path(&self, at: usize) -> PathId {
        PathId(self.offered[at] as u8)
    }
    fn in_flight(&self, at: usize) -> u32 {
        self.at(at).in_flight
    }
    fn in_flight_bytes(&self, at: usize) -> u64 {
        self.at(at).bytes
    }
    fn priority(&self, _: usize) -> Priority {
        50
    }
    fn throughput(&self, _: usize) -> u8 {
        1
    }
    fn is_near(&self, _: usize) -> bool {
        false
    }
}

/// A request in flight, ordered by its answer.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    answered_ns: u64,
    number: usize,
    lane: usize,
    path: usize,
    sent_ns: u64,
    bytes: u32,
    write: bool,
}

struct World {
    load: Load,
    paths: Vec<Path>,
    lanes: Vec<Selector>,
    random: Random,
    sent: usize,
    flying: BinaryHeap<Reverse<Flight>>,
}

impl World {
    fn ask(&mut self, now_ns: u64) -> Ask {
        let (bytes, write) = match self.load {
            Load::Reads => (4096, false),
            Load::Writes => (4096, true),
            Load::Mixed if self.random.below(10) < 7 => (4096, false),
            Load::Mixed => (65_536, true),
        };
        let now = Duration::from_nanos(now_ns);
        Ask { bytes, write, now }
    }

    /// Paths come and go; one that returns is new to the lanes.
    fn check(&mut self, now_ns: u64) {
        for (at, path) in self.paths.iter_mut().enumerate() {
            let offered = path.is_offered(now_ns);
            if offered && !path.offered {
                for lane in &mut self.lanes {
                    lane.forget(PathId(at as u8), Duration::from_nanos(now_ns));
                }
            }
            path.offered = offered;
        }
    }

    fn send(&mut self, lane: usize, now_ns: u64) {
        let ask = self.ask(now_ns);
        self.check(now_ns);
        let offered: Vec<usize> = (0..self.paths.len())
            .filter(|at| self.paths[*at].offered)
            .collect();
        let offer = Offer {
            paths: &self.paths,
            offered: &offered,
        };
        let path = offered[self.lanes[lane].select(&offer, &ask)];
        self.paths[path].in_flight += 1;
        self.paths[path].bytes += u64::from(ask.bytes);
        let answered_ns = self.paths[path].answers_at(&ask, now_ns, &mut self.random);
        self.sent += 1;
        self.flying.push(Reverse(Flight {
            answered_ns,
            number: self.sent,
            lane,
            path,
            sent_ns: now_ns,
            bytes: ask.bytes,
            write: ask.write,
        }));
    }

    /// Takes the next answer.
    fn answer(&mut self) -> Flight {
        let Reverse(flight) = self.flying.pop().expect("a closed loop");
        let path = &mut self.paths[flight.path];
        path.in_flight -= 1;
        path.bytes -= u64::from(flight.bytes);
        self.lanes[flight.lane].completed(&Done {
            path: PathId(flight.path as u8),
            bytes: flight.bytes,
            write: flight.write,
            sent: Duration::from_nanos(flight.sent_ns),
            at: Duration::from_nanos(flight.answered_ns),
        });
        flight
    }
}

/// Runs one selector through a scene.
pub(crate) fn run(scene: Scene, kind: SelectorKind) -> Cell {
    let config = SelectorConfig {
        kind,
        ..SelectorConfig::default()
    };
    let path = |at| Path {
        flaw: if at == 0 { scene.flaw } else { Flaw::None },
        free_ns: [0; SERVERS],
        in_flight: 0,
        bytes: 0,
        offered: true,
    };
    let mut world = World {
        load: scene.load,
        paths: (0..scene.paths).map(path).collect(),
        lanes: (0..LANES).map(|_| config.start()).collect(),
        random: Random(0x9e37_79b9_7f4a_7c15),
        sent: 0,
        flying: BinaryHeap::new(),
    };
    for request in 0..usize::from(scene.paths) * IN_FLIGHT_PER_PATH {
        world.send(request % LANES, 0);
    }
    let requests = usize::from(scene.paths) * REQUESTS_PER_PATH;
    let mut began_ns = 0;
    let mut latencies_ns = Vec::with_capacity(requests);
    let mut now_ns = 0;
    for number in 0..requests + requests / 10 {
        let flight = world.answer();
        now_ns = flight.answered_ns;
        if number < requests / 10 {
            began_ns = now_ns;
        } else {
            latencies_ns.push(now_ns - flight.sent_ns);
        }
        world.send(flight.lane, now_ns);
    }
    Cell::of(latencies_ns, now_ns - began_ns)
}
