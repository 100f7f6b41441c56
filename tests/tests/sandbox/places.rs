//! What the filter does at each of its places, beyond the verdict.

use isthmus::sandbox::{Connection, Headers, HttpOutcome, LogLine, Metric, Node, Vm};
use policy::plan::Role;
use serde_json::json;

use super::{configuration, configured, from, ledger, node, peer, request, send, start};

const NEAR: &str = "routing: {boundary: Cluster}";

/// A proxy of cluster1 whose node begins so and has this label `istio`.
fn edge(kind: &str, label: &str) -> Node {
    Node {
        id: format!("{kind}~192.0.2.3~edge.istio-system~istio-system.svc.cluster.local"),
        metadata: json!({
            "CLUSTER_ID": "cluster1", "NETWORK": "network1", "NAMESPACE": "istio-system", "LABELS": {"istio": label},
        }),
        ..Node::default()
    }
}

/// The counters of a VM under one name, with their tags.
fn counters(vm: &Vm, name: &str) -> Vec<(String, u64)> {
    let counted = |(tags, metric): (String, Metric)| match metric {
        Metric::Counter(count) if tags.ends_with(name) => Some((tags.replace(name, ""), count)),
        Metric::Counter(_) | Metric::Gauge(_) | Metric::Histogram(_) => None,
    };
    vm.metrics().into_iter().filter_map(counted).collect()
}

/// An endpoint as istiod describes it, in a cluster.
fn to(cluster: &str) -> Connection {
    from(None)
        .with_upstream_cluster("outbound|5000||helloworld.sample.svc.cluster.local")
        .with_upstream_host_metadata(
            json!({"filter_metadata": {"istio": {"workload": format!("hello;sample;hello;v1;{cluster}")}}}),
        )
}

fn lines(logs: &[LogLine]) -> Vec<&str> {
    logs.iter().map(|line| line.message.as_str()).collect()
}

#[test]
fn a_client_that_speaks_grpc_is_refused_in_its_own_words() {
    let vm = ledger();
    let connection = from(Some(peer("cluster2", "sample")));
    for (content_type, grpc) in
        [("application/grpc", true), ("application/grpc-web", false), ("text/x", false)]
    {
        let asked = request(&[("content-type", content_type.as_bytes())]);
        let stream = vm.http(&connection, asked).expect("no trap");
        let HttpOutcome::Reply(reply) = stream.request() else { panic!("it was let in") };
        assert_eq!(reply.grpc_status, grpc.then_some(7), "{content_type}");
        assert_eq!(reply.details, "isthmus:ledger/no-rule-matched");
        assert_eq!(reply.headers.text("x-isthmus-reason"), Some("ledger/no-rule-matched"));
        let body = String::from_utf8(reply.body).expect("text");
        assert_eq!(body.starts_with('{'), !grpc, "{body}");
        assert!(body.contains("ledger/no-rule-matched"), "{body}");
    }
}

#[test]
fn every_verdict_is_counted_once_under_names_that_the_plan_has() {
    let vm = ledger();
    let treasury = from(Some(peer("cluster2", "treasury")));
    let sample = from(Some(peer("cluster2", "sample")));
    for _ in 0..3 {
        assert!(send(&vm, &treasury, &[("x-source-cluster", b"any;.;thing=.=else")]).0.is_some());
    }
    for host in ["one", "two", "three", "four"] {
        assert!(send(&vm, &sample, &[(":authority", host.as_bytes())]).0.is_none());
    }
    let tags = |verdict: &str, reason: &str| {
        format!(
            "direction=.=inbound;.;source_cluster=.=cluster2;.;destination_cluster=.=cluster1;.;verdict=.={verdict};.;reason=.={reason};.;"
        )
    };
    assert_eq!(
        counters(&vm, "isthmus_requests_total"),
        [(tags("allow", "ledger/treasury-reads"), 3), (tags("deny", "ledger/no-rule-matched"), 4),]
    );
}

#[test]
fn the_plan_that_runs_is_told_by_the_first_bits_of_its_digest() {
    let vm = ledger();
    let info = |vm: &Vm| vm.metrics().get("direction=.=inbound;.;isthmus_plan_info").cloned();
    let number = |configuration: &serde_json::Value| {
        let digest = configuration["digest"].as_str().and_then(|digest| digest.get(..12)).expect("a digest");
        Some(Metric::Gauge(u64::from_str_radix(digest, 16).expect("hex")))
    };
    let first = configuration(Role::Inbound, "cluster1");
    assert_eq!(info(&vm), number(&first));
    let mut other = first.clone();
    other["digest"] = json!("0123456789abcdef");
    vm.configure(other.to_string()).expect("a good configuration");
    assert_eq!(info(&vm), Some(Metric::Gauge(0x0123_4567_89ab)));
    assert!(vm.configure("{}").is_err());
    assert_eq!(info(&vm), Some(Metric::Gauge(0x0123_4567_89ab)), "what is refused is not told of");
}

