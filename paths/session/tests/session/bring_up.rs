//! From nothing to ready: what is asked, in which order, and what the facts say.

use std::time::Duration;

use umpath_nvme::command::{GetLogPage, Identify};
use umpath_nvme::log::AnaState;
use umpath_nvme::opcode::{FABRICS, admin};
use umpath_nvme::property::{Cap, Version};
use umpath_nvme::{Sqe, U16, U32};
use umpath_session::{Controller, Event, NamespaceProblem, Ready, SessionConfig, StableId};

use crate::model::{CNTLID, Model, ModelNamespace};
use crate::rig::{Case, Rig, config, controller, controller_with};

/// A command as a word, for comparing orders.
fn word(qid: u16, sqe: &Sqe) -> String {
    let name = match sqe.opcode {
        FABRICS => match sqe.fabrics_type() {
            0 => "set".to_owned(),
            1 => "connect".to_owned(),
            _ => format!("get{:x}", sqe.cdw11.get()),
        },
        admin::IDENTIFY => {
            let identify = Identify::parse(sqe);
            format!("id{:x}/{}", identify.cns, identify.nsid)
        }
        admin::SET_FEATURES => format!("setf{:x}", sqe.cdw10.get()),
        admin::GET_FEATURES => format!("getf{:x}", sqe.cdw10.get()),
        admin::GET_LOG_PAGE => format!("log{:x}", GetLogPage::parse(sqe).lid),
        admin::KEEP_ALIVE => "alive".to_owned(),
        admin::ASYNC_EVENT_REQUEST => "aer".to_owned(),
        other => format!("{other:x}"),
    };
    if qid == 0 {
        name
    } else {
        format!("{qid}:{name}")
    }
}

pub(crate) fn words(rig: &Rig<Controller>) -> String {
    rig.sent
        .iter()
        .map(|(qid, sqe)| word(*qid, sqe))
        .collect::<Vec<_>>()
        .join(" ")
}

fn until_ready(model: Model, config: SessionConfig) -> (Rig<Controller>, Ready) {
    let mut rig = controller_with(model, config);
    rig.run_for(Duration::from_millis(99));
    match rig.event() {
        Some(Event::Ready(ready)) => (rig, *ready),
        other => panic!("{other:?}"),
    }
}

#[test]
fn asks_in_the_order_a_linux_host_keeps() {
    let (rig, _) = until_ready(Model::new(), config());
    assert_eq!(
        words(&rig),
        "connect get0 get8 set get1c get1c get1c get1c id1/0 id6/0 getff setf7 setfb \
         aer aer aer aer id2/0 id0/1 id3/1 id0/5 id3/5 logc 1:connect 2:connect 3:connect"
    );
    let opened = [
        (0, 0xffff, 32),
        (1, CNTLID, 128),
        (2, CNTLID, 128),
        (3, CNTLID, 128),
    ];
    assert_eq!(rig.opened, opened);
    // Everything the command sets offer, 64-byte commands, 16-byte completions, 4 KiB pages.
    assert_eq!(rig.model.cc.0, 0x0046_0061);
    assert_eq!(
        rig.model.events_enabled,
        1 << 8 | 1 << 11 | 1 << 20 | 1 << 21
    );
}

#[test]
fn facts_are_in_usable_units() {
    let mut model = Model::new();
    model.nvm.wzsl = 9;
    model.nvm.dmrl = 16;
    let config = SessionConfig {
        kato: Duration::from_millis(4200),
        ..config()
    };
    let (_, ready) = until_ready(model, config);
    let facts = &ready.facts;
    assert_eq!(
        (facts.cntlid, facts.ciu, facts.cirn),
        (CNTLID, 3, 0x0123_4567_89ab_cdef)
    );
    // KAS is one second: 4.2 s asked become 5 s.
    assert_eq!(facts.kato, Some(Duration::from_secs(5)));
    assert_eq!(facts.cqt, Duration::from_millis(30));
    assert_eq!(facts.max_transfer, Some(1 << 20));
    assert_eq!(
        (facts.io_capsule_bytes, facts.in_capsule_bytes),
        (4160, 4096)
    );
    assert_eq!(facts.nvm_limits.write_zeroes_bytes, Some(2 << 20));
    assert_eq!(facts.nvm_limits.dsm_ranges, Some(16));
    assert_eq!(
        (facts.serial.as_str(), facts.model.as_str()),
        ("SN0001", "umpath-array")
    );
    assert_eq!(facts.shutdown_latency, Some(Duration::from_secs(2)));

    let [first, second] = &ready.namespaces[..] else {
        panic!("{:?}", ready.namespaces)
    };
    let first = first.facts.as_ref().unwrap();
    assert_eq!(first.id, StableId::Uuid([0x81; 16]));
    assert_eq!(
        first.id.to_string(),
        "uuid.81818181-8181-8181-8181-818181818181"
    );
    assert_eq!(
        (first.blocks, first.block_bytes(), first.shared),
        (1 << 18, 4096, true)
    );
    let ana = ready.ana.as_ref().unwrap();
    assert_eq!(ana.state(1, first.ana_group), Some(AnaState::Optimized));
    assert_eq!(ana.state(second.nsid, 0), Some(AnaState::NonOptimized));
    assert_eq!(
        (&ready.io_queues[..], ready.io_depth),
        (&[1, 2, 3][..], 128)
    );
}

