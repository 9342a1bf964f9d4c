//! Gives recorded keys a meaning, in one of two ways.
//!
//! - A key is a shopper ([`traffic`]): each request becomes a visit, of which the
//!   operations are drawn in the proportions of [`MIX`]. What is the recording's is
//!   the order, the times, and how often each shopper comes. PostgreSQL is only
//!   read, so that the traffic may be fired at stores of one's own.
//! - A key is a thing ([`things`]): each request becomes one request for it, and a
//!   write stays a write. What is drawn is only the type of the thing, where its
//!   TTL does not tell.
//!
//! Every Valkey key begins with `replay-` after its type.

use std::collections::HashMap;

use clap::ValueEnum;
use edge::policy::Kind;
use rustc_hash::FxBuildHasher;

use super::call::{own_query, taste};
use super::{Request, Traffic};
use crate::dice::Dice;
use crate::operation::{Effect, Operation};
use crate::{sample, trace};

/// What a recorded key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Meaning {
    /// A thing of one type, by its TTL where that was recorded: one request each, writes stay writes
    Thing,
    /// A shopper: each request becomes a visit, such as a whole voice query, and nothing is written to PostgreSQL
    Shopper,
}

const SEED: u64 = 424;
/// Among so many visits there is one request that no tier is asked for.
const FLOOR_EVERY: usize = 10;

/// Of 100 visits, how many are of which kind. A voice query is six requests, so
/// of the requests about seven in ten belong to one.
const MIX: [(u32, Operation); 7] = [
    (30, Operation::VoiceQuery),
    (22, Operation::Products),
    (14, Operation::Profile),
    (12, Operation::Session),
    (9, Operation::Recommendations),
    (8, Operation::Preferences),
    (5, Operation::Orders),
];

/// The flow of the integration guide, for a shopper with everything in place.
pub(super) const VOICE_QUERY: [Operation; 6] = [
    Operation::Session,
    Operation::Conversation,
    Operation::Preferences,
    Operation::Recommendations,
    Operation::Products,
    Operation::StoreContext,
];

/// Of 100 things that are read and never written, how many are of which kind.
const READ_ONLY: [(u32, Operation); 8] = [
    (35, Operation::Products),
    (15, Operation::Session),
    (12, Operation::Profile),
    (10, Operation::Preferences),
    (10, Operation::Recommendations),
    (8, Operation::Conversation),
    (7, Operation::Orders),
    (3, Operation::Generic),
];

/// The integration guide's TTLs, in s.
const TTLS: [(u32, Kind); 3] = [
    (1_800, Kind::Recommendations),
    (3_600, Kind::Preferences),
    (86_400, Kind::Session),
];

/// All of a trace, with keys that mean this.
pub fn with_meaning(trace: &trace::Trace, meaning: Meaning) -> Traffic {
    let mut mapped = match meaning {
        Meaning::Thing => things(&trace.requests),
        Meaning::Shopper => traffic(&trace.requests, usize::MAX),
    };
    mapped.oddities = trace.oddities.clone();
    mapped
}

/// What a recording does to a key.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    is_written: bool,
    is_deleted: bool,
    ttl_s: Option<u32>,
}

/// Maps each recorded request to one of the thing that its key is.
pub fn things(trace: &[trace::Request]) -> Traffic {
    let mut uses: HashMap<u64, Use, FxBuildHasher> = HashMap::default();
    for recorded in trace {
        let used = uses.entry(recorded.key).or_default();
        used.is_written |= recorded.operation == trace::Operation::Write;
        used.is_deleted |= recorded.operation == trace::Operation::Delete;
        used.ttl_s = used.ttl_s.or(recorded.ttl_s);
    }
    let mut traffic = Traffic::default();
    for recorded in trace {
        let used = uses.get(&recorded.key).copied().unwrap_or_default();
        let kind = kind(used, recorded.key);
        let operation = operation(kind, recorded.operation);
        let key = match kind {
            Kind::Products => own_query(&shopper_id(recorded.key)),
            _ => shopper_id(recorded.key),
        };
        let request = Request {
            size_bytes: recorded.size_bytes,
            client: traffic.clients.number(&shopper_id(recorded.key)),
            ..Request::new(recorded.time_ms, operation, traffic.keys.number(&key))
        };
        traffic.push(request);
    }
    traffic
}

