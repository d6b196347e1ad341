//! The commands of the control device.

use std::fmt;

use libublk::sys;

macro_rules! commands {
    ($($name:ident = $number:ident, $text:literal;)*) => {
        /// A command of the control device.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[expect(
            missing_docs,
            reason = "named as the kernel's documentation names them"
        )]
        #[non_exhaustive]
        pub enum Command {
            $($name,)*
        }

        impl Command {
            pub(crate) const fn number(self) -> u32 {
                match self {
                    $(Self::$name => sys::$number,)*
                }
            }
        }

        impl fmt::Display for Command {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

commands! {
    GetFeatures = UBLK_U_CMD_GET_FEATURES, "GET_FEATURES";
    AddDev = UBLK_U_CMD_ADD_DEV, "ADD_DEV";
    SetParams = UBLK_U_CMD_SET_PARAMS, "SET_PARAMS";
    StartDev = UBLK_U_CMD_START_DEV, "START_DEV";
    StopDev = UBLK_U_CMD_STOP_DEV, "STOP_DEV";
    TryStopDev = UBLK_U_CMD_TRY_STOP_DEV, "TRY_STOP_DEV";
    DelDev = UBLK_U_CMD_DEL_DEV, "DEL_DEV";
    DelDevAsync = UBLK_U_CMD_DEL_DEV_ASYNC, "DEL_DEV_ASYNC";
    GetDevInfo = UBLK_U_CMD_GET_DEV_INFO, "GET_DEV_INFO";
    GetQueueAffinity = UBLK_U_CMD_GET_QUEUE_AFFINITY, "GET_QUEUE_AFFINITY";
    StartUserRecovery = UBLK_U_CMD_START_USER_RECOVERY, "START_USER_RECOVERY";
    EndUserRecovery = UBLK_U_CMD_END_USER_RECOVERY, "END_USER_RECOVERY";
    UpdateSize = UBLK_U_CMD_UPDATE_SIZE, "UPDATE_SIZE";
}
