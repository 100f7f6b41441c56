use super::{Fate, Mutation, mutants};
use crate::coverage::{Coverage, Kind, Threshold};
use crate::runner::{Collection, Options, case_files, run};
use policy::Policy;
use policy::name::Namespace;

const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: m}
spec:
  clusters:
  - {name: c1, network: n1, gateway: {address: 192.0.2.1}, podCidr: 10.1.0.0/16}
  - {name: c2, network: n2, gateway: {address: 192.0.2.2}, podCidr: 10.2.0.0/16}
  services: {ledger.a: {port: 80, clusters: [c1]}}
";
const POLICY: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: ledger, namespace: a}
spec:
  services: [ledger]
  access:
    deny:
    - {name: no-dump, from: [{clusters: ['*']}], to: [{paths: [/dump]}]}
    allow:
    - name: reads
      from: [{clusters: [c2], notNamespaces: [test]}, {networks: [n2]}]
      to: [{methods: [GET]}]
";
const CASES: &str = "
suite: s
mesh: mesh.yaml
policies: [policies]
cases:
- name: a read
  from: {cluster: c2, namespace: b, serviceAccount: w}
  request: {host: ledger.a}
  expect: {verdict: allow}
- name: a dump
  from: {cluster: c2, namespace: b, serviceAccount: w}
  request: {host: ledger.a, path: /dump}
  expect: {verdict: deny}
";

fn collected() -> (tempfile::TempDir, Collection) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    for (name, text) in [("mesh.yaml", MESH), ("policies/p.yaml", POLICY), ("cases.yaml", CASES)] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let collection = Collection::read(&case_files(&[dir.path().to_owned()]).unwrap()).unwrap();
    assert_eq!(collection.findings, []);
    (dir, collection)
}

/// What is changed by the mutants of a policy, with the line that it stands in.
fn made(policy: &str) -> Vec<String> {
    let (policies, findings) = Policy::read("p.yaml", policy, &Namespace::istio_system());
    assert_eq!(findings, []);
    mutants::of(&policies[0]).iter().map(|mutant| format!("{}: {}", mutant.at.line, mutant.what)).collect()
}

#[test]
fn each_clause_and_rule_is_weakened_where_that_changes_anything() {
    assert_eq!(
        made(POLICY),
        [
            "4: policy ledger: mode Shadow in place of Enforce",
            "4: policy ledger: source Claimed in place of Verified",
            "9: policy ledger, rule no-dump: left out",
            "9: policy ledger, rule no-dump: without its paths clause",
            "11: policy ledger, rule reads: left out",
            "11: policy ledger, rule reads: without its clusters clause (of its first entry)",
            "11: policy ledger, rule reads: without its notNamespaces clause (of its first entry)",
            "11: policy ledger, rule reads: without its networks clause (of its second entry)",
            "11: policy ledger, rule reads: without its methods clause",
        ]
    );
    let rest = "
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: rest, namespace: a}
spec:
  services: [ledger]
  mode: Shadow
  access: {source: Claimed, scope: All}
  routing:
    boundary: Region
    pin: {header: x-cell, to: {a: c1}}
    split: [{cluster: c1, weight: 100}]
  exposure: {to: {networks: []}, ports: [80]}
";
    assert_eq!(
        made(rest),
        [
            "4: policy rest: scope Remote in place of All",
            "10: policy rest: boundary Mesh in place of Region",
            "11: policy rest: without its pin",
            "12: policy rest: without its split",
            "13: policy rest: exposed to every network",
            "13: policy rest: exposed on every port",
        ]
    );
}

#[test]
fn a_mutant_survives_where_no_case_fails_and_a_case_that_fails_anyway_tells_nothing() {
    let (_dir, collection) = collected();
    let mutation = Mutation::of(&collection.jobs(&[]), None);
    let noticed = |fate: &Fate| match fate {
        Fate::Noticed(case) => case.clone(),
        Fate::Survived => "-".to_owned(),
        Fate::Refused => "refused".to_owned(),
    };
    let fates: Vec<(&str, String)> = mutation
        .mutants
        .iter()
        .map(|(mutant, fate)| (mutant.what.strip_prefix("policy ledger").unwrap(), noticed(fate)))
        .collect();
    let fates: Vec<(&str, &str)> = fates.iter().map(|(what, by)| (*what, by.as_str())).collect();
    assert_eq!(
        fates,
        [
            (": mode Shadow in place of Enforce", "a dump"),
            (": source Claimed in place of Verified", "-"),
            (", rule no-dump: left out", "a dump"),
            (", rule no-dump: without its paths clause", "a read"),
            (", rule reads: left out", "a read"),
            (", rule reads: without its clusters clause (of its first entry)", "-"),
            (", rule reads: without its methods clause", "-"),
            (", rule reads: without its networks clause (of its second entry)", "-"),
            (", rule reads: without its notNamespaces clause (of its first entry)", "-"),
        ]
    );
    assert_eq!((mutation.share().touched, mutation.share().total), (4, 9));
    let one = Mutation::of(&collection.jobs(&["a read".to_owned()]), None);
    assert_eq!(one.share().touched, 2);
    let (dir, _) = collected();
    let wrong = CASES.replace("verdict: deny", "verdict: allow");
    std::fs::write(dir.path().join("cases.yaml"), wrong).unwrap();
    let failing = Collection::read(&[dir.path().join("cases.yaml")]).unwrap();
    assert_eq!(Mutation::of(&failing.jobs(&[]), None).share().touched, 2);
}

/// A module that lets everything through: coverage is of what policies say.
const IDLE: &str = r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
    (func (export "malloc") (param i32) (result i32) (i32.const 0)))"#;

#[test]
fn what_no_case_has_touched_is_listed_with_its_place() {
    let (_dir, collection) = collected();
    let jobs = collection.jobs(&["a dump".to_owned()]);
    let module = crate::sandbox::Module::compile(&wat::parse_str(IDLE).unwrap()).unwrap();
    let now = time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
    let tested = run(&jobs, &module, Options { threads: None, fail_fast: false, now }).unwrap();
    let coverage = Coverage::of(&jobs, &tested);
    let line = |point: &crate::coverage::Point| point.at.as_ref().map_or(0, |at| at.line);
    let untouched: Vec<_> = coverage.untouched().map(|point| (point.name.as_str(), line(point))).collect();
    assert_eq!(
        untouched,
        [
            ("ledger/reads", 11),
            ("same-cluster", 0),
            ("ledger/no-rule-matched", 4),
            ("ledger/source-unverified", 4),
            ("c1 -> c1", 0),
        ]
    );
    let shares = Kind::ALL.map(|kind| coverage.share(kind).to_string());
    assert_eq!(shares, ["1 of 2 (50.0 %)", "1 of 4 (25.0 %)", "1 of 2 (50.0 %)"]);
    let nothing = Coverage::of(&jobs, &[None]);
    assert_eq!(nothing.untouched().count(), 8);

    let missed = |threshold: &str| threshold.parse::<Threshold>().unwrap().missed(&coverage);
    assert_eq!(missed("rules=50"), [""; 0]);
    assert_eq!(missed("rules=50.0001"), ["rules 1 of 2 (50.0 %), less than 50.0001 %"]);
    assert_eq!(missed("50").len(), 1);
    for bad in ["101", "-1", "rule=50", "NaN", ""] {
        assert!(bad.parse::<Threshold>().is_err(), "{bad}");
    }
}
