//! A service's sidecar, and the application behind it.

use serde_json::{Value, json};

use super::{
    address, connection_manager, mutual_tls, router, slots, spoken_to, static_cluster, tls_inspector,
};
use crate::lab::blueprint::{Application, INBOUND_PORT, LabService};
use crate::lab::proxy::{Role, Workload};

/// The sidecar and its application; a permissive one takes peers that show no certificate, as well.
pub(super) fn resources(own: &Workload<'_>, permissive: bool) -> (Value, Value) {
    let Role::Server { service, version } = own.role else {
        return (json!([]), json!([]));
    };
    let endpoint =
        json!({"lb_endpoints": [{"endpoint": {"address": address(own.address, service.listening())}}]});
    let mut cluster = static_cluster(own, &cluster_name(service), &[endpoint]);
    if let Some(fields) = cluster.as_object_mut() {
        fields.insert("typed_extension_protocol_options".to_owned(), spoken_to(service.application));
    }
    let listeners = match service.application {
        Application::Hello => json!([sidecar(own, service, permissive), application(own, service, version)]),
        Application::Grpc => json!([sidecar(own, service, permissive)]),
    };
    (listeners, json!([cluster]))
}

fn cluster_name(service: &LabService) -> String {
    format!("inbound|{}||", service.port)
}

fn sidecar(own: &Workload<'_>, service: &LabService, permissive: bool) -> Value {
    let route =
        json!({"match": {"prefix": "/"}, "route": {"cluster": cluster_name(service), "timeout": "15s"}});
    let routes = json!({
        "name": "inbound",
        "virtual_hosts": [{"name": "inbound|http", "domains": ["*"], "routes": [route]}],
    });
    let alpn: &[&str] = match service.application {
        Application::Hello => &["istio-http/1.1", "http/1.1"],
        Application::Grpc => &["h2", "http/1.1"],
    };
    let mut filters = slots(own);
    filters.push(router());
    let mut manager = connection_manager(own, "inbound", ("route_config", routes), &Value::Array(filters));
    if let Some(fields) = manager.as_object_mut() {
        fields.insert("forward_client_cert_details".to_owned(), json!("APPEND_FORWARD"));
        fields.insert(
            "set_current_client_cert_details".to_owned(),
            json!({"subject": true, "dns": true, "uri": true}),
        );
    }
    let filters = json!([{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]);
    let mut chains = vec![json!({
        "filter_chain_match": {"transport_protocol": "tls"},
        "filters": filters,
        "transport_socket": mutual_tls(own, alpn, !permissive),
    })];
    if permissive {
        chains.push(json!({"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": filters}));
    }
    json!({
        "name": "virtualInbound",
        "address": address(own.address, INBOUND_PORT),
        "traffic_direction": "INBOUND",
        "listener_filters": [tls_inspector()],
        "filter_chains": chains,
    })
}

/// Answers like Istio's helloworld, and tells which tags it saw.
fn application(own: &Workload<'_>, service: &LabService, version: usize) -> Value {
    let cluster = &own.cluster.name;
    let body = format!("Hello version: v{version}, instance: {}-v{version}-{cluster}\n", service.name);
    let saw = |header: &str, tag: &str| json!({"header": {"key": header, "value": format!("%REQ({tag})%")}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"});
    let route = json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": body}},
        "response_headers_to_add": [
            saw("x-app-saw-source-cluster", "x-source-cluster"),
            saw("x-app-saw-source-network", "x-source-network"),
        ],
    });
    json!({
        "name": "application",
        "address": address(own.address, service.listening()),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "application",
                "route_config": {"virtual_hosts": [{"name": "application", "domains": ["*"], "routes": [route]}]},
                "http_filters": [router()],
            },
        }]}],
    })
}
