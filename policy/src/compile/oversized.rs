//! Parts of plans that no API server would store.

use std::collections::BTreeMap;

use super::cut::{Sizes, namespace_of};
use super::scopes::Said;
use crate::finding::{Code, Finding};
use crate::mesh::Cluster;
use crate::name::{ClusterName, Namespace};
use crate::plan::Role;
use crate::rule::Scope;

/// A part of more bytes no API server would store: etcd takes 1.5 MiB, and the object is more than the plan.
const TOO_LARGE: usize = 1024 * 1024;

/// A part of some cluster's plans that no API server would store.
pub(super) struct Oversized {
    bytes: usize,
    cluster: ClusterName,
}

/// Such parts, by what they are part of: the largest, and in how many clusters there is one.
pub(super) type TooLarge = BTreeMap<(Role, Option<Namespace>), (usize, Oversized)>;

/// Notes the parts of a cluster's plans that are too large.
pub(super) fn note(sizes: Sizes, cluster: &Cluster, found: &mut TooLarge) {
    for (part, bytes) in sizes.into_iter().filter(|(_, bytes)| *bytes > TOO_LARGE) {
        let oversized = || Oversized { bytes, cluster: cluster.name.clone() };
        let (count, largest) = found.entry(part).or_insert_with(|| (0, oversized()));
        *count += 1;
        if bytes > largest.bytes {
            *largest = oversized();
        }
    }
}

/// A finding for each, at the first policy that has a share in it.
pub(super) fn findings(found: TooLarge, said: &Said<'_>) -> Vec<Finding> {
    let finding = |((role, namespace), (count, largest)): ((Role, Option<Namespace>), (usize, Oversized))| {
        let shares = |scope: &Scope| namespace.is_none() || namespace_of(scope) == namespace.as_ref();
        let mut policies = said.policies.iter();
        let first = policies.find(|policy| policy.services.iter().any(|scope| shares(&scope.value)))?;
        let of =
            namespace.as_ref().map_or_else(String::new, |namespace| format!(" of namespace {namespace}"));
        let others =
            if count > 1 { format!(" and as much in {} other clusters", count - 1) } else { String::new() };
        Some(Finding {
            at: first.name.at.clone(),
            code: Code::Oversized,
            message: format!(
                "the {} plan{of} takes {} KiB in {}{others}: an API server stores no more than {}",
                role.as_str(),
                largest.bytes / 1024,
                largest.cluster,
                TOO_LARGE / 1024
            ),
            hint: "say the same with fewer rules: patterns, or one rule with several values".to_owned(),
        })
    };
    found.into_iter().filter_map(finding).collect()
}
