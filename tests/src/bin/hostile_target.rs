//! `hostile-target`: a target that violates the protocol, to test how hosts react.
//!
//! It listens where a real target would and behaves correctly up to the point its [`Fault`] names;
//! from there on it sends what no NVMe/RDMA target may send. All random data come from `--seed`, so
//! that a host's failure can be reproduced.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use rustix::event::{PollFd, PollFlags, poll};
use umpath_nvme::identify::IDENTIFY_BYTES;
use umpath_nvme::opcode::{self, admin, fabrics};
use umpath_nvme::property::{Cap, Cc, Csts, Version, offset};
use umpath_nvme::rdma::{CmReject, CmReply, RejectReason};
use umpath_nvme::{Cqe, FromBytes as _, IntoBytes as _, SglKind, Sqe, Status};
use umpath_rdma::{
    CapsuleSlot, CmEvent, ConnectRequest, Listener, Remote, TargetEvent, TargetParams, TargetQueue,
};
use umpath_transport::{Arena, Drain};

/// Controller identifier it assigns.
const CONTROLLER: u16 = 1;
/// Byte offset of that identifier in Identify Controller (CNS 01h).
const CNTLID: std::ops::Range<usize> = 78..80;
const CNS_CONTROLLER: u32 = 1;
/// Byte offset of the controller type in the same page, and its value for discovery.
const CNTRLTYPE: usize = 111;
const DISCOVERY_CONTROLLER: u8 = 2;
/// Size of the discovery log's header, the same as that of a record.
const LOG_HEADER_BYTES: usize = 1024;

/// The violation to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// Accepts with random private data.
    CmReplyRandom,
    /// Accepts without private data.
    CmReplyEmpty,
    /// Accepts with a well-formed reply that grants no receive queue entries.
    CmReplyZero,
    /// Refuses with random private data.
    CmRejectRandom,
    /// Refuses with an undefined reason.
    CmRejectUnknown,
    /// Accepts, receives and never answers.
    Silent,
    /// Answers commands that were never sent.
    CompletionUnknown,
    /// Answers each command twice.
    CompletionTwice,
    /// Answers with random bytes.
    CompletionRandom,
    /// Connects and enables normally; then every Identify page is 0xff except for the controller
    /// ID.
    IdentifyOnes,
    /// The same with random bytes.
    IdentifyRandom,
    /// The same with zeroes, including the controller ID.
    IdentifyZero,
    /// Completes Identify successfully without sending a page.
    IdentifyNothing,
    /// A discovery controller whose log is 0xff throughout.
    LogOnes,
    /// The same with random bytes.
    LogRandom,
    /// A log of a million records that changes at every read.
    LogEndless,
    /// A log whose only record refers to this same controller.
    LogCircular,
    /// Completes Get Log Page successfully without sending data.
    LogNothing,
}

#[derive(Debug, Parser)]
#[command(name = "hostile-target")]
struct Arguments {
    /// Address to listen on
    #[arg(long)]
    address: SocketAddr,
    /// Violation to commit
    #[arg(long, value_enum)]
    fault: Fault,
    /// Seed of the random data
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("hostile-target: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<std::convert::Infallible> {
    let mut listener = Listener::bind(arguments.address, 16)?;
    println!("ready");
    let mut connections = 0;
    loop {
        poll(&mut [PollFd::new(&listener.fd(), PollFlags::IN)], None)?;
        while let Some(request) = listener.accept()? {
            connections += 1;
            let (fault, address) = (arguments.fault, arguments.address);
            let random = Random(arguments.seed.wrapping_mul(1000) + connections);
            thread::spawn(move || {
                // The host is expected to end the connection.
                if let Err(error) = connection(request, fault, address, random) {
                    println!("connection {connections} ended: {error:#}");
                }
            });
        }
    }
}

/// splitmix64: good enough for garbage.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(word.get(..chunk.len()).unwrap_or_default());
        }
    }
}

