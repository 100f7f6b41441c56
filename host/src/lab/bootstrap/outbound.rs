//! A client's sidecar: routes by host and header, endpoints by subset, near ones first where a rule says so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    ROUTES, address, connection_manager, inbound_address, is_of, router, slots, source, spoken_to,
    static_cluster, tls_context,
};
use crate::lab::blueprint::{Application, GATEWAY_PORT, LabService, OUTBOUND_PORT};
use crate::lab::istiod::{Config, HttpMatch, HttpRoute, LocalityLbSetting, OutlierDetection, Subset};
use crate::lab::proxy::{Role, Workload};
use crate::lab::site::Site;

pub(super) fn listener(own: &Workload<'_>) -> Value {
    let routes = json!({"route_config_name": "outbound", "config_source": source(&own.discovery(), ROUTES)});
    let mut filters = slots(own);
    filters.push(router());
    let manager = connection_manager(own, "outbound", ("rds", routes), &Value::Array(filters));
    json!({
        "name": "virtualOutbound",
        "address": address(own.address, OUTBOUND_PORT),
        "traffic_direction": "OUTBOUND",
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
        ]}],
    })
}

pub(super) fn routes(site: &Site, own: &Workload<'_>, config: &Config) -> Value {
    let services = site.blueprint().services.iter();
    let hosts: Vec<Value> = services.map(|service| virtual_host(own, service, config)).collect();
    json!({"name": "outbound", "virtual_hosts": hosts})
}

pub(super) fn clusters(site: &Site, own: &Workload<'_>, all: &[Workload<'_>], config: &Config) -> Vec<Value> {
    let mut clusters = Vec::new();
    for service in &site.blueprint().services {
        let subsets = config.subsets(&service.host()).iter().map(Some);
        for subset in std::iter::once(None).chain(subsets) {
            let order = config.order(&service.host());
            let mut cluster = cluster(own, all, (service, subset), order);
            if let Some(fields) = cluster.as_object_mut() {
                fields
                    .insert("transport_socket_matches".to_owned(), mutual_tls(site, own, (service, subset)));
                let host = service.host();
                let labels = own.labels();
                let merged = config.merged(&host, &labels);
                fields.extend(merged.map(|(name, value)| (name.clone(), value.clone())));
            }
            clusters.push(cluster);
        }
    }
    clusters
}

fn cluster_name(service: &LabService, subset: &str) -> String {
    format!("outbound|{}|{subset}|{}", service.port, service.host())
}

fn virtual_host(own: &Workload<'_>, service: &LabService, config: &Config) -> Value {
    let qualified = format!("{}.{}", service.name, service.namespace);
    let mut names = vec![qualified.clone(), format!("{qualified}.svc"), service.host()];
    if own.namespace() == service.namespace {
        names.push(service.name.clone());
    }
    let with_port: Vec<String> = names.iter().map(|name| format!("{name}:{}", service.port)).collect();
    names.extend(with_port);
    let said = config.routes(&service.host());
    let mut routes: Vec<Value> = said.iter().flat_map(|said| matched(own, service, said)).collect();
    if said.is_empty() {
        routes.push(route("default", &[], &cluster_name(service, "")));
    }
    json!({"name": format!("{}:{}", service.host(), service.port), "domains": names, "routes": routes})
}

/// A route for each of the matches that are for this client; without any, one that takes everything.
fn matched(own: &Workload<'_>, service: &LabService, said: &HttpRoute) -> Vec<Value> {
    let destination = said.destination();
    let cluster = format!("outbound|{}|{}|{}", service.port, destination.subset, destination.host);
    if said.matches.is_empty() {
        return vec![route(&said.name, &[], &cluster)];
    }
    let one = |one: &HttpMatch| {
        let headers = one.headers.iter();
        let headers: Vec<Value> = headers
            .map(|(name, value)| json!({"name": name, "string_match": {"exact": value.exact}}))
            .collect();
        route(&said.name, &headers, &cluster)
    };
    let labels = own.labels();
    said.matches.iter().filter(|one| one.is_for(&labels)).map(one).collect()
}

fn route(name: &str, headers: &[Value], cluster: &str) -> Value {
    json!({
        "name": name,
        "match": {"prefix": "/", "headers": headers},
        // No retry: a failure must be seen.
        "route": {"cluster": cluster, "timeout": "15s"},
    })
}

