//! Command builders and parsers.
//!
//! A builder returns an [`Sqe`](crate::Sqe) with cid 0 and no data; the queue fills in the command
//! identifier and the SGL. A parser returns the fields a target needs; the target checks their
//! values (is this range valid, is this feature supported).

pub mod admin;
pub mod fabrics;
pub mod io;
pub mod reset;

pub use admin::{
    Abort, Features, GetLogPage, Identify, abort, async_event, get_features, get_log, identify,
    keep_alive, set_features,
};
pub use fabrics::{
    Connect, ConnectResponse, PropertyGet, PropertySet, connect, property_get, property_set,
};
pub use io::{
    BlockCount, DatasetManagement, DsmRange, ReadWrite, WriteZeroes, deallocate, flush, read,
    write, write_zeroes,
};
pub use reset::{CrossControllerReset, Instance, ResetResult};
