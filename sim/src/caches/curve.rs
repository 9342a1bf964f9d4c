//! The miss ratio of LRU at every size at once, from one pass over the requests.
//!
//! A request hits in any LRU cache that is larger than the number of other
//! things asked for since its own last request: its *stack distance* (Mattson
//! et al., 1970). So one histogram of distances holds the whole curve. For long
//! traces the distances among a fixed share of the things, chosen by hash, are
//! an estimate (SHARDS: Waldspurger et al., FAST 2015).

use super::{Id, Requests, TooLong};

/// Misses of LRU by size.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// At each place the requests with a distance of at most that.
    hits: Vec<u64>,
    /// What the sample missed of the requests, or had too much.
    adjustment: f64,
    /// The requests that the histogram speaks of.
    requests: f64,
    /// The share of the things that it knows.
    rate: f64,
}

impl Curve {
    pub fn exact(all: &Requests) -> Self {
        Self {
            hits: hits_by_distance(&all.ids, all.distinct),
            adjustment: 0.0,
            requests: all.ids.len() as f64,
            rate: 1.0,
        }
    }

    /// An estimate from a share of the keys. The hash decides about a key, so
    /// the same trace always gives the same curve.
    ///
    /// # Errors
    /// The sample is too long.
    pub fn sampled(keys: impl ExactSizeIterator<Item = u64>, rate: f64) -> Result<Self, TooLong> {
        let requests = keys.len() as f64 * rate;
        // A rate of 1 takes all: a float becomes the nearest integer there is.
        let threshold = (rate * u64::MAX as f64) as u64;
        let sample = Requests::of_keys(keys.filter(|key| mixed(*key) <= threshold))?;
        Ok(Self {
            hits: hits_by_distance(&sample.ids, sample.distinct),
            // SHARDS-adj: a popular key that the sample has, or has not, makes
            // most of the error, and such a key hits in nearly every cache.
            adjustment: requests - sample.ids.len() as f64,
            requests,
            rate,
        })
    }

    /// How many things it knows of.
    pub fn things(&self) -> usize {
        self.hits.len()
    }

    /// Of a cache with room for so many things.
    pub fn miss_ratio(&self, capacity: u32) -> f64 {
        // Those of a distance below it. Of a sample that is a part of the last one.
        let room = f64::from(capacity) * self.rate;
        let whole = room.floor() as usize;
        let below = |end: usize| {
            let last = end.min(self.hits.len());
            let sum = last.checked_sub(1).and_then(|place| self.hits.get(place));
            sum.copied().unwrap_or_default() as f64
        };
        let part = (below(whole + 1) - below(whole)) * room.fract();
        let hits = below(whole) + part + self.adjustment;
        (1.0 - hits / self.requests).clamp(0.0, 1.0)
    }

    /// How far from the other it is, on average over all sizes in hundredths of
    /// the number of things.
    pub fn mean_error(&self, other: &Self, distinct: u32) -> f64 {
        const STEPS: u32 = 100;
        let sizes = (1..=STEPS).map(|step| (u64::from(distinct) * u64::from(step) / 100) as u32);
        let errors = sizes.map(|size| (self.miss_ratio(size) - other.miss_ratio(size)).abs());
        errors.sum::<f64>() / f64::from(STEPS)
    }
}

