//! The steps of a session, named so that errors can say what was being done.

use std::fmt;

/// One thing a session asks of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Fabrics Connect on this queue.
    Connect {
        /// 0 is the admin queue.
        qid: u16,
    },
    /// Property Get of CAP.
    ReadCapabilities,
    /// Property Get of VS.
    ReadVersion,
    /// Property Set of CC.
    Enable,
    /// Property Get of CSTS until it says ready.
    AwaitReady,
    /// Identify Controller.
    IdentifyController,
    /// Identify Controller of the NVM command set.
    IdentifyNvmLimits,
    /// Get Features, Keep Alive Timer.
    ReadKato,
    /// Set Features, Number of Queues.
    QueueCount,
    /// Set Features, Asynchronous Event Configuration.
    ConfigureEvents,
    /// Identify, active namespace list.
    ListNamespaces,
    /// Identify Namespace.
    IdentifyNamespace {
        /// Namespace identifier.
        nsid: u32,
    },
    /// Identify, namespace identification descriptors.
    IdentifyDescriptors {
        /// Namespace identifier.
        nsid: u32,
    },
    /// Get Log Page, Changed Namespace List.
    ReadChangedNamespaces,
    /// Get Log Page, ANA.
    ReadAna,
    /// Get Log Page, Cross-Controller Reset.
    ReadResets,
    /// Get Log Page, Lost Host Communication.
    ReadLostHosts,
    /// Get Log Page, Discovery.
    ReadDiscovery,
    /// Keep Alive.
    KeepAlive,
    /// Property Set of CC.SHN, then CSTS until shutdown is complete.
    Shutdown,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { qid: 0 } => f.write_str("connect the admin queue"),
            Self::Connect { qid } => write!(f, "connect I/O queue {qid}"),
            Self::ReadCapabilities => f.write_str("read the controller's capabilities"),
            Self::ReadVersion => f.write_str("read the controller's version"),
            Self::Enable => f.write_str("enable the controller"),
            Self::AwaitReady => f.write_str("read the controller's status"),
            Self::IdentifyController => f.write_str("identify the controller"),
            Self::IdentifyNvmLimits => f.write_str("read the controller's NVM limits"),
            Self::ReadKato => f.write_str("read the keep-alive timeout"),
            Self::QueueCount => f.write_str("negotiate the number of I/O queues"),
            Self::ConfigureEvents => f.write_str("configure asynchronous events"),
            Self::ListNamespaces => f.write_str("list namespaces"),
            Self::IdentifyNamespace { nsid } => write!(f, "identify namespace {nsid}"),
            Self::IdentifyDescriptors { nsid } => {
                write!(f, "read the identifiers of namespace {nsid}")
            }
            Self::ReadChangedNamespaces => f.write_str("read the list of changed namespaces"),
            Self::ReadAna => f.write_str("read the ANA log"),
            Self::ReadResets => f.write_str("read the log of controller resets"),
            Self::ReadLostHosts => f.write_str("read the log of lost hosts"),
            Self::ReadDiscovery => f.write_str("read the discovery log"),
            Self::KeepAlive => f.write_str("keep the association alive"),
            Self::Shutdown => f.write_str("shut the controller down"),
        }
    }
}
