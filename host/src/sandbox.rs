//! Runs any proxy-wasm module offline, as Envoy 1.40 would drive it.
//!
//! A [`Module`] is compiled once. [`Module::start`] makes a [`Vm`] with a configured [`Plugin`]; the VM serves
//! [`HttpStream`]s and [`L4Stream`]s. A test gives what Envoy would give, a [`Node`], a [`Connection`] and
//! a [`Message`], and then looks at what there is: what went on, the reply, the log, the metrics. There is no script of
//! expected hostcalls, and nothing is shared between tests.
//!
//! ```
//! use isthmus::sandbox::{Connection, Headers, Message, Module, Node, Plugin};
//!
//! // A filter that makes "?" of every request's body, and lets the headers go as they are.
//! let wasm = wat::parse_str(r#"(module
//!   (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
//!   (memory (export "memory") 1)
//!   (data (i32.const 8) "?")
//!   (func (export "proxy_abi_version_0_2_1"))
//!   (func (export "malloc") (param i32) (result i32) (i32.const 1024))
//!   (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
//!     (call $set (i32.const 0) (i32.const 0) (local.get 1) (i32.const 8) (i32.const 1))))"#)?;
//!
//! let vm = Module::compile(&wasm)?.start(&Node::default(), Plugin::default())?;
//! let connection = Connection::new("10.0.0.1:40000".parse()?, "10.0.0.2:8080".parse()?);
//!
//! let stream = vm.http(&connection, Message::new([(":method", "POST"), (":path", "/")]).with_body("secret"))?;
//! let sent = stream.to_upstream();
//! assert_eq!((&sent.body[..], sent.ended), (&b"?"[..], true));
//!
//! let answered = stream.respond(Headers::from([(":status", "200")]))?;
//! assert_eq!(answered.continued().and_then(|headers| headers.text(":status")), Some("200"));
//! stream.finish()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What else there is, by what a test wants to know:
//! - a body chunk by chunk, pauses, limits, trailers: [`HttpStream::send`]; TCP data: [`L4Stream::client_sends`];
//! - other services: [`Vm::http_calls`] and [`Vm::answer_http`], [`Vm::grpc_calls`] and [`Vm::answer_grpc`];
//! - time: [`Vm::advance`]; queues: [`Vm::turn`];
//! - several workers: [`Module::start_workers`]; several plugins of a VM: [`Vm::add`]; other filters: [`World`];
//! - traps: [`FailurePolicy`]; what a plugin may not do: [`Plugin::capabilities`];
//! - who is at the other end: [`Tls::mutual`]; where a request goes: [`Connection::with_route`];
//! - what a request costs, and every hostcall: [`Vm::record`].
//!
//! Hostcalls answer with Envoy's status codes, phase by phase; a module links with what its [`Abi`] has, and with no more.
//! Where Envoy surprises, so does this: that is what it is for. The tests beside it name the rules. It does not have
//! metadata frames of HTTP/2 and the resolving of names. What else a proxy offers its modules, a test can bring itself:
//! [`Module::with_function`].

mod abi;
mod attributes;
mod call;
mod callout;
mod compiled;
mod connection;
mod context;
mod error;
mod exports;
mod expression;
mod failure;
mod filter_state;
mod functions;
mod guest;
mod headers;
mod http;
mod identity;
mod imports;
mod instance;
mod l4;
mod link;
mod log;
mod message;
mod metrics;
mod module;
mod open;
mod outcome;
mod pairs;
mod process;
mod proto;
mod queue;
mod random;
mod reply;
mod shared;
mod shown;
mod signature;
mod start;
mod state;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod trace;
mod trial;
mod vm;
mod wasi;
mod workers;
mod world;

pub use abi::Abi;
pub use callout::{Clusters, GrpcAnswer, GrpcCall, HttpAnswer, HttpCall};
pub use connection::{
    Connection, ConnectionInfo, Direction, EnvoyVersion, HttpVersion, Locality, Node, PeerCertificate,
    Plugin, Route, Tls,
};
pub use error::{SandboxError, StartError, Trap, Trapped};
pub use failure::{FailurePolicy, Reloads};
pub use filter_state::FilterState;
pub use headers::Headers;
pub use http::HttpStream;
pub use identity::CertificateError;
pub use l4::L4Stream;
pub use log::{Level, LogLine};
pub use message::{Message, Part, Passed, Side};
pub use metrics::Metric;
pub use module::Module;
pub use outcome::{Action, Ended, HttpOutcome, L4Outcome, LocalReply};
pub use trace::{Callback, Cost, Hostcall};
pub use vm::{Filter, Vm};
pub use workers::Workers;
pub use world::World;
