//! From a script to the module that plays it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::script::{Argument, Call, Scenario, Step};

/// The hostcalls and their parameters: `i` and `l` are numbers, `s` is bytes; and what they give, in capitals:
/// `B` bytes, `W` and `D` numbers of four and of eight bytes.
const HOSTCALLS: [(&str, &str); 39] = [
    ("log", "is"),
    ("get_log_level", "W"),
    ("get_current_time_nanoseconds", "D"),
    ("set_tick_period_milliseconds", "i"),
    ("get_buffer_bytes", "iiiB"),
    ("get_buffer_status", "iWW"),
    ("set_buffer_bytes", "iiis"),
    ("get_header_map_size", "iW"),
    ("get_header_map_pairs", "iB"),
    ("set_header_map_pairs", "is"),
    ("get_header_map_value", "isB"),
    ("add_header_map_value", "iss"),
    ("replace_header_map_value", "iss"),
    ("remove_header_map_value", "is"),
    ("get_property", "sB"),
    ("set_property", "ss"),
    ("get_shared_data", "sBW"),
    ("set_shared_data", "ssi"),
    ("register_shared_queue", "sW"),
    ("resolve_shared_queue", "ssW"),
    ("enqueue_shared_queue", "is"),
    ("dequeue_shared_queue", "iB"),
    ("define_metric", "isW"),
    ("increment_metric", "il"),
    ("record_metric", "il"),
    ("get_metric", "iD"),
    ("http_call", "ssssiW"),
    ("grpc_call", "sssssiW"),
    ("grpc_stream", "ssssW"),
    ("grpc_send", "isi"),
    ("grpc_cancel", "i"),
    ("grpc_close", "i"),
    ("get_status", "WB"),
    ("send_local_response", "isssi"),
    ("continue_stream", "i"),
    ("close_stream", "i"),
    ("set_effective_context", "i"),
    ("done", ""),
    ("call_foreign_function", "ssB"),
];

/// The callbacks with the number of their parameters, and what they answer where the script does not say.
const CALLBACKS: [(&str, usize, Option<i32>); 24] = [
    ("context_create", 2, None),
    ("vm_start", 2, Some(1)),
    ("configure", 2, Some(1)),
    ("tick", 1, None),
    ("queue_ready", 2, None),
    ("request_headers", 3, Some(0)),
    ("request_body", 3, Some(0)),
    ("request_trailers", 2, Some(0)),
    ("response_headers", 3, Some(0)),
    ("response_body", 3, Some(0)),
    ("response_trailers", 2, Some(0)),
    ("new_connection", 1, Some(0)),
    ("downstream_data", 3, Some(0)),
    ("upstream_data", 3, Some(0)),
    ("downstream_connection_close", 2, None),
    ("upstream_connection_close", 2, None),
    ("http_call_response", 5, None),
    ("grpc_receive_initial_metadata", 3, None),
    ("grpc_receive", 3, None),
    ("grpc_receive_trailing_metadata", 3, None),
    ("grpc_close", 3, None),
    ("log", 1, None),
    ("done", 1, Some(1)),
    ("delete", 1, None),
];

/// Where data that a script holds begins; below is room for what hostcalls give.
const DATA: usize = 4096;

/// What every probe has: a line to write to, and an allocator that starts anew with each callback.
const PRELUDE: &str = r#"
(import "env" "proxy_log" (func $say (param i32 i32 i32) (result i32)))
(memory (export "memory") 64)
(global $heap (mut i32) (i32.const 0x200000))
(global $end (mut i32) (i32.const 0x180000))
(global $me (mut i32) (i32.const 0))
(global $root (mut i32) (i32.const 0))
(global $stream (mut i32) (i32.const 0))
(global $status (mut i32) (i32.const 0))
(func (export "proxy_abi_version_0_2_1"))
(func $room (param i32) (result i32) (local i32)
  (local.set 1 (global.get $heap))
  (global.set $heap (i32.add (local.get 1) (local.get 0)))
  (local.get 1))
(func $byte (param i32)
  (i32.store8 (global.get $end) (local.get 0))
  (global.set $end (i32.add (global.get $end) (i32.const 1))))
(func $text (param i32 i32)
  (memory.copy (global.get $end) (local.get 0) (local.get 1))
  (global.set $end (i32.add (global.get $end) (local.get 1))))
(func $digits (param i64)
  (if (i64.ge_u (local.get 0) (i64.const 10)) (then (call $digits (i64.div_u (local.get 0) (i64.const 10)))))
  (call $byte (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get 0) (i64.const 10))))))
(func $number (param i32) (call $digits (i64.extend_i32_u (local.get 0))))
(func $hex (param i32)
  (call $byte (i32.add (local.get 0) (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get 0) (i32.const 9))))))
