//! Bytes for [`isthmus_fuzz::certificate`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| isthmus_fuzz::certificate(bytes));
