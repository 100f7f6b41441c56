//! A plan on trial: counted as if it were in force, and nothing is done by it.

use std::collections::BTreeMap;

use isthmus::plugin;
use isthmus::sandbox::{Connection, HttpOutcome, Metric, Node, PeerCertificate, Vm};
use policy::plan::Role;
use policy::{Mesh, Policy};
use serde_json::{Value, json};

use super::{configured, example, from, gateway, helloworld, peer, request, start};

/// A configuration with another one's plan on trial.
fn trying(now: &Value, new: &Value) -> Value {
    let mut both = now.clone();
    let trial = json!({"digest": new["digest"], "plan": new["plan"]});
    both.as_object_mut().expect("a configuration").insert("trial".to_owned(), trial);
    both
}

/// The counters of a VM under one name, by their tags.
fn counted(vm: &Vm, name: &str) -> BTreeMap<String, u64> {
    let counted = |(tags, metric): (String, Metric)| match metric {
        Metric::Counter(count) if tags.ends_with(&format!(";.;{name}")) => {
            Some((tags.replace(name, ""), count))
        }
        Metric::Counter(_) | Metric::Gauge(_) | Metric::Histogram(_) => None,
    };
    vm.metrics().into_iter().filter_map(counted).collect()
}

/// What became of a request, and what was left behind of it but for the trial.
fn sent(vm: &Vm, connection: &Connection, headers: &[(&str, &[u8])]) -> (bool, String) {
    let stream = vm.http(connection, request(headers)).expect("no trap");
    let outcome = stream.request();
    let is_let_on = matches!(outcome, HttpOutcome::Continue(_));
    let outcome = format!("{outcome:?}");
    let state = stream.finish().expect("no trap").filter_state;
    // Marks of connections are named by the time.
    let own = |key: &str| !key.contains(".trial_") && !key.contains(".peer.");
    let state: Vec<String> =
        state.iter().filter(|(key, _)| own(key)).map(|(key, value)| format!("{key}={value:?}")).collect();
    (is_let_on, format!("{outcome} {}", state.join(" ")))
}

const ACCESS: [&str; 6] = [
    "",
    "access: {scope: All, allow: []}",
    "access: {scope: All, allow: [{name: treasury, from: [{clusters: [cluster2], namespaces: [treasury]}]}]}",
    "access: {deny: [{name: posts, from: [{clusters: [cluster2]}], to: [{methods: [POST], ports: ['8080']}]}]}",
    "routing: {boundary: Cluster}",
    "mode: Shadow, access: {scope: All, allow: []}",
];

/// The configuration of a role for one policy, or none.
fn of(role: Role, spec: &str) -> Value {
    configured(role, if spec.is_empty() { &[] } else { std::slice::from_ref(&spec) })
}

#[test]
fn what_arrives_is_judged_as_before_and_counted_as_it_would_be_judged() {
    let peers: [Option<PeerCertificate>; 4] = [
        Some(peer("cluster1", "sample")),
        Some(peer("cluster2", "treasury")),
        Some(peer("cluster2", "sample")),
        None,
    ];
    let requests: [&[(&str, &[u8])]; 3] =
        [&[], &[(":method", b"POST")], &[("x-source-cluster", b"cluster2"), ("x-isthmus-route", b"cluster")]];
    let mut denied_anew = 0;
    for (now, new) in ACCESS.iter().flat_map(|now| ACCESS.iter().map(move |new| (*now, *new))) {
        let [now, new] = [now, new].map(|spec| of(Role::Inbound, spec));
        let vms = [&now, &new, &trying(&now, &new)]
            .map(|configuration| start(&helloworld(), configuration).expect("a VM"));
        let [before, after, both] = &vms;
        let mut denied = 0;
        for connection in peers.clone().map(from) {
            for headers in requests {
                let was = sent(before, &connection, headers);
                assert_eq!(sent(both, &connection, headers), was, "{now} {new}");
                let will = sent(after, &connection, headers);
                denied += u64::from(was.0 && !will.0);
            }
        }
        let requests = "isthmus_requests_total";
        assert_eq!(counted(both, requests), counted(before, requests));
        let tried = counted(both, "isthmus_trial_requests_total");
        assert_eq!(tried, counted(after, requests), "{now} {new}");
        let of_denied = counted(both, "isthmus_trial_denied_total");
        assert_eq!(of_denied.values().sum::<u64>(), denied, "{now} {new}");
        assert_eq!(
            counted(both, "isthmus_shadow_denied_total"),
            counted(before, "isthmus_shadow_denied_total"),
            "policies in shadow of the plan that is tried are not in force either"
        );
        denied_anew += denied;
    }
    assert!(denied_anew > 50, "{denied_anew}");
}

