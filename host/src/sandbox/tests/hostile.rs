//! Guests that are odd, broken or hostile: each failure says what it was, and none takes the host along.

use std::time::Duration;

use super::guest::{Guest, compile, connection, seen};
use crate::sandbox::{
    Headers, HttpOutcome, Message, Module, Node, Plugin, SandboxError, Side, StartError, Trap, Trapped, Vm,
};

/// What a module needs, but for its allocator.
const BARE: &str = r#"(memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))"#;
const MALLOC: &str = r#"(func (export "malloc") (param i32) (result i32) (i32.const 1024))"#;

/// Every callback that a run of [`drive`] comes to, with its type.
const CALLBACKS: [(&str, &str); 21] = [
    ("_initialize", ""),
    ("proxy_on_context_create", "(param i32 i32)"),
    ("proxy_on_vm_start", "(param i32 i32) (result i32)"),
    ("proxy_on_configure", "(param i32 i32) (result i32)"),
    ("proxy_on_tick", "(param i32)"),
    ("proxy_on_queue_ready", "(param i32 i32)"),
    ("proxy_on_request_headers", "(param i32 i32 i32) (result i32)"),
    ("proxy_on_request_body", "(param i32 i32 i32) (result i32)"),
    ("proxy_on_request_trailers", "(param i32 i32) (result i32)"),
    ("proxy_on_response_headers", "(param i32 i32 i32) (result i32)"),
    ("proxy_on_response_body", "(param i32 i32 i32) (result i32)"),
    ("proxy_on_response_trailers", "(param i32 i32) (result i32)"),
    ("proxy_on_new_connection", "(param i32) (result i32)"),
    ("proxy_on_downstream_data", "(param i32 i32 i32) (result i32)"),
    ("proxy_on_upstream_data", "(param i32 i32 i32) (result i32)"),
    ("proxy_on_downstream_connection_close", "(param i32 i32)"),
    ("proxy_on_upstream_connection_close", "(param i32 i32)"),
    ("proxy_on_log", "(param i32)"),
    ("proxy_on_done", "(param i32) (result i32)"),
    ("proxy_on_delete", "(param i32)"),
    ("main", "(param i32 i32) (result i32)"),
];

fn started(module: &Module) -> Result<Vm, StartError> {
    module.start(&Node::default(), Plugin::default())
}

/// Sends all that there is through a VM.
fn drive(vm: &Vm) -> Result<(), Trapped> {
    let whole = |headers: Headers| Message::new(headers).with_body("a").with_trailers([("t", "1")]);
    let stream = vm.http(&connection(), whole(Headers::from([(":path", "/")])))?;
    stream.respond(whole(Headers::from([(":status", "200")])))?;
    stream.finish()?;
    let stream = vm.connect(&connection())?;
    stream.client_sends("a", false)?;
    stream.upstream_sends("b", true)?;
    stream.client_sends("", true)?;
    stream.finish()?;
    vm.advance(Duration::from_secs(1))?;
    vm.turn().map(drop)
}

/// How a module ends that does this in that callback.
fn end_of((name, ty): (&str, &str), body: &str) -> Trapped {
    let mut guest = Guest::default();
    let queue = guest.put("q");
    // A timer, and an item in a queue.
    let prepare = format!(
        "(drop (call $period (i32.const 1000))) (drop (call $register {queue} (i32.const 48)))
         (drop (call $enqueue (i32.load (i32.const 48)) {queue}))"
    );
    if name != "proxy_on_configure" {
        guest.on("proxy_on_configure", "(param i32 i32) (result i32)", &format!("{prepare} (i32.const 1)"));
    }
    if name == "main" {
        guest.on("_initialize", "", "");
    }
    guest.on(name, ty, body);
    match started(&guest.module().with_fuel(100_000)) {
        Ok(vm) => drive(&vm).expect_err(name),
        Err(StartError::Trapped { source, .. }) => source,
        Err(error) => panic!("{name}: {error}"),
    }
}

