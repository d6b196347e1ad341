//! What the application may see.
//!
//! Checked while the run goes on, block by block, from the times of calls and returns alone:
//! - (a) a read never returns a value that is strictly superseded: acknowledged before another
//!   write began that was acknowledged before the read began;
//! - (b) nothing reverts: once a read returned a value, no later read returns one that was
//!   acknowledged before that value's write began;
//! - (c) a block settles: with no write of it outstanding, all reads agree.
//!
//! A write that failed counts as over when it failed, but not as having happened. Its value may be
//! seen until a write that began later is acknowledged.
//!
//! - (9) when the power of the medium fails, all this is forgotten of what was not durable: of what
//!   the medium's volatile cache alone had taken. Durable is what was acknowledged with FUA, or
//!   before a FLUSH was called that was acknowledged, or at all where there is no cache. Of a write
//!   that had not returned when the power failed nothing is demanded: its answer may have been under
//!   way already, and no host can know.

use super::clock::Nanos;
use super::store::StoreId;

/// One request, as the application knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpKind {
    Read,
    Write,
    WriteZeroes,
    Discard,
    Flush,
}

impl OpKind {
    pub(crate) fn is_mutation(self) -> bool {
        matches!(self, Self::Write | Self::WriteZeroes | Self::Discard)
    }
}

/// Number of a request; 0 stands for what was on the medium in the beginning.
pub(crate) type OpId = u32;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Op {
    pub(crate) kind: OpKind,
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
    /// Durable when it is acknowledged.
    pub(crate) fua: bool,
    pub(crate) called_at: Nanos,
    /// Order of calls and returns.
    pub(crate) call: u64,
    /// `u64::MAX`: it has not returned.
    pub(crate) end: u64,
    pub(crate) failed: bool,
}

/// The value a write leaves in each of its blocks.
pub(crate) fn stamp(store: StoreId, op: OpId, lba: u64) -> u64 {
    (store as u64) << 48 | u64::from(op) << 16 | lba
}

pub(crate) fn op_of(value: u64) -> OpId {
    (value >> 16) as OpId
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// The latest call among writes known to have happened: acknowledged, or seen.
    frontier: u64,
    /// The latest call among acknowledged writes, since the power failed.
    acknowledged: u64,
    /// The latest call among writes that outlive the power.
    durable: u64,
    /// Writes called that have not returned.
    outstanding: u32,
    /// The return of the last write that failed and may still be seen.
    limbo: u64,
    /// Counts calls of writes.
    epoch: u32,
    /// What reads of the present epoch returned while nothing was outstanding.
    settled: Option<(u32, u64)>,
}

/// What a read must be judged by: the state of its blocks when it was called.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    frontier: u64,
    epoch: u32,
    quiet: bool,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub(crate) struct Violation(pub(crate) String);

/// The judge of one namespace.
#[derive(Debug)]
pub(crate) struct Checker {
    store: StoreId,
    pub(crate) ops: Vec<Op>,
    blocks: Vec<Block>,
    /// By read: the states of its blocks when it was called.
    seen: Vec<(OpId, Vec<Seen>)>,
    /// By flush: what it has to make durable.
    flushes: Vec<(OpId, Vec<u64>)>,
    /// The medium has a volatile cache.
    cache: bool,
    /// When the power last failed, in the order of calls and returns.
    power_failed: u64,
    /// Requests that have not returned.
    open: Vec<OpId>,
    clock: u64,
}

