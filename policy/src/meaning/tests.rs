use super::*;
use crate::{Mesh, Policy, compile};

const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  clusters:
  - {name: eu-1, network: n1, region: eu, podCidr: 10.1.0.0/16, gateway: {address: 192.0.2.1}}
  - {name: eu-2, network: n1, region: eu, podCidr: 10.2.0.0/16, gateway: {address: 192.0.2.2}}
  - {name: us-1, network: n2, region: us, podCidr: 10.3.0.0/16, gateway: {address: 192.0.2.3}}
  services:
    ledger.payments: {port: 8080}
";

/// What changes in eu-1 when a ledger policy with the one spec gets the other; without a spec there is no policy.
fn told(before: &str, after: &str) -> Vec<String> {
    let meaning = compared(before, after);
    assert_eq!(meaning.untold, [""; 0]);
    meaning.changes.iter().map(ToString::to_string).collect()
}

fn compared(before: &str, after: &str) -> Meaning {
    let [before, after] = [before, after].map(running);
    compare(&before, &after)
}

fn running(spec: &str) -> Running {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
    let text = format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: ledger, namespace: payments}}\nspec: {{services: [ledger], {spec}}}\n"
    );
    let (policies, findings) = Policy::read("a.yaml", &text, mesh.root_namespace());
    assert!(spec.is_empty() || findings.is_empty(), "{findings:?}");
    let policies = if spec.is_empty() { Vec::new() } else { policies };
    let (plans, findings) = compile(&mesh, &policies);
    Running::from(&plans.unwrap_or_else(|| panic!("{findings:?}"))[&"eu-1".parse().unwrap()])
}

#[test]
fn who_is_let_in_is_told_in_words_of_the_policy() {
    let one = "access: {allow: [{name: eu, from: [{clusters: [eu-2]}]}]}";
    let two = "access: {allow: [{name: eu, from: [{clusters: [eu-2]}]}, {name: us, from: [{clusters: [us-1], namespaces: [web]}], to: [{methods: [GET], paths: [/v1/*]}]}]}";
    assert_eq!(
        told(one, two),
        [
            "opens ledger.payments to us-1 where that is proven, namespace web (method GET, path /v1/*): ledger/no-rule-matched -> ledger/us"
        ]
    );
    assert_eq!(
        told(two, one),
        [
            "closes ledger.payments to us-1 where that is proven, namespace web (method GET, path /v1/*): ledger/us -> ledger/no-rule-matched"
        ]
    );
}

#[test]
fn the_first_policy_of_a_service_closes_it_to_all_it_does_not_name() {
    let one = "access: {allow: [{name: eu, from: [{clusters: [eu-2]}]}]}";
    assert_eq!(
        told("", one),
        [
            "closes ledger.payments to all clusters where that is only claimed, or sources that are not known: no-policy -> ledger/source-unverified",
            "closes ledger.payments to us-1 where that is proven: no-policy -> ledger/no-rule-matched",
            "gives another reason: ledger.payments for eu-1 where that is proven: no-policy -> same-cluster",
            "gives another reason: ledger.payments for eu-2 where that is proven: no-policy -> ledger/eu",
        ]
    );
}

#[test]
fn from_shadow_to_enforce_is_told_with_what_was_counted() {
    let said = "access: {deny: [{name: us, from: [{clusters: [us-1]}]}], source: Claimed}";
    assert_eq!(
        told(&format!("mode: Shadow, {said}"), said)
            .into_iter()
            .filter(|line| line.starts_with("closes"))
            .collect::<Vec<_>>(),
        [
            "closes ledger.payments to sources that are not known: no-policy (Shadow would refuse: ledger/source-unverified) -> ledger/source-unverified",
            "closes ledger.payments to us-1: no-policy (Shadow would refuse: ledger/us) -> ledger/us",
        ]
    );
}