#[test]
fn a_trap_in_any_callback_is_told_with_its_name() {
    for callback in CALLBACKS {
        let trapped = end_of(callback, "unreachable");
        assert_eq!(trapped.callback, callback.0);
        assert!(trapped.cause.to_string().contains("`unreachable` instruction executed"), "{trapped:?}");
    }
}

#[test]
fn a_callback_that_runs_for_ever_ends() {
    for callback in CALLBACKS {
        let trapped = end_of(callback, "(loop (br 0)) unreachable");
        assert_eq!((trapped.callback, trapped.cause), (callback.0, Trap::OutOfFuel { fuel: 100_000 }));
    }
}

#[test]
fn a_callback_that_calls_itself_for_ever_ends() {
    let deep = "(param i32) (result i32) (call $deep (local.get 0))";
    let text = format!(
        r#"(module {BARE} {MALLOC} (func $deep {deep})
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $deep (i32.const 0))))"#
    );
    let vm = started(&compile(&text).unwrap()).unwrap();
    let trapped = vm.http(&connection(), Headers::new()).expect_err("a trap");
    assert_eq!(trapped.cause.to_string(), "wasm trap: call stack exhausted");
    assert!(trapped.frames.len() <= 20, "{}", trapped.frames.len());
}

#[test]
fn an_export_of_another_type_is_told_by_its_name() {
    for (name, ty) in CALLBACKS.into_iter().chain([("malloc", "(param i32) (result i32)")]) {
        let malloc = if name == "malloc" { "" } else { MALLOC };
        let wrong = "(param i64 f32) (result f64) (f64.const 0)";
        let text = format!(r#"(module {BARE} {malloc} (func (export "{name}") {wrong}))"#);
        let error = started(&compile(&text).unwrap()).expect_err(ty);
        let StartError::Trapped { source, .. } = error else { panic!("{name}: {error}") };
        let said = source.cause.to_string();
        assert!(said.starts_with(&format!("the export {name} is of another type than in the ABI")), "{said}");
    }
    for (name, kind) in [("proxy_on_log", "(global"), ("malloc", "(global"), ("memory", "(global")] {
        let text = format!(
            r#"(module (func (export "proxy_abi_version_0_2_1"))
            {} {} {kind} (export "{name}") i32 (i32.const 0)))"#,
            if name == "memory" { "" } else { r#"(memory (export "memory") 1)"# },
            if name == "malloc" { "" } else { MALLOC }
        );
        let refused = compile(&text).map(|module| started(&module).map(drop));
        match name {
            "memory" => assert!(matches!(refused, Err(SandboxError::NoMemory)), "{refused:?}"),
            "malloc" => assert!(matches!(refused, Err(SandboxError::NoAllocator)), "{refused:?}"),
            // What is no function is no callback.
            _ => assert!(matches!(refused, Ok(Ok(()))), "{refused:?}"),
        }
    }
}

