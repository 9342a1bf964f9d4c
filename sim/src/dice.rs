//! Seeded choices: the same seed gives the same sample and the same workload on
//! every machine and with every release of every crate.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to look varied.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`; the bias of the remainder does not matter here.
    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.roll() % u64::from(bound.max(1))).unwrap_or_default()
    }

    /// One of `things`, of which there is at least one.
    pub fn choose<T: Copy, const N: usize>(&mut self, things: &[T; N]) -> T {
        const { assert!(N > 0, "there must be something to choose from") };
        let index = usize::try_from(self.roll() % (N as u64)).unwrap_or_default();
        *things.get(index).unwrap_or(&things[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        let mut dice = Dice::seeded(0);
        // The published first output of SplitMix64 for seed 0.
        assert_eq!(dice.roll(), 0xE220_A839_7B1D_CDAF);
        assert!((0..100).all(|_| dice.below(7) < 7));
    }
}
