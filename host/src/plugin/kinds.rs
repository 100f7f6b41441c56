//! One plugin as an object of either kind. istiod makes a `TrafficExtension` of every `WasmPlugin` that it reads, field by field as
//! here, but for the name: so both can stand beside each other, and are then two filters.

use policy::mesh::Extension;
use serde_json::{Map, Value, json};

use super::url::FIELDS;

/// The API of both.
pub(crate) const API_VERSION: &str = "extensions.istio.io/v1alpha1";

/// What a `TrafficExtension` says under `wasm`, and a `WasmPlugin` at the top.
const OF_WASM: [&str; 10] = [
    "url",
    "sha256",
    "imagePullPolicy",
    "imagePullSecret",
    "verificationKey",
    "pluginConfig",
    "pluginName",
    "failStrategy",
    "vmConfig",
    "type",
];

/// The phase that is no phase: the one value that the two call by different names.
const UNSPECIFIED: [&str; 2] = ["UNSPECIFIED_PHASE", "UNSPECIFIED"];

/// Which of the two kinds an object is of, if of either.
pub fn extension(object: &Value) -> Option<Extension> {
    let kind = object.get("kind")?.as_str()?;
    Extension::ALL.into_iter().find(|extension| extension.as_str() == kind)
}

/// What an object of either kind configures its filter with.
pub fn configured(object: &Value) -> Option<&Value> {
    said(object)?.get("pluginConfig")
}

/// The part of an object that speaks of the module and of what it is configured with.
fn said(object: &Value) -> Option<&Value> {
    let spec = object.get("spec")?;
    match extension(object)? {
        Extension::WasmPlugin => Some(spec),
        Extension::TrafficExtension => spec.get("wasm"),
    }
}

/// What an object of either kind says of its plugin.
pub(crate) fn settings(object: &Value) -> Option<&Map<String, Value>> {
    said(object)?.as_object()
}

/// The same, to be changed.
pub(crate) fn settings_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let path = path_of(object);
    object.pointer_mut(path)?.as_object_mut()
}

/// Where an object says that the module is.
pub(crate) fn module(object: &Value) -> Map<String, Value> {
    let fields = settings(object).into_iter().flatten().filter(|(name, _)| FIELDS.contains(&name.as_str()));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn path_of(object: &Value) -> &'static str {
    match extension(object) {
        Some(Extension::TrafficExtension) => "/spec/wasm",
        Some(Extension::WasmPlugin) | None => "/spec",
    }
}

/// An object without where it says that the module is.
pub(crate) fn without_module(object: &Value) -> Value {
    let mut object = object.clone();
    let path = path_of(&object);
    if let Some(fields) = object.pointer_mut(path).and_then(Value::as_object_mut) {
        fields.retain(|field, _| !FIELDS.contains(&field.as_str()));
    }
    object
}

/// The same plugin as an object of the other kind, with what a rollout says of it; `None` where there is no filter of Wasm.
pub(crate) fn other(object: &Value) -> Option<Value> {
    match extension(object)? {
        Extension::WasmPlugin => Some(traffic_extension(object)),
        Extension::TrafficExtension => wasm_plugin(object),
    }
}

pub(super) fn traffic_extension(plugin: &Value) -> Value {
    let fields = plugin.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    let (wasm, mut spec): (Map<_, _>, Map<_, _>) =
        fields.into_iter().partition(|(field, _)| OF_WASM.contains(&field.as_str()));
    rename_phase(&mut spec, UNSPECIFIED);
    spec.insert("wasm".to_owned(), Value::Object(wasm));
    like(plugin, Extension::TrafficExtension, &spec)
}

fn wasm_plugin(object: &Value) -> Option<Value> {
    let mut spec = object.get("spec")?.as_object()?.clone();
    let wasm = spec.remove("wasm")?;
    spec.extend(wasm.as_object()?.clone());
    let [of_plugins, of_extensions] = UNSPECIFIED;
    rename_phase(&mut spec, [of_extensions, of_plugins]);
    Some(like(object, Extension::WasmPlugin, &spec))
}

fn rename_phase(spec: &mut Map<String, Value>, [from, to]: [&str; 2]) {
    if let Some(phase) = spec.get_mut("phase").filter(|phase| *phase == from) {
        *phase = to.into();
    }
}

