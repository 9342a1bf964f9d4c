//! Seeded choices: the same seed gives the same sample and the same workload on
//! every machine. Powers and logarithms are the crate libm's, because those of
//! the platforms differ in their last bits.

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

    /// A number from 0 to below 1, in steps of 2^-53.
    pub fn fraction(&mut self) -> f64 {
        const STEPS: f64 = (1_u64 << 53) as f64;
        (self.roll() >> 11) as f64 / STEPS
    }

    /// A number whose logarithm is normally distributed: half are below `median`,
    /// two of three between `median / spread` and `median * spread`.
    pub fn log_normal(&mut self, median: f64, spread: f64) -> f64 {
        // Box and Muller, 1958.
        let (u, v) = (1.0 - self.fraction(), self.fraction());
        let normal = libm::sqrt(-2.0 * libm::log(u)) * libm::cos(std::f64::consts::TAU * v);
        median * libm::pow(spread, normal)
    }
}

/// Ranks of which the one at place k is drawn k^-exponent times as often as the first.
#[derive(Debug, Clone)]
pub struct Zipf {
    /// The weights of a rank and of all before it.
    sums: Vec<f64>,
}

impl Zipf {
    pub fn new(ranks: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let add = |rank| {
            sum += libm::pow(f64::from(rank), -exponent);
            sum
        };
        Self {
            sums: (1..=ranks.max(1)).map(add).collect(),
        }
    }

    /// A rank, from 0.
    pub fn draw(&self, dice: &mut Dice) -> u32 {
        let place = dice.fraction() * self.sums.last().copied().unwrap_or_default();
        let rank = self.sums.partition_point(|sum| *sum <= place);
        rank.min(self.sums.len() - 1) as u32
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

    #[test]
    fn the_first_rank_is_drawn_most_and_as_often_as_the_law_says() {
        let (mut dice, zipf) = (Dice::seeded(1), Zipf::new(100, 1.0));
        let mut counts = [0_u32; 100];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut dice) as usize] += 1;
        }
        // Of 1 + 1/2 + … + 1/100 = 5.187 the first has 1, and the tenth a tenth.
        assert!(counts[0].abs_diff(19_277) < 500, "{}", counts[0]);
        assert!(counts[9].abs_diff(1_928) < 200, "{}", counts[9]);
        assert!(counts[99] > 100);
    }

    #[test]
    fn a_log_normal_number_has_its_median_and_spread() {
        let mut dice = Dice::seeded(1);
        let mut drawn: Vec<f64> = (0..10_000).map(|_| dice.log_normal(20.0, 2.0)).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        assert!((19.0..21.0).contains(&drawn[5_000]), "{}", drawn[5_000]);
        assert!((38.0..42.0).contains(&drawn[8_413]), "{}", drawn[8_413]);
    }
}
