use super::*;
use crate::evaluate::{self, Arrival};
use crate::guard::Guard;
use crate::source::{By, Source};

const MESH: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  clusters:
  - {name: eu-1, network: n1, region: eu, podCidr: 10.1.0.0/16, gateway: {address: 192.0.2.1}}
  - {name: eu-2, network: n2, region: eu, podCidr: 10.2.0.0/16, gateway: {address: 192.0.2.2}}
  - {name: us-1, network: n3, region: us, podCidr: 10.3.0.0/16, gateway: {address: 192.0.2.3}}
  services:
    ledger.payments: {port: 8080, clusters: [eu-1]}
    web.shop: {port: 80}
";

fn mesh() -> Mesh {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    assert_eq!(findings, []);
    mesh.unwrap()
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: {name}, namespace: payments}}\nspec:\n{spec}\n"
    )
}

fn compiled(text: &str) -> (Option<Plans>, Vec<String>) {
    let (policies, mut findings) = Policy::read("p.yaml", text, &"istio-system".parse().unwrap());
    assert_eq!(findings, []);
    let (plans, found) = compile(&mesh(), &policies);
    findings.extend(found);
    (plans, findings.iter().map(ToString::to_string).collect())
}

fn plan_of(text: &str, cluster: &str) -> ClusterPlans {
    let (plans, findings) = compiled(text);
    plans.unwrap_or_else(|| panic!("{findings:?}")).remove(&cluster.parse().unwrap()).unwrap()
}

#[test]
fn a_name_that_the_mesh_does_not_have_is_a_finding_in_its_place() {
    let spec = "  services: [ledger]\n  access: {allow: [{name: a, from: [{clusters: [eu-3, \"asia-*\"], networks: [n9]}]}]}";
    assert_eq!(
        compiled(&policy("p", spec)),
        (
            None,
            vec![
                "p.yaml:7:49: error[ISM012]: cluster \"eu-3\" is not in the mesh".to_owned(),
                "p.yaml:7:55: error[ISM014]: no cluster of the mesh is called \"asia-*\"".to_owned(),
                "p.yaml:7:77: error[ISM012]: network \"n9\" is not in the mesh".to_owned(),
            ]
        )
    );
}

#[test]
fn clusters_and_networks_of_one_entry_must_meet() {
    let spec =
        "  services: [ledger]\n  access: {allow: [{name: a, from: [{clusters: [eu-1], networks: [n2]}]}]}";
    let (plans, findings) = compiled(&policy("p", spec));
    assert!(plans.is_none() && findings[0].contains("ISM014"), "{findings:?}");
}

#[test]
fn a_principal_of_another_trust_domain_is_a_finding() {
    for (principal, fine) in [
        ("cluster.local/ns/*", true),
        ("clus*", true),
        ("\"*/sa/web\"", true),
        ("other.example/ns/a/sa/b", false),
        ("spiffe://cluster.local/ns/a/sa/b", false),
    ] {
        let spec = format!(
            "  services: [ledger]\n  access: {{allow: [{{name: a, from: [{{clusters: [\"*\"], principals: [{principal}]}}]}}]}}"
        );
        assert_eq!(compiled(&policy("p", &spec)).0.is_some(), fine, "{principal}");
    }
}

#[test]
fn a_boundary_that_cuts_a_cluster_off_is_said() {
    let (plans, findings) = compiled(&policy("p", "  services: [ledger]\n  routing: {boundary: Region}"));
    assert_eq!(
        findings,
        ["p.yaml:7:23: warning[ISM015]: inside boundary Region no cluster runs ledger.payments for us-1"]
    );
    let plans = plans.unwrap();
    let open = |cluster: &str| {
        let (_, said) = plans[&cluster.parse().unwrap()].outbound.enforced.iter().next().unwrap();
        said.bound.as_ref().unwrap().open
    };
    assert!(open("eu-1") && open("eu-2") && !open("us-1"));
}

#[test]
fn the_narrowest_boundary_holds_whoever_draws_it() {
    let text = policy("a", "  services: [\"*\"]\n  routing: {boundary: Cluster}")
        + &policy("b", "  services: [ledger]\n  routing: {boundary: Mesh}");
    let plan = plan_of(&text, "eu-1");
    let ledger = plan.outbound.enforced.narrowest(&"ledger.payments".parse().unwrap()).unwrap();
    let bound = ledger.bound.as_ref().unwrap();
    assert_eq!((bound.within, bound.policy.as_str()), (crate::rule::Boundary::Cluster, "a"));
}

#[test]
fn where_a_service_is_not_listed_no_rule_of_it_is_needed_and_no_one_comes_in() {
    let spec = "  services: [ledger]\n  access: {allow: [{name: a, from: [{clusters: [us-1]}]}], deny: [{name: d, from: [{clusters: [eu-2]}]}]}";
    let here = plan_of(&policy("p", spec), "eu-1");
    assert_eq!(here.inbound.sections[0].deny.len(), 1);
    let elsewhere = plan_of(&policy("p", spec), "us-1");
    let section = &elsewhere.inbound.sections[0];
    assert_eq!((section.deny.len(), section.allow.as_deref()), (0, Some(&[][..])));
}

