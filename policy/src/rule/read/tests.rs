use super::super::*;

const GOOD: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: ledger, namespace: payments}
spec:
  services: [ledger]
  access:
    deny:
    - name: no-staging
      from: [{clusters: [\"staging-*\"]}]
    allow:
    - name: eu-reads
      from: [{clusters: [eu-1], namespaces: [checkout]}]
      to: [{ports: [8080], methods: [GET], paths: [/v1/*]}]
  routing: {boundary: Region}
  exposure: {to: {networks: [network2]}}
";

fn findings_of(text: &str) -> Vec<String> {
    let (_, findings) = Policy::read("p.yaml", text, &"istio-system".parse().unwrap());
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_sound_policy_is_read_whole() {
    let (policies, findings) = Policy::read("p.yaml", GOOD, &"istio-system".parse().unwrap());
    assert_eq!(findings, []);
    let policy = &policies[0];
    assert_eq!(policy.routing.boundary.as_ref().unwrap().value, Boundary::Region);
    let access = policy.access.as_ref().unwrap();
    assert_eq!((access.source, access.scope), (Demand::Verified, Judged::Remote));
    assert_eq!(access.allow.as_ref().unwrap()[0].to[0].ports.any[0].value.number(), 8080);
    assert_eq!(policy.exposure.as_ref().unwrap().networks.as_ref().unwrap().any.len(), 1);
}

#[test]
fn a_rule_must_say_where_requests_come_from() {
    assert_eq!(
        findings_of(
            &GOOD
                .replace("clusters: [eu-1], ", "")
                .replace("from: [{clusters: [\"staging-*\"]}]", "to: [{ports: [1]}]")
        ),
        [
            "p.yaml:8:7: error[ISM013]: this says no clusters, networks or regions",
            "p.yaml:12:14: error[ISM013]: this says no clusters, networks or regions",
        ]
    );
}

#[test]
fn hosts_are_named_in_the_root_namespace_only() {
    for (namespace, services, fine) in [
        ("payments", "ledger", true),
        ("payments", "\"*\"", true),
        ("payments", "ledger.payments.svc.cluster.local", false),
        ("istio-system", "ledger.payments.svc.cluster.local", true),
        ("istio-system", "\"*.payments.svc.cluster.local\"", true),
        ("istio-system", "ledger", false),
    ] {
        let text = GOOD
            .replace("services: [ledger]", &format!("services: [{services}]"))
            .replace("namespace: payments", &format!("namespace: {namespace}"));
        assert_eq!(findings_of(&text).is_empty(), fine, "{namespace} {services}");
    }
}

#[test]
fn a_rule_may_not_take_the_name_of_a_built_in_reason() {
    assert_eq!(
        findings_of(&GOOD.replace("eu-reads", "boundary")),
        ["p.yaml:11:13: error[ISM005]: \"boundary\" is a reason of isthmus' own"]
    );
}

#[test]
fn unknown_keys_are_found_at_every_depth() {
    assert_eq!(
        findings_of(
            &GOOD
                .replace("  routing:", "  routng:")
                .replace("methods:", "method:")
                .replace("deny:", "denny:")
        ),
        [
            "p.yaml:7:5: error[ISM002]: access has no key \"denny\"",
            "p.yaml:13:28: error[ISM002]: request has no key \"method\"",
            "p.yaml:14:3: error[ISM002]: policy's spec has no key \"routng\"",
        ]
    );
}