(func $escaped (param i32)
  (if (i32.or (i32.or (i32.lt_u (local.get 0) (i32.const 32)) (i32.gt_u (local.get 0) (i32.const 126)))
              (i32.or (i32.eq (local.get 0) (i32.const 34)) (i32.eq (local.get 0) (i32.const 92))))
    (then (call $byte (i32.const 92)) (call $byte (i32.const 120))
      (call $hex (i32.shr_u (local.get 0) (i32.const 4))) (call $hex (i32.and (local.get 0) (i32.const 15))))
    (else (call $byte (local.get 0)))))
(func $quoted (param i32 i32) (local i32)
  (if (i32.and (i32.eqz (local.get 0)) (i32.eqz (local.get 1)))
    (then (call $byte (i32.const 45)) (return)))
  (call $byte (i32.const 34))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get 2) (local.get 1)))
    (br_if $done (i32.ge_u (local.get 2) (i32.const 4096)))
    (call $escaped (i32.load8_u (i32.add (local.get 0) (local.get 2))))
    (local.set 2 (i32.add (local.get 2) (i32.const 1)))
    (br $next)))
  (call $byte (i32.const 34))
  (if (i32.gt_u (local.get 1) (i32.const 4096)) (then (call $byte (i32.const 43)) (call $number (local.get 1)))))
(func $begin (param i32 i32)
  (global.set $end (i32.const 0x180000))
  (call $text (local.get 0) (local.get 1))
  (memory.fill (i32.const 16) (i32.const 0xee) (i32.const 48)))
(func $flush
  (drop (call $say (i32.const 2) (i32.const 0x180000) (i32.sub (global.get $end) (i32.const 0x180000)))))
(func $blank (call $byte (i32.const 32)))
"#;

/// The module of a scenario.
pub(super) fn bytes(scenario: &Scenario) -> Vec<u8> {
    scenario.module.clone().unwrap_or_else(|| {
        let text = text(scenario);
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", scenario.name))
    })
}

/// The module of a scenario, in text.
fn text(scenario: &Scenario) -> String {
    let mut module = Module { data: String::new(), next: DATA, kept: BTreeSet::new() };
    let imports = imports(scenario);
    let mut body = String::new();
    for (name, parameters, answer) in CALLBACKS {
        let steps = scenario.callbacks.get(name).map_or(&[][..], Vec::as_slice);
        body.push_str(&module.callback(name, parameters, answer, steps));
    }
    for name in scenario.callbacks.keys().filter(|name| *name != "malloc") {
        assert!(CALLBACKS.iter().any(|(known, ..)| known == name), "{}: no callback {name}", scenario.name);
    }
    let in_malloc: String =
        scenario.callbacks.get("malloc").into_iter().flatten().map(|step| module.quiet(step)).collect();
    let kept: String =
        module.kept.iter().map(|name| format!("(global ${name} (mut i32) (i32.const 0))\n")).collect();
    format!(
        "(module {imports} {PRELUDE} {kept}\n(func (export \"malloc\") (param i32) (result i32) {in_malloc} (call $room (local.get 0)))\n{body}\n{})",
        module.data
    )
}

fn trap_if(status: i32) -> String {
    format!("(if (i32.eq (global.get $status) (i32.const {status})) (then (unreachable)))\n")
}

fn parameters_of(name: &str) -> &'static str {
    HOSTCALLS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no hostcall {name}")).1
}

/// What is imported is what the script calls.
fn imports(scenario: &Scenario) -> String {
    let calls = scenario.callbacks.values().flatten().filter_map(|step| match step {
        Step::Call(call) => Some(call.name.as_str()),
        Step::Return(_) | Step::ReturnIf(..) | Step::Trap | Step::TrapIf(_) => None,
    });
    let import = |name: &str| {
        let parameters: Vec<&str> = parameters_of(name)
            .chars()
            .map(|kind| match kind {
                's' | 'B' => "i32 i32",
                'l' => "i64",
                _ => "i32",
            })
            .collect();
        format!(
            "(import \"env\" \"proxy_{name}\" (func ${name} (param {}) (result i32)))\n",
            parameters.join(" ")
        )
    };
    calls.collect::<BTreeSet<_>>().into_iter().map(import).collect()
}

struct Module {
    data: String,
    next: usize,
    kept: BTreeSet<String>,
}

impl Module {
    /// Holds `bytes`; the answer is the two operands that point at them.
    fn hold(&mut self, bytes: &[u8]) -> String {
        let at = self.next;
        self.next += bytes.len();
        let escaped = bytes.iter().fold(String::new(), |text, byte| format!("{text}\\{byte:02x}"));
        writeln!(self.data, "(data (i32.const {at}) \"{escaped}\")").expect("text");
        format!("(i32.const {at}) (i32.const {})", bytes.len())
    }

