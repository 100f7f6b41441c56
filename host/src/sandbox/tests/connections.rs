//! TCP connections: data both ways, and who is told what at the end.

use super::guest::{Guest, SLOT, connection, note, seen};
use crate::sandbox::Action;

const SHOWN: &str = "(call $note (local.get 1)) (call $note (local.get 2))";
const FROM_CLIENT: &str = "proxy_on_downstream_data";
const FROM_UPSTREAM: &str = "proxy_on_upstream_data";

#[test]
fn data_held_back_is_shown_again_with_what_comes_next() {
    let mut guest = Guest::default();
    let new = guest.put("<");
    let mark = format!("(drop (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 0) {new}))");
    guest.on_three(FROM_CLIENT, &format!("{SHOWN} {mark} (i32.lt_u (local.get 1) (i32.const 4))"));
    let vm = guest.start();
    let stream = vm.connect(&connection()).unwrap();
    assert_eq!(stream.client_sends("ab", false).unwrap().action, Action::Pause);
    assert_eq!(stream.to_upstream(), b"");
    assert_eq!(stream.client_sends("cd", false).unwrap().action, Action::Continue);
    assert_eq!(stream.to_upstream(), b"<<abcd");
    stream.client_sends("e", true).unwrap();
    assert_eq!(seen(&vm), ["2", "0", "5", "0", "1", "1"]);
}

#[test]
fn nothing_is_read_of_a_connection_that_is_paused_and_nobody_dials_until_it_goes_on() {
    let mut guest = Guest::default();
    guest.on(
        "proxy_on_new_connection",
        "(param i32) (result i32)",
        "(drop (call $period (i32.const 100))) (i32.const 1)",
    );
    guest.on_three(FROM_CLIENT, &format!("{SHOWN} (i32.const 0)"));
    guest.on_three(FROM_UPSTREAM, &format!("{SHOWN} (i32.const 0)"));
    let goes_on = note("(call $continue (i32.const 2))");
    guest.on("proxy_on_tick", "(param i32)", &format!("{} {goes_on}", note("(call $act_for (i32.const 2))")));
    let vm = guest.start();
    let stream = vm.connect(&connection()).unwrap();
    assert_eq!(stream.outcome().action, Action::Pause);
    stream.client_sends("ab", false).unwrap();
    stream.client_sends("c", true).unwrap();
    stream.upstream_sends("nobody", false).unwrap();
    assert!(seen(&vm).is_empty());
    vm.advance(std::time::Duration::from_millis(100)).unwrap();
    assert_eq!(seen(&vm), ["0", "0", "3", "1"], "all of it at once");
    assert_eq!((stream.outcome().action, stream.to_upstream()), (Action::Continue, b"abc".to_vec()));
    stream.upstream_sends("d", false).unwrap();
    assert_eq!((seen(&vm), stream.to_client()), (vec!["1".to_owned(), "0".to_owned()], b"d".to_vec()));
}

#[test]
fn a_buffer_is_reached_from_its_own_side_while_it_is_held() {
    let mut guest = Guest::default();
    let read = |buffer: u32| {
        let read = format!("(call $buffer (i32.const {buffer}) (i32.const 0) (i32.const 9) {SLOT})");
        format!("{} (call $say)", note(&read))
    };
    guest.on_three(FROM_CLIENT, &format!("{} (i32.const 1)", read(2)));
    guest.on_three(FROM_UPSTREAM, &format!("{} {} {} (i32.const 0)", read(2), read(3), read(0)));
    let vm = guest.start();
    let stream = vm.connect(&connection()).unwrap();
    stream.client_sends("question", false).unwrap();
    stream.upstream_sends("answer", false).unwrap();
    assert_eq!(seen(&vm), ["0", "question", "0", "question", "0", "answer", "0", ""]);
    assert_eq!((stream.to_upstream(), stream.to_client()), (vec![], b"answer".to_vec()));
}

#[test]
fn what_is_held_back_goes_on_when_the_filter_continues_the_connection() {
    let mut guest = Guest::default();
    guest.on_three(FROM_CLIENT, "(i32.const 1)");
    let continues = note("(call $continue (i32.const 2))");
    guest.on_three(FROM_UPSTREAM, &format!("{continues} (i32.const 0)"));
    let vm = guest.start();
    let stream = vm.connect(&connection()).unwrap();
    stream.client_sends("ab", false).unwrap();
    assert_eq!(stream.upstream_sends("c", false).unwrap().action, Action::Continue);
    assert_eq!(stream.to_upstream(), b"ab");
}

/// Says its letter, and the peer if there is one.
fn ending(guest: &mut Guest, closes: &str) {
    let say = |guest: &mut Guest, text: &str| format!("(drop (call $log (i32.const 2) {}))", guest.put(text));
    let [down, up, done, log, delete] = ["down", "up", "done", "log", "delete"].map(|text| say(guest, text));
    let peer = "(call $note (local.get 1))";
    guest.on("proxy_on_downstream_connection_close", "(param i32 i32)", &format!("{down} {peer}"));
    guest.on("proxy_on_upstream_connection_close", "(param i32 i32)", &format!("{up} {peer}"));
    guest.on("proxy_on_done", "(param i32) (result i32)", &format!("{done} (i32.const 0)"));
    guest.on("proxy_on_log", "(param i32)", &log);
    guest.on("proxy_on_delete", "(param i32)", &delete);
    guest.on_three(FROM_CLIENT, closes);
}

#[test]
fn the_end_of_the_upstream_is_told_at_its_last_data_and_the_clients_at_the_end() {
    let mut guest = Guest::default();
    ending(&mut guest, "(i32.const 0)");
    let vm = guest.start();
    let stream = vm.connect(&connection()).unwrap();
    stream.upstream_sends("bye", true).unwrap();
    assert_eq!(seen(&vm), ["up", "0"], "by whom is not known");
    stream.finish().unwrap();
    assert_eq!(
        seen(&vm),
        ["down", "2", "done", "log", "delete"],
        "a stream's answer to on_done counts for nothing"
    );
}

#[test]
fn a_filter_that_closes_is_told_so_at_once_and_only_once() {
    let mut guest = Guest::default();
    ending(&mut guest, "(drop (call $close (i32.const 3))) (i32.const 1)");
    let vm = guest.start();
    let stream = vm.connect(&connection()).unwrap();
    assert!(stream.client_sends("ab", false).unwrap().closed, "closing the upstream closes the connection");
    assert_eq!(seen(&vm), ["down", "1", "done", "log", "delete"]);
    stream.client_sends("cd", false).unwrap();
    stream.finish().unwrap();
    assert!(seen(&vm).is_empty());
}
