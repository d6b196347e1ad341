//! What can happen in a state, and what it leads to.

use super::Engine;
use super::host::lane_of;
use super::ladder::LadderInput;
use super::lane::{Given, LaneInput, given};
use super::mutant::Mutant;
use super::target::Served;
use super::vocabulary::{Association, LANES, Mail, PATHS, Write, each};
use super::world::{AssociationState, Log, Request, Sent, Truth, World};

/// One thing that happens. `idle` is the path with the least load, see `LaneInput`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Submit {
        write: Write,
        idle: u8,
    },
    Execute {
        copy: Sent,
    },
    Answer {
        copy: Sent,
        idle: u8,
    },
    Convict(Association),
    /// A lane reads so many messages in one round.
    Read {
        lane: usize,
        count: usize,
        idle: u8,
    },
    Drain {
        lane: usize,
        association: Association,
        idle: u8,
    },
    /// The control side takes a lane's oldest report.
    Report {
        lane: usize,
    },
    /// The fence by time stands.
    Time(Association),
    /// What the ladder of an association waits for has come.
    Timeout(Association),
    Serve {
        request: Request,
        served: Served,
    },
    EndReset {
        association: Association,
        success: bool,
    },
    Connect {
        path: u8,
    },
    Crash,
}

impl World {
    /// Everything that can happen now.
    pub(super) fn steps(&self, engine: &Engine, steps: &mut Vec<Step>) {
        if self.violation.is_some() {
            return;
        }
        self.lane_steps(engine, steps);
        for copy in self.copies.iter() {
            let copy = *copy;
            if copy.executed {
                steps.extend(idles().map(|idle| Step::Answer { copy, idle }));
            } else {
                steps.push(Step::Execute { copy });
            }
        }
        self.host_steps(engine, steps);
        for request in self.requests.iter() {
            self.services(*request, steps);
        }
        for (association, state) in self.numbered() {
            if state.truth == Truth::Closing && state.log == Log::InProgress {
                for success in [true, false] {
                    if success || self.left.troubles > 0 {
                        steps.push(Step::EndReset {
                            association,
                            success,
                        });
                    }
                }
            }
        }
        if self.left.crashes > 0 {
            steps.push(Step::Crash);
        }
    }

    fn lane_steps(&self, engine: &Engine, steps: &mut Vec<Step>) {
        for write in each(self.ungiven(engine.setup.writes)) {
            // The first and the last are alike: one of them comes first.
            if write == 2 && self.application.submitted & 1 == 0 {
                continue;
            }
            steps.extend(idles().map(|idle| Step::Submit { write, idle }));
        }
        for lane in 0..LANES {
            let waiting = self.mail[lane].len();
            let first = self.together(engine, lane);
            if waiting > 0 {
                let count = first;
                steps.extend(idles().map(|idle| Step::Read { lane, count, idle }));
            }
            if waiting > first && engine.setup.one_by_one {
                let count = waiting;
                steps.extend(idles().map(|idle| Step::Read { lane, count, idle }));
            }
            for (association, state) in self.numbered() {
                if !state.inherited && state.heard[lane] && !state.drained[lane] {
                    steps.extend(idles().map(|idle| Step::Drain {
                        lane,
                        association,
                        idle,
                    }));
                }
            }
        }
    }

    /// How many messages a lane reads at least in one round.
    fn together(&self, engine: &Engine, lane: usize) -> usize {
        let mail = &self.mail[lane];
        let joined = |pair: &[Mail]| match pair {
            // A queue pair is of no use before the table that follows it.
            [Mail::Attach { .. }, Mail::Paths(_)] => true,
            // What the device says in one breath.
            [Mail::Convict(_), Mail::Paths(_)] | [Mail::Fenced(_), Mail::Guard(_)] => {
                !engine.setup.one_by_one
            }
            _ => false,
        };
        1 + mail.windows(2).take_while(|pair| joined(pair)).count()
    }

    fn host_steps(&self, engine: &Engine, steps: &mut Vec<Step>) {
        for lane in 0..LANES {
            if !self.reports[lane].is_empty() {
                steps.push(Step::Report { lane });
            }
        }
        for (association, state) in self.numbered() {
            // Paths are alike: the first association that is lost is the first.
            let other =
                association > 0 && self.associations.len() == PATHS && !self.association(0).lost;
            if !state.lost && self.left.convictions > 0 && !other {
                steps.push(Step::Convict(association));
            }
            if state.ladder.is_none() {
                continue;
            }
            let early = engine.is(Mutant::FenceEarly);
            if early || self.time_fence(association).is_some() {
                steps.push(Step::Time(association));
            }
            // Not to wait for a survivor any longer is for those that are in trouble.
            let asked = self
                .requests
                .iter()
                .any(|request| request.lost() == association);
            if state.waits && (!asked || self.left.troubles > 0) {
                steps.push(Step::Timeout(association));
            }
        }
        for path in 0..PATHS as u8 {
            // A daemon that has just begun connects its paths; later that may fail.
            let first = self.is_unconnected(path);
            if self.current(path).is_none() && (first || self.left.reconnects > 0) {
                steps.push(Step::Connect { path });
            }
        }
    }

