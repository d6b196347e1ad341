//! Chains of work requests, built in memory allocated once and posted with one call.

#![expect(unsafe_code)]
// UNSAFETY: work requests are C structures linked by pointers.

use std::mem::MaybeUninit;
use std::ptr;

use rdma_sys as sys;
use sys::{ibv_send_flags as flags, ibv_wr_opcode as opcode};

/// A piece of registered local memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) key: u32,
}

impl Segment {
    /// No memory.
    pub(crate) const NONE: Self = Self {
        address: 0,
        len: 0,
        key: 0,
    };

    fn to_raw(self) -> sys::ibv_sge {
        sys::ibv_sge {
            addr: self.address,
            length: self.len,
            lkey: self.key,
        }
    }
}

/// What a send-side work request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendKind {
    Send,
    /// SEND that makes the peer's device forget a remote key of its own.
    SendInvalidate {
        key: u32,
    },
    Read {
        address: u64,
        key: u32,
    },
    Write {
        address: u64,
        key: u32,
    },
}

/// Identifier of a work request: a kind in the top byte, an index below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkId {
    pub(crate) kind: u8,
    pub(crate) index: u32,
}

impl WorkId {
    pub(crate) const fn new(kind: u8, index: u32) -> Self {
        Self { kind, index }
    }

    pub(crate) const fn to_raw(self) -> u64 {
        (self.kind as u64) << 56 | self.index as u64
    }

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self {
            kind: (raw >> 56) as u8,
            index: raw as u32,
        }
    }
}

/// Send-side requests waiting to be posted, all signalled: a buffer is ours again only when its
/// completion was reaped.
pub(crate) struct SendChain {
    requests: Box<[sys::ibv_send_wr]>,
    segments: Box<[[sys::ibv_sge; 2]]>,
    len: usize,
}

// SAFETY: the pointers inside lead to the chain's own boxes, whose addresses do not change when
// the chain moves, and are followed only during a post through `&mut`.
unsafe impl Send for SendChain {}

impl std::fmt::Debug for SendChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendChain({} of {})", self.len, self.requests.len())
    }
}

impl SendChain {
    pub(crate) fn new(capacity: usize) -> Self {
        let empty = sys::ibv_sge {
            addr: 0,
            length: 0,
            lkey: 0,
        };
        Self {
            // SAFETY: all zeroes is valid for this structure of integers and null pointers.
            requests: (0..capacity)
                .map(|_| unsafe { MaybeUninit::zeroed().assume_init() })
                .collect(),
            segments: vec![[empty; 2]; capacity].into(),
            len: 0,
        }
    }

    /// Adds a request with one or two segments (an empty one is left out); `false` when there is no
    /// room.
    pub(crate) fn push(&mut self, id: WorkId, kind: SendKind, parts: [Segment; 2]) -> bool {
        let (Some(request), Some(segments)) = (
            self.requests.get_mut(self.len),
            self.segments.get_mut(self.len),
        ) else {
            return false;
        };
        let count = if parts[0].len == 0 {
            0
        } else {
            1 + i32::from(parts[1].len != 0)
        };
        *segments = parts.map(Segment::to_raw);
        request.wr_id = id.to_raw();
        request.next = ptr::null_mut();
        request.sg_list = segments.as_mut_ptr();
        request.num_sge = count;
        request.send_flags = flags::IBV_SEND_SIGNALED.0;
        let (raw_opcode, remote) = match kind {
            SendKind::Send => (opcode::IBV_WR_SEND, (0, 0)),
            SendKind::SendInvalidate { key } => {
                request.imm_data_invalidated_rkey_union.invalidated_rkey = key;
                (opcode::IBV_WR_SEND_WITH_INV, (0, 0))
            }
            SendKind::Read { address, key } => (opcode::IBV_WR_RDMA_READ, (address, key)),
            SendKind::Write { address, key } => (opcode::IBV_WR_RDMA_WRITE, (address, key)),
        };
        request.opcode = raw_opcode;
        request.wr.rdma = sys::rdma_t {
            remote_addr: remote.0,
            rkey: remote.1,
        };
        self.len += 1;
        true
    }

    /// Links what was pushed and empties the chain: the first request, valid until the next push.
    pub(crate) fn take(&mut self) -> Option<*mut sys::ibv_send_wr> {
        let len = std::mem::take(&mut self.len);
        let requests = self.requests.get_mut(..len)?;
        let first = requests.as_mut_ptr();
        for (index, request) in requests.iter_mut().enumerate() {
            request.next = if index + 1 < len {
                // SAFETY: `index + 1` is inside the slice.
                unsafe { first.add(index + 1) }
            } else {
                ptr::null_mut()
            };
        }
        (len > 0).then_some(first)
    }
}

