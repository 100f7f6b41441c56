//! What istiod would send each proxy over XDS: what stays as it is in one static file, the bootstrap, and what objects of
//! the cluster change in files that Envoy watches.

mod endpoints;
mod gateway;
mod inbound;
mod outbound;

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use super::blueprint::{ADMIN_PORT, Application, INBOUND_PORT};
use super::config::{Config, Subset};
use super::proxy::{ProxyKind, Side, Workload};
use super::site::Site;

/// The whole bootstrap of one proxy; `token_key` is what its pod has of the cluster's key for tokens.
pub(super) fn bootstrap(site: &Site, own: &Workload<'_>, token_key: Option<&str>) -> Value {
    let (listeners, clusters) = match own.kind() {
        ProxyKind::Client => (outbound::listeners(own), json!([])),
        ProxyKind::Server => inbound::resources(own, site.blueprint().is_permissive()),
        ProxyKind::Gateway => (json!([]), json!([])),
    };
    let dynamic = match own.kind() {
        ProxyKind::Client => json!({"cds_config": source(&own.discovery(), CLUSTERS)}),
        ProxyKind::Server => json!({}),
        ProxyKind::Gateway => json!({
            "cds_config": source(&own.discovery(), CLUSTERS),
            "lds_config": source(&own.discovery(), LISTENERS),
        }),
    };
    json!({
        "node": node(site, own, token_key),
        "admin": {"address": address(own.address, ADMIN_PORT)},
        // As Istio's agent starts Envoy: a fragment is dropped, where Envoy by itself refuses the request.
        "layered_runtime": {"layers": [{
            "name": "global config",
            "static_layer": {"envoy.reloadable_features.http_reject_path_with_fragment": false},
        }]},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "dynamic_resources": dynamic,
    })
}

/// The files in which a proxy finds what comes and goes.
const CLUSTERS: &str = "clusters.json";
const LISTENERS: &str = "listeners.json";

/// What a proxy finds in its files, each before the one that refers to it.
pub(super) fn discovered(
    site: &Site,
    own: &Workload<'_>,
    all: &[Workload<'_>],
    config: &Config,
) -> Vec<(String, Value)> {
    let typed = |kind: &str, resources: Vec<Value>| -> Value {
        let typed = resources.into_iter().map(|mut resource| {
            if let Some(fields) = resource.as_object_mut() {
                fields.insert("@type".to_owned(), json!(format!("type.googleapis.com/envoy.config.{kind}")));
            }
            resource
        });
        typed.collect()
    };
    let clusters = |clusters| (CLUSTERS.to_owned(), typed("cluster.v3.Cluster", clusters));
    match own.kind() {
        ProxyKind::Client => {
            let routes = |side: Side<'_>| {
                let routes = outbound::routes(site, side, config);
                (outbound::routes_file(side), typed("route.v3.RouteConfiguration", vec![routes]))
            };
            let of = |side| outbound::clusters(site, side, all, config);
            let clusters = clusters(own.sides().flat_map(of).collect());
            std::iter::once(clusters).chain(own.sides().map(routes)).collect()
        }
        ProxyKind::Server => Vec::new(),
        ProxyKind::Gateway => vec![
            clusters(gateway::clusters(site, own, all, config)),
            (LISTENERS.to_owned(), typed("listener.v3.Listener", gateway::listeners(site, own, config))),
        ],
    }
}

/// A file that Envoy reads again whenever something comes into its directory.
fn source(directory: &Path, file: &str) -> Value {
    json!({
        "path_config_source": {
            "path": directory.join(file),
            "watched_directory": {"path": directory},
        },
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
    })
}

fn node(site: &Site, own: &Workload<'_>, token_key: Option<&str>) -> Value {
    let (namespace, name) = (own.namespace(), own.workload_name());
    let kind = own.node_type();
    let mut node = json!({
        "id": format!("{kind}~{}~{name}.{namespace}~{namespace}.svc.cluster.local", own.address),
        "cluster": format!("{}.{namespace}", own.service_account()),
        "locality": {"region": own.cluster.region.as_deref().unwrap_or_default()},
        "metadata": {
            "CLUSTER_ID": own.cluster.name,
            "NETWORK": own.cluster.network,
            "NAMESPACE": namespace,
            "MESH_ID": site.blueprint().mesh,
            "WORKLOAD_NAME": name,
            "SERVICE_ACCOUNT": own.service_account(),
            "LABELS": own.labels(),
        },
    });
    if let (Some(key), Some(metadata)) = (token_key, node.get_mut("metadata").and_then(Value::as_object_mut))
    {
        metadata.insert("ISTHMUS_TOKEN_KEY".to_owned(), json!(key));
    }
    node
}

fn address(ip: Ipv4Addr, port: u16) -> Value {
    json!({"socket_address": {"address": ip.to_string(), "port_value": port}})
}

/// The slots of the filter: each filled by ECDS, and like Istio's either with Wasm or with the RBAC that lets all pass.
///
/// The wait is endless, as Istio's is: a proxy takes no request before it knows its policy.
fn slots(own: &Workload<'_>) -> Vec<Value> {
    own.slots().iter().map(|place| slot(own, &place.name)).collect()
}

