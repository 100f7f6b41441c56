//! The host.

pub mod cert;
pub mod lab;
