//! The sandbox tier: the module that Envoy loads, run in wasmtime.

#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that fails fails its test")]

#[path = "sandbox/apart.rs"]
mod apart;
#[path = "sandbox/places.rs"]
mod places;
#[path = "sandbox/soak.rs"]
mod soak;
#[path = "sandbox/tokens.rs"]
mod tokens;
#[path = "sandbox/trial.rs"]
mod trial;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use isthmus::build::inspect;
use isthmus::cert::{KeyKind, Root, Validity};
use isthmus::plugin;
use isthmus::sandbox::{
    Connection, Headers, HttpOutcome, LogLine, Module, Node, PeerCertificate, Plugin, StartError, Tls, Vm,
};
use isthmus::walk::{self, Ground, Offline, pure};
use isthmus_tests::example::{Example, module};
use policy::Policy;
use policy::plan::Role;
use serde_json::{Value, json};

fn wasm() -> &'static [u8] {
    static WASM: OnceLock<Vec<u8>> = OnceLock::new();
    WASM.get_or_init(|| std::fs::read(module()).expect("a readable module"))
}

fn compiled() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| Module::compile(wasm()).expect("a module"))
}

fn example() -> &'static Example {
    static EXAMPLE: OnceLock<Example> = OnceLock::new();
    EXAMPLE.get_or_init(|| Example::read("examples/two-clusters"))
}

fn configuration(role: Role, cluster: &str) -> Value {
    let plans = example().project.plans.as_ref().expect("plans");
    let plans = plans.get(&cluster.parse().expect("a name")).expect("plans of the cluster");
    let plan = plans.at(role, &"payments".parse().expect("a name"));
    serde_json::to_value(plugin::configuration(role, &plan).expect("a configuration")).expect("JSON")
}

/// The sidecar of the ledger in cluster1, or whatever the metadata says.
fn node() -> Node {
    Node {
        metadata: json!({
            "CLUSTER_ID": "cluster1", "NETWORK": "network1", "NAMESPACE": "payments", "LABELS": {"app": "ledger"},
        }),
        ..Node::default()
    }
}

/// The sidecar of helloworld in cluster1.
fn helloworld() -> Node {
    Node {
        metadata: json!({
            "CLUSTER_ID": "cluster1", "NETWORK": "network1", "NAMESPACE": "sample", "LABELS": {"app": "helloworld"},
        }),
        ..Node::default()
    }
}

/// The east-west gateway of cluster1.
fn gateway() -> Node {
    Node {
        metadata: json!({"CLUSTER_ID": "cluster1", "NETWORK": "network1", "NAMESPACE": "istio-system", "LABELS": {}}),
        ..Node::default()
    }
}

fn start(node: &Node, configuration: &Value) -> Result<Vm, StartError> {
    let configuration = configuration.to_string().into_bytes();
    compiled().start(node, Plugin { name: "isthmus".to_owned(), configuration, ..Plugin::default() })
}

fn ledger() -> Vm {
    start(&node(), &configuration(Role::Inbound, "cluster1")).expect("a VM")
}

/// A certificate of a workload of `namespace`, signed by a CA that calls itself the intermediate of `cluster`.
fn peer(cluster: &str, namespace: &str) -> PeerCertificate {
    let validity = Validity::from(time::OffsetDateTime::now_utc(), time::Duration::days(1));
    let root = Root::generate(KeyKind::P256, validity).expect("a root");
    let issuer = root.intermediate(cluster, KeyKind::P256, validity).expect("an intermediate");
    let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/web");
    let leaf = issuer.leaf(&identity, validity).expect("a leaf");
    let pem = leaf.chain.split_inclusive("-----END CERTIFICATE-----\n").next().expect("a leaf").to_owned();
    // The same for the same names, and never for others.
    let name: String = format!("{cluster}/{namespace}").bytes().map(|byte| format!("{byte:02x}")).collect();
    let sha256 = format!("{name:0>64}");
    PeerCertificate { pem, sha256, uri_san: Some(identity), valid: true, ..PeerCertificate::default() }
}

fn from(peer: Option<PeerCertificate>) -> Connection {
    let ends =
        ("192.0.2.7:40000".parse().expect("an address"), "192.0.2.8:15006".parse().expect("an address"));
    Connection::new(ends.0, ends.1)
        .with_tls(Tls { peer, ..Tls::default() })
        .with_upstream_cluster("inbound|8080||")
}

