//! HTTP and gRPC callouts, and what the guest reads of their answers.

use std::time::Duration;

use super::guest::{Guest, SLOT, connection, note, seen};
use crate::sandbox::{Clusters, GrpcAnswer, Headers, HttpAnswer, HttpOutcome, Message, Node, Plugin, Vm};

const CONTINUE: &str = "(i32.const 0)";
const PAUSE: &str = "(i32.const 1)";
const ON_RESPONSE: &str = "proxy_on_http_call_response";
const FIVE: &str = "(param i32 i32 i32 i32 i32)";
const THREE: &str = "(param i32 i32 i32)";
/// Where the token of a callout is written.
const TOKEN: &str = "(i32.const 32)";

/// The bytes of a header map.
fn block(pairs: &[(&str, &str)]) -> String {
    let headers: Headers = pairs.iter().copied().collect();
    String::from_utf8(crate::sandbox::pairs::encode(headers.iter())).unwrap()
}

fn get_request() -> [(&'static str, &'static str); 3] {
    [(":method", "GET"), (":path", "/"), (":authority", "auth")]
}

/// The hostcall that asks `cluster`, with a body and trailers.
fn asks(guest: &mut Guest, cluster: &str, headers: &[(&str, &str)], timeout: i32) -> String {
    let (cluster, headers) = (guest.put(cluster), guest.put(&block(headers)));
    let (body, trailers) = (guest.put("body"), guest.put(&block(&[("t", "1")])));
    note(&format!("(call $http_call {cluster} {headers} {body} {trailers} (i32.const {timeout}) {TOKEN})"))
}

/// The status code, noted, and what there is to say of it.
fn say_status() -> String {
    format!(
        "{} (call $note (i32.load (i32.const 40))) (call $say)",
        note(&format!("(call $status (i32.const 40) {SLOT})"))
    )
}

/// A filter that asks `auth` before it lets a request go.
fn asking(guest: &mut Guest) -> Vm {
    let ask = asks(guest, "auth", &get_request(), 1000);
    guest.on_request(&format!("{ask} {PAUSE}"));
    let (status, missing) = (guest.put(":status"), guest.put("u"));
    let shown = (1..5).map(|nth| format!("(call $note (local.get {nth}))")).collect::<String>();
    let get = note(&format!("(call $get (i32.const 6) {status} {SLOT})"));
    let add = note(&format!("(call $add (i32.const 6) {status} {status})"));
    let trailer = note(&format!("(call $get (i32.const 7) {missing} {SLOT})"));
    let body = note(&format!("(call $buffer (i32.const 4) (i32.const 0) (i32.const -1) {SLOT})"));
    let resume = "(drop (call $act_for (i32.const 2))) (drop (call $continue (i32.const 0)))";
    guest.on(ON_RESPONSE, FIVE, &format!("{shown} {get} {add} {trailer} {body} {} {resume}", say_status()));
    guest.start()
}

#[test]
fn a_request_waits_for_the_answer_of_another_service() {
    let mut guest = Guest::default();
    let vm = asking(&mut guest);
    let stream = vm.http(&connection(), Message::new([(":path", "/")]).with_body("ab")).unwrap();
    let call = vm.http_calls().pop().expect("a call");
    assert_eq!((call.token, call.cluster.as_str(), &call.body[..]), (4, "auth", &b"body"[..]));
    assert_eq!(call.headers.text("content-length"), Some("4"));
    assert_eq!((call.trailers, call.timeout), (Headers::from([("t", "1")]), Duration::from_secs(1)));
    assert_eq!((stream.request(), seen(&vm)), (HttpOutcome::Pause, vec!["0".to_owned()]));
    let answer = Message::new([(":status", "200"), ("a", "b")])
        .with_body("o")
        .with_body("k")
        .with_trailers([("u", "2")]);
    vm.answer_http(call.token, answer).unwrap();
    // Sizes; the status is read, nothing is written, a trailer and the body are read; no failure.
    assert_eq!(seen(&vm), ["4", "2", "2", "1", "0", "2", "0", "0", "0", "0", ""]);
    assert_eq!(stream.to_upstream().body, b"ab");
    assert!(vm.http_calls().is_empty());
    vm.answer_http(call.token, Headers::new()).unwrap();
    assert!(seen(&vm).is_empty(), "an answer to nothing is not told");
}

#[test]
fn a_reset_shows_no_header_and_a_status_of_its_own() {
    let mut guest = Guest::default();
    let vm = asking(&mut guest);
    let stream = vm.http(&connection(), Headers::new()).unwrap();
    assert_eq!(seen(&vm), ["0"]);
    vm.answer_http(4, HttpAnswer::Reset).unwrap();
    // There is no response to read: the maps are bad arguments, and the body is not found.
    assert_eq!(seen(&vm), ["4", "0", "0", "0", "2", "2", "2", "1", "0", "11", "reset"]);
    assert!(matches!(stream.request(), HttpOutcome::Continue(_)));
}

