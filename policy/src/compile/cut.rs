//! Plans that would be too large are cut: namespaces of which much is said get a plan of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::ClusterPlans;
use super::scopes::Said;
use crate::finding::{Code, Finding};
use crate::mesh::Cluster;
use crate::name::{ClusterName, Namespace};
use crate::plan::{Inbound, InboundPlan, Role, Section, Table};
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

/// How many bytes each part of a cluster's plans takes, as JSON.
pub(super) type Sizes = BTreeMap<(Role, Option<Namespace>), usize>;

/// What a plan says of one namespace, or of none.
#[derive(Default)]
struct Share {
    enforced: Vec<(Scope, Inbound)>,
    shadow: Vec<(Scope, Inbound)>,
    bytes: usize,
}

/// Cuts what judges arrivals, if it is large: the namespaces of which most is said are set apart, until what is
/// left is small enough. `lengths` are those of the inbound plan's sections.
pub(super) fn cut(mut plans: ClusterPlans, lengths: &[usize]) -> (ClusterPlans, Sizes) {
    let mut sizes = Sizes::new();
    sizes.insert((Role::Outbound, None), length(&plans.outbound));
    sizes.insert((Role::Gateway, None), length(&plans.gateway));
    let entries = plans.inbound.enforced.len() + plans.inbound.shadow.len();
    // Nothing near the limit need be measured, and nearly every plan is nowhere near it.
    if lengths.iter().sum::<usize>() + entries * 128 < LARGE / 2 {
        return (plans, sizes);
    }
    let whole = plans.inbound;
    let frame =
        InboundPlan { sections: Vec::new(), enforced: Table::default(), shadow: Table::default(), ..whole };
    let fixed = length(&frame);
    let mut shares = shares(whole.enforced, whole.shadow);
    let measured =
        |number: &u32| usize::try_from(*number).ok().and_then(|number| lengths.get(number)).copied();
    for share in shares.values_mut() {
        share.bytes += used(&share.enforced, &share.shadow).iter().filter_map(measured).sum::<usize>();
    }
    // What is said of the whole mesh is said in each part, since some workload of each may need it.
    let everywhere = shares.remove(&None).unwrap_or_default();
    let mut order: Vec<(usize, Option<Namespace>)> =
        shares.iter().map(|(namespace, share)| (share.bytes, namespace.clone())).collect();
    order.sort_by(|(one, first), (two, second)| two.cmp(one).then_with(|| first.cmp(second)));
    let mut left = fixed + everywhere.bytes + order.iter().map(|(bytes, _)| bytes).sum::<usize>();
    let mut apart = Vec::new();
    for (bytes, namespace) in order {
        if left <= LARGE {
            break;
        }
        left -= bytes;
        if let (Some(name), Some(share)) = (&namespace, shares.remove(&namespace)) {
            sizes.insert((Role::Inbound, namespace.clone()), fixed + everywhere.bytes + share.bytes);
            let part = part(&frame, &whole.sections, [&everywhere, &share].into_iter(), Vec::new());
            plans.apart.insert(name.clone(), part);
            apart.push(name.clone());
        }
    }
    sizes.insert((Role::Inbound, None), left);
    let shares = shares.values().chain([&everywhere]);
    plans.inbound = part(&frame, &whole.sections, shares, apart);
    (plans, sizes)
}

fn namespace_of(scope: &Scope) -> Option<&Namespace> {
    match scope {
        Scope::Service(service) => Some(&service.namespace),
        Scope::Namespace(namespace) => Some(namespace),
        Scope::Mesh => None,
    }
}

fn shares(enforced: Table<Inbound>, shadow: Table<Inbound>) -> BTreeMap<Option<Namespace>, Share> {
    let mut shares: BTreeMap<Option<Namespace>, Share> = BTreeMap::new();
    for (is_enforced, table) in [(true, enforced), (false, shadow)] {
        for (scope, entry) in table {
            let share = shares.entry(namespace_of(&scope).cloned()).or_default();
            share.bytes += length(&(&scope, &entry));
            let entries = if is_enforced { &mut share.enforced } else { &mut share.shadow };
            entries.push((scope, entry));
        }
    }
    shares
}

/// The sections that entries name.
fn used(enforced: &[(Scope, Inbound)], shadow: &[(Scope, Inbound)]) -> BTreeSet<u32> {
    enforced.iter().chain(shadow).flat_map(|(_, entry)| &entry.sections).copied().collect()
}

/// A plan of some shares of another.
fn part<'s>(
    frame: &InboundPlan,
    sections: &[Arc<Section>],
    shares: impl Iterator<Item = &'s Share> + Clone,
    apart: Vec<Namespace>,
) -> InboundPlan {
    let used: BTreeSet<u32> = shares.clone().flat_map(|share| used(&share.enforced, &share.shadow)).collect();
    let used: Vec<u32> = used.into_iter().collect();
    let place = |section: &u32| used.binary_search(section).ok().and_then(|place| u32::try_from(place).ok());
    let renumbered = |(scope, entry): &(Scope, Inbound)| {
        let sections = entry.sections.iter().filter_map(place).collect();
        (scope.clone(), Inbound { sections, ..entry.clone() })
    };
    let section = |number: &u32| sections.get(usize::try_from(*number).ok()?).map(Arc::clone);
    InboundPlan {
        sections: used.iter().filter_map(section).collect(),
        enforced: shares.clone().flat_map(|share| &share.enforced).map(renumbered).collect(),
        shadow: shares.flat_map(|share| &share.shadow).map(renumbered).collect(),
        apart: apart.into(),
        ..frame.clone()
    }
}

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
pub(super) fn oversized(found: TooLarge, said: &Said<'_>) -> Vec<Finding> {
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
