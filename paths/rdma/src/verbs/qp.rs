//! Reliable-connected queue pairs.

#![expect(unsafe_code)]
// UNSAFETY: work requests carry addresses the device will use.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use rdma_sys as sys;

use super::{CmId, Cq, Pd, VerbsError, check};

/// How large a queue pair is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QpShape {
    pub(crate) send_requests: u32,
    pub(crate) receive_requests: u32,
    pub(crate) send_segments: u32,
}

/// A queue pair bound to a CM id, with the completion queue of both its directions.
///
/// Fields drop in order after the queue pair itself: completion queue, domain, id.
#[derive(Debug)]
pub(crate) struct Qp {
    cq: Cq,
    _domain: Arc<Pd>,
    id: Arc<CmId>,
}

// The raw queue pair hangs off the id; `Qp` is the only one to use it.

impl Qp {
    /// Creates the queue pair of `id`. `domain` must be on the id's device.
    pub(crate) fn new(
        id: &Arc<CmId>,
        domain: &Arc<Pd>,
        cq: Cq,
        shape: QpShape,
    ) -> Result<Self, VerbsError> {
        let mut attributes = sys::ibv_qp_init_attr {
            qp_context: ptr::null_mut(),
            send_cq: cq.as_ptr(),
            recv_cq: cq.as_ptr(),
            srq: ptr::null_mut(),
            cap: sys::ibv_qp_cap {
                max_send_wr: shape.send_requests,
                max_recv_wr: shape.receive_requests,
                max_send_sge: shape.send_segments,
                max_recv_sge: 1,
                max_inline_data: 0,
            },
            qp_type: sys::ibv_qp_type::IBV_QPT_RC,
            sq_sig_all: 0,
        };
        // SAFETY: id, domain and completion queue live and are held by the result.
        let result =
            unsafe { sys::rdma_create_qp(id.as_ptr(), domain.as_ptr(), &raw mut attributes) };
        check("rdma_create_qp", result)?;
        Ok(Self {
            cq,
            _domain: Arc::clone(domain),
            id: Arc::clone(id),
        })
    }

    pub(crate) fn id(&self) -> &Arc<CmId> {
        &self.id
    }

    pub(crate) fn cq(&mut self) -> &mut Cq {
        &mut self.cq
    }

    pub(crate) fn cq_ref(&self) -> &Cq {
        &self.cq
    }

    fn raw(&self) -> *mut sys::ibv_qp {
        // SAFETY: the id lives; `rdma_create_qp` set the field, only `drop` clears it.
        unsafe { (*self.id.as_ptr()).qp }
    }

    /// Moves the queue pair to the error state: nothing new starts, what is posted is flushed.
    pub(crate) fn set_error(&mut self) -> Result<(), VerbsError> {
        // SAFETY: all zeroes is valid for this structure of integers.
        let mut attributes: sys::ibv_qp_attr = unsafe { MaybeUninit::zeroed().assume_init() };
        attributes.qp_state = sys::ibv_qp_state::IBV_QPS_ERR;
        let mask = sys::ibv_qp_attr_mask::IBV_QP_STATE.0 as i32;
        // SAFETY: the queue pair lives; the mask names the only field that is read.
        match unsafe { sys::ibv_modify_qp(self.raw(), &raw mut attributes, mask) } {
            0 => Ok(()),
            code => Err(VerbsError::code("ibv_modify_qp(ERR)", code)),
        }
    }

    /// Posts a chain of sends.
    ///
    /// # Safety
    /// `first` must start a valid, terminated chain whose buffers are registered in this queue
    /// pair's domain and stay untouched until their completions are reaped.
    pub(crate) unsafe fn post_send(
        &mut self,
        first: *mut sys::ibv_send_wr,
    ) -> Result<(), VerbsError> {
        let mut bad = ptr::null_mut();
        // SAFETY: the caller answers for the chain, which the call copies.
        match unsafe { sys::ibv_post_send(self.raw(), first, &raw mut bad) } {
            0 => Ok(()),
            code => Err(VerbsError::code("ibv_post_send", code)),
        }
    }

    /// Posts a chain of receives.
    ///
    /// # Safety
    /// As for [`Qp::post_send`].
    pub(crate) unsafe fn post_receive(
        &mut self,
        first: *mut sys::ibv_recv_wr,
    ) -> Result<(), VerbsError> {
        let mut bad = ptr::null_mut();
        // SAFETY: as above.
        match unsafe { sys::ibv_post_recv(self.raw(), first, &raw mut bad) } {
            0 => Ok(()),
            code => Err(VerbsError::code("ibv_post_recv", code)),
        }
    }
}

impl Drop for Qp {
    fn drop(&mut self) {
        // SAFETY: destroys the queue pair of the id once; its completion queue, domain and id are
        // still alive (fields drop after this body).
        unsafe { sys::rdma_destroy_qp(self.id.as_ptr()) };
    }
}
