//! A guest in WebAssembly text, and how a test reads what it saw.

use std::fmt::Write;

use crate::sandbox::{Connection, Module, Node, Plugin, SandboxError, StartError, Vm};

/// What every guest here imports and exports. `$note` logs a status, `$say` logs what a hostcall gave.
const PRELUDE: &str = r#"
(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
(import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
(import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
(import "env" "proxy_set_effective_context" (func $act_for (param i32) (result i32)))
(import "env" "proxy_done" (func $done (result i32)))
(import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
(import "env" "proxy_http_call" (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_call" (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_stream" (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_cancel" (func $grpc_cancel (param i32) (result i32)))
(import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
(import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
(import "env" "proxy_resolve_shared_queue" (func $resolve (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
(import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_shared_data" (func $shared (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_shared_data" (func $share (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
(import "env" "proxy_get_metric" (func $metric (param i32 i32) (result i32)))
(import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))
(memory (export "memory") 2)
(global $heap (mut i32) (i32.const 65536))
(func (export "proxy_abi_version_0_2_1"))
(func $note (param i32)
  (i32.store8 (i32.const 0) (i32.add (i32.const 65) (local.get 0)))
  (drop (call $log (i32.const 0) (i32.const 0) (i32.const 1))))
(func $say (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
"#;

const MALLOC: &str = r#"(func (export "malloc") (param i32) (result i32)
  (global.get $heap) (global.set $heap (i32.add (global.get $heap) (local.get 0))))"#;

/// Where hostcalls put what they give: see `$say`.
pub(super) const SLOT: &str = "(i32.const 16) (i32.const 20)";

/// A guest in the making.
#[derive(Default)]
pub(super) struct Guest {
    text: String,
    next: usize,
}

impl Guest {
    /// Places `bytes` in memory; the answer is the two operands that point at them.
    pub(super) fn put(&mut self, bytes: &str) -> String {
        let at = 1024 + self.next;
        self.next += bytes.len();
        let escaped = bytes.bytes().fold(String::new(), |text, byte| format!("{text}\\{byte:02x}"));
        write!(self.text, "(data (i32.const {at}) \"{escaped}\")").unwrap();
        format!("(i32.const {at}) (i32.const {})", bytes.len())
    }

    /// Exports a callback with `signature` and `body`.
    pub(super) fn on(&mut self, name: &str, signature: &str, body: &str) -> &mut Self {
        writeln!(self.text, "(func (export \"{name}\") {signature} {body})").unwrap();
        self
    }

    pub(super) fn on_request(&mut self, body: &str) -> &mut Self {
        self.on("proxy_on_request_headers", "(param i32 i32 i32) (result i32)", body)
    }

    pub(super) fn on_response(&mut self, body: &str) -> &mut Self {
        self.on("proxy_on_response_headers", "(param i32 i32 i32) (result i32)", body)
    }

    /// Exports a callback of three parameters that answers with an action, such as the body callbacks.
    pub(super) fn on_three(&mut self, name: &str, body: &str) -> &mut Self {
        self.on(name, "(param i32 i32 i32) (result i32)", body)
    }

    pub(super) fn module(&self) -> Module {
        compile(&format!("(module {PRELUDE} {MALLOC} {})", self.text)).unwrap()
    }

    pub(super) fn with_malloc(&self, malloc: &str) -> Module {
        compile(&format!("(module {PRELUDE} (func (export \"malloc\") {malloc}) {})", self.text)).unwrap()
    }

    pub(super) fn start(&self) -> Vm {
        start(&self.module(), "").unwrap()
    }
}

pub(super) fn compile(text: &str) -> Result<Module, SandboxError> {
    Module::compile(&wat::parse_str(text).unwrap())
}

pub(super) fn start(module: &Module, configuration: &str) -> Result<Vm, StartError> {
    let node = Node {
        id: "n1".into(),
        metadata: serde_json::json!({"CLUSTER_ID": "east", "SIZE": 7, "LABELS": {"a.b/c": "d"}, "LIST": ["x"], "NO": null}),
        ..Node::default()
    };
    let plugin =
        Plugin { name: "p".into(), configuration: configuration.as_bytes().to_vec(), ..Plugin::default() };
    module.start(&node, plugin)
}

pub(super) fn connection() -> Connection {
    Connection::new("10.0.0.1:1234".parse().unwrap(), "10.0.0.2:443".parse().unwrap())
}

/// A call of `$note` with the status of `hostcall`.
pub(super) fn note(hostcall: &str) -> String {
    format!("(call $note {hostcall})")
}

/// What the guest logged since the last look: a status as its number, any other line as it is.
pub(super) fn seen(vm: &Vm) -> Vec<String> {
    let show = |line: crate::sandbox::LogLine| match (line.level, line.message.as_bytes()) {
        (crate::sandbox::Level::Trace, [status]) => (status - b'A').to_string(),
        _ => line.message,
    };
    vm.take_logs().into_iter().map(show).collect()
}