#[test]
fn what_is_pinned_elsewhere_and_shared_otherwise_is_told() {
    let pin = |to: &str| format!("routing: {{pin: {{header: x-cell, to: {{a: eu-1, b: {to}}}}}}}");
    assert_eq!(
        told(&pin("eu-1"), &pin("us-1")),
        ["moves requests for ledger.payments (x-cell: b): to eu-1, ledger/pin -> to us-1, ledger/pin"]
    );
    let split = |eu: u8, us: u8| {
        format!("routing: {{split: [{{cluster: eu-1, weight: {eu}}}, {{cluster: us-1, weight: {us}}}]}}")
    };
    assert_eq!(
        told(&split(90, 10), &split(50, 50)),
        [
            "moves requests for ledger.payments: 90 % to eu-1 and 10 % to us-1, ledger/split -> 50 % to eu-1 and 50 % to us-1, ledger/split"
        ]
    );
    assert_eq!(told(&split(50, 50), &split(50, 50)), [""; 0]);
    assert_eq!(
        told("", "routing: {boundary: Region}")
            .into_iter()
            .filter(|line| line.starts_with("moves"))
            .collect::<Vec<_>>(),
        [
            "moves requests for ledger.payments: anywhere, no-policy -> within its region (eu-1, eu-2), not-denied"
        ]
    );
}

#[test]
fn what_a_gateway_shows_is_told_by_network_and_port() {
    let shown = |networks: &str, ports: &str| {
        format!("exposure: {{to: {{networks: [{networks}]}}, ports: [{ports}]}}")
    };
    assert_eq!(
        told(&shown("n1", "8080"), &shown("n1, n2", "8080")),
        ["shows ledger.payments to network n2 (port 8080): ledger/not-exposed -> not-denied"]
    );
    assert_eq!(
        told(&shown("n1", "8080, 9090"), &shown("n1", "8080")),
        ["hides ledger.payments from network n1 (port 9090): not-denied -> ledger/not-exposed"]
    );
}

#[test]
fn rules_that_say_the_same_in_other_words_change_nothing() {
    let one = "access: {allow: [{name: eu, from: [{clusters: [\"eu-*\"]}], to: [{methods: [GET]}, {methods: [PUT]}]}]}";
    let two = "access: {allow: [{name: eu, from: [{clusters: [eu-1]}, {regions: [eu]}], to: [{methods: [GET, PUT]}]}]}";
    assert_ne!(running(one), running(two));
    assert_eq!(told(one, two), [""; 0]);
}

#[test]
fn a_plan_that_leaves_a_namespace_to_none_is_told_to_refuse_there() {
    let whole = running("access: {allow: []}");
    let mut apart = whole.clone();
    let plan = apart.inbound.as_mut().unwrap();
    plan.apart = vec!["payments".parse().unwrap()].into();
    let told: Vec<String> =
        compare(&Running::default(), &apart).changes.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["closes all else in payments to everyone: no-policy -> isthmus:plan-missing"]);
    apart.apart.insert("payments".parse().unwrap(), whole.inbound.clone().unwrap());
    assert_eq!(compare(&whole, &apart), Meaning::default());
}

#[test]
fn what_is_too_much_to_compare_is_said() {
    let paths: Vec<String> = (0..400).map(|number| format!("/{number}/*")).collect();
    let ports: Vec<String> = (1..100).map(|number| number.to_string()).collect();
    let rule = |cluster: &str| {
        format!(
            "access: {{allow: [{{name: a, from: [{{clusters: [{cluster}]}}], to: [{{paths: [{}], ports: [{}]}}]}}]}}",
            paths.join(", "),
            ports.join(", ")
        )
    };
    let meaning = compared(&rule("eu-2"), &rule("us-1"));
    assert!(
        meaning.untold.iter().any(|what| what.starts_with("some kinds of requests to ledger.payments")),
        "{meaning:?}"
    );
    assert!(!meaning.changes.is_empty());
}
