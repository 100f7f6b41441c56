//! Bodies and trailers: what the filter is shown, what it holds back, and what goes on.

use super::guest::{Guest, SLOT, connection, note, seen};
use crate::sandbox::{Headers, HttpOutcome, Message, Part, Passed, Plugin, Side, Vm};

const CONTINUE: &str = "(i32.const 0)";
const PAUSE: &str = "(i32.const 1)";
const LAST: &str = "(local.get 2)";
/// Notes the size of the body and whether it ends here.
const SHOWN: &str = "(call $note (local.get 1)) (call $note (local.get 2))";
const UNTIL_THE_END: &str = "(i32.eqz (local.get 2))";

fn post() -> Message {
    Message::new([(":method", "POST"), (":path", "/")])
}

fn ok() -> Message {
    Message::new([(":status", "200")])
}

/// All of buffer `buffer`, said.
fn say_all(buffer: u32) -> String {
    let read = format!("(call $buffer (i32.const {buffer}) (i32.const 0) (i32.const -1) {SLOT})");
    format!("{} (call $say)", note(&read))
}

fn passed(headers: &[(&str, &str)], body: &str, ended: bool) -> Passed {
    let headers = Some(headers.iter().copied().collect());
    Passed { headers, body: body.into(), trailers: None, ended }
}

const POSTED: [(&str, &str); 2] = [(":method", "POST"), (":path", "/")];

#[test]
fn every_chunk_is_a_callback_and_goes_on() {
    let mut guest = Guest::default();
    guest.on_request(&format!("(call $note {LAST}) {CONTINUE}"));
    guest.on_three("proxy_on_request_body", &format!("{SHOWN} {} {CONTINUE}", say_all(0)));
    let vm = guest.start();
    let stream = vm.http(&connection(), post().with_body("ab").with_body("cde")).unwrap();
    assert_eq!(seen(&vm), ["0", "2", "0", "0", "ab", "3", "1", "0", "cde"]);
    assert_eq!(stream.to_upstream(), passed(&POSTED, "abcde", true));
}

#[test]
fn a_filter_that_buffers_sees_all_there_is_and_writes_all_that_goes_on() {
    let mut guest = Guest::default();
    let new = guest.put("new");
    // Not at the start and not at the end: what the specification calls injecting, Envoy refuses.
    let middle = note(&format!("(call $set_buffer (i32.const 0) (i32.const 1) (i32.const 0) {new})"));
    let all = note(&format!("(call $set_buffer (i32.const 0) (i32.const 0) (i32.const -1) {new})"));
    let before = note(&format!("(call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) {new})"));
    let first = note(&format!("(call $set_buffer (i32.const 0) (i32.const 0) (i32.const 1) {new})"));
    let after = note(&format!("(call $set_buffer (i32.const 0) (i32.const 99) (i32.const 0) {new})"));
    let write = format!("{middle} {all} {before} {first} {after} {}", say_all(0));
    guest.on_three("proxy_on_request_body", &format!("{SHOWN} (if {LAST} (then {write})) {UNTIL_THE_END}"));
    let vm = guest.start();
    let stream = vm.http(&connection(), post().with_body("ab").with_body("cd").left_open()).unwrap();
    assert_eq!(stream.to_upstream(), passed(&POSTED, "", false), "headers went on, the body waits");
    stream.send(Side::Request, Part::LastBody(b"e".to_vec())).unwrap();
    let sizes = ["2", "0", "4", "0", "5", "1"];
    let writes = ["2", "0", "0", "0", "0", "0", "newewnewnew"];
    assert_eq!(seen(&vm), [&sizes[..], &writes].concat());
    assert_eq!(stream.to_upstream(), passed(&POSTED, "newewnewnew", true));
}

#[test]
fn there_is_no_body_but_in_its_callbacks() {
    let mut guest = Guest::default();
    let new = guest.put("new");
    let write = note(&format!("(call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) {new})"));
    guest.on_request(&format!("{write} {} {CONTINUE}", say_all(0)));
    guest.on_three("proxy_on_response_headers", &format!("{} {write} {CONTINUE}", say_all(0)));
    let vm = guest.start();
    vm.http(&connection(), post().with_body("ab")).unwrap().respond(ok()).unwrap();
    // Reading gives nothing, and writing is refused: the context has a buffer object, with nothing behind it.
    assert_eq!(seen(&vm), ["2", "0", "", "0", "", "2"]);
}

/// The first stream pauses where `pauses` says; the second continues it.
fn released(guest: &mut Guest, side: u32, plugin: Plugin) -> Vm {
    guest.on(
        "proxy_on_context_create",
        "(param i32 i32)",
        &format!(
            "(if (i32.eq (local.get 0) (i32.const 3)) (then
               (drop (call $act_for (i32.const 2))) (drop (call $continue (i32.const {side})))))"
        ),
    );
    guest.module().start(&crate::sandbox::Node::default(), plugin).unwrap()
}

