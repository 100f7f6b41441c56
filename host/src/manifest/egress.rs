//! `.global` names through a dedicated egress gateway.
//!
//! Once the endpoint of a remote gateway was put on a network `external`, which sidecars did not see and the egress gateway
//! asked for. Sidecars now see every network, so each would go straight there. Instead the sidecar knows the egress gateway
//! alone, which passes the connection on by its SNI, unopened, to gateways that only it knows.

use policy::mesh::{Cluster, GATEWAY_PORT, Installer};
use serde_json::{Value, json};

use super::ground::{Ground, Import, is_primary, name, ports_at};
use super::istio::{istio_operator, release};
use super::{Content, ISTIO_NAMESPACE, Item, Phase, object, resolution};

const NAME: &str = "istio-egressgateway";

const API: &str = "networking.istio.io/v1";

/// The egress gateway of a cluster whose services call others through it.
pub(super) fn gateway(ground: &Ground<'_>, cluster: &Cluster) -> Option<Item> {
    if !ground.names().egress || ground.imports(ground.primary(cluster)).is_empty() {
        return None;
    }
    let port = json!({"name": "tls", "port": GATEWAY_PORT, "targetPort": GATEWAY_PORT});
    Some(match ground.mesh.installation().installer {
        Installer::Istioctl => {
            let spec = json!({
                "profile": "empty",
                "components": {"egressGateways": [{
                    "name": NAME,
                    "enabled": true,
                    "label": {"app": NAME, "istio": "egressgateway"},
                    "k8s": {"service": {"type": "ClusterIP", "ports": [port]}},
                }]},
                "values": {"gateways": {"istio-egressgateway": {"injectionTemplate": "gateway"}}},
            });
            let content = Content::IstioOperator(istio_operator("egress", &spec));
            Item { phase: Phase::Gateway, file: "egress", content }
        }
        Installer::Helm => {
            let values = json!({"name": NAME, "service": {"type": "ClusterIP", "ports": [port]}});
            release(ground, ("egress", NAME, "istio/gateway"), values, Phase::Gateway)
        }
    })
}

/// The endpoint that sidecars know instead of the gateways behind it.
pub(super) fn endpoint(import: &Import<'_>) -> Value {
    json!({
        "address": format!("{NAME}.{ISTIO_NAMESPACE}.svc.cluster.local"),
        "ports": ports_at(import, GATEWAY_PORT),
        "labels": {"security.istio.io/tlsMode": "istio"},
    })
}

/// What the egress gateway of a control plane's clusters passes on, and where.
pub(super) fn routes(ground: &Ground<'_>, primary: &Cluster) -> Vec<Item> {
    let imports = ground.imports(primary);
    if !ground.names().egress || imports.is_empty() || !is_primary(primary) {
        return Vec::new();
    }
    let spec = json!({
        "selector": {"istio": "egressgateway"},
        "servers": [{
            "port": {"number": GATEWAY_PORT, "name": "tls", "protocol": "TLS"},
            "tls": {"mode": "PASSTHROUGH"},
            "hosts": ["*.local"],
        }],
    });
    let mut objects = vec![object(API, "Gateway", "isthmus-egress", ISTIO_NAMESPACE, &spec)];
    for import in imports {
        objects.push(beyond(import));
        objects.push(route(import));
    }
    objects.into_iter().map(|object| Item::object(Phase::Names, "egress", object)).collect()
}

/// The name by which the egress gateway alone knows the gateways of a service.
fn beyond_host(import: &Import<'_>) -> String {
    format!("{}.egress.global", import.service)
}

/// The gateways of a service, as something outside of the mesh: what arrives there is encrypted already.
fn beyond(import: &Import<'_>) -> Value {
    let endpoints: Vec<Value> = import
        .ways
        .iter()
        .map(|(_, gateway)| json!({"address": gateway.address, "ports": {"tls": gateway.port}}))
        .collect();
    let spec = json!({
        "hosts": [beyond_host(import)],
        "exportTo": ["."],
        "location": "MESH_EXTERNAL",
        "ports": [{"name": "tls", "number": GATEWAY_PORT, "protocol": "TLS"}],
        "resolution": resolution(import.ways.iter().map(|(_, gateway)| gateway.address.as_str())),
        "endpoints": endpoints,
    });
    object(API, "ServiceEntry", &format!("{}-egress", name(import.service)), ISTIO_NAMESPACE, &spec)
}

/// The SNI says port and service, in labels before the host: one pattern takes all ports.
fn route(import: &Import<'_>) -> Value {
    let sni = format!("*.{}", import.service.host());
    let spec = json!({
        "hosts": [sni],
        "exportTo": ["."],
        "gateways": ["isthmus-egress"],
        "tls": [{
            "match": [{"port": GATEWAY_PORT, "sniHosts": [sni]}],
            "route": [{"destination": {"host": beyond_host(import), "port": {"number": GATEWAY_PORT}}}],
        }],
    });
    object(API, "VirtualService", &format!("{}-egress", name(import.service)), ISTIO_NAMESPACE, &spec)
}
