//! The filter that Envoy loads: it proves which cluster a request comes from, tags it, and holds the plan.
//!
//! Every decision is made by [`policy`]; this crate brings in what Envoy shows, at whichever [`place`] it stands,
//! carries out what was decided, and tells of it. [`host::Host`] is all that it knows of Envoy.

pub mod abi;
pub mod caller;
pub mod contexts;
// Hostcalls exist only inside a host, so native tests do without; clippy reads them all the same.
#[cfg(any(target_family = "wasm", clippy))]
mod envoy;
pub mod host;
mod marks;
pub mod pairs;
pub mod peer;
pub mod place;
pub mod refusal;
pub mod seen;
pub mod settings;
mod streams;
pub mod tags;
pub mod tell;
pub mod token;
pub mod trial;
