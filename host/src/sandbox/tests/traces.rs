//! What a callback costs, and what it did.

use super::guest::{Guest, SLOT, connection};
use crate::sandbox::{Callback, Cost, Headers};

#[test]
fn a_test_can_pin_what_a_request_costs() {
    let mut guest = Guest::default();
    let (host, none) = (guest.put(":authority"), guest.put("none"));
    let get = |key: &str| format!("(drop (call $get (i32.const 0) {key} {SLOT}))");
    guest.on_request(&format!("{} {} (i32.const 0)", get(&host), get(&none)));
    guest.on_response("(i32.const 0)");
    let vm = guest.start();
    let request = || Headers::from([(":authority", "shop")]);
    vm.http(&connection(), request()).unwrap().finish().unwrap();
    assert!(vm.take_callbacks().is_empty(), "nothing is noted before it is asked for");
    vm.record();
    vm.http(&connection(), request()).unwrap().respond(Headers::new()).unwrap();
    let callbacks = vm.take_callbacks();
    let [on_request, on_response] = &callbacks[..] else { panic!("{callbacks:?}") };
    assert_eq!((on_request.name, on_request.context), ("proxy_on_request_headers", 3));
    let cost = callbacks.iter().sum::<Cost>();
    // Two names read, ten and four bytes long, and one value handed over.
    assert_eq!(
        Cost { fuel: 0, ..cost },
        Cost { callbacks: 2, hostcalls: 2, copied_bytes: 18, allocations: 1, fuel: 0 }
    );
    assert!(on_request.fuel > on_response.fuel && on_response.fuel > 0);
    assert_eq!(cost.fuel, on_request.fuel + on_response.fuel);
    assert_eq!(on_request.memory_bytes, vm.memory_bytes());
    assert!(vm.take_callbacks().is_empty());
}

#[test]
fn a_trace_reads_like_the_calls_it_tells_of() {
    let mut guest = Guest::default();
    let key = guest.put("plugin_name\0");
    guest.on_request(&format!(
        "(drop (call $property {key} {SLOT})) (drop (call $now (i32.const -1))) unreachable"
    ));
    let vm = guest.start();
    vm.record();
    vm.http(&connection(), Headers::new()).expect_err("a trap");
    let told: Vec<String> = vm.take_callbacks().iter().map(Callback::to_string).collect();
    let (first, calls) = told[0].split_once('\n').unwrap();
    assert!(first.starts_with("proxy_on_request_headers of context 2: "), "{first}");
    let expected = "  proxy_get_property(plugin_name\\x00) = 0, gave 1 bytes\n  proxy_get_current_time_nanoseconds() = 6";
    assert_eq!(calls, expected);
}

#[test]
fn a_hostcall_that_traps_has_no_answer_and_the_one_that_it_was_for_has_six() {
    let mut guest = Guest::default();
    let key = guest.put("plugin_name");
    guest.on_request(&format!("(call $property {key} {SLOT})"));
    let vm = super::guest::start(
        &guest.with_malloc("(param i32) (result i32) (drop (call $now (i32.const 0))) (i32.const 64)"),
        "",
    )
    .unwrap();
    vm.record();
    vm.http(&connection(), Headers::new()).expect_err("a trap");
    let callbacks = vm.take_callbacks();
    let statuses: Vec<_> = callbacks[0].hostcalls.iter().map(|call| call.status).collect();
    assert_eq!(statuses, [Some(6), None], "the allocator's own call is told too");
}
