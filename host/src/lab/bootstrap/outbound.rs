//! A client's sidecar: routes by host, endpoints by cluster, network and region.

use serde_json::{Value, json};

use super::{address, connection_manager, inbound_address, router, slots, static_cluster, tls_context};
use crate::lab::blueprint::{GATEWAY_PORT, LabService, OUTBOUND_PORT};
use crate::lab::proxy::{Role, Workload};
use crate::lab::site::Site;

/// The header that keeps a request near; the filter sets it.
const ROUTE_HEADER: &str = "x-isthmus-route";

pub(super) fn resources(site: &Site, own: &Workload<'_>, all: &[Workload<'_>]) -> (Value, Value) {
    let services = &site.blueprint().services;
    let hosts: Vec<Value> = services.iter().map(|service| virtual_host(own, service)).collect();
    let clusters: Vec<Value> = services
        .iter()
        .flat_map(|service| {
            Reach::of(service).into_iter().map(move |reach| cluster(site, own, all, (service, reach)))
        })
        .collect();
    let routes = json!({"name": "outbound", "virtual_hosts": hosts});
    let mut filters = slots(own);
    filters.push(router());
    let manager = connection_manager(own, "outbound", &routes, &Value::Array(filters));
    let listener = json!({
        "name": "virtualOutbound",
        "address": address(own.address, OUTBOUND_PORT),
        "traffic_direction": "OUTBOUND",
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
        ]}],
    });
    (json!([listener]), Value::Array(clusters))
}

/// How far a request may go, or to which cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach<'b> {
    Cluster,
    Network,
    Region,
    To(&'b str),
    Mesh,
}

impl<'b> Reach<'b> {
    /// Those that a service has routes for; the one without a header comes last.
    fn of(service: &'b LabService) -> Vec<Self> {
        let near = [Self::Cluster, Self::Network, Self::Region];
        let to = service.clusters.iter().map(|cluster| Self::To(cluster));
        near.into_iter().chain(to).chain([Self::Mesh]).collect()
    }

    /// The subset in the name of the Envoy cluster, which is also the value of the header.
    fn subset(self) -> String {
        match self {
            Self::Cluster => "cluster".to_owned(),
            Self::Network => "network".to_owned(),
            Self::Region => "region".to_owned(),
            Self::To(cluster) => format!("cluster={cluster}"),
            Self::Mesh => String::new(),
        }
    }

    fn includes(self, own: &Workload<'_>, other: &Workload<'_>) -> bool {
        let same_cluster = own.cluster.name == other.cluster.name;
        match self {
            Self::Cluster => same_cluster,
            Self::Network => own.cluster.network == other.cluster.network,
            // Two clusters of which nobody said where they are, are not in one region.
            Self::Region => {
                same_cluster || own.cluster.region.is_some() && own.cluster.region == other.cluster.region
            }
            Self::To(cluster) => other.cluster.name == cluster,
            Self::Mesh => true,
        }
    }
}

fn cluster_name(service: &LabService, reach: Reach<'_>) -> String {
    format!("outbound|{}|{}|{}", service.port, reach.subset(), service.host())
}

fn virtual_host(own: &Workload<'_>, service: &LabService) -> Value {
    let qualified = format!("{}.{}", service.name, service.namespace);
    let mut names = vec![qualified.clone(), format!("{qualified}.svc"), service.host()];
    if own.namespace() == service.namespace {
        names.push(service.name.clone());
    }
    let with_port: Vec<String> = names.iter().map(|name| format!("{name}:{}", service.port)).collect();
    names.extend(with_port);
    let routes: Vec<Value> = Reach::of(service).into_iter().map(|reach| route(service, reach)).collect();
    json!({"name": format!("{}:{}", service.host(), service.port), "domains": names, "routes": routes})
}

fn route(service: &LabService, reach: Reach<'_>) -> Value {
    let headers = match reach {
        Reach::Mesh => json!([]),
        Reach::Cluster | Reach::Network | Reach::Region | Reach::To(_) => {
            json!([{"name": ROUTE_HEADER, "string_match": {"exact": reach.subset()}}])
        }
    };
    json!({
        "match": {"prefix": "/", "headers": headers},
        // No retry: a failure must be seen.
        "route": {"cluster": cluster_name(service, reach), "timeout": "15s"},
    })
}

fn cluster(site: &Site, own: &Workload<'_>, all: &[Workload<'_>], to: (&LabService, Reach<'_>)) -> Value {
    let (service, reach) = to;
    let endpoints: Vec<Value> = all
        .iter()
        .filter(|other| matches!(other.role, Role::Server { service: theirs, .. } if theirs == service))
        .filter(|other| reach.includes(own, other))
        .map(|other| endpoint(own, other, all))
        .collect();
    let mut cluster = static_cluster(own, &cluster_name(service, reach), &endpoints);
    if let Some(fields) = cluster.as_object_mut() {
        fields.insert("transport_socket_matches".to_owned(), mutual_tls(site, own, service));
        let described = json!({"host": service.host(), "name": service.name, "namespace": service.namespace});
        fields
            .insert("metadata".to_owned(), json!({"filter_metadata": {"istio": {"services": [described]}}}));
    }
    cluster
}

/// On our network the sidecar itself, elsewhere the gateway of its cluster; metadata as istiod gives each.
fn endpoint(own: &Workload<'_>, server: &Workload<'_>, all: &[Workload<'_>]) -> Value {
    let cluster = &server.cluster.name;
    let gateway = all.iter().find(|w| matches!(w.role, Role::Gateway) && w.cluster.name == *cluster);
    let (reached, workload) = match gateway {
        Some(gateway) if own.cluster.network != server.cluster.network => {
            (address(gateway.address, GATEWAY_PORT), format!(";;;;{cluster}"))
        }
        Some(_) | None => {
            let app = server.service_account();
            let version = match server.role {
                Role::Server { version, .. } => format!("v{version}"),
                Role::Client(_) | Role::Gateway => String::new(),
            };
            let name = server.workload_name();
            (inbound_address(server), format!("{name};{};{app};{version};{cluster}", server.namespace()))
        }
    };
    json!({
        "locality": {"region": server.cluster.region.as_deref().unwrap_or_default()},
        "lb_endpoints": [{
            "endpoint": {"address": reached},
            "metadata": {"filter_metadata": {
                "envoy.transport_socket_match": {"tlsMode": "istio"},
                "istio": {"workload": workload},
            }},
        }],
    })
}

fn mutual_tls(site: &Site, own: &Workload<'_>, service: &LabService) -> Value {
    let peer =
        format!("spiffe://{}/ns/{}/sa/{}", site.blueprint().trust_domain, service.namespace, service.name);
    let validation = json!({
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
    });
    let alpn = ["istio-http/1.1", "istio", "http/1.1"];
    json!([{
        "name": "tlsMode-istio",
        "match": {"tlsMode": "istio"},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": service.sni(),
                "common_tls_context": tls_context(own, &alpn, validation),
            },
        },
    }])
}
