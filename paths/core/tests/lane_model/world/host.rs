//! The queue thread's part: takes what the lanes say.

use umpath_core::{Action, Data, LaneEvent, LaneId, OnNoPath, Op, SendCommand};
use umpath_nvme::FromBytes;
use umpath_nvme::command::io::{DsmRange, ReadWrite};

use super::{Copy, LANES, World};

impl World {
    fn no_path_fails(&self) -> bool {
        let usable = self
            .paths
            .iter()
            .any(|path| path.association.is_some() && !path.suspect);
        self.on_no_path == OnNoPath::Fail && !usable
    }

    /// Takes all actions and events of all lanes.
    pub(super) fn carry_out(&mut self) {
        for lane in 0..LANES {
            while let Some(action) = self.lanes[lane].poll_action() {
                self.tick();
                match action {
                    Action::Send(send) => self.take(lane, send),
                    Action::Complete { tag, result } => {
                        let fails = self.no_path_fails();
                        self.check_completion(lane, tag, result, fails);
                    }
                }
            }
            while let Some(event) = self.lanes[lane].poll_event() {
                self.device.lane_event(LaneId(lane as u16), event, self.now);
                match event {
                    LaneEvent::QueueingStarted => self.starving[lane] = true,
                    LaneEvent::QueueingEnded => self.starving[lane] = false,
                    LaneEvent::AnaStatus { .. }
                    | LaneEvent::PathError { .. }
                    | LaneEvent::Guarded { .. }
                    | LaneEvent::Overdue { .. }
                    | LaneEvent::QueueSilent { .. }
                    | LaneEvent::FirstIo { .. } => {}
                }
            }
        }
        self.collect();
    }

    fn take(&mut self, lane: usize, send: SendCommand) {
        let request = self.tags[lane][&send.tag.0];
        if self.paths[send.path.index()].blocked[lane] {
            self.lanes[lane].send_failed(&send, self.now);
            return;
        }
        let fields = ReadWrite::parse(&send.sqe);
        let (lba, blocks) = match (self.requests[request].body.op, &send.data) {
            (Op::Flush, _) => (0, 0),
            (Op::Discard, Data::Parameters { bytes, .. }) => {
                let range = DsmRange::read_from_bytes(&bytes[..]).expect("16 bytes");
                (range.slba.get(), range.blocks.get())
            }
            _ => (fields.slba, fields.blocks.get()),
        };
        let copy = Copy {
            request,
            lane,
            send,
            lba,
            blocks,
            executed: false,
            answered: false,
            lost: false,
        };
        self.check_send(&copy);
        self.copies.push(copy);
    }
}
