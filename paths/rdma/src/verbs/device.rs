//! A device opened for its own events.
//!
//! librdmacm opens one context for each device and shares it among all ids of the process; its
//! lifetime is not ours to know. Port and device events are delivered to every open context, so
//! whoever wants them opens a context here, and two readers never steal each other's events.

#![expect(unsafe_code)]
// UNSAFETY: libibverbs hands out device lists and events by pointer.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use rdma_sys as sys;

use super::VerbsError;

/// A context of our own on one device.
#[derive(Debug)]
pub(crate) struct OwnContext {
    raw: NonNull<sys::ibv_context>,
}

// SAFETY: used by one thread at a time (`&mut self` for events); libibverbs is thread-safe.
unsafe impl Send for OwnContext {}

impl OwnContext {
    /// Opens the device called `name`; `ENODEV` when there is none.
    pub(crate) fn open(name: &str) -> Result<Self, VerbsError> {
        let mut count = 0;
        // SAFETY: writes the count; null on failure.
        let list = unsafe { sys::ibv_get_device_list(&raw mut count) };
        if list.is_null() {
            return Err(VerbsError::errno("ibv_get_device_list"));
        }
        let mut result = Err(VerbsError::code("ibv_open_device", libc::ENODEV));
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: the list has `count` entries and lives until freed below.
            let device = unsafe { *list.add(index) };
            // SAFETY: device names are NUL-terminated and live as long as the list.
            let found = unsafe { CStr::from_ptr(sys::ibv_get_device_name(device)) };
            if found.to_bytes() == name.as_bytes() {
                // SAFETY: the device is in the list; the context outlives the list.
                result = NonNull::new(unsafe { sys::ibv_open_device(device) })
                    .map(|raw| Self { raw })
                    .ok_or_else(|| VerbsError::errno("ibv_open_device"));
            }
        }
        // SAFETY: from `ibv_get_device_list`, freed once.
        unsafe { sys::ibv_free_device_list(list) };
        let context = result?;
        rustix::io::ioctl_fionbio(context.as_fd(), true).map_err(|e| VerbsError {
            call: "ioctl(FIONBIO)",
            source: e.into(),
        })?;
        Ok(context)
    }

    /// The next event as (`ibv_event_type`, port), acknowledged; `None` when nothing is waiting.
    pub(crate) fn next_event(&mut self) -> Result<Option<(u32, u8)>, VerbsError> {
        let mut event = MaybeUninit::<sys::ibv_async_event>::zeroed();
        // SAFETY: the context lives; the event is written on success.
        if unsafe { sys::ibv_get_async_event(self.raw.as_ptr(), event.as_mut_ptr()) } != 0 {
            let error = VerbsError::errno("ibv_get_async_event");
            return match error.source.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        let raw = event.as_mut_ptr();
        // SAFETY: written above. The type is read as an integer because newer kernels know types
        // the binding's enum does not; this context has no queues, so the element is a port.
        let (kind, port) = unsafe {
            (
                (&raw const (*raw).event_type).cast::<u32>().read(),
                (*raw).element.port_num,
            )
        };
        // SAFETY: taken above, acknowledged once.
        unsafe { sys::ibv_ack_async_event(raw) };
        Ok(Some((kind, port as u8)))
    }
}

impl AsFd for OwnContext {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the context and its descriptor live as long as `self`.
        unsafe { BorrowedFd::borrow_raw((*self.raw.as_ptr()).async_fd) }
    }
}

impl Drop for OwnContext {
    fn drop(&mut self) {
        // SAFETY: nothing was created on this context.
        unsafe { sys::ibv_close_device(self.raw.as_ptr()) };
    }
}
