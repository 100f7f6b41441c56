//! Random bytes that are the same in every run.

/// A generator of numbers that look random: SplitMix64, whose whole state is a counter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_numbers_of_its_kind_and_goes_on_from_there() {
        // The first number of SplitMix64 from 0, as its authors publish it.
        assert_eq!(Random(0).bytes(8), 0xe220_a839_7b1d_cdaf_u64.to_le_bytes());
        let mut random = Random(7);
        assert_ne!(random.bytes(3), random.bytes(3));
    }
}
