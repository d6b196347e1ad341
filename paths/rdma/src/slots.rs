//! Which commands are outstanding on a host queue, and when each is over.
//!
//! A response may be reaped before the completion of the SEND it answers, and until that SEND has
//! completed the device may still read the capsule (and, for in-capsule writes, the data) to send it
//! again. So a command is over when both were reaped, in either order, and only then is its slot
//! free and its response reported.

use umpath_nvme::Cqe;

/// A response, or the end of a SEND, that fits no outstanding command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unexpected;

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    busy: bool,
    cid: u16,
    sent: bool,
    response: Option<Cqe>,
}

/// The outstanding commands of one queue; a command lives in slot `cid % depth`.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    in_flight: usize,
}

impl Slots {
    pub(crate) fn new(depth: u16) -> Self {
        Self {
            slots: vec![Slot::default(); depth.max(1) as usize].into(),
            in_flight: 0,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether nothing of this command is still to be sent.
    pub(crate) fn is_sent(&self, cid: u16) -> bool {
        let slot = self.slots.get(self.index(cid));
        slot.is_none_or(|slot| !slot.busy || slot.cid != cid || slot.sent)
    }

    fn index(&self, cid: u16) -> usize {
        cid as usize % self.slots.len()
    }

    /// The slot of a new command; `None` while an earlier one occupies it.
    pub(crate) fn claim(&mut self, cid: u16) -> Option<u32> {
        let index = self.index(cid);
        let slot = self.slots.get_mut(index).filter(|slot| !slot.busy)?;
        *slot = Slot {
            busy: true,
            cid,
            ..Slot::default()
        };
        self.in_flight += 1;
        Some(index as u32)
    }

    /// The command's SEND is over. The response, if it came first.
    pub(crate) fn sent(&mut self, index: u32) -> Result<Option<Cqe>, Unexpected> {
        let slot = self.slots.get_mut(index as usize);
        let slot = slot.filter(|slot| slot.busy && !slot.sent);
        let slot = slot.ok_or(Unexpected)?;
        slot.sent = true;
        let response = slot.response;
        if response.is_some() {
            self.release(index as usize);
        }
        Ok(response)
    }

    /// A response came. The response itself, if the SEND is over.
    pub(crate) fn answered(&mut self, response: Cqe) -> Result<Option<Cqe>, Unexpected> {
        let cid = response.cid.get();
        let index = self.index(cid);
        let slot = self.slots.get_mut(index).ok_or(Unexpected)?;
        if !slot.busy || slot.cid != cid || slot.response.is_some() {
            return Err(Unexpected);
        }
        if !slot.sent {
            slot.response = Some(response);
            return Ok(None);
        }
        self.release(index);
        Ok(Some(response))
    }

    fn release(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Slot::default();
            self.in_flight -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use umpath_nvme::Status;

    fn response(cid: u16) -> Cqe {
        Cqe::new(cid, 0, Status::SUCCESS, 0)
    }

    #[test]
    fn both_completions_in_either_order() {
        let mut slots = Slots::new(4);
        let a = slots.claim(0x104).unwrap();
        assert_eq!(a, 0);
        assert!(!slots.is_sent(0x104));
        assert_eq!(slots.sent(a), Ok(None));
        assert!(slots.is_sent(0x104));
        assert_eq!(slots.answered(response(0x104)), Ok(Some(response(0x104))));

        let b = slots.claim(0x105).unwrap();
        assert_eq!(slots.answered(response(0x105)), Ok(None));
        assert_eq!(slots.in_flight(), 1);
        assert_eq!(slots.claim(0x105), None, "the SEND has not completed");
        assert_eq!(slots.sent(b), Ok(Some(response(0x105))));
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn stale_doubled_and_unknown_responses_are_refused() {
        let mut slots = Slots::new(4);
        let slot = slots.claim(0x201).unwrap();
        assert_eq!(
            slots.answered(response(0x101)),
            Err(Unexpected),
            "an older generation"
        );
        assert_eq!(
            slots.answered(response(0x202)),
            Err(Unexpected),
            "nothing there"
        );
        assert_eq!(slots.answered(response(0x201)), Ok(None));
        assert_eq!(slots.answered(response(0x201)), Err(Unexpected), "twice");
        assert_eq!(slots.sent(slot), Ok(Some(response(0x201))));
    }

    #[test]
    fn a_send_is_over_once() {
        let mut slots = Slots::new(4);
        let slot = slots.claim(1).unwrap();
        assert_eq!(slots.sent(slot), Ok(None));
        assert_eq!(slots.sent(slot), Err(Unexpected));
        assert_eq!(slots.sent(2), Err(Unexpected), "a free slot");
        assert_eq!(slots.sent(99), Err(Unexpected));
    }

    #[test]
    fn a_slot_is_taken_once() {
        let mut slots = Slots::new(2);
        assert_eq!(slots.claim(0), Some(0));
        assert_eq!(slots.claim(2), None);
        assert_eq!(slots.claim(3), Some(1));
        assert_eq!(slots.in_flight(), 2);
    }

    #[derive(Debug, Clone, Copy)]
    enum Operation {
        Claim(u16),
        Sent(u32),
        Answered(u16),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            (0..24_u16).prop_map(Operation::Claim),
            (0..6_u32).prop_map(Operation::Sent),
            (0..24_u16).prop_map(Operation::Answered),
        ]
    }

    proptest! {
        /// Against a model that keeps (cid, sent, answered) for each outstanding command.
        #[test]
        fn every_command_is_over_exactly_once(operations in vec(operation(), 1..200)) {
            const DEPTH: u16 = 5;
            let mut slots = Slots::new(DEPTH);
            let mut model: BTreeMap<u32, (u16, bool, bool)> = BTreeMap::new();
            for operation in operations {
                match operation {
                    Operation::Claim(cid) => {
                        let slot = u32::from(cid % DEPTH);
                        let free = !model.contains_key(&slot);
                        prop_assert_eq!(slots.claim(cid), free.then_some(slot));
                        model.entry(slot).or_insert((cid, false, false));
                    }
                    Operation::Sent(slot) => {
                        let expected = match model.get_mut(&slot) {
                            Some((cid, sent @ false, answered)) => {
                                *sent = true;
                                Ok(answered.then_some(*cid))
                            }
                            _ => Err(Unexpected),
                        };
                        let got = slots.sent(slot).map(|o| o.map(|c| c.cid.get()));
                        prop_assert_eq!(got, expected);
                        if matches!(expected, Ok(Some(_))) {
                            model.remove(&slot);
                        }
                    }
                    Operation::Answered(cid) => {
                        let slot = u32::from(cid % DEPTH);
                        let expected = match model.get_mut(&slot) {
                            Some((of, sent, answered)) if *of == cid && !*answered => {
                                *answered = true;
                                Ok(sent.then_some(cid))
                            }
                            _ => Err(Unexpected),
                        };
                        let got = slots.answered(response(cid)).map(|o| o.map(|c| c.cid.get()));
                        prop_assert_eq!(got, expected);
                        if matches!(expected, Ok(Some(_))) {
                            model.remove(&slot);
                        }
                    }
                }
                prop_assert_eq!(slots.in_flight(), model.len());
            }
        }
    }
}
