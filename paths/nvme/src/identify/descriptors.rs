//! Namespace identification descriptors, CNS 03h (NVMe Base 2.1 §5.1.13.2.3): the identifiers that
//! show that namespaces behind different controllers are the same.

use core::fmt;

/// Descriptor types.
mod nidt {
    pub(super) const EUI64: u8 = 1;
    pub(super) const NGUID: u8 = 2;
    pub(super) const UUID: u8 = 3;
    pub(super) const CSI: u8 = 4;
}

const HEADER_BYTES: usize = 4;

/// One identifier of a namespace. Identifiers are big-endian byte strings, as printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NsIdentifier {
    /// IEEE EUI-64.
    Eui64([u8; 8]),
    /// Namespace globally unique identifier.
    Nguid([u8; 16]),
    /// UUID.
    Uuid([u8; 16]),
    /// Command set, see [`csi`](super::csi). Not an identity.
    CommandSet(u8),
}

impl NsIdentifier {
    /// Type byte.
    const fn nidt(&self) -> u8 {
        match self {
            Self::Eui64(_) => nidt::EUI64,
            Self::Nguid(_) => nidt::NGUID,
            Self::Uuid(_) => nidt::UUID,
            Self::CommandSet(_) => nidt::CSI,
        }
    }

    /// The identifier's bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Eui64(id) => id,
            Self::Nguid(id) | Self::Uuid(id) => id,
            Self::CommandSet(csi) => core::slice::from_ref(csi),
        }
    }

    fn decode(kind: u8, id: &[u8]) -> Result<Option<Self>, DescriptorError> {
        let bad = || DescriptorError::Length {
            nidt: kind,
            nidl: id.len() as u8,
        };
        Ok(Some(match kind {
            nidt::EUI64 => Self::Eui64(id.try_into().map_err(|_| bad())?),
            nidt::NGUID => Self::Nguid(id.try_into().map_err(|_| bad())?),
            nidt::UUID => Self::Uuid(id.try_into().map_err(|_| bad())?),
            nidt::CSI => match id {
                [csi] => Self::CommandSet(*csi),
                _ => return Err(bad()),
            },
            _ => return Ok(None),
        }))
    }
}

/// A descriptor list that violates the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorError {
    /// The length does not match the type, or is zero.
    Length {
        /// Descriptor type.
        nidt: u8,
        /// Length in the descriptor.
        nidl: u8,
    },
    /// The list ends inside a descriptor.
    Truncated,
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { nidt, nidl } => {
                write!(f, "namespace descriptor of type {nidt} has length {nidl}")
            }
            Self::Truncated => f.write_str("namespace descriptor list ends inside a descriptor"),
        }
    }
}

impl core::error::Error for DescriptorError {}

/// Iterates over the descriptors of a CNS 03h page. Skips unknown types and ends after an error.
#[derive(Clone, Debug)]
pub struct NsDescriptors<'a> {
    rest: &'a [u8],
}

impl<'a> NsDescriptors<'a> {
    /// Walks `page`.
    #[must_use]
    pub const fn new(page: &'a [u8]) -> Self {
        Self { rest: page }
    }

    fn step(&mut self) -> Result<Option<NsIdentifier>, DescriptorError> {
        while let [kind, length, _, _, rest @ ..] = self.rest {
            match (*kind, *length) {
                (0, _) => break,
                (nidt, 0) => return Err(DescriptorError::Length { nidt, nidl: 0 }),
                (kind, length) => {
                    let (id, rest) = rest
                        .split_at_checked(usize::from(length))
                        .ok_or(DescriptorError::Truncated)?;
                    self.rest = rest;
                    if let Some(identifier) = NsIdentifier::decode(kind, id)? {
                        return Ok(Some(identifier));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for NsDescriptors<'_> {
    type Item = Result<NsIdentifier, DescriptorError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.rest = &[];
        }
        item
    }
}

/// Writes `identifiers` at the start of `page` and zeroes the rest; `None` if they do not fit, with
/// `page` left partly written.
pub fn write_descriptors(page: &mut [u8], identifiers: &[NsIdentifier]) -> Option<()> {
    page.fill(0);
    let mut at = 0;
    for identifier in identifiers {
        let id = identifier.as_bytes();
        let end = at + HEADER_BYTES + id.len();
        let (header, body) = page.get_mut(at..end)?.split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&[identifier.nidt(), id.len() as u8, 0, 0]);
        body.copy_from_slice(id);
        at = end;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    const ALL: [NsIdentifier; 4] = [
        NsIdentifier::Nguid([2; 16]),
        NsIdentifier::Uuid([3; 16]),
        NsIdentifier::Eui64([1; 8]),
        NsIdentifier::CommandSet(0),
    ];

    #[test]
    fn round_trip() {
        let mut page = [0xff; 4096];
        write_descriptors(&mut page, &ALL).unwrap();
        let back: Result<Vec<_>, _> = NsDescriptors::new(&page).collect();
        assert_eq!(back.unwrap(), ALL);
        assert_eq!(page[..4], [2, 16, 0, 0]);
    }

    #[test]
    fn exact_fit_and_no_room() {
        let mut page = [0; 4 + 16 + 4 + 16 + 4 + 8 + 4 + 1];
        write_descriptors(&mut page, &ALL).unwrap();
        assert_eq!(NsDescriptors::new(&page).count(), 4);
        assert_eq!(write_descriptors(&mut page[1..], &ALL), None);
    }

    #[test]
    fn bad_lists_end_with_an_error() {
        let bad = |bytes: &[u8]| NsDescriptors::new(bytes).collect::<Result<Vec<_>, _>>();
        assert_eq!(
            bad(&[3, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
            Err(DescriptorError::Length { nidt: 3, nidl: 8 })
        );
        assert_eq!(
            bad(&[9, 0, 0, 0]),
            Err(DescriptorError::Length { nidt: 9, nidl: 0 })
        );
        assert_eq!(bad(&[2, 16, 0, 0, 1]), Err(DescriptorError::Truncated));
        assert_eq!(
            bad(&[9, 1, 0, 0, 5, 4, 1, 0, 0, 0]),
            Ok([NsIdentifier::CommandSet(0)].into())
        );
        assert_eq!(bad(&[]), Ok(Vec::new()));
    }
}