#[test]
fn a_timeout_comes_with_time_as_a_504_and_not_as_a_failure() {
    let mut guest = Guest::default();
    let vm = asking(&mut guest);
    let stream = vm.http(&connection(), Headers::new()).unwrap();
    vm.advance(Duration::from_millis(999)).unwrap();
    assert_eq!(stream.request(), HttpOutcome::Pause);
    assert_eq!(seen(&vm), ["0"]);
    vm.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(seen(&vm), ["4", "3", "24", "0", "0", "2", "2", "0", "0", "0", ""]);
    assert!(matches!(stream.request(), HttpOutcome::Continue(_)));
}

#[test]
fn a_request_that_cannot_be_sent_is_refused_at_once() {
    let mut guest = Guest::default();
    let (all, few) = (get_request(), [(":method", "GET"), (":path", "/")]);
    let calls = [
        asks(&mut guest, "elsewhere", &all, 0),
        asks(&mut guest, "auth", &few, 0),
        asks(&mut guest, "auth", &all, -1),
        asks(&mut guest, "tired", &all, 0),
        asks(&mut guest, "auth", &all, 0),
    ];
    guest.on_request(&format!("{} {CONTINUE}", calls.concat()));
    let node = Node { clusters: Clusters::of(["auth"]).with_down("tired"), ..Node::default() };
    let vm = guest.module().start(&node, Plugin::default()).unwrap();
    vm.http(&connection(), Headers::new()).unwrap();
    assert_eq!(seen(&vm), ["2", "2", "2", "10", "0"]);
    let tokens: Vec<u32> = vm.http_calls().iter().map(|call| call.token).collect();
    assert_eq!(tokens, [8], "a token that failed is not used again");
}

#[test]
fn what_waits_for_an_answer_is_cancelled_with_its_root() {
    let mut guest = Guest::default();
    let vm = asking(&mut guest);
    drop(vm.http(&connection(), Headers::new()).unwrap());
    assert_eq!(vm.http_calls().len(), 1, "the end of the stream does not cancel it");
    vm.configure("").unwrap();
    assert!(vm.http_calls().is_empty());
}

/// A filter that notes what gRPC brings.
fn grpc(guest: &mut Guest, on_request: &str) -> Vm {
    guest.on_request(&format!("{on_request} {CONTINUE}"));
    let shown = "(call $note (local.get 1)) (call $note (local.get 2))";
    let read = format!("(drop (call $buffer (i32.const 5) (i32.const 0) (i32.const -1) {SLOT})) (call $say)");
    guest.on("proxy_on_grpc_receive", THREE, &format!("{shown} {read}"));
    guest.on("proxy_on_grpc_close", THREE, &format!("{shown} {}", say_status()));
    let key = guest.put("k");
    for (name, map) in [("initial", 4), ("trailing", 5)] {
        let get = note(&format!("(call $get (i32.const {map}) {key} {SLOT})"));
        guest.on(
            &format!("proxy_on_grpc_receive_{name}_metadata"),
            THREE,
            &format!("{shown} {get} (call $say)"),
        );
    }
    guest.start()
}

fn target(guest: &mut Guest, cluster: &str) -> String {
    let metadata = block(&[("m", "1")]);
    [cluster, "pkg.Service", "Method", &metadata].map(|text| guest.put(text)).join(" ")
}

#[test]
fn a_grpc_call_is_answered_with_one_message_or_a_failure() {
    let mut guest = Guest::default();
    let (target, message) = (target(&mut guest, "auth"), guest.put("ask"));
    let call = note(&format!("(call $grpc_call {target} {message} (i32.const 50) {TOKEN})"));
    let vm = grpc(&mut guest, &call);
    for _ in 0..3 {
        drop(vm.http(&connection(), Headers::new()).unwrap());
    }
    let calls = vm.grpc_calls();
    let tokens: Vec<u32> = calls.iter().map(|call| call.token).collect();
    assert_eq!(tokens, [5, 9, 13]);
    let first = &calls[0];
    assert_eq!((first.service.as_str(), first.method.as_str()), ("pkg.Service", "Method"));
    assert_eq!((&first.messages, first.streaming), (&vec![b"ask".to_vec()], false));
    assert_eq!(first.metadata, Headers::from([("m", "1")]));
    drop(seen(&vm));
    vm.answer_grpc(5, GrpcAnswer::InitialMetadata(Headers::from([("k", "v")]))).unwrap();
    assert!(seen(&vm).is_empty(), "a call has no callback for metadata");
    vm.answer_grpc(5, GrpcAnswer::Message(b"yes".to_vec())).unwrap();
    assert_eq!(seen(&vm), ["5", "3", "yes"], "and none for its end after an answer");
    vm.answer_grpc(9, GrpcAnswer::Close { status: 7, message: "no".to_owned() }).unwrap();
    assert_eq!(seen(&vm), ["9", "7", "0", "7", "no{via_upstream}"]);
    vm.advance(Duration::from_millis(50)).unwrap();
    assert_eq!(seen(&vm), ["13", "14", "0", "14", "upstream request timeout"]);
    assert!(vm.grpc_calls().is_empty());
}

