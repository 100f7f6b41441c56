use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use isthmus::kube::{Apply, Cluster, Id, Kind, is_ours, same};
use isthmus::manifest::{self, Content};
use isthmus::plugin::ModuleUrl;
use isthmus::read::Project;
use isthmus::rollout::{Options, to_directories};
use isthmus_tests::cluster::{Clusters, ISTIO};
use isthmus_tests::repository;
use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, cluster, namespace, plugin};

/// The directories of all meshes that are examples or golden cases.
fn meshes() -> Vec<PathBuf> {
    let below = |room: &str| {
        let entries = std::fs::read_dir(repository().join(room)).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let mut meshes = [below("examples"), below("tests/golden")].concat();
    meshes.retain(|path| path.join("mesh.yaml").is_file());
    meshes.sort();
    meshes
}

/// What a rollout renders for a mesh, for each of its clusters; nothing if the mesh has errors, as some cases have.
fn rendered(mesh: &Path, upstream_check: bool) -> Vec<Value> {
    rendered_with(mesh, upstream_check, &"file:///etc/isthmus/isthmus.wasm".parse().expect("a URL"))
}

/// The same, with the module from elsewhere.
fn rendered_with(mesh: &Path, upstream_check: bool, url: &ModuleUrl) -> Vec<Value> {
    let project = Project::read(Some(mesh), Path::new(".")).expect("readable files");
    let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Vec::new() };
    let out = tempfile::tempdir().expect("a directory");
    let directories: BTreeMap<_, _> =
        mesh.clusters().map(|c| (c.name.clone(), out.path().join(c.name.as_str()))).collect();
    let options = Options { url, upstream_check, dry_run: false };
    let changes = to_directories(mesh, plans, &directories, options).expect("directories");
    let files: BTreeSet<String> = changes.into_iter().flat_map(|change| change.written).collect();
    let read = |file: String| {
        let text = std::fs::read_to_string(file).expect("a file");
        serde_saphyr::from_str(&text).expect("an object is YAML")
    };
    files.into_iter().map(read).collect()
}

/// The same mesh with plugins of the other kind, on the Istio that reads them.
fn with_extensions(mesh: &Path) -> TempDir {
    let copy = TempDir::new().expect("a directory");
    let text = std::fs::read_to_string(mesh.join("mesh.yaml")).expect("a mesh");
    let mut document: Value = serde_saphyr::from_str(&text).expect("YAML");
    if let Some(spec) = document["spec"].as_object_mut() {
        let istio = spec.entry("istio").or_insert_with(|| json!({}));
        istio["version"] = json!("1.31");
        istio["trafficExtension"] = json!(true);
    }
    std::fs::write(copy.path().join("mesh.yaml"), document.to_string()).expect("a file");
    if let Ok(policies) = std::fs::read_dir(mesh.join("policies")) {
        std::fs::create_dir(copy.path().join("policies")).expect("a directory");
        for policy in policies.map(|entry| entry.expect("an entry").path()) {
            let name = policy.file_name().expect("a name");
            std::fs::copy(&policy, copy.path().join("policies").join(name)).expect("a file");
        }
    }
    copy
}

/// What an object says, wherever its kind says it.
fn flat(object: &Value) -> Value {
    let mut object = object.clone();
    object["kind"] = Value::Null;
    if let Some(spec) = object["spec"].as_object_mut() {
        if let Some(Value::Object(wasm)) = spec.remove("wasm") {
            spec.extend(wasm);
        }
        if spec.get("phase").is_some_and(|phase| phase == "UNSPECIFIED_PHASE") {
            spec.insert("phase".to_owned(), json!("UNSPECIFIED"));
        }
    }
    object
}

/// What every cluster of a mesh needs, in the order in which it may come; nothing for a mesh that cannot be made.
fn needed(directory: &Path) -> Vec<Value> {
    let project = Project::read(Some(directory), Path::new(".")).expect("readable files");
    let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Vec::new() };
    let root = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n";
    let options = manifest::Options {
        roots: mesh.meshes().map(|mesh| (mesh.root.clone(), root.to_owned())).collect(),
        ..manifest::Options::default()
    };
    let Ok(manifest) = manifest::render(mesh, plans, &options) else { return Vec::new() };
    let object = |item: manifest::Item| match item.content {
        Content::Object(object) => Some(object),
        Content::IstioOperator(_) | Content::Helm(_) => None,
    };
    manifest.into_values().flatten().filter_map(object).collect()
}

/// Clusters with the definitions of the oldest Istio and of the newest.
async fn of_each_istio() -> Option<(Clusters, Vec<(Client, Cluster)>)> {
    let names = ISTIO.map(|version| (version, version));
    let clusters = Clusters::with_istio(&names).await?;
    let mut each = Vec::new();
    for version in ISTIO {
        let reached = cluster(&clusters.kubeconfig(), version, PATIENCE).await;
        each.push((clusters.client(version).await, reached));
    }
    Some((clusters, each))
}

