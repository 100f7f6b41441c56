//! The filter that Envoy loads: it proves which cluster a request comes from, tags it, and holds the plan.
//!
//! Every decision is made by [`policy`]; this crate brings in what Envoy shows ([`facts`]) and carries out what
//! was decided, at one of three places ([`place`]). [`host::Host`] is all it knows of Envoy.

#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]

#[cfg(target_family = "wasm")]
mod envoy;
pub mod facts;
pub mod host;
pub mod place;
#[cfg(target_family = "wasm")]
mod plugin;
pub mod settings;
