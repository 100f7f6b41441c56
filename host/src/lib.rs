//! The host.

pub mod cert;
