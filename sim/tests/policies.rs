//! What must hold for the policies on any trace, and that the drivers of the
//! libraries change nothing about them.

// Helpers of a test may stop it as the test itself may.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]

use std::hash::{BuildHasherDefault, DefaultHasher};

use edge::tiers::memory::L1Policy;
use proptest::collection::vec;
use proptest::prelude::*;
use sim::caches::{
    Cache, Clairvoyant, ENTRY_BYTES, EdgeL1, Id, Lru, MiniMoka, Moka, QuickCache, Requests, S3Fifo,
    Sieve, Unbounded, clairvoyant, hits,
};

/// The obvious way: a list of ids, the most recent one last.
struct NaiveLru {
    capacity: usize,
    recent: Vec<Id>,
}

impl Cache for NaiveLru {
    fn access(&mut self, id: Id) -> bool {
        let place = self.recent.iter().position(|other| *other == id);
        if let Some(place) = place {
            self.recent.remove(place);
        } else if self.recent.len() == self.capacity {
            self.recent.remove(0);
        }
        self.recent.push(id);
        place.is_some()
    }
}

/// The obvious way: a list of ids with when they are needed next.
fn naive_optimum(capacity: usize, ids: &[Id]) -> u64 {
    let mut held: Vec<Id> = Vec::new();
    let mut hits = 0;
    for (now, id) in ids.iter().enumerate() {
        if held.contains(id) {
            hits += 1;
            continue;
        }
        if held.len() == capacity {
            let next = |held: &Id| ids[now..].iter().position(|id| id == held);
            let last =
                (0..held.len()).max_by_key(|place| next(&held[*place]).unwrap_or(usize::MAX));
            held.swap_remove(last.unwrap());
        }
        held.push(*id);
    }
    hits
}

/// Requests with a few popular things among many, and a capacity.
fn traces() -> impl Strategy<Value = (Requests, u32)> {
    let key = prop_oneof![3 => 0..8_u64, 2 => 0..64_u64, 1 => 0..1000_u64];
    (vec(key, 1..600), 1..70_u32).prop_map(|(keys, capacity)| {
        let requests = Requests::of_keys(keys).expect("they are few");
        (requests, capacity)
    })
}

proptest! {
    #[test]
    fn lru_does_what_a_naive_one_does((all, capacity) in traces()) {
        let mut naive = NaiveLru { capacity: capacity as usize, recent: Vec::new() };
        let mut lru = Lru::new(capacity, all.distinct);
        for id in &all.ids {
            prop_assert_eq!(lru.access(*id), naive.access(*id));
        }
    }

    #[test]
    fn clairvoyance_is_what_a_naive_search_finds((all, capacity) in traces()) {
        let next_uses = clairvoyant::next_uses(&all.ids, all.distinct);
        let found = hits(&mut Clairvoyant::new(capacity, &next_uses), &all.ids);
        prop_assert_eq!(found, naive_optimum(capacity as usize, &all.ids));
    }

    #[test]
    fn nothing_beats_the_bounds((all, capacity) in traces()) {
        let next_uses = clairvoyant::next_uses(&all.ids, all.distinct);
        let optimum = |capacity| hits(&mut Clairvoyant::new(capacity, &next_uses), &all.ids);
        let unbounded = hits(&mut Unbounded::new(all.distinct), &all.ids);
        prop_assert_eq!(unbounded, all.ids.len() as u64 - u64::from(all.distinct));
        prop_assert!(optimum(capacity) <= unbounded);
        let mut letting_in: [(&str, Box<dyn Cache>); 4] = [
            ("LRU", Box::new(Lru::new(capacity, all.distinct))),
            ("SIEVE", Box::new(Sieve::new(capacity, all.distinct))),
            ("S3-FIFO", Box::new(S3Fifo::new(capacity, all.distinct))),
            ("quick_cache", Box::new(QuickCache::new(capacity))),
        ];
        for (name, cache) in &mut letting_in {
            let found: u64 = all.ids.iter().map(|id| u64::from(cache.access(*id))).sum();
            prop_assert!(found <= optimum(capacity), "{}: {} of {}", name, found, optimum(capacity));
        }
        // What need not let in what it missed is as if it had one place more.
        let mut choosing: [(&str, Box<dyn Cache>); 4] = [
            ("moka", Box::new(Moka::new(capacity))),
            ("mini-moka", Box::new(MiniMoka::new(capacity))),
            ("the edge's L1", Box::new(EdgeL1::new(L1Policy::Adaptive, capacity))),
            ("the edge's L1 with moka", Box::new(EdgeL1::new(L1Policy::Moka, capacity))),
        ];
        for (name, cache) in &mut choosing {
            let found: u64 = all.ids.iter().map(|id| u64::from(cache.access(*id))).sum();
            prop_assert!(found <= optimum(capacity + 1), "{}: {} of {}", name, found, optimum(capacity + 1));
        }
    }

    #[test]
    fn with_room_for_all_every_policy_is_unbounded((all, _) in traces()) {
        let room = all.distinct.max(8);
        let expected = hits(&mut Unbounded::new(all.distinct), &all.ids);
        prop_assert_eq!(hits(&mut Lru::new(room, all.distinct), &all.ids), expected);
        prop_assert_eq!(hits(&mut Sieve::new(room, all.distinct), &all.ids), expected);
        prop_assert_eq!(hits(&mut S3Fifo::new(room, all.distinct), &all.ids), expected);
        prop_assert_eq!(hits(&mut Moka::new(room), &all.ids), expected);
        for policy in [L1Policy::Adaptive, L1Policy::Moka] {
            prop_assert_eq!(hits(&mut EdgeL1::new(policy, room), &all.ids), expected);
        }
    }
}

/// With moka the edge's L1 is the library, asked as the tiers ask: twice before a fill.
#[test]
fn the_l1_with_moka_is_the_bare_library_hit_for_hit() {
    const CAPACITY: u32 = 500;
    const WEIGHT: u32 = ENTRY_BYTES as u32;
    let trace = sim::trace::excerpt().unwrap();
    let all = Requests::of_trace(&trace).unwrap();
    let mut bare = mini_moka::unsync::Cache::builder()
        .max_capacity(u64::from(CAPACITY * WEIGHT))
        .weigher(|_: &String, (): &()| WEIGHT)
        .build_with_hasher(BuildHasherDefault::<DefaultHasher>::default());
    let mut l1 = EdgeL1::new(L1Policy::Moka, CAPACITY);
    for (number, id) in all.ids.iter().enumerate() {
        let key = format!("{id:08x}");
        let is_hit = bare.get(&key).is_some();
        if !is_hit {
            bare.get(&key);
            bare.insert(key, ());
        }
        assert_eq!(l1.access(*id), is_hit, "request {number}");
    }
}
