//! The decisions, one for each place a request passes. Total, without clock or memory of earlier requests.
//!
//! | what is said of the workload | what is known of the request | verdict |
//! |---|---|---|
//! | nothing | anything | allow, `no-policy` |
//! | a boundary | source not verified | deny, `POLICY/source-unverified` |
//! | a boundary | source outside it | deny, `POLICY/boundary` |
//! | access | source not known as well as `source:` demands | deny, `POLICY/source-unverified` |
//! | access, no `scope: All` | source is this cluster | the section is passed over |
//! | access | a deny rule holds, in any policy | deny, `POLICY/RULE` |
//! | access, some `allow` | an allow rule holds, in any policy | allow, `POLICY/RULE` |
//! | access, some `allow` | no allow rule holds | deny, `POLICY/no-rule-matched` |
//! | access, no `allow` | no deny rule holds | allow, `not-denied` |
//! | access that names a service, where `mesh.yaml` does not list the service | | as if its `allow` were empty |
//! | every section passed over | | allow, `same-cluster` |
//! | a boundary and no access | source inside it | allow, `not-denied` |
//!
//! Boundaries come before access. Where several policies give a reason, it is that of the first by namespace and
//! name, and of its first rule by name; whether one allows or denies never hangs on that.

use std::net::IpAddr;
use std::sync::Arc;

use crate::name::{Identity, Service};
use crate::plan::{Access, Guard, Plan, Rule};
use crate::rule::{Boundary, Judged, Scope};
use crate::source::Source;
use crate::verdict::{AllowedBy, DeniedBy, Verdict};

/// What a destination's sidecar knows of a request.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'r> {
    /// The cluster it comes from.
    pub source: Source<'r>,
    /// The identity in the peer's certificate.
    pub identity: Option<&'r Identity>,
    /// The workload's port.
    pub port: u16,
    /// The HTTP method.
    pub method: &'r str,
    /// The path as Envoy has normalised it, with or without its query.
    pub path: &'r str,
}

/// What a source's sidecar decides of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure<'p> {
    /// Whether it may start.
    pub verdict: Verdict<'p>,
    /// What its route must stay within.
    pub within: Boundary,
}

/// Judges a request where it starts.
pub fn outbound<'p>(plan: &'p Plan, service: &Service) -> Departure<'p> {
    let Some(outbound) = narrowest(&plan.outbound, service) else {
        return Departure { verdict: Verdict::Allow(AllowedBy::NoPolicy), within: Boundary::Mesh };
    };
    let verdict = if outbound.open {
        Verdict::Allow(AllowedBy::NotDenied)
    } else {
        Verdict::Deny(DeniedBy::Boundary { policy: &outbound.policy })
    };
    Departure { verdict, within: outbound.within }
}

/// Judges a connection at the east-west gateway: whether the service is shown to the network that it comes from.
pub fn gateway<'p>(plan: &'p Plan, service: &Service, source: Option<IpAddr>) -> Verdict<'p> {
    let Some(exposures) = narrowest(&plan.exposure, service) else {
        return Verdict::Allow(AllowedBy::NoPolicy);
    };
    let range = source.and_then(|address| plan.ranges.iter().find(|range| range.cidr.contains(address)));
    let hidden = exposures
        .iter()
        .find(|exposure| !range.is_some_and(|range| exposure.networks.contains(&range.network)));
    match hidden {
        Some(exposure) => Verdict::Deny(DeniedBy::NotExposed { policy: &exposure.policy }),
        None => Verdict::Allow(AllowedBy::NotDenied),
    }
}

/// Judges a request where its mTLS ends.
pub fn inbound<'p>(plan: &Plan, guard: &'p Guard, arrival: &Arrival<'_>) -> Verdict<'p> {
    if guard.is_empty() {
        return Verdict::Allow(AllowedBy::NoPolicy);
    }
    for within in &guard.within {
        let policy = within.policy.as_str();
        match arrival.source {
            Source::Verified(cluster) if within.clusters.contains(cluster) => {}
            Source::Verified(_) => return Verdict::Deny(DeniedBy::Boundary { policy }),
            Source::Claimed(_) | Source::Unknown => {
                return Verdict::Deny(DeniedBy::SourceUnverified { policy });
            }
        }
    }
    access(plan, &guard.access, arrival)
}

fn access<'p>(plan: &Plan, sections: &'p [Arc<Access>], arrival: &Arrival<'_>) -> Verdict<'p> {
    let judged = |section: &&Arc<Access>| {
        let source = arrival.source.cluster(section.source);
        section.scope == Judged::All || source != Some(&plan.cluster)
    };
    let mut allowed = None;
    let mut unmatched = None;
    let mut any = false;
    for section in sections.iter().filter(judged) {
        any = true;
        let policy = section.policy.as_str();
        if arrival.source.cluster(section.source).is_none() {
            return Verdict::Deny(DeniedBy::SourceUnverified { policy });
        }
        if let Some(rule) = section.deny.iter().find(|rule| holds(rule, arrival)) {
            return Verdict::Deny(DeniedBy::Rule { policy, rule: &rule.name });
        }
        let Some(allow) = &section.allow else { continue };
        match allow.iter().find(|rule| holds(rule, arrival)) {
            Some(rule) => {
                allowed.get_or_insert(AllowedBy::Rule { policy, rule: &rule.name });
            }
            None => {
                unmatched.get_or_insert(DeniedBy::NoRuleMatched { policy });
            }
        }
    }
    match (allowed, unmatched) {
        (Some(by), _) => Verdict::Allow(by),
        (None, Some(by)) => Verdict::Deny(by),
        (None, None) if any || sections.is_empty() => Verdict::Allow(AllowedBy::NotDenied),
        (None, None) => Verdict::Allow(AllowedBy::SameCluster),
    }
}

/// Whether a rule takes in a request whose source is known as well as its policy demands.
fn holds(rule: &Rule, arrival: &Arrival<'_>) -> bool {
    let path = arrival.path.split(['?', '#']).next().unwrap_or_default();
    let from = rule.from.iter().any(|from| {
        arrival.source.named().is_some_and(|cluster| from.clusters.contains(cluster))
            && (from.namespaces.is_empty()
                || arrival.identity.is_some_and(|identity| {
                    from.namespaces.iter().any(|pattern| pattern.matches(identity.namespace.as_str()))
                }))
            && (from.principals.is_empty()
                || arrival.identity.is_some_and(|identity| {
                    let principal = identity.principal();
                    from.principals.iter().any(|pattern| pattern.matches(&principal))
                }))
    });
    from && (rule.to.is_empty()
        || rule.to.iter().any(|to| {
            (to.ports.is_empty() || to.ports.contains(&arrival.port))
                && (to.methods.is_empty() || to.methods.iter().any(|pattern| pattern.matches(arrival.method)))
                && (to.paths.is_empty() || to.paths.iter().any(|pattern| pattern.matches(path)))
        }))
}

/// What the plan says of a service: under its own name, else its namespace's, else the mesh's. Each narrower
/// entry already holds what the wider ones say.
fn narrowest<'p, T>(entries: &'p std::collections::BTreeMap<Scope, T>, service: &Service) -> Option<&'p T> {
    if entries.is_empty() {
        return None;
    }
    entries
        .get(&Scope::Service(service.clone()))
        .or_else(|| entries.get(&Scope::Namespace(service.namespace.clone())))
        .or_else(|| entries.get(&Scope::Mesh))
}
