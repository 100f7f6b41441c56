//! Mesh and policies in, one plan per cluster out, with everything that cannot be meant.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::document::Located;
use crate::finding::{Finding, has_errors};
use crate::mesh::{Cluster, Draft, Mesh};
use crate::name::{ClusterName, Namespace, NetworkName, PolicyName, Service};
use crate::pattern::Pattern;
use crate::plan::{
    Access, Exposure, From, Inbound, Location, Outbound, Plan, Range, Rule, SCHEMA, To, Within,
};
use crate::rule::{self, Boundary, Policy, Scope};

/// The plan of each cluster.
pub type Plans = BTreeMap<ClusterName, Plan>;

/// Compiles policies for a mesh. Without errors among the findings there are plans.
///
/// The order of `policies`, of their rules and of everything in them that has no order never shows in a plan.
pub fn compile(mesh: &Mesh, policies: &[Policy]) -> (Option<Plans>, Vec<Finding>) {
    let findings = findings(mesh, policies);
    if has_errors(&findings) {
        return (None, findings);
    }
    let sections = Sections::new(mesh, policies);
    let plans = mesh.clusters().map(|cluster| (cluster.name.clone(), plan(mesh, cluster, &sections)));
    (Some(plans.collect()), findings)
}

/// What cannot be meant in policies, as far as a mesh that may have errors of its own can tell.
pub fn check(mesh: &Draft, policies: &[Policy]) -> Vec<Finding> {
    findings(&mesh.0, policies)
}

fn findings(mesh: &Mesh, policies: &[Policy]) -> Vec<Finding> {
    let mut findings = Vec::new();
    check::policies(mesh, policies, &mut findings);
    findings.sort();
    findings
}

/// Scopes, each with all policies that hold there.
type Scoped<'p> = BTreeMap<&'p Scope, Vec<&'p Policy>>;

/// What does not depend on the cluster: who says what of which scope, and every access section, compiled once.
struct Sections<'p> {
    outbound: Scoped<'p>,
    inbound: Scoped<'p>,
    access: BTreeMap<(&'p Namespace, &'p PolicyName), Arc<Access>>,
    exposure: BTreeMap<Scope, Vec<Exposure>>,
}

impl<'p> Sections<'p> {
    fn new(mesh: &Mesh, policies: &'p [Policy]) -> Self {
        let mut sorted: Vec<&Policy> = policies.iter().collect();
        sorted.sort_by_key(|policy| (&policy.namespace, &policy.name.value));
        let compiled = sorted.iter().filter_map(|policy| {
            Some(((&policy.namespace, &policy.name.value), Arc::new(access(mesh, policy)?)))
        });
        Self {
            outbound: by_scope(&sorted, |policy| policy.boundary.is_some()),
            inbound: by_scope(&sorted, |policy| policy.access.is_some() || policy.boundary.is_some()),
            access: compiled.collect(),
            exposure: exposure(mesh, &sorted),
        }
    }

    fn access(&self, policy: &Policy) -> Option<Arc<Access>> {
        self.access.get(&(&policy.namespace, &policy.name.value)).cloned()
    }
}

fn plan(mesh: &Mesh, cluster: &Cluster, sections: &Sections<'_>) -> Plan {
    let mut ranges: Vec<Range> = mesh
        .clusters()
        .flat_map(|cluster| {
            let pods = cluster.pod_cidr.into_iter();
            pods.map(|cidr| Range { cidr, network: cluster.network.clone() })
        })
        .collect();
    ranges.sort_by_key(|range| (std::cmp::Reverse(range.cidr.prefix()), range.cidr));
    let issuers = mesh
        .clusters()
        .flat_map(|cluster| cluster.issuers.iter().map(|issuer| (issuer.clone(), cluster.name.clone())));
    let clusters = mesh.clusters().map(|cluster| {
        (cluster.name.clone(), Location { network: cluster.network.clone(), region: cluster.region.clone() })
    });
    Plan {
        schema: SCHEMA,
        mesh: mesh.name().to_owned(),
        cluster: cluster.name.clone(),
        network: cluster.network.clone(),
        clusters: clusters.collect(),
        issuers: issuers.collect(),
        ranges: if sections.exposure.is_empty() { Vec::new() } else { ranges },
        outbound: outbound(mesh, cluster, &sections.outbound),
        inbound: inbound(mesh, cluster, sections),
        exposure: sections.exposure.clone(),
    }
}

/// The scopes that policies with a certain section speak of, each with all such policies that hold there: its
/// own, and those of the wider scopes around it, in the order of `policies`.
fn by_scope<'p>(policies: &[&'p Policy], says: impl Fn(&Policy) -> bool) -> Scoped<'p> {
    let mut own: BTreeMap<&Scope, BTreeSet<usize>> = BTreeMap::new();
    for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| says(policy)) {
        for scope in &policy.services {
            own.entry(&scope.value).or_default().insert(index);
        }
    }
    let around = |scope: &Scope| match scope {
        Scope::Service(service) => vec![Scope::Namespace(service.namespace.clone()), Scope::Mesh],
        Scope::Namespace(_) => vec![Scope::Mesh],
        Scope::Mesh => Vec::new(),
    };
    own.iter()
        .map(|(scope, here)| {
            let mut holding = here.clone();
            holding.extend(around(scope).iter().filter_map(|wider| own.get(wider)).flatten());
            (*scope, holding.into_iter().filter_map(|index| policies.get(index).copied()).collect())
        })
        .collect()
}

/// Whether a cluster runs anything that the scope takes in, as far as `mesh.yaml` knows.
///
/// A listing may be out of date, and a workload that nobody listed must not be the one that anybody may call. So
/// where a service is not known to run, what names it is still there, as short as can be: no one comes in.
fn runs(mesh: &Mesh, cluster: &Cluster, scope: &Scope) -> bool {
    match scope {
        Scope::Service(service) => mesh.hosts(service).contains(&cluster.name),
        Scope::Namespace(_) | Scope::Mesh => true,
    }
}

