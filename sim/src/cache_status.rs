//! Reads from `Cache-Status` (RFC 9211) which tier answered.

use sfv::{BareItem, List, ListEntry, Parser};

/// The tier that an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    L1,
    L2,
    /// No cache had it: the origin, which is PostgreSQL.
    L3,
}

/// The tier that answered; none when the header is missing, malformed or about
/// other caches.
pub fn tier(header: &str) -> Option<Tier> {
    let caches: List = Parser::new(header).parse().ok()?;
    let mut named = false;
    let mut answered = Tier::L3;
    for cache in &caches {
        let ListEntry::Item(cache) = cache else {
            return None;
        };
        let tier = match name(&cache.bare_item)? {
            "L1" => Tier::L1,
            "L2" => Tier::L2,
            _ => continue,
        };
        named = true;
        if cache.params.get("hit") == Some(&BareItem::Boolean(true)) {
            answered = tier;
        }
    }
    named.then_some(answered)
}

fn name(item: &BareItem) -> Option<&str> {
    match item {
        BareItem::Token(name) => Some(name.as_str()),
        BareItem::String(name) => Some(name.as_str()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_that_hit_is_the_tier_that_answered() {
        assert_eq!(tier("L1; hit; ttl=4"), Some(Tier::L1));
        assert_eq!(
            tier("L2; hit; ttl=1800, L1; fwd=uri-miss; stored"),
            Some(Tier::L2)
        );
        assert_eq!(
            tier("\"L2\"; fwd=stale; stored, L1; fwd=uri-miss"),
            Some(Tier::L3)
        );
        assert_eq!(tier("L1; hit=?0"), Some(Tier::L3));
    }

    #[test]
    fn other_caches_and_nonsense_tell_nothing() {
        assert_eq!(tier("ExampleCDN; hit"), None);
        assert_eq!(tier("L1; hit="), None);
        assert_eq!(tier(""), None);
        assert_eq!(
            tier("ExampleCDN; hit, L2; hit, L1; fwd=uri-miss"),
            Some(Tier::L2)
        );
    }
}
