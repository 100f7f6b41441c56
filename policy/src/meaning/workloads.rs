//! The kinds of workloads that two plans tell apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Running;
use crate::guard::{Guard, Judge};
use crate::name::{Namespace, Service};
use crate::plan::{CANONICAL_SERVICE, InboundPlan};
use crate::rule::Scope;

/// Of so many services of a namespace, every set of services that a workload can be behind is looked at; of more, every two.
const FEW: usize = 5;
/// Of no more sets than this.
const MOST_SETS: usize = 2_000;
/// What a namespace is called that no plan speaks of.
const OTHER: [&str; 3] = ["other", "another-namespace", "a-namespace-of-which-nothing-is-said"];

/// What judges a workload.
pub(super) enum Side<'p> {
    /// Nothing does.
    Open,
    /// A plan leaves the workload to one that is not there: everything is refused.
    Missing,
    /// A plan does.
    Guarded(&'p InboundPlan, Guard),
}

/// A kind of workload.
pub(super) struct Workload<'p> {
    pub(super) namespace: Namespace,
    pub(super) labels: BTreeMap<String, String>,
    /// What it is called.
    pub(super) name: String,
    pub(super) before: Side<'p>,
    pub(super) after: Side<'p>,
}

/// The labels by which a plan knows the workloads of a service.
type Facet = BTreeMap<String, String>;

/// Every kind of workload that both plans may judge otherwise, and what was left out.
pub(super) fn changed<'p>(before: &'p Running, after: &'p Running) -> (Vec<Workload<'p>>, Vec<String>) {
    let (mut found, mut untold) = (Vec::new(), Vec::new());
    let named = namespaces(before, after);
    let other =
        OTHER.iter().filter_map(|name| name.parse::<Namespace>().ok()).find(|name| !named.contains(name));
    for (namespace, is_named) in
        named.iter().map(|name| (name, true)).chain(other.iter().map(|name| (name, false)))
    {
        let sides = |labels: &Facet| (before.side(namespace, labels), after.side(namespace, labels));
        let facets: Vec<(Facet, Service)> = facets(before, after, namespace).into_iter().collect();
        // What both judge alike of each service they judge alike of all together, so sets begin with one that is not alike.
        let is_changed = |facet: &Facet| {
            let (before, after) = sides(facet);
            !before.is_same(&after)
        };
        let (mut facets, alike): (Vec<_>, Vec<_>) =
            facets.into_iter().partition(|(facet, _)| is_changed(facet));
        let changed = facets.len();
        facets.extend(alike);
        let (sets, are_all) = sets(&facets, changed);
        if !are_all {
            untold.push(format!("workloads of {namespace} that are behind three or more services at once"));
        }
        if sets.len() >= MOST_SETS {
            untold.push(format!(
                "workloads of {namespace} that are behind several of its {} services",
                facets.len()
            ));
        }
        let mut seen = BTreeSet::new();
        for set in sets {
            let labels: Facet = set.iter().flat_map(|(facet, _)| facet.clone()).collect();
            let (before, after) = sides(&labels);
            if !before.is_same(&after) && seen.insert((before.key(), after.key())) {
                let name = name(namespace, is_named, &set);
                found.push(Workload { namespace: namespace.clone(), labels, name, before, after });
            }
        }
    }
    (found, untold)
}

/// The namespaces that plans speak of.
fn namespaces(before: &Running, after: &Running) -> BTreeSet<Namespace> {
    let scopes = before.plans().chain(after.plans()).flat_map(scopes);
    let named = scopes.filter_map(|(scope, _)| match scope {
        Scope::Service(service) => Some(&service.namespace),
        Scope::Namespace(namespace) => Some(namespace),
        Scope::Mesh => None,
    });
    let left = before.plans().chain(after.plans()).flat_map(|plan| plan.apart.iter());
    named.chain(before.apart.keys()).chain(after.apart.keys()).chain(left).cloned().collect()
}

fn scopes(plan: &InboundPlan) -> impl Iterator<Item = (&Scope, &crate::plan::Inbound)> {
    plan.enforced.iter().chain(plan.shadow.iter())
}

/// The labels of each service of a namespace that plans speak of.
fn facets(before: &Running, after: &Running, namespace: &Namespace) -> BTreeMap<Facet, Service> {
    let mut facets = BTreeMap::new();
    for (scope, entry) in before.plans().chain(after.plans()).flat_map(scopes) {
        if let Scope::Service(service) = scope
            && service.namespace == *namespace
        {
            let selector = entry.selector.iter().map(|(label, value)| (label.clone(), value.clone()));
            let mut facet: Facet = selector.collect();
            if facet.is_empty() {
                facet.extend(
                    CANONICAL_SERVICE.first().map(|label| ((*label).to_owned(), service.name.to_string())),
                );
            }
            facets.insert(facet, service.clone());
        }
    }
    facets
}

