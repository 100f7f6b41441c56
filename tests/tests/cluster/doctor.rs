//! `isthmus doctor` on real API servers: what it says of files it says of what the servers have.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use isthmus::kube::Id;
use isthmus_tests::cluster::Clusters;
use isthmus_tests::repository;
use kube::Client;
use serde_json::{Value, json};

use super::{account, ask, namespace};

const NAMES: [&str; 3] = ["cluster1", "cluster2", "cluster3"];

/// Everything that the files of a cluster have, those first that others lie in.
fn manifests(cluster: &str) -> Vec<Value> {
    let mut objects = Vec::new();
    let directory = repository().join("tests/doctor").join(cluster);
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        for mut document in serde_saphyr::from_multiple::<Value>(&text).expect("YAML") {
            match document.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => objects.extend(items),
                _ => objects.push(document),
            }
        }
    }
    objects.sort_by_key(|object| object["kind"] != "Namespace");
    objects
}

/// Makes an object with its status, which the server takes by another door.
async fn put(client: &Client, object: &Value) {
    let id = Id::of(object).expect("an object");
    let plural = match id.kind.name.as_str() {
        "MutatingWebhookConfiguration" => "mutatingwebhookconfigurations".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let root = if id.kind.api_version.contains('/') { "apis" } else { "api" };
    let within = id.namespace.as_deref().map_or_else(String::new, |name| format!("/namespaces/{name}"));
    let path = format!("/{root}/{}{within}/{plural}/{}", id.kind.api_version, id.name);
    for door in ["", "/status"] {
        if door == "/status" && object.get("status").is_none() {
            continue;
        }
        let request = hyper::Request::patch(format!("{path}{door}?fieldManager=test&force=true"))
            .header("content-type", "application/apply-patch+yaml")
            .body(object.to_string().into_bytes())
            .expect("a request");
        let put = client.request::<Value>(request).await;
        put.unwrap_or_else(|error| panic!("{error}: {path}{door}"));
    }
}

async fn doctor(kubeconfig: &Path, more: &[&str]) -> Output {
    let test = std::env::current_exe().expect("a test binary");
    let binary = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("isthmus");
    let mut command = Command::new(binary);
    command.stdin(Stdio::null()).arg("doctor").arg("-f").arg(repository().join("tests/doctor"));
    command.arg("--kubeconfig").arg(kubeconfig).args(more);
    let ended = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    ended.await.expect("it ends")
}

/// The items of a diagnosis, but for what only a server can answer.
fn items(output: &Output) -> BTreeSet<String> {
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let items = json["items"].as_array().expect("items").iter();
    let of_servers = ["ISD001", "ISD002", "ISD010", "ISD016"];
    let items = items.filter(|item| !of_servers.contains(&item["code"].as_str().expect("a code")));
    // What a directory does not have nobody looked at; a server says that it is not there.
    let judged = items.filter(|item| item["result"] != "skipped" && item["result"] != "idle");
    judged
        .map(|item| format!("{} {} {}: {}", item["cluster"], item["code"], item["result"], item["message"]))
        .collect()
}

#[tokio::test]
async fn a_server_that_has_what_files_have_is_told_the_same() {
    let Some(mut clusters) = Clusters::start(&NAMES).await else { return };
    let kubeconfig = clusters.kubeconfig();
    for name in NAMES {
        let client = clusters.client(name).await;
        namespace(&client, "kube-system").await;
        for object in manifests(name) {
            put(&client, &object).await;
        }
    }
    let from = repository().join("tests/doctor");
    let files = doctor(&kubeconfig, &["-o", "json", "--from", from.to_str().expect("text")]).await;
    let live = doctor(&kubeconfig, &["-o", "json"]).await;
    assert_eq!((files.status.code(), live.status.code()), (Some(1), Some(1)));
    let (files, live) = (items(&files), items(&live));
    assert!(files.len() > 60, "{files:#?}");
    let lost: Vec<_> = files.difference(&live).collect();
    assert_eq!(lost, Vec::<&String>::new());
    // A server knows besides that there is no istiod in the remote cluster, which the files leave open.
    let more: Vec<_> = live.difference(&files).collect();
    assert!(more.iter().all(|item| item.contains(" \"ISD01") && item.contains("passed")), "{more:#?}");

    wrong_on_servers(&mut clusters).await;
}

/// The token of one who may read nothing but namespaces.
async fn narrow(clusters: &Clusters) -> String {
    let token = account(&clusters.client("cluster3").await, "narrow").await;
    let client = clusters.client("cluster3").await;
    let rules = json!([{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}]);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "narrow"}, "rules": rules});
    put(&client, &role).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "narrow"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "narrow"},
        "subjects": [{"kind": "ServiceAccount", "name": "narrow", "namespace": "narrow"}],
    });
    put(&client, &binding).await;
    token
}

/// What only servers can get wrong.
async fn wrong_on_servers(clusters: &mut Clusters) {
    let kubeconfig = clusters.kubeconfig();
    let client = clusters.client("cluster2").await;
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/wasmplugins.extensions.istio.io";
    ask(&client, hyper::Request::delete(definition), &Value::Null).await;
    let token = narrow(clusters).await;
    let narrow = clusters.kubeconfig_of("cluster3", &clusters.server("cluster3").url(), &token);
    let shown = String::from_utf8(doctor(&narrow, &["-o", "short"]).await.stdout).expect("text");
    let may_not = "cluster3: warning[ISD002]: no Secret could be looked at: system:serviceaccount:narrow:narrow may not list secrets \
                   in namespace istio-system: grant the verb with RBAC";
    assert!(shown.lines().any(|line| line == may_not), "{shown}");
    assert!(!shown.contains("no Namespace could be looked at"), "{shown}");
    let unknown = "cluster1: error[ISD001]: nothing was seen of it: the kubeconfig has no such context; it has cluster3";
    assert!(shown.lines().any(|line| line == unknown), "{shown}");

    clusters.server_mut("cluster1").stop();
    let shown = String::from_utf8(doctor(&kubeconfig, &["-o", "short", "--timeout", "5"]).await.stdout)
        .expect("text");
    let of = |code: &str| shown.lines().filter(|line| line.contains(code)).count();
    assert!(
        shown.contains("cluster1: error[ISD001]: nothing was seen of it: the API server cannot be reached"),
        "{shown}"
    );
    assert!(
        shown.contains("cluster2: error[ISD016]: it knows no WasmPlugin of extensions.istio.io/v1alpha1"),
        "{shown}"
    );
    assert_eq!((of("ISD001"), of("ISD016")), (1, 1), "the others were looked at all the same: {shown}");
}
