//! The passive end: stores blocks, returns them, parks what it is told to park.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use umpath_nvme::rdma::RejectReason;
use umpath_nvme::{Cqe, SglKind, Sqe, Status};
use umpath_rdma::{
    CapsuleSlot, CmEvent, ConnectRequest, Listener, Remote, TargetEvent, TargetParams, TargetQueue,
};
use umpath_transport::{Arena, Drain};

use crate::{BLOCKS, OPCODE_READ, OPCODE_WRITE, REFUSED_QID, Result};

const SLOT_BYTES: u32 = 1 << 20;

type Store = Arc<Mutex<Vec<u8>>>;

/// Serves until killed.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let mut listener = Listener::bind(address, 16)?;
    println!("serving on {:?}", listener.local_address());
    let store: Store = Arc::new(Mutex::new(vec![0; BLOCKS as usize * 512]));
    loop {
        poll(&mut [PollFd::new(&listener.fd(), PollFlags::IN)], None)?;
        while let Some(request) = listener.accept()? {
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                if let Err(error) = connection(request, &store) {
                    println!("passive: connection ended: {error}");
                }
            });
        }
    }
}

fn connection(request: ConnectRequest, store: &Store) -> Result<()> {
    let asked = match request.request() {
        Ok(asked) if asked.qid.get() == REFUSED_QID => {
            return Ok(request.reject(RejectReason::INVALID_QID)?);
        }
        Ok(asked) if asked.hsqsize.get() >= 1024 => {
            return Ok(request.reject(RejectReason::INVALID_HSQSIZE)?);
        }
        Ok(asked) => *asked,
        Err(reason) => return Ok(request.reject(reason)?),
    };
    let depth = asked.hsqsize.get() + 1;
    println!(
        "passive: queue {} depth {depth} from {:?} to {:?} on {}, {} reads",
        asked.qid,
        request.peer_address(),
        request.local_address(),
        request.device(),
        request.peer_reads()
    );
    let params = TargetParams {
        receive_depth: depth,
        data_requests: depth,
        in_capsule_bytes: 4096,
    };
    let queue = request.accept(params, None)?;
    let arena = Arena::new(depth.into(), SLOT_BYTES)?;
    queue.domain().register(&arena)?;
    Server {
        queue,
        arena,
        store,
        commands: (0..depth).map(|_| None).collect(),
        served: 0,
    }
    .run()
}

struct Server<'a> {
    queue: TargetQueue,
    arena: Arc<Arena>,
    store: &'a Store,
    /// Commands waiting for data, by arena slot.
    commands: Vec<Option<(Sqe, u32)>>,
    served: u64,
}

impl Server<'_> {
    fn run(mut self) -> Result<()> {
        let ended = loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let start = Instant::now();
        self.queue.begin_drain(Duration::from_secs(2));
        let drain = loop {
            match self.queue.poll_drained(start.elapsed()) {
                Drain::Pending => std::thread::yield_now(),
                over => break over,
            }
        };
        println!(
            "passive: served {}, drain {drain:?} after {:?}",
            self.served,
            start.elapsed()
        );
        ended
    }

    /// One wake-up; `false` when the host said goodbye.
    fn turn(&mut self) -> Result<bool> {
        self.queue.arm()?;
        if self.work()? == 0 {
            let (completions, cm) = (self.queue.completion_fd(), self.queue.cm_fd());
            let mut fds = [
                PollFd::new(&completions, PollFlags::IN),
                PollFd::new(&cm, PollFlags::IN),
            ];
            poll(&mut fds, None)?;
        }
        self.queue.take_completion_events()?;
        while let Some(event) = self.queue.cm_event()? {
            println!("passive: {event:?}");
            if event != CmEvent::Established {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn work(&mut self) -> Result<usize> {
        let mut events = Vec::new();
        let polled = self.queue.poll(|event| events.push(event));
        let count = events.len();
        for event in events {
            match event {
                TargetEvent::Capsule { slot, sqe } => self.command(slot, &sqe)?,
                TargetEvent::Read { token } => self.arrived(token)?,
                TargetEvent::Written { .. } => {}
                TargetEvent::Responded { .. } => self.served += 1,
            }
        }
        self.queue.ring()?;
        polled?;
        Ok(count)
    }

    fn command(&mut self, capsule: CapsuleSlot, sqe: &Sqe) -> Result<()> {
        let start = sqe.cdw10.get() as usize * 512;
        let len = sqe.sgl.length();
        match (sqe.opcode, sqe.sgl.kind()) {
            (OPCODE_WRITE, Some(SglKind::InCapsule { .. })) => {
                let data = self.queue.capsule_data(&capsule);
                if data.len() != len as usize {
                    return Err("in-capsule data of another length than its descriptor".into());
                }
                self.store.lock().map_err(|_| "poisoned")?[start..start + data.len()]
                    .copy_from_slice(data);
                self.respond(sqe.cid.get(), u64::from(len))?;
            }
            (
                OPCODE_WRITE,
                Some(SglKind::Keyed {
                    address,
                    key,
                    length,
                    ..
                }),
            ) => {
                let slot = u32::from(sqe.cid.get()) % self.arena.slots();
                self.commands[slot as usize] = Some((*sqe, length));
                let remote = Remote { address, key };
                self.queue
                    .read(slot.into(), remote, &self.arena, (slot, 0, length))?;
            }
            (
                OPCODE_READ,
                Some(SglKind::Keyed {
                    address,
                    key,
                    length,
                    ..
                }),
            ) => {
                let slot = u32::from(sqe.cid.get()) % self.arena.slots();
                let bytes = self.store.lock().map_err(|_| "poisoned")?
                    [start..start + length as usize]
                    .to_vec();
                self.arena.write_at(slot, 0, &bytes)?;
                let remote = Remote { address, key };
                self.queue
                    .write(slot.into(), remote, &self.arena, (slot, 0, length))?;
                self.respond(sqe.cid.get(), u64::from(length))?;
            }
            _ => {}
        }
        self.queue.release(capsule);
        Ok(())
    }

    fn arrived(&mut self, token: u64) -> Result<()> {
        let slot = token as u32;
        let (sqe, len) = self.commands[slot as usize]
            .take()
            .ok_or("data for no command")?;
        let mut bytes = vec![0; len as usize];
        self.arena.read_at(slot, 0, &mut bytes)?;
        let start = sqe.cdw10.get() as usize * 512;
        self.store.lock().map_err(|_| "poisoned")?[start..start + bytes.len()]
            .copy_from_slice(&bytes);
        self.respond(sqe.cid.get(), u64::from(len))
    }

    fn respond(&mut self, cid: u16, result: u64) -> Result<()> {
        let cqe = Cqe::new(cid, 0, Status::SUCCESS, result);
        Ok(self.queue.respond(cid.into(), &cqe, None)?)
    }
}