#[test]
fn write_zeroes_without_a_limit_of_its_own_is_held_to_the_largest_transfer() {
    let (_, ready) = until_ready(Model::new(), config());
    assert_eq!(ready.facts.nvm_limits.write_zeroes_bytes, Some(1 << 20));
    assert_eq!(ready.facts.nvm_limits.dsm_ranges, None);
}

#[test]
fn a_longer_timer_reported_by_the_controller_counts_and_none_is_none() {
    for (reported, kato) in [
        (None, Some(Duration::from_secs(5))),
        (Some(5_000), Some(Duration::from_secs(5))),
        (Some(15_000), Some(Duration::from_secs(15))),
        (Some(1), Some(Duration::from_secs(5))),
        (Some(0), None),
    ] {
        let model = Model {
            kato_ms: reported,
            ..Model::new()
        };
        assert_eq!(
            until_ready(model, config()).1.facts.kato,
            kato,
            "{reported:?}"
        );
    }
}

#[test]
fn without_keep_alive_support_none_is_sent() {
    let mut model = Model::new();
    model.id.kas = U16::ZERO;
    let (mut rig, ready) = until_ready(model, config());
    assert_eq!(ready.facts.kato, None);
    rig.run_for(Duration::from_secs(10));
    assert!(!words(&rig).contains("alive") && !rig.over);
}

#[test]
fn an_old_plain_controller_is_asked_for_less() {
    let mut model = Model::new();
    model.version = Version::new(1, 2, 1);
    model.cap = Cap::fabrics(64, 500);
    model.id.cmic = 0;
    model.id.oaes = U32::ZERO;
    model.namespaces = [(1, ModelNamespace::new(1, 0))].into();
    let (rig, ready) = until_ready(model, config());
    assert_eq!(
        words(&rig),
        "connect get0 get8 set get1c get1c get1c get1c id1/0 getff setf7 id2/0 id0/1 \
         1:connect 2:connect 3:connect"
    );
    assert_eq!(rig.model.cc.0, 0x0046_0001);
    assert!(ready.ana.is_none());
    assert_eq!(ready.io_depth, 64);
    assert_eq!(
        ready.namespaces[0].facts.as_ref().unwrap().id,
        StableId::Nguid([1; 16])
    );
}

#[test]
fn fewer_queues_than_asked_are_reported_and_may_be_too_few() {
    let model = || Model {
        queues: 2,
        ..Model::new()
    };
    let (rig, ready) = until_ready(model(), config());
    assert_eq!((&ready.io_queues[..], rig.opened.len()), (&[1, 2][..], 3));
    let mut rig = controller_with(
        model(),
        SessionConfig {
            io_queues_min: 3,
            ..config()
        },
    );
    let error = rig.failure();
    assert_eq!(
        error.to_string(),
        "controller grants 2 I/O queues of 3 asked, at least 3 are needed"
    );
    assert!(error.is_refusal() && error.remedy().contains("io_queues"));
}

#[test]
fn queues_for_each_namespace_stay_within_what_is_granted() {
    // Two namespaces, of which one may be unusable; none at all still gets its share of one.
    for (each, usable, queues) in [(0, 2, 3), (1, 2, 2), (1, 1, 1), (2, 2, 3), (2, 0, 2)] {
        let mut model = Model::new();
        for namespace in model.namespaces.values_mut().skip(usable) {
            namespace.page.nsze.set(0);
        }
        let config = SessionConfig {
            io_queues_per_namespace: each,
            ..config()
        };
        let (rig, ready) = until_ready(model, config);
        assert_eq!(
            (ready.io_queues.len(), rig.opened.len()),
            (queues, queues + 1)
        );
    }
}

#[test]
fn namespace_lists_are_paged_and_bounded() {
    let model = || {
        let mut model = Model::new();
        let all = (1..=1500_u32).map(|nsid| {
            let mut namespace = ModelNamespace::new(1, 1);
            namespace.descriptors.clear();
            namespace.page.nguid = u128::from(nsid).to_be_bytes();
            (nsid, namespace)
        });
        model.namespaces = all.collect();
        (model.id.nn, model.id.mnan) = (U32::new(2000), U32::new(2000));
        model.ana = vec![(1, AnaState::Optimized, (1..=1500).collect())];
        model
    };
    let config = SessionConfig {
        namespaces_max: 4096,
        ..config()
    };
    let (rig, ready) = until_ready(model(), config.clone());
    assert_eq!(ready.namespaces.len(), 1500);
    assert!(words(&rig).contains("id2/0 id2/1024 id0/1 "));
    let (rig, ready) = until_ready(
        model(),
        SessionConfig {
            namespaces_max: 10,
            ..config
        },
    );
    assert_eq!(ready.namespaces.len(), 10);
    assert!(!words(&rig).contains("id2/1024"));
}

