//! What threads share here: the standard library's and the kernel's, or loom's where loom explores
//! what they allow.

#[cfg(all(test, feature = "loom"))]
pub(crate) use self::explored::*;
#[cfg(not(all(test, feature = "loom")))]
pub(crate) use self::shipped::*;

#[cfg(not(all(test, feature = "loom")))]
mod shipped {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use std::sync::mpsc::{Receiver, Sender, channel};

    pub(crate) use crate::wake::Wake;
}

#[cfg(all(test, feature = "loom"))]
mod explored {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use loom::sync::mpsc::{Receiver, Sender, channel};

    pub(crate) use crate::explored_wake::Wake;
}
