//! Files for what installs Istio, in a directory of manifests: the settings in them are what istiod will be told.

use serde_json::{Value, json};

use super::Object;
use crate::manifest::ISTIO_NAMESPACE;

/// Whether a document is for `istioctl install -f`.
pub(super) fn is_operator(document: &Value) -> bool {
    document.get("kind").and_then(Value::as_str) == Some("IstioOperator")
}

/// The mesh configuration and the injector's settings that come of a document, if it has any: an `IstioOperator`, or the
/// values of a chart.
pub(super) fn maps(document: &Value, is_chart: bool) -> Vec<Object> {
    let (config, values) = if is_operator(document) {
        (document.pointer("/spec/meshConfig"), document.pointer("/spec/values"))
    } else if is_chart {
        (document.get("meshConfig"), Some(document))
    } else {
        (None, None)
    };
    // Gateways and Istio's definitions come of such files too, which say no cluster.
    let values = values.filter(|values| values.pointer("/global/multiCluster/clusterName").is_some());
    let one = |name: &str, key: &str, value: &Value| {
        Object::of(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": ISTIO_NAMESPACE},
            "data": {key: value.to_string()},
        }))
    };
    let config = config.and_then(|config| one("istio", "mesh", config));
    let values = values.and_then(|values| one("istio-sidecar-injector", "values", values));
    config.into_iter().chain(values).collect()
}

/// Adds those that are not there as they are.
pub(super) fn add(there: &mut Vec<Object>, meant: Vec<Object>) {
    for map in meant {
        let is_it = |one: &Object| one.name() == map.name() && one.namespace() == map.namespace();
        if !there.iter().any(is_it) {
            there.push(map);
        }
    }
}
