//! Tokens, from one module to another: what a source's sidecar signs, and what its destination makes of it.

use std::time::Duration;

use isthmus::sandbox::{Connection, HttpOutcome, Node, PeerCertificate, Vm};
use policy::plan::Role;
use policy::{Mesh, Policy};
use serde_json::{Value, json};

use super::{from, peer, request, send, start};

/// The key pair of RFC 8037, appendix A.1.
const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// Some moment, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// What a role of a cluster is configured with, in the example's mesh with tokens.
fn configuration(role: Role, cluster: &str) -> Value {
    let example = super::example();
    let text = std::fs::read_to_string(isthmus_tests::repository().join("examples/two-clusters/mesh.yaml"));
    let text = text.expect("the example").replacen("spec:\n", "spec:\n  tokens: {life: 5m}\n", 1);
    let keys = |text: String, cluster: &str, kid: &str, key: &str| {
        let name = format!("  - name: {cluster}\n");
        text.replacen(&name, &format!("{name}    tokenKeys: [{{kid: {kid}, publicKey: {key}}}]\n"), 1)
    };
    let text = keys(text, "cluster1", "one", "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw");
    let text = keys(text, "cluster2", "two", PUBLIC);
    let (mesh, findings) = Mesh::read("mesh.yaml", &text);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
    let policies: &[Policy] = &example.project.policies;
    let (plans, findings) = policy::compile(&mesh, policies);
    let plans = plans.unwrap_or_else(|| panic!("{findings:?}"));
    let plan = plans.get(&cluster.parse().expect("a name")).expect("plans of the cluster");
    let plan = plan.at(role, &"payments".parse().expect("a name"));
    serde_json::to_value(isthmus::plugin::configuration(role, &plan).expect("a configuration")).expect("JSON")
}

/// The sidecar of `treasury/web` in cluster2, with the cluster's key or without.
fn sender(key: Option<&str>) -> Vm {
    let mut metadata = json!({
        "CLUSTER_ID": "cluster2", "NETWORK": "network2", "NAMESPACE": "treasury", "SERVICE_ACCOUNT": "web", "LABELS": {},
    });
    if let (Some(key), Some(fields)) = (key, metadata.as_object_mut()) {
        fields.insert("ISTHMUS_TOKEN_KEY".to_owned(), json!(key));
    }
    let vm = start(&Node { metadata, ..Node::default() }, &configuration(Role::Outbound, "cluster2"))
        .expect("a VM");
    vm.set_time(Duration::from_secs(NOW));
    vm
}

fn signed(vm: &Vm, headers: &[(&str, &[u8])]) -> Option<String> {
    let stream = vm.http(&from(None), request(headers)).expect("no trap");
    let HttpOutcome::Continue(passed) = stream.request() else { panic!("it was refused") };
    passed.text("x-isthmus-token").map(str::to_owned)
}

/// A connection to a proxy that does not show the peer's certificate.
fn old(peer: PeerCertificate) -> Connection {
    from(Some(PeerCertificate { pem: String::new(), ..peer }))
}

#[test]
fn a_token_proves_its_cluster_where_no_certificate_is_shown_and_only_of_its_own_peer() {
    let sender = sender(Some(&format!("two:{SEED}")));
    let token = signed(&sender, &[("x-isthmus-token", b"forged")]).expect("a token");
    assert_eq!(signed(&sender, &[]).as_ref(), Some(&token), "it is signed once");
    assert_ne!(
        signed(&sender, &[(":authority", b"helloworld.sample")]).as_ref(),
        Some(&token),
        "and for one namespace"
    );
    assert_eq!(signed(&sender, &[(":authority", b"www.example.com"), ("x-isthmus-token", b"mine")]), None);

    let ledger = start(&super::node(), &configuration(Role::Inbound, "cluster1")).expect("a VM");
    ledger.set_time(Duration::from_secs(NOW));
    let treasury = old(peer("cluster2", "treasury"));
    let with: [(&str, &[u8]); 2] = [("x-isthmus-token", token.as_bytes()), ("x-source-cluster", b"cluster1")];
    for _ in 0..2 {
        let (passed, state) = send(&ledger, &treasury, &with);
        let passed = passed.unwrap_or_else(|| panic!("{state:?}"));
        assert_eq!(
            (state["source_cluster"].as_str(), state["source_level"].as_str()),
            ("cluster2", "verified by token")
        );
        assert_eq!(
            (passed.text("x-source-cluster"), passed.value("x-isthmus-token")),
            (Some("cluster2"), None)
        );
    }
    // Of another peer, bent, or none: nothing is proven.
    let bent = token.replace('.', "..");
    let nested = "[".repeat(4000);
    for (connection, said) in [
        (old(peer("cluster2", "sample")), token.as_str()),
        (treasury.clone(), bent.as_str()),
        (treasury.clone(), nested.as_str()),
        (treasury.clone(), ""),
        (from(None), token.as_str()),
    ] {
        let (passed, state) = send(&ledger, &connection, &[("x-isthmus-token", said.as_bytes())]);
        assert!(passed.is_none() && state["reason"] == "ledger/source-unverified", "{said}: {state:?}");
    }
    // What a certificate proves, no token changes; in a proxy that shows it.
    let newer = start(&super::node(), &configuration(Role::Inbound, "cluster1")).expect("a VM");
    newer.set_time(Duration::from_secs(NOW));
    let (passed, state) = send(&newer, &from(Some(peer("cluster2", "treasury"))), &with);
    assert!(passed.is_some() && state["source_level"] == "verified by certificate", "{state:?}");
    // Its life is short, and the log says what the clocks are.
    drop(ledger.take_logs());
    ledger.set_time(Duration::from_secs(NOW + 3600));
    assert!(send(&ledger, &treasury, &with).0.is_none());
    let logs = ledger.take_logs();
    assert!(logs.iter().any(|line| line.message.contains("a token proves nothing")), "{logs:?}");
}

#[test]
fn without_a_key_or_with_a_broken_one_requests_go_unsigned_and_the_log_says_so() {
    for (key, says) in [(None, "no ISTHMUS_TOKEN_KEY"), (Some("two:short"), "ISTHMUS_TOKEN_KEY is not a key")]
    {
        let vm = sender(key);
        assert_eq!(signed(&vm, &[("x-isthmus-token", b"forged")]), None);
        let logs = vm.take_logs();
        assert!(logs.iter().any(|line| line.message.contains(says)), "{logs:?}");
    }
}
