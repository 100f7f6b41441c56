//! Tables looked up in the hot path by numbers that the host or this module chose.

use std::hash::{BuildHasherDefault, Hasher};

/// A table by numbers that no peer can choose, so that a quick hash will do.
pub(crate) type NumberMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Spread>>;

/// Spreads numbers that follow each other over the whole range (Fibonacci hashing).
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