fn slot(own: &Workload<'_>, name: &str) -> Value {
    let layer = match own.kind() {
        ProxyKind::Client | ProxyKind::Server => "http",
        ProxyKind::Gateway => "network",
    };
    json!({
        "name": name,
        "config_discovery": {
            "config_source": source(&own.ecds(), &format!("{name}.json")),
            "type_urls": [
                format!("type.googleapis.com/envoy.extensions.filters.{layer}.wasm.v3.Wasm"),
                format!("type.googleapis.com/envoy.extensions.filters.{layer}.rbac.v3.RBAC"),
            ],
        },
    })
}

fn router() -> Value {
    json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    })
}

fn tls_inspector() -> Value {
    json!({
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        },
    })
}

/// What both sides of mutual TLS have in common.
fn tls_context(own: &Workload<'_>, alpn: &[&str], validation: Value) -> Value {
    let mut validation = validation;
    if let Some(fields) = validation.as_object_mut() {
        fields.insert("trusted_ca".to_owned(), json!({"filename": own.dir.join("root-cert.pem")}));
    }
    json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": alpn,
        "tls_certificates": certificate(own, "cert-chain.pem", "key.pem"),
        "validation_context": validation,
    })
}

/// Takes connections by mutual TLS; without a certificate as well, where none is demanded.
fn mutual_tls(own: &Workload<'_>, alpn: &[&str], demanded: bool) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": demanded,
            "common_tls_context": tls_context(own, alpn, json!({})),
        },
    })
}

fn certificate(own: &Workload<'_>, chain: &str, key: &str) -> Value {
    json!([{
        "certificate_chain": {"filename": own.dir.join(chain)},
        "private_key": {"filename": own.dir.join(key)},
    }])
}

fn connection_manager(own: &Workload<'_>, name: &str, routes: (&str, Value), filters: &Value) -> Value {
    let (kind, routes) = routes;
    json!({
        kind: routes,
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": filters,
        // What istiod makes of MeshConfig.pathNormalization, DEFAULT or BASE.
        "normalize_path": true,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "use_remote_address": false,
        "generate_request_id": true,
        "preserve_external_request_id": true,
        "access_log": access_log(own),
    })
}

/// The access log of one proxy; what the filter knows comes through filter state.
fn access_log(own: &Workload<'_>) -> Value {
    json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": own.dir.join("access.log"),
            "log_format": {"json_format": {
                "time": "%START_TIME%",
                "request_id": "%REQ(X-REQUEST-ID)%",
                "response_code": "%RESPONSE_CODE%",
                "response_flags": "%RESPONSE_FLAGS%",
                "response_code_details": "%RESPONSE_CODE_DETAILS%",
                "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
                "authority": "%REQ(:AUTHORITY)%",
                "path": "%REQ(:PATH)%",
                "method": "%REQ(:METHOD)%",
                "source_cluster_header": "%REQ(X-SOURCE-CLUSTER)%",
                "source_network_header": "%REQ(X-SOURCE-NETWORK)%",
                "upstream_cluster": "%UPSTREAM_CLUSTER%",
                "upstream_host": "%UPSTREAM_HOST%",
                "destination_cluster_header": "%RESP(X-DESTINATION-CLUSTER)%",
                "kind": "%ACCESS_LOG_TYPE%",
                "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
                "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
                "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
                "requested_server_name": "%REQUESTED_SERVER_NAME%",
                "peer_issuer": "%DOWNSTREAM_PEER_ISSUER%",
                "peer_uri_san": "%DOWNSTREAM_PEER_URI_SAN%",
                "duration": "%DURATION%",
                "bytes_received": "%BYTES_RECEIVED%",
                "bytes_sent": "%BYTES_SENT%",
                "verdict": "%FILTER_STATE(wasm.isthmus.verdict:PLAIN)%",
                "reason": "%FILTER_STATE(wasm.isthmus.reason:PLAIN)%",
                "source_cluster": "%FILTER_STATE(wasm.isthmus.source_cluster:PLAIN)%",
                "claimed_cluster": "%FILTER_STATE(wasm.isthmus.claimed_cluster:PLAIN)%",
                "source_level": "%FILTER_STATE(wasm.isthmus.source_level:PLAIN)%",
                "shadow_verdict": "%FILTER_STATE(wasm.isthmus.shadow_verdict:PLAIN)%",
                "shadow_reason": "%FILTER_STATE(wasm.isthmus.shadow_reason:PLAIN)%",
                "breach": "%FILTER_STATE(wasm.isthmus.breach:PLAIN)%",
            }},
        },
    }])
}

/// A cluster of fixed endpoints, reached from our own address: a policy may look at where a connection comes from.
fn static_cluster(own: &Workload<'_>, name: &str, endpoints: &[Value]) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "ROUND_ROBIN",
        "upstream_bind_config": {"source_address": {"address": own.address.to_string(), "port_value": 0}},
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    })
}

/// What makes Envoy speak HTTP/2 to a cluster, where HTTP/1.1 is what it speaks to any.
fn spoken_to(application: Application) -> Value {
    match application {
        Application::Hello => json!({}),
        Application::Grpc => json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }}),
    }
}

/// Whether a server is one of a subset; of none, everyone is.
fn is_of(server: &Workload<'_>, subset: Option<&Subset>) -> bool {
    let labels = server.labels();
    let mut wanted = subset.into_iter().flat_map(|subset| &subset.labels);
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

/// The endpoint of a service in a cluster, named as istiod names it.
fn inbound_address(server: &Workload<'_>) -> Value {
    address(server.address, INBOUND_PORT)
}