fn request(headers: &[(&str, &[u8])]) -> Headers {
    let usual: [(&str, &[u8]); 4] =
        [(":authority", b"ledger.payments"), (":method", b"GET"), (":path", b"/v1/a"), (":scheme", b"http")];
    let given = |name: &str| headers.iter().any(|(other, _)| *other == name);
    let mut all = Headers::new();
    for (name, value) in usual.iter().filter(|(name, _)| !given(name)).chain(headers) {
        all.add(*name, *value);
    }
    all
}

/// What the filter left behind: the request as the application gets it (`None`: refused), and the filter state.
fn send(
    vm: &Vm,
    connection: &Connection,
    headers: &[(&str, &[u8])],
) -> (Option<Headers>, BTreeMap<String, String>) {
    let stream = vm.http(connection, request(headers)).expect("no trap");
    let passed = match stream.request() {
        HttpOutcome::Continue(headers) => Some(headers),
        HttpOutcome::Reply(reply) => {
            assert_eq!(reply.status, 403);
            None
        }
        other @ (HttpOutcome::Pause | HttpOutcome::Reset) => panic!("{other:?}"),
    };
    let state = stream.finish().expect("no trap").filter_state;
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("text");
    (passed, state.iter().map(|(key, value)| (key.replace("wasm.isthmus.", ""), text(value))).collect())
}

#[test]
fn every_case_is_as_expected_and_as_evaluate_says() {
    let example = example();
    let plans = example.project.plans.as_ref().expect("plans");
    let now = time::OffsetDateTime::now_utc();
    let mut offline =
        Offline::on(Arc::new(Ground::new(compiled().clone(), example.mesh(), plans, now).expect("a ground")));
    for case in &example.suite.cases {
        let journeys = walk::journeys(example.mesh(), plans, &case.call).expect("a path");
        assert!(!journeys.is_empty(), "{} goes nowhere", case.name.value);
        for journey in &journeys {
            let pure = pure::walk(example.mesh(), plans, journey).expect("a walk");
            let real = offline.walk(journey).expect("a walk");
            assert_eq!(pure, real, "{} to {}", case.name.value, journey.destination.name);
            assert!(real.meets(&case.expect), "{}: {real}", case.name.value);
        }
    }
}

#[test]
fn the_module_imports_proxy_wasm_and_nothing_else() {
    let inspected = inspect(wasm()).expect("a filter");
    assert!(!inspected.imports.is_empty());
    for import in &inspected.imports {
        assert!(import.starts_with("proxy_"), "{import}");
    }
}

#[test]
fn a_forged_tag_is_replaced_by_what_the_certificate_proves() {
    let vm = ledger();
    let connection = from(Some(peer("cluster2", "treasury")));
    let forged: [(&str, &[u8]); 4] = [
        ("x-source-cluster", b"cluster1"),
        ("x-source-cluster", b"cluster9"),
        ("X-Source-Network", b"network1"),
        ("x-isthmus-route", b"mesh"),
    ];
    let (passed, state) = send(&vm, &connection, &forged);
    let passed = passed.expect("the treasury may read");
    assert_eq!(passed.values(b"x-source-cluster").collect::<Vec<_>>(), [b"cluster2"]);
    assert_eq!(passed.values(b"x-source-network").collect::<Vec<_>>(), [b"network2"]);
    assert_eq!(passed.value("x-isthmus-route"), None);
    assert_eq!(state["source_cluster"], "cluster2");
    assert_eq!(state["reason"], "ledger/treasury-reads");
}

#[test]
fn without_proof_a_tag_does_not_survive_and_the_ledger_stays_closed() {
    let vm = ledger();
    let unknown_ca = peer("cluster7", "treasury");
    let garbage = PeerCertificate {
        pem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END".to_owned(),
        sha256: "ab".repeat(32),
        ..peer("cluster2", "treasury")
    };
    for (what, peer) in
        [("plain text", None), ("an unknown CA", Some(unknown_ca)), ("garbage", Some(garbage))]
    {
        let (passed, state) = send(&vm, &from(peer), &[("x-source-cluster", b"cluster1")]);
        assert!(passed.is_none(), "{what}");
        assert_eq!(state["reason"], "ledger/source-unverified", "{what}");
        assert_ne!(state["source_level"], "verified by certificate", "{what}");
    }
    // A service that no policy speaks of is reached all the same, but without the tag.
    let other = Node {
        metadata: json!({"CLUSTER_ID": "cluster1", "NAMESPACE": "sample", "LABELS": {"app": "helloworld"}}),
        ..Node::default()
    };
    let vm = start(&other, &configuration(Role::Inbound, "cluster1")).expect("a VM");
    let (passed, _) =
        send(&vm, &from(None), &[("x-source-cluster", b"cluster1"), ("x-source-network", b"network1")]);
    let passed = passed.expect("no policy");
    assert_eq!((passed.value("x-source-cluster"), passed.value("x-source-network")), (None, None));
}

