//! Services: that a name means the same everywhere, and that something stands behind it.

use std::collections::BTreeSet;

use policy::name::Service;
use serde_json::Value;

use super::{Failure, Found, Inventory, Kind, Object, Skip, Visit};

pub(super) fn there(visit: &Visit<'_>) -> Found {
    let (here, known) = (&visit.cluster.name, visit.known());
    let is_answered_for = visit.mesh().installation().dns_proxy;
    let mut failures = Vec::new();
    for (service, listing) in visit.mesh().services() {
        // The names of other control planes come with a ServiceEntry.
        let is_named = is_answered_for || !listing.clusters.iter().any(|cluster| known.contains(cluster));
        let is_needed = listing.clusters.contains(here) || !is_named;
        if !is_needed || find(visit.inventory, service)?.is_some() {
            continue;
        }
        let (name, namespace) = (service.name.as_str(), &service.namespace);
        failures.push(if listing.clusters.contains(here) {
            Failure::error(
                format!("no Service {namespace}/{name}, and mesh.yaml says that it runs here"),
                "make the Service; or leave the cluster out of the service's `clusters` in mesh.yaml",
            )
        } else {
            Failure::warning(
                format!("no Service {namespace}/{name}: its name does not resolve here, so nobody here can call it"),
                "make the namespace and the Service here too, without workloads; Istio's DNS proxy needs neither",
            )
        });
    }
    Ok(failures)
}

pub(super) fn same(visit: &Visit<'_>) -> Found {
    let mut failures = Vec::new();
    for (service, listing) in visit.mesh().services() {
        let Some(own) = find(visit.inventory, service)? else { continue };
        let own = ports(own);
        if !own.contains(&listing.port) {
            failures.push(Failure::error(
                format!(
                    "Service {}/{} has no port {}, which mesh.yaml says",
                    service.namespace, service.name, listing.port
                ),
                "make them the same: routes and exposure are made for the port of mesh.yaml",
            ));
        }
        for other in visit.others().filter(|other| other.name > visit.cluster.name) {
            let there = visit.other(&other.name).and_then(|inventory| find(inventory, service).ok()?);
            let Some(theirs) = there.map(ports).filter(|theirs| *theirs != own) else { continue };
            failures.push(Failure::error(
                format!(
                    "Service {}/{} has the ports {} here and {} in {}",
                    service.namespace,
                    service.name,
                    listed(&own),
                    listed(&theirs),
                    other.name
                ),
                "a Service is one service in all clusters of a mesh: give it the same ports everywhere",
            ));
        }
    }
    Ok(failures)
}

pub(super) fn endpoints(visit: &Visit<'_>) -> Found {
    let here = &visit.cluster.name;
    let mut failures = Vec::new();
    for (service, listing) in visit.mesh().services() {
        let ready = ready_endpoints(visit, service.namespace.as_str(), service.name.as_str())?;
        let (name, namespace) = (service.name.as_str(), &service.namespace);
        match (listing.clusters.contains(here), ready) {
            (true, 0) => failures.push(Failure::error(
                format!("nothing is ready behind Service {namespace}/{name}, and mesh.yaml says that it runs here"),
                format!("kubectl -n {namespace} get pods; a boundary or a pin to this cluster leaves the service without endpoint"),
            )),
            (false, 1..) => failures.push(Failure::warning(
                format!("{ready} endpoints of {namespace}/{name} run here, and mesh.yaml says that none does"),
                "boundaries and pins are checked against mesh.yaml: add the cluster to the service's `clusters`",
            )),
            (true, 1..) | (false, 0) => {}
        }
    }
    Ok(failures)
}

/// How many endpoints of a Service are ready.
pub(super) fn ready_endpoints(visit: &Visit<'_>, namespace: &str, name: &str) -> Result<usize, Skip> {
    let own = |slice: &&Object| {
        slice.namespace() == namespace && slice.label("kubernetes.io/service-name") == Some(name)
    };
    let slices = visit.of(Kind::EndpointSlice)?.iter().filter(own);
    // What is not said counts as ready (discovery/v1).
    let ready =
        |endpoint: &&Value| endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
    Ok(slices.flat_map(|slice| slice.list("/endpoints")).filter(ready).count())
}

fn find<'i>(inventory: &'i Inventory, service: &Service) -> Result<Option<&'i Object>, Skip> {
    let named = |object: &&Object| {
        object.name() == service.name.as_str() && object.namespace() == service.namespace.as_str()
    };
    Ok(inventory.of(Kind::Service)?.iter().find(named))
}

fn ports(service: &Object) -> BTreeSet<u16> {
    let ports = service.list("/spec/ports").iter();
    ports.filter_map(|port| u16::try_from(port.get("port")?.as_u64()?).ok()).collect()
}

fn listed(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