#[test]
fn a_list_with_a_hole_does_not_go_on_for_ever() {
    let (_, ready) = until_ready(
        Model {
            list_has_hole: true,
            ..Model::new()
        },
        config(),
    );
    assert_eq!(ready.namespaces.len(), 2);
}

#[test]
fn an_unusable_namespace_says_why_and_spares_its_neighbours() {
    use umpath_nvme::identify::{LbaFormat, NsIdentifier};
    let cases: [Case<ModelNamespace, NamespaceProblem>; 9] = [
        (
            |ns| {
                ns.descriptors.clear();
                ns.page.nguid = [0; 16];
            },
            NamespaceProblem::NoStableId,
        ),
        (|ns| ns.page.nsze.set(0), NamespaceProblem::ZeroSize),
        (|ns| ns.page.ncap.set(0), NamespaceProblem::ZeroSize),
        (
            |ns| ns.page.lbaf[0].lbads = 8,
            NamespaceProblem::LbaShift(8),
        ),
        (
            |ns| ns.page.lbaf[0].lbads = 17,
            NamespaceProblem::LbaShift(17),
        ),
        (|ns| ns.page.flbas = 1, NamespaceProblem::NoSuchFormat(1)),
        (
            |ns| {
                ns.page.lbaf[0] = LbaFormat {
                    ms: U16::new(8),
                    lbads: 12,
                    rp: 0,
                }
            },
            NamespaceProblem::Metadata(8),
        ),
        (
            |ns| ns.descriptors.push(NsIdentifier::CommandSet(2)),
            NamespaceProblem::CommandSet(2),
        ),
        (
            |ns| ns.page.nguid = [0xaa; 16],
            NamespaceProblem::Contradiction,
        ),
    ];
    for (break_it, problem) in cases {
        let mut model = Model::new();
        break_it(model.namespaces.get_mut(&1).unwrap());
        let (_, ready) = until_ready(model, config());
        assert_eq!(ready.namespaces[0].facts, Err(problem));
        assert!(ready.namespaces[1].facts.is_ok());
    }
    let mut model = Model::new();
    model.resize(5, u64::MAX);
    let (_, ready) = until_ready(model, config());
    let oversize = NamespaceProblem::Oversize {
        blocks: u64::MAX,
        lba_shift: 12,
    };
    assert_eq!(ready.namespaces[1].facts, Err(oversize));
}

#[test]
fn a_long_ana_log_is_read_without_namespaces_and_then_in_pieces() {
    // 65,536 namespaces do not fit with their groups in one transfer.
    let mut model = Model::new();
    (model.id.nn, model.id.mnan) = (U32::new(65_536), U32::new(65_536));
    let (rig, ready) = until_ready(model, config());
    let ana = |rig: &Rig<Controller>| {
        let logs = rig
            .sent
            .iter()
            .filter(|(_, sqe)| sqe.opcode == admin::GET_LOG_PAGE);
        logs.map(|(_, sqe)| GetLogPage::parse(sqe))
            .collect::<Vec<_>>()
    };
    let [log] = &ana(&rig)[..] else { panic!() };
    assert_eq!((log.lsp, log.length), (1, 16 + 16 * 32));
    assert_eq!(ready.ana.unwrap().state(5, 2), Some(AnaState::NonOptimized));

    // 4,000 groups do not fit at all.
    let mut model = Model {
        ana_changes: 5,
        ..Model::new()
    };
    (model.id.nanagrpid, model.id.anagrpmax) = (U32::new(4000), U32::new(4000));
    model.ana = (1..=4000)
        .map(|id| (id, AnaState::Inaccessible, Vec::new()))
        .collect();
    let (rig, ready) = until_ready(model, config());
    let pieces: Vec<_> = ana(&rig)
        .iter()
        .map(|log| (log.offset, log.length))
        .collect();
    let attempt = [(0, 65_536), (65_536, 62_480), (0, 16)];
    // It changed under the first two attempts.
    assert_eq!(pieces, attempt.repeat(3));
    let table = ready.ana.unwrap();
    assert_eq!((table.groups.len(), table.change_count), (4000, 6));

    let mut model = Model::new();
    (model.id.nanagrpid, model.id.anagrpmax) = (U32::new(u32::MAX), U32::new(u32::MAX));
    assert!(
        controller(model)
            .failure()
            .to_string()
            .starts_with("could not read the ANA log")
    );
}

#[test]
fn configuration_mistakes_are_the_callers() {
    let cases: [Case<SessionConfig, &str>; 6] = [
        (|c| c.io_queues = 0, "at least one I/O queue"),
        (|c| c.io_queues = 129, "at most 128"),
        (|c| c.io_queues_min = 4, "demanded"),
        (|c| c.io_depth = 1, "outside 2..=1024"),
        (|c| c.kato = Duration::from_millis(150), "two heartbeats"),
        (
            |c| c.command_timeout = Duration::ZERO,
            "command_timeout must not be zero",
        ),
    ];
    for (break_it, words) in cases {
        let mut config = config();
        break_it(&mut config);
        let error = Controller::new(config, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
