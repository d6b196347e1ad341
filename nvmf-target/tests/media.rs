//! One suite for every backing store, on a real ring.

#![expect(unsafe_code)]
// UNSAFETY: submitting an entry that names a buffer.

use std::path::Path;

use io_uring::IoUring;
use umpath_nvme::command::io::DsmRange;
use umpath_nvme::{IntoBytes, Status, U32, U64};
use umpath_target::config::{Backend, ByteSize, Direct};
use umpath_target::media::{Job, Media, Step};

const BLOCK: u32 = 4096;
const SIZE: u64 = 16 << 20;

const BUFFER: usize = 1 << 20;

/// A buffer with a page-aligned part.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new() -> Self {
        let bytes = vec![0; BUFFER + 4096];
        let start = bytes.as_ptr().align_offset(4096);
        Self { bytes, start }
    }

    fn get(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + BUFFER]
    }
}

struct Bench {
    media: Media,
    ring: IoUring,
    buffer: Aligned,
}

impl Bench {
    fn new(backend: &Backend) -> Self {
        Self {
            media: Media::open(backend, BLOCK).expect("opens"),
            ring: IoUring::new(8).expect("this kernel has io_uring"),
            buffer: Aligned::new(),
        }
    }

    fn run(&mut self, mut job: Job) -> Status {
        loop {
            match self.media.step(&mut job, self.buffer.get()) {
                Step::Done(status) => return status,
                Step::Submit(entry) => {
                    // SAFETY: the buffer and the store outlive the wait below.
                    unsafe { self.ring.submission().push(&entry) }.expect("room");
                    self.ring.submit_and_wait(1).expect("submitted");
                    let result = self.ring.completion().next().expect("completed").result();
                    if let Some(status) = self.media.completed(&mut job, result) {
                        return status;
                    }
                }
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8], fua: bool) {
        self.buffer.get()[..data.len()].copy_from_slice(data);
        assert_eq!(
            self.run(Job::write(offset, data.len() as u32, fua)),
            Status::SUCCESS
        );
    }

    fn read(&mut self, offset: u64, bytes: usize) -> Vec<u8> {
        self.buffer.get()[..bytes].fill(0xee);
        assert_eq!(self.run(Job::read(offset, bytes as u32)), Status::SUCCESS);
        self.buffer.get()[..bytes].to_vec()
    }
}

fn pattern(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| seed.wrapping_add((at / 512) as u8).wrapping_mul(31) | 1)
        .collect()
}

fn keeps_data(backend: &Backend) {
    let mut bench = Bench::new(backend);
    assert_eq!(bench.media.geometry().blocks, SIZE / u64::from(BLOCK));
    assert_eq!(
        bench.read(SIZE - 4096, 4096),
        [0; 4096],
        "new space is zero"
    );
    let (large, small) = (pattern(3, 1 << 20), pattern(9, 4096));
    bench.write(1 << 20, &large, false);
    bench.write((1 << 20) + 8192, &small, true);
    assert_eq!(bench.run(Job::flush()), Status::SUCCESS);
    let mut expected = large;
    expected[8192..12288].copy_from_slice(&small);
    assert_eq!(bench.read(1 << 20, 1 << 20), expected);

    for (at, deallocate) in [(16384, false), (20480, true)] {
        let job = Job::zero((1 << 20) + at as u64, 4096, deallocate, true);
        assert_eq!(bench.run(job), Status::SUCCESS);
        expected[at..at + 4096].fill(0);
    }
    assert_eq!(bench.read(1 << 20, 1 << 20), expected);

    let first = u64::from((1u32 << 20) / BLOCK);
    let ranges: Vec<u8> = [(first + 10, 2), (first + 20, 0), (first + 30, 1)]
        .iter()
        .flat_map(|&(slba, blocks)| {
            let range = DsmRange {
                slba: U64::new(slba),
                blocks: U32::new(blocks),
                ..DsmRange::default()
            };
            range.as_bytes().to_vec()
        })
        .collect();
    bench.buffer.get()[..ranges.len()].copy_from_slice(&ranges);
    assert_eq!(bench.run(Job::deallocate(3)), Status::SUCCESS);
    expected[10 * 4096..12 * 4096].fill(0);
    expected[30 * 4096..31 * 4096].fill(0);
    assert_eq!(bench.read(1 << 20, 1 << 20), expected);
}

fn file(path: &Path, direct: Direct) -> Backend {
    Backend::File {
        path: path.to_owned(),
        size: Some(ByteSize(SIZE)),
        direct,
    }
}

#[test]
fn memory() {
    keeps_data(&Backend::Memory {
        size: ByteSize(SIZE),
    });
}

#[test]
fn buffered_file() {
    let directory = tempfile::tempdir().unwrap();
    keeps_data(&file(&directory.path().join("disk"), Direct::Never));
}

#[test]
fn direct_file_where_there_is_such() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    keeps_data(&file(&directory.path().join("disk"), Direct::Auto));
}

#[test]
fn null_reads_zeroes() {
    let mut bench = Bench::new(&Backend::Null {
        size: ByteSize(SIZE),
    });
    bench.write(0, &pattern(1, 4096), false);
    assert_eq!(bench.read(0, 4096), [0; 4096]);
}

#[test]
fn two_processes_see_each_other_through_one_file() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("disk");
    let (mut a, mut b) = (
        Bench::new(&file(&path, Direct::Auto)),
        Bench::new(&file(&path, Direct::Auto)),
    );
    let data = pattern(7, 8192);
    a.write(8192, &data, false);
    assert_eq!(b.read(8192, 8192), data);
}

#[test]
fn a_file_cut_short_is_an_error_and_not_old_data() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let mut bench = Bench::new(&file(&path, Direct::Never));
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4096)
        .unwrap();
    assert_eq!(
        bench.run(Job::read(8192, 4096)),
        Status::UNRECOVERED_READ_ERROR
    );
}

#[test]
fn unsuitable_stores_are_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let open = |backend: &Backend| {
        Media::open(backend, BLOCK)
            .expect_err("refused")
            .to_string()
    };
    let missing = Backend::File {
        path: path.clone(),
        size: None,
        direct: Direct::Auto,
    };
    assert!(open(&missing).contains("give a size to create"));
    std::fs::write(&path, vec![0; 2 * SIZE as usize]).unwrap();
    assert!(open(&file(&path, Direct::Auto)).contains("more than the configured"));
    let device = Backend::Block {
        path,
        direct: Direct::Auto,
    };
    assert!(open(&device).contains("type = \"file\""));
}