    fn callback(&mut self, name: &str, parameters: usize, answer: Option<i32>, steps: &[Step]) -> String {
        let mut code = "(global.set $heap (i32.const 0x200000)) (global.set $me (local.get 0))\n".to_owned();
        if name == "context_create" {
            code.push_str(
                "(if (i32.eqz (local.get 1)) (then (global.set $root (local.get 0)))\n\
                 (else (global.set $stream (local.get 0))))\n",
            );
        }
        code.push_str(&format!("(call $begin {})", self.hold(format!("{name}:").as_bytes())));
        for parameter in 0..parameters {
            code.push_str(&format!("(call $blank) (call $number (local.get {parameter}))"));
        }
        code.push_str("(call $flush)\n");
        let mut last = answer;
        for step in steps {
            match step {
                Step::Call(call) => code.push_str(&self.call(name, call)),
                Step::Trap => code.push_str("(unreachable)\n"),
                Step::TrapIf(status) => code.push_str(&trap_if(*status)),
                Step::Return(value) => last = Some(*value),
                Step::ReturnIf(value, size) => code.push_str(&format!(
                    "(if (i32.eq (local.get 1) (i32.const {size})) (then (return (i32.const {value}))))\n"
                )),
            }
        }
        let result = if answer.is_some() { "(result i32)" } else { "" };
        let last = last.map(|value| format!("(i32.const {value})")).unwrap_or_default();
        format!(
            "(func (export \"proxy_on_{name}\") (param{}) {result}\n{code}{last})\n",
            " i32".repeat(parameters)
        )
    }

    /// A call, and a line with what it answered and, after a success, gave.
    fn call(&mut self, callback: &str, call: &Call) -> String {
        let label = self.hold(format!("{callback}: {} -> ", call.text).as_bytes());
        let (operands, given) = self.operands(call);
        let keep = match &call.keeps {
            Some(name) => {
                self.kept.insert(name.clone());
                format!("(global.set ${name} (i32.load (i32.const 24)))")
            }
            None => String::new(),
        };
        format!(
            "(call $begin {label}) (global.set $status (call ${} {operands})) (call $number (global.get $status))
            (if (i32.eqz (global.get $status)) (then {given} {keep})) (call $flush)\n",
            call.name
        )
    }

    /// A call that says nothing: in the allocator, another call's line is being written.
    fn quiet(&mut self, step: &Step) -> String {
        match step {
            Step::Call(call) => format!("(drop (call ${} {}))", call.name, self.operands(call).0),
            Step::Return(_) | Step::ReturnIf(..) => String::new(),
            Step::Trap => "(unreachable)".to_owned(),
            Step::TrapIf(status) => trap_if(*status),
        }
    }

    /// The operands of a call, and the code that writes what it gives.
    fn operands(&mut self, call: &Call) -> (String, String) {
        let (mut operands, mut given) = (String::new(), String::new());
        let mut arguments = call.arguments.iter();
        let mut words = 0;
        for kind in parameters_of(&call.name).chars() {
            let at = |usual: u32| call.to.unwrap_or(usual);
            match kind {
                'B' => {
                    operands.push_str(&format!("(i32.const {}) (i32.const {})", at(16), at(20)));
                    given.push_str(
                        "(call $blank) (call $quoted (i32.load (i32.const 16)) (i32.load (i32.const 20)))",
                    );
                }
                'W' => {
                    let slot = 24 + 4 * words;
                    words += 1;
                    operands.push_str(&format!("(i32.const {})", at(slot)));
                    given.push_str(&format!("(call $blank) (call $number (i32.load (i32.const {slot})))"));
                }
                'D' => {
                    operands.push_str(&format!("(i32.const {})", at(32)));
                    given.push_str("(call $blank) (call $digits (i64.load (i32.const 32)))");
                }
                kind => {
                    let argument = arguments.next().unwrap_or_else(|| panic!("{}: too few", call.text));
                    operands.push_str(&self.operand(kind, argument));
                }
            }
        }
        assert!(arguments.next().is_none(), "{}: too many", call.text);
        (operands, if call.to.is_some() { String::new() } else { given })
    }

    fn operand(&mut self, kind: char, argument: &Argument) -> String {
        match (kind, argument) {
            ('l', Argument::Number(number)) => format!("(i64.const {number})"),
            ('i', Argument::Number(number)) => format!("(i32.const {number})"),
            ('i', Argument::Name(name)) => {
                if !["me", "root", "stream"].contains(&name.as_str()) {
                    self.kept.insert(name.clone());
                }
                format!("(global.get ${name})")
            }
            ('s', Argument::Bytes(bytes)) => self.hold(bytes),
            ('s', Argument::Span(at, length)) => format!("(i32.const {at}) (i32.const {length})"),
            (kind, argument) => panic!("{argument:?} is no {kind}"),
        }
    }
}