impl Checker {
    pub(crate) fn new(store: StoreId, blocks: u64, cache: bool) -> Self {
        let origin = Op {
            kind: OpKind::Write,
            lba: 0,
            blocks,
            fua: false,
            called_at: 0,
            call: 0,
            end: 0,
            failed: false,
        };
        Self {
            store,
            ops: vec![origin],
            blocks: vec![Block::default(); blocks as usize],
            seen: Vec::new(),
            flushes: Vec::new(),
            cache,
            power_failed: 0,
            open: Vec::new(),
            clock: 0,
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A request begins.
    pub(crate) fn call(
        &mut self,
        kind: OpKind,
        (lba, blocks): (u64, u64),
        fua: bool,
        now: Nanos,
    ) -> OpId {
        let call = self.tick();
        let id = self.ops.len() as OpId;
        self.ops.push(Op {
            kind,
            lba,
            blocks,
            fua,
            called_at: now,
            call,
            end: u64::MAX,
            failed: false,
        });
        self.open.push(id);
        let range = lba as usize..(lba + blocks) as usize;
        match kind {
            OpKind::Read => {
                let seen = self.blocks[range].iter().map(|block| Seen {
                    frontier: block.frontier,
                    epoch: block.epoch,
                    quiet: block.outstanding == 0 && block.limbo == 0,
                });
                let seen = seen.collect();
                self.seen.push((id, seen));
            }
            OpKind::Flush => {
                let covered = self.blocks.iter().map(|block| block.acknowledged);
                self.flushes.push((id, covered.collect()));
            }
            _ => {
                for block in &mut self.blocks[range] {
                    block.outstanding += 1;
                    block.epoch += 1;
                }
            }
        }
        id
    }

    /// A request is over. `values`: what a successful read returned.
    pub(crate) fn done(&mut self, id: OpId, ok: bool, values: &[u64]) -> Result<(), Violation> {
        let end = self.tick();
        let op = &mut self.ops[id as usize];
        if op.end != u64::MAX {
            return Err(Violation(format!("(7) op {id} returned twice")));
        }
        op.end = end;
        self.open.retain(|open| *open != id);
        op.failed = !ok;
        let op = *op;
        match op.kind {
            OpKind::Read => {
                let at = self.seen.iter().position(|(read, _)| *read == id);
                let seen = at.map(|at| self.seen.swap_remove(at).1).unwrap_or_default();
                if ok {
                    for (offset, (seen, value)) in seen.iter().zip(values).enumerate() {
                        self.read(id, op.lba + offset as u64, *seen, *value)?;
                    }
                }
            }
            OpKind::Flush => {
                let at = self.flushes.iter().position(|(flush, _)| *flush == id);
                let covered = at.map(|at| self.flushes.swap_remove(at).1);
                if ok && op.call > self.power_failed {
                    let covered = covered.unwrap_or_default();
                    for (block, covered) in self.blocks.iter_mut().zip(covered) {
                        block.durable = block.durable.max(covered);
                    }
                }
            }
            _ => {
                let durable = op.fua || !self.cache;
                let certain = durable || op.call > self.power_failed;
                for block in &mut self.blocks[op.lba as usize..(op.lba + op.blocks) as usize] {
                    block.outstanding -= 1;
                    if ok {
                        if durable {
                            block.durable = block.durable.max(op.call);
                        }
                        if certain {
                            block.frontier = block.frontier.max(op.call);
                            block.acknowledged = block.acknowledged.max(op.call);
                        }
                        if block.limbo < op.call {
                            block.limbo = 0;
                        }
                    } else {
                        block.limbo = end;
                    }
                }
            }
        }
        Ok(())
    }

    /// By block, the latest call among the writes that a FLUSH has to make durable. `None`: the power
    /// failed since, and nothing is demanded.
    pub(crate) fn covered(&self, id: OpId) -> Option<&[u64]> {
        let op = &self.ops[id as usize];
        let mut flushes = self.flushes.iter();
        let known = flushes.find(|(flush, _)| *flush == id);
        let known = known.filter(|_| op.call > self.power_failed);
        known.map(|(_, covered)| &covered[..])
    }

    /// What was not durable may be gone.
    pub(crate) fn power_failed(&mut self) {
        self.power_failed = self.tick();
        for (lba, block) in self.blocks.iter_mut().enumerate() {
            block.frontier = block.durable;
            block.acknowledged = block.durable;
            block.epoch += 1;
            block.settled = None;
            for (id, seen) in &mut self.seen {
                let op = &self.ops[*id as usize];
                if (op.lba..op.lba + op.blocks).contains(&(lba as u64)) {
                    let seen = &mut seen[lba - op.lba as usize];
                    seen.frontier = seen.frontier.min(block.durable);
                }
            }
        }
    }

    fn read(&mut self, id: OpId, lba: u64, seen: Seen, value: u64) -> Result<(), Violation> {
        let writer = op_of(value);
        let Some(write) = self.ops.get(writer as usize).copied() else {
            return Err(Violation(format!(
                "(2) op {id} read garbage {value:#x} at block {lba}"
            )));
        };
        let covers = (write.lba..write.lba + write.blocks).contains(&lba);
        if !write.kind.is_mutation() || !covers || value != stamp(self.store, writer, lba) {
            let what =
                format!("(2) op {id} read {value:#x} at block {lba}, which nobody wrote there");
            return Err(Violation(what));
        }
        if write.end < seen.frontier {
            let newer = self
                .ops
                .iter()
                .position(|op| op.call == seen.frontier && op.kind.is_mutation());
            let lost = newer.is_some_and(|newer| self.ops[newer].end < self.power_failed);
            let promise = if lost { "(9)" } else { "(1,2,3)" };
            return Err(Violation(format!(
                "{promise} op {id} read block {lba} as op {writer} left it, superseded by op {newer:?}"
            )));
        }
        let block = &mut self.blocks[lba as usize];
        if self.ops[id as usize].call < self.power_failed {
            // What it read may be gone meanwhile.
            return Ok(());
        }
        block.frontier = block.frontier.max(write.call);
        if seen.quiet && seen.epoch == block.epoch {
            match block.settled {
                Some((epoch, settled)) if epoch == block.epoch && settled != value => {
                    let before = op_of(settled);
                    return Err(Violation(format!(
                        "(3) op {id} read block {lba} as op {writer} left it; with no write \
                         outstanding it had been as op {before} left it"
                    )));
                }
                _ => block.settled = Some((block.epoch, value)),
            }
        }
        Ok(())
    }

    /// Requests that have not returned.
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = (OpId, &Op)> {
        self.open.iter().map(|id| (*id, &self.ops[*id as usize]))
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
