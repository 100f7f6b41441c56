//! Attributes, by phase, and their encodings.

use super::guest::{Guest, SLOT, connection, note, seen};
use crate::sandbox::{Connection, Headers, PeerCertificate, Tls};

/// What `get_property` answers at request headers: the status, and the bytes after a success.
fn request_sees(connection: &Connection, path: &str) -> Result<Vec<u8>, String> {
    let mut guest = Guest::default();
    let (path, key) = (guest.put(path), guest.put("out"));
    let found = format!("(local.set 3 (call $property {path} {SLOT})) (call $note (local.get 3))");
    let keep = format!(
        "(if (i32.eqz (local.get 3)) (then
           (drop (call $set_property {key} (i32.load (i32.const 16)) (i32.load (i32.const 20))))))"
    );
    guest.on_request(&format!("(local i32) {found} {keep} (i32.const 0)"));
    let vm = guest.start();
    let request = Headers::from([(":path", "/a?b=c"), ("x-r", "1"), ("x-r", "2")]);
    let stream = vm.http(connection, request).unwrap();
    stream.filter_state().remove("wasm.out").ok_or_else(|| seen(&vm).concat())
}

fn tls() -> Connection {
    let peer =
        PeerCertificate { pem: "PEM".into(), uri_san: Some("spiffe://d/a".into()), ..Default::default() };
    connection()
        .with_tls(Tls { peer: Some(peer), ..Tls::default() })
        .with_server_name("s")
        .with_upstream_cluster("up")
}

#[test]
fn values_are_encoded_as_envoy_does() {
    let of = |path| request_sees(&tls(), path).unwrap();
    assert_eq!(of("source\0address"), b"10.0.0.1:1234");
    assert_eq!(of("destination\0port"), 443_i64.to_le_bytes());
    assert_eq!(of("connection\0mtls"), [1]);
    assert_eq!(of("connection\0uri_san_peer_certificate"), b"spiffe://d/a");
    assert_eq!(of("connection\0peer_certificate_valid"), [0]);
    assert_eq!(of("xds\0cluster_name"), b"up");
    assert_eq!(of("xds\0node\0metadata\0LABELS\0a.b/c"), b"d");
    assert_eq!(of("xds\0node\0metadata\0SIZE"), 7_f64.to_le_bytes());
    assert_eq!(of("xds\0node\0metadata\0LIST\x000"), b"x");
    assert_eq!(of("xds\0node\0metadata\0LABELS"), b"\x01\0\0\0\x05\0\0\0\x01\0\0\0a.b/c\0d\0");
    assert_eq!(of("request\0headers\0X-R"), b"1,2");
    assert_eq!(of("request\0url_path\0"), b"/a", "a NUL at the end is let pass");
    assert_eq!(of("request\0query"), b"b=c");
}

#[test]
fn what_is_absent_is_not_found_and_a_bare_wrapper_cannot_be_serialized() {
    let of = |path| request_sees(&connection(), path).unwrap_err();
    for absent in [
        "connection\0tls_version",
        "node\0id",
        "response\0code",
        "upstream\0address",
        "nothing",
        "plugin_name\0x",
    ] {
        assert_eq!(of(absent), "1", "{absent:?}");
    }
    for bare in ["request", "connection", "xds", "filter_state", "", "xds\0node\0metadata\0NO"] {
        assert_eq!(of(bare), "3", "{bare:?}");
    }
    assert_eq!(of("xds\0node"), "12", "a whole message");
}

#[test]
fn request_attributes_are_gone_at_response_headers_and_back_in_the_log() {
    let mut guest = Guest::default();
    let (path, code) = (guest.put("request\0path"), guest.put("response\0code"));
    let look = [path, code].map(|path| note(&format!("(call $property {path} {SLOT})"))).concat();
    guest.on_request(&format!("{look} (i32.const 0)")).on_response(&format!("{look} (i32.const 0)"));
    guest.on("proxy_on_log", "(param i32)", &look);
    let vm = guest.start();
    let stream = vm.http(&connection(), Headers::from([(":path", "/")])).unwrap();
    stream.respond(Headers::from([(":status", "200")])).unwrap();
    stream.finish().unwrap();
    assert_eq!(seen(&vm), ["0", "1", "1", "0", "0", "0"]);
}

#[test]
fn a_root_context_sees_the_node_and_the_plugin_alone() {
    let mut guest = Guest::default();
    let paths = ["xds\0node\0id", "plugin_name", "xds\0listener_direction", "connection\0id"];
    let look = paths.map(|path| note(&format!("(call $property {} {SLOT})", guest.put(path)))).concat();
    guest.on("proxy_on_configure", "(param i32 i32) (result i32)", &format!("{look} (i32.const 1)"));
    assert_eq!(seen(&guest.start()), ["0", "0", "1", "1"]);
}

#[test]
fn a_property_that_is_set_reads_back_in_both_spellings() {
    let mut guest = Guest::default();
    let (key, value) = (guest.put("k"), guest.put("v"));
    let (state, nested) = (guest.put("filter_state\0wasm.k"), guest.put("a\0b"));
    let say = |path: &str| format!("{} (call $say)", note(&format!("(call $property {path} {SLOT})")));
    guest.on_request(&format!(
        "{} {} {} {} {} (i32.const 0)",
        note(&format!("(call $set_property {key} {value})")),
        say(&key),
        say(&state),
        note(&format!("(call $set_property {nested} {value})")),
        note(&format!("(call $property {nested} {SLOT})")),
    ));
    let vm = guest.start();
    let ended = vm.http(&connection(), Headers::new()).unwrap().finish().unwrap();
    assert_eq!(seen(&vm), ["0", "0", "v", "0", "v", "0", "1"], "a path of two segments is lost");
    assert_eq!(ended.filter_state.keys().collect::<Vec<_>>(), ["wasm.a\0b", "wasm.k"]);
}

#[test]
fn a_new_connection_shows_its_server_name_but_no_certificate_and_no_cluster() {
    let mut guest = Guest::default();
    let paths = ["connection\0requested_server_name", "connection\0peer_certificate", "xds\0cluster_name"];
    let look = paths.map(|path| note(&format!("(call $property {} {SLOT})", guest.put(path)))).concat();
    guest.on("proxy_on_new_connection", "(param i32) (result i32)", &format!("{look} (i32.const 0)"));
    let vm = guest.start();
    vm.connect(&tls()).unwrap();
    assert_eq!(seen(&vm), ["0", "1", "1"]);
}