fn cluster(
    own: &Workload<'_>,
    all: &[Workload<'_>],
    (service, subset): (&LabService, Option<&Subset>),
    order: Option<(&LocalityLbSetting, &OutlierDetection)>,
) -> Value {
    let servers: Vec<&Workload<'_>> = all
        .iter()
        .filter(|other| matches!(other.role, Role::Server { service: theirs, .. } if theirs == service))
        .filter(|other| is_of(other, subset))
        .collect();
    let tiers = order.map(|(setting, _)| tiers(own, &servers, setting)).unwrap_or_default();
    let endpoints: Vec<Value> = servers
        .iter()
        .map(|other| endpoint(own, other, all, tiers.get(&other.name()).copied().unwrap_or_default()))
        .collect();
    let name = cluster_name(service, subset.map_or("", |subset| &subset.name));
    let mut cluster = static_cluster(own, &name, &endpoints);
    if let Some(fields) = cluster.as_object_mut() {
        let described = json!({"host": service.host(), "name": service.name, "namespace": service.namespace});
        fields.insert("typed_extension_protocol_options".to_owned(), spoken_to(service.application));
        fields
            .insert("metadata".to_owned(), json!({"filter_metadata": {"istio": {"services": [described]}}}));
        fields.extend(order.into_iter().flat_map(|(_, outlier)| failing_over(outlier)));
    }
    cluster
}

/// What makes a cluster leave endpoints that fail. Istio turns Envoy's panic off: with every endpoint of a tier out, the
/// next one takes over.
fn failing_over(said: &OutlierDetection) -> [(String, Value); 2] {
    [
        ("outlier_detection".to_owned(), outlier_detection(said)),
        ("common_lb_config".to_owned(), json!({"healthy_panic_threshold": {"value": 0}})),
    ]
}

fn outlier_detection(said: &OutlierDetection) -> Value {
    let enforcing = |errors: u32| if errors == 0 { 0 } else { 100 };
    json!({
        "consecutive_5xx": said.consecutive_5xx_errors.max(1),
        "enforcing_consecutive_5xx": enforcing(said.consecutive_5xx_errors),
        "consecutive_gateway_failure": said.consecutive_gateway_errors.max(1),
        "enforcing_consecutive_gateway_failure": enforcing(said.consecutive_gateway_errors),
        "enforcing_success_rate": 0,
        "interval": said.interval,
        "base_ejection_time": said.base_ejection_time,
        "max_ejection_percent": said.max_ejection_percent,
    })
}

/// The priority of each server, by its name: from 0 without a gap, as Envoy wants it and istiod makes it.
fn tiers(
    own: &Workload<'_>,
    servers: &[&Workload<'_>],
    setting: &LocalityLbSetting,
) -> BTreeMap<String, usize> {
    let rank = |server: &Workload<'_>| {
        if setting.failover_priority.is_empty() {
            by_region(own, server, setting)
        } else {
            let shared = setting.failover_priority.iter().take_while(|label| shares(own, server, label));
            setting.failover_priority.len() - shared.count()
        }
    };
    let mut ranks: Vec<usize> = servers.iter().map(|server| rank(server)).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let place = |server: &&Workload<'_>| {
        let rank = rank(server);
        (server.name(), ranks.iter().position(|other| *other == rank).unwrap_or_default())
    };
    servers.iter().map(place).collect()
}

/// Whether client and endpoint have one value of a label. Of what lies behind a gateway istiod compares the gateway,
/// of which it knows cluster and network alone.
fn shares(own: &Workload<'_>, server: &Workload<'_>, label: &str) -> bool {
    let known = ["topology.istio.io/cluster", "topology.istio.io/network"].contains(&label);
    let theirs = if own.cluster.network == server.cluster.network || known {
        server.labels().remove(label)
    } else {
        None
    };
    own.labels().remove(label) == theirs
}

fn by_region(own: &Workload<'_>, server: &Workload<'_>, setting: &LocalityLbSetting) -> usize {
    let (here, there) = (own.cluster.region.as_deref(), server.cluster.region.as_deref());
    if here == there {
        return 0;
    }
    let turned_to = setting.failover.iter().find(|said| Some(said.from.as_str()) == here);
    if turned_to.is_some_and(|said| Some(said.to.as_str()) == there) { 1 } else { 2 }
}

/// On our network the sidecar itself, elsewhere the gateway of its cluster; metadata as istiod gives each.
fn endpoint(own: &Workload<'_>, server: &Workload<'_>, all: &[Workload<'_>], priority: usize) -> Value {
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
        "priority": priority,
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

fn mutual_tls(site: &Site, own: &Workload<'_>, (service, subset): (&LabService, Option<&Subset>)) -> Value {
    let hosting = site.blueprint().clusters.iter().filter(|cluster| service.clusters.contains(&cluster.name));
    let domains: BTreeSet<&str> = hosting.map(|cluster| cluster.trust_domain.as_str()).collect();
    let peer = |domain| {
        let peer = format!("spiffe://{domain}/ns/{}/sa/{}", service.namespace, service.name);
        json!({"san_type": "URI", "matcher": {"exact": peer}})
    };
    let peers: Vec<Value> = domains.into_iter().map(peer).collect();
    let validation = json!({"match_typed_subject_alt_names": peers});
    let alpn = match service.application {
        Application::Hello => ["istio-http/1.1", "istio", "http/1.1"],
        Application::Grpc => ["istio-h2", "istio", "h2"],
    };
    json!([{
        "name": "tlsMode-istio",
        "match": {"tlsMode": "istio"},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": service.sni(subset.map_or("", |subset| &subset.name)),
                "common_tls_context": tls_context(own, &alpn, validation),
            },
        },
    }])
}
