//! `isthmus doctor` on real API servers: what it says of files it says of what the servers have.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use isthmus::kube::Id;
use isthmus_tests::cluster::{Clusters, Server};
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
    // The webhook that would judge the others comes last: nothing is behind it here.
    let place = |object: &Value| match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("ValidatingWebhookConfiguration") => 2,
        _ => 1,
    };
    objects.sort_by_key(place);
    objects
}

/// Makes an object with its status, which the server takes by another door.
async fn put(client: &Client, object: &Value) {
    let id = Id::of(object).expect("an object");
    let plural = format!("{}s", id.kind.name.to_lowercase());
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

/// A mesh of fifty clusters of which one server plays all, each reached as it is said of its name; its directory.
fn fifty(server: &Server, reached: impl Fn(&str) -> (String, String)) -> tempfile::TempDir {
    let (mut kubeconfig, mut all) = (json!({"clusters": [], "users": [], "contexts": []}), Vec::new());
    for number in 0..50 {
        let name = format!("c{number:02}");
        let ((url, token), mut cluster) = (reached(&name), server.entry_of_cluster());
        (cluster["name"], cluster["cluster"]["server"]) = (json!(name), json!(url));
        let mut add = |list: &str, item: Value| kubeconfig[list].as_array_mut().expect("a list").push(item);
        add("clusters", cluster);
        add("users", json!({"name": name, "user": {"token": token}}));
        add("contexts", json!({"name": name, "context": {"cluster": name, "user": name}}));
        let gateway = json!({"address": format!("198.51.100.{}", number + 1)});
        all.push(json!({"name": name, "network": format!("n{number}"), "context": name, "gateway": gateway}));
    }
    let mesh = json!({
        "apiVersion": "isthmus.dev/v1alpha1", "kind": "Mesh", "metadata": {"name": "large"},
        "spec": {"clusters": all, "services": {"web.shop": {"port": 80}}},
    });
    let directory = tempfile::tempdir().expect("a directory");
    for (name, content) in [("kubeconfig", kubeconfig), ("mesh.yaml", mesh)] {
        std::fs::write(directory.path().join(name), content.to_string()).expect("a file");
    }
    directory
}

/// One refuses connections, one takes them and says nothing, and one knows nobody.
#[tokio::test]
async fn of_fifty_clusters_of_which_three_are_dead_the_others_are_looked_at() {
    let Some(clusters) = Clusters::start(&["played"]).await else { return };
    let server = clusters.server("played");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silence = format!("https://{}", silent.local_addr().expect("an address"));
    let token = server.token().to_owned();
    let directory = fifty(server, |name| match name {
        "c07" => ("https://127.0.0.1:1".to_owned(), token.clone()),
        "c23" => (silence.clone(), token.clone()),
        "c41" => (server.url(), "nobody".to_owned()),
        _ => (server.url(), token.clone()),
    });
    let mut command = super::mesh::isthmus();
    command.args(["doctor", "--timeout", "20", "-o", "json", "-f"]).arg(directory.path());
    command.arg("--kubeconfig").arg(directory.path().join("kubeconfig"));
    let output = super::mesh::run(command).await;
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = told["items"].as_array().expect("items");
    let of = |code: &str, result: &str| -> Vec<(String, String)> {
        let is = |item: &&Value| item["code"] == code && item["result"] == result;
        let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
        items.iter().filter(is).map(|item| (text(item, "cluster"), text(item, "message"))).collect()
    };
    let dead = of("ISD001", "error");
    let wanted = [
        ("c07", "Connection refused"),
        ("c23", "no answer within 20s"),
        ("c41", "does not accept the credentials"),
    ];
    assert_eq!(dead.len(), wanted.len(), "{dead:#?}");
    for ((cluster, why), (wanted, part)) in dead.iter().zip(wanted) {
        assert!(cluster == wanted && why.contains(part), "{cluster}: {why}");
    }
    assert_eq!((of("ISD001", "passed").len(), of("ISD002", "passed").len()), (47, 47));
    let missing = of("ISD030", "error");
    let first = missing.first().map(|(cluster, message)| (cluster.as_str(), message.matches(", ").count()));
    assert_eq!((missing.len(), first), (47, Some(("c00", 48))), "all that a cluster misses is one line");
    assert_eq!(output.status.code(), Some(1));
}
