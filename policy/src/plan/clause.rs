//! A field of a rule with its `not` twin, as a plan has it.

use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;

use super::json::Json;
use super::read::{FromPlan, Reader, parsed};
use crate::pattern::Pattern;
use crate::set::Set;

/// What a twin's values begin with in a plan. No pattern of a policy can: none of the fields takes it.
const NOT: char = '!';

/// A field and its twin. Holds when one value of `any` does, if there is one, and no value of `none` does.
///
/// In a plan it is one list, the twin's values with `!` before them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "Vec<String>", bound(serialize = "T: Clone + Display"))]
pub struct Clause<T> {
    /// What the field takes in; empty: everything.
    pub any: Set<T>,
    /// What its twin leaves out.
    pub none: Set<T>,
}

impl<T> Default for Clause<T> {
    fn default() -> Self {
        Self { any: Set::default(), none: Set::default() }
    }
}

impl<T> Clause<T> {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }

    /// Whether it holds of a value, by what it means for one of its own to match.
    pub(crate) fn holds(&self, matches: impl Fn(&T) -> bool) -> bool {
        (self.any.is_empty() || self.any.iter().any(&matches)) && !self.none.iter().any(&matches)
    }
}

impl Clause<Pattern> {
    /// Whether everything that this takes in is taken in by another. A clause that says nothing takes in what is
    /// not known as well, which none does that says `*`.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let all = |inner: &Set<Pattern>, outer: &Set<Pattern>| {
            inner.iter().all(|inner| outer.iter().any(|outer| inner.is_within(outer)))
        };
        let any = match (self.any.is_empty(), other.any.is_empty()) {
            (_, true) => true,
            (true, false) => false,
            (false, false) => all(&self.any, &other.any),
        };
        // What the other leaves out, this must leave out as well, or never take in.
        let apart =
            |outer: &Pattern| !self.any.is_empty() && self.any.iter().all(|inner| inner.is_apart_from(outer));
        any && other
            .none
            .iter()
            .all(|outer| self.none.iter().any(|inner| outer.is_within(inner)) || apart(outer))
    }
}

impl<T: Display> From<Clause<T>> for Vec<String> {
    fn from(clause: Clause<T>) -> Self {
        let none = clause.none.iter().map(|value| format!("{NOT}{value}"));
        clause.any.iter().map(ToString::to_string).chain(none).collect()
    }
}

impl<T: FromStr<Err: Display> + Ord> FromPlan for Clause<T> {
    fn blank() -> Self {
        Self::default()
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        let (mut any, mut none) = (Vec::new(), Vec::new());
        reader.texts(json, &mut |text, reader| {
            let (list, text) = match text.strip_prefix(NOT) {
                Some(text) => (&mut none, text),
                None => (&mut any, text),
            };
            list.reserve_exact(1);
            list.extend(parsed(text, reader));
        });
        *self = Self { any: reader.ordered(any), none: reader.ordered(none) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(values: &[&str]) -> Clause<Pattern> {
        read(&serde_json::to_string(values).unwrap()).unwrap()
    }

    fn read(json: &str) -> Result<Clause<Pattern>, crate::plan::PlanError> {
        let json = Json::read(json.as_bytes()).unwrap();
        let (mut clause, mut reader) = (Clause::blank(), Reader::default());
        clause.fill(json, &mut reader);
        reader.end().map(|()| clause)
    }

    #[test]
    fn a_clause_is_one_list_in_json_and_in_order() {
        let written = serde_json::to_string(&clause(&["a", "b*", "!c", "!*-x"])).unwrap();
        assert_eq!(written, r#"["a","b*","!c","!*-x"]"#);
        for unordered in [r#"["b*","a"]"#, r#"["a","a"]"#, r#"["!b","!a"]"#] {
            assert!(read(unordered).is_err(), "{unordered}");
        }
    }

    #[test]
    fn a_clause_lies_within_another_only_when_it_takes_in_no_more() {
        for (one, other, within) in [
            (&["a"][..], &["a", "b"][..], true),
            (&["a", "b"], &["a"], false),
            (&["a"], &[], true),
            (&[], &["a"], false),
            (&[], &["*"], false),
            (&["a*"], &["*"], true),
            (&["ab*"], &["a*"], true),
            (&["a*"], &["ab*"], false),
            (&["a"], &["!b"], true),
            (&["a*"], &["!ab"], false),
            (&["a*", "!ab*"], &["!abc"], true),
            (&["!a"], &["!a"], true),
            (&[], &["!a"], false),
        ] {
            assert_eq!(clause(one).is_within(&clause(other)), within, "{one:?} {other:?}");
        }
    }
}
