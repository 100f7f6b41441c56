//! Text for [`isthmus_fuzz::policy`].

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| isthmus_fuzz::policy(text));
