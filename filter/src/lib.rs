//! The filter that Envoy loads: it proves which cluster a request comes from, tags it, and holds the plan.
//!
//! Every decision is made by [`policy`]; this crate brings in what Envoy shows ([`facts`]) and carries out what
//! was decided, at one of three places ([`place`]). [`host::Host`] is all it knows of Envoy.

// Hostcalls exist only inside a host, so native tests do without these two; clippy reads them all the same.
#[cfg(any(target_family = "wasm", clippy))]
mod envoy;
pub mod facts;
pub mod host;
pub mod place;
#[cfg(any(target_family = "wasm", clippy))]
mod plugin;
pub mod settings;
