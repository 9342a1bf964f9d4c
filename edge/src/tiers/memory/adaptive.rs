//! What stays when there is no room for all: at any time what the better one of
//! two policies would have.
//!
//! LRU is right about bursts and about loops that just fit; W-TinyLFU, which is
//! moka's idea, about popularity. Each has a directory here of what it would hold,
//! and sees all requests. Values stand aside, once, and the policy whose directory
//! had more of the requests of late says which of them go. So where one of the
//! two is bad, the other one is followed. What only a directory knows costs some
//! 100 bytes and no value.
//!
//! Knows hashes, weights, and until when a value is fresh, to compare the policies by
//! what they could have answered. Does not know keys, gives any value that it has,
//! and draws no lots: the same calls leave the same values.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::lists::{Id, List, Lists};
use super::sketch::Sketch;

/// In the lists of either policy: has a value, though the policy would not hold it.
const STRAY: List = 0;
/// LRU's only list.
const RECENT: List = 1;
/// W-TinyLFU's: what is new waits in a window; what falls out of it has to have
/// been asked for more often than what it would replace in the main region; and
/// what is asked for there again is protected from those that come.
const WINDOW: List = 1;
const PROBATION: List = 2;
const PROTECTED: List = 3;

const WINDOW_PERCENT: u64 = 15;
/// Of the main region.
const PROTECTED_PERCENT: u64 = 80;
/// Requests by which a policy must have got ahead of the other one to be followed:
/// enough not to run after chance, few enough to see a change soon.
const LEAD_MAX: usize = 20;
/// Of few things it is this part of them.
const LEAD_PERCENT: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leader {
    Lru,
    TinyLfu,
}

#[derive(Debug)]
struct Slot<V> {
    hash: u64,
    /// None: only a directory knows it.
    value: Option<V>,
    weight: u32,
    /// When the value is, or would be, too old.
    until_ms: u64,
}

/// Values by the hash of their keys, up to a weight.
///
/// A thing has a slot as long as it has a value or is in a directory; one with a
/// value is in one list of each policy.
#[derive(Debug)]
pub struct Adaptive<V> {
    weight_max: u64,
    weight: u64,
    ids: HashMap<u64, Id, BuildHasherDefault<Hashed>>,
    slots: Vec<Slot<V>>,
    unused: Vec<Id>,
    recency: Lists<4>,
    frequency: Lists<4>,
    sketch: Sketch,
    leader: Leader,
    /// Requests that LRU's directory had and W-TinyLFU's had not, less the others.
    lru_ahead: isize,
}

impl<V> Adaptive<V> {
    pub fn new(weight_max: u64) -> Self {
        Self {
            weight_max,
            weight: 0,
            ids: HashMap::default(),
            slots: Vec::new(),
            unused: Vec::new(),
            recency: Lists::new(),
            frequency: Lists::new(),
            sketch: Sketch::new(),
            // Nothing is popular yet.
            leader: Leader::Lru,
            lru_ahead: 0,
        }
    }

