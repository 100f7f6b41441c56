//! Guests written by hand, and what they observe.

mod abis;
mod bodies;
mod connections;
mod guest;
mod properties;
mod streams;
mod vms;
