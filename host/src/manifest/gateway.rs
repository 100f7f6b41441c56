//! The east-west gateway: the one way into a network.

use policy::mesh::{Cluster, GATEWAY_PORT, Gateway, GatewayService, Installer};
use serde_json::{Map, Value, json};

use super::exposure::{ISTIOD_HOST, LABEL, exposes_istiod};
use super::ground::Ground;
use super::istio::{istio_operator, release};
use super::{Content, ISTIO_NAMESPACE, Item, Phase, object};

/// The gateway's name, its Service's too.
pub(super) const NAME: &str = "istio-eastwestgateway";

/// What the listener of a gateway of the Gateway API is called by where an Istio `Gateway` says what passes: it must
/// have a name, and one alone.
const NOBODY: &str = "isthmus.invalid";

/// The gateway of a cluster that has one.
pub(super) fn east_west(ground: &Ground<'_>, cluster: &Cluster) -> Vec<Item> {
    let Some(gateway) = &cluster.gateway else { return Vec::new() };
    let installation = ground.mesh.installation();
    if installation.gateway_api {
        return gateway_api(ground, cluster, gateway);
    }
    vec![match installation.installer {
        Installer::Istioctl => Item {
            phase: Phase::Gateway,
            file: "eastwest",
            content: Content::IstioOperator(operator(cluster, gateway)),
        },
        Installer::Helm => {
            release(ground, ("eastwest", NAME, "istio/gateway"), values(cluster, gateway), Phase::Gateway)
        }
    }]
}

/// The labels by which istiod finds the gateway of a network.
fn labels(cluster: &Cluster, gateway: &Gateway) -> Map<String, Value> {
    let mut labels = Map::from_iter([
        ("app".to_owned(), json!(NAME)),
        ("istio".to_owned(), json!(LABEL)),
        ("topology.istio.io/network".to_owned(), json!(cluster.network.as_str())),
    ]);
    if service_port(gateway) != GATEWAY_PORT {
        labels.insert("networking.istio.io/gatewayPort".to_owned(), json!(gateway.port.to_string()));
    }
    labels
}

/// The port of its Service. A node port is another thing: istiod looks it up.
fn service_port(gateway: &Gateway) -> u16 {
    match gateway.service {
        GatewayService::NodePort => GATEWAY_PORT,
        GatewayService::LoadBalancer | GatewayService::ExternalIp => gateway.port,
    }
}

/// The ports of its Service: for health, for services, and for the istiod and the webhook of remotes.
fn ports(gateway: &Gateway) -> Value {
    let mut tls = json!({"name": "tls", "port": service_port(gateway), "targetPort": GATEWAY_PORT});
    if gateway.service == GatewayService::NodePort
        && let Some(fields) = tls.as_object_mut()
    {
        fields.insert("nodePort".to_owned(), json!(gateway.port));
    }
    json!([
        {"name": "status-port", "port": 15021, "targetPort": 15021},
        tls,
        {"name": "tls-istiod", "port": 15012, "targetPort": 15012},
        {"name": "tls-webhook", "port": 15017, "targetPort": 15017},
    ])
}

/// How its Service gets its address; nothing for a load balancer, which is the default.
fn service(gateway: &Gateway) -> Map<String, Value> {
    match gateway.service {
        GatewayService::LoadBalancer => Map::new(),
        GatewayService::ExternalIp => Map::from_iter([
            ("type".to_owned(), json!("ClusterIP")),
            ("externalIPs".to_owned(), json!([gateway.address])),
        ]),
        GatewayService::NodePort => Map::from_iter([("type".to_owned(), json!("NodePort"))]),
    }
}

/// istiod takes the addresses of nodes for those of a gateway only where an annotation chooses among them; `{}`: all.
fn annotations(gateway: &Gateway) -> Map<String, Value> {
    match gateway.service {
        GatewayService::NodePort => {
            Map::from_iter([("traffic.istio.io/nodeSelector".to_owned(), json!("{}"))])
        }
        GatewayService::LoadBalancer | GatewayService::ExternalIp => Map::new(),
    }
}