/// Receives waiting to be posted.
pub(crate) struct ReceiveChain {
    requests: Box<[sys::ibv_recv_wr]>,
    segments: Box<[sys::ibv_sge]>,
    len: usize,
}

// SAFETY: as for `SendChain`.
unsafe impl Send for ReceiveChain {}

impl std::fmt::Debug for ReceiveChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReceiveChain({} of {})", self.len, self.requests.len())
    }
}

impl ReceiveChain {
    pub(crate) fn new(capacity: usize) -> Self {
        let empty = sys::ibv_sge {
            addr: 0,
            length: 0,
            lkey: 0,
        };
        Self {
            // SAFETY: all zeroes is valid for this structure of integers and null pointers.
            requests: (0..capacity)
                .map(|_| unsafe { MaybeUninit::zeroed().assume_init() })
                .collect(),
            segments: vec![empty; capacity].into(),
            len: 0,
        }
    }

    /// Adds a receive into `part` (none when it is empty); `false` when there is no room.
    pub(crate) fn push(&mut self, id: WorkId, part: Segment) -> bool {
        let (Some(request), Some(segment)) = (
            self.requests.get_mut(self.len),
            self.segments.get_mut(self.len),
        ) else {
            return false;
        };
        *segment = part.to_raw();
        request.wr_id = id.to_raw();
        request.sg_list = ptr::from_mut(segment);
        request.num_sge = i32::from(part.len != 0);
        self.len += 1;
        true
    }

    /// As [`SendChain::take`].
    pub(crate) fn take(&mut self) -> Option<*mut sys::ibv_recv_wr> {
        let len = std::mem::take(&mut self.len);
        let requests = self.requests.get_mut(..len)?;
        let first = requests.as_mut_ptr();
        for (index, request) in requests.iter_mut().enumerate() {
            request.next = if index + 1 < len {
                // SAFETY: `index + 1` is inside the slice.
                unsafe { first.add(index + 1) }
            } else {
                ptr::null_mut()
            };
        }
        (len > 0).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(address: u64, len: u32) -> Segment {
        Segment {
            address,
            len,
            key: 7,
        }
    }

    #[test]
    fn work_ids_survive_the_round_trip() {
        let id = WorkId::new(0xfe, u32::MAX);
        assert_eq!(WorkId::from_raw(id.to_raw()), id);
    }

    #[test]
    fn a_chain_is_linked_terminated_and_signalled() {
        let mut chain = SendChain::new(3);
        assert!(chain.take().is_none());
        assert!(chain.push(
            WorkId::new(1, 0),
            SendKind::Send,
            [segment(64, 64), segment(4096, 512)]
        ));
        let read = SendKind::Read {
            address: 0x1000,
            key: 9,
        };
        assert!(chain.push(
            WorkId::new(2, 1),
            read,
            [segment(8192, 4096), Segment::NONE]
        ));
        let invalidate = SendKind::SendInvalidate { key: 5 };
        assert!(chain.push(
            WorkId::new(1, 2),
            invalidate,
            [Segment::NONE, Segment::NONE]
        ));
        assert!(!chain.push(
            WorkId::new(1, 3),
            SendKind::Send,
            [Segment::NONE, Segment::NONE]
        ));

        let mut next = chain.take().unwrap();
        let mut seen = Vec::new();
        while !next.is_null() {
            // SAFETY: the chain lives and was linked by `take`.
            let request = unsafe { &*next };
            assert_eq!(request.send_flags, flags::IBV_SEND_SIGNALED.0);
            seen.push((
                WorkId::from_raw(request.wr_id).index,
                request.opcode,
                request.num_sge,
            ));
            next = request.next;
        }
        assert_eq!(
            seen,
            [
                (0, opcode::IBV_WR_SEND, 2),
                (1, opcode::IBV_WR_RDMA_READ, 1),
                (2, opcode::IBV_WR_SEND_WITH_INV, 0),
            ]
        );
    }

    #[test]
    fn a_reused_chain_forgets_old_links() {
        let mut chain = ReceiveChain::new(2);
        assert!(chain.push(WorkId::new(1, 0), segment(0x10, 16)));
        assert!(chain.push(WorkId::new(1, 1), segment(0x20, 16)));
        chain.take().unwrap();
        assert!(chain.push(WorkId::new(1, 5), segment(0x30, 16)));
        // SAFETY: the chain lives and was linked by `take`.
        let only = unsafe { &*chain.take().unwrap() };
        assert!(only.next.is_null());
        assert_eq!(WorkId::from_raw(only.wr_id).index, 5);
        // SAFETY: the segment list points into the chain.
        assert_eq!(unsafe { (*only.sg_list).addr }, 0x30);
    }
}
