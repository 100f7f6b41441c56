//! The EnvoyFilter that puts the filter behind the load balancer of services with a boundary, where the endpoint is
//! known that a request goes to.

use policy::mesh::OnFailure;
use policy::name::{ClusterName, Namespace, Service};
use policy::plan::Role;
use serde_json::{Value, json};

use crate::plugin::{self, CLUSTER};

/// The filter's place among Envoy's own for one service: its name, the module's file, and its configuration.
#[derive(Debug, Clone)]
pub struct Behind {
    /// The service.
    pub service: Service,
    /// What the plugin is configured with.
    pub configuration: Value,
}

/// The module as proxies run it.
#[derive(Debug, Clone, Copy)]
pub struct Module<'m> {
    /// A file of every proxy: of what stands in an Envoy cluster Istio's agent fetches nothing.
    pub file: &'m str,
    /// What they do when it breaks.
    pub on_failure: OnFailure,
}

/// The object in the root namespace: of a cluster, where the control plane leads several.
pub fn envoy_filter(
    root: &Namespace,
    of: Option<&ClusterName>,
    module: &Module<'_>,
    places: &[Behind],
) -> Value {
    let name = plugin::name(Role::Upstream);
    let patches: Vec<Value> = places.iter().map(|place| patch(&name, module, place)).collect();
    let mut spec = json!({"configPatches": patches});
    if let (Some(cluster), Some(fields)) = (of, spec.as_object_mut()) {
        fields.insert("workloadSelector".to_owned(), json!({"labels": {CLUSTER: cluster.as_str()}}));
    }
    json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {
            "name": plugin::object_name(Role::Upstream, of),
            "namespace": root.as_str(),
            "labels": {"app.kubernetes.io/managed-by": "isthmus"},
        },
        "spec": spec,
    })
}

/// Without a subset it holds for every one of them, and for the service as a whole.
fn patch(name: &str, module: &Module<'_>, place: &Behind) -> Value {
    json!({
        "applyTo": "CLUSTER",
        "match": {"context": "SIDECAR_OUTBOUND", "cluster": {"service": place.service.host()}},
        "patch": {
            "operation": "MERGE",
            "value": {"typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options(name, module, place),
            }},
        },
    })
}

/// What istiod says of the protocol is replaced by this, so it must serve HTTP/1 and HTTP/2: whatever the client spoke.
fn options(name: &str, module: &Module<'_>, place: &Behind) -> Value {
    let configuration = json!({
        "@type": "type.googleapis.com/google.protobuf.StringValue",
        "value": place.configuration.to_string(),
    });
    let wasm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": name,
            "root_id": name,
            "failure_policy": failure_policy(module.on_failure),
            "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module.file}}},
            "configuration": configuration,
        },
    });
    let codec = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    });
    json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
        "http_filters": [
            {"name": name, "typed_config": wasm},
            {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
        ],
    })
}

/// As Envoy says it.
fn failure_policy(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Reload => "FAIL_RELOAD",
        OnFailure::Close => "FAIL_CLOSED",
        OnFailure::Open => "FAIL_OPEN",
    }
}
