//! Bytes for [`isthmus_fuzz::plan`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| isthmus_fuzz::plan(bytes));
