//! HTTP streams and TCP connections.

use super::guest::{Guest, SLOT, connection, note, seen};
use crate::sandbox::{Action, Headers, HttpOutcome, Vm};

const CONTINUE: &str = "(i32.const 0)";
const PAUSE: &str = "(i32.const 1)";

fn exchange(vm: &Vm, request: Headers) -> (HttpOutcome, HttpOutcome) {
    let stream = vm.http(&connection(), request).unwrap();
    let outcome = (stream.request(), stream.respond(Headers::from([(":status", "200")])).unwrap());
    stream.finish().unwrap();
    outcome
}

#[test]
fn request_headers_are_added_replaced_and_removed() {
    let mut guest = Guest::default();
    let (a, b, c, v) = (guest.put("X-A"), guest.put("x-b"), guest.put("x-c"), guest.put("v"));
    guest.on_request(&format!(
        "(drop (call $add (i32.const 0) {a} {v})) (drop (call $replace (i32.const 0) {b} {v}))
         (drop (call $remove (i32.const 0) {c})) {CONTINUE}"
    ));
    let vm = guest.start();
    let request = Headers::from([(":path", "/"), ("x-a", "1"), ("x-b", "1"), ("x-b", "2"), ("x-c", "1")]);
    let stream = vm.http(&connection(), request).unwrap();
    let expected = Headers::from([(":path", "/"), ("x-a", "1"), ("x-a", "v"), ("x-b", "v")]);
    assert_eq!(stream.request(), HttpOutcome::Continue(expected));
    assert_eq!(stream.route_refreshes(), 3, "each change picks the route again");
}

#[test]
fn a_map_is_a_bad_argument_out_of_its_phase_and_not_found_only_in_the_log() {
    let mut guest = Guest::default();
    let path = guest.put(":path");
    let get = |map: u32| note(&format!("(call $get (i32.const {map}) {path} {SLOT})"));
    let remove = note(&format!("(call $remove (i32.const 0) {path})"));
    let pairs = note(&format!("(call $pairs (i32.const 0) {SLOT})"));
    guest.on_request(&format!("{} {} {} {CONTINUE}", get(0), get(2), get(8)));
    guest.on_response(&format!("{} {} {pairs} {remove} {CONTINUE}", get(0), get(2)));
    guest.on("proxy_on_log", "(param i32)", &format!("{} {} {} {remove}", get(0), get(2), get(1)));
    let vm = guest.start();
    exchange(&vm, Headers::from([(":path", "/")]));
    let (request, response, log) = (["0", "2", "2"], ["2", "1", "0", "2"], ["0", "1", "1", "2"]);
    assert_eq!(seen(&vm), [&request[..], &response, &log].concat());
}

#[test]
fn pairs_that_do_not_decode_clear_the_map() {
    let mut guest = Guest::default();
    let bad = guest.put("\u{1}\0\0\0");
    guest.on_request(&format!("{} {CONTINUE}", note(&format!("(call $set_pairs (i32.const 0) {bad})"))));
    let vm = guest.start();
    let stream = vm.http(&connection(), Headers::from([(":path", "/")])).unwrap();
    assert_eq!(stream.request(), HttpOutcome::Continue(Headers::new()));
    assert_eq!(seen(&vm), ["0"]);
}

#[test]
fn a_local_reply_passes_the_response_callback_of_its_own_filter() {
    let mut guest = Guest::default();
    let (details, body, none) = (guest.put("no entry"), guest.put("no"), guest.put(""));
    let (path, tag) = (guest.put(":path"), guest.put("x-tag"));
    let reply = note(&format!("(call $reply (i32.const 403) {details} {body} {none} (i32.const -1))"));
    guest.on_request(&format!("{reply} {CONTINUE}"));
    let get = note(&format!("(call $get (i32.const 0) {path} {SLOT})"));
    guest.on_response(&format!("{get} (drop (call $add (i32.const 2) {tag} {body})) {CONTINUE}"));
    let vm = guest.start();
    let (request, response) = exchange(&vm, Headers::from([(":path", "/")]));
    let reply = request.reply().expect("a local reply");
    assert_eq!((reply.status, &reply.body[..], reply.details.as_str()), (403, &b"no"[..], "no_entry"));
    assert_eq!(reply.headers.text("x-tag"), Some("no"));
    assert_eq!(response, request, "there is no upstream response after a reply");
    assert_eq!(seen(&vm), ["0", "0"], "the request was never let go, so its headers can still be read");
}

