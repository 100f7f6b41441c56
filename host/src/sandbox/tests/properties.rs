//! Attributes, by phase, and their encodings.

use std::time::Duration;

use serde_json::json;

use super::guest::{Guest, SLOT, connection, note, seen};
use crate::sandbox::{
    Connection, EnvoyVersion, Headers, HttpVersion, Message, Node, PeerCertificate, Plugin, Route, Tls,
};

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
    stream.filter_state().value("wasm.out").map(<[u8]>::to_vec).ok_or_else(|| seen(&vm).concat())
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
    assert_eq!(ended.filter_state.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["wasm.a\0b", "wasm.k"]);
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

/// What `get_property` answers at each of `paths` in the access log of an HTTP stream with a body and a gRPC response.
fn logged(connection: &Connection, paths: &[&str]) -> Vec<String> {
    let mut guest = Guest::default();
    let look: String = paths
        .iter()
        .map(|path| {
            let get = format!("(call $property {} {SLOT})", guest.put(path));
            format!("{} (call $say)", note(&get))
        })
        .collect();
    guest.on("proxy_on_log", "(param i32)", &look);
    let vm = guest.start();
    vm.set_time(Duration::from_secs(10));
    let request = Message::new([(":path", "/a?b#c"), (":method", "POST")]).with_body("abc");
    let stream = vm.http(connection, request).unwrap();
    let response = Message::new([(":status", "200")]).with_body("de").with_trailers([("grpc-status", "5")]);
    stream.respond(response).unwrap();
    vm.set_time(Duration::from_secs(12));
    stream.finish().unwrap();
    let said = seen(&vm);
    assert!(said.iter().step_by(2).all(|status| status == "0"), "{paths:?}: {said:?}");
    said.into_iter().skip(1).step_by(2).collect()
}

fn int(number: i64) -> String {
    String::from_utf8_lossy(&number.to_le_bytes()).into_owned()
}

#[test]
fn the_log_sees_sizes_times_and_the_status_of_grpc() {
    let paths = [
        "request\0size",
        "request\0total_size",
        "request\0duration",
        "request\0query",
        "request\0protocol",
        "response\0size",
        "response\0grpc_status",
        "response\0trailers\0grpc-status",
        "response\0backend_latency",
        "upstream\0request_attempt_count",
    ];
    // Two headers of 5+6 and 7+4 bytes, and a body of 3.
    let seconds = 2_000_000_000;
    let expected = [
        int(3),
        int(25),
        int(seconds),
        "b".into(),
        "HTTP/2".into(),
        int(2),
        int(5),
        "5".into(),
        int(0),
        int(1),
    ];
    assert_eq!(logged(&connection().with_protocol(HttpVersion::Http2), &paths), expected);
}

#[test]
fn a_route_its_cluster_and_its_host_are_seen_as_names_and_metadata() {
    let metadata = |value: &str| json!({"filter_metadata": {"istio": {"k": value}}});
    let mut connection = connection()
        .with_upstream_cluster("up")
        .with_upstream_host_metadata(metadata("host"))
        .with_route(Route {
            name: "r".into(),
            metadata: metadata("route"),
            virtual_host: "v".into(),
            virtual_host_metadata: metadata("vhost"),
        });
    connection.cluster_metadata = metadata("cluster");
    connection.listener_metadata = metadata("listener");
    connection.metadata = metadata("dynamic");
    connection.filter_chain_name = "chain".into();
    connection.upstream = Some("10.0.0.9:80".parse().unwrap());
    connection.upstream_local = Some("10.0.0.8:99".parse().unwrap());
    let key = "filter_metadata\0istio\0k";
    let paths = [
        "xds\0route_name".to_owned(),
        "xds\0virtual_host_name".to_owned(),
        "xds\0filter_chain_name".to_owned(),
        "upstream\0address".to_owned(),
        "upstream\0local_address".to_owned(),
        format!("xds\0route_metadata\0{key}"),
        format!("xds\0virtual_host_metadata\0{key}"),
        format!("xds\0cluster_metadata\0{key}"),
        format!("xds\0listener_metadata\0{key}"),
        format!("xds\0upstream_host_metadata\0{key}"),
        format!("metadata\0{key}"),
    ];
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let expected = [
        "r",
        "v",
        "chain",
        "10.0.0.9:80",
        "10.0.0.8:99",
        "route",
        "vhost",
        "cluster",
        "listener",
        "host",
        "dynamic",
    ];
    assert_eq!(logged(&connection, &paths), expected);
}

