//! The commands of the control device.

use std::fmt;

use libublk::sys;

/// A command of the control device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(
    missing_docs,
    reason = "named as the kernel's documentation names them"
)]
#[non_exhaustive]
pub enum Command {
    GetFeatures,
    AddDev,
    SetParams,
    StartDev,
    StopDev,
    TryStopDev,
    DelDev,
    DelDevAsync,
    GetDevInfo,
    GetQueueAffinity,
    StartUserRecovery,
    EndUserRecovery,
    UpdateSize,
}

impl Command {
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::GetFeatures => sys::UBLK_U_CMD_GET_FEATURES,
            Self::AddDev => sys::UBLK_U_CMD_ADD_DEV,
            Self::SetParams => sys::UBLK_U_CMD_SET_PARAMS,
            Self::StartDev => sys::UBLK_U_CMD_START_DEV,
            Self::StopDev => sys::UBLK_U_CMD_STOP_DEV,
            Self::TryStopDev => sys::UBLK_U_CMD_TRY_STOP_DEV,
            Self::DelDev => sys::UBLK_U_CMD_DEL_DEV,
            Self::DelDevAsync => sys::UBLK_U_CMD_DEL_DEV_ASYNC,
            Self::GetDevInfo => sys::UBLK_U_CMD_GET_DEV_INFO,
            Self::GetQueueAffinity => sys::UBLK_U_CMD_GET_QUEUE_AFFINITY,
            Self::StartUserRecovery => sys::UBLK_U_CMD_START_USER_RECOVERY,
            Self::EndUserRecovery => sys::UBLK_U_CMD_END_USER_RECOVERY,
            Self::UpdateSize => sys::UBLK_U_CMD_UPDATE_SIZE,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GetFeatures => "GET_FEATURES",
            Self::AddDev => "ADD_DEV",
            Self::SetParams => "SET_PARAMS",
            Self::StartDev => "START_DEV",
            Self::StopDev => "STOP_DEV",
            Self::TryStopDev => "TRY_STOP_DEV",
            Self::DelDev => "DEL_DEV",
            Self::DelDevAsync => "DEL_DEV_ASYNC",
            Self::GetDevInfo => "GET_DEV_INFO",
            Self::GetQueueAffinity => "GET_QUEUE_AFFINITY",
            Self::StartUserRecovery => "START_USER_RECOVERY",
            Self::EndUserRecovery => "END_USER_RECOVERY",
            Self::UpdateSize => "UPDATE_SIZE",
        })
    }
}
