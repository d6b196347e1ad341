//! Which pages of a reactor's data memory are in use.
//!
//! Commands take a power-of-two run of 4 KiB pages, aligned to its size, inside one arena slot of
//! 1 MiB (the largest transfer), so that a run never crosses a memory region. Small runs are taken
//! from the low end and large ones from the high end, which keeps whole slots free for large ones.
//! Nothing is allocated after construction.

/// Bytes of an arena slot: the largest transfer.
pub(crate) const SLOT_BYTES: u32 = 1 << 20;
const PAGE_BYTES: u32 = 4096;
const PAGES: u32 = SLOT_BYTES / PAGE_BYTES;
const WORDS: usize = PAGES as usize / 64;
/// Runs of this many pages and more are taken from the high end.
const LARGE_PAGES: u32 = 32;

/// A run of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Arena slot.
    pub(crate) slot: u32,
    /// Byte offset in the slot.
    pub(crate) offset: u32,
    pages: u32,
}

#[derive(Debug, Clone)]
struct Slot {
    /// A set bit is a free page.
    free: [u64; WORDS],
    free_pages: u32,
}

/// The free pages of an arena of slots of [`SLOT_BYTES`].
#[derive(Debug)]
pub(crate) struct Pool {
    slots: Vec<Slot>,
}

impl Pool {
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            slots: vec![
                Slot {
                    free: [u64::MAX; WORDS],
                    free_pages: PAGES
                };
                slots as usize
            ],
        }
    }

    /// Takes room for `bytes` (1 to [`SLOT_BYTES`]); `None` when there is none at present.
    pub(crate) fn take(&mut self, bytes: u32) -> Option<Run> {
        let pages = bytes.div_ceil(PAGE_BYTES).max(1).next_power_of_two();
        if pages > PAGES {
            return None;
        }
        let count = self.slots.len();
        for nth in 0..count {
            let index = if pages >= LARGE_PAGES {
                count - 1 - nth
            } else {
                nth
            };
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            if slot.free_pages < pages {
                continue;
            }
            if let Some(page) = slot.find(pages) {
                slot.mark(page, pages, false);
                return Some(Run {
                    slot: index as u32,
                    offset: page * PAGE_BYTES,
                    pages,
                });
            }
        }
        None
    }

    /// Gives a run back.
    pub(crate) fn give(&mut self, run: Run) {
        if let Some(slot) = self.slots.get_mut(run.slot as usize) {
            slot.mark(run.offset / PAGE_BYTES, run.pages, true);
        }
    }

    /// Free bytes.
    #[cfg(test)]
    fn free_bytes(&self) -> u64 {
        self.slots
            .iter()
            .map(|slot| u64::from(slot.free_pages * PAGE_BYTES))
            .sum()
    }
}

impl Slot {
    fn find(&self, pages: u32) -> Option<u32> {
        if pages <= 64 {
            return self.free.iter().zip(0..).find_map(|(&word, index)| {
                let starts = starts(word, pages);
                (starts != 0).then(|| index * 64 + starts.trailing_zeros())
            });
        }
        let words = pages as usize / 64;
        let whole = |chunk: &[u64]| chunk.iter().all(|word| *word == u64::MAX);
        self.free
            .chunks(words)
            .position(whole)
            .map(|at| at as u32 * pages)
    }

    fn mark(&mut self, page: u32, pages: u32, free: bool) {
        let first = page as usize / 64;
        let words = (pages as usize).div_ceil(64);
        let mask = if pages >= 64 {
            u64::MAX
        } else {
            ((1 << pages) - 1) << (page % 64)
        };
        for word in self.free.iter_mut().skip(first).take(words) {
            debug_assert_eq!(*word & mask, if free { 0 } else { mask }, "page used twice");
            *word = if free { *word | mask } else { *word & !mask };
        }
        self.free_pages = if free {
            self.free_pages + pages
        } else {
            self.free_pages - pages
        };
    }
}

/// The bits at which an aligned run of `pages` set bits starts.
fn starts(word: u64, pages: u32) -> u64 {
    let mut runs = word;
    let mut covered = 1;
    while covered < pages {
        runs &= runs >> covered;
        covered *= 2;
    }
    // One bit every `pages` bits.
    let aligned = if pages >= 64 {
        1
    } else {
        u64::MAX / ((1 << pages) - 1)
    };
    runs & aligned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_aligned_and_disjoint() {
        let mut pool = Pool::new(2);
        let mut taken = Vec::new();
        let mut used = vec![false; 2 * PAGES as usize];
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bytes = ((seed >> 33) as u32 % 9).min(8);
            if seed & 1 << 60 == 0 {
                let Some(run) = pool.take(PAGE_BYTES << bytes) else {
                    continue;
                };
                assert_eq!(run.offset % (run.pages * PAGE_BYTES), 0);
                let first = (run.slot * PAGES + run.offset / PAGE_BYTES) as usize;
                for page in &mut used[first..first + run.pages as usize] {
                    assert!(!*page);
                    *page = true;
                }
                taken.push(run);
            } else if !taken.is_empty() {
                let run: Run = taken.swap_remove((seed >> 20) as usize % taken.len());
                let first = (run.slot * PAGES + run.offset / PAGE_BYTES) as usize;
                used[first..first + run.pages as usize].fill(false);
                pool.give(run);
            }
        }
        for run in taken {
            pool.give(run);
        }
        assert_eq!(pool.free_bytes(), 2 << 20);
        assert!(pool.take(SLOT_BYTES).is_some() && pool.take(SLOT_BYTES).is_some());
        assert!(pool.take(1).is_none());
    }

    #[test]
    fn small_runs_leave_large_ones_room() {
        let mut pool = Pool::new(2);
        for _ in 0..PAGES {
            assert_eq!(pool.take(100).map(|run| run.slot), Some(0));
        }
        assert_eq!(
            pool.take(SLOT_BYTES).map(|run| (run.slot, run.offset)),
            Some((1, 0))
        );
        assert_eq!(pool.take(SLOT_BYTES + 1), None);
    }
}
