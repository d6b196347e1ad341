//! Requests to the kernel about RDMA devices, by netlink (`rdma_netlink.h`).
//!
//! Decided here: how requests are written and answers read, both in the machine's byte order. What an
//! answer means: `management`. The kernel answers before a send returns, so nothing here waits, but
//! deleting a device takes as long as its last users take to release it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// A kernel that does not answer has no such protocol; the limit only keeps a thread from waiting for
/// ever.
const PATIENCE: Duration = Duration::from_secs(5);
/// Room for what the kernel sends at once.
const ROOM_BYTES: usize = 32 << 10;

const HEADER_BYTES: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;

/// `RDMA_NL_NLDEV`, the kind of every message here; the low bits say which.
const NLDEV: u16 = 5 << 10;
const GET: u16 = NLDEV | 1;
const NEW_LINK: u16 = NLDEV | 3;
const DELETE_LINK: u16 = NLDEV | 4;
const QUEUE_PAIRS: u16 = NLDEV | 0xa;

const DEVICE_INDEX: u16 = 1;
const DEVICE_NAME: u16 = 2;
const QUEUE_PAIR_TABLE: u16 = 19;
const QUEUE_PAIR: u16 = 20;
const TYPE: u16 = 26;
const STATE: u16 = 27;
const INTERFACE_NAME: u16 = 51;
const LINK_TYPE: u16 = 65;
/// Flags in an attribute's type.
const ATTRIBUTE_FLAGS: u16 = 0xc000;

/// A queue pair: numbers of the kernel's `ib_qp_type` and `ib_qp_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueuePair {
    pub(crate) kind: u8,
    pub(crate) state: u8,
}

/// A netlink socket for RDMA.
#[derive(Debug)]
pub(crate) struct RdmaNetlink(OwnedFd);

impl RdmaNetlink {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::RDMA),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// The number of the device with this name.
    pub(crate) fn index_of(&self, device: &str) -> io::Result<Option<u32>> {
        let mut found = None;
        self.ask(GET, DUMP, &[], |body| {
            let name = attribute(body, DEVICE_NAME).map(text);
            if name == Some(device.as_bytes()) {
                found = attribute(body, DEVICE_INDEX).and_then(word);
            }
        })?;
        Ok(found)
    }

    /// The queue pairs on a device, the kernel's own included.
    pub(crate) fn queue_pairs(&self, index: u32) -> io::Result<Vec<QueuePair>> {
        let mut found = Vec::new();
        let wanted = [(DEVICE_INDEX, index.to_ne_bytes().to_vec())];
        self.ask(QUEUE_PAIRS, DUMP, &wanted, |body| {
            found.extend(queue_pairs(body));
        })?;
        Ok(found)
    }

    /// Deletes a software device.
    pub(crate) fn delete_link(&self, index: u32) -> io::Result<()> {
        let wanted = [(DEVICE_INDEX, index.to_ne_bytes().to_vec())];
        self.ask(DELETE_LINK, ACKNOWLEDGE, &wanted, |_| {})
    }

    /// Adds a soft-RoCE device on a network interface.
    pub(crate) fn add_soft_roce(&self, device: &str, interface: &str) -> io::Result<()> {
        let wanted = [
            (DEVICE_NAME, terminated(device)),
            (LINK_TYPE, terminated("rxe")),
            (INTERFACE_NAME, terminated(interface)),
        ];
        self.ask(NEW_LINK, ACKNOWLEDGE, &wanted, |_| {})
    }

    /// Sends a request and reads its whole answer.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        attributes: &[(u16, Vec<u8>)],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        send(
            &self.0,
            &request(kind, flags, attributes),
            SendFlags::empty(),
        )?;
        let mut buffer = vec![0; ROOM_BYTES];
        loop {
            let (bytes, _) = recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = buffer.get(..bytes).unwrap_or_default();
            while let Some((kind, body)) = message(&mut rest) {
                match kind {
                    ERROR => return outcome(body),
                    DONE => return Ok(()),
                    _ => each(body),
                }
            }
        }
    }
}

/// `nlmsghdr { len, type, flags, seq, pid }` and attributes `{ len, type, bytes, padding }`.
fn request(kind: u16, flags: u16, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in attributes {
        body.extend((4 + value.len() as u16).to_ne_bytes());
        body.extend(name.to_ne_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut bytes = Vec::new();
    bytes.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Takes the first message: its type and what follows its header.
fn message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = word(rest)? as usize;
    let whole = rest.get(..length).filter(|_| length >= HEADER_BYTES)?;
    let kind = half(whole.get(4..)?)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, whole.get(HEADER_BYTES..)?))
}

