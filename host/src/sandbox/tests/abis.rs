//! What a module of each ABI can import and is called with, and WASI under both its names.

use std::collections::BTreeMap;
use std::time::Duration;

use super::guest::{compile, connection};
use crate::sandbox::{Abi, Headers, HttpOutcome, Level, Node, Plugin, SandboxError, StartError, Vm};

const MALLOC: &str = r#"(memory (export "memory") 1)
    (func (export "malloc") (param i32) (result i32) (i32.const 4096))"#;

/// A module of the ABI `version` with nothing but `text`.
fn module(version: &str, text: &str) -> Result<crate::sandbox::Module, SandboxError> {
    let marker = format!(r#"(func (export "proxy_abi_version_{version}"))"#);
    compile(&format!("(module {text} {MALLOC} {marker})"))
}

fn import(name: &str, parameters: &str) -> String {
    format!(r#"(import "env" "{name}" (func ${name} (param {parameters}) (result i32)))"#)
}

fn started(text: &str, environment: BTreeMap<String, String>) -> Result<Vm, StartError> {
    let plugin = Plugin { environment, ..Plugin::default() };
    module("0_2_1", text).unwrap().start(&Node::default(), plugin)
}

fn lines(vm: &Vm) -> Vec<(Level, String)> {
    vm.take_logs().into_iter().map(|line| (line.level, line.message)).collect()
}

#[test]
fn each_version_has_imports_that_others_do_not_link() {
    let imports = [
        (import("proxy_continue_request", ""), [true, false, false]),
        (import("proxy_continue_response", ""), [true, false, false]),
        (import("proxy_clear_route_cache", ""), [true, false, false]),
        (import("proxy_get_configuration", "i32 i32"), [true, false, false]),
        (import("proxy_continue_stream", "i32"), [false, true, true]),
        (import("proxy_close_stream", "i32"), [false, true, true]),
        (import("proxy_get_log_level", "i32"), [false, false, true]),
        (import("proxy_log", "i32 i32 i32"), [true, true, true]),
    ];
    for (import, linked) in imports {
        let links = ["0_1_0", "0_2_0", "0_2_1"].map(|version| module(version, &import).is_ok());
        assert_eq!(links, linked, "{import}");
    }
    assert_eq!(module("0_1_0", "").unwrap().abi(), Abi::V0_1_0);
}

#[test]
fn an_import_with_other_parameters_does_not_link() {
    assert!(matches!(module("0_2_1", &import("proxy_log", "i32")), Err(SandboxError::Link { .. })));
}

#[test]
fn a_guest_of_0_1_0_is_not_told_of_the_end_and_reads_what_is_missing_as_empty() {
    let text = format!(
        r#"{} {} {} {}
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $proxy_get_configuration (i32.const 16) (i32.const 20)))
          (i32.eq (i32.load8_u (i32.load (i32.const 16))) (i32.const 112)))
        (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
          (drop (call $proxy_get_header_map_value (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 20)))
          (if (i32.load (i32.const 20)) (then unreachable))
          (drop (call $proxy_clear_route_cache))
          (drop (call $proxy_continue_request))
          (i32.const 1))"#,
        import("proxy_get_configuration", "i32 i32"),
        import("proxy_get_header_map_value", "i32 i32 i32 i32 i32"),
        import("proxy_continue_request", ""),
        import("proxy_clear_route_cache", ""),
    );
    let plugin =
        Plugin { vm_configuration: b"vm".to_vec(), configuration: b"plugin".to_vec(), ..Plugin::default() };
    let vm = module("0_1_0", &text).unwrap().start(&Node::default(), plugin).unwrap();
    let stream = vm.http(&connection(), Headers::from([("a", "b")])).unwrap();
    assert!(matches!(stream.request(), HttpOutcome::Continue(_)), "it continued the stream itself");
    assert_eq!(stream.route_refreshes(), 1);
}

/// Prints in `_initialize` what `read` has left at 64: so many bytes as the last of it says.
fn printing(from: &str, read: &str, fd: u32) -> String {
    format!(
        r#"(import "{from}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "{from}" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "{from}" "environ_get" (func $environ (param i32 i32) (result i32)))
        (import "{from}" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (import "{from}" "random_get" (func $random (param i32 i32) (result i32)))
        (import "{from}" "proc_exit" (func $exit (param i32)))
        (data (i32.const 64) "hello\n")
        (func (export "_initialize") (local $size i32)
          (call $exit (i32.const 1))
          {read}
          (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 2))
          (i32.store (i32.const 8) (i32.const 66)) (i32.store (i32.const 12) (i32.sub (local.get $size) (i32.const 2)))
          (if (call $write (i32.const {fd}) (i32.const 0) (i32.const 2) (i32.const 48)) (then unreachable))
          (if (i32.ne (i32.load (i32.const 48)) (local.get $size)) (then unreachable)))"#
    )
}

