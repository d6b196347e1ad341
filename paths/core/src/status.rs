//! What a controller's status means for a request: done, elsewhere, later, or failed.
//!
//! The classes of failure are those the Linux host maps NVMe statuses to (`nvme_error_status` in
//! drivers/nvme/host/core.c), so applications see the errors they know.

use umpath_nvme::Status;
use umpath_nvme::status::sct;

use crate::request::BlockError;

/// Most times a command is sent again because its controller asked for time.
const RETRIES_MAX: u8 = 5;
/// The same where the condition is known to pass, such as a namespace becoming ready.
const PATIENT_RETRIES_MAX: u8 = 60;

/// What to do with a command after its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It succeeded.
    Done,
    /// The answer is final.
    Fail(BlockError),
    /// The namespace is not accessible through this controller for now: another path, and leave
    /// this one alone until its ANA state is read again.
    AnaElsewhere,
    /// This path failed the command, another may not.
    Elsewhere,
    /// The controller asks for time.
    Again {
        /// Which of its retry delays (CRD, 1 to 3); 0: it named none.
        delay: u8,
        /// The condition needs seconds rather than milliseconds to pass.
        patient: bool,
    },
}

/// Reads a status of a command that was sent again `retries` times for want of time.
pub(crate) fn judge(status: Status, retries: u8) -> Disposition {
    if status.is_success() {
        return Disposition::Done;
    }
    if status.dnr() {
        return Disposition::Fail(class(status));
    }
    if status.is_ana() {
        return Disposition::AnaElsewhere;
    }
    if status.is_path_related() || aborted(status) {
        return Disposition::Elsewhere;
    }
    // Namespace Not Ready passes within the controller's ready time; Internal Error and Command
    // Interrupted may.
    let patient = status.is(Status::new(sct::GENERIC, 0x82));
    let passing = patient || matches!((status.sct(), status.sc()), (sct::GENERIC, 0x06 | 0x21));
    let retries_max = if patient {
        PATIENT_RETRIES_MAX
    } else {
        RETRIES_MAX
    };
    if (passing || status.crd() != 0) && retries < retries_max {
        return Disposition::Again {
            delay: status.crd(),
            patient,
        };
    }
    Disposition::Fail(class(status))
}

/// Abort requested, queue deleted, missing fused command's abort: the queue went, not the command.
fn aborted(status: Status) -> bool {
    status.sct() == sct::GENERIC && matches!(status.sc(), 0x05 | 0x07 | 0x08)
}

fn class(status: Status) -> BlockError {
    match (status.sct(), status.sc()) {
        (sct::GENERIC, 0x81) => BlockError::NoSpace,
        (sct::GENERIC, 0x80 | 0x21 | 0x82) => BlockError::Target,
        (sct::GENERIC, 0x01 | 0x02 | 0x0b) | (sct::COMMAND_SPECIFIC, 0x80) => {
            BlockError::NotSupported
        }
        (sct::GENERIC, 0x83) => BlockError::Reservation,
        (sct::COMMAND_SPECIFIC, 0x81) | (sct::MEDIA, 0x82..=0x84) => BlockError::Protection,
        (sct::COMMAND_SPECIFIC, 0x82) | (sct::MEDIA, 0x80 | 0x81 | 0x85..=0x87) => {
            BlockError::Medium
        }
        (sct::PATH, _) => BlockError::Transport,
        _ => BlockError::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sct: u8, sc: u8) -> Disposition {
        judge(Status::new(sct, sc), 0)
    }

    #[test]
    fn statuses_mean_what_linux_makes_of_them() {
        assert_eq!(of(0, 0), Disposition::Done);
        for (sct, sc, error) in [
            (0, 0x81, BlockError::NoSpace),
            (0, 0x80, BlockError::Target),
            (0, 0x01, BlockError::NotSupported),
            (0, 0x83, BlockError::Reservation),
            (1, 0x81, BlockError::Protection),
            (2, 0x80, BlockError::Medium),
            (2, 0x81, BlockError::Medium),
            (2, 0x82, BlockError::Protection),
            (7, 0x42, BlockError::Io),
        ] {
            assert_eq!(of(sct, sc), Disposition::Fail(error), "{sct:x}/{sc:x}");
        }
    }

    #[test]
    fn path_errors_go_elsewhere_unless_told_not_to() {
        for sc in 1..=3 {
            assert_eq!(of(3, sc), Disposition::AnaElsewhere);
        }
        for (sct, sc) in [(3, 0x00), (3, 0x70), (0, 0x07), (0, 0x08)] {
            assert_eq!(of(sct, sc), Disposition::Elsewhere);
        }
        let never = Status::new(3, 0x70).with_dnr();
        assert_eq!(judge(never, 0), Disposition::Fail(BlockError::Transport));
    }

    #[test]
    fn a_controller_that_asks_for_time_gets_it_but_not_for_ever() {
        let status = Status::new(0, 0x21).with_crd(2);
        assert_eq!(
            judge(status, 0),
            Disposition::Again {
                delay: 2,
                patient: false
            }
        );
        assert_eq!(
            judge(status, RETRIES_MAX),
            Disposition::Fail(BlockError::Target)
        );
        assert_eq!(
            of(0, 0x82),
            Disposition::Again {
                delay: 0,
                patient: true
            }
        );
        let unready = Status::new(0, 0x82);
        assert_eq!(
            judge(unready, PATIENT_RETRIES_MAX),
            Disposition::Fail(BlockError::Target)
        );
    }
}
