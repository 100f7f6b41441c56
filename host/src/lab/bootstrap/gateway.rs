//! An east-west gateway: passes TLS through by SNI, a chain per service of its cluster, as istiod builds it.

use serde_json::{Value, json};

use super::{access_log, address, inbound_address, slots, static_cluster, tls_inspector};
use crate::lab::blueprint::{GATEWAY_PORT, LabService};
use crate::lab::proxy::{Role, Workload};

/// What sidecars offer; Istio's gateways take nothing else for passing through.
const ALPN: [&str; 5] = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

pub(super) fn resources(own: &Workload<'_>, all: &[Workload<'_>]) -> (Value, Value) {
    let hosted: Vec<(&LabService, &Workload<'_>)> = all
        .iter()
        .filter(|w| w.cluster.name == own.cluster.name)
        .filter_map(|w| match w.role {
            Role::Server { service, .. } => Some((service, w)),
            Role::Client(_) | Role::Gateway => None,
        })
        .collect();
    let chains: Vec<Value> = hosted.iter().map(|(service, _)| chain(own, service)).collect();
    let clusters: Vec<Value> = hosted
        .iter()
        .map(|(service, server)| {
            let endpoint = json!({"lb_endpoints": [{"endpoint": {"address": inbound_address(server)}}]});
            static_cluster(own, &service.sni(), &[endpoint])
        })
        .collect();
    // With no chain at all Envoy refuses a listener, and there is nothing to pass on.
    let listeners = if chains.is_empty() { json!([]) } else { json!([listener(own, &chains)]) };
    (listeners, Value::Array(clusters))
}

fn listener(own: &Workload<'_>, chains: &[Value]) -> Value {
    json!({
        "name": "eastwest",
        "address": address(own.address, GATEWAY_PORT),
        "traffic_direction": "OUTBOUND",
        "listener_filters": [tls_inspector()],
        "filter_chains": chains,
        "access_log": access_log(own),
    })
}

fn chain(own: &Workload<'_>, service: &LabService) -> Value {
    let mut filters = slots(own);
    filters.push(json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": service.sni(),
            "cluster": service.sni(),
        },
    }));
    json!({
        "name": service.sni(),
        "filter_chain_match": {"server_names": [service.sni()], "application_protocols": ALPN},
        "filters": filters,
    })
}
