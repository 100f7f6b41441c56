//! Services of other control planes, as `ServiceEntry` objects where they are called.
//!
//! What arrives at the gateway there must carry the SNI of the service as that cluster knows it,
//! `outbound_.PORT_._.NAME.NAMESPACE.svc.cluster.local`, or it has no chain of filters and ends. Called by its own name it
//! does by itself. For the `.global` name a `DestinationRule` of the client says the SNI; the other way, a `ServiceEntry` of
//! that name in the receiving cluster, would ask every exporter to name what each importer calls it, send through a ClusterIP
//! what the gateway now spreads over endpoints, and hide the service from policies, which know it by its own name.

use std::collections::{BTreeMap, BTreeSet};

use policy::mesh::{Cluster, ServicePort};
use policy::name::Service;
use serde_json::{Value, json};

use super::ground::{Ground, Import, global_host, name, port_name, ports_at};
use super::{ISTIO_NAMESPACE, Item, Phase, egress, object, resolution};

const API: &str = "networking.istio.io/v1";

/// What the clusters of a control plane need to call one service of others.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) service: Service,
    pub(crate) entry: Value,
    /// What says the SNI, where the service has a `.global` name.
    pub(crate) rule: Option<Value>,
}

/// The same for each service.
pub(super) fn wanted(ground: &Ground<'_>, primary: &Cluster) -> Vec<Wanted> {
    let of = |import: &Import<'_>| Wanted {
        service: import.service.clone(),
        entry: entry(ground, primary, import),
        rule: ground.mesh.global_names().map(|_| rule(ground, import)),
    };
    ground.imports(primary).iter().map(of).collect()
}

/// What the clusters of a control plane need to call the services of others.
pub(super) fn entries(ground: &Ground<'_>, primary: &Cluster) -> Vec<Item> {
    let mut items = Vec::new();
    for Wanted { entry, rule, .. } in wanted(ground, primary) {
        let objects = std::iter::once(entry).chain(rule);
        items.extend(objects.map(|object| Item::object(Phase::Names, "imports", object)));
    }
    items.extend(egress::routes(ground, primary));
    items
}

fn entry(ground: &Ground<'_>, primary: &Cluster, import: &Import<'_>) -> Value {
    let mut hosts = Vec::new();
    if ground.mesh.global_names().is_some() {
        hosts.push(global_host(import.service));
    }
    if import.own_name {
        hosts.push(import.service.host());
    }
    let ports: Vec<Value> = import.listing.ports().map(port).collect();
    let mut spec = json!({
        "hosts": hosts,
        // What defaults to outside of the mesh would be sent in plain text.
        "location": "MESH_INTERNAL",
        "ports": ports,
    });
    let (resolution, endpoints) = if ground.names().egress {
        ("DNS", vec![egress::endpoint(import)])
    } else {
        let addresses = import.ways.iter().map(|(_, gateway)| gateway.address.as_str());
        (resolution(addresses), endpoints(ground, primary, import))
    };
    if let Some(fields) = spec.as_object_mut() {
        let address = ground.book.get(import.service).map(|address| json!([address.to_string()]));
        fields.extend(address.map(|address| ("addresses".to_owned(), address)));
        fields.insert("resolution".to_owned(), json!(resolution));
        fields.insert("endpoints".to_owned(), json!(endpoints));
    }
    object(API, "ServiceEntry", &name(import.service), ISTIO_NAMESPACE, &spec)
}

fn port(port: ServicePort) -> Value {
    let mut fields = json!({"name": port_name(port), "number": port.number});
    if let (Some(protocol), Some(fields)) = (port.protocol, fields.as_object_mut()) {
        fields.insert("protocol".to_owned(), json!(protocol.as_str().to_uppercase()));
    }
    fields
}

/// The network of gateways that sidecars reach directly, and that the control plane's own gateways do not pass on to: they
/// see their own network alone, and would else lead from one mesh through this one to the next.
const ELSEWHERE: &str = "isthmus-elsewhere";

/// Every port of a service at the one port of each gateway.
fn endpoints(ground: &Ground<'_>, primary: &Cluster, import: &Import<'_>) -> Vec<Value> {
    let network = |cluster: &Cluster| {
        let is_near = ground.plane(primary).all(|member| member.network == cluster.network);
        if is_near { cluster.network.to_string() } else { ELSEWHERE.to_owned() }
    };
    let endpoint = |(cluster, gateway): &(&Cluster, &policy::mesh::Gateway)| {
        let mut labels = import.labels(cluster);
        // Without it mTLS counts as impossible there.
        labels.insert("security.istio.io/tlsMode".to_owned(), "istio".to_owned());
        let mut fields = json!({
            "address": gateway.address,
            "network": network(cluster),
            "ports": ports_at(import, gateway.port),
            "labels": labels,
        });
        if let (Some(region), Some(fields)) = (&cluster.region, fields.as_object_mut()) {
            fields.insert("locality".to_owned(), json!(region.as_str()));
        }
        fields
    };
    import.ways.iter().map(endpoint).collect()
}

/// The SNI of each port as the receiving cluster knows it, and a subset for each cluster and for each set of labels.
fn rule(ground: &Ground<'_>, import: &Import<'_>) -> Value {
    let settings = import.listing.ports().map(|port| {
        let sni = format!("outbound_.{}_._.{}", port.number, import.service.host());
        json!({"port": {"number": port.number}, "tls": {"mode": "ISTIO_MUTUAL", "sni": sni}})
    });
    let settings: Vec<Value> = settings.collect();
    let mut spec = json!({
        "host": global_host(import.service),
        "trafficPolicy": {
            "tls": {"mode": "ISTIO_MUTUAL"},
            "portLevelSettings": settings,
        },
    });
    if let Some(fields) = spec.as_object_mut().filter(|_| !ground.names().egress) {
        fields.insert("subsets".to_owned(), Value::Array(subsets(import)));
    }
    object(API, "DestinationRule", &name(import.service), ISTIO_NAMESPACE, &spec)
}

fn subsets(import: &Import<'_>) -> Vec<Value> {
    let clusters: BTreeSet<_> = import.ways.iter().map(|(cluster, _)| &cluster.name).collect();
    let mut subsets: BTreeMap<String, BTreeMap<String, String>> = import
        .listing
        .labels
        .values()
        .filter(|labels| !labels.is_empty())
        .map(|labels| (subset_name(labels.values()), labels.clone()))
        .collect();
    for cluster in clusters {
        let label = ("isthmus.dev/cluster".to_owned(), cluster.to_string());
        subsets.insert(cluster.to_string(), BTreeMap::from([label]));
    }
    subsets.into_iter().map(|(name, labels)| json!({"name": name, "labels": labels})).collect()
}

/// A DNS label made of the values of labels.
fn subset_name<'a>(values: impl Iterator<Item = &'a String>) -> String {
    let joined = values.map(String::as_str).collect::<Vec<_>>().join("-").to_lowercase();
    let label: String =
        joined.chars().map(|sign| if sign.is_ascii_alphanumeric() { sign } else { '-' }).collect();
    label.trim_matches('-').chars().take(63).collect()
}
