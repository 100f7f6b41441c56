//! What can be read and cannot be meant: references that lead nowhere, rules that nothing can match.

mod exposure;
mod routing;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use super::ground::Ground;
use super::scopes::Said;
use crate::document::Located;
use crate::finding::{Code, Finding, Place};
use crate::mesh::{Cluster, Mesh};
use crate::pattern::Pattern;
use crate::rule::{Policy, Scope};

pub(super) fn policies(ground: &Ground<'_>, said: &Said<'_>, findings: &mut Vec<Finding>) {
    let known = Known::of(ground);
    let mut seen: BTreeMap<_, &Place> = BTreeMap::new();
    for policy in &said.policies {
        let (name, at) = (&policy.name.value, &policy.name.at);
        let first = *seen.entry((&policy.namespace, name)).or_insert(at);
        if first != at {
            findings.push(twice("policy", name.as_str(), at, first));
        }
        services(ground.mesh, policy, findings);
        rules::check(ground, &known, said, policy, findings);
        exposure::check(ground, &known, policy, findings);
        routing::check(ground, policy, findings);
    }
    routing::together(ground, said, findings);
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

/// What patterns over clusters can take in.
struct Known {
    clusters: Names,
    networks: Names,
    regions: Names,
}

impl Known {
    fn of(ground: &Ground<'_>) -> Self {
        Self {
            clusters: Names::of("cluster", ground, |cluster| Some(cluster.name.to_string())),
            networks: Names::of("network", ground, |cluster| Some(cluster.network.to_string())),
            regions: Names::of("region", ground, |cluster| cluster.region.as_ref().map(ToString::to_string)),
        }
    }
}

/// What the clusters of a mesh have of one kind, by which patterns are checked.
struct Names {
    what: &'static str,
    names: BTreeSet<String>,
}

impl Names {
    fn of(what: &'static str, ground: &Ground<'_>, name: impl Fn(&Cluster) -> Option<String>) -> Self {
        Self { what, names: ground.clusters.iter().filter_map(|cluster| name(cluster)).collect() }
    }

    /// A pattern that takes in none of them.
    fn unmet(&self, pattern: &Located<Pattern>) -> Option<Finding> {
        let known = match &pattern.value {
            Pattern::Exact(name) => self.names.contains(name),
            other @ (Pattern::Any | Pattern::Prefix(_) | Pattern::Suffix(_)) => {
                self.names.iter().any(|name| other.matches(name))
            }
        };
        if known {
            return None;
        }
        let what = self.what;
        let (code, message) = match &pattern.value {
            Pattern::Exact(name) => (Code::NotInMesh, format!("{what} {name:?} is not in the mesh")),
            other @ (Pattern::Any | Pattern::Prefix(_) | Pattern::Suffix(_)) => {
                (Code::NeverMatches, format!("no {what} of the mesh is called {:?}", other.to_string()))
            }
        };
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let hint = if names.is_empty() {
            format!("the mesh has none: say {what} at its clusters")
        } else {
            format!("the mesh has {}", names.join(", "))
        };
        Some(Finding { at: pattern.at.clone(), code, message, hint })
    }
}
