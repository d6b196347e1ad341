//! One queue thread.
//!
//! Decided here: the order of work in a round, and when the thread sleeps. A round takes everything
//! that has arrived (requests, messages, answers), lets the lane decide, sends what the lane wants
//! sent with one doorbell for each queue pair, and hands all answers to the block layer at once.
//! Nothing in a round blocks, locks or allocates; taking a queue pair into use or drained out of it
//! may allocate a little.
//!
//! While commands are in flight the thread polls their queue pairs for as long as
//! [`Poller`](crate::polling) finds worth while, then arms them and sleeps in its front end, where
//! requests, messages, completions and connection events all wake it. With nothing in flight it
//! sleeps at once: an idle volume costs no CPU.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use umpath_core::{
    Action, AssociationId, BlockError, BlockRequest, Crowded, Lane, LaneCommand, LaneEvent, PathId,
    SendCommand, SubmitError, Tag, ThreadStats,
};
use umpath_transport::{Arena, Loss, Transport};

use crate::frontend::{Event, Frontend};
use crate::polling::{Poller, Polling};
use crate::queue_pairs::QueuePairs;
use crate::report::{LaneReport, LaneReports};
use crate::requests::Requests;

/// What a queue thread is given: its half of the data path.
pub struct LaneSetup<R> {
    /// The lane; it answers every request the thread submits to it.
    pub lane: Lane,
    /// One slot for each tag, each as large as the largest request. Registered by the caller in
    /// the domain of every queue pair it attaches.
    pub arena: Arc<Arena>,
    /// Receives what the thread reports.
    pub reports: R,
    /// The longest the thread polls for completions before it sleeps.
    pub polling: Polling,
    /// How long the device of a queue pair has to confirm that it let go of memory. Then the queue
    /// pair is handed back undrained: destroying it is certain but may block.
    pub drain_deadline: Duration,
}

/// What a thread does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Serve,
    /// Serve, and fail whatever would have to wait.
    Close,
    Stop,
}

/// Everything one thread owns.
pub struct QueueThread<F: Frontend, R> {
    // First: the front end goes before the queue pairs it watches.
    frontend: F,
    pairs: QueuePairs<F::Transport>,
    lane: Lane,
    reports: R,
    requests: Requests,
    poller: Poller,
    /// Associations whose queue pair was handed back undrained: its memory is in use until it is
    /// destroyed.
    undrained: Vec<AssociationId>,
    course: Course,
}

impl<F: Frontend, R: LaneReports<F::Transport>> QueueThread<F, R> {
    /// A thread that has not begun. It has no queue pair yet.
    pub fn new(frontend: F, setup: LaneSetup<R>) -> Self {
        let config = setup.lane.config();
        Self {
            frontend,
            requests: Requests::new(config.tags, config.lba_shift),
            pairs: QueuePairs::new(setup.arena, setup.drain_deadline),
            lane: setup.lane,
            reports: setup.reports,
            poller: Poller::new(setup.polling),
            undrained: Vec::new(),
            course: Course::Serve,
        }
    }

    /// Does rounds until [`Self::is_over`].
    pub fn serve(&mut self) -> io::Result<()> {
        while !self.is_over() {
            let now = self.frontend.now();
            self.round(now)?;
        }
        Ok(())
    }

    /// The block layer has taken every tag away, or a message said stop: nothing is left to do but
    /// [`Self::end`].
    pub fn is_over(&self) -> bool {
        self.course == Course::Stop || self.frontend.ended()
    }

    /// One whole round; it ends in [`Frontend::flush`] when there may be more to do at once, else in
    /// [`Frontend::sleep`]. `now`: the time at its beginning, on the front end's clock.
    pub fn round(&mut self, now: Duration) -> io::Result<()> {
        let mut busy = self.take_events(now);
        busy |= self.take_answers(now);
        self.take_drained(now);
        if self.lane.poll_timeout().is_some_and(|at| at <= now) {
            self.lane.handle_timeout(now);
        }
        if self.course == Course::Close {
            self.lane.fail_queued(now);
        }
        busy |= self.carry_out(now);
        if busy || (self.pairs.waiting() && self.poller.keep_polling(now)) {
            self.requests.stats.polled += u64::from(!busy);
            return self.frontend.flush();
        }
        self.sleep(now)
    }

