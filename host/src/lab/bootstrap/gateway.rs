//! An east-west gateway: passes TLS through by SNI, a chain for each service and for each subset of it, as istiod builds it.
//!
//! But for one thing: it passes on to its own cluster alone, where istiod's passes on to all of its network. So whoever
//! asks for a cluster's answer gets it through that cluster's gateway.

use serde_json::{Value, json};

use super::{access_log, address, inbound_address, is_of, slots, static_cluster, tls_inspector};
use crate::lab::blueprint::{GATEWAY_PORT, LabService};
use crate::lab::config::{Config, Subset};
use crate::lab::proxy::{Role, Workload};
use crate::lab::site::Site;

/// What sidecars offer; Istio's gateways take nothing else for passing through.
const ALPN: [&str; 5] = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// Every service, as a whole and by subset.
fn named<'n>(
    site: &'n Site,
    config: &'n Config,
) -> impl Iterator<Item = (&'n LabService, Option<&'n Subset>)> {
    site.blueprint().services.iter().flat_map(|service| {
        let subsets = config.subsets(&service.host()).iter().map(Some);
        std::iter::once(None).chain(subsets).map(move |subset| (service, subset))
    })
}

pub(super) fn clusters(site: &Site, own: &Workload<'_>, all: &[Workload<'_>], config: &Config) -> Vec<Value> {
    let here = |other: &&Workload<'_>| other.cluster.name == own.cluster.name;
    let cluster = |(service, subset): (&LabService, Option<&Subset>)| {
        let runs = |other: &&Workload<'_>| matches!(other.role, Role::Server { service: theirs, .. } if theirs == service);
        let servers = all.iter().filter(here).filter(runs).filter(|server| is_of(server, subset));
        let endpoints: Vec<Value> = servers
            .map(|server| json!({"lb_endpoints": [{"endpoint": {"address": inbound_address(server)}}]}))
            .collect();
        static_cluster(own, &sni(service, subset), &endpoints)
    };
    named(site, config).map(cluster).collect()
}

pub(super) fn listeners(site: &Site, own: &Workload<'_>, config: &Config) -> Vec<Value> {
    let chains: Vec<Value> =
        named(site, config).map(|(service, subset)| chain(own, &sni(service, subset))).collect();
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
            // A line as soon as a connection is passed on: that of the listener comes when it ends.
            "access_log": access_log(own),
            "access_log_options": {"flush_access_log_on_connected": true},
        },
    }));
    json!({
        "name": sni,
        "filter_chain_match": {"server_names": [sni], "application_protocols": ALPN},
        "filters": filters,
    })
}
