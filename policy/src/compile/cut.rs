//! Plans that would be too large are cut: namespaces of which much is said get a plan of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::ClusterPlans;
use super::scopes::Said;
use crate::finding::{Code, Finding};
use crate::mesh::Cluster;
use crate::name::Namespace;
use crate::plan::{Inbound, InboundPlan, Role, Table};
use crate::rule::Scope;

/// A plan of more bytes is cut. A `WasmPlugin` holds it, and everything that watches those gets it whole.
const LARGE: usize = 256 * 1024;
/// A part of more bytes no API server would store: etcd takes 1.5 MiB, and the object is more than the plan.
const TOO_LARGE: usize = 1024 * 1024;

/// How many bytes a value takes as JSON.
pub(super) fn length(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    let _counting_never_fails = serde_json::to_writer(&mut count, value);
    count.0
}

/// Cuts what judges arrivals, if it is large: the namespaces of which most is said are set apart, until what is
/// left is small enough. `lengths` are those of the inbound plan's sections.
pub(super) fn cut(mut plans: ClusterPlans, lengths: &[usize]) -> ClusterPlans {
    let entries = plans.inbound.enforced.len() + plans.inbound.shadow.len();
    // Nothing near the limit need be measured, and nearly every plan is nowhere near it.
    if lengths.iter().sum::<usize>() + entries * 128 < LARGE / 2 {
        return plans;
    }
    let mut whole = length(&plans.inbound);
    let mut shares: Vec<(usize, Namespace)> =
        shares(&plans.inbound, lengths).into_iter().map(|(namespace, share)| (share, namespace)).collect();
    shares.sort_by(|(one, first), (two, second)| two.cmp(one).then_with(|| first.cmp(second)));
    let mut apart = Vec::new();
    for (share, namespace) in shares {
        if whole <= LARGE {
            break;
        }
        whole = whole.saturating_sub(share);
        apart.push(namespace);
    }
    for namespace in &apart {
        let of = |scope: &Scope| *scope == Scope::Mesh || namespace_of(scope) == Some(namespace);
        plans.apart.insert(namespace.clone(), part(&plans.inbound, of, Vec::new()));
    }
    let apart_from = |scope: &Scope| namespace_of(scope).is_none_or(|namespace| !apart.contains(namespace));
    plans.inbound = part(&plans.inbound, apart_from, apart.clone());
    plans
}

fn namespace_of(scope: &Scope) -> Option<&Namespace> {
    match scope {
        Scope::Service(service) => Some(&service.namespace),
        Scope::Namespace(namespace) => Some(namespace),
        Scope::Mesh => None,
    }
}

/// What each namespace takes of a plan: its entries, and the sections that no one else has.
fn shares(plan: &InboundPlan, lengths: &[usize]) -> BTreeMap<Namespace, usize> {
    let mut users: BTreeMap<u32, BTreeSet<Option<&Namespace>>> = BTreeMap::new();
    let mut shares: BTreeMap<Namespace, usize> = BTreeMap::new();
    for (scope, entry) in plan.enforced.iter().chain(plan.shadow.iter()) {
        let namespace = namespace_of(scope);
        for section in &entry.sections {
            users.entry(*section).or_default().insert(namespace);
        }
        if let Some(namespace) = namespace {
            *shares.entry(namespace.clone()).or_default() += length(&(scope, entry));
        }
    }
    for (section, users) in users {
        let only: Vec<&Option<&Namespace>> = users.iter().collect();
        if let [Some(namespace)] = only.as_slice()
            && let Some(length) = usize::try_from(section).ok().and_then(|section| lengths.get(section))
        {
            *shares.entry((*namespace).clone()).or_default() += length;
        }
    }
    shares
}

/// The part of a plan that speaks of some scopes.
fn part(whole: &InboundPlan, of: impl Fn(&Scope) -> bool, apart: Vec<Namespace>) -> InboundPlan {
    let kept = |table: &Table<Inbound>| -> Vec<(Scope, Inbound)> {
        let kept = table.iter().filter(|(scope, _)| of(scope));
        kept.map(|(scope, entry)| (scope.clone(), entry.clone())).collect()
    };
    let (enforced, shadow) = (kept(&whole.enforced), kept(&whole.shadow));
    let used: BTreeSet<u32> =
        enforced.iter().chain(&shadow).flat_map(|(_, entry)| entry.sections.iter()).copied().collect();
    let used: Vec<u32> = used.into_iter().collect();
    let place = |section: &u32| used.binary_search(section).ok().and_then(|place| u32::try_from(place).ok());
    let renumbered = |entries: Vec<(Scope, Inbound)>| -> Table<Inbound> {
        let entry = |(scope, entry): (Scope, Inbound)| {
            (scope, Inbound { sections: entry.sections.iter().filter_map(place).collect(), ..entry })
        };
        entries.into_iter().map(entry).collect()
    };
    InboundPlan {
        sections: used.iter().filter_map(|section| whole.section(*section).map(Arc::clone)).collect(),
        enforced: renumbered(enforced),
        shadow: renumbered(shadow),
        apart: apart.into(),
        home: whole.home.clone(),
        clusters: whole.clusters.clone(),
        issuers: whole.issuers.clone(),
        schema: whole.schema,
    }
}

/// Parts that no API server would store, each at the first policy that has a share in it.
pub(super) fn oversized(plans: &ClusterPlans, cluster: &Cluster, said: &Said<'_>) -> Vec<Finding> {
    let finding = |role: Role, namespace: Option<&Namespace>, bytes: usize| {
        let shares = |scope: &Scope| namespace.is_none() || namespace_of(scope) == namespace;
        let mut policies = said.policies.iter().filter(|_| bytes > TOO_LARGE);
        let first = policies.find(|policy| policy.services.iter().any(|scope| shares(&scope.value)))?;
        let of = namespace.map_or_else(String::new, |namespace| format!(" for namespace {namespace}"));
        Some(Finding {
            at: first.name.at.clone(),
            code: Code::Oversized,
            message: format!(
                "the {} plan of {}{of} takes {} KiB, and an API server stores no more than {}",
                role.as_str(),
                cluster.name,
                bytes / 1024,
                TOO_LARGE / 1024
            ),
            hint: "say the same with fewer rules: patterns, or one rule with several values".to_owned(),
        })
    };
    let mut findings = Vec::new();
    findings.extend(finding(Role::Outbound, None, length(&plans.outbound)));
    findings.extend(finding(Role::Gateway, None, length(&plans.gateway)));
    // What was small enough not to be cut is small enough to be stored, unless there was nowhere to cut.
    if !plans.apart.is_empty() || plans.inbound.enforced.get(&Scope::Mesh).is_some() {
        findings.extend(finding(Role::Inbound, None, length(&plans.inbound)));
    }
    for (namespace, plan) in &plans.apart {
        findings.extend(finding(Role::Inbound, Some(namespace), length(plan)));
    }
    findings
}
