//! Traps under each failure policy, reloads, and what a plugin may not do.

use std::collections::BTreeSet;
use std::time::Duration;

use super::guest::{Guest, SLOT, connection, note, seen};
use crate::sandbox::{
    FailurePolicy, Headers, HttpOutcome, Message, Node, Plugin, Reloads, StartError, Trap, Vm,
};

const CONTINUE: &str = "(i32.const 0)";
const RELOAD: FailurePolicy = FailurePolicy::Reload { interval: Duration::from_secs(1) };

/// Traps if the request has a header `x-trap`.
fn fragile(guest: &mut Guest) {
    let (key, log) = (guest.put("x-trap"), guest.put("log"));
    guest.on_request(&format!(
        "(if (i32.eqz (call $get (i32.const 0) {key} {SLOT})) (then unreachable)) {CONTINUE}"
    ));
    guest.on_response(&format!("(call $note (i32.const 9)) {CONTINUE}"));
    guest.on("proxy_on_log", "(param i32)", &format!("(drop (call $log (i32.const 2) {log}))"));
}

fn under(guest: &Guest, failure_policy: FailurePolicy) -> Vm {
    guest.module().start(&Node::default(), Plugin { failure_policy, ..Plugin::default() }).unwrap()
}

fn deadly() -> Headers {
    Headers::from([("x-trap", "1")])
}

fn harmless() -> Headers {
    Headers::from([("x", "1")])
}

fn status(outcome: &HttpOutcome) -> Option<(u32, &str)> {
    outcome.reply().map(|reply| (reply.status, reply.details.as_str()))
}

const FAILED: Option<(u32, &str)> = Some((503, "wasm_fail_stream"));

#[test]
fn a_closed_filter_answers_503_from_the_trap_on_and_is_not_called_again() {
    let mut guest = Guest::default();
    fragile(&mut guest);
    let vm = under(&guest, FailurePolicy::Closed);
    let before = vm.http(&connection(), harmless()).unwrap();
    let trapped = vm.http(&connection(), deadly()).unwrap();
    assert_eq!(status(&trapped.request()), FAILED);
    assert_eq!(status(&before.respond(Headers::new()).unwrap()), FAILED, "a stream that was under way");
    assert_eq!(status(&vm.http(&connection(), harmless()).unwrap().request()), FAILED);
    before.finish().unwrap();
    assert!(seen(&vm).is_empty(), "no response callback and no log");
    assert!(vm.failure().is_some());
    let closed = vm.connect(&connection()).unwrap();
    assert!(closed.outcome().closed);
}

#[test]
fn a_client_that_speaks_grpc_is_told_that_the_service_is_unavailable() {
    let mut guest = Guest::default();
    fragile(&mut guest);
    let vm = under(&guest, FailurePolicy::Closed);
    let request = Headers::from([("content-type", "application/grpc"), ("x-trap", "1")]);
    let outcome = vm.http(&connection(), request).unwrap().request();
    assert_eq!(outcome.reply().unwrap().headers.text("grpc-status"), Some("14"));
}

#[test]
fn an_open_filter_is_passed_over_by_the_streams_that_come_after_the_trap() {
    let mut guest = Guest::default();
    fragile(&mut guest);
    let vm = under(&guest, FailurePolicy::Open);
    let before = vm.http(&connection(), harmless()).unwrap();
    assert_eq!(status(&vm.http(&connection(), deadly()).unwrap().request()), FAILED);
    assert_eq!(status(&before.respond(Headers::new()).unwrap()), FAILED, "it was under way");
    let after = vm.http(&connection(), deadly()).unwrap();
    assert_eq!(after.request(), HttpOutcome::Continue(deadly()));
    assert!(!vm.connect(&connection()).unwrap().outcome().closed);
}

#[test]
fn a_filter_that_is_open_throughout_is_passed_over_by_every_stream() {
    let mut guest = Guest::default();
    fragile(&mut guest);
    let vm = under(&guest, FailurePolicy::OpenThroughout);
    let trapped = vm.http(&connection(), Message::new(deadly()).with_body("ab")).unwrap();
    assert_eq!(trapped.to_upstream().body, b"ab");
    assert_eq!(trapped.respond(harmless()).unwrap(), HttpOutcome::Continue(harmless()));
    assert!(!vm.connect(&connection()).unwrap().outcome().closed);
    trapped.finish().unwrap();
    assert!(seen(&vm).is_empty());
}

#[test]
fn a_trap_with_the_response_in_hand_takes_its_place_and_later_resets_the_stream() {
    let mut guest = Guest::default();
    guest.on_response("(if (i32.eq (local.get 1) (i32.const 2)) (then unreachable)) (i32.const 0)");
    guest.on_three("proxy_on_response_body", "unreachable");
    let two = Headers::from([(":status", "200"), ("a", "b")]);
    let vm = under(&guest, FailurePolicy::Closed);
    let stream = vm.http(&connection(), harmless()).unwrap();
    assert_eq!(status(&stream.respond(two).unwrap()), FAILED);
    let vm = under(&guest, FailurePolicy::Closed);
    let stream = vm.http(&connection(), harmless()).unwrap();
    let answered = stream.respond(Message::new([(":status", "200")]).with_body("ab")).unwrap();
    assert_eq!(answered, HttpOutcome::Reset, "its headers had gone on");
}

