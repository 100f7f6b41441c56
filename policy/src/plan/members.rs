//! Clusters of a plan, as a set of their numbers.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::read::texts;
use crate::name::Blank;

/// A text is not a set of numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a set of clusters: ascending numbers and ranges, such as 0-3,7")]
pub struct MembersError(String);

/// A set of clusters, each by its place in the plan's list of clusters. Written as `0-3,7`, whatever its size a
/// short text; tested in one step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(into = "String")]
pub struct Members(Vec<u64>);

const BITS: usize = 64;
/// No mesh has more clusters; a plan that says so would only be a way to ask for memory.
const MOST: usize = 1 << 16;

impl Members {
    /// Whether a cluster is one of them.
    pub fn contains(&self, cluster: usize) -> bool {
        self.0.get(cluster / BITS).is_some_and(|word| word >> (cluster % BITS) & 1 == 1)
    }

    /// The clusters, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * BITS).filter(|cluster| self.contains(*cluster))
    }

    /// The highest of them.
    pub(crate) fn last(&self) -> Option<usize> {
        let word = self.0.last()?;
        Some(self.0.len() * BITS - 1 - usize::try_from(word.leading_zeros()).unwrap_or_default())
    }

    /// Whether all of these are among others.
    pub(crate) fn are_within(&self, others: &Self) -> bool {
        let word = |index: usize| others.0.get(index).copied().unwrap_or_default();
        self.0.iter().enumerate().all(|(index, here)| here & !word(index) == 0)
    }

    fn insert(&mut self, cluster: usize) {
        if cluster < MOST {
            let word = cluster / BITS;
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            if let Some(bits) = self.0.get_mut(word) {
                *bits |= 1 << (cluster % BITS);
            }
        }
    }
}

impl FromIterator<usize> for Members {
    fn from_iter<I: IntoIterator<Item = usize>>(clusters: I) -> Self {
        let mut members = Self::default();
        clusters.into_iter().for_each(|cluster| members.insert(cluster));
        members
    }
}

impl fmt::Display for Members {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        let mut clusters = self.iter().peekable();
        while let Some(first) = clusters.next() {
            let mut last = first;
            while clusters.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            write!(out, "{comma}{first}")?;
            if last > first {
                write!(out, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for Members {
    type Err = MembersError;

    fn from_str(text: &str) -> Result<Self, MembersError> {
        let mut members = Self::default();
        let mut free = 0;
        for range in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = ends(range).ok_or_else(|| MembersError(text.to_owned()))?;
            // What touches the range before would have been written as one with it.
            if first < free {
                return Err(MembersError(text.to_owned()));
            }
            (first..=last).for_each(|cluster| members.insert(cluster));
            free = last + 2;
        }
        Ok(members)
    }
}

/// The first and the last number of a range, `3` or `0-3`, written in the one way there is.
fn ends(range: &str) -> Option<(usize, usize)> {
    match range.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)).filter(|(first, last)| first < last),
        None => number(range).map(|only| (only, only)),
    }
}

fn number(text: &str) -> Option<usize> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|number| plain && *number < MOST)
}

impl Blank for Members {
    const BLANK: Self = Self(Vec::new());
}

texts! { Members }

impl From<Members> for String {
    fn from(members: Members) -> Self {
        members.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_prints_as_it_was_read_and_has_its_members() {
        for (text, clusters) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-3,7", vec![0, 1, 2, 3, 7]),
            ("63-65,200", vec![63, 64, 65, 200]),
        ] {
            let members: Members = text.parse().unwrap();
            assert_eq!(members.to_string(), text);
            assert_eq!(members.iter().collect::<Vec<_>>(), clusters);
            assert_eq!(members, clusters.iter().copied().collect());
            assert_eq!(members.last(), clusters.last().copied());
            assert!(clusters.iter().all(|cluster| members.contains(*cluster)));
            assert!(!members.contains(5) && !members.contains(usize::MAX));
        }
    }

    #[test]
    fn what_is_written_otherwise_is_refused() {
        for text in ["1,0", "3-1", "0,1", "x", "0-", "-", ",", "0,", "00", "65536", "0-99999999999", "+1"] {
            assert!(text.parse::<Members>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_set_lies_within_another() {
        let within = |one: &str, other: &str| {
            one.parse::<Members>().unwrap().are_within(&other.parse::<Members>().unwrap())
        };
        assert!(within("", "") && within("0-1", "0-3") && within("70", "0-70"));
        assert!(!within("0-3", "0-1") && !within("70", "0-3"));
    }
}