#[test]
fn what_policies_in_shadow_would_refuse_is_counted_and_told_but_no_peer_fills_the_log() {
    let vm = start(&super::helloworld(), &configured(Role::Inbound, &["mode: Shadow, access: {allow: []}"]));
    let vm = vm.expect("a VM");
    let connection = from(Some(peer("cluster2", "treasury")));
    for _ in 0..1000 {
        assert!(send(&vm, &connection, &[]).0.is_some());
    }
    let counted = counters(&vm, "isthmus_shadow_denied_total");
    assert!(
        matches!(counted.as_slice(), [(tags, 1000)] if tags.contains("reason=.=p0/no-rule-matched;.;")),
        "{counted:?}"
    );
    let logs = vm.take_logs();
    assert_eq!(lines(&logs), ["in shadow: deny by p0/no-rule-matched"; 10]);
    vm.set_time(std::time::Duration::from_secs(60));
    assert!(send(&vm, &connection, &[]).0.is_some());
    assert_eq!(
        lines(&vm.take_logs()),
        ["in shadow: deny by p0/no-rule-matched (990 lines before this one were left out)"]
    );
}

#[test]
fn an_answer_from_outside_the_boundary_is_noticed_counted_and_told() {
    let vm = start(&node(), &configured(Role::Outbound, &[NEAR])).expect("a VM");
    let answered = |connection: &Connection, headers: &[(&str, &str)]| {
        let stream = vm.http(connection, request(&[(":authority", b"helloworld.sample")])).expect("no trap");
        assert!(matches!(stream.request(), HttpOutcome::Continue(_)));
        let mut response = Headers::from([(":status", "200")]);
        headers.iter().for_each(|(name, value)| response.add(*name, *value));
        stream.respond(response).expect("no trap");
        let state = stream.finish().expect("no trap").filter_state;
        state.value("wasm.isthmus.breach").map(|cluster| String::from_utf8_lossy(cluster).into_owned())
    };
    assert_eq!(answered(&to("cluster1"), &[]), None);
    assert_eq!(answered(&to("cluster2"), &[]).as_deref(), Some("cluster2"));
    // What istiod says of the endpoint counts before what the answer says of itself.
    assert_eq!(
        answered(&to("cluster2"), &[("x-destination-cluster", "cluster1")]).as_deref(),
        Some("cluster2")
    );
    assert_eq!(answered(&from(None), &[("x-destination-cluster", "cluster2")]).as_deref(), Some("cluster2"));
    assert_eq!(answered(&from(None), &[("x-destination-cluster", "no such cluster")]), None);
    let tags = "direction=.=outbound;.;source_cluster=.=cluster1;.;destination_cluster=.=cluster2;.;\
        verdict=.=deny;.;reason=.=p0/boundary;.;";
    assert_eq!(counters(&vm, "isthmus_breaches_total"), [(tags.to_owned(), 3)]);
    assert!(
        lines(&vm.take_logs())
            .contains(&"breach: helloworld.sample was answered by cluster2, against p0/boundary")
    );
}

#[test]
fn a_pin_that_led_elsewhere_is_a_breach_too() {
    let pinned = "routing: {pin: {header: x-cell, to: {a: cluster1}}}";
    let vm = start(&node(), &configured(Role::Outbound, &[pinned])).expect("a VM");
    for (cell, breaches) in [("b", 0), ("a", 1)] {
        let asked = request(&[(":authority", b"helloworld.sample"), ("x-cell", cell.as_bytes())]);
        let stream = vm.http(&to("cluster2"), asked).expect("no trap");
        stream.respond(Headers::from([(":status", "200")])).expect("no trap");
        stream.finish().expect("no trap");
        assert_eq!(counters(&vm, "isthmus_breaches_total").len(), breaches, "{cell}");
    }
}

#[test]
fn behind_the_load_balancer_a_request_ends_that_would_leave_its_boundary() {
    let vm = start(&node(), &configured(Role::Upstream, &[NEAR])).expect("a VM");
    let passed = |connection: Connection| {
        let (passed, state) = send(&vm, &connection.with_upstream_filter(), &[]);
        (passed.is_some(), state.get("reason").cloned())
    };
    assert_eq!(passed(to("cluster1")), (true, Some("not-denied".to_owned())));
    assert_eq!(passed(to("cluster2")), (false, Some("p0/boundary".to_owned())));
    assert_eq!(passed(to("no-such-cluster")), (false, Some("p0/boundary".to_owned())));
    let unknown = to("").with_upstream_host_metadata(serde_json::Value::Null);
    assert_eq!(passed(unknown), (false, Some("p0/boundary".to_owned())), "what is not known is not inside");
    let other = to("cluster2").with_upstream_cluster("outbound|80||other.sample.svc.cluster.local");
    assert_eq!(passed(other), (true, None));
}

