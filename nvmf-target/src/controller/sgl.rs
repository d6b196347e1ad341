//! Where a command's data lies, checked against what the command needs.
//!
//! One descriptor per command: MSDBD is 1, so segment descriptors are refused by their type.

use umpath_nvme::{Sgl, SglKind, Sqe, Status};

/// The data a command moves, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// No data.
    None,
    /// From the host to the controller.
    FromHost(u32),
    /// The same, from the head of data that may be longer: Linux always describes room for 256
    /// ranges, whatever number it uses.
    HeadFromHost(u32),
    /// From the controller to the host.
    ToHost(u32),
}

impl Transfer {
    /// Whether the host provides the data.
    pub const fn is_from_host(self) -> bool {
        matches!(self, Self::FromHost(_) | Self::HeadFromHost(_))
    }

    /// Bytes moved.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::None => 0,
            Self::FromHost(bytes) | Self::HeadFromHost(bytes) | Self::ToHost(bytes) => bytes,
        }
    }
}

/// Where the data lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// There is none.
    Nowhere,
    /// In the capsule, this many bytes after the command.
    Capsule {
        /// Offset after the 64-byte command.
        offset: u32,
    },
    /// In the host's memory.
    Remote {
        /// Remote address.
        address: u64,
        /// Remote key.
        key: u32,
    },
}

/// Checks a command's flags and descriptor. `in_capsule` is how many bytes of data came with it.
pub fn locate(sqe: &Sqe, transfer: Transfer, in_capsule: usize) -> Result<Location, Status> {
    if !sqe.uses_sgl() || sqe.is_fused() {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let kind = sqe
        .sgl
        .kind()
        .ok_or(Status::SGL_DESCRIPTOR_TYPE_INVALID.with_dnr())?;
    let (SglKind::Keyed { length, .. } | SglKind::InCapsule { length, .. }) = kind else {
        return Err(Status::SGL_DESCRIPTOR_TYPE_INVALID.with_dnr());
    };
    let fits = match transfer {
        Transfer::HeadFromHost(bytes) => length >= bytes,
        _ => length == transfer.bytes(),
    };
    if !fits {
        return Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr());
    }
    match (kind, transfer) {
        (_, Transfer::None) => Ok(Location::Nowhere),
        (SglKind::Keyed { address, key, .. }, _) => Ok(Location::Remote { address, key }),
        (SglKind::InCapsule { offset, length }, transfer) if transfer.is_from_host() => {
            let fits = offset
                .checked_add(u64::from(length))
                .is_some_and(|end| end <= in_capsule as u64);
            if !fits {
                return Err(Status::SGL_OFFSET_INVALID.with_dnr());
            }
            u32::try_from(offset)
                .map(|offset| Location::Capsule { offset })
                .map_err(|_| Status::SGL_OFFSET_INVALID.with_dnr())
        }
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

/// The key the response must invalidate, whatever became of the command.
pub fn key_to_invalidate(sgl: &Sgl) -> Option<u32> {
    match sgl.kind() {
        Some(SglKind::Keyed {
            key,
            invalidate: true,
            ..
        }) => Some(key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use umpath_nvme::opcode::nvm;

    use super::*;

    fn command(sgl: Sgl) -> Sqe {
        Sqe::new(nvm::WRITE, 1).with_sgl(sgl)
    }

    #[test]
    fn good_descriptors() {
        let keyed = command(Sgl::keyed(0x1000, 4096, 7));
        let remote = Location::Remote {
            address: 0x1000,
            key: 7,
        };
        assert_eq!(locate(&keyed, Transfer::FromHost(4096), 0), Ok(remote));
        assert_eq!(locate(&keyed, Transfer::ToHost(4096), 0), Ok(remote));
        let inside = command(Sgl::in_capsule(512, 512));
        assert_eq!(
            locate(&inside, Transfer::FromHost(512), 1024),
            Ok(Location::Capsule { offset: 512 })
        );
        let longer = command(Sgl::in_capsule(0, 4096));
        assert_eq!(
            locate(&longer, Transfer::HeadFromHost(16), 4096),
            Ok(Location::Capsule { offset: 0 })
        );
        assert_eq!(
            locate(&command(Sgl::NONE), Transfer::None, 0),
            Ok(Location::Nowhere)
        );
    }

    #[test]
    fn bad_descriptors() {
        let refused =
            |sgl: Sgl, transfer| locate(&command(sgl), transfer, 1024).map_err(Status::code);
        let data = Transfer::FromHost(512);
        assert_eq!(
            refused(Sgl::keyed(0, 511, 1), data),
            Err(Status::DATA_SGL_LENGTH_INVALID)
        );
        assert_eq!(
            refused(Sgl::keyed(0, 8, 1), Transfer::None),
            Err(Status::DATA_SGL_LENGTH_INVALID)
        );
        assert_eq!(
            refused(Sgl::in_capsule(513, 512), data),
            Err(Status::SGL_OFFSET_INVALID)
        );
        assert_eq!(
            refused(Sgl::in_capsule(u64::MAX, 512), data),
            Err(Status::SGL_OFFSET_INVALID)
        );
        assert_eq!(
            refused(Sgl::in_capsule(0, 512), Transfer::ToHost(512)),
            Err(Status::INVALID_FIELD)
        );
        assert_eq!(
            refused(Sgl::transport(512), data),
            Err(Status::SGL_DESCRIPTOR_TYPE_INVALID)
        );
        let segment = Sgl {
            id: 0x20,
            ..Sgl::NONE
        };
        assert_eq!(
            refused(segment, data),
            Err(Status::SGL_DESCRIPTOR_TYPE_INVALID)
        );
        let mut prp = command(Sgl::keyed(0, 512, 1));
        prp.flags = 0;
        assert!(locate(&prp, data, 0).is_err());
    }
}
