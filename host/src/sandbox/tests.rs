//! Guests written by hand, and what they observe.

mod guest;
mod properties;
mod streams;
mod vms;
