//! Modules, starts, reconfiguration and the ways to die.

use std::time::Duration;

use super::guest::{Guest, SLOT, compile, connection, note, seen, start};
use crate::sandbox::{Headers, HttpOutcome, Module, SandboxError, StartError, Trap, Vm};

/// A guest that takes any configuration but one that starts with `n`, and says which it has.
fn choosy() -> Guest {
    let mut guest = Guest::default();
    let read = format!("(drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) {SLOT})) (call $say)");
    let verdict = "(i32.ne (i32.load8_u (i32.load (i32.const 16))) (i32.const 110))";
    guest.on("proxy_on_configure", "(param i32 i32) (result i32)", &format!("{read} {verdict}"));
    // A stream's root is its parent: this is how the test sees which configuration serves it.
    guest.on("proxy_on_context_create", "(param i32 i32)", "(call $note (local.get 1))");
    guest.on("proxy_on_delete", "(param i32)", "(call $note (i32.add (i32.const 10) (local.get 0)))");
    guest
}

fn trap_of(vm: &Vm) -> Trap {
    vm.http(&connection(), Headers::new()).expect_err("a trap").cause
}

#[test]
fn a_refused_configuration_leaves_the_old_one_serving() {
    let vm = start(&choosy().module(), "yes").unwrap();
    assert_eq!(seen(&vm), ["0", "yes"]);
    let refused = vm.configure("no").expect_err("refused");
    assert!(matches!(refused, StartError::Refused { callback: "proxy_on_configure", .. }));
    assert_eq!(refused.logs().iter().filter(|line| line.message == "no").count(), 1);
    drop(vm.http(&connection(), Headers::new()).unwrap());
    assert_eq!(seen(&vm), ["1", "12"], "the stream is the second context, of the first root");
}

#[test]
fn an_old_root_ends_with_its_last_stream() {
    let vm = start(&choosy().module(), "yes").unwrap();
    let stream = vm.http(&connection(), Headers::new()).unwrap();
    vm.configure("yet").unwrap();
    assert_eq!(seen(&vm), ["0", "yes", "1", "0", "yet"]);
    stream.finish().unwrap();
    assert_eq!(seen(&vm), ["12", "11"], "the stream is deleted, then its root");
}

#[test]
fn a_refused_start_brings_the_log_along() {
    let refused = start(&choosy().module(), "never").expect_err("refused");
    assert!(refused.logs().iter().any(|line| line.message == "never"));
}

#[test]
fn a_trap_ends_the_vm_for_every_stream() {
    let mut guest = Guest::default();
    guest.on_request("(if (i32.eq (local.get 0) (i32.const 3)) (then unreachable)) (i32.const 0)");
    let vm = guest.start();
    let first = vm.http(&connection(), Headers::new()).unwrap();
    let trapped = vm.http(&connection(), Headers::new()).expect_err("a trap");
    assert_eq!(trapped.callback, "proxy_on_request_headers");
    assert!(matches!(&trapped.cause, Trap::Guest { reason } if reason.contains("unreachable")));
    assert_eq!(first.respond(Headers::new()), Err(trapped.clone()));
    assert_eq!(first.finish(), Err(trapped.clone()));
    assert_eq!(vm.failure(), Some(trapped));
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let mut guest = Guest::default();
    guest.on_request("(loop (br 0)) (i32.const 0)");
    let vm = start(&guest.module().with_fuel(10_000), "").unwrap();
    assert_eq!(trap_of(&vm), Trap::OutOfFuel { fuel: 10_000 });
}

