//! The thread of one ublk queue.
//!
//! Decided here: the order of work in a round, and when the thread sleeps. A round takes everything
//! that has arrived (requests, messages, answers), lets the lane decide, sends what the lane wants
//! sent with one doorbell for each queue pair, and hands all answers to the kernel with one system
//! call. Nothing in a round blocks, locks or allocates; taking a queue pair into use or drained out
//! of it may allocate a little.
//!
//! While commands are in flight the thread polls their queue pairs for as long as
//! [`Poller`](crate::polling) finds worth while, then arms the completion channels and sleeps in
//! io_uring, where requests, messages, completions and connection events all wake it. With nothing
//! in flight it sleeps at once: an idle volume costs no CPU.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use umpath_core::{
    Action, AssociationId, BlockError, BlockRequest, Lane, LaneCommand, Op, PathId, QueueStats,
    Send, ThreadStats,
};
use umpath_transport::{Loss, Pollable, Transport};

use crate::descriptor::Descriptor;
use crate::device::LaneSetup;
use crate::frontend::{Event, Frontend};
use crate::links::Links;
use crate::mailbox::{LaneReport, LaneReports, Mailbox};
use crate::polling::Poller;
use crate::request::{success, translate};

/// Origin of the times given to a lane and found in its reports.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Time zero: the same for all lanes and the control side of a volume.
    pub origin: Instant,
}

impl Clock {
    /// Now, on this clock.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// What a thread does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Serve,
    /// Serve, and fail whatever would have to wait.
    Close,
    Stop,
}

/// A request the kernel waits for.
#[derive(Clone, Copy)]
struct Pending {
    request: BlockRequest,
    since: Duration,
}

/// Everything one thread owns.
pub(crate) struct QueueThread<T: Pollable> {
    // First: the ring goes before the queue pairs whose descriptors it watches.
    frontend: Frontend,
    links: Links<T>,
    lane: Lane,
    mailbox: Mailbox<T>,
    reports: Reports<T>,
    pending: Vec<Option<Pending>>,
    poller: Poller,
    clock: Clock,
    lba_shift: u32,
    course: Course,
    stats: QueueStats,
}

/// The caller's sink, with the number it knows this queue by.
struct Reports<T: Transport> {
    sink: Box<dyn LaneReports<T>>,
    queue: u16,
}

impl<T: Transport> Reports<T> {
    fn tell(&mut self, report: LaneReport<T>) {
        self.sink.report(self.queue, report);
    }

    fn broken(&mut self, association: AssociationId, why: Loss<T::Error>, at: Duration) {
        self.tell(LaneReport::Broken {
            association,
            why,
            at,
        });
    }
}

impl<T: Pollable> QueueThread<T> {
    pub(crate) fn new(
        frontend: Frontend,
        setup: LaneSetup<T>,
        mailbox: Mailbox<T>,
        queue: u16,
        depth: u16,
        lba_shift: u32,
    ) -> Self {
        Self {
            frontend,
            links: Links::new(setup.arena, setup.clock, setup.drain_deadline),
            lane: setup.lane,
            mailbox,
            reports: Reports {
                sink: setup.reports,
                queue,
            },
            pending: vec![None; usize::from(depth)],
            poller: Poller::new(setup.polling),
            clock: setup.clock,
            lba_shift,
            course: Course::Serve,
            stats: QueueStats::default(),
        }
    }

    /// Serves until the driver has ended every tag, or a message says stop.
    pub(crate) fn run(mut self) {
        // Whatever breaks in here, queue pairs go back and somebody hears of it.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let outcome =
            outcome.unwrap_or_else(|_| Err(io::Error::other("the queue thread panicked")));
        // The kernel lets go of buffers and descriptors before their owners go.
        drop(self.frontend);
        let transports = self.links.into_transports();
        self.reports.tell(LaneReport::Ended {
            transports,
            outcome,
        });
    }

    fn serve(&mut self) -> io::Result<()> {
        self.frontend.watch_mailbox(self.mailbox.fd());
        while self.course != Course::Stop && !self.frontend.ended() {
            self.round()?;
        }
        Ok(())
    }

    fn round(&mut self) -> io::Result<()> {
        let now = self.clock.now();
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
        if busy || (self.links.waiting() && self.poller.keep_polling(now)) {
            self.stats.polled += u64::from(!busy);
            return self.frontend.flush();
        }
        self.sleep(now)
    }

    /// Everything the ring has to say. Whether there was any.
    fn take_events(&mut self, now: Duration) -> bool {
        let mut any = false;
        while let Some(event) = self.frontend.next() {
            any = true;
            match event {
                Event::Request(tag, descriptor) => self.accept(tag, &descriptor, now),
                Event::Mailbox(watched) => {
                    if !watched {
                        self.frontend.watch_mailbox(self.mailbox.fd());
                    }
                    self.take_mail(now);
                }
                Event::Path {
                    slot,
                    generation,
                    watched,
                } => {
                    let tell = &mut self.reports;
                    let completion = self.links.woke(
                        &mut self.frontend,
                        slot,
                        generation,
                        watched,
                        |association, why| tell.broken(association, why, now),
                    );
                    // Now, not when the round began: the time asleep counts.
                    self.poller.woke(now, completion);
                }
                Event::TagEnded => {}
            }
        }
        any
    }

