//! NVMe and NVMe over Fabrics wire formats, both directions.
//!
//! Decided here: the offset and unit of each field, and which bytes a well-formed peer may send.
//! Not decided here: when a command is sent, what a completion means for a path, and how long
//! anything may take; that is up to `umpath-session`, `umpath-core` and the target.
//!
//! Every structure is a byte-aligned little-endian view ([`zerocopy`]), so decoding is a length
//! check, and a peer's bytes cannot cause a panic, an allocation or an unchecked index. Fields are
//! returned raw; the typed accessors return `Option` or `Result` if a peer can set invalid values.
//!
//! Units are those on the wire unless a method name says otherwise; `_0based` values count from
//! zero.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod aen;
pub mod command;
pub mod connect;
pub mod cqe;
pub mod feature;
pub mod identify;
pub mod log;
pub mod nqn;
pub mod opcode;
pub mod property;
pub mod rdma;
pub mod sgl;
pub mod sqe;
pub mod status;
pub mod text;

pub use aen::AsyncEvent;
pub use connect::ConnectData;
pub use cqe::Cqe;
pub use nqn::Nqn;
pub use sgl::{Sgl, SglKind};
pub use sqe::Sqe;
pub use status::Status;
pub use zerocopy::little_endian::{U16, U32, U64};
pub use zerocopy::{FromBytes, IntoBytes};
