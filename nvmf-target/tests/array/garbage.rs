//! No command, however nonsensical, panics or leaves the array inconsistent.

use std::time::Duration;

use crate::host::{Host, array};
use proptest::prelude::*;
use umpath_nvme::{FromBytes, Sqe, Status};
use umpath_target::controller::admin_transfer;
use umpath_target::controller::io::{check_ranges, plan};
use umpath_target::controller::sgl::{Transfer, locate};
use umpath_target::model::{Geometry, PortId};
use umpath_target::output::QueueId;

fn any_sqe() -> impl Strategy<Value = Sqe> {
    let opcodes = prop_oneof![
        prop::sample::select(vec![0x02u8, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18, 0x7f]),
        any::<u8>(),
    ];
    (opcodes, any::<[u8; 64]>(), any::<u8>()).prop_map(|(opcode, mut bytes, small)| {
        bytes[0] = opcode;
        // Half of the time identifiers are small, so that they mean something.
        if small & 1 == 0 {
            bytes[4..8].copy_from_slice(&u32::from(small >> 4).to_le_bytes());
            bytes[41..48].fill(0);
            bytes[40] = small >> 1;
        }
        Sqe::read_from_bytes(&bytes).expect("64 bytes")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn admin_commands(sqes in prop::collection::vec(any_sqe(), 1..24)) {
        let mut array = array();
        let host = Host::ready(&mut array, 1);
        for (step, sqe) in sqes.iter().enumerate() {
            let Ok(transfer) = admin_transfer(sqe) else { continue };
            let mut data = vec![0; transfer.bytes() as usize];
            let now = Duration::from_millis(step as u64);
            array.admin(host.cntlid, sqe, &mut data, now);
            array.handle_timeout(now);
            let report = array.report();
            prop_assert!(report.controllers.iter().all(|c| c.on_media == 0));
        }
    }

    #[test]
    fn connects(sqe in any_sqe(), data in prop::collection::vec(any::<u8>(), 0..1100)) {
        let mut array = array();
        let refused = array.connect(PortId(1), &sqe, &data, QueueId(1), Duration::ZERO);
        prop_assert!(refused.is_err());
        prop_assert!(array.report().controllers.is_empty());
    }

    #[test]
    fn io_commands(sqe in any_sqe(), in_capsule in 0usize..5000, list in any::<[u8; 64]>()) {
        let mut array = array();
        let mut host = Host::ready(&mut array, 1);
        let mut io = host.connect_io(&mut array, 1).expect("connected").io.expect("an I/O queue");
        let size = 4096u64 * 4096;
        if let Ok(plan) = plan(io.view(), &sqe) {
            use umpath_target::controller::io::Operation;
            match plan.operation {
                Operation::Read { offset, bytes } | Operation::Write { offset, bytes, .. } => {
                    prop_assert!(offset + u64::from(bytes) <= size);
                    prop_assert_eq!(plan.transfer.bytes(), bytes);
                }
                Operation::Zero { offset, bytes, .. } => prop_assert!(offset + bytes <= size),
                _ => {}
            }
            let _ = locate(&sqe, plan.transfer, in_capsule);
        }
        let geometry = Geometry { block_bytes: 4096, blocks: 4096, volatile_cache: false };
        let _ = check_ranges(geometry, 4, &list);
        prop_assert_eq!(
            check_ranges(geometry, 5, &list).map_err(Status::code),
            Err(Status::DATA_SGL_LENGTH_INVALID)
        );
        let _ = locate(&sqe, Transfer::FromHost(512), in_capsule);
    }
}
