//! Services that a cluster calls and does not run, so that its own DNS knows their names.

use std::collections::BTreeSet;

use policy::mesh::{Cluster, Listing, Protocol, ServicePort};
use policy::name::{Namespace, Service};
use serde_json::{Value, json};

use super::ground::{Ground, port_name};
use super::{Item, Phase, object};

/// A namespace and a Service without endpoints for each service that the control plane knows from other clusters. Where
/// sidecars answer for names, none are needed.
pub(super) fn stubs(ground: &Ground<'_>, cluster: &Cluster) -> Vec<Item> {
    if ground.mesh.installation().dns_proxy {
        return Vec::new();
    }
    let elsewhere = |listing: &Listing| {
        let running = ground.mesh.clusters().filter(|other| listing.clusters.contains(&other.name));
        running.into_iter().any(|other| ground.discovers(cluster, other))
            && !listing.clusters.contains(&cluster.name)
    };
    let missing: Vec<(&Service, &Listing)> =
        ground.mesh.services().filter(|(_, listing)| elsewhere(listing)).collect();
    let namespaces: BTreeSet<&Namespace> = missing.iter().map(|(service, _)| &service.namespace).collect();
    let objects = namespaces.into_iter().map(namespace);
    let objects = objects.chain(missing.iter().map(|(service, listing)| stub(service, listing)));
    objects.map(|object| Item::object(Phase::Names, "services", object)).collect()
}

/// Others put their things into it, so it is not labelled as ours to be taken away again. But something of it is ours:
/// server-side apply has no first time for an object of which nothing is.
fn namespace(namespace: &Namespace) -> Value {
    let annotations = json!({"isthmus.dev/names": "services of other clusters"});
    let metadata = json!({"name": namespace.as_str(), "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

/// It selects nothing: its endpoints are those of the other clusters, which istiod adds.
fn stub(service: &Service, listing: &Listing) -> Value {
    let port = |port: ServicePort| {
        let mut fields = json!({"name": port_name(port), "port": port.number, "protocol": "TCP"});
        if let (Some(protocol), Some(fields)) = (port.protocol.map(Protocol::as_str), fields.as_object_mut())
        {
            fields.insert("appProtocol".to_owned(), json!(protocol));
        }
        fields
    };
    let ports: Vec<Value> = listing.ports().map(port).collect();
    object("v1", "Service", service.name.as_str(), service.namespace.as_str(), &json!({"ports": ports}))
}
