//! How long a token holds.

use std::fmt;
use std::str::FromStr;

/// For how long a token holds: a whole number of seconds, minutes or hours.
///
/// ```
/// assert_eq!("5m".parse::<policy::mesh::Life>()?.seconds(), 300);
/// # Ok::<(), policy::mesh::LifeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life(u32);

/// A text is not how long a token holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not for how long a token holds: write from 1m to 1h, such as 90s or 5m")]
pub struct LifeError(String);

impl Life {
    /// Shorter ones would end by clocks that differ by less than is common.
    const SHORTEST: u32 = 60;
    /// Longer ones would keep a key in use long after it was taken back.
    const LONGEST: u32 = 3600;

    /// The seconds of it.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl Default for Life {
    fn default() -> Self {
        Self(300)
    }
}

fn seconds(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u32>().ok().filter(|_| digits)?.checked_mul(unit)
}

impl FromStr for Life {
    type Err = LifeError;

    fn from_str(text: &str) -> Result<Self, LifeError> {
        let life = seconds(text).filter(|seconds| (Self::SHORTEST..=Self::LONGEST).contains(seconds));
        life.map(Self).ok_or_else(|| LifeError(text.to_owned()))
    }
}

impl fmt::Display for Life {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_has_a_unit_and_is_neither_too_short_nor_too_long() {
        for (text, seconds) in [("60s", 60), ("90s", 90), ("5m", 300), ("60m", 3600), ("1h", 3600)] {
            assert_eq!(text.parse::<Life>().map(Life::seconds), Ok(seconds));
        }
        assert_eq!(Life::default().to_string(), "300s");
        for text in
            ["", "m", "5", "59s", "61m", "2h", "+5m", "-5m", "5 m", "5M", "1.5m", "5é", "99999999999m"]
        {
            assert_eq!(text.parse::<Life>(), Err(LifeError(text.to_owned())));
        }
    }
}
