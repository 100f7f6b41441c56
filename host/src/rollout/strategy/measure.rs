//! The measures of a strategy, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A text is no measure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: write {example}")]
pub struct MeasureError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// A span of time such as `90s`, `10m` or `2h`; at most a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        const WEEK: u64 = 7 * 24 * 3600;
        let units = [('s', 1), ('m', 60), ('h', 3600)];
        let seconds = units.iter().find_map(|(unit, seconds)| {
            let count: u64 = digits(text.strip_suffix(*unit)?)?;
            count.checked_mul(*seconds).filter(|seconds| *seconds <= WEEK)
        });
        let error = || MeasureError {
            text: text.to_owned(),
            what: "span of time",
            example: "90s, 10m or 2h, up to a week",
        };
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(error)
    }
}

/// For how long plans are tried: a span of time that is not none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trying(pub Duration);

impl FromStr for Trying {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        let error = || MeasureError {
            text: text.to_owned(),
            what: "time to try plans for, in which something can be seen",
            example: "90s, 10m or 2h, up to a week",
        };
        text.parse::<Span>()
            .ok()
            .filter(|Span(span)| !span.is_zero())
            .map(|Span(span)| Self(span))
            .ok_or_else(error)
    }
}

/// A share of something, such as `95%` or `0.5%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Share(f64);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(1.0);
    /// Nothing of it.
    pub const NONE: Self = Self(0.0);

    /// As a number from 0 to 1.
    pub fn of_one(self) -> f64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        let plain =
            text.strip_suffix('%').filter(|number| number.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
        let share = plain.and_then(|number| number.parse::<f64>().ok()).filter(|share| *share <= 100.0);
        let error =
            || MeasureError { text: text.to_owned(), what: "share", example: "a percentage from 0% to 100%" };
        share.map(|share| Self(share / 100.0)).ok_or_else(error)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}%", self.0 * 100.0)
    }
}

/// How many requests at most: a share of all, or so many in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum AtMost {
    /// Of all requests.
    Share(Share),
    /// In a minute.
    PerMinute(u64),
}

impl FromStr for AtMost {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        let per_minute = text.strip_suffix("/m").and_then(digits).map(Self::PerMinute);
        let error = || MeasureError {
            text: text.to_owned(),
            what: "limit",
            example: "a share of all requests, 1%, or so many in a minute, 10/m",
        };
        per_minute.or_else(|| text.parse().ok().map(Self::Share)).ok_or_else(error)
    }
}

impl fmt::Display for AtMost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => share.fmt(out),
            Self::PerMinute(count) => write!(out, "{count}/m"),
        }
    }
}

/// How many of some: a number, or a share that is rounded down; one at least, as nothing would ever happen with none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Count {
    /// So many.
    Number(usize),
    /// Such a share.
    Share(Share),
}

impl Count {
    /// How many that is of so many.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a number of clusters is a number of clusters"
    )]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Share(share) => (all as f64 * share.of_one()) as usize,
        }
        .max(1)
    }
}

impl FromStr for Count {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, MeasureError> {
        let number = digits(text).filter(|number| *number > 0).and_then(|number| number.try_into().ok());
        let error = || MeasureError {
            text: text.to_owned(),
            what: "number of clusters",
            example: "a number from 1 on, or a percentage",
        };
        number.map(Self::Number).or_else(|| text.parse().ok().map(Self::Share)).ok_or_else(error)
    }
}

/// A number without a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