#[test]
fn a_pointer_out_of_memory_is_answered_with_six() {
    let mut guest = Guest::default();
    let key = guest.put("source\0port");
    let far = "(i32.const -8) (i32.const 16)";
    let calls = [
        format!("(call $log (i32.const 2) {far})"),
        format!("(call $get (i32.const 0) {far} {SLOT})"),
        format!("(call $add (i32.const 0) {key} {far})"),
        format!("(call $property {key} {far})"),
        format!("(call $property {key} (i32.const 131070) (i32.const 0))"),
        "(call $now (i32.const 131065))".to_owned(),
        "(call $now (i32.const 131064))".to_owned(),
    ];
    guest.on_request(&format!("{} (i32.const 0)", calls.map(|call| note(&call)).concat()));
    let vm = guest.start();
    vm.set_time(Duration::from_secs(1));
    vm.http(&connection(), Headers::new()).unwrap();
    assert_eq!(seen(&vm), ["6", "6", "6", "6", "6", "6", "0"]);
}

#[test]
fn an_allocator_that_has_nothing_left_is_answered_with_six() {
    let mut guest = Guest::default();
    let key = guest.put("plugin_name");
    guest.on_request(&format!("{} (i32.const 0)", note(&format!("(call $property {key} {SLOT})"))));
    let vm = start(&guest.with_malloc("(param i32) (result i32) (i32.const 0)"), "").unwrap();
    vm.http(&connection(), Headers::new()).unwrap();
    assert_eq!(seen(&vm), ["6"]);
}

#[test]
fn a_hostcall_from_within_the_allocator_traps() {
    let mut guest = Guest::default();
    let key = guest.put("plugin_name");
    guest.on_request(&format!("(call $property {key} {SLOT})"));
    let malloc = "(param i32) (result i32) (drop (call $now (i32.const 0))) (i32.const 64)";
    let vm = start(&guest.with_malloc(malloc), "").unwrap();
    assert_eq!(
        trap_of(&vm),
        Trap::Guest { reason: "restricted_callback: proxy_get_current_time_nanoseconds".into() }
    );
}

#[test]
fn foreign_functions_are_found_by_name() {
    let mut guest = Guest::default();
    let (route, other, none) = (guest.put("clear_route_cache"), guest.put("other"), guest.put(""));
    guest.on_request(&format!(
        "{} {} (i32.const 0)",
        note(&format!("(call $foreign {route} {none} (i32.const 0) (i32.const 0))")),
        note(&format!("(call $foreign {other} {none} {SLOT})")),
    ));
    let vm = guest.start();
    let stream = vm.http(&connection(), Headers::new()).unwrap();
    assert_eq!(stream.route_refreshes(), 1);
    assert_eq!(stream.request(), HttpOutcome::Continue(Headers::new()));
    assert_eq!(seen(&vm), ["0", "1"]);
}

#[test]
fn a_module_that_is_no_filter_is_refused_by_name() {
    let memory = r#"(memory (export "memory") 1)"#;
    let marker = r#"(func (export "proxy_abi_version_0_2_1"))"#;
    let malloc = r#"(func (export "malloc") (param i32) (result i32) (i32.const 0))"#;
    let of = |text: String| compile(&format!("(module {text})"));
    let old = r#"(func (export "proxy_abi_version_0_3_0"))"#;
    assert!(
        matches!(of(format!("{memory}{malloc}{old}")), Err(SandboxError::Abi { found }) if found.len() == 1)
    );
    assert!(matches!(of(format!("{memory}{marker}")), Err(SandboxError::NoAllocator)));
    assert!(matches!(of(format!("{marker}{malloc}")), Err(SandboxError::NoMemory)));
    let import = r#"(import "env" "proxy_telepathy" (func (result i32)))"#;
    let refused = of(format!("{import}{memory}{marker}{malloc}")).unwrap_err();
    assert_eq!(refused.to_string(), "the import env.proxy_telepathy does not exist in ABI 0.2.1");
    assert!(matches!(Module::compile(b"no"), Err(SandboxError::Invalid { .. })));
}

#[test]
fn one_module_serves_many_threads() {
    let mut guest = Guest::default();
    guest.on_request("(i32.const 0)");
    let module = guest.module();
    std::thread::scope(|scope| {
        for vm in [start(&module, "").unwrap(), start(&module, "").unwrap()] {
            scope.spawn(move || drop(vm.http(&connection(), Headers::new()).unwrap()));
        }
    });
}