/// Every bit of the key changes every bit of this (`SplitMix64`; Steele et al., 2014).
fn mixed(key: u64) -> u64 {
    let mut hash = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

/// How many requests have a stack distance of at most each.
fn hits_by_distance(ids: &[Id], distinct: u32) -> Vec<u64> {
    let mut stack = Stack::new(distinct);
    let mut hits = vec![0; distinct as usize];
    for id in ids {
        let distance = stack.distance(*id);
        if let Some(count) = distance.and_then(|distance| hits.get_mut(distance as usize)) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for count in &mut hits {
        sum += *count;
        *count = sum;
    }
    hits
}

const NOWHERE: u32 = u32::MAX;
const WORD: u32 = u64::BITS;
/// Places for each thing: the more there are, the rarer they have to be packed.
const PLACES_PER_THING: usize = 3;

/// The things in the order of their last request.
///
/// Each request takes the next place, and its thing leaves the one before: a
/// bitmap of taken places, and sums of its words in a Fenwick tree. When the
/// places come to an end, the taken ones are packed together; so all of it stays
/// as small as the number of things, whatever the number of requests.
struct Stack {
    place_of_id: Vec<u32>,
    id_at_place: Vec<Id>,
    taken: Vec<u64>,
    /// Of the words before the one that is being filled.
    sums: Fenwick,
    /// The next free place; what is behind it is free too.
    next: u32,
    things: u32,
}

// All places are below the length of `id_at_place`, which is that of `taken`
// times 64, and all ids below `distinct`.
#[allow(clippy::indexing_slicing)]
impl Stack {
    fn new(distinct: u32) -> Self {
        let words = (distinct as usize * PLACES_PER_THING).div_ceil(WORD as usize) + 1;
        Self {
            place_of_id: vec![NOWHERE; distinct as usize],
            id_at_place: vec![0; words * WORD as usize],
            taken: vec![0; words],
            sums: Fenwick(vec![0; words]),
            next: 0,
            things: 0,
        }
    }

    /// How many others were asked for since this one last was; None: it never was.
    fn distance(&mut self, id: Id) -> Option<u32> {
        if self.next as usize == self.id_at_place.len() {
            self.pack();
        }
        let before = std::mem::replace(&mut self.place_of_id[id as usize], self.next);
        let distance = if before == NOWHERE {
            self.things += 1;
            None
        } else {
            Some(self.leave(before))
        };
        self.take(id);
        distance
    }

    /// Frees a place and counts the taken ones behind it.
    fn leave(&mut self, place: u32) -> u32 {
        let (word, bit) = ((place / WORD) as usize, place % WORD);
        let up_to_place = u64::MAX >> (WORD - 1 - bit);
        let rank = self.sums.before(word) + (self.taken[word] & up_to_place).count_ones();
        self.taken[word] &= !(1 << bit);
        if word != (self.next / WORD) as usize {
            self.sums.decrement(word);
        }
        self.things - rank
    }

    fn take(&mut self, id: Id) {
        let (word, bit) = ((self.next / WORD) as usize, self.next % WORD);
        self.taken[word] |= 1 << bit;
        self.id_at_place[self.next as usize] = id;
        self.next += 1;
        if bit == WORD - 1 {
            self.sums.add(word, self.taken[word].count_ones());
        }
    }

    fn pack(&mut self) {
        let mut packed = 0;
        for word in 0..self.taken.len() {
            let mut bits = std::mem::take(&mut self.taken[word]);
            while bits != 0 {
                let place = word * WORD as usize + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let id = self.id_at_place[place];
                self.id_at_place[packed] = id;
                self.place_of_id[id as usize] = packed as u32;
                packed += 1;
            }
        }
        self.next = packed as u32;
        self.sums.0.fill(0);
        let (full, rest) = (packed / WORD as usize, self.next % WORD);
        self.taken[..full].fill(u64::MAX);
        self.taken[full] = (1 << rest) - 1;
        for word in 0..full {
            self.sums.add(word, WORD);
        }
    }
}

/// Sums of prefixes that change (Fenwick, 1994): each place has the sum of as
/// many places up to it as the lowest bit of its number, counted from 1, says.
struct Fenwick(Vec<u32>);

impl Fenwick {
    fn before(&self, end: usize) -> u32 {
        let mut sum = 0;
        let mut number = end;
        while let Some(value) = number.checked_sub(1).and_then(|place| self.0.get(place)) {
            sum += value;
            number &= number - 1;
        }
        sum
    }

    fn add(&mut self, place: usize, amount: u32) {
        self.change(place, |sum| sum + amount);
    }

    fn decrement(&mut self, place: usize) {
        self.change(place, |sum| sum - 1);
    }

    fn change(&mut self, place: usize, change: impl Fn(u32) -> u32) {
        let mut number = place + 1;
        while let Some(sum) = self.0.get_mut(number - 1) {
            *sum = change(*sum);
            number += number & number.wrapping_neg();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_the_number_of_others_since() {
        let all = Requests::of_keys([1, 2, 1, 3, 3, 2, 1]).unwrap();
        let mut stack = Stack::new(all.distinct);
        let distances: Vec<Option<u32>> = all.ids.iter().map(|id| stack.distance(*id)).collect();
        assert_eq!(
            distances,
            [None, None, Some(1), None, Some(0), Some(2), Some(2)]
        );
        let curve = Curve::exact(&all);
        let misses = [0, 1, 2, 3, 9].map(|capacity| (curve.miss_ratio(capacity) * 7.0).round());
        assert_eq!(misses, [7.0, 6.0, 5.0, 3.0, 3.0]);
    }

    #[test]
    fn a_sample_of_everything_is_exact() {
        let keys: Vec<u64> = (0..5_000_u64).map(|n| n * n % 997).collect();
        let exact = Curve::exact(&Requests::of_keys(keys.iter().copied()).unwrap());
        assert_eq!(Curve::sampled(keys.into_iter(), 1.0), Ok(exact));
    }
}