    fn accept(&mut self, tag: u16, descriptor: &Descriptor, now: Duration) {
        let submitted = translate(tag, descriptor, self.lba_shift).and_then(|request| {
            match request.op {
                Op::Read => self.stats.reads += 1,
                Op::Write => self.stats.writes += 1,
                Op::Flush => self.stats.flushes += 1,
                Op::Discard | Op::WriteZeroes => self.stats.clears += 1,
            }
            if let Some(place) = self.pending.get_mut(usize::from(tag)) {
                *place = Some(Pending {
                    request,
                    since: now,
                });
            }
            self.lane
                .submit(request, now)
                .map_err(|_| BlockError::Invalid)
        });
        if let Err(error) = submitted {
            self.answer(tag, Err(error), now);
        }
    }

    fn take_mail(&mut self, now: Duration) {
        self.mailbox.quiet();
        while let Some(command) = self.mailbox.next() {
            match command {
                LaneCommand::Attach {
                    path,
                    association,
                    transport,
                } => {
                    self.attach(path, association, transport, now);
                }
                LaneCommand::SetTable(table) => self.lane.set_table(table, now),
                LaneCommand::Convict(association) => self.convict(association, now),
                LaneCommand::Destroyed(association) => self.buffer_fenced(association, now),
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

    fn attach(&mut self, path: PathId, association: AssociationId, transport: T, now: Duration) {
        let depth = transport.depth();
        match self
            .links
            .attach(&mut self.frontend, path, association, transport)
        {
            Ok(()) => self.lane.attach(path, association, depth, now),
            Err(transport) => self.reports.tell(LaneReport::Drained {
                association,
                silent_at: now,
                transport: Some(transport),
                quiet: true,
                at: now,
            }),
        }
    }

    fn convict(&mut self, association: AssociationId, now: Duration) {
        self.lane.convict(association, now);
        if !self.links.begin_drain(association) {
            self.reports.tell(LaneReport::Drained {
                association,
                silent_at: now,
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
        self.reports.tell(LaneReport::BufferFenced {
            association,
            ghosts,
            at: now,
        });
    }

    /// Answers of the queue pairs. Whether there were any.
    fn take_answers(&mut self, now: Duration) -> bool {
        let (lane, reports) = (&mut self.lane, &mut self.reports);
        let count = self.links.poll(
            |path, association, cqe| lane.complete(path, association, cqe, now),
            |association, why| reports.broken(association, why, now),
        );
        if count > 0 {
            self.poller.woke(now, true);
        }
        count > 0
    }

    fn take_drained(&mut self, now: Duration) {
        loop {
            let lane = &mut self.lane;
            let drained = self
                .links
                .poll_drain(&mut self.frontend, |path, association, cqe| {
                    lane.complete(path, association, cqe, now);
                });
            let Some(drained) = drained else { return };
            let (association, quiet) = (drained.association, drained.quiet);
            self.reports.tell(LaneReport::Drained {
                association: drained.association,
                silent_at: drained.silent_at,
                transport: Some(drained.transport),
                quiet: drained.quiet,
                at: self.clock.now(),
            });
            if quiet {
                self.buffer_fenced(association, now);
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
                Action::Complete { tag, result } => self.answer(tag.0, result, now),
            }
        }
        let reports = &mut self.reports;
        self.links
            .ring(|association, why| reports.broken(association, why, now));
        while let Some(event) = self.lane.poll_event() {
            self.reports.tell(LaneReport::Event { event, at: now });
        }
        any
    }

    fn send(&mut self, send: &Send, now: Duration) {
        let (association, tag) = (send.association, send.tag.0);
        let reports = &mut self.reports;
        let pushed = self.links.push(
            association,
            send.sqe,
            tag,
            &send.data,
            |association, why| {
                reports.broken(association, why, now);
            },
        );
        if pushed.is_err() {
            self.stats.full += 1;
            self.lane.send_failed(send, now);
        }
    }

    fn answer(&mut self, tag: u16, result: Result<(), BlockError>, now: Duration) {
        let pending = self
            .pending
            .get_mut(usize::from(tag))
            .and_then(Option::take);
        let code = match (&result, &pending) {
            (Ok(()), Some(pending)) => success(&pending.request, self.lba_shift),
            (Ok(()), None) => -BlockError::Io.errno(),
            (Err(error), _) => -error.errno(),
        };
        self.frontend.answer(tag, code);
        self.stats.errors += u64::from(code < 0);
        if let Some(pending) = pending {
            self.stats.answered(now.saturating_sub(pending.since), now);
            match pending.request.op {
                Op::Read => self.stats.read_bytes += code.max(0) as u64,
                Op::Write => self.stats.written_bytes += code.max(0) as u64,
                _ => {}
            }
        }
    }

    fn sleep(&mut self, now: Duration) -> io::Result<()> {
        let reports = &mut self.reports;
        self.links
            .arm(|association, why| reports.broken(association, why, now));
        // What came between the last poll and arming rings no bell.
        if self.take_answers(now) {
            return Ok(());
        }
        let at_most = [
            self.lane.poll_timeout().map(|at| at.saturating_sub(now)),
            self.links.patience(),
        ];
        self.stats.sleeps += 1;
        self.frontend.sleep(at_most.into_iter().flatten().min())
    }

    fn snapshot(&mut self, now: Duration) {
        let waiting = self.pending.iter().flatten();
        self.stats.in_flight = waiting.clone().count() as u32;
        let oldest = waiting.map(|pending| pending.since).min();
        self.stats.oldest_waiting =
            oldest.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        self.stats.anomalies = self.frontend.anomalies();
        let stats = ThreadStats {
            queue: self.stats,
            lane: self.lane.stats(),
        };
        self.reports.tell(LaneReport::Stats(Box::new(stats)));
        self.stats.longest = Duration::ZERO;
    }
}
