//! Reading discovery logs.

use std::time::Duration;

use umpath_nvme::log::DiscoveryEntry;
use umpath_nvme::{Nqn, U32};
use umpath_session::{Discovery, DiscoveryLog, Event};

use crate::model::{Model, host, subsystem};
use crate::rig::{MS, Rig};

fn model(records: u32) -> Model {
    let mut model = Model::new();
    // A discovery controller says little about itself.
    model.id.subnqn = Nqn::discovery().to_field();
    model.id.cntrltype = 2;
    model.id.nn = U32::ZERO;
    (model.id.ioccsz, model.id.iorcsz, model.id.cmic) = (U32::ZERO, U32::ZERO, 0);
    model.discovery = (0..records)
        .map(|at| DiscoveryEntry::new(1, 1, 2, &subsystem(), &format!("10.0.0.{at}"), "4420"))
        .collect();
    model
}

fn rig(model: Model) -> Rig<Discovery> {
    let now = Duration::from_secs(5);
    Rig::new(
        Discovery::new(host(), [9; 16], Nqn::discovery(), now).unwrap(),
        model,
        now,
    )
}

fn log(rig: &mut Rig<Discovery>) -> DiscoveryLog {
    rig.run_for(500 * MS);
    match rig.events.pop_front() {
        Some(Event::Discovered(log)) => log,
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_the_log_and_shuts_down() {
    for records in [0, 1, 63, 64, 65, 200, 4096] {
        let mut rig = rig(model(records));
        let log = log(&mut rig);
        assert_eq!(log.records.len(), records as usize);
        for (at, record) in log.records.iter().enumerate() {
            assert_eq!(record.traddr, format!("10.0.0.{at}"));
            assert_eq!(
                (record.trsvcid.as_str(), &record.subnqn),
                ("4420", &subsystem())
            );
        }
        assert!(matches!(
            rig.events.pop_front(),
            Some(Event::Closed { orderly: true })
        ));
        assert!(rig.over);
    }
}

#[test]
fn a_log_that_changes_is_read_again() {
    let mut changing = model(100);
    changing.discovery_changes = 7;
    let mut rig = rig(changing);
    let log = log(&mut rig);
    assert_eq!((log.generation, log.records.len()), (8, 100));
}

#[test]
fn a_log_that_never_stops_changing_or_never_ends_is_refused() {
    let mut changing = model(3);
    changing.discovery_changes = u32::MAX;
    let error = rig(changing).failure();
    assert_eq!(
        error.to_string(),
        "discovery log changed during each of 10 attempts to read it"
    );
    let error = rig(model(4097)).failure();
    assert!(
        error
            .to_string()
            .contains("announces 4097 records; at most 4096"),
        "{error}"
    );
}

#[test]
fn a_record_with_an_impossible_name_is_counted_and_left_out() {
    let mut broken = model(3);
    broken.discovery[1].subnqn = [0xff; 256];
    let log = log(&mut rig(broken));
    assert_eq!((log.records.len(), log.unusable), (2, 1));
}

#[test]
fn shutdown_before_the_log_is_read_closes() {
    let mut rig = rig(model(1));
    rig.session.shutdown(rig.now);
    rig.settle();
    assert!(matches!(
        rig.events.pop_front(),
        Some(Event::Closed { orderly: false })
    ));
}