fn connection(
    request: ConnectRequest,
    fault: Fault,
    address: SocketAddr,
    mut random: Random,
) -> Result<()> {
    let depth = request
        .request()
        .map_or(32, |asked| asked.hsqsize.get() + 1);
    let params = TargetParams {
        receive_depth: depth,
        data_requests: depth,
        in_capsule_bytes: 4096,
    };
    let mut garbage = [0; 32];
    random.fill(&mut garbage);
    let queue = match fault {
        Fault::CmRejectRandom => return Ok(request.reject_with(&garbage)?),
        Fault::CmRejectUnknown => {
            return Ok(request.reject_with(CmReject::new(RejectReason(0x7777)).as_bytes())?);
        }
        Fault::CmReplyRandom => request.accept_with(params, None, &garbage)?,
        Fault::CmReplyEmpty => request.accept_with(params, None, &[])?,
        Fault::CmReplyZero => request.accept_with(params, None, CmReply::new(0).as_bytes())?,
        _ => request.accept(params, None)?,
    };
    let pages = Arena::new(depth.into(), IDENTIFY_BYTES as u32)?;
    queue.domain().register(&pages)?;
    let mut liar = Liar {
        queue,
        pages,
        fault,
        random,
        cc: Cc(0),
        address,
        reads: 0,
    };
    let outcome = liar.run();
    let start = Instant::now();
    liar.queue.begin_drain(Duration::from_secs(1));
    while liar.queue.poll_drained(start.elapsed()) == Drain::Pending {
        thread::sleep(Duration::from_millis(1));
    }
    outcome
}

/// One queue of a host.
struct Liar {
    queue: TargetQueue,
    pages: Arc<Arena>,
    fault: Fault,
    random: Random,
    cc: Cc,
    /// Address it listens on.
    address: SocketAddr,
    /// How often its log was read.
    reads: u64,
}

impl Liar {
    fn run(&mut self) -> Result<()> {
        loop {
            self.queue.arm()?;
            let mut events = Vec::new();
            let polled = self.queue.poll(|event| events.push(event));
            for event in &mut events.drain(..) {
                if let TargetEvent::Capsule { slot, sqe } = event {
                    self.command(slot, &sqe)?;
                }
            }
            self.queue.ring()?;
            if polled? == 0 {
                let (completions, cm) = (self.queue.completion_fd(), self.queue.cm_fd());
                let mut fds = [
                    PollFd::new(&completions, PollFlags::IN),
                    PollFd::new(&cm, PollFlags::IN),
                ];
                poll(&mut fds, None)?;
            }
            self.queue.take_completion_events()?;
            while let Some(event) = self.queue.cm_event()? {
                if event != CmEvent::Established {
                    return Ok(());
                }
            }
        }
    }

    fn command(&mut self, slot: CapsuleSlot, sqe: &Sqe) -> Result<()> {
        self.queue.release(slot);
        let cid = sqe.cid.get();
        match self.fault {
            Fault::Silent => Ok(()),
            Fault::CompletionUnknown => self.answer(cid ^ 0x5aa5, Status::SUCCESS, 0),
            Fault::CompletionTwice => {
                self.honest(sqe)?;
                self.honest(sqe)
            }
            Fault::CompletionRandom => {
                let mut bytes = [0; Cqe::SIZE];
                self.random.fill(&mut bytes);
                let cqe = Cqe::read_from_bytes(&bytes).ok().context("16 bytes")?;
                Ok(self.queue.respond(0, &cqe, None)?)
            }
            _ => self.honest(sqe),
        }
    }

    /// Behaves like a controller, up to Identify.
    fn honest(&mut self, sqe: &Sqe) -> Result<()> {
        let cid = sqe.cid.get();
        match sqe.opcode {
            opcode::FABRICS => match sqe.fabrics_type() {
                fabrics::PROPERTY_GET => {
                    let value = self.property(sqe.cdw11.get());
                    self.answer(cid, Status::SUCCESS, value)
                }
                fabrics::PROPERTY_SET => {
                    self.cc = Cc(sqe.cdw12.get());
                    self.answer(cid, Status::SUCCESS, 0)
                }
                // Connect.
                _ => self.answer(cid, Status::SUCCESS, CONTROLLER.into()),
            },
            admin::IDENTIFY => self.identify(sqe),
            admin::GET_LOG_PAGE => self.log(sqe),
            // An event that never comes.
            admin::ASYNC_EVENT_REQUEST => Ok(()),
            _ => self.answer(cid, Status::SUCCESS, 0),
        }
    }