/// Envoy says of a resumed session that its certificate is not valid: it was checked when the session began.
#[test]
fn a_peer_that_resumes_its_session_is_who_it_was() {
    let resumed = PeerCertificate { valid: false, ..peer("cluster2", "treasury") };
    for vm in [ledger(), ledger()] {
        let (passed, state) = send(&vm, &from(Some(resumed.clone())), &[]);
        assert!(passed.is_some() && state["source_level"] == "verified by certificate", "{state:?}");
    }
}

#[test]
fn the_host_of_a_request_does_not_choose_its_rules() {
    let vm = ledger();
    let connection = from(Some(peer("cluster2", "sample")));
    for host in ["helloworld.sample", "reports.payments", "ledger.payments", "nowhere", ""] {
        let (passed, state) = send(&vm, &connection, &[(":authority", host.as_bytes())]);
        assert!(passed.is_none(), "{host}");
        assert_eq!(state["reason"], "ledger/no-rule-matched", "{host}");
    }
}

#[test]
fn nothing_that_a_peer_sends_traps_the_module() {
    let vm = ledger();
    let huge = vec![b'x'; 64 * 1024];
    let names: Vec<String> = (0..1000).map(|n| format!("x-{n}")).collect();
    let mut many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"v"[..])).collect();
    many.push(("x-source-cluster", b"\xff\xfe"));
    let hostile: [&[(&str, &[u8])]; 8] = [
        &[("x-source-cluster", b"\xff\xfe\x00")],
        &[("x-source-cluster", &huge)],
        &[(":path", b"\xff")],
        &[(":path", &huge)],
        &[(":method", b"\xc3\x28")],
        &[(":authority", &huge)],
        &[(":authority", b"")],
        &many,
    ];
    for uri in [
        None,
        Some("spiffe://".to_owned()),
        Some("x".repeat(100_000)),
        Some("spiffe://a/ns/\u{0}/sa/b".to_owned()),
    ] {
        let mut sender = peer("cluster2", "treasury");
        sender.sha256 = format!("{:0>64}", uri.as_ref().map_or(1, String::len));
        sender.uri_san = uri;
        for headers in hostile {
            let (passed, state) = send(&vm, &from(Some(sender.clone())), headers);
            assert!(passed.is_none() && state["verdict"] == "deny", "{state:?}");
        }
    }
    // The VM has taken no harm.
    let (passed, _) = send(&vm, &from(Some(peer("cluster2", "treasury"))), &[]);
    assert!(passed.is_some() && vm.failure().is_none());
}

#[test]
fn no_sni_traps_the_gateway_and_only_what_is_hidden_is_closed() {
    let vm = start(&gateway(), &configuration(Role::Gateway, "cluster1")).expect("a VM");
    let long = "a.".repeat(10_000);
    let hidden = "outbound_.8080_._.reports.payments.svc.cluster.local";
    for (sni, closed) in [
        (hidden, true),
        ("outbound_.8080_.v1_.REPORTS.payments.svc.cluster.local", true),
        ("outbound_.8080_._.ledger.payments.svc.cluster.local", false),
        ("", false),
        ("outbound_.", false),
        ("outbound_._._._._.", false),
        (long.as_str(), false),
    ] {
        let stream = vm.connect(&from(None).with_server_name(sni)).expect("no trap");
        assert_eq!(stream.outcome().closed, closed, "{sni}");
    }
    assert!(vm.failure().is_none());
}