fn operator(cluster: &Cluster, gateway: &Gateway) -> Value {
    let mut service = service(gateway);
    service.insert("ports".to_owned(), ports(gateway));
    let mut kubernetes = json!({
        // Without it the gateway would pass on to the gateways of other networks too, in a circle.
        "env": [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": cluster.network.as_str()}],
        "service": service,
    });
    let annotations = annotations(gateway);
    if let Some(fields) = kubernetes.as_object_mut().filter(|_| !annotations.is_empty()) {
        fields.insert("serviceAnnotations".to_owned(), Value::Object(annotations));
    }
    istio_operator(
        "eastwest",
        &json!({
            "profile": "empty",
            "components": {"ingressGateways": [{
                "name": NAME,
                "enabled": true,
                "label": labels(cluster, gateway),
                "k8s": kubernetes,
            }]},
            "values": {
                "gateways": {"istio-ingressgateway": {"injectionTemplate": "gateway"}},
                "global": {
                    "meshID": cluster.mesh.as_str(),
                    "multiCluster": {"clusterName": cluster.name.as_str()},
                    "network": cluster.network.as_str(),
                },
            },
        }),
    )
}

/// The chart has a word for a gateway of a network, which fixes its ports; any other port is said in full.
fn values(cluster: &Cluster, gateway: &Gateway) -> Value {
    let mut service = service(gateway);
    let annotations = annotations(gateway);
    if !annotations.is_empty() {
        service.insert("annotations".to_owned(), Value::Object(annotations));
    }
    let network = cluster.network.as_str();
    let mut values = if gateway.port == GATEWAY_PORT {
        json!({"name": NAME, "networkGateway": network})
    } else {
        service.insert("ports".to_owned(), ports(gateway));
        json!({
            "name": NAME,
            "labels": labels(cluster, gateway),
            "env": {"ISTIO_META_REQUESTED_NETWORK_VIEW": network},
        })
    };
    if let Some(fields) = values.as_object_mut().filter(|_| !service.is_empty()) {
        fields.insert("service".to_owned(), Value::Object(service));
    }
    values
}

/// A gateway that istiod deploys. What its labels are its Service and its pods have from `infrastructure`.
fn gateway_api(ground: &Ground<'_>, cluster: &Cluster, gateway: &Gateway) -> Vec<Item> {
    let listener = |name: &str, port: u16| {
        json!({
            "name": name,
            "port": port,
            "protocol": "TLS",
            "tls": {"mode": "Passthrough"},
        })
    };
    let mut cross_network = listener("cross-network", gateway.port);
    if let Some(fields) = cross_network.as_object_mut() {
        let options = json!({"gateway.istio.io/listener-protocol": "auto-passthrough"});
        fields.insert("hostname".to_owned(), json!(NOBODY));
        fields.insert("tls".to_owned(), json!({"mode": "Passthrough", "options": options}));
    }
    let mut listeners = vec![cross_network];
    let mut routes = Vec::new();
    if exposes_istiod(ground, cluster) {
        for (name, port, backend) in [("istiod-grpc", 15012, 15012), ("istiod-webhook", 15017, 443)] {
            listeners.push(listener(name, port));
            routes.push(route(ground, name, backend));
        }
    }
    let labels = labels(cluster, gateway);
    let spec = json!({
        "gatewayClassName": "istio",
        "infrastructure": {"labels": labels},
        "listeners": listeners,
    });
    let mut gateway = object("gateway.networking.k8s.io/v1", "Gateway", NAME, ISTIO_NAMESPACE, &spec);
    if let Some(own) = gateway.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        let network = json!(cluster.network.as_str());
        own.insert("topology.istio.io/network".to_owned(), network);
    }
    routes.insert(0, gateway);
    routes.into_iter().map(|object| Item::object(Phase::Gateway, "eastwest", object)).collect()
}

/// From 1.30 on Istio reads routes of the standard channel of the Gateway API 1.5, and before it those of the
/// experimental one, and never both.
fn route(ground: &Ground<'_>, name: &str, port: u16) -> Value {
    let version = if ground.mesh.installation().is_at_least(30) {
        "gateway.networking.k8s.io/v1"
    } else {
        "gateway.networking.k8s.io/v1alpha2"
    };
    let spec = json!({
        "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": NAME, "sectionName": name}],
        "hostnames": [ISTIOD_HOST],
        "rules": [{"backendRefs": [{"name": "istiod", "port": port}]}],
    });
    object(version, "TLSRoute", &format!("{NAME}-{name}"), ISTIO_NAMESPACE, &spec)
}