/// Applies an object several times; what the server makes of it each time.
async fn again<const TIMES: usize>((client, cluster): &(Client, Cluster), object: &Value) -> [Value; TIMES] {
    if let Some(wanted) = object["metadata"]["namespace"].as_str() {
        namespace(client, wanted).await;
    }
    let mut made = [const { Value::Null }; TIMES];
    for place in &mut made {
        let applied = cluster.apply(object, Apply::default()).await;
        *place = applied.unwrap_or_else(|error| panic!("{error}\n{object:#}"));
    }
    made
}

#[tokio::test]
async fn a_server_takes_all_that_is_rendered_and_a_second_time_changes_nothing() {
    let Some((_clusters, each)) = of_each_istio().await else { return };
    let mut kinds = BTreeSet::new();
    let mut count = 0;
    for mesh in meshes() {
        for object in [rendered(&mesh, false), rendered(&mesh, true)].concat() {
            for cluster in &each {
                let [first, kept] = again(cluster, &object).await;
                assert_eq!(first, kept, "{}", mesh.display());
                assert_eq!(kept["spec"], object["spec"], "{}: nothing is added or lost", mesh.display());
                assert!(is_ours(&kept), "{kept:#}");
            }
            kinds.insert(object["kind"].as_str().expect("a kind").to_owned());
            count += 1;
        }
    }
    let wanted = ["DestinationRule", "EnvoyFilter", "VirtualService", "WasmPlugin"];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    assert!(count > 200, "only {count} objects");
}

#[tokio::test]
async fn the_newest_istio_takes_all_plugins_as_extensions_which_say_the_same() {
    let Some((_clusters, each)) = of_each_istio().await else { return };
    let [oldest, newest] = each.as_slice() else { panic!("an oldest and a newest") };
    let is_of = |kind: &'static str| move |object: &Value| object["kind"] == kind;
    let mut count = 0;
    for mesh in meshes() {
        let mut plugins = rendered(&mesh, false);
        plugins.retain(is_of("WasmPlugin"));
        // A mesh with mistakes has none, and one of an old Istio something else to do when the filter breaks.
        if plugins.is_empty() || plugins.iter().any(|plugin| plugin["spec"]["failStrategy"] == "FAIL_CLOSE") {
            continue;
        }
        let mut extensions = rendered(with_extensions(&mesh).path(), false);
        extensions.retain(is_of("TrafficExtension"));
        let sides = [&plugins, &extensions].map(|side| side.iter().map(flat).collect::<Vec<_>>());
        assert_eq!(sides[0], sides[1], "{}", mesh.display());
        for extension in &extensions {
            let [first, kept] = again(newest, extension).await;
            assert_eq!(first, kept, "{}", mesh.display());
            assert_eq!(kept["spec"], extension["spec"], "{}: nothing is added or lost", mesh.display());
            count += 1;
        }
    }
    assert!(count > 100, "only {count} objects");
    let kind = Kind::new("extensions.istio.io/v1alpha1", "TrafficExtension");
    let error = oldest.1.list(&kind).await.expect_err("it knows none").to_string();
    assert!(error.contains("the cluster knows no TrafficExtension"), "{error}");
}

#[tokio::test]
async fn a_server_takes_the_url_and_the_digest_of_each_scheme() {
    let Some((_clusters, each)) = of_each_istio().await else { return };
    let mesh = repository().join("examples/two-clusters");
    let digest = "sha256:687f55b39dfd1c7ba66f6c0c5ddb1a81ca46d02484517e9e31e7059a2a76f6a6";
    for url in ["oci://registry.example:5000/team/isthmus:v1", "https://web.example/isthmus.wasm?a=b"] {
        let known: ModuleUrl = format!("{url}@{digest}").parse().expect("a URL");
        let unknown: ModuleUrl = url.parse().expect("a URL");
        let secret = unknown.clone().with_pull_secret("registry");
        for url in [Some(known), Some(unknown), secret.ok()].into_iter().flatten() {
            let objects = rendered_with(&mesh, false, &url);
            let plugins: Vec<_> = objects.iter().filter(|object| object["kind"] == "WasmPlugin").collect();
            assert!(!plugins.is_empty());
            for (object, cluster) in
                plugins.into_iter().flat_map(|object| each.iter().map(move |to| (object, to)))
            {
                let [first, kept] = again(cluster, object).await;
                assert_eq!(first, kept, "{url}");
                assert_eq!(kept["spec"], object["spec"], "{url}: nothing is added or lost");
            }
        }
    }
}