#[test]
fn a_second_local_reply_leaves_the_client_waiting() {
    let mut guest = Guest::default();
    let none = guest.put("");
    let reply = format!("(drop (call $reply (i32.const 500) {none} {none} {none} (i32.const -1)))");
    guest.on_request(&format!("{reply} {PAUSE}")).on_response(&format!("{reply} {PAUSE}"));
    let (request, response) = exchange(&guest.start(), Headers::new());
    assert_eq!((request, response), (HttpOutcome::Pause, HttpOutcome::Pause));
}

#[test]
fn a_reply_in_place_of_the_response_is_not_shown_to_the_filter_again() {
    let mut guest = Guest::default();
    let none = guest.put("");
    let reply = note(&format!("(call $reply (i32.const 502) {none} {none} {none} (i32.const -1))"));
    guest.on_response(&format!("{reply} {PAUSE}"));
    let vm = guest.start();
    let (request, response) = exchange(&vm, Headers::new());
    assert_eq!(request, HttpOutcome::Continue(Headers::new()));
    assert_eq!(response.reply().map(|reply| reply.status), Some(502));
    assert_eq!(seen(&vm), ["0"]);
}

#[test]
fn a_paused_stream_is_let_go_by_a_later_one() {
    let mut guest = Guest::default();
    // The root is context 1, the first stream 2.
    guest.on_request(&format!(
        "(if (i32.eq (local.get 0) (i32.const 2)) (then (return {PAUSE})))
         {} {} {CONTINUE}",
        note("(call $act_for (i32.const 2))"),
        note("(call $continue (i32.const 0))"),
    ));
    let vm = guest.start();
    let first = vm.http(&connection(), Headers::new()).unwrap();
    assert_eq!(first.request(), HttpOutcome::Pause);
    let second = vm.http(&connection(), Headers::new()).unwrap();
    assert_eq!(second.request(), HttpOutcome::Continue(Headers::new()));
    assert_eq!(first.request(), HttpOutcome::Continue(Headers::new()));
    assert_eq!(seen(&vm), ["0", "0"]);
}

#[test]
fn stream_kinds_and_contexts_that_do_not_exist_are_refused() {
    let mut guest = Guest::default();
    let calls = ["$continue (i32.const 3)", "$continue (i32.const 4)", "$close (i32.const 4)"];
    let calls = calls.map(|call| note(&format!("(call {call})"))).concat();
    guest.on_request(&format!(
        "{calls} {} {} {PAUSE}",
        note("(call $act_for (i32.const 99))"),
        note("(call $done)")
    ));
    let vm = guest.start();
    vm.http(&connection(), Headers::new()).unwrap();
    assert_eq!(seen(&vm), ["12", "2", "2", "2", "1"]);
}

#[test]
fn closing_the_request_resets_the_stream() {
    let mut guest = Guest::default();
    guest.on_request(&format!("(drop (call $close (i32.const 0))) {PAUSE}"));
    assert_eq!(exchange(&guest.start(), Headers::new()), (HttpOutcome::Reset, HttpOutcome::Reset));
}

#[test]
fn a_network_filter_closes_a_new_connection() {
    let mut guest = Guest::default();
    let (say, none) = (guest.put("closed"), guest.put(""));
    let reply = format!("(call $reply (i32.const 403) {none} {none} {none} (i32.const -1))");
    guest.on(
        "proxy_on_new_connection",
        "(param i32) (result i32)",
        &format!("{} {} {CONTINUE}", note("(call $close (i32.const 2))"), note(&reply)),
    );
    let close = format!("(call $note (local.get 1)) (drop (call $log (i32.const 2) {say}))");
    guest.on("proxy_on_downstream_connection_close", "(param i32 i32)", &close);
    let vm = guest.start();
    let stream = vm.connect(&connection()).unwrap();
    assert!(stream.outcome().closed);
    assert_eq!(stream.outcome().action, Action::Continue, "a local reply does nothing here");
    stream.finish().unwrap();
    assert_eq!(seen(&vm), ["0", "0", "1", "closed"], "the filter itself closed it");
}
