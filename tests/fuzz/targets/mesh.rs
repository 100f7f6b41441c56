//! Text for [`isthmus_fuzz::mesh`].

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| isthmus_fuzz::mesh(text));
