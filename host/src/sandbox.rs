//! Runs a proxy-wasm module offline, as Envoy 1.40 would drive it.
//!
//! A [`Module`] is compiled once. [`Module::start`] makes a [`Vm`] with a configured [`Plugin`]; the VM serves
//! [`HttpStream`]s and [`L4Stream`]s. A test gives what Envoy would give, a [`Node`], a [`Connection`] and
//! [`Headers`], and then looks at what there is: the headers, the reply, the log, the metrics.
//!
//! Hostcalls answer with Envoy's status codes, phase by phase. What is not here yet answers 12, Unimplemented:
//! bodies, trailers, callouts, queues, and attributes that are whole protobuf messages.

mod attributes;
mod call;
mod connection;
mod error;
mod exports;
mod filter_state;
mod headers;
mod http;
mod imports;
mod instance;
mod l4;
mod log;
mod metrics;
mod module;
mod outcome;
mod pairs;
mod reply;
mod shared;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod vm;

pub use connection::{Connection, Direction, Node, PeerCertificate, Plugin, Tls};
pub use error::{SandboxError, StartError, Trap, Trapped};
pub use headers::Headers;
pub use http::HttpStream;
pub use l4::L4Stream;
pub use log::{Level, LogLine};
pub use metrics::Metric;
pub use module::Module;
pub use outcome::{Action, Ended, HttpOutcome, L4Outcome, LocalReply};
pub use vm::Vm;
