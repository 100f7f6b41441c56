//! What `isthmus mesh render` writes, on real API servers.

use std::collections::BTreeSet;
use std::path::Path;

use isthmus::kube::{Apply, is_ours};
use isthmus::manifest::{self, Content, Options, folder};
use isthmus::read::Project;
use isthmus_tests::cluster::Clusters;
use serde_json::Value;

use super::{PATIENCE, cluster, namespace};

/// A certificate for every root that there is none of: what is applied does not hold it.
const ROOT: &str = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";

/// What is rendered for a mesh, cluster by cluster, in the order in which it is applied; nothing if the mesh has errors.
fn rendered(mesh: &Path) -> Vec<Value> {
    let project = Project::read(Some(mesh), Path::new(".")).expect("readable files");
    let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Vec::new() };
    let roots = mesh.meshes().map(|mesh| (mesh.root.clone(), ROOT.to_owned())).collect();
    let options = Options { roots, ..Options::default() };
    let Ok(manifest) = manifest::render(mesh, plans, &options) else { return Vec::new() };
    let items = manifest.into_values().flatten();
    let object = |item: manifest::Item| match item.content {
        // Through the text that people apply.
        Content::Object(_) => {
            let text = folder::document(&item).expect("YAML");
            Some(serde_saphyr::from_str(&text).expect("an object is YAML"))
        }
        Content::IstioOperator(_) | Content::Helm(_) => None,
    };
    items.filter_map(object).collect()
}

#[tokio::test]
async fn a_server_takes_all_that_a_mesh_needs_and_a_second_time_changes_nothing() {
    let Some(clusters) = Clusters::start(&["cluster1"]).await else { return };
    let client = clusters.client("cluster1").await;
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    let (mut kinds, mut count) = (BTreeSet::new(), 0);
    for mesh in super::objects::meshes() {
        for object in rendered(&mesh) {
            let kind = object["kind"].as_str().expect("a kind");
            if let Some(name) = object.pointer("/metadata/namespace") {
                namespace(&client, name.as_str().expect("a namespace")).await;
            }
            let said = |error| -> Value { panic!("{}: {error}\n{object:#}", mesh.display()) };
            let mut first = cluster.apply(&object, Apply::default()).await.unwrap_or_else(said);
            // Its definition gives a status to one that has none, which only the second time is stored.
            if object["apiVersion"] == "gateway.networking.k8s.io/v1" && kind == "Gateway" {
                first = cluster.apply(&object, Apply::default()).await.unwrap_or_else(said);
            }
            let second = cluster.apply(&object, Apply::default()).await.unwrap_or_else(said);
            assert_eq!(first, second, "{}", mesh.display());
            assert!(kind == "Namespace" || is_ours(&first), "{first:#}");
            if object["apiVersion"].as_str().is_some_and(|version| version.contains("istio.io")) {
                assert_eq!(first["spec"], object["spec"], "{}: nothing is added or lost", mesh.display());
            }
            kinds.insert(kind.to_owned());
            count += 1;
        }
    }
    let wanted = [
        "ConfigMap",
        "Deployment",
        "DestinationRule",
        "Gateway",
        "Namespace",
        "Service",
        "ServiceEntry",
        "TLSRoute",
        "VirtualService",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    assert!(count > 300, "only {count} objects");
}
