//! Plans that would be too large are cut: namespaces of which much is said get a plan of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::ClusterPlans;
use crate::name::Namespace;
use crate::plan::{Inbound, InboundPlan, Role, Section, Table};
use crate::rule::Scope;

/// A plan of more bytes is cut. A `WasmPlugin` holds it, and everything that watches those gets it whole.
const LARGE: usize = 256 * 1024;

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

pub(super) fn namespace_of(scope: &Scope) -> Option<&Namespace> {
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
