//! What all requests to one workload are judged by, gathered from a plan once and made ready to be asked often.

mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::facts::{Effect, Needs};
use crate::map::Map;
use crate::name::{Namespace, Service};
use crate::plan::{Inbound, InboundPlan, Section, Table, Within};
use crate::rule::{Demand, Judged, Scope};
pub(crate) use rules::{Index, Probe, Rules};

/// Everything that a plan says of one workload.
///
/// The workload is told by what the proxy knows of itself, never by what a request says of its destination: a
/// peer that could choose the service could choose the rules.
#[derive(Debug, Default)]
pub struct Guard {
    /// The number of the cluster that it stands in.
    pub(crate) home: usize,
    pub(crate) enforced: Judge,
    /// What would judge if every policy acted, where a policy in shadow speaks of the workload.
    pub(crate) shadow: Option<Judge>,
    needs: Needs,
}

/// The labels of a workload.
pub trait Labels {
    /// The value of a label, if the workload has it.
    fn value(&self, label: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn value(&self, label: &str) -> Option<&str> {
        self.get(label).map(String::as_str)
    }
}

impl Labels for Map<String, String> {
    fn value(&self, label: &str) -> Option<&str> {
        self.get(label).map(String::as_str)
    }
}

/// Boundaries and sections that judge together.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) within: Vec<Within>,
    pub(crate) sections: Vec<Arc<Section>>,
    pub(crate) groups: Vec<Group>,
}

/// The sections that demand the same of a source and judge the same sources: there are four kinds at most, however
/// many policies speak of a workload.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) source: Demand,
    pub(crate) scope: Judged,
    /// The first of its sections.
    pub(crate) first: usize,
    /// The first that lists whom it allows.
    pub(crate) first_allowing: Option<usize>,
    pub(crate) deny: Rules,
    pub(crate) allow: Rules,
}

impl Guard {
    /// Gathers what a plan says of a workload, from its namespace and labels.
    pub fn new(plan: &InboundPlan, namespace: &Namespace, labels: &dyn Labels) -> Self {
        if plan.leaves(namespace) {
            return Self::default();
        }
        let workload = Workload { plan, namespace, labels };
        let enforced = workload.entries(&[&plan.enforced]);
        let all = workload.entries(&[&plan.shadow, &plan.enforced]);
        let in_shadow = |entry: &&Inbound| plan.shadow.iter().any(|(_, shadow)| std::ptr::eq(*entry, shadow));
        let shadow = all.iter().any(in_shadow).then(|| workload.judge(&all));
        let enforced = workload.judge(&enforced);
        let mut needs = Needs::default();
        for section in enforced.sections.iter().chain(shadow.iter().flat_map(|shadow| &shadow.sections)) {
            section.rules().for_each(|rule| needs.add(rule));
        }
        let home = plan.location(&plan.home.cluster).map(|home| home.number).unwrap_or_default();
        Self { home, enforced, shadow, needs }
    }

    /// What the rules ask about.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Whether nothing is said of the workload.
    pub fn is_empty(&self) -> bool {
        self.enforced.is_empty() && self.shadow.is_none()
    }
}

impl Judge {
    pub(crate) fn is_empty(&self) -> bool {
        self.within.is_empty() && self.sections.is_empty()
    }
}

struct Workload<'w> {
    plan: &'w InboundPlan,
    namespace: &'w Namespace,
    labels: &'w dyn Labels,
}

impl<'w> Workload<'w> {
    /// The entries of the services that the workload is behind, else that of its namespace or of the mesh; each
    /// from the first table that has it.
    fn entries(&self, tables: &[&'w Table<Inbound>]) -> Vec<&'w Inbound> {
        let mut behind: Map<&Service, &Inbound> = Map::default();
        for (scope, entry) in tables.iter().flat_map(|table| table.iter()) {
            if let Scope::Service(service) = scope
                && service.namespace == *self.namespace
                && behind.get(&service).is_none()
                && self.serves(service, entry)
            {
                behind.insert(service, entry);
            }
        }
        if !behind.is_empty() {
            return behind.into_iter().map(|(_, entry)| entry).collect();
        }
        let namespace = Scope::Namespace(self.namespace.clone());
        let of = |scope| tables.iter().find_map(|table| table.get(scope));
        of(&namespace).or_else(|| of(&Scope::Mesh)).into_iter().collect()
    }

    /// Whether it is behind a service: by the service's selector, else by the canonical service that Istio gives it.
    fn serves(&self, service: &Service, entry: &Inbound) -> bool {
        if entry.selector.is_empty() {
            let mut canonical = crate::plan::CANONICAL_SERVICE.iter();
            let canonical = canonical.find_map(|label| self.labels.value(label));
            return canonical.is_some_and(|name| name == service.name.as_str());
        }
        entry.selector.iter().all(|(label, value)| self.labels.value(label) == Some(value))
    }

    fn judge(&self, entries: &[&Inbound]) -> Judge {
        let mut within: Vec<Within> = Vec::new();
        for one in entries.iter().filter_map(|entry| entry.within.as_ref()) {
            if !within.contains(one) {
                within.push(one.clone());
            }
        }
        let named = |number: &u32| entries.iter().any(|entry| entry.sections.contains(number));
        let numbered = (0..).zip(&self.plan.sections).filter(|(number, _)| named(number));
        let sections: Vec<Arc<Section>> = numbered.map(|(_, section)| Arc::clone(section)).collect();
        let kinds = [Demand::Claimed, Demand::Verified]
            .into_iter()
            .flat_map(|source| [(source, Judged::Remote), (source, Judged::All)]);
        let groups = kinds.filter_map(|kind| group(&sections, kind, self.plan.clusters.len()));
        Judge { within, groups: groups.collect(), sections }
    }
}

fn group(sections: &[Arc<Section>], (source, scope): (Demand, Judged), clusters: usize) -> Option<Group> {
    let of_kind = |section: &Arc<Section>| section.source == source && section.scope == scope;
    let first = sections.iter().position(of_kind)?;
    let lines = |effect| Rules::new(sections, effect, clusters, of_kind);
    Some(Group {
        source,
        scope,
        first,
        first_allowing: sections.iter().position(|section| of_kind(section) && section.allow.is_some()),
        deny: lines(Effect::Deny),
        allow: lines(Effect::Allow),
    })
}