    /// Lets go of everything: first of the front end and what it watches, then of the queue pairs,
    /// which go back in the last report.
    pub fn end(self, outcome: io::Result<()>) {
        let Self {
            frontend,
            pairs,
            mut reports,
            ..
        } = self;
        drop(frontend);
        let transports = pairs.into_transports();
        reports.report(LaneReport::Ended {
            transports,
            outcome,
        });
    }

    /// The front end, to bring it what arrives.
    pub fn frontend(&mut self) -> &mut F {
        &mut self.frontend
    }

    /// The queue pair of an association, while the thread has one.
    pub fn transport(&mut self, association: AssociationId) -> Option<&mut F::Transport> {
        self.pairs.transport(association)
    }

    /// Everything that has arrived. Whether there was any.
    fn take_events(&mut self, now: Duration) -> bool {
        let mut any = false;
        while let Some(event) = self.frontend.next() {
            any = true;
            match event {
                Event::Request(request) => self.accept(request, now),
                Event::Refused { tag, error } => {
                    let answer = self.requests.refuse(error);
                    self.frontend.answer(tag, answer);
                }
                Event::Mail => self.take_mail(now),
                Event::QueuePair {
                    pair,
                    channel,
                    watched,
                } => {
                    let reports = &mut self.reports;
                    let completion = self.pairs.woke(
                        &mut self.frontend,
                        (pair, channel, watched),
                        |association, why| broken(reports, association, why, now),
                    );
                    // Now, not when the round began: the time asleep counts.
                    self.poller.woke(now, completion);
                }
                Event::TagEnded => {}
            }
        }
        any
    }

    fn accept(&mut self, request: BlockRequest, now: Duration) {
        self.requests.accept(request, now);
        match self.lane.submit(request, now) {
            Ok(()) => {}
            Err(SubmitError::Invalid) => self.answer(request.tag, Err(BlockError::Invalid), now),
            Err(error) => panic!("{request:?}: {error}"),
        }
    }

    fn take_mail(&mut self, now: Duration) {
        while let Some(command) = self.frontend.next_command() {
            match command {
                LaneCommand::Attach {
                    path,
                    association,
                    transport,
                } => {
                    self.attach(path, association, transport, now);
                }
                LaneCommand::SetTable(table) => self.lane.set_table(table, now),
                LaneCommand::GiveUpQueue(association) => self.give_up_queue(association, now),
                LaneCommand::Convict(association) => self.convict(association, now),
                LaneCommand::Destroyed(association) => {
                    assert!(
                        self.pairs.transport(association).is_none(),
                        "the queue pair of {association} is still here"
                    );
                    self.undrained.retain(|known| *known != association);
                    self.buffer_fenced(association, now);
                }
                LaneCommand::Guard(ghosts) => self.lane.guard(ghosts, now),
                LaneCommand::Locked(association) => self.lane.locked(association, now),
                LaneCommand::Fenced(association) => self.lane.fenced(association, now),
                LaneCommand::FailQueued => self.lane.fail_queued(now),
                LaneCommand::Close => {
                    self.course = Course::Close;
                    self.lane.close(now);
                }
                LaneCommand::Snapshot => self.snapshot(now),
                LaneCommand::Stop => self.course = Course::Stop,
            }
        }
    }

    fn attach(
        &mut self,
        path: PathId,
        association: AssociationId,
        transport: F::Transport,
        now: Duration,
    ) {
        let depth = transport.depth();
        match self.lane.attach(path, association, depth, now) {
            Ok(()) => self
                .pairs
                .attach(&mut self.frontend, path, association, transport),
            Err(Crowded) => self.hand_back(association, transport, now),
        }
    }

    /// A queue pair is not taken: it goes back unused.
    fn hand_back(&mut self, association: AssociationId, transport: F::Transport, now: Duration) {
        self.reports.report(LaneReport::Drained {
            association,
            silent_at: Some(now),
            transport: Some(transport),
            quiet: true,
            at: now,
        });
        // The host counts on this thread to use it.
        broken(&mut self.reports, association, Loss::Crowded, now);
    }

    fn give_up_queue(&mut self, association: AssociationId, now: Duration) {
        if self.lane.give_up_queue(association, now) {
            let here = self.pairs.begin_drain(&self.frontend, association);
            assert!(here, "{association} has no queue pair here");
        }
    }

    fn convict(&mut self, association: AssociationId, now: Duration) {
        self.lane.convict(association, now);
        // Its queue pair was given up before, alone, and would not drain: the end of it is awaited already.
        if self.undrained.contains(&association) {
            return;
        }
        if !self.pairs.begin_drain(&self.frontend, association) {
            self.reports.report(LaneReport::Drained {
                association,
                silent_at: Some(now),
                transport: None,
                quiet: true,
                at: now,
            });
            self.buffer_fenced(association, now);
        }
    }