#[test]
fn a_pause_at_the_headers_keeps_body_and_trailers_from_the_filter_until_it_goes_on() {
    let mut guest = Guest::default();
    guest.on_request(&format!("(call $note {LAST}) (i32.eq (local.get 0) (i32.const 2))"));
    guest.on_three("proxy_on_request_body", &format!("{SHOWN} {CONTINUE}"));
    guest.on(
        "proxy_on_request_trailers",
        "(param i32 i32) (result i32)",
        &format!("(call $note (local.get 1)) {CONTINUE}"),
    );
    let vm = released(&mut guest, 0, Plugin::default());
    let trailers = Headers::from([("t", "1"), ("u", "2")]);
    let message = post().with_body("ab").with_body("c").with_trailers(trailers.clone());
    let first = vm.http(&connection(), message).unwrap();
    assert_eq!((first.request(), first.to_upstream()), (HttpOutcome::Pause, Passed::default()));
    assert_eq!(seen(&vm), ["0"]);
    drop(vm.http(&connection(), Headers::new()).unwrap());
    assert_eq!(seen(&vm), ["3", "0", "2", "1"], "the whole body in one, then the trailers");
    assert_eq!(first.to_upstream(), Passed { trailers: Some(trailers), ..passed(&POSTED, "abc", true) });
}

#[test]
fn with_stop_iteration_allowed_the_body_is_shown_and_lets_the_headers_go() {
    let mut guest = Guest::default();
    let path = guest.put(":path");
    guest.on_request(PAUSE);
    // Envoy forgets the headers only when their own callback continues: here they are still there.
    let get = note(&format!("(call $get (i32.const 0) {path} {SLOT})"));
    guest.on_three("proxy_on_request_body", &format!("{SHOWN} {get} {UNTIL_THE_END}"));
    let plugin = Plugin { allow_on_headers_stop_iteration: true, ..Plugin::default() };
    let vm = guest.module().start(&crate::sandbox::Node::default(), plugin).unwrap();
    let stream = vm.http(&connection(), post().with_body("ab").left_open()).unwrap();
    assert_eq!(stream.request(), HttpOutcome::Pause);
    stream.send(Side::Request, Part::LastBody(b"c".to_vec())).unwrap();
    assert_eq!(seen(&vm), ["2", "0", "0", "3", "1", "0"]);
    assert_eq!(stream.to_upstream(), passed(&POSTED, "abc", true));
}

#[test]
fn a_buffer_beyond_the_limit_is_shown_once_and_answered_with_413() {
    let mut guest = Guest::default();
    guest.on_three("proxy_on_request_body", &format!("{SHOWN} {PAUSE}"));
    guest.on_response(&format!("(call $note (i32.const 9)) {CONTINUE}"));
    let vm = guest.start();
    let small = connection().with_buffer_limit(4);
    let stream = vm.http(&small, post().with_body("abcd").with_body("e").with_body("f")).unwrap();
    assert_eq!(
        seen(&vm),
        ["4", "0", "5", "0", "9"],
        "a full buffer is no overflow; the third chunk is never shown"
    );
    let answered = stream.request();
    let reply = answered.reply().expect("a local reply");
    assert_eq!((reply.status, &reply.body[..]), (413, &b"Payload Too Large"[..]));
    assert_eq!(reply.details, "request_payload_too_large");
}

#[test]
fn a_pause_at_the_headers_slows_the_sender_down_and_has_no_limit() {
    let mut guest = Guest::default();
    guest.on_request("(i32.add (i32.const 1) (i32.mul (i32.const 2) (i32.eq (local.get 0) (i32.const 3))))");
    let vm = guest.start();
    let small = connection().with_buffer_limit(4);
    let waiting = vm.http(&small, post().with_body("abcde")).unwrap();
    assert_eq!(waiting.request(), HttpOutcome::Pause);
    let bounded = vm.http(&small, post().with_body("abcde")).unwrap();
    assert_eq!(bounded.request().reply().map(|reply| reply.status), Some(413), "3 stops all, and buffers");
}

#[test]
fn a_response_beyond_the_limit_is_a_500_or_a_reset() {
    let mut guest = Guest::default();
    guest.on_response("(i32.mul (i32.const 3) (i32.eq (local.get 0) (i32.const 3)))");
    guest.on_three("proxy_on_response_body", PAUSE);
    let vm = guest.start();
    let small = connection().with_buffer_limit(4);
    let begun = vm.http(&small, post()).unwrap();
    assert_eq!(
        begun.respond(ok().with_body("abcde")).unwrap(),
        HttpOutcome::Reset,
        "headers are gone already"
    );
    let held = vm.http(&small, post()).unwrap();
    let outcome = held.respond(ok().with_body("abcde")).unwrap();
    assert_eq!(outcome.reply().map(|reply| reply.status), Some(500));
    assert_eq!(held.request(), HttpOutcome::Continue(post().headers));
}

