//! Listeners of a stock Envoy, as JSON.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::certificates::Certificates;

/// The path whose answer says how the routes saw the request.
pub(super) const ECHO: &str = "/echo";
/// The header of that answer.
pub(super) const SAW: &str = "x-saw";

/// A bootstrap of a proxy of workload s0 in shop0, in c0.
pub(super) fn bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "node": {
            "id": "sidecar~127.0.0.1~s0-1.shop0~shop0.svc.cluster.local",
            "cluster": "s0.shop0",
            "metadata": {"CLUSTER_ID": "c0", "NETWORK": "n0", "NAMESPACE": "shop0", "LABELS": {"app": "s0"}},
        },
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// A listener for requests that answers them by itself: with mutual TLS as a sidecar's inbound one, without as its
/// outbound one.
pub(super) fn http(at: SocketAddr, certificates: Option<&Certificates>, filter: Option<&Value>) -> Value {
    let mut manager = manager(at, filter);
    let mut chain = json!({});
    if let Some(certificates) = certificates {
        manager["forward_client_cert_details"] = json!("APPEND_FORWARD");
        manager["set_current_client_cert_details"] = json!({"subject": true, "dns": true, "uri": true});
        chain["transport_socket"] = tls(certificates);
    }
    chain["filters"] = json!([{"name": "http", "typed_config": manager}]);
    let direction = if certificates.is_some() { "INBOUND" } else { "OUTBOUND" };
    json!({"name": at.to_string(), "traffic_direction": direction, "address": address(at), "filter_chains": [chain]})
}

fn manager(at: SocketAddr, filter: Option<&Value>) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<&Value> = filter.into_iter().chain([&router]).collect();
    let ok = json!({"status": 200, "body": {"inline_string": "ok"}});
    let saw = json!({"header": {"key": SAW, "value": "%REQ(x-source-cluster)%/%REQ(x-isthmus-route)%"}});
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": at.port().to_string(),
        "generate_request_id": false,
        "normalize_path": true,
        "use_remote_address": false,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"path": ECHO}, "direct_response": ok, "response_headers_to_add": [saw]},
            {"match": {"prefix": "/"}, "direct_response": ok},
        ]}]},
        "http_filters": filters,
    })
}

fn tls(certificates: &Certificates) -> Value {
    let [chain, key] = certificates.sidecar();
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}],
                "validation_context": {"trusted_ca": {"filename": certificates.root()}},
            },
        },
    })
}

/// The cluster that connections are passed on to.
const UPSTREAM: &str = "upstream";

/// A listener for connections, which it passes on as they are.
pub(super) fn tcp(at: SocketAddr, filter: Option<&Value>) -> Value {
    let proxy = json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": at.port().to_string(),
            "cluster": UPSTREAM,
        },
    });
    let filters: Vec<&Value> = filter.into_iter().chain([&proxy]).collect();
    json!({
        "name": at.to_string(),
        "traffic_direction": "OUTBOUND",
        "address": address(at),
        "listener_filters": [{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
        }],
        "filter_chains": [{"filters": filters}],
    })
}

/// Where connections are passed on to.
pub(super) fn upstream(at: SocketAddr) -> Value {
    json!({
        "name": UPSTREAM,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": UPSTREAM,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(at)}}]}],
        },
    })
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip(), "port_value": at.port()}})
}

/// A module as a filter of a layer, `http` or `network`, in a VM of its own.
pub(super) fn wasm(layer: &str, name: &str, module: &Path, configuration: &str) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.filters.{layer}.wasm.v3.Wasm"),
            "config": {
                "name": name,
                "root_id": name,
                "vm_config": {
                    "vm_id": name,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration,
                },
            },
        },
    })
}

/// Envoy's own filter with so many policies, of which the last one allows: each for a header and a path.
pub(super) fn rbac(policies: usize) -> Value {
    let policy = |n: usize| {
        json!({
            "permissions": [{"url_path": {"path": {"prefix": format!("/v{n}/")}}}],
            "principals": [{"header": {"name": "user-agent", "string_match": {"exact": format!("client-{n}")}}}],
        })
    };
    // Envoy tries them in the order of their names.
    let policies: serde_json::Map<String, Value> =
        (0..policies).map(|n| (format!("p{n:06}"), policy(n))).collect();
    json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": policies},
        },
    })
}

/// A script that reads three headers and sets two.
pub(super) fn lua() -> Value {
    let script = "function envoy_on_request(request)\n\
        local headers = request:headers()\n\
        local path, host, agent = headers:get(':path'), headers:get(':authority'), headers:get('user-agent')\n\
        if path and host and agent then\n\
        headers:replace('x-source-cluster', 'c0')\n\
        headers:replace('x-source-network', 'n0')\n\
        end\nend\n";
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": script},
        },
    })
}
