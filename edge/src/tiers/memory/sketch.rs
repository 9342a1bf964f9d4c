//! How often things were asked for of late, roughly, also those that are not kept.
//!
//! A count-min sketch of counters up to 15, which all halve from time to time:
//! TinyLFU's (Einziger, Friedman, Manes, 2017). Knows hashes and nothing else.

/// Sixteen counters in a word; a thing has one in each of four words.
const COUNTER_MAX: u64 = 15;
const COUNTERS: u64 = 4;
const WORDS_MIN: usize = 64;
/// Additions for each thing after which all counters halve.
const ADDITIONS_PER_THING: usize = 6;

#[derive(Debug)]
pub struct Sketch {
    words: Vec<u64>,
    things: usize,
    additions: usize,
}

impl Sketch {
    pub fn new() -> Self {
        Self {
            words: vec![0; WORDS_MIN],
            things: WORDS_MIN,
            additions: 0,
        }
    }

    /// Makes room for so many things. A sketch of twice the size counts what this
    /// one did: the new half begins as a copy of the old one.
    pub fn reserve(&mut self, things: usize) {
        self.things = self.things.max(things);
        while self.words.len() < things {
            self.words.extend_from_within(..);
        }
    }

    pub fn count(&self, hash: u64) -> u64 {
        let counters = (0..COUNTERS).map(|nth| {
            let (word, shift) = self.counter(hash, nth);
            self.words.get(word).map_or(0, |word| word >> shift) & COUNTER_MAX
        });
        counters.min().unwrap_or(0)
    }

    pub fn add(&mut self, hash: u64) {
        let mut is_added = false;
        for nth in 0..COUNTERS {
            let (word, shift) = self.counter(hash, nth);
            if let Some(word) = self.words.get_mut(word)
                && (*word >> shift) & COUNTER_MAX < COUNTER_MAX
            {
                *word += 1 << shift;
                is_added = true;
            }
        }
        self.additions += usize::from(is_added);
        if self.additions >= self.things * ADDITIONS_PER_THING {
            self.halve();
        }
    }

    fn halve(&mut self) {
        for word in &mut self.words {
            *word = (*word >> 1) & 0x7777_7777_7777_7777;
        }
        self.additions /= 2;
    }

    /// In which word, and where in it.
    fn counter(&self, hash: u64, nth: u64) -> (usize, u64) {
        let step = (hash >> 32) | 1;
        let word = hash.wrapping_add(step.wrapping_mul(nth)) as usize;
        // The length is a power of two.
        (
            word & (self.words.len() - 1),
            4 * (COUNTERS * nth + (hash >> 62)),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use super::*;

    fn hash(thing: u32) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(thing)
    }

    #[test]
    fn it_never_counts_less_than_there_was_until_it_halves() {
        let mut sketch = Sketch::new();
        for round in 1..=5 {
            (0..60).for_each(|thing| sketch.add(hash(thing)));
            assert!((0..60).all(|thing| sketch.count(hash(thing)) >= round));
        }
        sketch.reserve(1_000);
        assert!((0..60).all(|thing| sketch.count(hash(thing)) >= 5));
        (0..20).for_each(|_| sketch.add(hash(60)));
        assert_eq!(sketch.count(hash(60)), COUNTER_MAX);
        sketch.halve();
        assert_eq!(sketch.count(hash(60)), COUNTER_MAX / 2);
    }

    #[test]
    fn most_of_what_never_was_is_counted_as_that() {
        let mut sketch = Sketch::new();
        sketch.reserve(1_000);
        (0..1_000).for_each(|thing| sketch.add(hash(thing)));
        let wrong = (1_000..2_000).filter(|thing| sketch.count(hash(*thing)) > 0);
        assert!(wrong.count() < 50);
    }
}
