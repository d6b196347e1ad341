//! What the caller decides about an association before it exists.

use std::time::Duration;

use umpath_nvme::Nqn;

use crate::error::ConfigError;

/// Most I/O queues of one association.
pub const IO_QUEUES_MAX: u16 = 128;

/// Deepest I/O queue asked for.
pub const IO_DEPTH_MAX: u16 = 1024;

/// Longest keep-alive timeout accepted; the wire carries milliseconds in 32 bits.
const KATO_MAX: Duration = Duration::from_secs(24 * 3600);

/// Configuration of one association, checked when a session is made from it.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// This host.
    pub host_nqn: Nqn,
    /// This host's identifier, all 128 bits; must be unique and not zero.
    pub host_id: [u8; 16],
    /// The subsystem to connect to.
    pub subsystem_nqn: Nqn,
    /// Keep-alive timeout asked of the controller, which may round it up.
    pub kato: Duration,
    /// Interval of keep-alives; at most half of `kato`.
    pub heartbeat: Duration,
    /// I/O queues asked for, `1..=IO_QUEUES_MAX`.
    pub io_queues: u16,
    /// I/O queues opened for each usable namespace, within what is asked and granted: each volume
    /// gets queues of its own. 0: all that are granted, whatever the namespaces.
    pub io_queues_per_namespace: u16,
    /// Fewest I/O queues worth having, of those opened; fewer fail the association.
    pub io_queues_min: u16,
    /// Entries of each I/O queue asked for, `2..=IO_DEPTH_MAX`.
    pub io_depth: u16,
    /// Longest wait for the transport to open a queue.
    pub open_timeout: Duration,
    /// Longest wait for the answer to any command but an asynchronous event request.
    pub command_timeout: Duration,
    /// Longest wait for an orderly shutdown; RTD3E shortens it.
    pub shutdown_timeout: Duration,
    /// Namespaces looked at, in ascending order of identifier; the rest are ignored.
    pub namespaces_max: u32,
}

impl SessionConfig {
    /// The defaults, for this host and subsystem.
    pub fn new(host_nqn: Nqn, host_id: [u8; 16], subsystem_nqn: Nqn) -> Self {
        Self {
            host_nqn,
            host_id,
            subsystem_nqn,
            kato: Duration::from_secs(5),
            heartbeat: Duration::from_millis(100),
            io_queues: 1,
            io_queues_per_namespace: 0,
            io_queues_min: 1,
            io_depth: 128,
            open_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(5),
            namespaces_max: 1024,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.io_queues == 0 {
            return Err(ConfigError::NoIoQueues);
        }
        if self.io_queues > IO_QUEUES_MAX {
            return Err(ConfigError::TooManyIoQueues {
                asked: self.io_queues,
                limit: IO_QUEUES_MAX,
            });
        }
        if self.io_queues_min > self.io_queues {
            return Err(ConfigError::QueueBounds {
                least: self.io_queues_min,
                asked: self.io_queues,
            });
        }
        if !(2..=IO_DEPTH_MAX).contains(&self.io_depth) {
            return Err(ConfigError::Depth(self.io_depth));
        }
        self.check_times()
    }

    pub(crate) fn check_times(&self) -> Result<(), ConfigError> {
        for (name, timeout) in [
            ("heartbeat", self.heartbeat),
            ("open_timeout", self.open_timeout),
            ("command_timeout", self.command_timeout),
            ("shutdown_timeout", self.shutdown_timeout),
        ] {
            if timeout.is_zero() {
                return Err(ConfigError::ZeroTimeout(name));
            }
        }
        if self.kato < Duration::from_millis(1) || self.kato > KATO_MAX {
            return Err(ConfigError::KatoRange(self.kato));
        }
        if self.kato < self.heartbeat * 2 {
            return Err(ConfigError::KatoShort {
                kato: self.kato,
                heartbeat: self.heartbeat,
            });
        }
        Ok(())
    }
}