/// Only what is done to a key, and for how long it is kept, can tell what it is.
fn kind(used: Use, key: u64) -> Kind {
    let mut dice = Dice::seeded(SEED ^ key);
    match used.ttl_s {
        // The API deletes sessions and other keys.
        Some(ttl_s) if used.is_deleted => match nearest(ttl_s) {
            Kind::Session => Kind::Session,
            _ => Kind::Generic,
        },
        Some(ttl_s) => match nearest(ttl_s) {
            Kind::Preferences if dice.below(2) == 0 => Kind::Conversation,
            kind => kind,
        },
        None if used.is_deleted => Kind::Generic,
        None if used.is_written => dice.choose(&[Kind::Profile, Kind::Generic]),
        None => drawn(&READ_ONLY, &mut dice).kind().unwrap_or(Kind::Generic),
    }
}

/// By ratio: 2,000 s are nearer to 1,800 s than 1,000 s are.
fn nearest(ttl_s: u32) -> Kind {
    let ratio = |known_s: u32| {
        let (low, high) = (ttl_s.min(known_s).max(1), ttl_s.max(known_s));
        f64::from(high) / f64::from(low)
    };
    TTLS.into_iter()
        .min_by(|(one_s, _), (other_s, _)| ratio(*one_s).total_cmp(&ratio(*other_s)))
        .map_or(Kind::Generic, |(_, kind)| kind)
}

/// What does this to things of this kind.
fn operation(kind: Kind, recorded: trace::Operation) -> Operation {
    let effect = match recorded {
        trace::Operation::Read => Effect::Read,
        trace::Operation::Write => Effect::Write,
        trace::Operation::Delete => Effect::Delete,
    };
    Operation::ALL
        .into_iter()
        .find(|operation| operation.kind() == Some(kind) && operation.effect() == effect)
        .unwrap_or(Operation::Generic)
}

/// Maps the first `visits` recorded requests to visits of shoppers.
pub fn traffic(trace: &[trace::Request], visits: usize) -> Traffic {
    let mut dice = Dice::seeded(SEED);
    let mut traffic = Traffic::default();
    let mut flows = 0;
    for (index, recorded) in trace.iter().take(visits).enumerate() {
        let shopper = recorded.key;
        let mut push = |operation, flow| {
            let request = Request {
                flow,
                client: traffic.clients.number(&shopper_id(shopper)),
                ..Request::new(recorded.time_ms, operation, {
                    traffic.keys.number(&key(operation, shopper))
                })
            };
            traffic.push(request);
        };
        if index.is_multiple_of(FLOOR_EVERY) {
            push(Operation::Floor, 0);
        }
        match drawn(&MIX, &mut dice) {
            Operation::VoiceQuery => {
                flows += 1;
                VOICE_QUERY
                    .into_iter()
                    .for_each(|operation| push(operation, flows));
            }
            // One visit in four that looks at a session prolongs it.
            Operation::Session if dice.below(4) == 0 => push(Operation::TouchSession, 0),
            operation => push(operation, 0),
        }
    }
    traffic
}

/// One of a mix, by its share.
pub(super) fn drawn(mix: &[(u32, Operation)], dice: &mut Dice) -> Operation {
    let mut drawn = dice.below(mix.iter().map(|(share, _)| share).sum());
    for (share, operation) in mix {
        if drawn < *share {
            return *operation;
        }
        drawn -= share;
    }
    Operation::VoiceQuery
}

