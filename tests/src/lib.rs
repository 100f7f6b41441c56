//! Shared fixtures of the test tiers.
