//! `isthmus sandbox run`: a module of someone else's, by hand.

use std::path::Path;

use serde_json::{Value, json};

use isthmus_tests::repository;

use super::{run, stderr, stdout};

/// A filter that logs its configuration, tells where a request is from, adds a header, counts, answers `/no` itself and
/// falls over `/trap`.
const GUEST: &str = r#"(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $count (param i32 i64) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "x-seenyescalls:pathsource\00addressno way")
  (global $free (mut i32) (i32.const 4096))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32)
    (global.get $free) (global.set $free (i32.add (global.get $free) (local.get 0))))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $buffer (i32.const 7) (i32.const 0) (local.get 1) (i32.const 0) (i32.const 4)))
    (drop (call $log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
    (i32.ne (local.get 1) (i32.const 3)))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $property (i32.const 35) (i32.const 14) (i32.const 0) (i32.const 4)))
    (drop (call $add (i32.const 0) (i32.const 16) (i32.const 6) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
    (drop (call $define (i32.const 0) (i32.const 25) (i32.const 5) (i32.const 8)))
    (drop (call $count (i32.load (i32.const 8)) (i64.const 1)))
    (drop (call $header (i32.const 0) (i32.const 30) (i32.const 5) (i32.const 0) (i32.const 4)))
    (if (i32.eq (i32.load (i32.const 4)) (i32.const 5)) (then unreachable))
    (if (i32.eq (i32.load (i32.const 4)) (i32.const 3))
      (then
        (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 49) (i32.const 6)
          (i32.const 0) (i32.const 0) (i32.const -1)))
        (return (i32.const 1))))
    (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (drop (call $add (i32.const 2) (i32.const 16) (i32.const 6) (i32.const 22) (i32.const 3)))
    (i32.const 0)))"#;

fn guest(dir: &Path) -> String {
    let module = dir.join("guest.wasm");
    std::fs::write(&module, wat::parse_str(GUEST).expect("a module")).expect("a write");
    module.display().to_string()
}

#[test]
fn a_request_goes_through_a_module_and_all_that_there_is_to_see_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let module = guest(dir.path());
    let config = dir.path().join("config");
    std::fs::write(&config, "from a file").expect("a write");
    let config = format!("@{}", config.display());
    let flags =
        ["--request", "POST /a", "-H", ":authority: shop", "-H", "x-team: red: blue", "--body", "one\ntwo"];
    let world = [
        "--config",
        &config,
        "--attribute",
        "source.address=192.0.2.7:99",
        "--response",
        "201",
        "--response-header",
        "a: b",
    ];
    let good = run(&[&["sandbox", "run", &module][..], &flags, &world].concat());
    assert_eq!((good.status.code(), stderr(&good).as_str()), (Some(0), ""));
    let wanted = "\
request: goes on
  :method: POST
  :path: /a
  :scheme: http
  :authority: shop
  x-team: red: blue
  x-seen: 192.0.2.7:99
  | one
  | two
response: goes on
  :status: 201
  a: b
  x-seen: yes
log: Info: from a file
metric: calls: 1
";
    assert_eq!(stdout(&good), wanted);
    let traced = run(&["sandbox", "run", &module, "--trace", "-o", "json"]);
    let told: Value = serde_json::from_slice(&traced.stdout).expect("JSON");
    assert_eq!((&told["kind"], &told["metrics"]["calls"]), (&json!("SandboxRun"), &json!(1)));
    let named = |callback: &Value| callback["name"] == "proxy_on_request_headers";
    let callback = told["callbacks"].as_array().and_then(|all| all.iter().find(|callback| named(callback)));
    let calls = callback.and_then(|callback| callback["hostcalls"].as_array()).expect("hostcalls");
    let calls: Vec<(&str, &Value)> =
        calls.iter().filter_map(|call| Some((call["name"].as_str()?, &call["status"]))).collect();
    let ok = &json!(0);
    let wanted = [
        "proxy_get_property",
        "proxy_add_header_map_value",
        "proxy_define_metric",
        "proxy_increment_metric",
        "proxy_get_header_map_value",
    ];
    assert_eq!(calls, wanted.map(|name| (name, ok)));
}