#[test]
fn whole_messages_are_protobuf() {
    let mut connection = tls();
    connection.metadata = json!({"filter_metadata": {"n": {"k": [1, true, null, "t", {}]}}});
    let metadata = request_sees(&connection, "metadata").unwrap();
    let values =
        b"\x0a\x09\x11\0\0\0\0\0\0\xf0\x3f\x0a\x02\x20\x01\x0a\x02\x08\0\x0a\x03\x1a\x01t\x0a\x02\x2a\0";
    let list = [&b"\x32\x1c"[..], values].concat();
    assert!(metadata.ends_with(&list), "{metadata:x?}");
    let node = request_sees(&connection, "xds\0node").unwrap();
    assert!(node.starts_with(b"\x0a\x02n1\x1a"), "{node:x?}");
    assert_eq!(request_sees(&connection, "xds\0node\0locality").unwrap(), b"", "nothing is known of it");
    assert_eq!(request_sees(&connection, "xds\0listener_metadata").unwrap(), b"");
}

#[test]
fn an_older_envoy_has_other_names() {
    let seen = |minor: u32, path: &str| {
        let mut guest = Guest::default();
        let look = note(&format!("(call $property {} {SLOT})", guest.put(path)));
        guest.on_request(&format!("{look} (i32.const 0)"));
        let node = Node { envoy: EnvoyVersion { minor }, id: "n".into(), ..Node::default() };
        let vm = guest.module().start(&node, Plugin::default()).unwrap();
        drop(vm.http(&tls(), Headers::new()).unwrap());
        seen(&vm).concat()
    };
    for (path, since, until) in [
        ("node\0id", 0, 32),
        ("cluster_name", 0, 32),
        ("listener_direction", 0, 32),
        ("xds\0node\0id", 0, 99),
        ("connection\0peer_certificate", 38, 99),
        ("connection\0peer_certificate_valid", 39, 99),
    ] {
        for minor in [30, 32, 33, 37, 38, 39, 40] {
            let expected = if (since..=until).contains(&minor) { "0" } else { "1" };
            assert_eq!(seen(minor, path), expected, "{path:?} in 1.{minor}");
        }
    }
}

#[test]
fn the_first_data_of_a_connection_comes_after_its_handshake_and_its_clusters_choice() {
    let mut guest = Guest::default();
    let paths = ["connection\0peer_certificate", "xds\0cluster_name", "upstream\0port"];
    let look = paths.map(|path| note(&format!("(call $property {} {SLOT})", guest.put(path)))).concat();
    guest.on("proxy_on_new_connection", "(param i32) (result i32)", &format!("{look} (i32.const 0)"));
    guest.on_three("proxy_on_downstream_data", &format!("{look} (i32.const 0)"));
    let vm = guest.start();
    let mut connection = tls();
    connection.upstream = Some("10.0.0.9:80".parse().unwrap());
    vm.connect(&connection).unwrap().client_sends("hello", false).unwrap();
    assert_eq!(seen(&vm), ["1", "1", "1", "0", "0", "0"]);
}

#[test]
fn filter_state_that_envoy_reads_is_set_by_a_foreign_function() {
    let mut guest = Guest::default();
    let function = guest.put("set_envoy_filter_state");
    let good = guest.put("\n\u{17}envoy.tcp_proxy.cluster\u{12}\u{2}up");
    let unknown = guest.put("\n\u{1}x\u{12}\u{2}up");
    let broken = guest.put("\n\u{9}x");
    let key = guest.put("filter_state\0envoy.tcp_proxy.cluster");
    let set =
        |argument: &str| note(&format!("(call $foreign {function} {argument} (i32.const 0) (i32.const 0))"));
    let look = format!("{} (call $say)", note(&format!("(call $property {key} {SLOT})")));
    guest.on("proxy_on_vm_start", "(param i32 i32) (result i32)", &format!("{} (i32.const 1)", set(&good)));
    guest.on(
        "proxy_on_new_connection",
        "(param i32) (result i32)",
        &format!("{} {} {} {look} (i32.const 0)", set(&good), set(&unknown), set(&broken)),
    );
    let vm = guest.start();
    vm.connect(&connection()).unwrap();
    assert_eq!(seen(&vm), ["1", "0", "1", "2", "0", "up"], "a root has no stream to set it on");
}

#[test]
fn a_test_brings_foreign_functions_of_its_own() {
    let mut guest = Guest::default();
    let (function, argument, bad) = (guest.put("reverse"), guest.put("abc"), guest.put(""));
    let call = |argument: &str, slot: &str| note(&format!("(call $foreign {function} {argument} {slot})"));
    guest.on_request(&format!(
        "{} (call $say) {} {} (i32.const 0)",
        call(&argument, SLOT),
        call(&bad, SLOT),
        call(&argument, "(i32.const 0) (i32.const 0)"),
    ));
    let module = guest.module().with_function("reverse", |argument| {
        (!argument.is_empty()).then(|| argument.iter().rev().copied().collect())
    });
    let vm = super::guest::start(&module, "").unwrap();
    vm.http(&connection(), Headers::new()).unwrap();
    assert_eq!(seen(&vm), ["0", "cba", "2", "0"]);
}