#[test]
fn order_never_shows_in_a_plan() {
    let rules = [
        "{name: a, from: [{clusters: [eu-1, us-1]}, {networks: [n2]}]}",
        "{name: b, from: [{clusters: [us-1]}]}",
    ];
    let one =
        |rules: [&str; 2]| format!("  services: [ledger]\n  access: {{allow: [{}, {}]}}", rules[0], rules[1]);
    let other = "  services: [\"*\"]\n  exposure: {to: {networks: [n1, n2]}}";
    let left = policy("a", &one(rules)) + &policy("b", other);
    let right = policy("b", &other.replace("[n1, n2]", "[n2, n1]"))
        + &policy("a", &one([rules[1], &rules[0].replace("eu-1, us-1", "us-1, eu-1")]));
    for cluster in ["eu-1", "eu-2", "us-1"] {
        let bytes = |text: &str| -> Vec<String> {
            plan_of(text, cluster).parts().iter().map(|(_, _, plan)| plan.to_json().unwrap()).collect()
        };
        assert_eq!(bytes(&left), bytes(&right));
    }
}

#[test]
fn a_plan_is_read_back_as_it_was_written() {
    let text = policy(
        "p",
        "  services: [ledger]\n  access: {allow: [{name: a, from: [{clusters: [us-1], namespaces: [x]}], to: [{ports: [1], paths: [/a*]}]}]}\n  routing: {boundary: Region}\n  exposure: {to: {networks: [n2]}}",
    );
    for (role, _, plan) in plan_of(&text, "eu-1").parts() {
        assert_eq!(Plan::read(role, plan.to_json().unwrap().as_bytes()).unwrap(), plan);
    }
}

/// A policy for a namespace with so many rules.
fn many(namespace: &str, rules: usize) -> String {
    let rules: Vec<String> = (0..rules)
        .map(|n| format!("{{name: r{n}, from: [{{clusters: [\"*\"], namespaces: [team-{n}]}}], to: [{{paths: [/v{n}/*]}}]}}"))
        .collect();
    let spec = format!("  services: [\"*\"]\n  access: {{allow: [{}]}}", rules.join(", "));
    policy("p", &spec).replace("namespace: payments", &format!("namespace: {namespace}"))
}

#[test]
fn a_large_plan_is_cut_by_namespace_and_judges_as_before() {
    let policies = many("payments", 2_000) + &many("shop", 1_000) + &many("small", 10);
    let plans = plan_of(&policies, "eu-1");
    let apart: Vec<&str> = plans.apart.keys().map(Namespace::as_str).collect();
    assert_eq!(apart, ["payments"], "the largest goes, and what is left is small enough");
    for part in [&plans.inbound, &plans.apart[&"payments".parse().unwrap()]] {
        assert!(part.to_json().unwrap().len() <= 256 * 1024);
        assert_eq!(InboundPlan::read(part.to_json().unwrap().as_bytes()).unwrap(), *part);
    }
    for (namespace, rules) in [("payments", 2_000), ("shop", 1_000), ("small", 10)] {
        let namespace: Namespace = namespace.parse().unwrap();
        let plan = plans.inbound_of(&namespace);
        let guard = Guard::new(plan, &namespace, &BTreeMap::new());
        let identity = format!("spiffe://cluster.local/ns/team-{}/sa/x", rules - 1).parse().unwrap();
        for (path, wanted) in [
            (format!("/v{}/x", rules - 1), format!("p/r{}", rules - 1)),
            (format!("/v{rules}/x"), "p/no-rule-matched".to_owned()),
        ] {
            let arrival = Arrival {
                source: Source::Verified(plan.named("us-1").unwrap(), By::Certificate),
                identity: Some(&identity),
                port: None,
                method: "GET",
                path: &path,
                host: None,
            };
            assert_eq!(evaluate::inbound(&guard, &arrival).verdict.reason(), wanted);
        }
    }
    // Where a plan leaves a namespace to another, it says nothing there.
    let elsewhere = Guard::new(&plans.inbound, &"payments".parse().unwrap(), &BTreeMap::new());
    assert!(plans.inbound.leaves(&"payments".parse().unwrap()) && elsewhere.is_empty());
}

#[test]
fn a_part_that_no_api_server_would_store_is_a_finding() {
    let (plans, findings) = compiled(&many("payments", 12_000));
    assert!(plans.is_none());
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert!(finding.starts_with("p.yaml:4:18: error[ISM024]: the inbound plan of namespace payments takes "));
    assert!(finding.contains("in eu-1 and as much in 2 other clusters"), "{finding}");
}

#[test]
fn a_name_that_stands_twice_is_a_finding() {
    let spec = "  services: [ledger]\n  access: {allow: [{name: a, from: [{clusters: [us-1]}]}], deny: [{name: a, from: [{clusters: [eu-2]}]}]}";
    let (_, findings) = compiled(&(policy("p", spec) + &policy("p", "  services: [ledger]\n  access: {}")));
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings.iter().all(|finding| finding.contains("ISM007")), "{findings:?}");
}