#[test]
fn a_reply_a_trap_a_refusal_and_a_mistake_are_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let module = guest(dir.path());
    let try_it = |flags: &[&str]| run(&[&["sandbox", "run", &module][..], flags].concat());
    let replied = try_it(&["--request", "GET /no"]);
    assert_eq!(replied.status.code(), Some(0));
    let shown = stdout(&replied);
    assert!(shown.starts_with("request: answered by the module\nreply: 403 "), "{shown}");
    assert!(shown.contains("  | no way\n"), "{shown}");
    let trapped = try_it(&["--request", "GET /trap"]);
    assert_eq!(trapped.status.code(), Some(1));
    let shown = stdout(&trapped);
    assert!(shown.starts_with("trapped: proxy_on_request_headers trapped"), "{shown}");
    assert!(shown.contains("`unreachable`"), "{shown}");
    let refused = try_it(&["--config", "bad"]);
    assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(1), ""));
    assert_eq!(stderr(&refused), "error: proxy_on_configure refused\n  Info: bad\n");
    for (flags, why) in [
        (["--request", "GET"], "--request \"GET\" is not METHOD PATH"),
        (["-H", "team red"], "-H \"team red\" is not NAME: VALUE"),
        (
            ["--attribute", "source.port=1"],
            "--attribute source.port cannot be said here; there are source.address, ",
        ),
        (["--config", "@nowhere"], "cannot read nowhere"),
    ] {
        let wrong = try_it(&flags);
        assert_eq!((wrong.status.code(), stdout(&wrong).as_str()), (Some(2), ""), "{flags:?}");
        assert!(stderr(&wrong).contains(why), "{}", stderr(&wrong));
    }
    let nothing = run(&["sandbox", "run", "nowhere.wasm"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", stderr(&nothing));
}

/// A filter of connections that logs how much comes, and closes one that says `EVIL`.
const WATCHES: &str = r#"(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
    (if (local.get 1) (then
      (drop (call $buffer (i32.const 2) (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4)))
      (drop (call $log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
      (if (i32.eq (i32.load (i32.load (i32.const 0))) (i32.const 0x4c495645)) (then
        (drop (call $close (i32.const 2))) (return (i32.const 1))))))
    (i32.const 0)))"#;

/// The block of the page that begins so, behind its first line.
fn block(page: &str, first: &str) -> String {
    let (_, block) = page.split_once(first).expect("a block");
    block.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn several_requests_and_a_connection_are_played_as_the_page_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let page = std::fs::read_to_string(repository().join("docs/sandbox.md")).expect("the page");
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a write");
        path.display().to_string()
    };
    let module = guest(dir.path());
    let requests =
        write("requests.yaml", block(&page, "# requests.yaml").split_once('\n').expect("lines").1.as_bytes());
    let many = run(&["sandbox", "run", &module, "--requests", &requests]);
    assert_eq!((many.status.code(), stderr(&many).as_str()), (Some(0), ""));
    let shown = stdout(&many);
    let titles: Vec<&str> = shown.lines().filter(|line| line.starts_with("=== ")).collect();
    assert_eq!(titles, ["=== GET /v1/accounts", "=== POST /v1/accounts"], "{shown}");
    assert!(shown.contains("  content-type: application/json\n  x-seen: yes\n  | []\n"), "{shown}");
    assert!(shown.ends_with("metric: calls: 2\n"), "one VM for all: {shown}");
    let many = run(&["sandbox", "run", &module, "--requests", &requests, "-o", "json"]);
    let told: Value = serde_json::from_slice(&many.stdout).expect("JSON");
    assert_eq!((&told["kind"], told["runs"].as_array().map(Vec::len)), (&json!("SandboxRuns"), Some(2)));

    let watches = write("watches.wasm", &wat::parse_str(WATCHES).expect("a module"));
    let farewell = write("farewell.txt", b"bye\r\n");
    let said = block(&page, "# connection.yaml\n").replace("@farewell.txt", &format!("@{farewell}"));
    let connection = write("connection.yaml", said.as_bytes());
    let played = run(&["sandbox", "run", &watches, "--connection", &connection]);
    assert_eq!((played.status.code(), stderr(&played).as_str()), (Some(0), ""));
    let wanted = block(&page, "```text\nconnection: goes on");
    assert_eq!(stdout(&played), format!("connection: goes on{wanted}log: Info: HELO\nlog: Info: QUIT\n"));

    let evil = write("evil.yaml", b"[{client: good}, {client: EVIL}, {client: more}]");
    let closed = run(&["sandbox", "run", &watches, "--connection", &evil, "-o", "json"]);
    let told: Value = serde_json::from_slice(&closed.stdout).expect("JSON");
    let connection = &told["connection"];
    assert_eq!(
        (&connection["closed"], &connection["toUpstream"]),
        (&json!(true), &json!("good")),
        "{told:#}"
    );
    for (text, why) in [
        ("[{client: a, upstream: b}]", "step 1 of"),
        ("[{}]", "is neither client nor upstream"),
        ("[{server: b}]", "unknown field"),
        ("client: a", "is no list of what it should be"),
    ] {
        let wrong = run(&["sandbox", "run", &watches, "--connection", &write("wrong.yaml", text.as_bytes())]);
        assert_eq!(wrong.status.code(), Some(2), "{text}");
        assert!(stderr(&wrong).contains(why), "{text}: {}", stderr(&wrong));
    }
}
