//! Opening a backing store and finding out its size, block size and cache.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rustix::fs::{
    FileType, MemfdFlags, Mode, OFlags, SeekFrom, fstat, ftruncate, major, memfd_create, minor,
    open, seek,
};
use rustix::io::Errno;

use super::{File, Media, OpenError, Store, direct};
use crate::config::{Backend, ByteSize, Direct};
use crate::model::Geometry;

impl Media {
    /// Opens the store a namespace is configured with.
    pub fn open(backend: &Backend, block_bytes: u32) -> Result<Self, OpenError> {
        match backend {
            Backend::Null { size } => Ok(Self {
                geometry: fixed(*size, block_bytes),
                store: Store::Null,
            }),
            Backend::Memory { size } => {
                let store = memory(*size).map_err(|source| OpenError::Store {
                    path: "memory".into(),
                    action: "allocate",
                    source,
                    advice: "use a smaller size",
                })?;
                Ok(Self {
                    geometry: fixed(*size, block_bytes),
                    store: Store::Memory(store),
                })
            }
            Backend::File { path, size, direct } => {
                prepare_file(path, *size)?;
                Self::open_path(path, *direct, block_bytes, false)
            }
            Backend::Block { path, direct } => Self::open_path(path, *direct, block_bytes, true),
        }
    }

    fn open_path(
        path: &Path,
        wish: Direct,
        block_bytes: u32,
        block_device: bool,
    ) -> Result<Self, OpenError> {
        let (fd, direct) = open_as_wished(path, wish, block_bytes)?;
        let kind = fstat(&fd).map_err(failed(path, "inspect", "check the device"))?;
        let is_block = FileType::from_raw_mode(kind.st_mode) == FileType::BlockDevice;
        if is_block != block_device {
            let why = if is_block {
                "is a block device: write type = \"block\""
            } else {
                "is not a block device: write type = \"file\""
            };
            return Err(OpenError::Unsuitable {
                path: path.into(),
                why: why.to_owned(),
            });
        }
        let bytes =
            seek(&fd, SeekFrom::End(0)).map_err(failed(path, "measure", "check the device"))?;
        let blocks = bytes / u64::from(block_bytes);
        if blocks == 0 {
            let why = format!("has {bytes} bytes, less than one block; give a size to create it");
            return Err(OpenError::Unsuitable {
                path: path.into(),
                why,
            });
        }
        let volatile_cache = !block_device || !direct || has_write_back_cache(kind.st_rdev);
        Ok(Self {
            geometry: Geometry {
                block_bytes,
                blocks,
                volatile_cache,
            },
            store: Store::File(File {
                fd,
                path: path.into(),
                direct,
                zero_range: AtomicBool::new(true),
                punch_hole: AtomicBool::new(true),
            }),
        })
    }
}

fn fixed(size: ByteSize, block_bytes: u32) -> Geometry {
    Geometry {
        block_bytes,
        blocks: size.0 / u64::from(block_bytes),
        volatile_cache: false,
    }
}

fn failed(
    path: &Path,
    action: &'static str,
    advice: &'static str,
) -> impl FnOnce(Errno) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Store {
        path,
        action,
        source,
        advice,
    }
}

fn memory(size: ByteSize) -> Result<OwnedFd, Errno> {
    let fd = memfd_create("umpath-namespace", MemfdFlags::CLOEXEC)?;
    ftruncate(&fd, size.0)?;
    Ok(fd)
}

/// Creates a file that does not exist, and extends one that is shorter than configured. A longer
/// one is refused: cutting it would destroy data.
fn prepare_file(path: &Path, size: Option<ByteSize>) -> Result<(), OpenError> {
    let Some(ByteSize(size)) = size else {
        return Ok(());
    };
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE;
    let fd = open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed(
        path,
        "create",
        "check that its directory exists and is writable",
    ))?;
    let have = fstat(&fd).map_err(failed(path, "inspect", "check the file system"))?;
    if FileType::from_raw_mode(have.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let have = u64::try_from(have.st_size).unwrap_or(0);
    if have > size {
        let why =
            format!("has {have} bytes, more than the configured {size}; remove size or the file");
        return Err(OpenError::Unsuitable {
            path: path.into(),
            why,
        });
    }
    ftruncate(fd.as_fd(), size).map_err(failed(path, "extend", "check free space"))
}

fn open_as_wished(
    path: &Path,
    wish: Direct,
    block_bytes: u32,
) -> Result<(OwnedFd, bool), OpenError> {
    if wish != Direct::Never {
        match direct::try_open(path, block_bytes) {
            Ok(fd) => return Ok((fd, true)),
            Err(source) if wish == Direct::Always => {
                return Err(OpenError::Store {
                    path: path.into(),
                    action: "open for direct I/O at this block size",
                    source,
                    advice: "use direct = \"auto\" or a larger block_size",
                });
            }
            Err(_) => {}
        }
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    open(path, flags, Mode::empty())
        .map(|fd| (fd, false))
        .map_err(failed(
            path,
            "open",
            "check the path and permissions; give a size to create a file",
        ))
}

/// What the kernel says of a device's cache; unknown counts as volatile.
fn has_write_back_cache(device: u64) -> bool {
    let name = format!("{}:{}", major(device), minor(device));
    let node = Path::new("/sys/dev/block").join(name);
    // A partition has no queue of its own: its parent has.
    let said = [
        node.join("queue/write_cache"),
        node.join("../queue/write_cache"),
    ]
    .iter()
    .find_map(|file| std::fs::read_to_string(file).ok());
    said.is_none_or(|text| text.trim() != "write through")
}
