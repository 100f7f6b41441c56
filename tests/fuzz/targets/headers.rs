//! Bytes for [`isthmus_fuzz::headers`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| isthmus_fuzz::headers(bytes));
