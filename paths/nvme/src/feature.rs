//! Feature identifiers, and the values of those used here (NVMe Base 2.1 §5.1.25).

/// Arbitration.
pub const ARBITRATION: u8 = 0x01;
/// Power Management.
pub const POWER_MANAGEMENT: u8 = 0x02;
/// Temperature Threshold.
pub const TEMPERATURE_THRESHOLD: u8 = 0x04;
/// Error Recovery.
pub const ERROR_RECOVERY: u8 = 0x05;
/// Volatile Write Cache: bit 0 of the value enables it.
pub const VOLATILE_WRITE_CACHE: u8 = 0x06;
/// Number of Queues, see [`QueueCount`].
pub const NUMBER_OF_QUEUES: u8 = 0x07;
/// Write Atomicity Normal.
pub const WRITE_ATOMICITY: u8 = 0x0a;
/// Asynchronous Event Configuration, see [`crate::aen::config`].
pub const ASYNC_EVENT_CONFIG: u8 = 0x0b;
/// Timestamp.
pub const TIMESTAMP: u8 = 0x0e;
/// Keep Alive Timer: the value is the timeout in milliseconds.
pub const KEEP_ALIVE_TIMER: u8 = 0x0f;
/// Host Behavior Support, 512 bytes of data.
pub const HOST_BEHAVIOR: u8 = 0x16;
/// Host Identifier, 8 or 16 bytes of data.
pub const HOST_IDENTIFIER: u8 = 0x81;

/// Number of Queues: the I/O queues requested or granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCount {
    /// Submission queues, 1 to 65,535.
    pub submission: u32,
    /// Completion queues, 1 to 65,535.
    pub completion: u32,
}

impl QueueCount {
    /// The same number of both.
    #[must_use]
    pub const fn pairs(count: u16) -> Self {
        Self {
            submission: count as u32,
            completion: count as u32,
        }
    }

    /// From CDW11 of Set Features or dword 0 of its completion (both counted from zero).
    #[must_use]
    pub const fn from_wire(value: u32) -> Self {
        Self {
            submission: (value & 0xffff) + 1,
            completion: (value >> 16) + 1,
        }
    }

    /// The wire value; counts out of range are clamped to 1 and 65,536.
    pub const fn to_wire(self) -> u32 {
        let submission = self.submission.saturating_sub(1);
        let completion = self.completion.saturating_sub(1);
        let submission = if submission > 0xffff {
            0xffff
        } else {
            submission
        };
        let completion = if completion > 0xffff {
            0xffff
        } else {
            completion
        };
        submission | (completion << 16)
    }

    /// Number of queue pairs that both counts allow.
    pub const fn pairs_granted(self) -> u32 {
        if self.submission < self.completion {
            self.submission
        } else {
            self.completion
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_count_counts_from_zero_on_the_wire() {
        assert_eq!(QueueCount::pairs(8).to_wire(), 0x0007_0007);
        assert_eq!(QueueCount::from_wire(0x0003_0007).pairs_granted(), 4);
        assert_eq!(QueueCount::pairs(0).to_wire(), 0);
        assert_eq!(QueueCount::from_wire(u32::MAX).to_wire(), u32::MAX);
    }
}
