//! Guests written by hand, and what they observe.

mod abis;
mod bodies;
mod callouts;
mod connections;
mod failures;
mod guest;
mod hostile;
mod properties;
mod streams;
mod traces;
mod vms;
mod worlds;
