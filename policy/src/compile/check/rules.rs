//! Rules that nothing can match, and rules that never decide.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ground::Ground;
use super::super::scopes::{self, Said};
use super::{Known, twice};
use crate::document::Located;
use crate::finding::{Code, Finding, Place};
use crate::guard::{Index, Probe};
use crate::mesh::Mesh;
use crate::name::{ClusterName, RuleName};
use crate::pattern::Pattern;
use crate::plan;
use crate::rule::{Access, Demand, From, Judged, Mode, Policy, Rule};

/// That a policy demands a proven source where some cluster's never is.
fn not_provable(mesh: &Mesh, policy: &Policy) -> Option<Finding> {
    if mesh.proves_without_certificates() {
        return None;
    }
    let name = policy.name.value.as_str();
    let proven: BTreeSet<&ClusterName> =
        mesh.proven_by_issuer().into_values().map(|cluster| &cluster.name).collect();
    let untold = mesh.clusters().find(|cluster| !proven.contains(&cluster.name));
    let (message, hint) = if mesh.gives_certificates() == Some(false) {
        (
            format!(
                "policy {name:?} demands a proven source, and proxies of this Istio show no certificate that proves one"
            ),
            "everyone from elsewhere would be refused: update Istio to 1.30, let sidecars sign tokens, or say source: Claimed",
        )
    } else if let Some(untold) = untold {
        let led: Vec<&str> = mesh
            .clusters()
            .filter(|other| mesh.signer(other).name == mesh.signer(untold).name)
            .map(|other| other.name.as_str())
            .collect();
        (
            format!(
                "policy {name:?} demands a proven source, and one istiod signs for {}: no certificate says which of them",
                led.join(" and ")
            ),
            "everyone from there would be refused, also from the same cluster: let sidecars sign tokens, or say source: Claimed",
        )
    } else {
        return None;
    };
    Some(Finding { at: policy.name.at.clone(), code: Code::NotProvable, message, hint: hint.to_owned() })
}

pub(super) fn check(
    ground: &Ground<'_>,
    known: &Known,
    said: &Said<'_>,
    policy: &Policy,
    findings: &mut Vec<Finding>,
) {
    let Some(access) = &policy.access else { return };
    if access.source == Demand::Verified {
        findings.extend(not_provable(ground.mesh, policy));
    }
    let mut seen: BTreeMap<&RuleName, &Place> = BTreeMap::new();
    for rule in access.deny.iter().chain(access.allow.iter().flatten()) {
        let Located { at, value: name } = &rule.name;
        let first = *seen.entry(name).or_insert(at);
        if first != at {
            findings.push(twice("rule", name.as_str(), at, first));
        }
        for from in &rule.from {
            source(ground, known, rule, from, findings);
        }
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
    shadowed(ground, &access.deny, findings);
    shadowed(ground, access.allow.as_deref().unwrap_or_default(), findings);
    emptied(ground, said, policy, access, findings);
}

fn source(ground: &Ground<'_>, known: &Known, rule: &Rule, from: &From, findings: &mut Vec<Finding>) {
    let before = findings.len();
    findings.extend(from.clusters.iter().filter_map(|pattern| known.clusters.unmet(pattern)));
    findings.extend(from.networks.iter().filter_map(|pattern| known.networks.unmet(pattern)));
    findings.extend(from.regions.iter().filter_map(|pattern| known.regions.unmet(pattern)));
    let named =
        [&from.clusters, &from.networks, &from.regions].into_iter().find_map(|clause| clause.any.first());
    if let Some(named) = named.filter(|_| findings.len() == before && ground.sources(from).last().is_none()) {
        findings.push(Finding {
            at: named.at.clone(),
            code: Code::NeverMatches,
            message: format!(
                "rule {:?} can never match: no cluster of the mesh is all that this entry says",
                rule.name.value.as_str()
            ),
            hint: "clusters, networks, regions and what is taken from them must all hold of one cluster; write two entries for either"
                .to_owned(),
        });
    }
    let region = from.regions.iter().next().filter(|_| findings.len() == before);
    let without = region.map(|_| ground.members(|cluster| cluster.region.is_none()));
    if let Some((region, without)) = region.zip(without).filter(|(_, without)| without.last().is_some()) {
        findings.push(Finding {
            at: region.at.clone(),
            code: Code::NoRegion,
            message: format!(
                "rule {:?} asks for a region, and mesh.yaml gives {} none",
                rule.name.value.as_str(),
                ground.names(&without)
            ),
            hint: "a cluster without a region is in none: say region at every cluster".to_owned(),
        });
    }
    for domain in from.trust_domains.iter() {
        findings.extend(foreign_domain(ground, domain));
    }
    for principal in from.principals.iter() {
        findings.extend(foreign(ground, principal));
    }
}

fn domains<'m>(ground: &Ground<'m>) -> BTreeSet<&'m str> {
    let of_clusters = ground.clusters.iter().map(|cluster| cluster.trust_domain.as_str());
    of_clusters.chain([ground.mesh.trust_domain().as_str()]).collect()
}

/// A trust domain that the mesh does not have.
fn foreign_domain(ground: &Ground<'_>, domain: &Located<Pattern>) -> Option<Finding> {
    let known = domains(ground);
    if known.iter().any(|known| domain.value.matches(known)) {
        return None;
    }
    Some(Finding {
        at: domain.at.clone(),
        code: Code::ForeignPrincipal,
        message: format!("no certificate of the mesh is of trust domain {:?}", domain.value.to_string()),
        hint: format!("the mesh has {}", Vec::from_iter(known).join(", ")),
    })
}