    /// What all values weigh.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    pub fn value(&self, hash: u64) -> Option<&V> {
        self.slot(*self.ids.get(&hash)?).value.as_ref()
    }

    /// Says that a value answered a request.
    pub fn touch(&mut self, hash: u64) {
        if let Some(&id) = self.ids.get(&hash) {
            self.compare(id);
            self.requested(id);
        }
    }

    /// Has a value, fresh until then, take the place of what was there. That was a
    /// request, too: one that had to be answered from elsewhere.
    pub fn insert(&mut self, hash: u64, value: V, weight: u32, (now_ms, until_ms): (u64, u64)) {
        let id = match self.ids.get(&hash) {
            Some(&id) => id,
            None => self.new_slot(hash),
        };
        // What is too old now, no policy could have answered with.
        if now_ms < self.slot(id).until_ms {
            self.compare(id);
        }
        self.drop_value(id);
        let slot = self.slot_mut(id);
        slot.value = Some(value);
        slot.weight = weight;
        slot.until_ms = until_ms;
        self.weight += u64::from(weight);
        self.requested(id);
    }

    pub fn remove(&mut self, hash: u64) {
        if let Some(&id) = self.ids.get(&hash) {
            self.drop_value(id);
            self.recency.take(id);
            self.frequency.take(id);
            self.drop_unknown(id);
        }
    }

    fn requested(&mut self, id: Id) {
        let Slot { hash, weight, .. } = *self.slot(id);
        self.sketch.add(hash);
        self.recency.put(id, RECENT, weight);
        match self.frequency.list(id) {
            Some(PROBATION | PROTECTED) => self.frequency.put(id, PROTECTED, weight),
            _ => self.frequency.put(id, WINDOW, weight),
        }
        self.shrink_recency();
        self.shrink_frequency();
        self.shrink_values();
    }

    /// Follows the policy whose directory had more of the requests of late.
    fn compare(&mut self, id: Id) {
        let had = |list: Option<List>| isize::from(list.is_some_and(|list| list != STRAY));
        let lead = (self.ids.len() * LEAD_PERCENT / 100).clamp(1, LEAD_MAX) as isize;
        self.lru_ahead += had(self.recency.list(id)) - had(self.frequency.list(id));
        self.lru_ahead = self.lru_ahead.clamp(-lead, lead);
        if self.lru_ahead == lead {
            self.leader = Leader::Lru;
        } else if self.lru_ahead == -lead {
            self.leader = Leader::TinyLfu;
        }
    }

    fn shrink_recency(&mut self) {
        while self.recency.weight(RECENT) > self.weight_max
            && let Some(oldest) = self.recency.oldest(RECENT)
        {
            self.leave(Leader::Lru, oldest);
        }
    }

    fn shrink_frequency(&mut self) {
        let window_max = self.weight_max * WINDOW_PERCENT / 100;
        let protected_max = (self.weight_max - window_max) * PROTECTED_PERCENT / 100;
        while self.frequency.weight(PROTECTED) > protected_max
            && let Some(oldest) = self.frequency.oldest(PROTECTED)
        {
            let weight = self.slot(oldest).weight;
            self.frequency.put(oldest, PROBATION, weight);
        }
        while self.frequency.weight(WINDOW) > window_max
            && let Some(oldest) = self.frequency.oldest(WINDOW)
        {
            self.ask_for_admission(oldest);
        }
        // Weights change.
        while self.main_excess(0) > 0
            && let Some(victim) = self.victim(None)
        {
            self.leave(Leader::TinyLfu, victim);
        }
    }

    /// What the main region would weigh more than the window leaves to it.
    fn main_excess(&self, candidate_weight: u32) -> u64 {
        let held = [WINDOW, PROBATION, PROTECTED].map(|list| self.frequency.weight(list));
        let wanted = held.iter().sum::<u64>() + u64::from(candidate_weight);
        wanted.saturating_sub(self.weight_max)
    }

    /// The next one that would have to leave the main region.
    fn victim(&self, after: Option<Id>) -> Option<Id> {
        let in_probation = match after {
            Some(victim) if self.frequency.list(victim) == Some(PROTECTED) => {
                return self.frequency.newer(victim);
            }
            Some(victim) => self.frequency.newer(victim),
            None => self.frequency.oldest(PROBATION),
        };
        in_probation.or_else(|| self.frequency.oldest(PROTECTED))
    }

    /// From the window into the main region, if it was asked for more often than
    /// all together that have to go for it.
    fn ask_for_admission(&mut self, candidate: Id) {
        let weight = self.slot(candidate).weight;
        self.frequency.take(candidate);
        if !self.is_worth_its_victims(candidate) {
            return self.leave(Leader::TinyLfu, candidate);
        }
        while self.main_excess(weight) > 0
            && let Some(victim) = self.victim(None)
        {
            self.leave(Leader::TinyLfu, victim);
        }
        self.frequency.put(candidate, PROBATION, weight);
    }

    fn is_worth_its_victims(&self, candidate: Id) -> bool {
        let requests = |id| self.sketch.count(self.slot(id).hash);
        let excess = self.main_excess(self.slot(candidate).weight);
        let (mut freed, mut lost) = (0, 0);
        let mut victim = None;
        while freed < excess {
            victim = self.victim(victim);
            let Some(victim) = victim else {
                return false;
            };
            freed += u64::from(self.slot(victim).weight);
            lost += requests(victim);
            if lost >= requests(candidate) {
                return false;
            }
        }
        true
    }

    /// Values go that the leader would not hold.
    fn shrink_values(&mut self) {
        while self.weight > self.weight_max
            && let Some(stray) = self.directory(self.leader).oldest(STRAY)
        {
            self.drop_value(stray);
            for policy in [Leader::Lru, Leader::TinyLfu] {
                if self.directory(policy).list(stray) == Some(STRAY) {
                    self.directory_mut(policy).take(stray);
                }
            }
            self.drop_unknown(stray);
        }
    }

    /// A policy would not hold it any more.
    fn leave(&mut self, policy: Leader, id: Id) {
        let Slot { value, weight, .. } = self.slot(id);
        let (is_kept, weight) = (value.is_some(), *weight);
        if is_kept {
            self.directory_mut(policy).put(id, STRAY, weight);
        } else {
            self.directory_mut(policy).take(id);
            self.drop_unknown(id);
        }
    }

    fn directory(&self, policy: Leader) -> &Lists<4> {
        match policy {
            Leader::Lru => &self.recency,
            Leader::TinyLfu => &self.frequency,
        }
    }

    fn directory_mut(&mut self, policy: Leader) -> &mut Lists<4> {
        match policy {
            Leader::Lru => &mut self.recency,
            Leader::TinyLfu => &mut self.frequency,
        }
    }

    fn drop_value(&mut self, id: Id) {
        let slot = self.slot_mut(id);
        if slot.value.take().is_some() {
            let weight = slot.weight;
            self.weight -= u64::from(weight);
        }
    }

    /// Gives up the slot of a thing that is in no list.
    fn drop_unknown(&mut self, id: Id) {
        if self.recency.list(id).is_none() && self.frequency.list(id).is_none() {
            let hash = self.slot(id).hash;
            self.ids.remove(&hash);
            self.unused.push(id);
        }
    }

    fn new_slot(&mut self, hash: u64) -> Id {
        let slot = Slot {
            hash,
            value: None,
            weight: 0,
            until_ms: 0,
        };
        let id = match self.unused.pop() {
            Some(id) => {
                *self.slot_mut(id) = slot;
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as Id
            }
        };
        self.ids.insert(hash, id);
        self.sketch.reserve(self.ids.len());
        id
    }

    // Ids come out of our own map and lists.
    #[allow(clippy::indexing_slicing)]
    fn slot(&self, id: Id) -> &Slot<V> {
        &self.slots[id as usize]
    }

    #[allow(clippy::indexing_slicing)]
    fn slot_mut(&mut self, id: Id) -> &mut Slot<V> {
        &mut self.slots[id as usize]
    }
}

