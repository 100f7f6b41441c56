//! Of all texts, one for each kind that patterns tell apart.

use std::collections::BTreeSet;

use crate::pattern::Pattern;

/// What a kind of text has in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    /// It is not known.
    Unknown,
    /// No pattern takes it in, but for those that take in all.
    Other,
    /// It begins and ends so, and nothing longer that a pattern says.
    Between(String, String),
    /// It is this.
    Exact(String),
}

/// A kind of text, with one of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Atom {
    shape: Shape,
    /// A text of the kind; `None`: what is not known.
    pub(super) value: Option<String>,
}

/// Which texts there are.
pub(super) struct Domain<'d> {
    /// What all of them begin with.
    pub(super) lead: &'d str,
    /// Whether there is such a text.
    pub(super) sound: &'d dyn Fn(&str) -> bool,
}

/// What may stand where patterns say nothing: one of them is in no pattern that it would make hold.
const FILLERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789";

/// The kinds of text that patterns tell apart, that which is not known first.
pub(super) fn atoms<'p>(patterns: impl Iterator<Item = &'p Pattern>, domain: &Domain<'_>) -> Vec<Atom> {
    let patterns: BTreeSet<&Pattern> = patterns.collect();
    let (mut prefixes, mut suffixes) = (BTreeSet::from([""]), BTreeSet::from([""]));
    let mut atoms = vec![Atom { shape: Shape::Unknown, value: None }];
    for pattern in &patterns {
        match pattern {
            Pattern::Any => {}
            Pattern::Exact(text) if (domain.sound)(text) => {
                atoms.push(Atom { shape: Shape::Exact(text.clone()), value: Some(text.clone()) });
            }
            Pattern::Exact(_) => {}
            Pattern::Prefix(text) => _ = prefixes.insert(text),
            Pattern::Suffix(text) => _ = suffixes.insert(text),
        }
    }
    for prefix in prefixes {
        for suffix in &suffixes {
            let shape = match (prefix, *suffix) {
                ("", "") => Shape::Other,
                (prefix, suffix) => Shape::Between(prefix.to_owned(), suffix.to_owned()),
            };
            // What lies between the two and within longer ones is of their kind.
            let fits = |text: &String| {
                (domain.sound)(text)
                    && patterns.iter().all(|pattern| match pattern {
                        Pattern::Any => true,
                        Pattern::Exact(exact) => exact != text,
                        Pattern::Prefix(longer) => {
                            pattern.matches(text) == prefix.starts_with(longer.as_str())
                        }
                        Pattern::Suffix(longer) => pattern.matches(text) == suffix.ends_with(longer.as_str()),
                    })
            };
            atoms.extend(
                texts(prefix, suffix, domain.lead).find(fits).map(|text| Atom { shape, value: Some(text) }),
            );
        }
    }
    atoms
}

/// Texts that begin and end so.
fn texts<'t>(prefix: &'t str, suffix: &'t str, lead: &'t str) -> impl Iterator<Item = String> + 't {
    let lead = if prefix.is_empty() { lead } else { "" };
    let overlapping = (0..=prefix.len()).filter_map(move |at| {
        let shared = prefix.get(at..)?;
        suffix.strip_prefix(shared).map(|rest| format!("{lead}{prefix}{rest}"))
    });
    let filled = FILLERS.chars().map(move |filler| format!("{lead}{prefix}{filler}{suffix}"));
    let twice = FILLERS.chars().map(move |filler| format!("{lead}{prefix}{filler}0{filler}{suffix}"));
    filled.chain(twice).chain(overlapping)
}

impl Atom {
    fn is_known(&self) -> bool {
        self.value.is_some()
    }

    /// Whether all of another kind would be taken in by the words for this.
    fn takes_in(&self, other: &Self) -> bool {
        let Some(value) = &other.value else { return false };
        match &self.shape {
            Shape::Unknown => false,
            Shape::Other => true,
            Shape::Exact(exact) => value == exact,
            Shape::Between(prefix, suffix) => {
                value.starts_with(prefix.as_str()) && value.ends_with(suffix.as_str())
            }
        }
    }

    fn words(&self) -> String {
        match &self.shape {
            Shape::Unknown => "not known".to_owned(),
            Shape::Other => "any".to_owned(),
            Shape::Exact(exact) => exact.clone(),
            Shape::Between(prefix, suffix) => format!("{prefix}*{suffix}"),
        }
    }
}