#[test]
fn what_leaves_and_what_passes_a_gateway_is_tried_too() {
    let steering = [
        "",
        "routing: {pin: {header: x-cell, to: {a: cluster1, b: cluster2}}}",
        "routing: {boundary: Cluster, pin: {header: x-cell, to: {b: cluster2}}}",
    ];
    let host: (&str, &[u8]) = (":authority", b"helloworld.sample:5000");
    let forged: (&str, &[u8]) = ("x-isthmus-route", b"cluster=cluster2");
    let mut denied_anew = 0;
    for (now, new) in steering.iter().flat_map(|now| steering.iter().map(move |new| (*now, *new))) {
        let [now, new] = [now, new].map(|spec| of(Role::Outbound, spec));
        let vms = [&now, &new, &trying(&now, &new)]
            .map(|configuration| start(&helloworld(), configuration).expect("a VM"));
        let [before, after, both] = &vms;
        let mut denied = 0;
        for cell in ["a", "b", "z"] {
            let headers = [host, forged, ("x-cell", cell.as_bytes())];
            let was = sent(before, &from(None), &headers);
            assert_eq!(sent(both, &from(None), &headers), was, "{now} {new}");
            denied += u64::from(was.0 && !sent(after, &from(None), &headers).0);
        }
        assert_eq!(counted(both, "isthmus_trial_denied_total").values().sum::<u64>(), denied, "{now} {new}");
        denied_anew += denied;
    }
    assert_eq!(denied_anew, 2);

    let [open, hidden] = ["", "exposure: {to: {networks: []}}"].map(|spec| of(Role::Gateway, spec));
    let sni = "outbound_.5000_._.helloworld.sample.svc.cluster.local";
    for (now, new, closes, would) in
        [(&open, &hidden, false, 1), (&hidden, &open, true, 0), (&hidden, &hidden, true, 0)]
    {
        let vm = start(&gateway(), &trying(now, new)).expect("a VM");
        let stream = vm.connect(&from(None).with_server_name(sni)).expect("no trap");
        assert_eq!(stream.outcome().closed, closes);
        assert_eq!(counted(&vm, "isthmus_trial_denied_total").values().sum::<u64>(), would);
        assert_eq!(counted(&vm, "isthmus_trial_requests_total").values().sum::<u64>(), 1);
    }
}

/// Whom a plan lets in to helloworld: whoever is proven to be of a new cluster, which is not in the mesh yet.
fn with_a_new_cluster() -> Value {
    let text = std::fs::read_to_string(isthmus_tests::repository().join("examples/two-clusters/mesh.yaml"))
        .expect("a mesh");
    let text = text.replacen(
        "  clusters:\n",
        "  clusters:\n  - {name: cluster3, network: network1, podCidr: 10.77.0.0/16}\n",
        1,
    );
    let (mesh, findings) = Mesh::read("mesh.yaml", &text);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
    let policy = "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {name: p, namespace: sample}\n\
        spec: {services: [helloworld], access: {scope: All, allow: [{name: new, from: [{clusters: [cluster3]}]}]}}\n";
    let (policies, findings) = Policy::read("p.yaml", policy, mesh.root_namespace());
    assert_eq!(findings, []);
    let plans = policy::compile(&mesh, &policies).0.expect("plans");
    let plans = plans.get(&"cluster1".parse().expect("a name")).expect("plans of it");
    let plan = plans.at(Role::Inbound, &"sample".parse().expect("a name"));
    serde_json::to_value(plugin::configuration(Role::Inbound, &plan).expect("a configuration")).expect("JSON")
}

#[test]
fn a_cluster_that_comes_with_the_plan_is_known_to_the_trial_and_to_nobody_else() {
    let now = of(Role::Inbound, "access: {scope: All, allow: []}");
    let new = with_a_new_cluster();
    let vm = start(&helloworld(), &trying(&now, &new)).expect("a VM");
    let (is_let_on, said) = sent(&vm, &from(Some(peer("cluster3", "sample"))), &[]);
    assert!(!is_let_on && !said.contains("cluster3"), "{said}");
    let tried = counted(&vm, "isthmus_trial_requests_total");
    assert!(
        matches!(tried.iter().next(), Some((tags, 1)) if tags.contains("source_cluster=.=cluster3;.;") && tags.contains("reason=.=p/new;.;")),
        "{tried:?}"
    );
    assert_eq!(example().mesh().clusters().count(), 2);
}

#[test]
fn which_plan_is_tried_is_told_until_it_is_tried_no_more() {
    let info = |vm: &Vm| vm.metrics().get("direction=.=inbound;.;isthmus_trial_info").cloned();
    let number = |configuration: &Value| {
        let digest = configuration["digest"].as_str().and_then(|digest| digest.get(..12)).expect("a digest");
        Some(Metric::Gauge(u64::from_str_radix(digest, 16).expect("hex")))
    };
    let (now, new) = (of(Role::Inbound, ""), of(Role::Inbound, ACCESS[1]));
    let vm = start(&helloworld(), &trying(&now, &new)).expect("a VM");
    assert_eq!(info(&vm), number(&new));
    let plan = vm.metrics().get("direction=.=inbound;.;isthmus_plan_info").cloned();
    assert_eq!(plan, number(&now), "the other one judges");
    // A trial for elsewhere is refused whole, and the configuration before stays.
    let mut elsewhere = trying(&now, &new);
    elsewhere["trial"]["plan"]["home"]["cluster"] = json!("cluster2");
    assert!(vm.configure(elsewhere.to_string()).is_err());
    assert_eq!(info(&vm), number(&new));
    vm.configure(now.to_string()).expect("a configuration");
    assert_eq!(info(&vm), Some(Metric::Gauge(0)));
    // One that leaves the namespace to a plugin of its own is tried there.
    let mut leaving = trying(&now, &new);
    leaving["trial"]["plan"]["apart"] = json!(["sample"]);
    vm.configure(leaving.to_string()).expect("a configuration");
    assert_eq!(info(&vm), Some(Metric::Gauge(0)));
    let node: Node = helloworld();
    assert_eq!(counted(&start(&node, &leaving).expect("a VM"), "isthmus_trial_requests_total").len(), 0);
}