/// A principal outside every trust domain of the mesh.
fn foreign(ground: &Ground<'_>, principal: &Located<Pattern>) -> Option<Finding> {
    let homes: Vec<String> = domains(ground).iter().map(|domain| format!("{domain}/ns/")).collect();
    let possible = |home: &String| match &principal.value {
        Pattern::Any | Pattern::Suffix(_) => true,
        Pattern::Exact(text) => text.starts_with(home),
        Pattern::Prefix(text) => text.starts_with(home) || home.starts_with(text.as_str()),
    };
    if homes.iter().any(possible) {
        return None;
    }
    let text = principal.value.to_string();
    let hint = match text.strip_prefix("spiffe://") {
        Some(rest) => format!("principals are written without the scheme: {rest}"),
        None => format!("identities of this mesh begin with {}", homes.join(" or ")),
    };
    Some(Finding {
        at: principal.at.clone(),
        code: Code::ForeignPrincipal,
        message: format!("no certificate of the mesh carries {text:?}"),
        hint,
    })
}

/// Rules that never decide, since one before them by name takes in all that they do.
fn shadowed(ground: &Ground<'_>, rules: &[Rule], findings: &mut Vec<Finding>) {
    let mut compiled: Vec<(&Rule, plan::Rule)> = rules
        .iter()
        .map(|rule| (rule, scopes::rule(ground, rule)))
        .filter(|(_, rule)| can_match(rule))
        .collect();
    compiled.sort_by(|(one, _), (two, _)| one.name.value.cmp(&two.name.value));
    let index = Index::new(&compiled.iter().map(|(_, rule)| rule).collect::<Vec<_>>(), ground.clusters.len());
    for (number, (rule, inner)) in compiled.iter().enumerate() {
        let probe = Probe::covering(inner);
        let mut lists = Vec::new();
        index.each(&probe, &mut |list| lists.push(list));
        let before = lists.into_iter().flatten().filter(|other| **other < number);
        let covering = before
            .filter_map(|other| compiled.get(*other))
            .find(|(other, outer)| other.name.value != rule.name.value && inner.is_within(outer));
        if let Some((other, _)) = covering {
            let name = rule.name.value.as_str();
            findings.push(Finding {
                at: rule.name.at.clone(),
                code: Code::Shadowed,
                message: format!(
                    "rule {name:?} never decides: {:?} takes in all that it does",
                    other.name.value.as_str()
                ),
                hint: format!(
                    "the other is in line {}; leave {name} out, or give it a name that comes first to see it in reasons",
                    other.name.at.line
                ),
            });
        }
    }
}

/// Whether every source of a rule has a cluster: what has none is a finding of its own.
fn can_match(rule: &plan::Rule) -> bool {
    !rule.from.is_empty() && rule.from.iter().all(|from| from.clusters.last().is_some())
}

/// Allow rules all of whose requests some deny rule refuses.
fn emptied(
    ground: &Ground<'_>,
    said: &Said<'_>,
    policy: &Policy,
    access: &Access,
    findings: &mut Vec<Finding>,
) {
    let allow = access.allow.as_deref().unwrap_or_default();
    // Of every scope of the policy: a rule of another scope's policy leaves the others their use.
    let refusing = said.policies.iter().filter(|other| {
        let acts = other.mode == Mode::Enforce || policy.mode == Mode::Shadow;
        let scope = other.access.as_ref().is_some_and(|other| {
            !other.deny.is_empty() && (other.scope == Judged::All || access.scope == Judged::Remote)
        });
        let all = || {
            policy
                .services
                .iter()
                .all(|inner| other.services.iter().any(|outer| scopes::covers(&outer.value, &inner.value)))
        };
        scope && acts && all()
    });
    let denying: Vec<(&Policy, &Rule, plan::Rule)> = if allow.is_empty() {
        Vec::new()
    } else {
        refusing
            .flat_map(|other| {
                other.access.iter().flat_map(move |access| access.deny.iter().map(move |rule| (*other, rule)))
            })
            .map(|(other, rule)| (other, rule, scopes::rule(ground, rule)))
            .collect()
    };
    let mut found = Vec::new();
    for rule in allow {
        let inner = scopes::rule(ground, rule);
        if !can_match(&inner) {
            continue;
        }
        if let Some((other, deny, _)) = denying.iter().find(|(.., outer)| inner.is_within(outer)) {
            let of = format!("{}/{}", other.name.value, deny.name.value);
            found.push(Finding {
                at: rule.name.at.clone(),
                code: Code::Emptied,
                message: format!(
                    "rule {:?} lets no one in: {of} denies all that it takes in",
                    rule.name.value.as_str()
                ),
                hint: format!("the deny rule is at {}; deny beats allow", deny.name.at),
            });
        }
    }
    if found.len() == allow.len() && !found.is_empty() {
        findings.push(Finding {
            at: policy.name.at.clone(),
            code: Code::Emptied,
            message: format!(
                "policy {:?} lets no one in: deny rules refuse all that its allow takes in",
                policy.name.value.as_str()
            ),
            hint: "if that is meant, say allow: []".to_owned(),
        });
    }
    findings.extend(found);
}
