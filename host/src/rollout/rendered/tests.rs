use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use policy::Policy;

use super::*;
use crate::rollout::to_directories;

/// A mesh of two clusters, with so many services that stay within their network.
fn bounded(services: usize) -> (Mesh, Plans) {
    let mut mesh =
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec:\n  clusters:\n  \
        - {name: east, network: one, gateway: {address: 10.0.0.1}}\n  \
        - {name: west, network: two, gateway: {address: 10.0.0.2}}\n  services:\n"
            .to_owned();
    for number in 0..services {
        writeln!(mesh, "    s{number}.shop: {{port: 80}}").unwrap();
    }
    let policy = "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {name: home, namespace: shop}\n\
        spec: {services: [\"*\"], routing: {boundary: Network}}\n";
    let (mesh, findings) = Mesh::read("mesh.yaml", &mesh);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:#?}"));
    let (policies, findings) = Policy::read("home.yaml", policy, mesh.root_namespace());
    assert_eq!(findings, []);
    let (plans, findings) = policy::compile(&mesh, &policies);
    (mesh, plans.unwrap_or_else(|| panic!("{findings:#?}")))
}

#[test]
fn what_no_server_would_store_is_told_before_anything_is_written() {
    let url = "file:///usr/share/isthmus.wasm".parse().unwrap();
    let roll_out = |(mesh, plans): &(Mesh, Plans), dir: &Path, (upstream_check, dry_run): (bool, bool)| {
        let directories: BTreeMap<_, _> =
            mesh.clusters().map(|cluster| (cluster.name.clone(), dir.join(cluster.name.as_str()))).collect();
        to_directories(mesh, plans, &directories, Options { url: &url, upstream_check, dry_run })
    };
    let dir = tempfile::tempdir().unwrap();
    let few = bounded(10);
    assert!(roll_out(&few, dir.path(), (true, false)).is_ok());
    let file = dir.path().join("east/isthmus-upstream.yaml");
    let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    // So many that they just do not fit.
    let each = object["spec"]["configPatches"].to_string().len() / 10;
    let many = bounded(MOST_BYTES / each + 1);

    let empty = tempfile::tempdir().unwrap();
    let told = roll_out(&many, empty.path(), (true, false)).unwrap_err().to_string();
    assert!(told.starts_with("east: isthmus-upstream.yaml would take 15"), "{told}");
    assert!(told.contains("leave --upstream-check out"), "{told}");
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    assert!(roll_out(&many, empty.path(), (false, true)).is_ok());
}
