//! `isthmus mesh render`, and that every example is what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use isthmus_tests::repository;
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
    let meshes = fs::read_dir(repository().join("examples")).expect("examples");
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

#[test]
fn the_doctor_finds_nothing_wrong_with_what_is_rendered_and_the_settings_in_it_that_are() {
    for example in ["replicated", "partners", "branches", "franchise", "tenants", "merger"] {
        let from = format!("examples/{example}/rendered");
        let told =
            stdout(&run(&["doctor", "-f", &format!("examples/{example}"), "--from", &from, "-o", "short"]));
        // Workloads and plugins come otherwise.
        let of_workloads = |line: &&str| ["[ISD070]", "[ISD080]"].iter().any(|code| line.contains(code));
        let wrong: Vec<&str> = told.lines().filter(|line| !of_workloads(line)).collect();
        assert_eq!(wrong, Vec::<&str>::new(), "{example}");
    }
    for (example, cluster, file, edit, wrong) in [
        (
            "partners",
            "eu",
            "30-istio.istioctl.yaml",
            ("ISTIO_META_DNS_CAPTURE", "OTHER"),
            "eu: error[ISD094]: ",
        ),
        (
            "partners",
            "us",
            "30-istio.istioctl.yaml",
            ("- partner.example", "- other.example"),
            "us: error[ISD026]: ",
        ),
        (
            "merger",
            "new",
            "30-istiod.helm.yaml",
            ("trustDomain: partner", "trustDomain: other"),
            "new: error[ISD014]: ",
        ),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let from = repository().join("examples").join(example).join("rendered");
        for (path, text) in super::files(&from) {
            let to = dir.path().join(path.strip_prefix(&from).expect("below it"));
            fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
            fs::write(to, text).expect("a file");
        }
        let path = dir.path().join(cluster).join(file);
        let text = fs::read_to_string(&path).expect("a file");
        assert!(text.contains(edit.0), "{file} has no {edit:?}");
        fs::write(&path, text.replace(edit.0, edit.1)).expect("a file");
        let at = dir.path().to_str().expect("text");
        let told =
            stdout(&run(&["doctor", "-f", &format!("examples/{example}"), "--from", at, "-o", "short"]));
        assert!(told.lines().any(|line| line.starts_with(wrong)), "{told}");
    }
}
