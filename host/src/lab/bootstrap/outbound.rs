//! A client's sidecar: routes by host and header, endpoints by subset, near ones first where a rule says so.

use serde_json::{Value, json};

use super::{
    address, connection_manager, endpoints, mutual_tls, router, slots, source, spoken_to, static_cluster,
};
use crate::lab::blueprint::{EGRESS_PORT, LabService, OUTBOUND_PORT};
use crate::lab::config::{Config, HttpMatch, HttpRoute, LocalityLbSetting, OutlierDetection, Subset};
use crate::lab::proxy::{Side, Workload};
use crate::lab::site::Site;

/// For each manner of a client, where applications send their requests; and, of an egress gateway, where sidecars do.
pub(super) fn listeners(own: &Workload<'_>) -> Value {
    own.sides()
        .flat_map(|side| std::iter::once(plain(side)).chain(side.is_egress().then(|| egress(side))))
        .collect()
}

fn plain(side: Side<'_>) -> Value {
    listener(side, "virtualOutbound", OUTBOUND_PORT)
}

fn egress(side: Side<'_>) -> Value {
    let mut egress = listener(side, "egress", EGRESS_PORT);
    if let Some(chain) = egress.pointer_mut("/filter_chains/0").and_then(Value::as_object_mut) {
        let socket = mutual_tls(side.own, &["istio-http/1.1", "http/1.1"], true);
        chain.insert("transport_socket".to_owned(), socket);
    }
    egress
}

fn listener(side: Side<'_>, name: &str, port: u16) -> Value {
    let own = side.own;
    let file = source(&own.discovery(), &routes_file(side));
    let routes = json!({"route_config_name": routes_name(side), "config_source": file});
    let mut filters = slots(own);
    filters.push(router());
    let manager = connection_manager(own, "outbound", ("rds", routes), &Value::Array(filters));
    json!({
        "name": format!("{name}{}", side.mark()),
        "address": address(own.address, side.port(port)),
        "traffic_direction": "OUTBOUND",
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
        ]}],
    })
}

/// The file of its routes: Envoy takes one table from each.
pub(super) fn routes_file(side: Side<'_>) -> String {
    format!("routes{}.json", side.mark())
}

fn routes_name(side: Side<'_>) -> String {
    format!("outbound{}", side.mark())
}

pub(super) fn routes(site: &Site, side: Side<'_>, config: &Config) -> Value {
    let services = site.blueprint().services.iter();
    let hosts: Vec<Value> = services.map(|service| virtual_host(side, service, config)).collect();
    json!({"name": routes_name(side), "ignore_port_in_host_matching": true, "virtual_hosts": hosts})
}

pub(super) fn clusters(site: &Site, side: Side<'_>, all: &[Workload<'_>], config: &Config) -> Vec<Value> {
    let mut clusters = Vec::new();
    for service in &site.blueprint().services {
        let subsets = config.subsets(&service.host()).iter().map(Some);
        for subset in std::iter::once(None).chain(subsets) {
            let order = config.order(&service.host());
            let mut cluster = cluster(side, all, (service, subset), order);
            if let Some(fields) = cluster.as_object_mut() {
                let socket = endpoints::transport_socket(site, side, (service, subset));
                fields.insert("transport_socket_matches".to_owned(), socket);
                let host = service.host();
                let labels = side.own.labels();
                let merged = config.merged(&host, &labels);
                fields.extend(merged.map(|(name, value)| (name.clone(), value.clone())));
            }
            clusters.push(cluster);
        }
    }
    clusters
}

/// As istiod names it: `outbound|PORT|SUBSET|HOST`.
fn cluster_name(side: Side<'_>, port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}{}|{host}", side.mark())
}

fn virtual_host(side: Side<'_>, service: &LabService, config: &Config) -> Value {
    let qualified = format!("{}.{}", service.name, service.namespace);
    let mut names = vec![qualified.clone(), format!("{qualified}.svc"), service.host()];
    if side.own.namespace() == service.namespace {
        names.push(service.name.clone());
    }
    if let Some((called, leads_to)) = &side.client.manner.called {
        names.retain(|name| name != called);
        names.extend((*leads_to == service.host()).then(|| called.clone()));
    }
    let said = config.routes(&service.host());
    let mut routes: Vec<Value> = said.iter().flat_map(|said| matched(side, service, said)).collect();
    if said.is_empty() {
        routes.push(route("default", &[], &cluster_name(side, service.port, "", &service.host())));
    }
    json!({"name": format!("{}:{}", service.host(), service.port), "domains": names, "routes": routes})
}

/// A route for each of the matches that are for this client; without any, one that takes everything.
fn matched(side: Side<'_>, service: &LabService, said: &HttpRoute) -> Vec<Value> {
    let destination = said.destination();
    let cluster = cluster_name(side, service.port, &destination.subset, &destination.host);
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
    let labels = side.own.labels();
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
    side: Side<'_>,
    all: &[Workload<'_>],
    (service, subset): (&LabService, Option<&Subset>),
    order: Option<(&LocalityLbSetting, &OutlierDetection)>,
) -> Value {
    let endpoints = endpoints::endpoints(side, all, (service, subset), order.map(|(setting, _)| setting));
    let subset = subset.map_or("", |subset| &subset.name);
    let name = cluster_name(side, service.port, subset, &service.host());
    let mut cluster = static_cluster(side.own, &name, &endpoints);
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
