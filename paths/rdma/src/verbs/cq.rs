//! Completion queues, each with a channel of its own.

#![expect(unsafe_code)]
// UNSAFETY: completions are read from memory shared with a C library.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdma_sys as sys;
use rdma_sys::ibv_wc_status as wc_status;

use super::{CmId, Pd, VerbsError};

/// How many completions one call to the device fetches.
const BATCH: usize = 32;

/// How a work request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Outcome {
    #[default]
    Done,
    /// Thrown out because the queue pair is in the error state; nothing was learnt.
    Flushed,
    /// `ibv_wc_status` and the vendor's code.
    Failed { status: u32, vendor: u32 },
}

/// One reaped completion.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Completion {
    pub(crate) id: u64,
    pub(crate) outcome: Outcome,
    /// Bytes received; meaningful for a RECV that is `Done`.
    pub(crate) bytes: u32,
}

/// Completions reaped at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    entries: [Completion; BATCH],
    len: usize,
}

impl Batch {
    fn push(&mut self, completion: Completion) {
        if let Some(entry) = self.entries.get_mut(self.len) {
            *entry = completion;
            self.len += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Completion> {
        self.entries.iter().take(self.len).copied()
    }

    /// Whether more may be waiting.
    pub(crate) fn is_full(&self) -> bool {
        self.len == BATCH
    }
}

/// The channel a completion queue signals.
#[derive(Debug)]
struct CompletionChannel {
    raw: NonNull<sys::ibv_comp_channel>,
    _device: Arc<CmId>,
}

impl Drop for CompletionChannel {
    fn drop(&mut self) {
        // SAFETY: the only completion queue on it is destroyed first (see `Cq`).
        unsafe { sys::ibv_destroy_comp_channel(self.raw.as_ptr()) };
    }
}

/// A completion queue and its channel.
#[derive(Debug)]
pub(crate) struct Cq {
    raw: NonNull<sys::ibv_cq>,
    channel: CompletionChannel,
    /// Events taken from the channel and not yet acknowledged.
    unacknowledged: u32,
}

// SAFETY: one thread at a time uses a queue (`&mut self`); libibverbs does not care which.
unsafe impl Send for Cq {}

impl Cq {
    /// A queue for at least `entries` completions.
    pub(crate) fn new(domain: &Pd, entries: u32) -> Result<Self, VerbsError> {
        let device = domain.device();
        let verbs = device
            .verbs()
            .ok_or_else(|| VerbsError::code("ibv_create_cq", libc::ENODEV))?;
        // SAFETY: the context is open while `device` is held.
        let raw = NonNull::new(unsafe { sys::ibv_create_comp_channel(verbs.as_ptr()) })
            .ok_or_else(|| VerbsError::errno("ibv_create_comp_channel"))?;
        let channel = CompletionChannel {
            raw,
            _device: Arc::clone(device),
        };
        // SAFETY: the channel's descriptor lives for the call.
        let fd = unsafe { BorrowedFd::borrow_raw((*raw.as_ptr()).fd) };
        rustix::io::ioctl_fionbio(fd, true).map_err(|e| VerbsError {
            call: "ioctl(FIONBIO)",
            source: e.into(),
        })?;
        // SAFETY: context and channel live; the queue is destroyed before the channel.
        let cq = unsafe {
            sys::ibv_create_cq(
                verbs.as_ptr(),
                entries as i32,
                ptr::null_mut(),
                channel.raw.as_ptr(),
                0,
            )
        };
        let raw = NonNull::new(cq).ok_or_else(|| VerbsError::errno("ibv_create_cq"))?;
        Ok(Self {
            raw,
            channel,
            unacknowledged: 0,
        })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::ibv_cq {
        self.raw.as_ptr()
    }

    /// Asks for an event at the next completion. Completions that arrived before raise none: poll
    /// once more after arming.
    pub(crate) fn arm(&mut self) -> Result<(), VerbsError> {
        // SAFETY: the queue lives.
        match unsafe { sys::ibv_req_notify_cq(self.raw.as_ptr(), 0) } {
            0 => Ok(()),
            code => Err(VerbsError::code("ibv_req_notify_cq", code)),
        }
    }

    /// Takes all waiting events off the channel.
    pub(crate) fn take_events(&mut self) -> Result<u32, VerbsError> {
        let mut taken = 0;
        loop {
            let (mut cq, mut context) = (ptr::null_mut(), ptr::null_mut());
            // SAFETY: the channel lives and does not block; outputs are written on success.
            let result = unsafe {
                sys::ibv_get_cq_event(self.channel.raw.as_ptr(), &raw mut cq, &raw mut context)
            };
            if result != 0 {
                let error = VerbsError::errno("ibv_get_cq_event");
                self.acknowledge();
                return match error.source.kind() {
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(taken),
                    _ => Err(error),
                };
            }
            taken += 1;
            self.unacknowledged += 1;
        }
    }

    /// Reaps up to one batch.
    pub(crate) fn poll(&mut self) -> Result<Batch, VerbsError> {
        let mut entries = [const { MaybeUninit::<sys::ibv_wc>::uninit() }; BATCH];
        // SAFETY: the queue lives; there is room for `BATCH` entries.
        let count = unsafe {
            sys::ibv_poll_cq(self.raw.as_ptr(), BATCH as i32, entries.as_mut_ptr().cast())
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(VerbsError::code("ibv_poll_cq", count));
        };
        let mut batch = Batch::default();
        for entry in entries.iter().take(count) {
            // SAFETY: the first `count` entries were written. Of a failed one only the id, the
            // status and the vendor's code are meaningful; the others are plain integers.
            let entry = unsafe { entry.assume_init_ref() };
            let outcome = match entry.status {
                wc_status::IBV_WC_SUCCESS => Outcome::Done,
                wc_status::IBV_WC_WR_FLUSH_ERR => Outcome::Flushed,
                status => Outcome::Failed {
                    status,
                    vendor: entry.vendor_err,
                },
            };
            batch.push(Completion {
                id: entry.wr_id,
                outcome,
                bytes: entry.byte_len,
            });
        }
        Ok(batch)
    }

    fn acknowledge(&mut self) {
        if self.unacknowledged > 0 {
            // SAFETY: that many events were taken for this queue, the only one on its channel.
            unsafe { sys::ibv_ack_cq_events(self.raw.as_ptr(), self.unacknowledged) };
            self.unacknowledged = 0;
        }
    }
}

impl AsFd for Cq {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel and its descriptor live as long as `self`.
        unsafe { BorrowedFd::borrow_raw((*self.channel.raw.as_ptr()).fd) }
    }
}

impl Drop for Cq {
    fn drop(&mut self) {
        self.acknowledge();
        // SAFETY: the queue pair that used it is gone (it owns this queue and is destroyed first);
        // all events taken were acknowledged, so the call does not wait for us.
        unsafe { sys::ibv_destroy_cq(self.raw.as_ptr()) };
    }
}
