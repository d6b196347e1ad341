//! Link notifications of the kernel (rtnetlink(7)): which interfaces have a carrier.
//!
//! A pulled cable shows here first: the RDMA device's own port event follows from it, in some
//! drivers through a work queue. Decided here: how to read a message. `links` decides what it
//! means.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// The multicast group of link changes, RTMGRP_LINK.
const LINK_GROUP: u32 = 1;
/// Receive buffer size, bytes.
const ROOM_BYTES: usize = 32 << 10;

const HEADER_BYTES: usize = 16;
const NEW_LINK: u16 = 16;
const DELETED_LINK: u16 = 17;
/// IFF_UP: the interface is enabled.
const UP: u32 = 1;
/// IFF_LOWER_UP: it has a carrier.
const LOWER_UP: u32 = 1 << 16;

/// A socket subscribed to link changes in this network namespace.
#[derive(Debug)]
pub(super) struct LinkNews(OwnedFd);

/// A change of a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Whether the interface with this index has a carrier.
    Carries { index: u32, carries: bool },
    /// The socket buffer overflowed: read the state again.
    Lost,
}

impl LinkNews {
    /// Subscribes from now on.
    pub(super) fn open() -> Result<Self, Errno> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, LINK_GROUP))?;
        Ok(Self(socket))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Reads everything that is pending.
    pub(super) fn read(&self) -> Result<Vec<News>, Errno> {
        let mut buffer = vec![0; ROOM_BYTES];
        let mut news = Vec::new();
        loop {
            match recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((bytes, _)) => news.extend(messages(buffer.get(..bytes).unwrap_or_default())),
                Err(Errno::AGAIN) => return Ok(news),
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => news.push(News::Lost),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Parses `nlmsghdr { len, type, flags, seq, pid }` followed by `ifinfomsg { family, pad, type,
/// index, flags, change }`, all in native byte order; skips other messages.
fn messages(bytes: &[u8]) -> Vec<News> {
    let mut news = Vec::new();
    let mut rest = bytes;
    while let Some(length) = word(rest, 0) {
        let length = length as usize;
        let Some(message) = rest.get(..length).filter(|_| length >= HEADER_BYTES) else {
            break;
        };
        let kind = half(message, 4);
        let body = message.get(HEADER_BYTES..).unwrap_or_default();
        if let (Some(kind @ (NEW_LINK | DELETED_LINK)), Some(index), Some(flags)) =
            (kind, word(body, 4), word(body, 8))
        {
            let carries = kind == NEW_LINK && flags & (UP | LOWER_UP) == UP | LOWER_UP;
            news.push(News::Carries { index, carries });
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    news
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, index: u32, flags: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(32_u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([0; 4]);
        bytes.extend(index.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn a_link_carries_when_it_is_up_and_has_a_carrier() {
        let parsed = |kind, flags| messages(&message(kind, 7, flags));
        for (kind, flags, carries) in [
            (NEW_LINK, UP | LOWER_UP, true),
            (NEW_LINK, UP, false),
            (NEW_LINK, LOWER_UP, false),
            (DELETED_LINK, UP | LOWER_UP, false),
        ] {
            assert_eq!(parsed(kind, flags), [News::Carries { index: 7, carries }]);
        }
        assert!(parsed(24, UP | LOWER_UP).is_empty(), "a route");
    }

    #[test]
    fn several_messages_are_read_and_broken_ones_end_it() {
        let mut bytes = message(NEW_LINK, 1, UP);
        bytes.extend(message(NEW_LINK, 2, UP | LOWER_UP));
        assert_eq!(messages(&bytes).len(), 2);
        for length in 0..bytes.len() {
            let cut = bytes.get(..length).unwrap();
            assert!(messages(cut).len() <= 2);
        }
        let mut endless = message(NEW_LINK, 1, UP);
        endless[..4].copy_from_slice(&0_u32.to_ne_bytes());
        assert!(messages(&endless).is_empty());
        endless[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(messages(&endless).is_empty());
    }

    #[test]
    fn the_socket_opens_and_is_silent() {
        let news = LinkNews::open().unwrap();
        assert!(news.read().is_ok());
    }
}