#[tokio::test]
async fn a_server_takes_all_that_a_mesh_needs_and_a_second_time_changes_nothing() {
    let Some((_clusters, each)) = of_each_istio().await else { return };
    let mut kinds = BTreeSet::new();
    for mesh in meshes() {
        for object in needed(&mesh) {
            kinds.insert(format!("{} {}", object["apiVersion"], object["kind"]).replace('"', ""));
            for cluster in &each {
                let [first, second, kept] = again(cluster, &object).await;
                // Whose it is, where only its name is said, or the status that a definition gives it, a server keeps only
                // the second time.
                assert!(same(&first, &second), "{first:#}\n{second:#}");
                assert_eq!(second, kept, "{}", mesh.display());
                if kept["kind"] != "Namespace" {
                    // Another mesh may need one of this name that cannot come of this one.
                    cluster.1.delete(&kept, false).await.expect("it goes");
                }
            }
        }
    }
    let wanted = [
        "apps/v1 Deployment",
        "gateway.networking.k8s.io/v1 Gateway",
        "gateway.networking.k8s.io/v1 TLSRoute",
        "gateway.networking.k8s.io/v1alpha2 TLSRoute",
        "networking.istio.io/v1 DestinationRule",
        "networking.istio.io/v1 Gateway",
        "networking.istio.io/v1 ServiceEntry",
        "networking.istio.io/v1 VirtualService",
        "v1 ConfigMap",
        "v1 Namespace",
        "v1 Service",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be_and_keeps_nothing() {
    let Some(clusters) = Clusters::shared().await else { return };
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    namespace(&clusters.client("cluster1").await, "dry").await;
    let mut object = plugin("dry", "one");
    let id = Id::of(&object).expect("a name");
    let dry = Apply { dry_run: true, ..Apply::default() };
    cluster.apply(&object, dry).await.expect("it would be taken");
    assert_eq!(cluster.get(&id).await.expect("an answer"), None);

    let before = cluster.apply(&object, Apply::default()).await.expect("taken");
    assert!(same(&cluster.apply(&object, dry).await.expect("the same"), &before));
    object["spec"]["priority"] = 7.into();
    let after = cluster.apply(&object, dry).await.expect("it would be taken");
    assert!(!same(&after, &before));
    assert_eq!(after["spec"]["priority"], 7);
    assert_eq!(cluster.get(&id).await.expect("an answer"), Some(before));
}

#[tokio::test]
async fn a_map_that_has_nothing_left_is_empty_and_not_null() {
    let Some(clusters) = Clusters::shared().await else { return };
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    namespace(&clusters.client("cluster1").await, "emptied").await;
    let mut object = plugin("emptied", "one");
    object["spec"]["pluginConfig"] = json!({"rules": {"a": 1}, "names": ["a"]});
    cluster.apply(&object, Apply::default()).await.expect("taken");
    object["spec"]["pluginConfig"] = json!({"rules": {}, "names": []});
    let after = cluster.apply(&object, Apply::default()).await.expect("taken");
    assert_eq!(after["spec"], object["spec"]);
}

#[tokio::test]
async fn what_is_left_out_of_an_object_goes_and_what_others_added_stays() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    namespace(&client, "shared-object").await;
    let mut object = plugin("shared-object", "one");
    object["spec"]["priority"] = 7.into();
    cluster.apply(&object, Apply::default()).await.expect("taken");
    let path = "/apis/extensions.istio.io/v1alpha1/namespaces/shared-object/wasmplugins/one";
    let request = hyper::Request::patch(format!("{path}?fieldManager=kubectl"))
        .header("content-type", "application/merge-patch+json")
        .body(br#"{"metadata": {"annotations": {"team": "payments"}}}"#.to_vec())
        .expect("a request");
    client.request::<Value>(request).await.expect("the server agrees");
    let object = plugin("shared-object", "one");
    let after = cluster.apply(&object, Apply::default()).await.expect("taken");
    assert_eq!(after["spec"], object["spec"]);
    assert_eq!(after["metadata"]["annotations"]["team"], "payments");
}

#[tokio::test]
async fn a_list_has_what_is_labelled_as_ours_over_all_pages_and_a_delete_takes_what_was_seen() {
    let Some(clusters) = Clusters::start(&["listed"]).await else { return };
    let client = clusters.client("listed").await;
    let cluster = cluster(&clusters.kubeconfig(), "listed", PATIENCE).await;
    for name in ["one", "two"] {
        namespace(&client, name).await;
    }
    let mut foreign = plugin("one", "foreign");
    foreign["metadata"]["labels"] = Value::Null;
    cluster.apply(&foreign, Apply::default()).await.expect("taken");
    // More than the server gives at a time.
    for number in 0..501 {
        let namespace = if number % 2 == 0 { "one" } else { "two" };
        let object = plugin(namespace, &format!("p{number}"));
        cluster.apply(&object, Apply::default()).await.expect("taken");
    }
    let kind = Kind::new("extensions.istio.io/v1alpha1", "WasmPlugin");
    let seen = cluster.list(&kind).await.expect("a list");
    assert_eq!(seen.len(), 501);
    assert!(seen.iter().all(|object| object["kind"] == "WasmPlugin" && is_ours(object)));

    assert!(cluster.delete(&seen[0], true).await.expect("it would go"));
    assert_eq!(cluster.list(&kind).await.expect("a list").len(), 501, "a dry run deletes nothing");
    assert!(cluster.delete(&seen[0], false).await.expect("it goes"));
    assert!(!cluster.delete(&seen[0], false).await.expect("it is gone"));
    assert_eq!(cluster.list(&kind).await.expect("a list").len(), 500);
}