    /// No memory of this thread is in the association's hands any more.
    fn buffer_fenced(&mut self, association: AssociationId, now: Duration) {
        let ghosts = self.lane.drained(association, now);
        self.reports.report(LaneReport::BufferFenced {
            association,
            ghosts,
            at: now,
        });
    }

    /// Answers of the queue pairs. Whether there were any.
    fn take_answers(&mut self, now: Duration) -> bool {
        let (lane, reports) = (&mut self.lane, &mut self.reports);
        let count = self.pairs.poll(
            |path, association, cqe| lane.complete(path, association, cqe, now),
            |association, why| broken(reports, association, why, now),
        );
        if count > 0 {
            self.poller.woke(now, true);
        }
        count > 0
    }

    /// Queue pairs that are drained. Whether there were any.
    fn take_drained(&mut self, now: Duration) -> bool {
        let mut any = false;
        loop {
            let lane = &mut self.lane;
            let drained = self
                .pairs
                .poll_drain(&mut self.frontend, |path, association, cqe| {
                    lane.complete(path, association, cqe, now);
                });
            let Some(drained) = drained else { return any };
            any = true;
            let (association, quiet) = (drained.association, drained.quiet);
            self.reports.report(LaneReport::Drained {
                association: drained.association,
                silent_at: drained.silent_at,
                transport: Some(drained.transport),
                quiet: drained.quiet,
                at: self.frontend.now(),
            });
            if quiet {
                self.buffer_fenced(association, now);
            } else {
                self.undrained.push(association);
            }
        }
    }

    /// Does what the lane has decided. Whether there was anything.
    fn carry_out(&mut self, now: Duration) -> bool {
        let mut any = false;
        while let Some(action) = self.lane.poll_action() {
            any = true;
            match action {
                Action::Send(send) => self.send(&send, now),
                Action::Complete { tag, result } => self.answer(tag, result, now),
            }
        }
        let reports = &mut self.reports;
        self.pairs
            .ring(|association, why| broken(reports, association, why, now));
        while let Some(event) = self.lane.poll_event() {
            if !self.is_slowness(&event) {
                self.reports.report(LaneReport::Event { event, at: now });
            }
        }
        any
    }

    /// A queue pair seems silent and is not: what it waits for has arrived, and the controller is slow.
    fn is_slowness(&mut self, event: &LaneEvent) -> bool {
        let LaneEvent::QueueSilent {
            association, cid, ..
        } = event
        else {
            return false;
        };
        let transport = self.pairs.transport(*association);
        transport.is_none_or(|transport| transport.has_arrived(*cid))
    }

    fn send(&mut self, send: &SendCommand, now: Duration) {
        let reports = &mut self.reports;
        let pushed = self.pairs.push(send, |association, why| {
            broken(reports, association, why, now);
        });
        if pushed.is_err() {
            self.requests.stats.full += 1;
            self.lane.send_failed(send, now);
        }
    }

    fn answer(&mut self, tag: Tag, result: Result<(), BlockError>, now: Duration) {
        let answer = self.requests.answer(tag, result, now);
        self.frontend.answer(tag, answer);
    }

    fn sleep(&mut self, now: Duration) -> io::Result<()> {
        let reports = &mut self.reports;
        self.pairs
            .arm(|association, why| broken(reports, association, why, now));
        // What came between the last poll and arming wakes nobody: neither an answer nor the last
        // flushed command of a queue pair that drains.
        if self.take_answers(now) || self.take_drained(now) {
            return Ok(());
        }
        let at_most = [
            self.lane.poll_timeout().map(|at| at.saturating_sub(now)),
            self.pairs.sleep_max(),
        ];
        self.requests.stats.sleeps += 1;
        self.frontend.sleep(at_most.into_iter().flatten().min())
    }

    fn snapshot(&mut self, now: Duration) {
        self.requests.stats.anomalies = self.frontend.anomalies();
        let stats = ThreadStats {
            queue: self.requests.snapshot(now),
            lane: self.lane.stats(),
        };
        self.reports.report(LaneReport::Stats(Box::new(stats)));
    }
}

fn broken<T: Transport>(
    reports: &mut impl LaneReports<T>,
    association: AssociationId,
    why: Loss<T::Error>,
    at: Duration,
) {
    reports.report(LaneReport::Broken {
        association,
        why,
        at,
    });
}
