//! Text for [`isthmus_fuzz::path`].

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| isthmus_fuzz::path(text));