/// The narrowest boundary that any of the policies draws, and whose it is.
fn boundary<'p>(policies: &[&'p Policy]) -> Option<(Boundary, &'p Policy)> {
    let drawn =
        policies.iter().filter_map(|policy| policy.boundary.as_ref().map(|found| (found.value, *policy)));
    drawn.min_by_key(|(boundary, _)| *boundary).filter(|(boundary, _)| *boundary != Boundary::Mesh)
}

fn outbound(mesh: &Mesh, cluster: &Cluster, scopes: &Scoped<'_>) -> BTreeMap<Scope, Outbound> {
    let entry = |(policies, service): (&[&Policy], Option<&Service>)| {
        let (within, policy) = boundary(policies)?;
        let near = mesh.inside(cluster, within);
        let open = service.is_none_or(|service| !mesh.hosts(service).is_disjoint(&near));
        Some(Outbound { policy: policy.name.value.to_string(), within, open })
    };
    let mut entries = BTreeMap::new();
    for (&scope, policies) in scopes {
        // A listed service may run in some clusters only, so what a wide scope says of it is an entry of its own.
        for (service, _) in mesh.services().filter(|(service, _)| scope.covers(service)) {
            let narrower = scopes.keys().any(|other| *other < scope && other.covers(service));
            if let (false, Some(found)) = (narrower, entry((policies, Some(service)))) {
                entries.insert(Scope::Service(service.clone()), found);
            }
        }
        let service = if let Scope::Service(service) = scope { Some(service) } else { None };
        if let Some(found) = entry((policies, service)) {
            entries.insert(scope.clone(), found);
        }
    }
    entries
}

fn inbound(mesh: &Mesh, cluster: &Cluster, sections: &Sections<'_>) -> BTreeMap<Scope, Inbound> {
    let entry = |(&scope, policies): (&&Scope, &Vec<&Policy>)| {
        let within = boundary(policies).map(|(boundary, policy)| Within {
            policy: policy.name.value.to_string(),
            clusters: mesh.inside(cluster, boundary).into_iter().collect(),
        });
        let strange = !runs(mesh, cluster, scope);
        let named = |policy: &Policy| policy.services.iter().any(|named| named.value == *scope);
        let access = policies.iter().filter_map(|policy| {
            let section = sections.access(policy)?;
            Some(if strange && named(policy) { Arc::new(section.closed()) } else { section })
        });
        let selector = match scope {
            Scope::Service(service) => mesh.service(service).map(|listing| listing.selector.clone()),
            Scope::Namespace(_) | Scope::Mesh => None,
        };
        (scope.clone(), Inbound { selector: selector.unwrap_or_default(), within, access: access.collect() })
    };
    sections.inbound.iter().map(entry).collect()
}

fn access(mesh: &Mesh, policy: &Policy) -> Option<Access> {
    let access = policy.access.as_ref()?;
    Some(Access {
        policy: policy.name.value.to_string(),
        source: access.source,
        scope: access.scope,
        deny: rules(mesh, &access.deny),
        allow: access.allow.as_ref().map(|allow| rules(mesh, allow)),
    })
}

fn rules(mesh: &Mesh, rules: &[rule::Rule]) -> Vec<Rule> {
    let mut compiled: Vec<Rule> = rules
        .iter()
        .map(|rule| Rule {
            name: rule.name.value.to_string(),
            from: rule.from.iter().map(|from| source(mesh, from)).collect(),
            to: rule.to.iter().map(request).collect(),
        })
        .collect();
    compiled.sort_by(|left, right| left.name.cmp(&right.name));
    compiled
}

fn source(mesh: &Mesh, from: &rule::From) -> From {
    From {
        clusters: sources(mesh, from).into_iter().map(|cluster| cluster.name.clone()).collect(),
        namespaces: from.namespaces.iter().map(|pattern| pattern.value.clone()).collect(),
        principals: from.principals.iter().map(|pattern| pattern.value.clone()).collect(),
    }
}

fn request(to: &rule::To) -> To {
    To {
        ports: to.ports.iter().copied().collect(),
        methods: to.methods.iter().cloned().collect(),
        paths: to.paths.iter().cloned().collect(),
    }
}

/// The clusters that an entry takes in: by name and by network, where it says both.
pub(crate) fn sources<'m>(mesh: &'m Mesh, from: &rule::From) -> Vec<&'m Cluster> {
    let any = |patterns: &[Located<Pattern>], text: &str| {
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.value.matches(text))
    };
    mesh.clusters()
        .filter(|cluster| {
            any(&from.clusters, cluster.name.as_str()) && any(&from.networks, cluster.network.as_str())
        })
        .collect()
}

fn exposure(mesh: &Mesh, policies: &[&Policy]) -> BTreeMap<Scope, Vec<Exposure>> {
    let networks: BTreeSet<&NetworkName> = mesh.clusters().map(|cluster| &cluster.network).collect();
    let shown = |policy: &&Policy| {
        let patterns = &policy.exposure.as_ref()?.value;
        let seen =
            |network: &&&NetworkName| patterns.iter().any(|pattern| pattern.value.matches(network.as_str()));
        Some(Exposure {
            policy: policy.name.value.to_string(),
            networks: networks.iter().filter(seen).map(|network| (*network).clone()).collect(),
        })
    };
    let scopes = by_scope(policies, |policy| policy.exposure.is_some());
    scopes
        .into_iter()
        .map(|(scope, holding)| (scope.clone(), holding.iter().filter_map(shown).collect()))
        .collect()
}

#[cfg(test)]
mod tests;
