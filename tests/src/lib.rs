//! Shared fixtures of the test tiers.

#![forbid(unsafe_code)]
