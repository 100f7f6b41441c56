//! What can be read and cannot be meant: references that lead nowhere, rules that nothing can match.

use std::collections::{BTreeMap, BTreeSet};

use super::{boundary, sources};
use crate::document::Located;
use crate::finding::{Code, Finding, Place};
use crate::mesh::{Cluster, Mesh};
use crate::name::RuleName;
use crate::pattern::Pattern;
use crate::rule::{From, Policy, Rule, Scope};

pub(super) fn policies(mesh: &Mesh, policies: &[Policy], findings: &mut Vec<Finding>) {
    let mut seen: BTreeMap<_, &Place> = BTreeMap::new();
    for policy in policies {
        match seen.get(&(&policy.namespace, &policy.name.value)) {
            Some(first) => findings.push(twice("policy", policy.name.value.as_str(), &policy.name.at, first)),
            None => {
                seen.insert((&policy.namespace, &policy.name.value), &policy.name.at);
            }
        }
        services(mesh, policy, findings);
        rules(mesh, policy, findings);
        exposure(mesh, policy, findings);
        reach(mesh, policy, policies, findings);
    }
}

fn twice(what: &str, name: &str, at: &Place, first: &Place) -> Finding {
    Finding {
        at: at.clone(),
        code: Code::Duplicate,
        message: format!("{what} {name:?} stands twice"),
        hint: format!("the first is at {first}; a reason names one {what}"),
    }
}

fn services(mesh: &Mesh, policy: &Policy, findings: &mut Vec<Finding>) {
    let lists = mesh.services().next().is_some();
    for scope in &policy.services {
        if let Scope::Service(service) = &scope.value
            && lists
            && mesh.service(service).is_none()
        {
            findings.push(Finding {
                at: scope.at.clone(),
                code: Code::UnlistedService,
                message: format!("mesh.yaml does not list {service}, so it is taken to run in every cluster"),
                hint: "list it under services, or mend the name".to_owned(),
            });
        }
    }
}

fn rules(mesh: &Mesh, policy: &Policy, findings: &mut Vec<Finding>) {
    let Some(access) = &policy.access else { return };
    let mut seen: BTreeMap<&RuleName, &Place> = BTreeMap::new();
    for rule in access.deny.iter().chain(access.allow.iter().flatten()) {
        match seen.get(&rule.name.value) {
            Some(first) => findings.push(twice("rule", rule.name.value.as_str(), &rule.name.at, first)),
            None => {
                seen.insert(&rule.name.value, &rule.name.at);
            }
        }
        for from in &rule.from {
            source(mesh, rule, from, findings);
        }
    }
    if access.deny.is_empty() && access.allow.is_none() {
        return;
    }
    if access.allow.as_ref().is_some_and(Vec::is_empty)
        && access.deny.iter().any(|rule| !rule.from.is_empty())
    {
        findings.push(Finding {
            at: policy.name.at.clone(),
            code: Code::NoEffect,
            message: format!(
                "policy {:?} allows no one, so its deny rules decide nothing",
                policy.name.value.as_str()
            ),
            hint: "leave deny out, or say whom allow takes in".to_owned(),
        });
    }
}

fn source(mesh: &Mesh, rule: &Rule, from: &From, findings: &mut Vec<Finding>) {
    let clusters: Vec<&str> = mesh.clusters().map(|cluster| cluster.name.as_str()).collect();
    let networks: Vec<&str> = mesh.clusters().map(|cluster| cluster.network.as_str()).collect();
    let before = findings.len();
    findings.extend(from.clusters.iter().filter_map(|pattern| unmet("cluster", pattern, &clusters)));
    findings.extend(from.networks.iter().filter_map(|pattern| unmet("network", pattern, &networks)));
    let named = from.clusters.first().or(from.networks.first());
    if let Some(named) = named.filter(|_| findings.len() == before && sources(mesh, from).is_empty()) {
        findings.push(Finding {
            at: named.at.clone(),
            code: Code::NeverMatches,
            message: format!(
                "rule {:?} can never match: none of these clusters is on these networks",
                rule.name.value.as_str()
            ),
            hint: "clusters and networks of one entry must both hold; write two entries for either"
                .to_owned(),
        });
    }
    for principal in &from.principals {
        findings.extend(foreign(mesh, principal));
    }
}

/// A pattern over names that takes in none of them.
fn unmet(what: &str, pattern: &Located<Pattern>, names: &[&str]) -> Option<Finding> {
    if names.iter().any(|name| pattern.value.matches(name)) {
        return None;
    }
    let (code, message) = match &pattern.value {
        Pattern::Exact(name) => (Code::NotInMesh, format!("{what} {name:?} is not in the mesh")),
        other @ (Pattern::Any | Pattern::Prefix(_) | Pattern::Suffix(_)) => {
            (Code::NeverMatches, format!("no {what} of the mesh is called {:?}", other.to_string()))
        }
    };
    let names: BTreeSet<&str> = names.iter().copied().collect();
    let names: Vec<&str> = names.into_iter().collect();
    Some(Finding {
        at: pattern.at.clone(),
        code,
        message,
        hint: format!("the mesh has {}", names.join(", ")),
    })
}