/// The result in an acknowledgement: zero, or a negative error number.
fn outcome(body: &[u8]) -> io::Result<()> {
    match word(body).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn queue_pairs(body: &[u8]) -> Vec<QueuePair> {
    let table = attribute(body, QUEUE_PAIR_TABLE).unwrap_or_default();
    Attributes(table)
        .filter(|(name, _)| *name == QUEUE_PAIR)
        .filter_map(|(_, entry)| {
            Some(QueuePair {
                kind: *attribute(entry, TYPE)?.first()?,
                state: *attribute(entry, STATE)?.first()?,
            })
        })
        .collect()
}

/// The attributes of a message or of another attribute; a broken one ends them.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = half(self.0)? as usize;
        let value = self.0.get(4..length)?;
        let name = half(self.0.get(2..)?)? & !ATTRIBUTE_FLAGS;
        let rest = self.0.get(length.next_multiple_of(4)..);
        self.0 = rest.unwrap_or_default();
        Some((name, value))
    }
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(bytes).find_map(|(name, value)| (name == wanted).then_some(value))
}

/// A string's bytes, without its terminator.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn half(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(name: u16, inner: &[(u16, Vec<u8>)]) -> (u16, Vec<u8>) {
        (name, request(0, 0, inner).split_off(HEADER_BYTES))
    }

    /// One message of a dump, as of soft-RoCE: its general management and one connection.
    fn dump() -> Vec<u8> {
        let entry = |kind: u8, state: u8| {
            nested(
                QUEUE_PAIR,
                &[
                    (21, 1_u32.to_ne_bytes().to_vec()),
                    (TYPE, vec![kind]),
                    (STATE, vec![state]),
                    (29, terminated("ib_core")),
                ],
            )
        };
        let table = nested(QUEUE_PAIR_TABLE | 0x8000, &[entry(1, 6), entry(2, 3)]);
        let named = [
            (DEVICE_INDEX, 7_u32.to_ne_bytes().to_vec()),
            (DEVICE_NAME, terminated("rxe0")),
        ];
        request(QUEUE_PAIRS, 2, &[&named[..], &[table]].concat())
    }

    #[test]
    fn a_request_is_written_as_the_kernel_reads_it() {
        let bytes = request(NEW_LINK, ACKNOWLEDGE, &[(LINK_TYPE, terminated("rxe"))]);
        let mut wanted = Vec::new();
        wanted.extend(24_u32.to_ne_bytes());
        wanted.extend(5123_u16.to_ne_bytes());
        wanted.extend(5_u16.to_ne_bytes());
        wanted.extend([0; 8]);
        wanted.extend(8_u16.to_ne_bytes());
        wanted.extend(65_u16.to_ne_bytes());
        wanted.extend(*b"rxe\0");
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn queue_pairs_are_read_out_of_a_dump() {
        let bytes = dump();
        let mut rest = bytes.as_slice();
        let (kind, body) = message(&mut rest).unwrap();
        assert_eq!((kind, rest.len()), (QUEUE_PAIRS, 0));
        assert_eq!(attribute(body, DEVICE_INDEX).and_then(word), Some(7));
        assert_eq!(attribute(body, DEVICE_NAME).map(text), Some(&b"rxe0"[..]));
        let pair = |kind, state| QueuePair { kind, state };
        assert_eq!(queue_pairs(body), [pair(1, 6), pair(2, 3)]);
    }

    #[test]
    fn nothing_broken_is_believed_or_read_for_ever() {
        let whole = dump();
        for length in 0..whole.len() {
            let mut rest = whole.get(..length).unwrap();
            assert_eq!(message(&mut rest), None);
            let cut = whole.get(HEADER_BYTES..length).unwrap_or_default();
            assert!(queue_pairs(cut).len() <= 2);
        }
        for length in [0_u16, 3, u16::MAX] {
            let mut endless = length.to_ne_bytes().to_vec();
            endless.extend([0; 6]);
            assert_eq!(Attributes(&endless).count(), 0);
        }
    }

    #[test]
    fn an_acknowledgement_carries_the_error() {
        assert!(outcome(&0_i32.to_ne_bytes()).is_ok());
        let refused = outcome(&(-libc::EPERM).to_ne_bytes()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        assert!(outcome(&[]).is_err());
    }
}
