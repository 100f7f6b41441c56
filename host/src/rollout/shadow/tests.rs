use policy::compile::Plans;
use policy::{Mesh, Policy, compile};

use super::*;
use crate::plugin::ModuleUrl;
use crate::rollout::Options;
use crate::rollout::rendered::render;

const MESH: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: m}
spec:
  clusters:
  - {name: east, network: one, gateway: {address: 10.0.0.1}}
  - {name: west, network: two, gateway: {address: 10.0.0.2}}
  services:
    ledger.payments: {port: 80, clusters: [east, west]}
";

/// Who may come in to the ledger.
fn access(rules: &str) -> String {
    format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p, namespace: payments}}\n\
         spec:\n  services: [ledger]\n  access: {{{rules}}}\n"
    )
}

fn plans(policies: &str) -> (Mesh, Plans) {
    let mesh = Mesh::read("mesh.yaml", MESH).0.unwrap();
    let (policies, findings) = Policy::read("p.yaml", policies, mesh.root_namespace());
    assert!(findings.is_empty(), "{findings:#?}");
    let plans = compile(&mesh, &policies).0.unwrap();
    (mesh, plans)
}

/// What a rollout of this module brings to east.
fn parts(policies: &str, module: &str) -> Vec<Part> {
    let (mesh, plans) = plans(policies);
    let url: ModuleUrl = format!("oci://registry.example/isthmus:{module}").parse().unwrap();
    let options = Options { url: &url, upstream_check: false, dry_run: false };
    render(&mesh, &plans, options).unwrap().remove(&east()).unwrap().parts
}

fn east() -> ClusterName {
    "east".parse().unwrap()
}

fn there(parts: &[Part]) -> BTreeMap<String, Value> {
    parts.iter().map(|part| (part.file.clone(), part.object.open())).collect()
}

fn stage(there: &BTreeMap<String, Value>, wanted: &[Part]) -> BTreeMap<String, Value> {
    self::there(&staged(there, wanted, (&east(), "istio-system")).unwrap())
}

const INBOUND: &str = "isthmus-inbound.yaml";

fn at<'o>(objects: &'o BTreeMap<String, Value>, file: &str, path: &str) -> &'o Value {
    objects[file].pointer(path).unwrap_or(&Value::Null)
}

#[test]
fn what_judges_stays_and_the_new_plan_and_module_stand_beside_it() {
    let (old, new) = (parts(&access("allow: []"), "v1"), parts(&access("scope: All"), "v2"));
    let (was, is) = (there(&old), there(&new));
    let staged = stage(&was, &new);
    for path in ["/spec/pluginConfig/plan", "/spec/pluginConfig/digest", "/spec/failStrategy"] {
        assert_eq!(at(&staged, INBOUND, path), at(&was, INBOUND, path), "{path}");
    }
    assert_eq!(at(&staged, INBOUND, "/spec/url"), at(&is, INBOUND, "/spec/url"));
    for field in ["plan", "digest"] {
        let tried = format!("/spec/pluginConfig/trial/{field}");
        assert_eq!(at(&staged, INBOUND, &tried), at(&is, INBOUND, &format!("/spec/pluginConfig/{field}")));
    }
    // What says the same stays as it is, the module with it.
    assert_eq!(staged["isthmus-gateway.yaml"], was["isthmus-gateway.yaml"]);
    assert!(staged.values().all(|object| object["kind"] == "WasmPlugin"), "no route changes");
    // Again nothing is to be done; and what was tried last is tried no more.
    assert_eq!(stage(&staged, &new), staged);
    let third = parts(&access("deny: [{name: d, from: [{clusters: [west]}]}]"), "v2");
    let again = stage(&staged, &third);
    assert_eq!(at(&again, INBOUND, "/spec/pluginConfig/plan"), at(&was, INBOUND, "/spec/pluginConfig/plan"));
    let tried = at(&again, INBOUND, "/spec/pluginConfig/trial/plan");
    assert_eq!(tried, at(&there(&third), INBOUND, "/spec/pluginConfig/plan"));
    // Back to what judges anyway.
    assert!(!tries(&staged_parts(&staged, &old)));
    assert_eq!(
        untried(staged[INBOUND].clone()).unwrap()["spec"]["pluginConfig"],
        was[INBOUND]["spec"]["pluginConfig"]
    );
}

fn staged_parts(there: &BTreeMap<String, Value>, wanted: &[Part]) -> Vec<Part> {
    staged(there, wanted, (&east(), "istio-system")).unwrap()
}