fn key(operation: Operation, shopper: u64) -> String {
    match operation {
        Operation::Products => taste(shopper),
        Operation::Profile | Operation::Orders => sample::user_id(shopper),
        // Asked for by an existing client, and served by nobody, by contract.
        Operation::Floor => String::new(),
        _ => shopper_id(shopper),
    }
}

fn shopper_id(shopper: u64) -> String {
    format!("replay-{shopper}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::call::{self, Call};

    fn trace() -> Vec<trace::Request> {
        (0..2000)
            .map(|index| trace::Request::read(index, index % 300))
            .collect()
    }

    #[test]
    fn it_is_the_same_every_time_and_keeps_the_recordings_order() {
        let mapped = traffic(&trace(), 1000);
        assert_eq!(mapped, traffic(&trace(), 1000));
        assert!(mapped.requests.is_sorted_by_key(|request| request.time_ms));
        assert_eq!(mapped.duration_ms(), 999);
        assert_eq!(traffic(&trace(), 9999).duration_ms(), 1999);
    }

    #[test]
    fn the_proportions_are_those_of_the_mix() {
        let mapped = traffic(&trace(), 2000);
        let count = |operation| {
            let all = mapped.requests.iter();
            all.filter(|request| request.operation == operation).count()
        };
        let flows = count(Operation::StoreContext);
        assert!((550..650).contains(&flows), "{flows} of 2000 visits");
        assert_eq!(flows, count(Operation::Conversation));
        assert!(count(Operation::TouchSession) > 20);
        assert_eq!(count(Operation::Floor), 200);
    }

    #[test]
    fn postgresql_is_only_read_and_valkey_keys_are_our_own() {
        let mapped = traffic(&trace(), 500);
        for request in &mapped.requests {
            let target = Call::of(&mapped, request, 0).target;
            if request.operation.has_l3() {
                assert_eq!(request.operation.effect(), Effect::Read, "{target}");
            } else if request.operation != Operation::Floor {
                assert!(target.contains("/replay-"), "{target}");
            }
        }
        for thing in call::stored(&mapped) {
            if let Some(key) = thing.valkey_key() {
                assert!(key.contains(":replay-"), "{key}");
            }
        }
    }

    #[test]
    fn a_things_type_is_what_its_ttl_and_its_writes_tell() {
        let request = |key, operation, ttl_s| trace::Request {
            operation,
            ttl_s,
            ..trace::Request::read(key, key)
        };
        use trace::Operation::{Delete, Read, Write};
        let trace = [
            request(1, Write, Some(90_000)),
            request(2, Write, Some(1_500)),
            request(3, Write, Some(60)),
            request(4, Delete, None),
            request(5, Write, Some(3_000)),
            request(6, Write, None),
        ];
        let reads = trace.map(|request| trace::Request {
            time_ms: 9,
            operation: Read,
            ..request
        });
        let mapped = things(&[trace, reads].concat());
        let (writes, reads) = mapped.requests.split_at(trace.len());
        let operations: Vec<_> = writes.iter().map(|request| request.operation).collect();
        assert_eq!(
            operations[..4],
            [
                Operation::StoreSession,
                Operation::StoreRecommendations,
                Operation::StoreRecommendations,
                Operation::DeleteGeneric
            ]
        );
        for (write, read) in writes.iter().zip(reads) {
            assert_eq!(write.thing(), read.thing());
            assert_eq!(read.operation.effect(), Effect::Read);
        }
    }

    #[test]
    fn a_thing_is_asked_for_as_often_as_its_key() {
        let mapped = things(&trace());
        assert_eq!(mapped.requests.len(), 2000);
        assert_eq!(mapped.clients.len(), 300);
        for requests in mapped.requests.chunks(300) {
            for (one, first) in requests.iter().zip(&mapped.requests) {
                assert_eq!(one.thing(), first.thing());
            }
        }
    }
}