/// Of what is a hash already.
#[derive(Debug, Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only whole hashes come, by `write_u64`; any other is as good as its bytes.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const WEIGHT_MAX: u64 = 100;
    const EVER: (u64, u64) = (0, u64::MAX);

    #[derive(Debug, Clone)]
    enum Call {
        Request(u64),
        Insert(u64, u32),
        Remove(u64),
    }

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        let hash = prop_oneof![0..8_u64, 0..40_u64, 0..400_u64];
        let hash = hash.prop_map(|thing| thing.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let call = prop_oneof![
            4 => hash.clone().prop_map(Call::Request),
            4 => (hash.clone(), 1..=12_u32).prop_map(|(hash, weight)| Call::Insert(hash, weight)),
            1 => (hash.clone(), 13..=120_u32).prop_map(|(hash, weight)| Call::Insert(hash, weight)),
            1 => hash.prop_map(Call::Remove),
        ];
        vec(call, 0..400)
    }

    impl<V> Adaptive<V> {
        /// What must hold between calls.
        fn check(&self) {
            assert!(self.weight <= self.weight_max);
            assert!(self.recency.weight(RECENT) <= self.weight_max);
            assert_eq!(self.main_excess(0), 0);
            assert_eq!(self.ids.len() + self.unused.len(), self.slots.len());
            let mut weight = 0;
            for (hash, id) in &self.ids {
                let slot = self.slot(*id);
                assert_eq!(slot.hash, *hash);
                let lists = [self.recency.list(*id), self.frequency.list(*id)];
                if slot.value.is_some() {
                    weight += u64::from(slot.weight);
                    assert!(lists[0].is_some() && lists[1].is_some());
                } else {
                    assert!(lists.iter().any(Option::is_some));
                    assert!(!lists.contains(&Some(STRAY)));
                }
            }
            assert_eq!(weight, self.weight);
            for directory in [&self.recency, &self.frequency] {
                for list in [STRAY, WINDOW, PROBATION, PROTECTED] {
                    let mut sum = 0;
                    let mut next = directory.oldest(list);
                    while let Some(id) = next {
                        assert_eq!(directory.list(id), Some(list));
                        sum += u64::from(self.slot(id).weight);
                        next = directory.newer(id);
                    }
                    assert_eq!(sum, directory.weight(list));
                }
            }
            for id in &self.unused {
                assert!(self.slot(*id).value.is_none());
                assert_eq!(self.recency.list(*id), None);
                assert_eq!(self.frequency.list(*id), None);
            }
        }
    }

    proptest! {
        #[test]
        fn it_has_what_was_inserted_last_or_nothing(calls in calls()) {
            let mut cache = Adaptive::new(WEIGHT_MAX);
            let mut last = HashMap::new();
            for (number, call) in calls.iter().enumerate() {
                match *call {
                    Call::Request(hash) => {
                        let found = cache.value(hash);
                        prop_assert!(found.is_none() || found == last.get(&hash));
                        cache.touch(hash);
                    }
                    Call::Insert(hash, weight) => {
                        cache.insert(hash, number, weight, (number as u64, number as u64 + 50));
                        last.insert(hash, number);
                        if u64::from(weight) * 100 <= WEIGHT_MAX * WINDOW_PERCENT {
                            prop_assert_eq!(cache.value(hash), Some(&number));
                        }
                    }
                    Call::Remove(hash) => {
                        cache.remove(hash);
                        last.remove(&hash);
                        prop_assert!(cache.value(hash).is_none());
                    }
                }
                cache.check();
            }
        }

        #[test]
        fn with_room_for_all_it_keeps_all(things in vec(0..60_u64, 0..300)) {
            let mut cache = Adaptive::new(60);
            for thing in &things {
                match cache.value(*thing) {
                    Some(_) => cache.touch(*thing),
                    None => cache.insert(*thing, *thing, 1, EVER),
                }
            }
            prop_assert!(things.iter().all(|thing| cache.value(*thing) == Some(thing)));
        }
    }

    /// Requests of which it had none.
    fn misses(cache: &mut Adaptive<()>, things: impl Iterator<Item = u64>) -> usize {
        let missed = |thing: &u64| {
            let hash = thing.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let is_miss = cache.value(hash).is_none();
            match is_miss {
                true => cache.insert(hash, (), 1, EVER),
                false => cache.touch(hash),
            }
            is_miss
        };
        things.filter(missed).count()
    }

    #[test]
    fn it_follows_the_one_that_is_better() {
        let mut cache = Adaptive::new(100);
        // A hundred popular things, each asked for after one that never comes again.
        let popular = |n: u64| {
            if n.is_multiple_of(2) {
                n / 2 % 100
            } else {
                1_000 + n
            }
        };
        misses(&mut cache, (0..20_000).map(popular));
        assert_eq!(cache.leader, Leader::TinyLfu);
        assert!(misses(&mut cache, (20_000..30_000).map(popular)) < 7_000);
        // Each thing a few times, then never again, with many others meanwhile.
        let bursts = |n: u64| 1_000_000 + n / 300 * 100 + n % 90;
        misses(&mut cache, (0..10_000).map(bursts));
        assert_eq!(cache.leader, Leader::Lru);
        let count = misses(&mut cache, (10_000..20_000).map(bursts));
        assert!(count < 3_500, "{count}");
    }
}
