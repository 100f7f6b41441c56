//! The public keys that tokens are checked with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::Blank;

/// The digits of base64url (RFC 4648, 5), by value.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// An Ed25519 public key (RFC 8032), written in base64url without padding.
///
/// ```
/// let key: policy::key::PublicKey = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".parse()?;
/// assert_eq!(key.to_string(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
/// # Ok::<(), policy::key::KeyError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl Blank for PublicKey {
    const BLANK: Self = Self([0; 32]);
}

/// A text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a public key: write the 32 bytes of an Ed25519 key in base64url, as `isthmus mesh token-key` prints them"
)]
pub struct KeyError(String);

impl PublicKey {
    /// A key from its bytes, which may be any: what is no point of the curve verifies nothing.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The value of a digit, in either alphabet.
fn value(digit: u8) -> Option<u32> {
    let digit = match digit {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    };
    DIGITS.iter().position(|known| *known == digit).and_then(|value| u32::try_from(value).ok())
}

/// The 32 bytes behind 43 digits: the last of them has 4 bits to say and says 0 in the other 2.
fn decode(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=').unwrap_or(text).as_bytes();
    if digits.len() != 43 {
        return None;
    }
    let (mut bytes, mut slots) = ([0; 32], 0..32);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for digit in digits {
        held = (held << 6) | value(*digit)?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *bytes.get_mut(slots.next()?)? = u8::try_from(held >> bits).ok()?;
            held &= (1 << bits) - 1;
        }
    }
    (held == 0).then_some(bytes)
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self).ok_or_else(|| KeyError(text.to_owned()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.chunks(3) {
            let held = chunk.iter().fold(0_usize, |held, byte| (held << 8) | usize::from(*byte));
            let held = held << (8 * (3 - chunk.len()));
            for place in (0..4_usize).rev().take(chunk.len() + 1) {
                let digit = DIGITS.get((held >> (6 * place)) & 63).copied().unwrap_or_default();
                fmt::Write::write_char(out, char::from(digit))?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_prints_as_base64url_and_comes_back() {
        for (byte, text) in [
            (0x00, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            (0xff, "__________________________________________8"),
            (0xfb, "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s"),
        ] {
            let key = PublicKey::from_bytes([byte; 32]);
            assert_eq!(key.to_string(), text);
            let standard = text.replace('-', "+").replace('_', "/") + "=";
            for form in [text, &standard] {
                assert_eq!(form.parse::<PublicKey>(), Ok(key), "{form}");
            }
        }
        let mut counting = [0; 32];
        counting.iter_mut().zip(0..).for_each(|(byte, count)| *byte = count);
        let key = PublicKey::from_bytes(counting);
        assert_eq!(key.to_string(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
        assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
    }

    #[test]
    fn what_is_not_32_bytes_is_no_key() {
        let good = "A".repeat(43);
        for bad in [
            String::new(),
            "A".repeat(42),
            "A".repeat(44),
            format!("{good}=="),
            "A".repeat(42) + "B",
            "A".repeat(42) + "=",
            "A".repeat(42) + "!",
            "é".repeat(21) + "A",
        ] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError(bad.clone())));
        }
    }
}
