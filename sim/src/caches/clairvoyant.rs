//! Belady's optimum: what is needed again last goes first. No policy that must
//! let in what it missed can have fewer misses.
//!
//! What is in the cache is told apart by *when it is needed next*, and no two
//! things are needed at the same moment. So the cache is a set of moments: a
//! request hits if its own moment is in the set, and the victim is the latest
//! moment. A bitmap with summaries does both in a few steps and needs neither
//! a heap nor the ids.

use super::{Cache, Id};

/// Of a thing that is not asked for again.
const NEVER: u32 = u32::MAX;

/// For each request, when the same thing is asked for next.
pub fn next_uses(ids: &[Id], distinct: u32) -> Vec<u32> {
    let mut next_of_id = vec![NEVER; distinct as usize];
    let mut next = vec![NEVER; ids.len()];
    for (now, (id, next)) in ids.iter().zip(&mut next).enumerate().rev() {
        if let Some(next_of_id) = next_of_id.get_mut(*id as usize) {
            *next = std::mem::replace(next_of_id, now as u32);
        }
    }
    next
}

/// The optimum for one trace: it has to be asked in the order of `next_uses`.
#[derive(Debug, Clone)]
pub struct Clairvoyant<'a> {
    next_uses: &'a [u32],
    now: u32,
    foresight: Foresight,
}

impl<'a> Clairvoyant<'a> {
    pub fn new(capacity: u32, next_uses: &'a [u32]) -> Self {
        Self {
            next_uses,
            now: 0,
            foresight: Foresight::new(capacity, next_uses.len()),
        }
    }
}

impl Cache for Clairvoyant<'_> {
    fn access(&mut self, _: Id) -> bool {
        let Some(&next) = self.next_uses.get(self.now as usize) else {
            return false;
        };
        self.now += 1;
        self.foresight.access(self.now - 1, next)
    }
}

/// The optimum for requests that say their own moment and the next one for the same
/// thing, in the order of [`next_uses`] or nearly.
#[derive(Debug, Clone)]
pub struct Foresight {
    needed: Moments,
    /// In the cache, though never needed again.
    dead: u32,
    free: u32,
}

impl Foresight {
    /// Of so many requests.
    pub fn new(capacity: u32, requests: usize) -> Self {
        Self {
            needed: Moments::before(requests),
            dead: 0,
            free: capacity,
        }
    }

    /// Whether the thing was there, which is needed now and then.
    pub fn access(&mut self, now: u32, next: u32) -> bool {
        let is_hit = self.needed.remove(now);
        if is_hit {
        } else if self.free > 0 {
            self.free -= 1;
        } else if self.dead > 0 {
            self.dead -= 1;
        } else {
            self.needed.remove_latest();
        }
        if next == NEVER {
            self.dead += 1;
        } else {
            self.needed.insert(next);
        }
        is_hit
    }
}

/// Bits of a word.
const WORD: usize = u64::BITS as usize;
/// Enough for 2³² moments: 64⁶ = 2³⁶.
const LEVELS_MAX: usize = 6;

/// A set of moments: a bit for each, above it a bit for each word that is not
/// zero, and so on up to a single word.
#[derive(Debug, Clone)]
struct Moments {
    /// The widest comes first.
    levels: Vec<Vec<u64>>,
}

impl Moments {
    fn before(end: usize) -> Self {
        let mut levels = Vec::with_capacity(LEVELS_MAX);
        let mut bits = end;
        loop {
            let words = bits.div_ceil(WORD).max(1);
            levels.push(vec![0; words]);
            if words == 1 {
                return Self { levels };
            }
            bits = words;
        }
    }

    fn insert(&mut self, moment: u32) {
        let mut place = moment as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(place / WORD) else {
                return;
            };
            let was_empty = *word == 0;
            *word |= 1 << (place % WORD);
            if !was_empty {
                return;
            }
            place /= WORD;
        }
    }

    /// Whether it was in.
    fn remove(&mut self, moment: u32) -> bool {
        let mut place = moment as usize;
        let mut was_in = false;
        for (height, level) in self.levels.iter_mut().enumerate() {
            let Some(word) = level.get_mut(place / WORD) else {
                break;
            };
            let bit = 1 << (place % WORD);
            if height == 0 {
                was_in = *word & bit != 0;
            }
            *word &= !bit;
            if *word != 0 || !was_in {
                break;
            }
            place /= WORD;
        }
        was_in
    }

    fn remove_latest(&mut self) {
        let mut place = 0;
        for level in self.levels.iter().rev() {
            let word = level.get(place).copied().unwrap_or_default();
            let Some(highest) = word.checked_ilog2() else {
                return;
            };
            place = place * WORD + highest as usize;
        }
        self.remove(place as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_uses_are_the_next_requests_for_the_same() {
        assert_eq!(next_uses(&[0, 1, 0, 0, 2], 3), [2, NEVER, 3, NEVER, NEVER]);
    }

    #[test]
    fn moments_are_a_set_with_a_latest() {
        let mut moments = Moments::before(300_000);
        for moment in [3, 299_999, 64, 70_000] {
            moments.insert(moment);
        }
        assert!(moments.remove(64) && !moments.remove(64));
        moments.remove_latest();
        assert!(!moments.remove(299_999));
        moments.remove_latest();
        assert!(moments.remove(3) && !moments.remove(70_000));
        moments.remove_latest();
    }
}
