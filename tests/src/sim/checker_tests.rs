//! What the judge of reads notices.

use super::*;

fn wrote(checker: &mut Checker, lba: u64) -> OpId {
    let id = checker.call(OpKind::Write, (lba, 1), false, 0);
    checker.done(id, true, &[]).unwrap();
    id
}

fn reads(checker: &mut Checker, lba: u64, value: OpId) -> Result<(), Violation> {
    let id = checker.call(OpKind::Read, (lba, 1), false, 0);
    checker.done(id, true, &[stamp(0, value, lba)])
}

#[test]
fn a_superseded_value_is_noticed() {
    let mut checker = Checker::new(0, 4, true);
    let old = wrote(&mut checker, 1);
    assert!(reads(&mut checker, 1, old).is_ok());
    let new = wrote(&mut checker, 1);
    assert!(reads(&mut checker, 1, new).is_ok());
    assert!(reads(&mut checker, 1, old).is_err());
    assert!(reads(&mut checker, 1, 0).is_err());
    assert!(reads(&mut checker, 2, 0).is_ok());
}

#[test]
fn what_was_seen_does_not_revert() {
    let mut checker = Checker::new(0, 4, true);
    let old = wrote(&mut checker, 0);
    let new = checker.call(OpKind::Write, (0, 1), false, 0);
    assert!(reads(&mut checker, 0, old).is_ok());
    assert!(reads(&mut checker, 0, new).is_ok());
    assert!(reads(&mut checker, 0, old).is_err());
}

#[test]
fn concurrent_writes_settle_either_way_but_once() {
    let mut checker = Checker::new(0, 4, true);
    let a = checker.call(OpKind::Write, (0, 1), false, 0);
    let b = checker.call(OpKind::Write, (0, 1), false, 0);
    assert!(reads(&mut checker, 0, a).is_ok());
    assert!(reads(&mut checker, 0, b).is_ok());
    assert!(reads(&mut checker, 0, a).is_ok());
    checker.done(a, true, &[]).unwrap();
    checker.done(b, true, &[]).unwrap();
    assert!(reads(&mut checker, 0, a).is_ok());
    assert!(reads(&mut checker, 0, b).is_err());
}

#[test]
fn a_failed_write_may_show_until_a_later_one_is_acknowledged() {
    let mut checker = Checker::new(0, 4, true);
    let failed = checker.call(OpKind::Write, (0, 1), false, 0);
    checker.done(failed, false, &[]).unwrap();
    assert!(reads(&mut checker, 0, 0).is_ok());
    assert!(reads(&mut checker, 0, failed).is_ok());
    let new = wrote(&mut checker, 0);
    assert!(reads(&mut checker, 0, new).is_ok());
    assert!(reads(&mut checker, 0, failed).is_err());
}

#[test]
fn values_from_elsewhere_are_noticed() {
    let mut checker = Checker::new(0, 4, true);
    let here = wrote(&mut checker, 0);
    let id = checker.call(OpKind::Read, (1, 1), false, 0);
    assert!(checker.done(id, true, &[stamp(0, here, 0)]).is_err());
    let id = checker.call(OpKind::Read, (0, 1), false, 0);
    assert!(checker.done(id, true, &[u64::MAX]).is_err());
}

/// Power fails when block 0 was flushed and written once more, block 1 was written after the call
/// of the flush, and block 2 with FUA. The two values of block 0.
fn powerless() -> (Checker, OpId, OpId) {
    let mut checker = Checker::new(0, 4, true);
    let flushed = wrote(&mut checker, 0);
    let flush = checker.call(OpKind::Flush, (0, 0), false, 0);
    wrote(&mut checker, 1);
    checker.done(flush, true, &[]).unwrap();
    let newer = wrote(&mut checker, 0);
    let forced = checker.call(OpKind::Write, (2, 1), true, 0);
    checker.done(forced, true, &[]).unwrap();
    checker.power_failed();
    (checker, flushed, newer)
}

#[test]
fn what_was_flushed_outlives_the_power_and_the_rest_need_not() {
    let (mut checker, flushed, newer) = powerless();
    assert!(reads(&mut checker, 0, 0).is_err(), "it was flushed");
    assert!(reads(&mut checker, 0, flushed).is_ok());
    assert!(reads(&mut checker, 0, newer).is_err(), "it was lost");
    let late = reads(&mut checker, 1, 0);
    assert!(late.is_ok(), "no flush was called after it");
    assert!(reads(&mut checker, 2, 0).is_err(), "it had FUA");
}

#[test]
fn what_was_not_flushed_may_have_been_written_back_and_stays_then() {
    let (mut checker, flushed, newer) = powerless();
    assert!(reads(&mut checker, 0, newer).is_ok());
    assert!(reads(&mut checker, 0, flushed).is_err());
}

#[test]
fn without_a_cache_everything_outlives_the_power() {
    let mut checker = Checker::new(0, 4, false);
    wrote(&mut checker, 0);
    checker.power_failed();
    assert!(reads(&mut checker, 0, 0).is_err());
}