#[test]
fn what_a_program_prints_is_logged_under_both_names_of_wasi() {
    let read = "(local.set $size (i32.const 6))";
    for from in ["wasi_snapshot_preview1", "wasi_unstable"] {
        let vm = started(&printing(from, read, 1), BTreeMap::new()).unwrap();
        assert_eq!(lines(&vm), [(Level::Info, "hello".to_owned())], "{from}");
    }
    let vm = started(&printing("wasi_unstable", read, 2), BTreeMap::new()).unwrap();
    assert_eq!(lines(&vm), [(Level::Error, "hello".to_owned())]);
    assert!(matches!(
        started(&printing("wasi_unstable", read, 3), BTreeMap::new()),
        Err(StartError::Trapped { .. })
    ));
}

#[test]
fn the_environment_is_the_plugins_and_no_other() {
    let read = "(if (call $sizes (i32.const 32) (i32.const 36)) (then unreachable))
        (if (call $environ (i32.const 40) (i32.const 64)) (then unreachable))
        (if (i32.ne (i32.load (i32.const 44)) (i32.const 68)) (then unreachable))
        (local.set $size (i32.load (i32.const 36)))";
    let environment = BTreeMap::from([("A", "1"), ("BC", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let vm = started(&printing("wasi_snapshot_preview1", read, 1), environment).unwrap();
    assert_eq!(lines(&vm), [(Level::Info, "A=1\0BC=\0".to_owned())]);
}

#[test]
fn random_bytes_are_the_same_in_every_run_and_few_at_once() {
    let read =
        "(if (i32.ne (call $random (i32.const 64) (i32.const 65537)) (i32.const 28)) (then unreachable))
        (if (call $random (i32.const 64) (i32.const 8)) (then unreachable))
        (i64.store (i32.const 64) (i64.and (i64.load (i32.const 64)) (i64.const 0x3f3f3f3f3f3f3f3f)))
        (local.set $size (i32.const 8))";
    let run = || lines(&started(&printing("wasi_unstable", read, 1), BTreeMap::new()).unwrap());
    assert_eq!(run(), run());
    assert_ne!(run()[0].1, "\0\0\0\0\0\0\0\0");
}

#[test]
fn a_clock_that_wasi_does_not_have_is_not_supported() {
    let read = "(if (i32.ne (call $time (i32.const 2) (i64.const 0) (i32.const 64)) (i32.const 58)) (then unreachable))
        (if (call $time (i32.const 1) (i64.const 0) (i32.const 64)) (then unreachable))
        (local.set $size (i32.const 6))";
    assert!(started(&printing("wasi_unstable", read, 1), BTreeMap::new()).is_ok());
}

#[test]
fn a_guest_that_initializes_itself_may_print_but_not_ask() {
    let text = format!(
        r#"{} (func (export "_start") (drop (call $proxy_get_current_time_nanoseconds (i32.const 0))))"#,
        import("proxy_get_current_time_nanoseconds", "i32")
    );
    let Err(StartError::Trapped { source, .. }) = started(&text, BTreeMap::new()) else {
        panic!("it started")
    };
    assert_eq!(source.callback, "_start");
    assert_eq!(source.cause.to_string(), "restricted_callback: proxy_get_current_time_nanoseconds");
}

#[test]
fn a_runtime_with_threads_and_files_of_its_own_links_and_finds_none() {
    let text = r#"
        (import "env" "pthread_equal" (func $equal (param i32 i32) (result i32)))
        (import "env" "emscripten_notify_memory_growth" (func $grown (param i32)))
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
        (func (export "_initialize")
          (call $grown (i32.const 0))
          (if (i32.ne (call $equal (i32.const 7) (i32.const 7)) (i32.const 1)) (then unreachable))
          (if (i32.ne (call $prestat (i32.const 3) (i32.const 0)) (i32.const 8)) (then unreachable))
          (if (i32.ne (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)) (i32.const 44)) (then unreachable))
          (if (i32.ne (call $stat (i32.const 0) (i32.const 0)) (i32.const 8)) (then unreachable))
          (if (call $stat (i32.const 1) (i32.const 0)) (then unreachable))
          (if (i64.ne (i64.load (i32.const 8)) (i64.const 64)) (then unreachable)))"#;
    assert!(started(text, BTreeMap::new()).is_ok());
    let wasi =
        r#"(import "wasi_snapshot_preview1" "path_symlink" (func (param i32 i32 i32 i32 i32) (result i32)))"#;
    assert!(
        matches!(module("0_2_1", wasi), Err(SandboxError::Link { .. })),
        "Envoy has one parameter fewer than WASI"
    );
}

#[test]
fn the_clock_of_wasi_is_the_clock_of_the_vm() {
    let text = r#"(import "wasi_unstable" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $time (i32.const 0) (i64.const 0) (i32.const 0)))
          (if (i64.ne (i64.load (i32.const 0)) (i64.const 5000000000)) (then unreachable))
          (i32.const 0))"#;
    let vm = started(text, BTreeMap::new()).unwrap();
    vm.set_time(Duration::from_secs(5));
    vm.http(&connection(), Headers::new()).unwrap();
}

#[test]
fn no_clock_says_that_it_is_nothing() {
    let text = r#"(import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (func (export "_initialize")
          (drop (call $time (i32.const 1) (i64.const 0) (i32.const 0)))
          (if (i64.eqz (i64.load (i32.const 0))) (then unreachable)))"#;
    started(text, BTreeMap::new()).expect("a guest whose language asks for the time as it starts");
}
