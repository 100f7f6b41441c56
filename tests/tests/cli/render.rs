//! `isthmus mesh render`, and that every example is what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{run, stderr, stdout};

const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: home}
spec:
  global: {range: 198.18.0.0/29}
  clusters:
  - {name: east, network: lan, gateway: {address: 192.0.2.1}}
  - {name: west, network: wan, gateway: {address: 192.0.2.2}}
  services:
";

/// Writes a mesh whose east runs these services, and renders it.
fn render(dir: &Path, services: &[&str]) -> std::process::Output {
    let listed: String =
        services.iter().map(|name| format!("    {name}: {{port: 80, clusters: [east]}}\n")).collect();
    fs::write(dir.join("mesh.yaml"), format!("{MESH}{listed}")).expect("a write");
    let (file, out) = (dir.display().to_string(), dir.join("out").display().to_string());
    run(&["mesh", "render", "-f", &file, "--output-dir", &out])
}

fn addresses(dir: &Path) -> Value {
    let text = fs::read_to_string(dir.join("out/west/70-addresses.yaml")).expect("a book");
    let book: Value = serde_saphyr::from_str(&text).expect("YAML");
    book.get("data").cloned().expect("addresses")
}

#[test]
fn the_cases_of_every_example_pass() {
    let meshes = fs::read_dir(isthmus_tests::repository().join("examples")).expect("examples");
    let meshes = meshes.filter(|entry| entry.as_ref().expect("an entry").path().join("mesh.yaml").is_file());
    let tested = run(&["test", "examples"]);
    assert_eq!(tested.status.code(), Some(0), "{}{}", stdout(&tested), stderr(&tested));
    let suites = stdout(&tested).lines().filter(|line| line.starts_with("examples/")).count();
    assert_eq!(suites, meshes.count(), "an example without cases: {}", stdout(&tested));
}

#[test]
fn addresses_stay_from_run_to_run_and_nothing_is_written_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = render(dir.path(), &["a.x", "b.x", "c.x"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let before = addresses(dir.path());
    let again = render(dir.path(), &["a.x", "b.x", "c.x"]);
    assert!(stdout(&again).starts_with("0 files written"), "{}", stdout(&again));
    let page = fs::read_to_string(dir.path().join("out/README.md")).expect("a page");
    let (file, out) = (dir.path().display().to_string(), dir.path().join("out").display().to_string());
    let one = run(&["mesh", "render", "-f", &file, "--output-dir", &out, "--cluster", "west"]);
    assert_eq!(stdout(&one), format!("0 files written, 7 unchanged, 0 removed: {out}\n"));
    assert_eq!(fs::read_to_string(dir.path().join("out/README.md")).expect("a page"), page);
    render(dir.path(), &["d.x", "c.x"]);
    let after = addresses(dir.path());
    for service in ["a.x", "b.x", "c.x"] {
        assert_eq!(before[service], after[service], "{service}");
    }
    assert_eq!(after.as_object().map(serde_json::Map::len), Some(4));
    // Six addresses: what is gone makes room, and what is there does not.
    render(dir.path(), &["c.x", "d.x", "e.x", "f.x", "g.x", "h.x"]);
    assert_eq!(
        (&addresses(dir.path())["c.x"], &addresses(dir.path())["d.x"]),
        (&after["c.x"], &after["d.x"])
    );
    let crowd = ["a.x", "b.x", "c.x", "d.x", "e.x", "f.x", "g.x"];
    let full = render(dir.path(), &crowd);
    assert!(
        full.status.code() == Some(1) && stderr(&full).contains("6 addresses for 7 services"),
        "{}",
        stderr(&full)
    );
}

#[test]
fn a_pipe_gets_the_objects_and_a_program_gets_everything() {
    let objects = run(&["mesh", "render", "-f", "examples/two-clusters"]);
    let documents: Vec<Value> = serde_saphyr::from_multiple(&stdout(&objects)).expect("YAML");
    let kinds: BTreeSet<&str> = documents.iter().filter_map(|document| document["kind"].as_str()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["Gateway", "Namespace", "Service"]);
    assert!(
        stderr(&objects).starts_with("4 files for istioctl or helm are no objects"),
        "{}",
        stderr(&objects)
    );

    let all = run(&["mesh", "render", "-f", "examples/branches", "--cluster", "market", "-o", "json"]);
    let all: Value = serde_json::from_str(&stdout(&all)).expect("JSON");
    let items = all["items"].as_array().expect("items");
    assert!(items.iter().all(|item| item["cluster"] == "market"));
    let istiod = items.iter().find(|item| item["content"]["name"] == "istiod").expect("a release");
    assert_eq!(
        (&istiod["for"], &istiod["content"]["version"]),
        (&Value::from("helm"), &Value::from("~1.31.0"))
    );
    assert_eq!(
        istiod["content"]["values"]["istiodRemote"]["injectionPath"],
        "/inject/cluster/market/net/market"
    );
}

/// The Service that an installer makes for an east-west gateway, by the values that are rendered for it.
fn gateway_service(network: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "istio-eastwestgateway",
            "namespace": "istio-system",
            "labels": {"istio": "eastwestgateway", "topology.istio.io/network": network},
        },
        "spec": {"selector": {"istio": "eastwestgateway"}, "ports": spec},
    })
}

#[test]
fn the_doctor_finds_the_gateways_that_are_rendered_open_whatever_port_others_reach() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().display().to_string();
    run(&["mesh", "render", "-f", "examples/branches", "--output-dir", &out]);
    let tls = json!([{"port": 15443, "targetPort": 15443}]);
    let node = json!([{"port": 15443, "targetPort": 15443, "nodePort": 31443}]);
    for (cluster, network, ports) in
        [("head", "office", &tls), ("harbour", "harbour", &tls), ("market", "market", &node)]
    {
        let service = gateway_service(network, ports).to_string();
        fs::write(dir.path().join(cluster).join("made.yaml"), service).expect("a write");
    }
    let found = || stdout(&run(&["doctor", "-f", "examples/branches", "--from", &out, "-o", "short"]));
    assert!(!found().contains("[ISD05"), "{}", found());
    fs::remove_file(dir.path().join("head/50-services.yaml")).expect("it is there");
    let closed = found().lines().filter(|line| line.contains("no Gateway passes mTLS through")).count();
    assert_eq!(closed, 3, "the primary's is that of its remotes: {}", found());
}

#[test]
fn what_cannot_be_rendered_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let roots = dir.path().display().to_string();
    let partners = ["mesh", "render", "-f", "examples/partners", "--roots", &roots];
    assert!(stderr(&run(&partners)).contains("put it into partner-2026.pem"), "{}", stderr(&run(&partners)));
    fs::write(dir.path().join("partner-2026.pem"), "-----BEGIN PRIVATE KEY-----").expect("a write");
    assert!(stderr(&run(&partners)).contains("is to hold the root certificate of mesh partner"));
    let unknown = run(&["mesh", "render", "-f", "examples/partners", "--cluster", "moon"]);
    assert!(stderr(&unknown).contains("cluster moon is not in mesh.yaml: it has eu, partner, us"));
}
