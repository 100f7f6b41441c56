//! Networks: who says which one it is on, and whose pods have which addresses.

use std::collections::BTreeSet;

use policy::cidr::Cidr;
use policy::mesh::{Cluster, ControlPlane};
use serde_json::Value;

use super::{Failure, Found, Inventory, Kind, Object, Skip, Visit};

/// The label of a network, on Istio's namespace, on pods and on the Service of a gateway.
pub(super) const NETWORK: &str = "topology.istio.io/network";

/// Whether requests have to cross networks in this mesh.
pub(super) fn are_several(visit: &Visit<'_>) -> bool {
    let networks: BTreeSet<_> = visit.mesh().clusters().map(|cluster| &cluster.network).collect();
    networks.len() > 1
}

pub(super) fn label(visit: &Visit<'_>) -> Found {
    let namespace = root(visit)?;
    let wanted = visit.cluster.network.as_str();
    let message = match namespace.label(NETWORK) {
        Some(found) if found == wanted => return Ok(Vec::new()),
        Some(found) => {
            format!("namespace {} says network {found:?}, and mesh.yaml says {wanted:?}", namespace.name())
        }
        None if are_several(visit) => {
            format!(
                "namespace {} says no network: its endpoints count as reachable from everywhere",
                namespace.name()
            )
        }
        None => return Ok(Vec::new()),
    };
    let hint = format!("kubectl label namespace {} {NETWORK}={wanted} --overwrite", namespace.name());
    Ok(vec![Failure::error(message, hint)])
}

pub(super) fn led(visit: &Visit<'_>) -> Found {
    const KEY: &str = "topology.istio.io/controlPlaneClusters";
    let ControlPlane::RemoteOf(primary) = &visit.cluster.control_plane else {
        return Err(Skip::idle("it leads itself"));
    };
    let namespace = root(visit)?;
    let said = namespace.annotation(KEY).unwrap_or_default();
    let leads = said.split(',').map(str::trim).any(|one| one == "*" || one == primary.as_str());
    let failure = || {
        Failure::error(
            format!("namespace {} does not let {primary} lead: {KEY} is {said:?}", namespace.name()),
            format!("kubectl annotate namespace {} {KEY}={primary} --overwrite", namespace.name()),
        )
    };
    Ok((!leads).then(failure).into_iter().collect())
}

fn root<'v>(visit: &Visit<'v>) -> Result<&'v Object, Skip> {
    let name = visit.root();
    let mut namespaces = visit.of(Kind::Namespace)?.iter();
    namespaces
        .find(|namespace| namespace.name() == name)
        .ok_or_else(|| Skip::unseen(format!("there is no namespace {name}")))
}

pub(super) fn pods(visit: &Visit<'_>) -> Found {
    let own = addresses(visit.inventory)?;
    let mut failures = Vec::new();
    if let Some(said) = visit.cluster.pod_cidr {
        for (node, outside) in own.iter().filter(|(_, cidr)| !said.contains(cidr.address(0))) {
            failures.push(Failure::error(
                format!("pods on node {node} have addresses of {outside}, and mesh.yaml says podCidr {said}"),
                "gateways tell a network by the addresses of its pods: say in mesh.yaml all that pods have",
            ));
        }
    }
    let neighbours = visit.others().filter(|other| other.network == visit.cluster.network);
    for (other, theirs) in
        neighbours.filter_map(|other: &Cluster| Some((other, addresses(visit.other(&other.name)?).ok()?)))
    {
        let clash = own.iter().find_map(|(node, one)| {
            theirs.iter().find(|(_, two)| one.overlaps(*two)).map(|(far, two)| (node, one, far, two))
        });
        if let Some((node, one, far, two)) = clash {
            failures.push(Failure::error(
                format!(
                    "pods on node {node} have addresses of {one}, and those on node {far} of {} of {two}, on one network",
                    other.name
                ),
                "an address that two pods have leads to one of them: give the clusters pod CIDRs of their own, or \
                 networks of their own with a gateway for each",
            ));
        }
    }
    Ok(failures)
}

/// The pod addresses of each node.
fn addresses(inventory: &Inventory) -> Result<Vec<(&str, Cidr)>, Skip> {
    let mut found = Vec::new();
    for node in inventory.of(Kind::Node)? {
        let texts =
            node.list("/spec/podCIDRs").iter().filter_map(Value::as_str).chain(node.text("/spec/podCIDR"));
        let cidrs: BTreeSet<&str> = texts.collect();
        found.extend(cidrs.into_iter().filter_map(|text| Some((node.name(), text.parse().ok()?))));
    }
    if found.is_empty() {
        return Err(Skip::unseen("no node says the addresses of its pods"));
    }
    Ok(found)
}
