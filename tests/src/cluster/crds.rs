//! Istio's own CustomResourceDefinitions, as it installs them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

/// Where those of a version of Istio and of the Gateway API are.
pub(super) fn files(version: &str) -> [PathBuf; 2] {
    [(".ci/istio-crds", [version].as_slice()), (".ci/gateway-api-crds", &[])].map(|(script, arguments)| {
        super::path_from(script, arguments).unwrap_or_else(|why| panic!("no definitions: {why}"))
    })
}

/// Installs those of a version of Istio and of the Gateway API, and waits until the server serves each.
pub(super) async fn install(client: &Client, version: &str) {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let mut names = Vec::new();
    for path in files(version) {
        let text = std::fs::read_to_string(path).expect("definitions");
        for document in text.split("\n---\n").filter(|document| document.contains("kind: ")) {
            let definition: Value = serde_saphyr::from_str(document).expect("a definition is YAML");
            let name =
                definition.pointer("/metadata/name").and_then(Value::as_str).expect("a name").to_owned();
            let how = PatchParams::apply("istio");
            api.patch(&name, &how, &Patch::Apply(&definition)).await.expect("the server takes it");
            names.push(name);
        }
    }
    assert!(!names.is_empty(), "no definitions");
    let deadline = Instant::now() + PATIENCE;
    for name in names {
        while !is_established(&api.get(&name).await.expect("the definition is there")) {
            assert!(Instant::now() < deadline, "{name} is not established");
            tokio::time::sleep(TICK).await;
        }
    }
}

fn is_established(definition: &DynamicObject) -> bool {
    let conditions = definition.data.pointer("/status/conditions").and_then(Value::as_array);
    let is = |condition: &Value, field: &str, wanted: &str| {
        condition.get(field).is_some_and(|found| found.as_str() == Some(wanted))
    };
    let established =
        |condition: &Value| is(condition, "type", "Established") && is(condition, "status", "True");
    conditions.into_iter().flatten().any(established)
}