#[test]
fn a_sidecar_whose_plan_says_nothing_tags_all_the_same() {
    let forged: [(&str, &[u8]); 4] = [
        ("x-source-cluster", b"cluster2"),
        ("x-source-cluster", b"\xff"),
        ("x-source-network", b"network2"),
        ("x-isthmus-route", b"cluster=cluster2"),
    ];
    // The other host of the second is no service's, so that both plans let the request pass unsteered.
    for (specs, authority) in [(&[][..], "helloworld.sample:5000"), (&[NEAR], "api.example.com")] {
        let vm = start(&node(), &configured(Role::Outbound, specs)).expect("a VM");
        for forged in [&forged[..], &[]] {
            let asked = [forged, &[(":authority", authority.as_bytes())]].concat();
            let (passed, _) = send(&vm, &from(None), &asked);
            let passed = passed.expect("it goes on");
            assert_eq!(passed.values(b"x-source-cluster").collect::<Vec<_>>(), [b"cluster1"], "{specs:?}");
            assert_eq!(passed.text("x-source-network"), Some("network1"));
            assert_eq!(passed.value("x-isthmus-route"), None);
        }
    }
}

#[test]
fn an_ingress_gateway_takes_no_tag_from_outside_and_shows_none() {
    let vm = start(&edge("router", "ingressgateway"), &configured(Role::Outbound, &[NEAR])).expect("a VM");
    let forged: [(&str, &[u8]); 4] = [
        ("x-source-cluster", b"cluster2"),
        ("x-source-network", b"network2"),
        ("x-isthmus-route", b"cluster=cluster2"),
        (":authority", b"shop.example.com"),
    ];
    // Its host is nobody's of the mesh; the route that Istio chose for it says which service it is.
    let stream = vm.http(&to("cluster1"), request(&forged)).expect("no trap");
    let HttpOutcome::Continue(passed) = stream.request() else { panic!("it was refused") };
    assert_eq!(passed.values(b"x-source-cluster").collect::<Vec<_>>(), [b"cluster1"]);
    assert_eq!(passed.text("x-source-network"), Some("network1"));
    assert_eq!(passed.text("x-isthmus-route"), Some("cluster"));
    let response = Headers::from([
        (":status", "200"),
        ("x-destination-cluster", "cluster1"),
        ("x-destination-network", "network1"),
    ]);
    let outcome = stream.respond(response).expect("no trap");
    let shown = outcome.continued().expect("it goes on");
    assert_eq!((shown.value("x-destination-cluster"), shown.value("x-destination-network")), (None, None));
}

#[test]
fn an_egress_gateway_keeps_the_tags_of_the_mesh_and_of_nobody_else() {
    let vm = start(&edge("router", "egressgateway"), &configured(Role::Outbound, &[NEAR])).expect("a VM");
    let tags: [(&str, &[u8]); 2] = [("x-source-cluster", b"cluster2"), ("x-source-network", b"network2")];
    let sent = |peer| {
        let (passed, _) =
            send(&vm, &from(peer), &[&tags[..], &[(":authority", b"api.example.com")]].concat());
        let passed = passed.expect("no policy");
        ["x-source-cluster", "x-source-network"].map(|name| passed.text(name).map(str::to_owned))
    };
    assert_eq!(
        sent(Some(peer("cluster2", "sample"))),
        ["cluster2", "network2"].map(|tag| Some(tag.to_owned()))
    );
    assert_eq!(sent(None), ["cluster1", "network1"].map(|tag| Some(tag.to_owned())));
}

#[test]
fn no_header_makes_a_peer_of_another() {
    let vm = ledger();
    let (treasury, sample) = (peer("cluster2", "treasury"), peer("cluster2", "sample"));
    let xfcc = |sha256: &str| format!("By=spiffe://x;Hash={sha256};URI=spiffe://y").into_bytes();
    let connections = [from(Some(treasury.clone())), from(Some(sample.clone())), from(None)];
    // Twice, so that each peer has been read before, on this connection and on the others.
    for _ in 0..2 {
        for (connection, may) in connections.iter().zip([true, false, false]) {
            for said in [xfcc(&treasury.sha256), xfcc(&sample.sha256), b"Hash=".to_vec()] {
                let (passed, state) = send(&vm, connection, &[("x-forwarded-client-cert", &said)]);
                assert_eq!(passed.is_some(), may, "{state:?}");
            }
        }
    }
}

#[test]
fn the_access_log_of_every_request_has_the_source_of_its_connection_and_a_claim_as_such() {
    let vm = ledger();
    let connection = from(Some(peer("cluster2", "treasury")));
    for _ in 0..3 {
        let (_, state) = send(&vm, &connection, &[("x-source-cluster", b"cluster1")]);
        assert_eq!(
            (state["source_cluster"].as_str(), state["source_level"].as_str()),
            ("cluster2", "verified by certificate")
        );
    }
    // A peer of the mesh whose issuer nobody knows: what it claims is no more than that.
    let unknown = from(Some(peer("cluster7", "treasury")));
    for (claim, shown) in [("cluster1", Some("cluster1")), ("cluster2", Some("cluster2")), ("nowhere", None)]
    {
        let (_, state) = send(&vm, &unknown, &[("x-source-cluster", claim.as_bytes())]);
        assert_eq!(state.get("claimed_cluster").map(String::as_str), shown);
        assert_eq!((state.get("source_cluster"), state["source_level"].as_str()), (None, "unknown"));
    }
}
