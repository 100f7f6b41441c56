//! An east-west gateway: passes TLS through by SNI, a chain for each service of its cluster and for each subset of it,
//! as istiod builds it.

use serde_json::{Value, json};

use super::{access_log, address, inbound_address, is_of, slots, static_cluster, tls_inspector};
use crate::lab::blueprint::{GATEWAY_PORT, LabService};
use crate::lab::istiod::{Config, Subset};
use crate::lab::proxy::{Role, Workload};

/// What sidecars offer; Istio's gateways take nothing else for passing through.
const ALPN: [&str; 5] = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// The services that the gateway's cluster runs, each as a whole and by subset.
fn hosted<'h>(
    own: &Workload<'_>,
    all: &'h [Workload<'_>],
    config: &'h Config,
) -> impl Iterator<Item = (&'h LabService, &'h Workload<'h>, Option<&'h Subset>)> {
    let servers = all.iter().filter(|other| other.cluster.name == own.cluster.name);
    let hosted = servers.filter_map(|server| match server.role {
        Role::Server { service, .. } => Some((service, server)),
        Role::Client(_) | Role::Gateway => None,
    });
    hosted.flat_map(|(service, server)| {
        let subsets = config.subsets(&service.host()).iter().map(Some);
        std::iter::once(None).chain(subsets).map(move |subset| (service, server, subset))
    })
}

pub(super) fn clusters(own: &Workload<'_>, all: &[Workload<'_>], config: &Config) -> Vec<Value> {
    let cluster = |(service, server, subset): (&LabService, &Workload<'_>, Option<&Subset>)| {
        let endpoint = json!({"lb_endpoints": [{"endpoint": {"address": inbound_address(server)}}]});
        let endpoints = if is_of(server, subset) { vec![endpoint] } else { Vec::new() };
        static_cluster(own, &sni(service, subset), &endpoints)
    };
    hosted(own, all, config).map(cluster).collect()
}

pub(super) fn listeners(own: &Workload<'_>, all: &[Workload<'_>], config: &Config) -> Vec<Value> {
    let chains: Vec<Value> =
        hosted(own, all, config).map(|(service, _, subset)| chain(own, &sni(service, subset))).collect();
    // With no chain at all Envoy refuses a listener, and there is nothing to pass on.
    if chains.is_empty() { Vec::new() } else { vec![listener(own, &chains)] }
}

fn sni(service: &LabService, subset: Option<&Subset>) -> String {
    service.sni(subset.map_or("", |subset| &subset.name))
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

fn chain(own: &Workload<'_>, sni: &str) -> Value {
    let mut filters = slots(own);
    filters.push(json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": sni,
            "cluster": sni,
        },
    }));
    json!({
        "name": sni,
        "filter_chain_match": {"server_names": [sni], "application_protocols": ALPN},
        "filters": filters,
    })
}
