//! What has to be done in a cluster, in an order in which no request is lost on the way.

mod exchange;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::packed::Packed;
use super::rendered::{Part, Sort, sort_of};
use crate::native::{self, Kind};
pub(super) use exchange::{SETTLING, is_replaced};

/// When a step is due: all clusters take theirs before any goes on to the next. A gateway of another cluster must know
/// a subset before the first request for it arrives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Subsets come.
    SubsetsCome,
    /// New plans come to judge beside those in force.
    Shadow,
    /// Routes come.
    RoutesCome,
    /// Filters change.
    Filters,
    /// Routes go.
    RoutesGo,
    /// Subsets go.
    SubsetsGo,
}

impl Phase {
    fn coming(kind: Kind) -> Self {
        match kind {
            Kind::DestinationRule => Self::SubsetsCome,
            Kind::VirtualService => Self::RoutesCome,
        }
    }

    fn going(kind: Kind) -> Self {
        match kind {
            Kind::DestinationRule => Self::SubsetsGo,
            Kind::VirtualService => Self::RoutesGo,
        }
    }
}

/// One change of a cluster, by the file of the object.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Write(String, Packed),
    Remove(String),
}

impl Step {
    pub(super) fn file(&self) -> &str {
        match self {
            Self::Write(file, _) | Self::Remove(file) => file,
        }
    }
}

/// The steps to what is wanted from what is there, by file, and how many objects are as they should be already. What is
/// there says something else than what is wanted when `holds` says so.
///
/// A subset is there before a route leads to it, and a route before a filter asks for it; what goes, goes the other
/// way round. So an object that loses something is written twice: wide before the filters change, narrow after. Plugins of
/// the other kind give way first, to the same in the kind that is wanted.
pub(super) fn steps(
    there: &BTreeMap<String, Value>,
    wanted: Vec<Part>,
    holds: impl Fn(&Value, &Value) -> bool,
) -> (Vec<(Phase, Step)>, usize) {
    let kept: BTreeSet<String> = wanted.iter().map(|part| part.file.clone()).collect();
    let (made, exchange) = exchange::exchange(there, &wanted);
    let gone: BTreeSet<String> = exchange
        .iter()
        .filter(|step| matches!(step, Step::Remove(_)))
        .map(|step| step.file().to_owned())
        .collect();
    let mut steps: Vec<(Phase, Step)> = exchange.into_iter().map(|step| (Phase::Filters, step)).collect();
    let mut unchanged = 0;
    for Part { file, sort, object: packed } in wanted {
        let (before, object) = (there.get(&file), packed.open());
        if made.get(&file) == Some(&object) {
            continue;
        }
        if before.is_some_and(|before| holds(before, &object)) {
            unchanged += 1;
            continue;
        }
        let Sort::Native(kind) = sort else {
            steps.push((Phase::Filters, Step::Write(file, packed)));
            continue;
        };
        let wide = before.map(|before| native::widened(before, &object)).filter(|wide| *wide != object);
        if let Some(wide) = wide {
            // One that was cut has written it already, and nothing comes by it again.
            if !before.is_some_and(|before| holds(before, &wide)) {
                steps.push((Phase::coming(kind), Step::Write(file.clone(), Packed::of(&wide))));
            }
            steps.push((Phase::going(kind), Step::Write(file, packed)));
        } else {
            steps.push((Phase::coming(kind), Step::Write(file, packed)));
        }
    }
    let going = there.keys().filter(|file| !gone.contains(*file)).chain(made.keys());
    for file in going.filter(|file| !kept.contains(*file)) {
        match sort_of(file) {
            Some(Sort::Plugin) => steps.push((Phase::Filters, Step::Remove(file.clone()))),
            Some(Sort::Native(kind)) => steps.push((Phase::going(kind), Step::Remove(file.clone()))),
            None => {}
        }
    }
    steps.sort_by_key(|(phase, _)| *phase);
    (steps, unchanged)
}

/// The steps by which objects go that no name tells to be ours, but that a revision has which is left.
pub(super) fn leave(
    there: &BTreeMap<String, Value>,
    wanted: &BTreeSet<String>,
    left: &[Part],
) -> Vec<(Phase, Step)> {
    let goes = |part: &&Part| there.contains_key(&part.file) && !wanted.contains(&part.file);
    let step = |part: &Part| {
        let phase = match part.sort {
            Sort::Plugin => Phase::Filters,
            Sort::Native(kind) => Phase::going(kind),
        };
        (phase, Step::Remove(part.file.clone()))
    };
    left.iter().filter(goes).filter(|part| sort_of(&part.file).is_none()).map(step).collect()
}

#[cfg(test)]
mod tests;
