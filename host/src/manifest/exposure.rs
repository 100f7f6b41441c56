//! What the east-west gateways pass on: services by their SNI, and the control plane to its remotes.

use std::collections::BTreeSet;

use policy::mesh::{Cluster, Exports, GATEWAY_PORT};
use serde_json::{Value, json};

use super::ground::Ground;
use super::{ISTIO_NAMESPACE, Item, Phase, object};

/// The value of the label `istio` on its pods, by which it is selected.
pub(super) const LABEL: &str = "eastwestgateway";
/// The name that proxies and API servers of remotes ask for, and that the certificate of istiod has.
pub(super) const ISTIOD_HOST: &str = "istiod.istio-system.svc";

const API: &str = "networking.istio.io/v1";

/// The services that the gateways of a control plane's clusters pass on to, where anyone comes in by them.
///
/// A host that no service has gives no chain of filters. Those of one control plane's gateways share their hosts:
/// each passes on only to endpoints of its own network, whatever it is asked for.
pub(super) fn services(ground: &Ground<'_>, primary: &Cluster) -> Option<Item> {
    let mut gateways = ground.plane(primary).filter_map(|cluster| cluster.gateway.as_ref());
    let first = gateways.next().filter(|_| ground.is_entered(primary))?;
    let hosts: Vec<String> = match ground.mesh.installation().exports {
        Exports::All => vec!["*.local".to_owned()],
        Exports::Listed => exported(ground, primary).into_iter().collect(),
    };
    if hosts.is_empty() {
        return None;
    }
    // A gateway of the Gateway API has no target ports: its pods listen where its Service does.
    let ports: BTreeSet<u16> = if ground.mesh.installation().gateway_api {
        gateways.chain([first]).map(|gateway| gateway.port).collect()
    } else {
        BTreeSet::from([GATEWAY_PORT])
    };
    let server = |port: u16| {
        json!({
            "port": {"number": port, "name": format!("tls-{port}"), "protocol": "TLS"},
            "tls": {"mode": "AUTO_PASSTHROUGH"},
            "hosts": hosts,
        })
    };
    let servers: Vec<Value> = ports.into_iter().map(server).collect();
    let spec = json!({"selector": {"istio": LABEL}, "servers": servers});
    let gateway = object(API, "Gateway", "cross-network-gateway", ISTIO_NAMESPACE, &spec);
    Some(Item::object(Phase::Exposure, "services", gateway))
}

/// The hosts of the services that some cluster behind these gateways shows to some cluster that comes in by them.
fn exported(ground: &Ground<'_>, primary: &Cluster) -> BTreeSet<String> {
    let inside: Vec<&Cluster> = ground.plane(primary).collect();
    let networks: BTreeSet<_> = inside.iter().map(|cluster| &cluster.network).collect();
    let behind: Vec<&Cluster> =
        ground.mesh.clusters().filter(|cluster| networks.contains(&cluster.network)).collect();
    let mut hosts = BTreeSet::new();
    for (service, listing) in ground.mesh.services() {
        let runs = behind.iter().filter(|cluster| listing.clusters.contains(&cluster.name));
        let shown = |cluster: &&Cluster| {
            let comes_in = |other: &&Cluster| {
                other.network != cluster.network || !inside.iter().any(|member| member.name == other.name)
            };
            let mut others = ground.mesh.clusters().filter(comes_in);
            others.any(|other| ground.shows(cluster, service, listing, other))
        };
        if runs.into_iter().any(shown) {
            hosts.insert(service.host());
        }
    }
    hosts
}

/// Whether remotes reach the istiod of a cluster through its gateway.
pub(super) fn exposes_istiod(ground: &Ground<'_>, cluster: &Cluster) -> bool {
    cluster.gateway.is_some()
        && cluster.whereabouts.istiod.is_none()
        && ground.plane(cluster).any(|member| member.name != cluster.name)
}

/// What lets remotes reach the istiod of a cluster.
pub(super) fn istiod(ground: &Ground<'_>, primary: &Cluster) -> Vec<Item> {
    let item = |object| Item::object(Phase::Exposure, "istiod", object);
    if ground.plane(primary).count() < 2 {
        return Vec::new();
    }
    if primary.whereabouts.istiod.is_some() {
        return vec![item(own_service())];
    }
    if !exposes_istiod(ground, primary) || ground.mesh.installation().gateway_api {
        return Vec::new();
    }
    let server = |port: u16, name: &str| {
        json!({
            "port": {"number": port, "name": name, "protocol": "TLS"},
            "tls": {"mode": "PASSTHROUGH"},
            "hosts": ["*"],
        })
    };
    let gateway = json!({
        "selector": {"istio": LABEL},
        "servers": [server(15012, "tls-istiod"), server(15017, "tls-webhook")],
    });
    let route = |port: u16, to: u16| {
        json!({
            "match": [{"port": port, "sniHosts": ["*"]}],
            "route": [{"destination": {"host": format!("{ISTIOD_HOST}.cluster.local"), "port": {"number": to}}}],
        })
    };
    let service = json!({
        "hosts": ["*"],
        "gateways": ["istiod-gateway"],
        "tls": [route(15012, 15012), route(15017, 443)],
    });
    vec![
        item(object(API, "Gateway", "istiod-gateway", ISTIO_NAMESPACE, &gateway)),
        item(object(API, "VirtualService", "istiod-vs", ISTIO_NAMESPACE, &service)),
    ]
}

/// A Service of its own for an istiod that no gateway leads to: pods change their addresses, and this does not.
fn own_service() -> Value {
    let spec = json!({
        "type": "LoadBalancer",
        "selector": {"app": "istiod", "istio": "pilot"},
        "ports": [
            {"name": "tls-istiod", "port": 15012, "targetPort": 15012, "protocol": "TCP"},
            {"name": "tls-webhook", "port": 15017, "targetPort": 15017, "protocol": "TCP"},
        ],
    });
    object("v1", "Service", "istiod-remotes", ISTIO_NAMESPACE, &spec)
}