#[test]
fn a_grpc_stream_goes_both_ways_until_both_halves_are_closed() {
    let mut guest = Guest::default();
    let (target, message) = (target(&mut guest, "auth"), guest.put("ping"));
    let token = format!("(i32.load {TOKEN})");
    let open = note(&format!("(call $grpc_stream {target} {TOKEN})"));
    let send = note(&format!("(call $grpc_send {token} {message} (i32.const 0))"));
    let vm = grpc(&mut guest, &format!("{open} {send}"));
    drop(vm.http(&connection(), Headers::new()).unwrap());
    assert_eq!(vm.grpc_calls()[0].messages, [b"ping".to_vec()]);
    drop(seen(&vm));
    let metadata = || Headers::from([("k", "v")]);
    vm.answer_grpc(6, GrpcAnswer::InitialMetadata(metadata())).unwrap();
    vm.answer_grpc(6, GrpcAnswer::Message(b"pong".to_vec())).unwrap();
    vm.answer_grpc(6, GrpcAnswer::TrailingMetadata(metadata())).unwrap();
    assert_eq!(seen(&vm), ["6", "1", "0", "v", "6", "4", "pong", "6", "1", "0", "v"]);
    vm.answer_grpc(6, GrpcAnswer::Close { status: 0, message: String::new() }).unwrap();
    assert_eq!(seen(&vm), ["6", "0", "0", "0", "via_upstream"]);
    assert_eq!(vm.grpc_calls().len(), 1, "the guest has not closed its half");
}

#[test]
fn tokens_of_the_wrong_kind_or_of_nothing_are_told_apart() {
    let mut guest = Guest::default();
    let (target, message) = (target(&mut guest, "auth"), guest.put("ping"));
    let calls = [
        format!("(call $grpc_send (i32.const 4) {message} (i32.const 1))"),
        format!("(call $grpc_send (i32.const 5) {message} (i32.const 1))"),
        format!("(call $grpc_send (i32.const 10) {message} (i32.const 1))"),
        "(call $grpc_cancel (i32.const 4))".to_owned(),
        "(call $grpc_close (i32.const 9))".to_owned(),
        format!("(call $grpc_stream {target} {TOKEN})"),
        "(call $grpc_close (i32.const 6))".to_owned(),
        "(call $grpc_cancel (i32.const 6))".to_owned(),
        "(call $grpc_cancel (i32.const 6))".to_owned(),
    ];
    let vm = grpc(&mut guest, &calls.map(|call| note(&call)).concat());
    drop(vm.http(&connection(), Headers::new()).unwrap());
    assert_eq!(seen(&vm), ["2", "2", "1", "2", "1", "0", "0", "0", "1"]);
}

#[test]
fn a_grpc_service_is_a_message_or_the_name_of_a_cluster() {
    let mut guest = Guest::default();
    // GrpcService { envoy_grpc { cluster_name: "auth" } }, the same for a cluster that is not there, and one without.
    let services = ["\n\u{6}\n\u{4}auth", "\n\u{6}\n\u{4}else", "", "auth", "else"];
    let message = guest.put("ask");
    let calls = services.map(|service| {
        let target = target(&mut guest, service);
        note(&format!("(call $grpc_call {target} {message} (i32.const 0) {TOKEN})"))
    });
    guest.on_request(&format!("{} {CONTINUE}", calls.concat()));
    let node = Node { clusters: Clusters::of(["auth"]), ..Node::default() };
    let vm = guest.module().start(&node, Plugin::default()).unwrap();
    drop(vm.http(&connection(), Headers::new()).unwrap());
    assert_eq!(seen(&vm), ["0", "10", "2", "0", "4"]);
    assert_eq!(
        vm.grpc_calls().iter().map(|call| call.cluster.as_str()).collect::<Vec<_>>(),
        ["auth", "auth"]
    );
}
