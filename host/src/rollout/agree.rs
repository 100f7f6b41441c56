//! What the copies of a rollout's record come to.
//!
//! The copy of a cluster is in the hands of whoever rules that cluster. So each speaks for its own cluster: what that
//! had before, and whether it has passed. What the rollout was to do, all copies of it say alike, or somebody has
//! changed one. And no cluster is taken along by a rollout that it has not heard of itself.

use std::collections::{BTreeMap, BTreeSet};

use policy::name::ClusterName;

use super::machine::State;
use super::record::{Copy, Record};

/// The record that holds, and who does not share it.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    /// What is known of the last rollout; `None`: nobody has heard of any.
    pub(super) record: Option<Record>,
    /// Clusters whose copy says something else.
    pub(super) apart: BTreeMap<ClusterName, Apart>,
    /// Whether as many copies say one thing as another.
    pub(super) torn: bool,
}

/// What a cluster says that does not share the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Apart {
    /// It knows of this rollout no more than that its revision is over, or of another that brings the same revision.
    Other(String),
    /// It was not told: it could not be reached, or the program died before. What it keeps decides.
    Untold,
    /// It says that the rollout was to do something else.
    Terms,
}

impl Apart {
    /// Why nothing is done in its cluster, if nothing is: whether it keeps the revision says that it was to have it.
    pub(super) fn why(&self, record: &Record, keeps: bool) -> Option<String> {
        let (id, tells) = (&record.id, tells(record));
        match self {
            Self::Untold if keeps => None,
            Self::Untold => Some(format!(
                "it has not heard of rollout {id}, and keeps no revision {}: {tells}",
                record.revision
            )),
            Self::Other(own) => Some(format!(
                "it says that rollout {own} brought it revision {}, and has not heard of rollout {id}: {tells}",
                record.revision
            )),
            Self::Terms => Some(format!(
                "its ConfigMap isthmus-rollout says something else of what rollout {id} was to do than those of other clusters: somebody has changed it; delete it, and {tells}"
            )),
        }
    }
}

/// What tells a cluster what it has not heard.
fn tells(record: &Record) -> String {
    match record.origin.reason.strip_prefix("rollback to ").and_then(|number| number.parse::<u64>().ok()) {
        Some(number) => format!("`isthmus rollout rollback {number}` again tells it"),
        None => "the same rollout again tells it".to_owned(),
    }
}

/// What the copies that could be read come to. Of copies of one rollout that differ the one that was written most often
/// holds, as far as they may differ.
pub(super) fn agreed<'c>(copies: impl Iterator<Item = (&'c ClusterName, &'c Copy)>) -> Agreed {
    let copies: BTreeMap<&ClusterName, &Copy> = copies.collect();
    let of = |name: &ClusterName| copies.get(name)?.record.as_deref();
    let all = copies.keys().filter_map(|name| of(name));
    let Some(last) = all.max_by_key(|record| (record.revision, record.generation)) else {
        return Agreed::default();
    };
    let same: BTreeMap<&ClusterName, &Record> = copies
        .keys()
        .filter_map(|name| Some((*name, of(name)?)))
        .filter(|(_, own)| own.id == last.id)
        .collect();
    let (with, torn) = most(&same);
    let Some(newest) = with.iter().filter_map(|name| of(name)).max_by_key(|record| record.generation) else {
        return Agreed::default();
    };
    let mut record = newest.clone();
    let own: BTreeMap<&ClusterName, &State> =
        with.iter().filter_map(|name| Some((*name, &of(name)?.state))).collect();
    record.state.believe(&own);
    let mut apart = BTreeMap::new();
    for (name, copy) in &copies {
        let told = copy.record.as_deref();
        if let Some(own) = told.filter(|_| with.contains(name)) {
            record.before.remove(*name);
            record.before.extend(own.before.get(*name).map(|before| ((*name).clone(), *before)));
            continue;
        }
        // What it goes back to, it says itself; one that had nothing of ours may have what was found.
        if let Some(claimed) = record.before.remove(*name) {
            record
                .before
                .insert((*name).clone(), copy.good(name, told).or(claimed.filter(|_| copy.at.is_none())));
        }
        let why = match told {
            Some(own) if own.id == record.id => Apart::Terms,
            Some(own) if own.revision == record.revision => Apart::Other(own.id.clone()),
            Some(_) | None => Apart::Untold,
        };
        apart.insert((*name).clone(), why);
    }
    Agreed { record: Some(record), apart, torn }
}

/// Those of the copies of one rollout that most say alike, and whether as many say something else.
fn most<'c>(same: &BTreeMap<&'c ClusterName, &Record>) -> (BTreeSet<&'c ClusterName>, bool) {
    let mut groups: Vec<BTreeSet<&ClusterName>> = Vec::new();
    for (name, own) in same {
        let alike = groups.iter_mut().find(|group| {
            group.first().and_then(|first| same.get(*first)).is_some_and(|first| first.has_terms_of(own))
        });
        match alike {
            Some(group) => drop(group.insert(*name)),
            None => groups.push([*name].into()),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let torn = matches!(&groups[..], [one, other, ..] if one.len() == other.len());
    (groups.into_iter().next().unwrap_or_default(), torn)
}

#[cfg(test)]
mod tests;