/// An object under the name of another, with what we say beside its `spec`.
fn like(object: &Value, extension: Extension, spec: &Map<String, Value>) -> Value {
    let of = |path: &str| object.pointer(path).cloned().unwrap_or_default();
    json!({
        "apiVersion": API_VERSION,
        "kind": extension.as_str(),
        "metadata": {
            "name": of("/metadata/name"),
            "namespace": of("/metadata/namespace"),
            "labels": {"app.kubernetes.io/managed-by": "isthmus"},
            "annotations": {"isthmus.dev/plan": of("/metadata/annotations/isthmus.dev~1plan")},
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin() -> Value {
        json!({
            "apiVersion": "extensions.istio.io/v1alpha1",
            "kind": "WasmPlugin",
            "metadata": {
                "name": "isthmus-outbound", "namespace": "istio-system", "uid": "1",
                "labels": {"app.kubernetes.io/managed-by": "isthmus", "team": "web"},
                "annotations": {"isthmus.dev/plan": "abc"},
            },
            "spec": {
                "selector": {"matchLabels": {"topology.istio.io/cluster": "c1"}},
                "phase": "UNSPECIFIED_PHASE",
                "priority": 100,
                "match": [{"mode": "CLIENT"}],
                "type": "HTTP",
                "url": "oci://registry.example/isthmus:v1",
                "sha256": "00",
                "imagePullPolicy": "IfNotPresent",
                "imagePullSecret": "registry",
                "pluginName": "isthmus-outbound",
                "failStrategy": "FAIL_RELOAD",
                "pluginConfig": {"role": "outbound"},
                "vmConfig": {"env": [{"name": "A", "value": "b"}]},
            },
        })
    }

    #[test]
    fn a_plugin_says_the_same_as_either_kind() {
        let extension = other(&plugin()).unwrap();
        assert_eq!(
            extension,
            json!({
                "apiVersion": "extensions.istio.io/v1alpha1",
                "kind": "TrafficExtension",
                "metadata": {
                    "name": "isthmus-outbound", "namespace": "istio-system",
                    "labels": {"app.kubernetes.io/managed-by": "isthmus"},
                    "annotations": {"isthmus.dev/plan": "abc"},
                },
                "spec": {
                    "selector": {"matchLabels": {"topology.istio.io/cluster": "c1"}},
                    "phase": "UNSPECIFIED",
                    "priority": 100,
                    "match": [{"mode": "CLIENT"}],
                    "wasm": {
                        "type": "HTTP",
                        "url": "oci://registry.example/isthmus:v1",
                        "sha256": "00",
                        "imagePullPolicy": "IfNotPresent",
                        "imagePullSecret": "registry",
                        "pluginName": "isthmus-outbound",
                        "failStrategy": "FAIL_RELOAD",
                        "pluginConfig": {"role": "outbound"},
                        "vmConfig": {"env": [{"name": "A", "value": "b"}]},
                    },
                },
            })
        );
        let back = other(&extension).unwrap();
        assert_eq!((&back["kind"], &back["spec"]), (&json!("WasmPlugin"), &plugin()["spec"]));
        assert_eq!([configured(&back), configured(&extension)], [Some(&json!({"role": "outbound"})); 2]);
    }

    #[test]
    fn what_is_no_filter_of_wasm_has_no_other_kind() {
        let lua = json!({"kind": "TrafficExtension", "metadata": {}, "spec": {"lua": {"inlineCode": "x"}}});
        assert_eq!((other(&lua), configured(&lua)), (None, None));
        let filter = json!({"kind": "EnvoyFilter", "spec": {"pluginConfig": {}}});
        assert_eq!((other(&filter), configured(&filter), extension(&filter)), (None, None, None));
    }

    #[test]
    fn where_the_module_is_can_be_left_out_of_either_kind() {
        for object in [plugin(), other(&plugin()).unwrap()] {
            let text = without_module(&object).to_string();
            assert!(!text.contains("registry") && !text.contains("sha256"), "{text}");
            assert!(text.contains("pluginConfig"), "{text}");
        }
    }
}
