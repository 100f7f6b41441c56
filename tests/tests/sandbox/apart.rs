//! A plan that leaves a namespace to a plugin of its own: nothing passes there that nobody has judged.

use isthmus::sandbox::{Connection, HttpOutcome, LogLine, Vm};
use policy::plan::Role;
use serde_json::{Value, json};

use super::{configuration, from, node, peer, request, send, start};

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
    // A certificate still shows everything, and then both have to agree.
    assert_eq!(status(&vm, &judged(stranger())), 403);
}