#[test]
fn trailers_are_read_and_written_in_their_callback_alone() {
    let mut guest = Guest::default();
    let (key, value) = (guest.put("t"), guest.put("v"));
    let get = note(&format!("(call $get (i32.const 1) {key} {SLOT})"));
    let add = note(&format!("(call $add (i32.const 1) {key} {value})"));
    guest.on_request(&format!("{get} {add} {CONTINUE}"));
    guest.on_three("proxy_on_request_body", &format!("{get} {add} {CONTINUE}"));
    let trailers = "(param i32 i32) (result i32)";
    guest.on("proxy_on_request_trailers", trailers, &format!("{get} {add} {CONTINUE}"));
    guest.on("proxy_on_log", "(param i32)", &get);
    let vm = guest.start();
    let message = post().with_body("ab").with_trailers([("t", "1")]);
    let stream = vm.http(&connection(), message).unwrap();
    assert_eq!(stream.to_upstream().trailers, Some(Headers::from([("t", "1"), ("t", "v")])));
    stream.finish().unwrap();
    assert_eq!(seen(&vm), ["2", "2", "2", "2", "0", "0", "1"], "the log has no request trailers");
}

#[test]
fn the_last_body_callback_can_add_trailers() {
    let mut guest = Guest::default();
    let (key, value) = (guest.put("t"), guest.put("v"));
    guest.on_three(
        "proxy_on_response_body",
        &format!("{} {CONTINUE}", note(&format!("(call $add (i32.const 3) {key} {value})"))),
    );
    guest.on("proxy_on_response_trailers", "(param i32 i32) (result i32)", "unreachable");
    let get = note(&format!("(call $get (i32.const 3) {key} {SLOT})"));
    guest.on("proxy_on_log", "(param i32)", &get);
    let vm = guest.start();
    let stream = vm.http(&connection(), post()).unwrap();
    stream.respond(ok().with_body("ab").with_body("cd")).unwrap();
    let trailers = Some(Headers::from([("t", "v")]));
    assert_eq!(stream.to_client(), Passed { trailers, ..passed(&[(":status", "200")], "abcd", true) });
    stream.finish().unwrap();
    assert_eq!(seen(&vm), ["2", "0", "0"], "only at the end, and the log sees them");
}

#[test]
fn a_body_held_back_waits_for_the_trailers_that_let_it_go() {
    let mut guest = Guest::default();
    guest.on_three("proxy_on_request_body", PAUSE);
    let signature = "(param i32 i32) (result i32)";
    guest.on("proxy_on_request_trailers", signature, "(i32.eq (local.get 0) (i32.const 2))");
    let vm = released(&mut guest, 0, Plugin::default());
    let message = || post().with_body("ab").with_trailers([("t", "1")]);
    let first = vm.http(&connection(), message()).unwrap();
    assert_eq!(first.to_upstream(), passed(&POSTED, "", false));
    let second = vm.http(&connection(), message()).unwrap();
    let whole = Passed { trailers: Some(Headers::from([("t", "1")])), ..passed(&POSTED, "ab", true) };
    assert_eq!((first.to_upstream(), second.to_upstream()), (whole.clone(), whole));
}

#[test]
fn a_local_reply_from_the_body_is_shown_to_the_response_callbacks_headers_and_body() {
    let mut guest = Guest::default();
    let (body, none, new) = (guest.put("no"), guest.put(""), guest.put("never"));
    let reply = format!("(drop (call $reply (i32.const 403) {none} {body} {none} (i32.const -1)))");
    guest.on_three("proxy_on_request_body", &format!("{SHOWN} {reply} {CONTINUE}"));
    guest.on_response(&format!("(call $note {LAST}) {CONTINUE}"));
    let write = format!("(drop (call $set_buffer (i32.const 1) (i32.const 0) (i32.const -1) {new}))");
    guest.on_three("proxy_on_response_body", &format!("{SHOWN} {write} {CONTINUE}"));
    let vm = guest.start();
    let stream = vm.http(&connection(), post().with_body("ab").with_body("cd")).unwrap();
    assert_eq!(seen(&vm), ["2", "0", "0", "2", "1"], "the second chunk is never shown");
    let answered = stream.request();
    assert_eq!(answered.reply().map(|reply| &reply.body[..]), Some(&b"never"[..]));
    assert_eq!(stream.to_upstream(), passed(&POSTED, "", false), "the headers had gone on");
    assert_eq!(stream.respond(ok()).unwrap(), answered, "no response comes after it");
}

#[test]
fn a_client_that_asks_for_headers_alone_gets_no_body_of_a_local_reply() {
    let mut guest = Guest::default();
    let (body, none) = (guest.put("no"), guest.put(""));
    let reply = format!("(drop (call $reply (i32.const 403) {none} {body} {none} (i32.const -1)))");
    guest.on_request(&format!("{reply} {CONTINUE}"));
    guest.on_three("proxy_on_response_body", "unreachable");
    let vm = guest.start();
    let stream = vm.http(&connection(), Headers::from([(":method", "HEAD")])).unwrap();
    let client = stream.to_client();
    assert_eq!((client.body.len(), client.ended), (0, true));
    assert_eq!(client.headers.unwrap().text("content-length"), Some("2"));
}
