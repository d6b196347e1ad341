//! What a controller's status means for a request: done, elsewhere, later, or failed.
//!
//! The classes of failure are those the Linux host maps NVMe statuses to (`nvme_error_status` in
//! drivers/nvme/host/core.c), so applications see the errors they know. Like that host, a command
//! whose status does not forbid it is tried again a few times. Unlike it, path errors are never
//! counted, because one shaky path must not fail I/O while another works.

use umpath_nvme::Status;
use umpath_nvme::status::sct;

use crate::request::BlockError;

/// Most times a command is sent again after an error that is not its path's.
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
    /// Worth another try, on another path if there is one.
    Again {
        /// Which of its retry delays (CRD, 1 to 3); 0: it named none.
        delay: u8,
        /// The condition needs time to pass, whether or not the controller says how much.
        patient: bool,
    },
}

/// Reads a status of a command that was tried again `retries` times after such statuses.
pub(crate) fn judge(status: Status, retries: u8) -> Disposition {
    if status.is_success() {
        return Disposition::Done;
    }
    // An ANA status speaks of one controller's access. Do Not Retry speaks for all controllers of
    // the subsystem, so the two together cannot mean what they say.
    if status.is_ana() {
        return Disposition::AnaElsewhere;
    }
    // Detached from this controller perhaps, and not from the others; the list of namespaces will show.
    // Do Not Retry speaks for this controller then.
    let gone = status.is(Status::INVALID_NAMESPACE);
    if status.dnr() && !gone {
        return Disposition::Fail(class(status));
    }
    if status.is_path_related() || aborted(status) {
        return Disposition::Elsewhere;
    }
    let patient = [
        Status::NAMESPACE_NOT_READY,
        Status::COMMAND_INTERRUPTED,
        Status::FORMAT_IN_PROGRESS,
        Status::SANITIZE_IN_PROGRESS,
    ]
    .iter()
    .any(|known| status.is(*known));
    let patient = patient || gone;
    let retries_max = if patient {
        PATIENT_RETRIES_MAX
    } else {
        RETRIES_MAX
    };
    if retries >= retries_max {
        return Disposition::Fail(class(status));
    }
    Disposition::Again {
        delay: status.crd(),
        patient,
    }
}

/// The queue or the controller went, not the command.
fn aborted(status: Status) -> bool {
    [
        Status::ABORTED_POWER_LOSS,
        Status::ABORT_REQUESTED,
        Status::ABORTED_SQ_DELETION,
        Status::KEEP_ALIVE_EXPIRED,
        Status::TRANSIENT_TRANSPORT_ERROR,
    ]
    .iter()
    .any(|known| status.is(*known))
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
    fn errors_have_the_classes_linux_gives_them() {
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
            let status = Status::new(sct, sc);
            let failed = Disposition::Fail(error);
            assert_eq!(judge(status.with_dnr(), 0), failed, "{sct:x}/{sc:x}");
            assert_eq!(judge(status, RETRIES_MAX), failed, "{sct:x}/{sc:x}");
            let again = Disposition::Again {
                delay: 0,
                patient: false,
            };
            assert_eq!(judge(status, RETRIES_MAX - 1), again, "{sct:x}/{sc:x}");
        }
    }

    #[test]
    fn path_errors_go_elsewhere_unless_told_not_to() {
        for sc in 1..=3 {
            assert_eq!(of(3, sc), Disposition::AnaElsewhere);
            let never = Status::new(3, sc).with_dnr();
            assert_eq!(judge(never, 0), Disposition::AnaElsewhere);
        }
        for (sct, sc) in [(3, 0x00), (3, 0x70), (0, 0x07), (0, 0x08), (0, 0x22)] {
            assert_eq!(of(sct, sc), Disposition::Elsewhere);
        }
        let never = Status::new(3, 0x70).with_dnr();
        assert_eq!(judge(never, 0), Disposition::Fail(BlockError::Transport));
    }

    #[test]
    fn a_namespace_that_one_controller_lost_may_be_found_through_another() {
        let gone = Status::INVALID_NAMESPACE.with_dnr();
        let again = Disposition::Again {
            delay: 0,
            patient: true,
        };
        assert_eq!(judge(gone, 0), again);
        let failed = Disposition::Fail(BlockError::NotSupported);
        assert_eq!(judge(gone, PATIENT_RETRIES_MAX), failed);
    }

    #[test]
    fn a_controller_that_asks_for_time_gets_it_but_not_for_ever() {
        let status = Status::new(0, 0x21).with_crd(2);
        assert_eq!(
            judge(status, 0),
            Disposition::Again {
                delay: 2,
                patient: true
            }
        );
        assert_eq!(
            judge(status, PATIENT_RETRIES_MAX),
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