/// Some kinds of text in words, as patterns with what they leave out; `None`: all of them.
pub(super) fn words(atoms: &[Atom], chosen: &BTreeSet<usize>) -> Option<String> {
    let (inside, outside): (Vec<_>, Vec<_>) =
        atoms.iter().enumerate().partition(|(number, _)| chosen.contains(number));
    if outside.is_empty() {
        return None;
    }
    let known = |side: &[(usize, &Atom)]| -> Vec<Atom> {
        side.iter().map(|(_, atom)| (*atom).clone()).filter(Atom::is_known).collect()
    };
    let (inside, outside, unknown) =
        (known(&inside), known(&outside), inside.iter().any(|(_, atom)| !atom.is_known()));
    if outside.is_empty() {
        return Some("any that is known".to_owned());
    }
    if inside.is_empty() {
        return Some("not known".to_owned());
    }
    let said = widest(&inside);
    let without: Vec<Atom> =
        outside.into_iter().filter(|atom| said.iter().any(|said| said.takes_in(atom))).collect();
    let list = |atoms: &[Atom]| atoms.iter().map(Atom::words).collect::<Vec<_>>().join(", ");
    let mut words = list(&said);
    if !without.is_empty() {
        words = format!("{words} but {}", list(&widest(&without)));
    }
    if unknown {
        words.push_str(", or not known");
    }
    Some(words)
}

/// Those whose words take in all the others.
fn widest(atoms: &[Atom]) -> Vec<Atom> {
    let is_within_another = |number: usize, atom: &Atom| {
        atoms.iter().enumerate().any(|(other, wide)| {
            other != number && wide.takes_in(atom) && (!atom.takes_in(wide) || other < number)
        })
    };
    let widest = atoms.iter().enumerate().filter(|(number, atom)| !is_within_another(*number, atom));
    widest.map(|(_, atom)| atom.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[&str], lead: &str) -> Vec<Atom> {
        let patterns: Vec<Pattern> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        atoms(patterns.iter(), &Domain { lead, sound: &|text| text.starts_with(lead) && text.len() < 12 })
    }

    #[test]
    fn there_is_a_text_of_each_kind_that_patterns_tell_apart() {
        let patterns = ["/v1/*", "/v1/a*", "*.json", "/v1/a.json", "/health", "*", "/a*", "*a"];
        let atoms = of(&patterns, "/");
        let patterns: Vec<Pattern> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let taken = |text: &str| patterns.iter().map(|pattern| pattern.matches(text)).collect::<Vec<_>>();
        let kinds: Vec<Vec<bool>> =
            atoms.iter().filter_map(|atom| atom.value.as_deref()).map(taken).collect();
        // Whatever short text there is, some atom is taken in by the same patterns.
        for text in [
            "/",
            "/a",
            "/b",
            "/aa",
            "/b.json",
            "/a.json",
            "/v1/",
            "/v1/b",
            "/v1/a",
            "/v1/ab",
            "/v1/ba",
            "/v1/x.json",
            "/v1/a.json",
            "/v1/ab.json",
            "/health",
            "/healthy",
            "/ax",
        ] {
            assert!(kinds.contains(&taken(text)), "{text}");
        }
        assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), kinds.len(), "each once");
    }

    #[test]
    fn what_cannot_be_is_no_kind() {
        let shapes = |patterns: &[&str]| of(patterns, "").iter().map(Atom::words).collect::<Vec<_>>();
        assert_eq!(shapes(&["abcdefgh*", "*stuvwxyz"]), ["not known", "any", "*stuvwxyz", "abcdefgh*"]);
        assert_eq!(
            shapes(&["abcdefgh*", "*efghijkl"]),
            ["not known", "any", "*efghijkl", "abcdefgh*"],
            "that both hold of is 12 long, and too long"
        );
        assert_eq!(shapes(&["abcdef*", "*defgh"]).len(), 5, "which overlap");
    }

    #[test]
    fn kinds_are_told_as_patterns_with_what_they_leave_out() {
        let atoms = of(&["a", "a*", "ab*", "b"], "");
        let words = |chosen: &[&str]| {
            let chosen = atoms.iter().enumerate().filter(|(_, atom)| chosen.contains(&atom.words().as_str()));
            words(&atoms, &chosen.map(|(number, _)| number).collect())
        };
        assert_eq!(words(&["not known", "any", "a", "a*", "ab*", "b"]), None);
        for (chosen, told) in [
            (&["any", "a", "a*", "ab*", "b"][..], "any that is known"),
            (&["not known"], "not known"),
            (&["a", "a*", "ab*"], "a*"),
            (&["a*", "ab*"], "a* but a"),
            (&["a", "b"], "a, b"),
            (&["any", "b"], "any but a*"),
            (&["any", "b", "a*", "a", "not known"], "any but ab*, or not known"),
        ] {
            assert_eq!(words(chosen).as_deref(), Some(told), "{chosen:?}");
        }
    }
}
