//! NVMe Qualified Names.
//!
//! An [`Nqn`] accepts what peers actually use: non-empty, at most 223 bytes, printable UTF-8
//! without spaces. [`Nqn::is_well_formed`] checks the spec's format
//! (`nqn.yyyy-mm.reverse.domain[:name]`, NVMe Base 2.1 §4.7), which is not enforced, because Linux
//! targets serve names such as `testnqn` and a host has to reach them.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

/// The longest name in bytes (NVMe Base 2.1 §4.7).
pub const NQN_LEN_MAX: usize = 223;

/// The well-known name of a discovery subsystem.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// A validated name.
#[derive(Clone)]
pub struct Nqn {
    // Invariant: `bytes[..len]` is valid UTF-8 with 1 <= len <= NQN_LEN_MAX; the rest is zero.
    bytes: [u8; NQN_LEN_MAX],
    len: u8,
}

/// Why a name was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NqnError {
    /// No bytes before the terminator.
    Empty,
    /// More than 223 bytes, or no terminator in a 256-byte field.
    TooLong,
    /// Not UTF-8, or a space or control character.
    BadCharacter,
}

impl fmt::Display for NqnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "NQN is empty",
            Self::TooLong => "NQN is longer than 223 bytes",
            Self::BadCharacter => {
                "NQN contains a space, a control character or bytes that are not UTF-8"
            }
        })
    }
}

impl core::error::Error for NqnError {}

impl Nqn {
    /// Validates a name.
    pub fn new(name: &str) -> Result<Self, NqnError> {
        if name.is_empty() {
            return Err(NqnError::Empty);
        }
        if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(NqnError::BadCharacter);
        }
        let mut bytes = [0; NQN_LEN_MAX];
        bytes
            .get_mut(..name.len())
            .ok_or(NqnError::TooLong)?
            .copy_from_slice(name.as_bytes());
        Ok(Self {
            bytes,
            len: name.len() as u8,
        })
    }

    /// The discovery subsystem's name.
    pub fn discovery() -> Self {
        let mut bytes = [0; NQN_LEN_MAX];
        let mut len = 0;
        for (to, from) in bytes.iter_mut().zip(DISCOVERY_NQN.bytes()) {
            *to = from;
            len += 1;
        }
        Self { bytes, len }
    }

    /// Reads a NUL-terminated field of a peer's structure.
    pub fn from_field(field: &[u8]) -> Result<Self, NqnError> {
        let end = field
            .iter()
            .position(|&b| b == 0)
            .ok_or(NqnError::TooLong)?;
        let name = field.get(..end).ok_or(NqnError::TooLong)?;
        Self::new(core::str::from_utf8(name).map_err(|_| NqnError::BadCharacter)?)
    }

    /// The 256-byte, NUL-padded field of wire structures.
    pub fn to_field(&self) -> [u8; 256] {
        let mut field = [0; 256];
        for (to, from) in field.iter_mut().zip(self.as_bytes()) {
            *to = *from;
        }
        field
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Whether this is the well-known discovery name.
    pub fn is_discovery(&self) -> bool {
        self.as_str() == DISCOVERY_NQN
    }

    /// Whether the name has the spec's format: `nqn.`, a year and month, a dot, then something.
    pub fn is_well_formed(&self) -> bool {
        let Some(rest) = self.as_bytes().strip_prefix(b"nqn.") else {
            return false;
        };
        let shape = b"dddd-dd.";
        rest.len() > shape.len()
            && rest.iter().zip(shape).all(|(&byte, &want)| match want {
                b'd' => byte.is_ascii_digit(),
                literal => byte == literal,
            })
    }
}

impl PartialEq for Nqn {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Nqn {}

impl PartialOrd for Nqn {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Nqn {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Nqn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nqn({})", self.as_str())
    }
}

impl FromStr for Nqn {
    type Err = NqnError;

    fn from_str(name: &str) -> Result<Self, NqnError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for Nqn {
    type Error = NqnError;

    fn try_from(name: &str) -> Result<Self, NqnError> {
        Self::new(name)
    }
}

impl AsRef<str> for Nqn {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;

    use super::*;

    #[test]
    fn accepts_what_peers_use() {
        for name in ["nqn.2018-09.io.xinnor:node1", "testnqn", DISCOVERY_NQN] {
            let nqn = Nqn::new(name).unwrap();
            assert_eq!(nqn.as_str(), name);
            assert_eq!(Nqn::from_field(&nqn.to_field()).unwrap(), nqn);
        }
        assert_eq!(Nqn::discovery(), Nqn::new(DISCOVERY_NQN).unwrap());
        assert!(Nqn::discovery().is_discovery() && Nqn::discovery().is_well_formed());
        assert!(!Nqn::new("testnqn").unwrap().is_well_formed());
        assert!(!Nqn::new("nqn.2014-08.").unwrap().is_well_formed());
    }

    #[test]
    fn refuses_the_rest() {
        assert_eq!(Nqn::new(""), Err(NqnError::Empty));
        assert_eq!(
            Nqn::new(&String::from_iter(['a'; 224])),
            Err(NqnError::TooLong)
        );
        assert!(Nqn::new(&String::from_iter(['a'; 223])).is_ok());
        assert_eq!(Nqn::new("a b"), Err(NqnError::BadCharacter));
        assert_eq!(Nqn::from_field(&[b'a'; 256]), Err(NqnError::TooLong));
        assert_eq!(
            Nqn::from_field(&[0xff, 0xfe, 0]),
            Err(NqnError::BadCharacter)
        );
        assert_eq!(Nqn::from_field(&[]), Err(NqnError::TooLong));
    }
}
