//! Runs a proxy-wasm module offline, as Envoy 1.40 would drive it.
//!
//! A [`Module`] is compiled once. [`Module::start`] makes a [`Vm`] with a configured [`Plugin`]; the VM serves
//! [`HttpStream`]s and [`L4Stream`]s. A test gives what Envoy would give, a [`Node`], a [`Connection`] and
//! a [`Message`], and then looks at what there is: what went on, the reply, the log, the metrics.
//!
//! Hostcalls answer with Envoy's status codes, phase by phase. What is not here yet answers 12, Unimplemented:
//! attributes that are whole protobuf messages.

mod abi;
mod attributes;
mod call;
mod callout;
mod connection;
mod error;
mod event;
mod exports;
mod failure;
mod filter_state;
mod headers;
mod http;
mod imports;
mod instance;
mod l4;
mod link;
mod log;
mod message;
mod metrics;
mod module;
mod outcome;
mod pairs;
mod proto;
mod queue;
mod random;
mod shared;
mod state;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod trace;
mod vm;
mod wasi;
mod workers;
mod world;

pub use abi::Abi;
pub use callout::{Clusters, GrpcAnswer, GrpcCall, HttpAnswer, HttpCall};
pub use connection::{Connection, Direction, Node, PeerCertificate, Plugin, Tls};
pub use error::{SandboxError, StartError, Trap, Trapped};
pub use failure::{FailurePolicy, Reloads};
pub use headers::Headers;
pub use http::HttpStream;
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
