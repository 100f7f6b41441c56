//! Each row of the tables in this module's documentation, judged.

use std::collections::BTreeMap;

use super::*;
use crate::compile::{ClusterPlans, compile};
use crate::mesh::Mesh;
use crate::rule::Policy;
use crate::source::Evidence;

const MESH: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  clusters:
  - {name: eu-1, network: n1, podCidr: 10.1.0.0/16, gateway: {address: 192.0.2.1}}
  - {name: eu-2, network: n1, podCidr: 10.2.0.0/16}
  - {name: us-1, network: n2, podCidr: 10.3.0.0/16, gateway: {address: 192.0.2.3}}
  services:
    ledger.payments: {port: 8080, clusters: [eu-1, us-1]}
    web.payments: {port: 8080, clusters: [us-1]}
";

/// The plans of eu-1 for one policy of each spec: `p0`, `p1`, ...
fn plans(specs: &[&str]) -> ClusterPlans {
    let mesh = Mesh::read("mesh.yaml", MESH).0.unwrap();
    let document = |(number, spec): (usize, &&str)| {
        format!(
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p{number}, namespace: payments}}\nspec: {{{spec}}}\n"
        )
    };
    let text: String = specs.iter().enumerate().map(document).collect();
    let (policies, findings) = Policy::read("p.yaml", &text, mesh.root_namespace());
    assert_eq!(findings, []);
    let (plans, findings) = compile(&mesh, &policies);
    plans.unwrap_or_else(|| panic!("{findings:?}")).remove(&"eu-1".parse().unwrap()).unwrap()
}

/// What eu-1 says to a request from a cluster, by certificate or, with `?`, by its tag; `-` is nowhere.
fn arriving(specs: &[&str], from: &str, service: &str) -> String {
    let plans = plans(specs);
    let namespace = "payments".parse().unwrap();
    let guard =
        Guard::new(&plans.inbound, &namespace, &BTreeMap::from([("app".to_owned(), service.to_owned())]));
    let (cluster, proven) = from.strip_suffix('?').map_or((from, true), |cluster| (cluster, false));
    let issuer = format!("L={cluster},CN=Intermediate CA,O=Istio");
    let identity = "spiffe://cluster.local/ns/checkout/sa/web".parse().unwrap();
    let evidence = Evidence {
        peer: cluster != "-",
        issuer: proven.then_some(issuer.as_str()),
        identity: Some(&identity),
        token: None,
        tag: Some(cluster),
    };
    let arrival = Arrival {
        source: Source::of(&plans.inbound, evidence),
        identity: Some(&identity),
        port: Some(8080),
        method: "GET",
        path: "/",
        host: Some("ledger.payments"),
    };
    said(inbound(&guard, &arrival).verdict)
}

fn leaving(spec: &str, service: &str, cell: &str) -> (String, String) {
    let specs: &[&str] = if spec.is_empty() { &[] } else { &[spec] };
    let plans = plans(specs);
    let header = |name: &str| (name == "x-cell").then(|| cell.to_owned());
    let service = format!("{service}.payments").parse().unwrap();
    let departure = outbound(&plans.outbound, &service, &Leaving { header: &header, draw: 7 });
    let route = match departure.route {
        _ if !departure.verdict.is_allow() => String::new(),
        Route::Anywhere => "anywhere".to_owned(),
        Route::Within(_) => "within the boundary".to_owned(),
        Route::To(cluster) => format!("to {cluster}"),
    };
    (said(departure.verdict), route)
}

fn passing(spec: &str, address: &str) -> String {
    let specs: &[&str] = if spec.is_empty() { &[] } else { &[spec] };
    let service = "ledger.payments".parse().unwrap();
    said(gateway(&plans(specs).gateway, &service, Some(8080), address.parse().ok()).verdict)
}

fn said(verdict: Verdict<'_>) -> String {
    format!("{}, `{}`", verdict.word(), verdict.reason())
}

/// The rows of the documentation's tables, heads and rules left out.
fn rows() -> Vec<&'static str> {
    let table = |line: &&str| line.starts_with("| ") && !line.contains("| verdict |");
    include_str!("../evaluate.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! "))
        .filter(table)
        .collect()
}

const ALLOW: &str = "services: [ledger], access: {allow: [{name: us, from: [{clusters: [us-1]}]}]}";
const DENY: &str = "services: [ledger], access: {deny: [{name: no-us, from: [{clusters: [us-1]}]}]}";
const NEAR: &str = "services: [ledger], routing: {boundary: Network}";
const PIN: &str = "services: [ledger], routing: {pin: {header: x-cell, to: {b: us-1}}}";
const SPLIT: &str = "services: [ledger], routing: {split: [{cluster: us-1, weight: 100}]}";

