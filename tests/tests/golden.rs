//! The golden tier: meshes and policies with the findings, plans and objects of Istio that they give. `BLESS=1` writes
//! them anew.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a case that cannot be read fails its test"
)]

#[path = "golden/meshes.rs"]
mod meshes;
#[path = "golden/schema.rs"]
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use isthmus::native;
use isthmus::native::upstream::{Behind, Module, envoy_filter};
use isthmus::plugin::{self, Deployed, Reach, Span};
use isthmus_tests::repository;
use policy::finding::{Code, Finding, has_errors};
use policy::mesh::Extension;
use policy::name::{ClusterName, Namespace};
use policy::plan::Role;
use policy::{Mesh, Plan, Policy, compile};
use serde_json::Value;

/// What a case gives: the text of each file, by its path in the case.
type Outcome = BTreeMap<String, String>;

fn cases() -> Vec<PathBuf> {
    let mut cases = listed(&repository().join("tests/golden"));
    cases.retain(|path| path.is_dir());
    cases
}

/// What stands in a directory, by name; nothing if there is no such directory.
fn listed(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8")
}

fn outcome(case: &Path) -> Outcome {
    let (mesh, mut findings) = Mesh::read("mesh.yaml", &read(&case.join("mesh.yaml")));
    let root = mesh
        .as_ref()
        .map_or_else(|| "istio-system".parse().expect("a namespace"), |mesh| mesh.root_namespace().clone());
    let mut policies = Vec::new();
    for file in listed(&case.join("policies")) {
        let (read, found) = Policy::read(&format!("policies/{}", name(&file)), &read(&file), &root);
        policies.extend(read);
        findings.extend(found);
    }
    let mut outcome = Outcome::new();
    if let Some(mesh) = mesh {
        let (plans, found) = compile(&mesh, &policies);
        findings.extend(found);
        let plans = plans.filter(|_| !has_errors(&findings));
        for (cluster, objects) in plans.iter().flat_map(|plans| native::objects(&mesh, plans)) {
            if !objects.is_empty() {
                let document = |object| serde_saphyr::to_string(object).expect("an object is YAML");
                let documents: Vec<String> = objects.values().map(document).collect();
                outcome.insert(format!("istio/{cluster}.yaml"), documents.join("---\n"));
            }
        }
        for (cluster, plans) in plans.into_iter().flatten() {
            let part = |(role, namespace, plan): (Role, Option<&Namespace>, Plan)| {
                let apart = namespace.map_or_else(String::new, |namespace| format!("@{namespace}"));
                let json = serde_json::to_string_pretty(&plan).expect("a plan is JSON");
                format!("{}{apart}: {json}\n", role.as_str())
            };
            outcome.insert(format!("plans/{cluster}.txt"), plans.parts().into_iter().map(part).collect());
        }
    }
    outcome.insert("findings.txt".to_owned(), findings.iter().map(shown).collect());
    outcome
}

/// Every object that a rollout would write for a case, if it has no errors, and in which cluster.
fn generated(case: &Path) -> Vec<(ClusterName, Value)> {
    let Some(mesh) = Mesh::read("mesh.yaml", &read(&case.join("mesh.yaml"))).0 else { return Vec::new() };
    let read_file = |file: PathBuf| Policy::read("policy.yaml", &read(&file), mesh.root_namespace()).0;
    let policies: Vec<Policy> = listed(&case.join("policies")).into_iter().flat_map(read_file).collect();
    let Some(plans) = compile(&mesh, &policies).0 else { return Vec::new() };
    let url = "oci://registry.example/isthmus:v1@sha256:687f55b39dfd1c7ba66f6c0c5ddb1a81ca46d02484517e9e31e7059a2a76f6a6".parse::<plugin::ModuleUrl>().expect("a URL");
    let url = url.with_pull_secret("registry").expect("a name");
    let modules = Extension::ALL.map(|extension| {
        let (url, on_failure) = (url.clone(), mesh.on_failure());
        Deployed { url, on_failure, extension }
    });
    let mut objects = Vec::new();
    for (cluster, native) in native::objects(&mesh, &plans) {
        objects.extend(native.into_values().map(|object| (cluster.clone(), object)));
    }
    for cluster in mesh.clusters() {
        let of = mesh.shares_control_plane(cluster).then_some(&cluster.name);
        let (cluster, primary) = (cluster.name.clone(), mesh.primary(cluster).name.clone());
        let bounded = native::bounded(&mesh, &plans[&cluster].outbound);
        if !bounded.is_empty() {
            let place = |service| Behind { service, configuration: Value::Bool(true) };
            let module = Module { file: "/isthmus.wasm", on_failure: mesh.on_failure() };
            let places: Vec<Behind> = bounded.into_iter().map(place).collect();
            let filter = envoy_filter(mesh.root_namespace(), of, &module, &places);
            objects.push((primary.clone(), filter));
        }
        for (role, _, plan) in plans[&cluster].parts() {
            let reach = Reach { span: Span::All("istio-system"), of };
            for module in &modules {
                let object = plugin::object(role, &plan, reach, module).expect("a plugin");
                objects.push((primary.clone(), object));
            }
        }
    }
    objects
}