fn said(logs: &[LogLine]) -> String {
    logs.iter().map(|line| line.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// Configurations that must be refused, and what the log must say of each.
fn refusals() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = configuration(Role::Inbound, "cluster1");
    let changed = |pointer: &str, value: Value| {
        let mut object = good.clone();
        *object.pointer_mut(pointer).expect("a place") = value;
        object.to_string().into_bytes()
    };
    let text = good.to_string();
    let half = text.as_bytes().get(..text.len() / 2).expect("half").to_vec();
    let extra = text.replacen("\"schema\"", "\"surprise\":1,\"schema\"", 1);
    vec![
        ("nothing", Vec::new(), "not a plan"),
        ("half of it", half, "not a plan"),
        ("no text", vec![0xff; 64], "not a plan"),
        ("deep nesting", b"[".repeat(100_000), "not a plan"),
        ("a newer schema", changed("/plan/schema", json!(2)), "schema 2"),
        ("an unknown key", extra.into_bytes(), "surprise"),
        ("another cluster", configuration(Role::Inbound, "cluster2").to_string().into_bytes(), "cluster2"),
        ("another network", changed("/plan/home/network", json!("network2")), "network2"),
        (
            "a cluster that it does not describe",
            changed("/plan/issuers", json!({"CN=x": "cluster5"})),
            "cluster5",
        ),
        (
            "a section that it does not have",
            changed("/plan/enforced/ledger.payments.svc.cluster.local/sections", json!([7])),
            "section number 7",
        ),
        (
            "a cluster beyond its list",
            changed("/plan/sections/0/allow/0/from/0/clusters", json!("1-9")),
            "number 9",
        ),
        ("clusters out of order", changed("/plan/clusters/0/name", json!("zulu")), "order"),
    ]
}

#[test]
fn a_configuration_that_cannot_be_read_or_is_for_elsewhere_is_refused_and_the_log_says_why() {
    for (what, configuration, why) in refusals() {
        let plugin = Plugin { configuration, ..Plugin::default() };
        let Err(StartError::Refused { logs, .. }) = compiled().start(&node(), plugin) else {
            panic!("{what} was not refused");
        };
        assert!(said(&logs).contains(why), "{what}: {}", said(&logs));
    }
    let nobody = Node { metadata: json!({}), ..Node::default() };
    let refused = start(&nobody, &configuration(Role::Inbound, "cluster1"));
    assert!(refused.is_err_and(|error| said(error.logs()).contains("CLUSTER_ID")));
}

#[test]
fn the_last_good_configuration_stays_after_each_refusal() {
    let vm = ledger();
    let connection = from(Some(peer("cluster2", "treasury")));
    for (what, configuration, _) in refusals() {
        assert!(vm.configure(configuration).is_err(), "{what}");
        let (passed, state) = send(&vm, &connection, &[]);
        assert!(passed.is_some() && state["reason"] == "ledger/treasury-reads", "{what}: {state:?}");
    }
    // And a good one is taken at once.
    let mut closed = configuration(Role::Inbound, "cluster1");
    let access = "/plan/sections/0/allow";
    *closed.pointer_mut(access).expect("a place") = json!([]);
    vm.configure(closed.to_string()).expect("a good configuration");
    assert_eq!(send(&vm, &connection, &[]).1["reason"], "ledger/no-rule-matched");
}

#[test]
fn an_answer_says_which_cluster_gave_it_whatever_the_application_says() {
    let vm = ledger();
    let stream = vm.http(&from(Some(peer("cluster2", "treasury"))), request(&[])).expect("no trap");
    let response = Headers::from([(":status", "200"), ("x-destination-cluster", "elsewhere")]);
    let outcome = stream.respond(response).expect("no trap");
    let headers = outcome.continued().expect("it goes on");
    assert_eq!(headers.values(b"x-destination-cluster").collect::<Vec<_>>(), [b"cluster1"]);
    assert_eq!(headers.text("x-destination-network"), Some("network1"));
}

#[test]
fn a_boundary_without_endpoints_ends_the_request_at_its_source() {
    let mut outbound = configuration(Role::Outbound, "cluster1");
    let cache = "/plan/enforced/cache.sample.svc.cluster.local/bound/open";
    *outbound.pointer_mut(cache).expect("a place") = json!(false);
    let vm = start(&node(), &outbound).expect("a VM");
    let (passed, state) = send(&vm, &from(None), &[(":authority", b"cache.sample:6379")]);
    assert!(passed.is_none());
    assert_eq!(state["reason"], "cache/boundary");
    let (passed, _) =
        send(&vm, &from(None), &[(":authority", b"helloworld.sample"), ("x-isthmus-route", b"cluster")]);
    let passed = passed.expect("no policy");
    assert_eq!((passed.text("x-source-cluster"), passed.value("x-isthmus-route")), (Some("cluster1"), None));
}

/// The configuration of a role in cluster1 for these policies of namespace `sample`.
fn configured(role: Role, specs: &[&str]) -> Value {
    let document = |(number, spec): (usize, &&str)| {
        format!(
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p{number}, namespace: sample}}\nspec: {{services: [helloworld], {spec}}}\n"
        )
    };
    let text: String = specs.iter().enumerate().map(document).collect();
    let mesh = example().mesh();
    let (policies, findings) = Policy::read("p.yaml", &text, mesh.root_namespace());
    assert_eq!(findings, []);
    let (plans, findings) = policy::compile(mesh, &policies);
    let plans = plans.unwrap_or_else(|| panic!("{findings:?}"));
    let plans = plans.get(&"cluster1".parse().expect("a name")).expect("plans of the cluster");
    let plan = plans.at(role, &"sample".parse().expect("a name"));
    serde_json::to_value(plugin::configuration(role, &plan).expect("a configuration")).expect("JSON")
}