#[test]
fn an_import_that_does_not_fit_is_told_by_its_name() {
    let of = |import: &str| compile(&format!("(module {import} {BARE} {MALLOC})")).unwrap_err();
    let chain = |error: SandboxError| {
        let source =
            std::error::Error::source(&error).map(|source| format!("{source:#}")).unwrap_or_default();
        format!("{error}: {source}")
    };
    for (import, said) in [
        (r#"(import "env" "proxy_nothing" (func))"#, "env.proxy_nothing does not exist in ABI 0.2.1"),
        (r#"(import "ENV" "proxy_log" (func))"#, "ENV.proxy_log does not exist"),
        (r#"(import "env" "memory2" (memory 1))"#, "env.memory2 does not exist"),
        (r#"(import "env" "proxy_log" (global i32))"#, "env.proxy_log does not exist"),
        (r#"(import "env" "proxy_log" (func (param i64)))"#, "env::proxy_log"),
        (
            r#"(import "wasi_snapshot_preview1" "fd_write" (func (param f32)))"#,
            "wasi_snapshot_preview1::fd_write",
        ),
        (
            r#"(import "wasi_snapshot_preview1" "fd_nothing" (func))"#,
            "wasi_snapshot_preview1.fd_nothing does not exist",
        ),
    ] {
        let error = chain(of(import));
        assert!(error.contains(said), "{import}: {error}");
    }
}

#[test]
fn what_asks_for_too_much_at_once_gets_nothing() {
    let of = |parts: &str| {
        let text = format!(r#"(module (func (export "proxy_abi_version_0_2_1")) {MALLOC} {parts})"#);
        let error = started(&compile(&text).unwrap()).expect_err(parts);
        std::error::Error::source(&error)
            .map(|source| format!("{source}: {}", source.source().unwrap()))
            .unwrap()
    };
    let memory = of(r#"(memory (export "memory") 65536)"#);
    assert!(memory.contains("memory minimum size of 65536 pages exceeds memory limits"), "{memory}");
    let table = of(r#"(memory (export "memory") 1) (table 4000000000 funcref)"#);
    assert!(table.contains("table minimum size of 4000000000 elements exceeds table limits"), "{table}");
    let start = of(r#"(memory (export "memory") 1) (func $for_ever (loop (br 0))) (start $for_ever)"#);
    assert!(start.contains("out of fuel"), "{start}");
}

#[test]
fn an_allocator_that_lies_costs_the_guest_its_answer_and_nothing_else() {
    let mut guest = Guest::default();
    let path = guest.put("plugin_name");
    guest.on_request(&format!(
        "(call $note (call $property {path} (i32.const 16) (i32.const 20))) (i32.const 0)"
    ));
    let plugin = || Plugin { name: "p".to_owned(), ..Plugin::default() };
    // The name is one byte, which the last of two pages of memory has room for.
    for (malloc, status) in [("(i32.const 0)", "6"), ("(i32.const -1)", "6"), ("(i32.const 131071)", "0")] {
        let module = guest.with_malloc(&format!("(param i32) (result i32) {malloc}"));
        let vm = module.start(&Node::default(), plugin()).unwrap();
        vm.http(&connection(), Headers::new()).unwrap();
        assert_eq!(seen(&vm), [status], "{malloc}");
    }
}

#[test]
fn replies_to_replies_come_to_an_end() {
    let mut guest = Guest::default();
    let none = guest.put("");
    let reply =
        |code: u32| format!("(drop (call $reply (i32.const {code}) {none} {none} {none} (i32.const -1)))");
    let all =
        [reply(401), reply(402), "(drop (call $continue (i32.const 0)))".to_owned(), reply(403)].concat();
    guest.on_request(&format!("{all} (i32.const 0)"));
    guest.on_response(&format!("{} {} (i32.const 0)", reply(404), reply(405)));
    guest.on_three("proxy_on_response_body", &format!("{} (i32.const 0)", reply(406)));
    for (name, ty, end) in [
        ("proxy_on_log", "(param i32)", ""),
        ("proxy_on_done", "(param i32) (result i32)", "(i32.const 1)"),
        ("proxy_on_delete", "(param i32)", ""),
    ] {
        guest.on(name, ty, &format!("{} {end}", reply(407)));
    }
    let vm = guest.start();
    let stream = vm.http(&connection(), Message::new([(":path", "/")]).with_body("a")).unwrap();
    assert_eq!(
        stream.request(),
        HttpOutcome::Pause,
        "a reply to its own reply holds that back, in Envoy too"
    );
    stream.send(Side::Request, crate::sandbox::Part::LastBody(b"b".to_vec())).unwrap();
    stream.respond(Message::new([(":status", "200")]).with_body("b")).unwrap();
    stream.finish().unwrap();
    assert_eq!(vm.failure(), None);
}