#[test]
fn a_trap_in_the_response_to_its_own_reply_is_a_503() {
    let mut guest = Guest::default();
    let none = guest.put("");
    guest.on_request(&format!(
        "(drop (call $reply (i32.const 403) {none} {none} {none} (i32.const -1))) {CONTINUE}"
    ));
    guest.on_response("unreachable");
    let vm = under(&guest, FailurePolicy::Closed);
    assert_eq!(status(&vm.http(&connection(), harmless()).unwrap().request()), FAILED);
}

#[test]
fn a_new_stream_brings_a_new_guest_once_the_last_is_old_enough() {
    let mut guest = Guest::default();
    fragile(&mut guest);
    let vm = under(&guest, RELOAD);
    let before = vm.http(&connection(), harmless()).unwrap();
    assert_eq!(status(&vm.http(&connection(), deadly()).unwrap().request()), FAILED);
    assert_eq!(status(&vm.http(&connection(), harmless()).unwrap().request()), FAILED, "too soon");
    vm.advance(Duration::from_secs(1)).unwrap();
    let after = vm.http(&connection(), harmless()).unwrap();
    assert_eq!(after.request(), HttpOutcome::Continue(harmless()));
    assert_eq!(vm.reloads(), Reloads { succeeded: 1, failed: 0, backed_off: 1 });
    assert_eq!(vm.failure(), None);
    assert_eq!(status(&before.respond(Headers::new()).unwrap()), FAILED, "its guest is dead all the same");
    before.finish().unwrap();
    after.finish().unwrap();
    assert_eq!(seen(&vm), ["log"], "of the living stream alone");
}

#[test]
fn a_guest_that_will_not_start_again_stays_away() {
    let mut guest = Guest::default();
    fragile(&mut guest);
    let name = guest.put("started");
    let count = format!(
        "(drop (call $define (i32.const 0) {name} (i32.const 48)))
         (drop (call $increment (i32.load (i32.const 48)) (i64.const 1)))
         (drop (call $metric (i32.load (i32.const 48)) (i32.const 56)))"
    );
    // It starts in the canary, in the main thread and in the worker, and then no more.
    let verdict = "(i64.le_u (i64.load (i32.const 56)) (i64.const 3))";
    guest.on("proxy_on_configure", "(param i32 i32) (result i32)", &format!("{count} {verdict}"));
    let vm = under(&guest, RELOAD);
    drop(vm.http(&connection(), deadly()).unwrap());
    for seconds in 1..3 {
        vm.advance(Duration::from_secs(1)).unwrap();
        assert_eq!(status(&vm.http(&connection(), harmless()).unwrap().request()), FAILED);
        assert_eq!(vm.reloads().failed, seconds);
    }
}

#[test]
fn a_trap_says_in_which_functions() {
    let mut guest = Guest::default();
    guest.on_request("(call $act_for (call $boom))");
    guest.on("boom", "(result i32)", "unreachable");
    let text_module = super::guest::compile(
        r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i32) (result i32) (i32.const 0))
            (func $deep (result i32) unreachable)
            (func $callback (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $deep)))"#,
    );
    let vm = text_module.unwrap().start(&Node::default(), Plugin::default()).unwrap();
    let trapped = vm.http(&connection(), harmless()).expect_err("a trap");
    assert_eq!(*trapped.frames, ["deep", "callback"]);
    assert_eq!(trapped.to_string(), "proxy_on_request_headers trapped in deep, callback");
}

#[test]
fn what_a_plugin_may_not_call_fails_and_what_may_not_be_called_is_not() {
    let mut guest = Guest::default();
    guest.on_request(&format!("{} {CONTINUE}", note("(call $now (i32.const 0))")));
    guest.on_response("unreachable");
    let capabilities: BTreeSet<String> = ["proxy_log", "proxy_on_request_headers"].map(str::to_owned).into();
    let plugin = Plugin { capabilities, ..Plugin::default() };
    let vm = guest.module().start(&Node::default(), plugin).unwrap();
    let stream = vm.http(&connection(), harmless()).unwrap();
    stream.respond(harmless()).unwrap();
    let lines = seen(&vm);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("proxy_get_current_time_nanoseconds"), "{}", lines[0]);
    assert_eq!(lines[1], "10");
}

#[test]
fn wasi_that_a_plugin_may_not_call_says_so_in_its_own_words() {
    let text = r#"(module
        (import "wasi_unstable" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 0))
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
          (i32.eq (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 76))))"#;
    let module = super::guest::compile(text).unwrap();
    let start = |allowed: &str| {
        let capabilities = ["proxy_on_vm_start", allowed].map(str::to_owned).into();
        module.start(&Node::default(), Plugin { capabilities, ..Plugin::default() })
    };
    assert!(start("clock_time_get").is_ok());
    assert!(matches!(start("fd_write"), Err(StartError::Refused { .. })), "allowed, it writes nothing");
}

#[test]
fn memory_grows_to_its_limit_and_no_further() {
    let mut guest = Guest::default();
    let grow = |pages: u32| format!("(call $note (i32.add (i32.const 1) (memory.grow (i32.const {pages}))))");
    guest.on_request(&format!("{} {} {CONTINUE}", grow(2), grow(1)));
    let module = guest.module().with_memory_limit(4 * 65536);
    let vm = module.start(&Node::default(), Plugin::default()).unwrap();
    vm.http(&connection(), harmless()).unwrap();
    assert_eq!(seen(&vm), ["3", "0"], "it had two pages, and then gets none");
    assert_eq!(vm.memory_bytes(), 4 * 65536);
    let trapped = guest.module().with_memory_limit(65536).start(&Node::default(), Plugin::default());
    assert!(
        matches!(trapped, Err(StartError::Trapped { source, .. }) if matches!(source.cause, Trap::Guest { .. }))
    );
}
