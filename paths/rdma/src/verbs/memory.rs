//! Protection domains and memory regions.

#![expect(unsafe_code)]
// UNSAFETY: registration hands addresses to a device.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use rdma_sys as sys;

use super::{CmId, VerbsError};

/// What a device may do with registered memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only work requests of our own touch it.
    Local,
    /// The peer may read and write it with its remote key.
    Remote,
}

/// A protection domain on the device of a CM id.
#[derive(Debug)]
pub(crate) struct Pd {
    raw: NonNull<sys::ibv_pd>,
    /// Keeps the device's context open. Not the id of a connection, which is to be destroyed as soon
    /// as the connection ends, and a domain may outlive many.
    device: Arc<CmId>,
}

// SAFETY: libibverbs is thread-safe for calls on one protection domain.
unsafe impl Send for Pd {}
// SAFETY: as above.
unsafe impl Sync for Pd {}

impl Pd {
    /// A domain on the device of a connection.
    pub(crate) fn new(connection: &Arc<CmId>) -> Result<Arc<Self>, VerbsError> {
        let anchor = connection.anchor().map(Arc::new);
        let device = anchor.unwrap_or_else(|| Arc::clone(connection));
        let verbs = device
            .verbs()
            .ok_or_else(|| VerbsError::code("ibv_alloc_pd", libc::ENODEV))?;
        // SAFETY: the id is bound to a device and keeps its context open while held.
        let raw = NonNull::new(unsafe { sys::ibv_alloc_pd(verbs.as_ptr()) })
            .ok_or_else(|| VerbsError::errno("ibv_alloc_pd"))?;
        Ok(Arc::new(Self { raw, device }))
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::ibv_pd {
        self.raw.as_ptr()
    }

    pub(crate) fn device(&self) -> &Arc<CmId> {
        &self.device
    }

    /// Registers memory.
    ///
    /// # Safety
    /// `address..address + len` must stay mapped, and may be written by the device (and with
    /// [`Access::Remote`] by the peer) at any time, until the region is dropped.
    pub(crate) unsafe fn register(
        self: &Arc<Self>,
        address: NonNull<u8>,
        len: usize,
        access: Access,
    ) -> Result<Mr, VerbsError> {
        let local = sys::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0;
        let flags = match access {
            Access::Local => local,
            Access::Remote => {
                local
                    | sys::ibv_access_flags::IBV_ACCESS_REMOTE_READ.0
                    | sys::ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
            }
        };
        let start = address.as_ptr().cast::<c_void>();
        // SAFETY: the domain lives; the caller answers for the memory.
        let raw = unsafe { sys::ibv_reg_mr(self.raw.as_ptr(), start, len, flags as i32) };
        let raw = NonNull::new(raw).ok_or_else(|| VerbsError::errno("ibv_reg_mr"))?;
        Ok(Mr {
            raw,
            _domain: Arc::clone(self),
        })
    }
}

impl Drop for Pd {
    fn drop(&mut self) {
        // SAFETY: regions and queue pairs hold an `Arc` of their domain and are gone.
        unsafe { sys::ibv_dealloc_pd(self.raw.as_ptr()) };
    }
}

/// A registered memory region; deregistered on drop.
#[derive(Debug)]
pub(crate) struct Mr {
    raw: NonNull<sys::ibv_mr>,
    _domain: Arc<Pd>,
}

// SAFETY: a region is read (its keys) or destroyed; libibverbs allows both from any thread.
unsafe impl Send for Mr {}
// SAFETY: as above.
unsafe impl Sync for Mr {}

impl Mr {
    pub(crate) fn local_key(&self) -> u32 {
        // SAFETY: the region lives; keys never change.
        unsafe { (*self.raw.as_ptr()).lkey }
    }

    pub(crate) fn remote_key(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.raw.as_ptr()).rkey }
    }
}

impl Drop for Mr {
    fn drop(&mut self) {
        // SAFETY: created by `ibv_reg_mr`, destroyed once. A work request still using it fails
        // with a protection error; it cannot reach the memory any more.
        unsafe { sys::ibv_dereg_mr(self.raw.as_ptr()) };
    }
}