    /// How a request to a survivor may be served.
    fn services(&self, request: Request, steps: &mut Vec<Step>) {
        let trouble = self.left.troubles > 0;
        let mut serve = |served| steps.push(Step::Serve { request, served });
        match request {
            Request::Reset { lost, .. } => {
                serve(Served::Complete);
                if self.association(lost).truth == Truth::Alive && self.has_unexecuted(lost) {
                    serve(Served::Pending);
                }
                if trouble {
                    serve(Served::Busy);
                    serve(Served::Refused);
                    serve(Served::Unanswered { done: false });
                    serve(Served::Unanswered { done: true });
                }
            }
            Request::ReadLog { lost, .. } => {
                if trouble || self.association(lost).log != Log::InProgress {
                    serve(Served::Log);
                }
                if trouble {
                    serve(Served::NoLog);
                }
            }
        }
    }

    /// Which path has the least load makes no difference, and the step is there with the other.
    pub(super) fn is_double(&self, engine: &mut Engine, step: Step) -> bool {
        let (lane, input) = match step {
            Step::Submit { write, idle } => (lane_of(write), given(Given::Request(write), idle)),
            Step::Answer { copy, idle } => {
                let answer = Given::Answer(copy.write, copy.association);
                (lane_of(copy.write), given(answer, idle))
            }
            Step::Read { lane, count, idle } => (lane, self.reading(lane, count, idle)),
            Step::Drain {
                lane,
                association,
                idle,
            } => (lane, given(Given::Drained(association), idle)),
            _ => return false,
        };
        if input.idle == 0 {
            return false;
        }
        let other = LaneInput {
            idle: 0,
            ..input.clone()
        };
        let id = self.lanes[lane];
        let tables = &mut engine.tables;
        engine.lanes.step(id, &input, tables) == engine.lanes.step(id, &other, tables)
    }

    /// The state that a step leads to.
    pub(super) fn take(&mut self, engine: &mut Engine, step: Step) {
        match step {
            Step::Submit { write, idle } => self.submit(engine, write, idle),
            Step::Execute { copy } => self.execute(engine, self.place(copy)),
            Step::Answer { copy, idle } => self.answer(engine, self.place(copy), idle),
            Step::Convict(association) => {
                self.left.convictions -= 1;
                self.convict(engine, association);
            }
            Step::Read { lane, count, idle } => self.read(engine, lane, count, idle),
            Step::Drain {
                lane,
                association,
                idle,
            } => self.drain(engine, lane, association, idle),
            Step::Report { lane } => self.take_report(engine, lane),
            Step::Time(association) => self.time_out(engine, association),
            Step::Timeout(association) => {
                let asked = self
                    .requests
                    .iter()
                    .any(|request| request.lost() == association);
                self.left.troubles -= u8::from(asked);
                self.escalate(engine, association, LadderInput::Timeout);
            }
            Step::Serve { request, served } => self.take_service(engine, request, served),
            Step::EndReset {
                association,
                success,
            } => {
                self.left.troubles -= u8::from(!success);
                self.end_reset(association, success);
            }
            Step::Connect { path } => {
                let first = self.is_unconnected(path);
                self.left.reconnects -= u8::from(!first);
                self.connect(engine, path);
            }
            Step::Crash => {
                self.left.crashes -= 1;
                self.crash(engine);
            }
        }
        self.tidy();
    }

    fn take_service(&mut self, engine: &mut Engine, request: Request, served: Served) {
        let at = self.requests.iter().position(|known| *known == request);
        let log = |lost: Association| self.association(lost).log;
        let trouble = match (request, served) {
            (_, Served::Complete | Served::Pending) => false,
            (Request::ReadLog { lost, .. }, Served::Log) => log(lost) == Log::InProgress,
            _ => true,
        };
        self.left.troubles -= u8::from(trouble);
        self.serve(engine, at.expect("asked for"), served);
    }

    /// This daemon has not connected it yet.
    fn is_unconnected(&self, path: u8) -> bool {
        let of_path = |state: &&AssociationState| state.path == path;
        self.associations
            .iter()
            .filter(of_path)
            .all(|state| state.inherited)
    }

    fn place(&self, copy: Sent) -> usize {
        let same = |known: &Sent| *known == copy;
        self.copies.iter().position(same).expect("it is there")
    }
}

fn idles() -> impl Iterator<Item = u8> {
    0..PATHS as u8
}
