//! A plan that leaves a namespace to a plugin of its own: nothing passes there that nobody has judged.

use isthmus::sandbox::{Connection, HttpOutcome, LogLine, Vm};
use policy::plan::Role;
use serde_json::{Value, json};

use super::{configuration, configured, from, node, peer, request, send, start};

/// The plan of cluster1 that leaves the ledger's namespace to another plugin.
fn leaving() -> Value {
    let mut leaving = configuration(Role::Inbound, "cluster1");
    let plan = leaving.pointer_mut("/plan").and_then(Value::as_object_mut).expect("a plan");
    plan.insert("apart".to_owned(), json!(["payments"]));
    leaving
}

/// A connection on which a plugin before this one has let a request on.
fn judged(connection: Connection) -> Connection {
    connection.with_filter_state("wasm.isthmus.reason", "not-denied")
}

/// Who may not read the ledger.
fn stranger() -> Connection {
    from(Some(peer("cluster2", "sample")))
}

fn status(vm: &Vm, connection: &Connection) -> u32 {
    let stream = vm.http(connection, request(&[])).expect("no trap");
    let HttpOutcome::Reply(reply) = stream.request() else { return 200 };
    let details = if reply.status == 503 { "isthmus:plan-missing" } else { "isthmus:ledger/" };
    assert!(reply.details.starts_with(details), "{}", reply.details);
    reply.status
}

#[test]
fn what_another_plugin_has_judged_is_left_as_it_is() {
    let vm = start(&node(), &leaving()).expect("a VM");
    let (passed, state) = send(&vm, &judged(from(None)), &[("x-source-cluster", b"kept")]);
    let passed = passed.expect("the other plugin has judged it");
    assert_eq!((passed.text("x-source-cluster"), state.len()), (Some("kept"), 1), "{state:?}");
}

#[test]
fn the_plan_that_is_told_of_is_the_one_that_judges() {
    let info = |vm: &Vm| vm.metrics().get("direction=.=inbound;.;isthmus_plan_info").cloned();
    assert_eq!(
        info(&start(&node(), &leaving()).expect("a VM")),
        None,
        "another plugin judges, and tells of its plan"
    );
    assert!(info(&start(&node(), &configuration(Role::Inbound, "cluster1")).expect("a VM")).is_some());
}

#[test]
fn what_nobody_has_judged_is_refused_until_somebody_does() {
    let vm = start(&node(), &leaving()).expect("a VM");
    assert_eq!([stranger(), from(None)].map(|connection| status(&vm, &connection)), [503, 503]);
    let logs = vm.take_logs();
    let told = |line: &LogLine| line.message.contains("no such plugin has judged the request");
    assert!(logs.iter().any(told), "{logs:?}");
    assert_eq!(status(&vm, &judged(stranger())), 200);
}

#[test]
fn the_plan_before_judges_until_the_other_plugin_does() {
    let whole = configuration(Role::Inbound, "cluster1");
    let vm = start(&node(), &whole).expect("a VM");
    assert_eq!(status(&vm, &stranger()), 403);
    vm.configure(leaving().to_string()).expect("a plan");
    assert_eq!(status(&vm, &stranger()), 403, "the plan before holds");
    vm.configure(leaving().to_string()).expect("the same once more");
    assert_eq!(status(&vm, &stranger()), 403, "and still does");
    assert_eq!(status(&vm, &judged(stranger())), 200);
    assert_eq!(status(&vm, &stranger()), 503, "it is too old from now on");
    vm.configure(whole.to_string()).expect("a plan");
    assert_eq!(status(&vm, &stranger()), 403);
}

#[test]
fn a_source_that_another_plugin_has_judged_by_its_tag_is_not_judged_once_more() {
    let vm = start(&node(), &configuration(Role::Inbound, "cluster1")).expect("a VM");
    // The plugin before has taken the tag away; what is left shows nothing.
    assert_eq!([from(None), judged(from(None))].map(|connection| status(&vm, &connection)), [403, 200]);
    // What the plugin before has proven by a token stands in the tags; the token is gone.
    let tags: [(&str, &[u8]); 2] = [("x-source-cluster", b"cluster2"), ("x-source-network", b"network2")];
    let (passed, _) = send(&vm, &judged(from(None)), &tags);
    assert_eq!(passed.expect("it was judged").text("x-source-cluster"), Some("cluster2"));
    assert!(send(&vm, &from(None), &tags).0.is_none(), "nobody has proven it");
    // A certificate still shows everything, and then both have to agree.
    assert_eq!(status(&vm, &judged(stranger())), 403);
}

#[test]
fn where_chance_decides_the_second_of_two_plugins_leaves_it_to_the_first() {
    let split = "routing: {split: [{cluster: cluster1, weight: 50}, {cluster: cluster2, weight: 50}], pin: {header: x-cell, to: {a: cluster1}}}";
    let vm = start(&node(), &configured(Role::Outbound, &[split])).expect("a VM");
    let routes = |connection: &Connection, cell: &[u8]| {
        let sent = |_| {
            let chosen: [(&str, &[u8]); 3] = [
                (":authority", b"helloworld.sample:5000"),
                ("x-isthmus-route", b"cluster=cluster1"),
                ("x-cell", cell),
            ];
            let passed = send(&vm, connection, &chosen).0.expect("it is let on");
            passed.text("x-isthmus-route").map(str::to_owned)
        };
        (0..100).map(sent).collect::<std::collections::BTreeSet<_>>()
    };
    let to = |cluster: &str| Some(format!("cluster={cluster}"));
    assert_eq!(
        routes(&from(None), b"b"),
        [to("cluster1"), to("cluster2")].into(),
        "whatever the application says"
    );
    assert_eq!(routes(&judged(from(None)), b"b"), [to("cluster1")].into(), "the first has chosen");
    assert_eq!(routes(&judged(from(None)), b"a"), [to("cluster1")].into(), "both come to the same");
}
