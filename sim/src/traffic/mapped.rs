//! Gives recorded keys a meaning: each request becomes a visit to the API.
//!
//! What comes from the recording is the order, the times, and how often each key
//! is asked for; a key is a shopper here. Which operation a visit is made of is
//! synthetic: seeded, in the proportions of [`MIX`]. PostgreSQL is only read, and
//! every Valkey key begins with `replay-` after its type, so that the traffic
//! may be fired at stores of one's own.

use super::call::taste;
use super::{Request, Traffic};
use crate::dice::Dice;
use crate::operation::Operation;
use crate::{sample, trace};

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
const VOICE_QUERY: [Operation; 6] = [
    Operation::Session,
    Operation::Conversation,
    Operation::Preferences,
    Operation::Recommendations,
    Operation::Products,
    Operation::StoreContext,
];

/// Maps the first `visits` recorded requests.
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
        match drawn(&mut dice) {
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

fn drawn(dice: &mut Dice) -> Operation {
    let mut drawn = dice.below(MIX.iter().map(|(share, _)| share).sum());
    for (share, operation) in MIX {
        if drawn < share {
            return operation;
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
    use crate::operation::Effect;
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
                assert!(target.contains("/replay%2D"), "{target}");
            }
        }
        for thing in call::stored(&mapped) {
            if let Some(key) = thing.valkey_key() {
                assert!(key.contains(":replay-"), "{key}");
            }
        }
    }
}
