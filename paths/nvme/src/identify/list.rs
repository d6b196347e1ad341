//! Namespace and controller lists (NVMe Base 2.1 §4.4).

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Up to 1,024 namespace identifiers in ascending order, terminated by zero.
///
/// A full list may continue: request the next one with its last identifier.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NsList {
    /// Identifiers; unused entries are zero.
    pub nsids: [U32; 1024],
}

impl NsList {
    /// Bytes on the wire.
    pub const SIZE: usize = 4096;
    /// Most identifiers in a list.
    pub const COUNT_MAX: usize = 1024;

    /// A list of the first 1,024 of `nsids`.
    #[must_use]
    pub fn new(nsids: impl IntoIterator<Item = u32>) -> Self {
        let mut list = Self::new_zeroed();
        for (to, from) in list.nsids.iter_mut().zip(nsids) {
            to.set(from);
        }
        list
    }

    /// The identifiers up to the first zero.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.nsids
            .iter()
            .map(|nsid| nsid.get())
            .take_while(|&nsid| nsid != 0)
    }

    /// The last identifier of a full list, with which to request the next one.
    pub fn continuation(&self) -> Option<u32> {
        self.nsids
            .last()
            .map(|nsid| nsid.get())
            .filter(|&nsid| nsid != 0)
    }
}

/// Up to 2,047 controller identifiers in ascending order.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ControllerList {
    /// Identifiers in the list.
    pub count: U16,
    /// Identifiers.
    pub cntlids: [U16; 2047],
}

impl ControllerList {
    /// Bytes on the wire.
    pub const SIZE: usize = 4096;
    /// Most identifiers in a list.
    pub const COUNT_MAX: usize = 2047;

    /// A list of the first 2,047 of `cntlids`.
    #[must_use]
    pub fn new(cntlids: impl IntoIterator<Item = u16>) -> Self {
        let mut list = Self::new_zeroed();
        let mut count = 0_u16;
        for (to, from) in list.cntlids.iter_mut().zip(cntlids) {
            to.set(from);
            count += 1;
        }
        list.count = U16::new(count);
        list
    }

    /// The identifiers, at most as many as the list can hold.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.cntlids
            .iter()
            .map(|cntlid| cntlid.get())
            .take(usize::from(self.count.get()))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn lists() {
        assert_eq!(size_of::<NsList>(), NsList::SIZE);
        assert_eq!(size_of::<ControllerList>(), ControllerList::SIZE);
        let list = NsList::new([1, 2, 7]);
        assert_eq!(list.iter().collect::<Vec<_>>(), [1, 2, 7]);
        assert_eq!(list.continuation(), None);
        assert_eq!(NsList::new(1..=2000).continuation(), Some(1024));
        let mut controllers = ControllerList::new([3, 9]);
        assert_eq!(controllers.iter().collect::<Vec<_>>(), [3, 9]);
        controllers.count = U16::new(u16::MAX);
        assert_eq!(controllers.iter().count(), ControllerList::COUNT_MAX);
    }
}