#[test]
fn every_row_of_the_tables_is_so() {
    const CUT: &str = "services: [ledger], routing: {boundary: Network, ";
    let cut_pin = format!("{CUT}pin: {{header: x-cell, to: {{b: us-1}}}}}}");
    let cut_split = format!("{CUT}split: [{{cluster: us-1, weight: 100}}]}}");
    let shown = "services: [ledger], exposure: {to: {networks: [n2]}, ports: [8080]}";
    let judged = [
        vec![arriving(&[], "us-1", "ledger"), arriving(&[ALLOW], "us-1", "other")],
        vec![arriving(&[NEAR], "us-1?", "ledger"), arriving(&[NEAR], "-", "ledger")],
        vec![arriving(&[NEAR], "us-1", "ledger")],
        vec![], // a section passed over shows in what the others say: below
        vec![arriving(&[ALLOW], "us-1?", "ledger"), arriving(&[ALLOW, DENY], "-", "ledger")],
        vec![arriving(&[ALLOW, DENY], "us-1", "ledger"), arriving(&[DENY, ALLOW], "us-1", "ledger")],
        vec![arriving(&[ALLOW, &ALLOW.replace("us-1", "eu-2")], "us-1", "ledger")],
        vec![arriving(&[ALLOW], "eu-2", "ledger")],
        vec![arriving(&[DENY], "eu-2", "ledger")],
        vec![arriving(&[&ALLOW.replace("[ledger]", "[web]")], "us-1", "web")],
        vec![arriving(&[ALLOW, DENY], "eu-1", "ledger")],
        vec![arriving(&[NEAR], "eu-2", "ledger")],
        vec![leaving("", "ledger", "").0, leaving(PIN, "other", "b").0],
        vec![leaving("services: [web], routing: {boundary: Network}", "web", "").0],
        vec![leaving(PIN, "ledger", "b").0],
        vec![leaving(&cut_pin, "ledger", "b").0],
        vec![leaving(SPLIT, "ledger", "").0],
        vec![leaving(&cut_split, "ledger", "").0],
        vec![leaving(NEAR, "ledger", "").0, leaving(PIN, "ledger", "z").0],
        vec![passing("", "10.3.0.1")],
        vec![
            passing(shown, "10.1.0.1"),
            passing(shown, "x"),
            passing(&shown.replace("8080", "1"), "10.3.0.1"),
        ],
        vec![
            passing(shown, "10.3.0.1"),
            // Where only ports are limited, it does not matter where a connection comes from, nor that no one knows.
            passing("services: [ledger], exposure: {ports: [8080]}", "x"),
        ],
    ];
    let rows = rows();
    assert_eq!(rows.len(), judged.len(), "{rows:#?}");
    for (row, judged) in rows.iter().zip(judged) {
        for verdict in judged {
            let (word, reason) = verdict.split_once(", ").unwrap();
            // A row says POLICY and RULE where a verdict has names; of one that leads to another row, only the word counts.
            let general = match reason.trim_matches('`').split_once('/') {
                Some((_, rule)) if rule.starts_with("us") || rule.starts_with("no-us") => {
                    "`POLICY/RULE`".to_owned()
                }
                Some((_, built_in)) => format!("`POLICY/{built_in}`"),
                None => reason.to_owned(),
            };
            let as_if = row.contains("as if its `allow` were empty") && general == "`POLICY/no-rule-matched`";
            assert!(as_if || row.contains(&format!("{word}, {general}")), "{verdict} against {row}");
        }
    }
}

#[test]
fn a_route_is_what_its_row_says_and_a_section_is_passed_over() {
    let route = |spec: &str, cell: &str| leaving(spec, "ledger", cell).1;
    assert_eq!(route("", ""), "anywhere");
    assert_eq!((route(PIN, "b"), route(SPLIT, "")), ("to us-1".to_owned(), "to us-1".to_owned()));
    assert_eq!((route(NEAR, ""), route(PIN, "z")), ("within the boundary".to_owned(), "anywhere".to_owned()));
    // Passed over: the section that judges others only says nothing, the one that judges all does.
    let all = ALLOW.replace("access: {", "access: {scope: All, ");
    assert_eq!(arriving(&[ALLOW, &all], "eu-1", "ledger"), "deny, `p1/no-rule-matched`");
}

#[test]
fn a_sticky_share_never_moves() {
    // Worked out elsewhere: a release that changed them would move every session.
    for (value, known) in
        [("", 0xecba3df2c3383c52_u64), ("a", 0xed8170de1919a24d_u64), ("session-1", 0x9dc2c14aa33f1d62_u64)]
    {
        assert_eq!(point(value), known, "{value}");
    }
}