#[test]
fn where_nothing_judges_nothing_does_and_nothing_is_refused_for_want_of_a_judge() {
    let new = parts(&access("allow: []"), "v1");
    let staged = stage(&BTreeMap::new(), &new);
    let configuration = serde_json::to_vec(at(&staged, INBOUND, "/spec/pluginConfig")).unwrap();
    let read = Configuration::read(&configuration).unwrap();
    assert_eq!(read.plan, read.trial.unwrap().plan.without_policies());
    assert_eq!(at(&staged, INBOUND, "/spec/failStrategy"), "FAIL_OPEN");
    assert_eq!(untried(staged[INBOUND].clone()), None, "it was not there");
    // Nor is it there for the next that is tried.
    let next = stage(&staged, &parts(&access("scope: All"), "v1"));
    assert_eq!(at(&next, INBOUND, "/spec/failStrategy"), "FAIL_OPEN");
    assert_eq!(untried(next[INBOUND].clone()), None);
}

/// The plugin of a namespace of its own, beside one that leaves it to that.
fn cut(mut parts: Vec<Part>) -> Vec<Part> {
    let whole = parts.iter_mut().find(|part| part.file == INBOUND).unwrap();
    let mut own = whole.clone();
    own.file = "isthmus-inbound@payments.yaml".to_owned();
    let (mut around, mut object) = (whole.object.open(), whole.object.open());
    object["metadata"]["namespace"] = "payments".into();
    object["spec"]["priority"] = 101.into();
    around["spec"]["pluginConfig"]["plan"]["apart"] = json!(["payments"]);
    around["spec"]["pluginConfig"]["digest"] = "cut".into();
    (own.object, whole.object) = (Packed::of(&object), Packed::of(&around));
    parts.insert(0, own);
    parts
}

#[test]
fn a_namespace_that_gets_or_loses_a_plan_of_its_own_is_judged_as_before_by_either_plugin() {
    let own = "isthmus-inbound@payments.yaml";
    let (whole, other) = (parts(&access("allow: []"), "v1"), parts(&access("scope: All"), "v1"));
    let staged = stage(&there(&whole), &cut(other.clone()));
    let now = at(&staged, own, "/spec/pluginConfig/plan");
    assert_eq!(now, at(&there(&whole), INBOUND, "/spec/pluginConfig/plan"));
    let tried = at(&staged, own, "/spec/pluginConfig/trial/plan");
    assert_eq!(tried, at(&there(&other), INBOUND, "/spec/pluginConfig/plan"));
    assert_eq!(at(&staged, own, "/spec/priority"), 101);
    assert_eq!(untried(staged[own].clone()), None);

    let before = there(&cut(whole));
    let staged = stage(&before, &other);
    assert_eq!(at(&staged, own, "/spec/pluginConfig/plan"), at(&before, own, "/spec/pluginConfig/plan"));
    let tried = at(&staged, own, "/spec/pluginConfig/trial/plan");
    assert_eq!(tried, at(&there(&other), INBOUND, "/spec/pluginConfig/plan"));
    assert_eq!(untried(staged[own].clone()).unwrap(), before[own]);
}

#[test]
fn what_cannot_be_read_or_is_too_large_for_a_server_is_not_tried() {
    let new = parts(&access("allow: []"), "v1");
    let refused = |there: &BTreeMap<String, Value>, new: &[Part]| {
        staged(there, new, (&east(), "istio-system")).map(drop).unwrap_err().to_string()
    };
    let mut broken = there(&parts(&access("scope: All"), "v1"));
    broken.get_mut(INBOUND).unwrap()["spec"]["pluginConfig"] = "none".into();
    let told = "east: the new plan of isthmus-inbound.yaml cannot be tried beside the one in force: no plan can be read in it";
    assert!(refused(&broken, &new).starts_with(told), "{}", refused(&broken, &new));
    let mut large = there(&parts(&access("scope: All"), "v1"));
    large.get_mut(INBOUND).unwrap()["spec"]["pluginConfig"]["plan"]["sections"] = "x".repeat(LARGEST).into();
    assert!(refused(&large, &new).contains("no server takes more"), "{}", refused(&large, &new));
}

#[test]
fn a_plugin_that_is_to_become_one_of_another_kind_is_tried_as_what_it_is() {
    let (old, new) = (there(&parts(&access("allow: []"), "v1")), parts(&access("scope: All"), "v2"));
    let other = |object: &Value| plugin::other(object).unwrap();
    let files: BTreeMap<String, Value> = old
        .iter()
        .filter(|(_, seen)| plugin::other(seen).is_some())
        .map(|(file, seen)| (file.clone(), other(seen)))
        .collect();
    let staged = stage(&files, &new);
    assert_eq!(staged.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    for (path, of) in [("/kind", &files), ("/spec/wasm/pluginConfig/plan", &files), ("/spec/phase", &files)] {
        assert_eq!(at(&staged, INBOUND, path), at(of, INBOUND, path), "{path}");
    }
    let wanted = there(&new);
    let tried = at(&staged, INBOUND, "/spec/wasm/pluginConfig/trial/plan");
    assert_eq!(tried, at(&wanted, INBOUND, "/spec/pluginConfig/plan"));
    assert_eq!(at(&staged, INBOUND, "/spec/wasm/url"), at(&wanted, INBOUND, "/spec/url"));
}