#[test]
fn a_pin_and_a_split_become_the_header_that_routes_match() {
    let steering = "routing: {pin: {header: x-cell, to: {a: cluster1, b: cluster2}}, \
        split: [{cluster: cluster1, weight: 50}, {cluster: cluster2, weight: 50}], hashOn: {cookie: session}}";
    let vm = start(&node(), &configured(Role::Outbound, &[steering])).expect("a VM");
    let route = |headers: &[(&str, &[u8])]| {
        let host: (&str, &[u8]) = (":authority", b"helloworld.sample:5000");
        let (passed, state) = send(&vm, &from(None), &[&[host], headers].concat());
        let route = passed.expect("it may go").text("x-isthmus-route").map(str::to_owned);
        (route.unwrap_or_default(), state["reason"].clone())
    };
    let forged: (&str, &[u8]) = ("x-isthmus-route", b"cluster=cluster1");
    assert_eq!(route(&[("x-cell", b"b"), forged]), ("cluster=cluster2".to_owned(), "p0/pin".to_owned()));
    assert_eq!(route(&[("x-cell", b"a")]).0, "cluster=cluster1");
    let mut shares: BTreeMap<String, u32> = BTreeMap::new();
    for user in 0..400 {
        let cookie = format!("theme=dark; session=user-{user}");
        let (first, reason) = route(&[("cookie", cookie.as_bytes())]);
        assert_eq!(reason, "p0/split");
        assert_eq!(route(&[("cookie", cookie.as_bytes()), ("x-cell", b"z")]).0, first, "a session stays");
        *shares.entry(first).or_default() += 1;
    }
    // 400 throws of a fair coin stray by 60 once in a billion times.
    assert!(shares.len() == 2 && shares.values().all(|share| (140..=260).contains(share)), "{shares:?}");
    let mut drawn: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        *drawn.entry(route(&[]).0).or_default() += 1;
    }
    assert!(drawn.len() == 2 && drawn.values().all(|share| (140..=260).contains(share)), "{drawn:?}");
}

#[test]
fn a_policy_in_shadow_changes_nothing_and_says_what_it_would_do() {
    let shadow = "mode: Shadow, access: {allow: []}";
    let own = helloworld();
    let vm = start(&own, &configured(Role::Inbound, &[shadow])).expect("a VM");
    let (passed, state) = send(&vm, &from(Some(peer("cluster2", "treasury"))), &[]);
    assert!(passed.is_some(), "{state:?}");
    let told = ["reason", "shadow_verdict", "shadow_reason"].map(|key| state[key].as_str());
    assert_eq!(told, ["no-policy", "deny", "p0/no-rule-matched"]);
    assert!(!state.contains_key("verdict"), "only what is refused says so: {state:?}");
    let (_, state) = send(&vm, &from(Some(peer("cluster1", "sample"))), &[]);
    assert!(
        !state.contains_key("shadow_verdict"),
        "where it would change nothing it says nothing: {state:?}"
    );
    let enforced = start(&own, &configured(Role::Inbound, &[shadow, "access: {allow: []}"])).expect("a VM");
    let (passed, state) = send(&enforced, &from(Some(peer("cluster2", "treasury"))), &[]);
    assert!(passed.is_none() && state["reason"] == "p1/no-rule-matched", "{state:?}");
}
