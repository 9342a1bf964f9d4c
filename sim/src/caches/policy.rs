//! All policies by name.

use edge::tiers::memory::L1Policy;

use super::{
    Cache, Clairvoyant, EdgeL1, Id, Lru, MiniMoka, Moka, QuickCache, Requests, S3Fifo, Sieve,
    Unbounded, hits,
};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    Lru,
    Sieve,
    #[value(name = "s3-fifo")]
    S3Fifo,
    QuickCache,
    Moka,
    MiniMoka,
    /// As it is by default
    #[value(name = "edge")]
    EdgeL1,
    /// With L1_POLICY=moka
    #[value(name = "edge-moka")]
    EdgeL1Moka,
    /// The optimum: knows what each isolate will be asked for
    Clairvoyant,
    Unbounded,
}

impl Policy {
    /// The bounds come last.
    pub const ALL: [Self; 10] = [
        Self::Lru,
        Self::Sieve,
        Self::S3Fifo,
        Self::QuickCache,
        Self::Moka,
        Self::MiniMoka,
        Self::EdgeL1,
        Self::EdgeL1Moka,
        Self::Clairvoyant,
        Self::Unbounded,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Lru => "LRU",
            Self::Sieve => "SIEVE",
            Self::S3Fifo => "S3-FIFO",
            Self::QuickCache => "quick_cache",
            Self::Moka => "moka",
            Self::MiniMoka => "mini-moka",
            Self::EdgeL1 => "edge L1",
            Self::EdgeL1Moka => "edge L1, moka",
            Self::Clairvoyant => "clairvoyant",
            Self::Unbounded => "unbounded",
        }
    }

    /// One of so many entries; none of the clairvoyant, which needs to be told the
    /// future.
    pub fn cache(self, capacity: u32, distinct: u32) -> Option<Box<dyn Cache>> {
        Some(match self {
            Self::Clairvoyant => return None,
            Self::Unbounded => Box::new(Unbounded::new(distinct)),
            _ if capacity == 0 => Box::new(Nothing),
            Self::Lru => Box::new(Lru::new(capacity, distinct)),
            Self::Sieve => Box::new(Sieve::new(capacity, distinct)),
            Self::S3Fifo => Box::new(S3Fifo::new(capacity, distinct)),
            Self::QuickCache => Box::new(QuickCache::new(capacity)),
            Self::Moka => Box::new(Moka::new(capacity)),
            Self::MiniMoka => Box::new(MiniMoka::new(capacity)),
            Self::EdgeL1 => Box::new(EdgeL1::new(L1Policy::Adaptive, capacity)),
            Self::EdgeL1Moka => Box::new(EdgeL1::new(L1Policy::Moka, capacity)),
        })
    }

    /// Hits of a cache of so many entries. The clairvoyant one needs to be told
    /// the future ([`super::clairvoyant::next_uses`]), others do not look at it.
    pub fn hits(self, capacity: u32, all: &Requests, next_uses: &[u32]) -> u64 {
        let (ids, distinct) = (&all.ids, all.distinct);
        match self {
            Self::Unbounded => hits(&mut Unbounded::new(distinct), ids),
            _ if capacity == 0 => 0,
            Self::Lru => hits(&mut Lru::new(capacity, distinct), ids),
            Self::Sieve => hits(&mut Sieve::new(capacity, distinct), ids),
            Self::S3Fifo => hits(&mut S3Fifo::new(capacity, distinct), ids),
            Self::QuickCache => hits(&mut QuickCache::new(capacity), ids),
            Self::Moka => hits(&mut Moka::new(capacity), ids),
            Self::MiniMoka => hits(&mut MiniMoka::new(capacity), ids),
            Self::EdgeL1 => hits(&mut EdgeL1::new(L1Policy::Adaptive, capacity), ids),
            Self::EdgeL1Moka => hits(&mut EdgeL1::new(L1Policy::Moka, capacity), ids),
            Self::Clairvoyant => hits(&mut Clairvoyant::new(capacity, next_uses), ids),
        }
    }
}

/// Without room, which not every policy can be asked for.
struct Nothing;

impl Cache for Nothing {
    fn access(&mut self, _: Id) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_room_nothing_hits() {
        let all = Requests::of_keys([1, 1, 2, 1, 2, 2, 2, 1]).unwrap();
        let next_uses = super::super::clairvoyant::next_uses(&all.ids, all.distinct);
        for policy in Policy::ALL {
            if policy == Policy::Unbounded {
                continue;
            }
            assert_eq!(policy.hits(0, &all, &next_uses), 0, "{}", policy.name());
            if let Some(mut cache) = policy.cache(0, all.distinct) {
                assert_eq!(all.ids.iter().filter(|id| cache.access(**id)).count(), 0);
            }
        }
    }
}
