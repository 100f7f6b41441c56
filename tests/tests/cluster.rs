//! Against real API servers, several at once.
#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "cluster/apply.rs"]
mod apply;
#[path = "cluster/credentials.rs"]
mod credentials;
#[path = "cluster/discovery.rs"]
mod discovery;
#[path = "cluster/doctor.rs"]
mod doctor;
#[path = "cluster/exchange.rs"]
mod exchange;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/fixture.rs"]
mod fixture;
#[path = "cluster/hostile.rs"]
mod hostile;
#[path = "cluster/killed.rs"]
mod killed;
#[path = "cluster/mesh.rs"]
mod mesh;
#[path = "cluster/objects.rs"]
mod objects;
#[path = "cluster/partly.rs"]
mod partly;
#[path = "cluster/problems.rs"]
mod problems;
#[path = "cluster/remote.rs"]
mod remote;
#[path = "cluster/renderer.rs"]
mod renderer;
#[path = "cluster/rollout.rs"]
mod rollout;
#[path = "cluster/schedules.rs"]
mod schedules;
#[path = "cluster/status.rs"]
mod status;
#[path = "cluster/trial.rs"]
mod trial;
#[path = "cluster/tries.rs"]
mod tries;
#[path = "cluster/trust.rs"]
mod trust;
#[path = "cluster/verify.rs"]
mod verify;
#[path = "cluster/waves.rs"]
mod waves;

use std::path::Path;
use std::time::Duration;

use isthmus::kube::{Cluster, Kubeconfig};
use kube::Client;
use serde_json::{Value, json};

/// How long a call may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster as the code under test reaches it.
async fn cluster(kubeconfig: &Path, context: &str, timeout: Duration) -> Cluster {
    let kubeconfig = Kubeconfig::read(Some(kubeconfig), None, None).expect("a kubeconfig");
    kubeconfig.cluster(context, timeout).await.expect("a context")
}

/// One request past the code under test.
async fn ask(client: &Client, request: hyper::http::request::Builder, body: &Value) -> Value {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = request.header("content-type", "application/json").body(body).expect("a request");
    client.request(request).await.expect("the server agrees")
}

async fn get(client: &Client, path: &str) -> Value {
    ask(client, hyper::Request::get(path), &Value::Null).await
}

async fn post(client: &Client, path: &str, object: &Value) -> Value {
    ask(client, hyper::Request::post(path), object).await
}

/// Makes a namespace, if there is none of this name.
async fn namespace(client: &Client, name: &str) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let request = hyper::Request::patch(format!("/api/v1/namespaces/{name}?fieldManager=test"))
        .header("content-type", "application/apply-patch+yaml")
        .body(namespace.to_string().into_bytes())
        .expect("a request");
    client.request::<Value>(request).await.expect("the server agrees");
}

/// A plugin of this namespace and name that has our label, and nothing special.
fn plugin(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "isthmus"},
        },
        "spec": {"url": "oci://registry.example/isthmus:v1", "pluginConfig": {"a": 1}},
    })
}

/// The token of a service account of this name, which is made in a namespace of the same name.
async fn account(client: &Client, name: &str) -> String {
    namespace(client, name).await;
    let accounts = format!("/api/v1/namespaces/{name}/serviceaccounts");
    post(client, &accounts, &json!({"metadata": {"name": name}})).await;
    let wish = json!({"spec": {"expirationSeconds": 600}});
    let given = post(client, &format!("{accounts}/{name}/token"), &wish).await;
    given["status"]["token"].as_str().expect("a token").to_owned()
}