/// A principal outside the trust domain of the mesh.
fn foreign(mesh: &Mesh, principal: &Located<Pattern>) -> Option<Finding> {
    let home = format!("{}/", mesh.trust_domain());
    let possible = match &principal.value {
        Pattern::Any | Pattern::Suffix(_) => true,
        Pattern::Exact(text) => text.starts_with(&home),
        Pattern::Prefix(text) => text.starts_with(&home) || home.starts_with(text.as_str()),
    };
    if possible {
        return None;
    }
    let text = principal.value.to_string();
    let hint = match text.strip_prefix("spiffe://") {
        Some(rest) => format!("principals are written without the scheme: {rest}"),
        None => format!("identities of this mesh begin with {home}ns/"),
    };
    Some(Finding {
        at: principal.at.clone(),
        code: Code::ForeignPrincipal,
        message: format!("no certificate of the mesh carries {text:?}"),
        hint,
    })
}

fn exposure(mesh: &Mesh, policy: &Policy, findings: &mut Vec<Finding>) {
    let Some(exposure) = &policy.exposure else { return };
    let networks: Vec<&str> = mesh.clusters().map(|cluster| cluster.network.as_str()).collect();
    findings.extend(exposure.value.iter().filter_map(|pattern| unmet("network", pattern, &networks)));
    let shown = |cluster: &Cluster| {
        exposure.value.iter().any(|pattern| pattern.value.matches(cluster.network.as_str()))
    };
    findings.extend(indistinct(mesh, &exposure.at, shown));
    let nowhere = |cluster: &&Cluster| shown(cluster) && cluster.pod_cidr.is_none();
    if let Some(cluster) = mesh.clusters().find(nowhere) {
        findings.push(Finding {
            at: exposure.at.clone(),
            code: Code::NeverMatches,
            message: format!(
                "a gateway cannot tell that a connection comes from {}: mesh.yaml gives {} no podCidr",
                cluster.network, cluster.name
            ),
            hint: format!("add podCidr to {}: the addresses that its connections arrive from", cluster.name),
        });
    }
}

/// Two clusters of which an exposure shows a service to one alone, and whose connections look the same.
fn indistinct(mesh: &Mesh, at: &Place, shown: impl Fn(&Cluster) -> bool) -> Option<Finding> {
    let alike = |one: &&Cluster, other: &&Cluster| {
        one.pod_cidr.zip(other.pod_cidr).is_some_and(|(pods, theirs)| pods.overlaps(theirs))
    };
    let (one, other) = mesh.clusters().filter(|cluster| shown(cluster)).find_map(|one| {
        let hidden = mesh.clusters().filter(|cluster| !shown(cluster));
        hidden.map(|other| (one, other)).find(|(one, other)| alike(one, other))
    })?;
    Some(Finding {
        at: at.clone(),
        code: Code::NeverMatches,
        message: format!(
            "a gateway cannot tell connections from {} and {} apart: pods of {} and {} have the same addresses",
            one.network, other.network, one.name, other.name
        ),
        hint: "show the service to both networks or to neither, or give one cluster another podCidr"
            .to_owned(),
    })
}

/// A boundary that leaves some cluster no endpoint of a listed service.
fn reach(mesh: &Mesh, policy: &Policy, all: &[Policy], findings: &mut Vec<Finding>) {
    let Some(drawn) = &policy.boundary else { return };
    for (service, _) in mesh.services() {
        let holds = |other: &&Policy| other.services.iter().any(|scope| scope.value.covers(service));
        let holding: Vec<&Policy> = all.iter().filter(holds).collect();
        let Some((boundary, narrowest)) = boundary(&holding) else { continue };
        if !std::ptr::eq(narrowest, policy) {
            continue;
        }
        let hosts = mesh.hosts(service);
        let cut_off: Vec<&str> = mesh
            .clusters()
            .filter(|cluster| mesh.inside(cluster, boundary).is_disjoint(&hosts))
            .map(|cluster| cluster.name.as_str())
            .collect();
        if !cut_off.is_empty() {
            findings.push(Finding {
                at: drawn.at.clone(),
                code: Code::EmptyBoundary,
                message: format!(
                    "inside boundary {boundary:?} no cluster runs {service} for {}",
                    cut_off.join(", ")
                ),
                hint: "its requests will be refused there: widen the boundary, or run the service inside it"
                    .to_owned(),
            });
        }
    }
}
