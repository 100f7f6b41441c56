use std::path::Path;

use super::*;

const MESH: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: m}
spec:
  clusters:
  - {name: east, network: one, gateway: {address: 10.0.0.1}}
  - {name: west, network: two, gateway: {address: 10.0.0.2}, controlPlane: {remoteOf: east}}
  services:
    ledger.payments: {port: 80, clusters: [east, west]}
";

/// The objects that are not as wanted: their cluster, name and state.
fn odd(standing: &BTreeMap<ClusterName, Standing>) -> Vec<(&str, &str, State)> {
    let all = standing.iter().flat_map(|(cluster, standing)| {
        standing.objects.iter().map(|object| (cluster.as_str(), object.name.as_str(), object.state))
    });
    all.filter(|(_, _, state)| *state != State::AsWanted).collect()
}

fn write(path: &Path, object: &Value) {
    std::fs::write(path, serde_saphyr::to_string(object).expect("YAML")).expect("a file");
}

#[tokio::test]
async fn what_stands_for_a_remote_in_the_cluster_of_its_control_plane_is_the_remotes() {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:#?}"));
    let plans = policy::compile(&mesh, &[]).0.expect("plans");
    let directory = tempfile::tempdir().expect("a directory");
    let east: ClusterName = "east".parse().expect("a name");
    let directories = [(east.clone(), directory.path().to_owned())].into();
    let url = "oci://registry.example/isthmus:v1".parse().expect("a URL");
    let options = Options { url: &url, upstream_check: false, dry_run: false };
    let target = Target::Directory(directory.path().to_owned());

    let all = wanted(&mesh, &plans).expect("plans");
    let names: Vec<&str> = all.keys().map(ClusterName::as_str).collect();
    assert_eq!(names, ["east"], "a remote has no objects of its own");
    let wanted = all.get(&east).expect("it has a control plane");
    let nothing = wanted.standing(&target).await.expect("files");
    assert!(nothing.values().all(|standing| standing.digest.is_none() && standing.objects.len() == 3));

    super::super::to_directories(&mesh, &plans, &directories, options).expect("files");
    let standing = wanted.standing(&target).await.expect("files");
    assert_eq!(odd(&standing), []);
    for (cluster, standing) in &standing {
        assert_eq!(standing.digest.as_ref(), wanted.digests.get(cluster), "{cluster}");
    }

    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let elsewhere = format!("oci://registry.example/other:v2@{digest}").parse::<ModuleUrl>().expect("a URL");
    let elsewhere = elsewhere.with_pull_secret("registry").expect("a name");
    super::super::to_directories(&mesh, &plans, &directories, Options { url: &elsewhere, ..options })
        .expect("files");
    let standing = wanted.standing(&target).await.expect("files");
    assert_eq!(odd(&standing), [], "which module it is is no matter of plans");

    let (gone, changed) = ("isthmus-gateway-west.yaml", "isthmus-inbound-west.yaml");
    std::fs::remove_file(directory.path().join(gone)).expect("it was there");
    let text = std::fs::read_to_string(directory.path().join(changed)).expect("a file");
    let mut object: Value = serde_saphyr::from_str(&text).expect("YAML");
    *object.pointer_mut("/spec/priority").expect("a field") = 7.into();
    write(&directory.path().join(changed), &object);
    *object.pointer_mut("/metadata/namespace").expect("a field") = "payments".into();
    write(&directory.path().join("isthmus-inbound-west@payments.yaml"), &object);
    let standing = wanted.standing(&target).await.expect("files");
    let told = [
        ("west", "WasmPlugin istio-system/isthmus-gateway-west", State::Missing),
        ("west", "WasmPlugin istio-system/isthmus-inbound-west", State::Differs),
        ("west", "WasmPlugin payments/isthmus-inbound-west", State::Unwanted),
    ];
    assert_eq!(odd(&standing), told);
}