fn shown(finding: &Finding) -> String {
    format!("{finding}\n    hint: {}\n", finding.hint)
}

/// What the case says that it gives.
fn blessed(case: &Path) -> Outcome {
    let inside = |dir: &'static str| {
        listed(&case.join(dir)).into_iter().map(move |path| (format!("{dir}/{}", name(&path)), read(&path)))
    };
    let findings = case.join("findings.txt");
    inside("plans")
        .chain(inside("istio"))
        .chain(findings.is_file().then(|| ("findings.txt".to_owned(), read(&findings))))
        .collect()
}

fn bless(case: &Path, given: &Outcome) {
    for path in ["plans", "istio"].into_iter().flat_map(|dir| listed(&case.join(dir))) {
        fs::remove_file(&path).expect("an old file is removed");
    }
    for (file, text) in given {
        let path = case.join(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory is made");
        fs::write(&path, text).expect("a file is written");
    }
}

/// The first line in which two texts differ.
fn difference(blessed: Option<&String>, given: Option<&String>) -> String {
    let (Some(blessed), Some(given)) = (blessed, given) else {
        return if given.is_some() { "is new" } else { "is no longer given" }.to_owned();
    };
    let end = "(the end)";
    let mut left = blessed.lines();
    let mut right = given.lines();
    let mut number = 0;
    loop {
        number += 1;
        match (left.next(), right.next()) {
            (None, None) => return "differs in its line ends".to_owned(),
            (left, right) if left == right => {}
            (left, right) => {
                let (left, right) = (left.unwrap_or(end), right.unwrap_or(end));
                return format!("line {number}\n    blessed: {left}\n    given:   {right}");
            }
        }
    }
}

#[test]
fn every_case_gives_the_findings_and_plans_that_were_blessed() {
    let cases = cases();
    assert!(cases.len() >= 14, "cases are missing: {cases:?}");
    let mut mismatches = Vec::new();
    for case in &cases {
        let given = outcome(case);
        if std::env::var_os("BLESS").is_some() {
            bless(case, &given);
        }
        let blessed = blessed(case);
        let files = blessed.keys().chain(given.keys().filter(|file| !blessed.contains_key(*file)));
        for file in files.filter(|file| blessed.get(*file) != given.get(*file)) {
            let difference = difference(blessed.get(file), given.get(file));
            mismatches.push(format!("{}/{file}: {difference}", name(case)));
        }
    }
    assert!(
        mismatches.is_empty(),
        "BLESS=1 writes them anew; then read the diff:\n{}",
        mismatches.join("\n")
    );
}

#[test]
fn every_code_of_finding_is_shown_by_some_case() {
    let all: String = cases().iter().map(|case| read(&case.join("findings.txt"))).collect();
    let missing: Vec<String> = Code::ALL
        .iter()
        // A megabyte of policies is no file to read; `policy/src/compile/tests.rs` makes one and shows it.
        .filter(|code| **code != Code::Oversized)
        .map(ToString::to_string)
        .filter(|code| !all.contains(&format!("[{code}]")))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn a_case_with_errors_gives_no_plan_and_one_without_gives_one_for_each_cluster() {
    for case in cases() {
        let given = outcome(&case);
        let refused = given["findings.txt"].contains(": error[");
        let clusters = Mesh::read("mesh.yaml", &read(&case.join("mesh.yaml")))
            .0
            .map_or(0, |mesh| mesh.clusters().count());
        let wanted = if refused { 0 } else { clusters };
        let plans = given.keys().filter(|file| file.starts_with("plans/")).count();
        assert_eq!(plans, wanted, "{}", case.display());
        assert!(!refused || given.len() == 1, "{}", case.display());
    }
}

/// The blocks of the page about routing, by what stands after `yaml`.
fn blocks(page: &str) -> BTreeMap<&str, &str> {
    let starts = page.split("```yaml ").skip(1);
    starts.filter_map(|block| block.split_once("```")?.0.split_once('\n')).collect()
}

#[test]
fn the_page_about_routing_shows_what_is_generated() {
    let path = repository().join("docs/routing.md");
    let page = read(&path);
    let shown = blocks(&page);
    let mesh = Mesh::read("mesh.yaml", shown["mesh.yaml"]).0.expect("a mesh");
    let (policies, _) = Policy::read("web.yaml", shown["policies/web.yaml"], mesh.root_namespace());
    let (plans, _) = compile(&mesh, &policies);
    let objects = native::objects(&mesh, &plans.expect("plans"));
    let document = |object| serde_saphyr::to_string(object).expect("an object is YAML");
    let documents: Vec<String> = objects[&"eu-1".parse().expect("a name")].values().map(document).collect();
    let given = documents.join("---\n");
    if std::env::var_os("BLESS").is_some() {
        let new = page
            .replace(&format!("```yaml eu-1\n{}```", shown["eu-1"]), &format!("```yaml eu-1\n{given}```"));
        fs::write(&path, new).expect("the page is written");
    }
    assert_eq!(blocks(&read(&path))["eu-1"], given, "BLESS=1 writes it anew");
}