/// The sets of services that one workload can be behind, since its labels are those of each: none, and all that have one of
/// the first `changed`; and whether there are no larger ones.
fn sets(facets: &[(Facet, Service)], changed: usize) -> (Vec<Vec<&(Facet, Service)>>, bool) {
    let fits = |set: &[usize], next: usize| {
        let labels = |at: usize| facets.get(at).into_iter().flat_map(|(facet, _)| facet);
        let clashes = |(label, value): (&String, &String)| {
            let mut held = set.iter().flat_map(|at| labels(*at));
            held.any(|(other, held)| other == label && held != value)
        };
        !labels(next).any(clashes)
    };
    let most = if facets.len() > FEW { 2 } else { facets.len() };
    let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
    let mut last: Vec<Vec<usize>> = (0..changed).map(|first| vec![first]).collect();
    for _ in 0..most {
        let mut next = Vec::new();
        for set in &last {
            let from = set.last().map_or(0, |last| last + 1);
            let more = (from..facets.len()).filter(|at| fits(set, *at));
            next.extend(more.map(|at| set.iter().copied().chain([at]).collect::<Vec<_>>()).take(MOST_SETS));
            if next.len() >= MOST_SETS {
                break;
            }
        }
        sets.append(&mut last);
        last = next;
        last.truncate(MOST_SETS);
    }
    let named = |set: Vec<usize>| set.into_iter().filter_map(|at| facets.get(at)).collect();
    (sets.into_iter().map(named).collect(), last.is_empty())
}

fn name(namespace: &Namespace, is_named: bool, set: &[&(Facet, Service)]) -> String {
    let services: BTreeSet<String> = set.iter().map(|(_, service)| service.to_string()).collect();
    match (services.is_empty(), is_named) {
        (true, true) => format!("all else in {namespace}"),
        (true, false) => "all other namespaces".to_owned(),
        (false, _) => services.into_iter().collect::<Vec<_>>().join(" and "),
    }
}

impl Running {
    fn plans(&self) -> impl Iterator<Item = &InboundPlan> {
        self.inbound.iter().chain(self.apart.values())
    }

    /// What judges a workload.
    fn side(&self, namespace: &Namespace, labels: &Facet) -> Side<'_> {
        match (self.apart.get(namespace), &self.inbound) {
            (Some(plan), _) => Side::Guarded(plan, Guard::new(plan, namespace, labels)),
            (None, Some(plan)) if plan.leaves(namespace) => Side::Missing,
            (None, Some(plan)) => Side::Guarded(plan, Guard::new(plan, namespace, labels)),
            (None, None) => Side::Open,
        }
    }
}

/// A judge as its plan has it: what is equal judges alike, where clusters have the same numbers.
type Key = Vec<String>;

impl Side<'_> {
    fn key(&self) -> Key {
        let of = |judge: &Judge| {
            let within = judge.within.iter().map(|within| format!("{} {}", within.policy, within.clusters));
            let sections = judge.sections.iter().map(|section| serde_json::to_string(&Arc::as_ref(section)));
            within.chain(sections.map(Result::unwrap_or_default)).collect::<Vec<_>>().join("\n")
        };
        match self {
            Self::Open => vec!["open".to_owned()],
            Self::Missing => vec!["missing".to_owned()],
            Self::Guarded(_, guard) => {
                [of(&guard.enforced)].into_iter().chain(guard.shadow.as_ref().map(of)).collect()
            }
        }
    }

    /// Whether it judges as another beyond all doubt.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open, Self::Open) | (Self::Missing, Self::Missing) => true,
            (Self::Open, Self::Guarded(_, guard)) | (Self::Guarded(_, guard), Self::Open) => guard.is_empty(),
            (Self::Guarded(plan, guard), Self::Guarded(other_plan, other_guard)) => {
                let alike = plan.home.cluster == other_plan.home.cluster
                    && plan
                        .clusters
                        .iter()
                        .map(|at| &at.name)
                        .eq(other_plan.clusters.iter().map(|at| &at.name));
                guard.is_empty() && other_guard.is_empty() || alike && self.key() == other.key()
            }
            (Self::Open | Self::Guarded(..), Self::Missing)
            | (Self::Missing, Self::Open | Self::Guarded(..)) => false,
        }
    }
}