    fn property(&self, at: u32) -> u64 {
        match at {
            offset::CAP => Cap::fabrics(128, 1000).0,
            offset::VS => Version::new(2, 0, 0).0.into(),
            offset::CC => self.cc.0.into(),
            offset::CSTS if self.cc.is_enabled() => Csts::READY.into(),
            _ => 0,
        }
    }

    fn identify(&mut self, sqe: &Sqe) -> Result<()> {
        let cid = sqe.cid.get();
        let mut page = [0; IDENTIFY_BYTES];
        match self.fault {
            Fault::IdentifyOnes => page.fill(0xff),
            Fault::IdentifyRandom => self.random.fill(&mut page),
            Fault::IdentifyNothing => return self.answer(cid, Status::SUCCESS, 0),
            Fault::LogOnes
            | Fault::LogRandom
            | Fault::LogEndless
            | Fault::LogCircular
            | Fault::LogNothing => {
                page[CNTLID].copy_from_slice(&CONTROLLER.to_le_bytes());
                page[CNTRLTYPE] = DISCOVERY_CONTROLLER;
            }
            _ => {}
        }
        // Otherwise a host would read only the wrong controller ID.
        let numbered = matches!(self.fault, Fault::IdentifyOnes | Fault::IdentifyRandom);
        if numbered && sqe.cdw10.get() & 0xff == CNS_CONTROLLER {
            page[CNTLID].copy_from_slice(&CONTROLLER.to_le_bytes());
        }
        self.answer_with(sqe, &page)
    }

    /// Part of the discovery log, starting with its header.
    fn log(&mut self, sqe: &Sqe) -> Result<()> {
        let mut page = [0; IDENTIFY_BYTES];
        self.reads += 1;
        let records = match self.fault {
            Fault::LogEndless => 1_000_000_u64,
            Fault::LogCircular => 1,
            _ => 0,
        };
        match self.fault {
            Fault::LogNothing => return self.answer(sqe.cid.get(), Status::SUCCESS, 0),
            Fault::LogOnes => page.fill(0xff),
            Fault::LogRandom => self.random.fill(&mut page),
            // Always starts at the beginning, whatever offset was requested.
            _ => {
                let generation = match self.fault {
                    Fault::LogEndless => self.reads,
                    _ => 1,
                };
                page[..8].copy_from_slice(&generation.to_le_bytes());
                page[8..16].copy_from_slice(&records.to_le_bytes());
                let record = &mut page[LOG_HEADER_BYTES..];
                // RDMA, IPv4, a referral (Base 2.1, figure "Discovery Log Page Entry").
                record[..3].copy_from_slice(&[1, 1, 1]);
                let text = |record: &mut [u8], at: usize, text: &str| {
                    record[at..at + text.len()].copy_from_slice(text.as_bytes());
                };
                text(record, 32, &self.address.port().to_string());
                text(record, 256, "nqn.2014-08.org.nvmexpress.discovery");
                text(record, 512, &self.address.ip().to_string());
            }
        }
        self.answer_with(sqe, &page)
    }

    /// Sends a page to the command's buffer, then success.
    fn answer_with(&mut self, sqe: &Sqe, page: &[u8; IDENTIFY_BYTES]) -> Result<()> {
        let cid = sqe.cid.get();
        if let Some(SglKind::Keyed {
            address,
            key,
            length,
            ..
        }) = sqe.sgl.kind()
        {
            let slot = u32::from(cid) % self.pages.slots();
            let length = length.min(IDENTIFY_BYTES as u32);
            self.pages.write_at(slot, 0, page)?;
            let remote = Remote { address, key };
            self.queue
                .write(0, remote, &self.pages, (slot, 0, length))?;
        }
        self.answer(cid, Status::SUCCESS, 0)
    }

    fn answer(&mut self, cid: u16, status: Status, result: u64) -> Result<()> {
        let cqe = Cqe::new(cid, 0, status, result);
        Ok(self.queue.respond(cid.into(), &cqe, None)?)
    }
}
