//! Gives recorded requests a meaning: each becomes a visit to the API.
//!
//! What comes from the recording is the order and how often each key is asked
//! for; a key is a shopper here. Which operation a visit is made of is synthetic:
//! seeded, in the proportions of [`MIX`]. Everything is read-only for
//! PostgreSQL, and every Valkey key begins with `replay-` after its type and
//! lives ten minutes, so that the replay may run against stores of one's own.
//!
//! Knows paths and bodies of the API. Does not know who answers, or how fast.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use url::form_urlencoded;

use crate::dice::Dice;
use crate::sample;
use crate::trace::Request;

const SEED: u64 = 424;
/// Long enough for any replay; the rest of the store's life is not ours.
const TTL_S: u32 = 600;
/// Sets in one batch: well below the API's cap, and bodies of some 100 KB.
const FILL_BATCH: usize = 250;
/// Among so many visits there is one request that no tier is asked for.
const FLOOR_EVERY: usize = 10;

const VALKEY: &str = "/api/vultr/valkey";
const POSTGRES: &str = "/api/vultr/postgres";

/// What is measured; a row of the table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Session,
    Preferences,
    Recommendations,
    Products,
    Profile,
    Orders,
    Conversation,
    TouchSession,
    StoreContext,
    VoiceQuery,
    /// An unknown path: what a request costs before any tier is asked.
    Floor,
}

impl Operation {
    pub const ALL: [Self; 11] = [
        Self::Session,
        Self::Preferences,
        Self::Recommendations,
        Self::Products,
        Self::Profile,
        Self::Orders,
        Self::Conversation,
        Self::TouchSession,
        Self::StoreContext,
        Self::VoiceQuery,
        Self::Floor,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session lookup",
            Self::Preferences => "preferences",
            Self::Recommendations => "recommendations",
            Self::Products => "products",
            Self::Profile => "user profile",
            Self::Orders => "orders of a user",
            Self::Conversation => "conversation",
            Self::TouchSession => "touch session",
            Self::StoreContext => "store context",
            Self::VoiceQuery => "voice query (all)",
            Self::Floor => "unknown path",
        }
    }

    /// The integration guide's target, in ms; it names none for the others.
    pub fn target_ms(self) -> Option<u32> {
        match self {
            Self::Session => Some(10),
            Self::Preferences | Self::Recommendations => Some(5),
            Self::Products => Some(50),
            Self::Profile => Some(30),
            Self::VoiceQuery => Some(100),
            _ => None,
        }
    }

    /// Whether PostgreSQL is the truth, so that an answer may come from L3.
    pub fn has_l3(self) -> bool {
        matches!(self, Self::Products | Self::Profile | Self::Orders)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub operation: Operation,
    pub method: Method,
    pub target: String,
    pub body: Option<String>,
}

/// Requests that one client sends one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    pub calls: Vec<Call>,
    /// What the visit as a whole is measured as, if it is more than its call.
    pub flow: Option<Operation>,
}

/// What to send, in two parts: what has to be stored first, and what is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Bodies for `POST /valkey/batch`.
    pub fill: Vec<String>,
    pub visits: Vec<Visit>,
}

impl Workload {
    pub fn calls(&self) -> usize {
        self.visits.iter().map(|visit| visit.calls.len()).sum()
    }
}

/// Where batches go.
pub fn fill_target() -> String {
    format!("{VALKEY}/batch")
}

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

/// Maps the first `visits` recorded requests.
pub fn plan(trace: &[Request], visits: usize) -> Workload {
    let mut dice = Dice::seeded(SEED);
    let trace = trace.get(..visits).unwrap_or(trace);
    let shoppers: BTreeSet<u64> = trace.iter().map(|request| request.key).collect();
    let sets: Vec<Value> = shoppers
        .iter()
        .flat_map(|shopper| stored(*shopper))
        .collect();
    let mut planned = Vec::with_capacity(visits + visits / FLOOR_EVERY);
    for (index, request) in trace.iter().enumerate() {
        if index.is_multiple_of(FLOOR_EVERY) {
            planned.push(single(Operation::Floor, request.key));
        }
        planned.push(visit(request.key, &mut dice));
    }
    Workload {
        fill: sets
            .chunks(FILL_BATCH)
            .map(|sets| json!({ "operations": sets }).to_string())
            .collect(),
        visits: planned,
    }
}

fn visit(shopper: u64, dice: &mut Dice) -> Visit {
    match drawn(dice) {
        Operation::VoiceQuery => voice_query(shopper),
        // One visit in four that looks at a session prolongs it.
        Operation::Session if dice.below(4) == 0 => single(Operation::TouchSession, shopper),
        operation => single(operation, shopper),
    }
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

/// The flow of the integration guide, for a shopper with everything in place.
fn voice_query(shopper: u64) -> Visit {
    let operations = [
        Operation::Session,
        Operation::Conversation,
        Operation::Preferences,
        Operation::Recommendations,
        Operation::Products,
        Operation::StoreContext,
    ];
    Visit {
        calls: operations
            .map(|operation| call(operation, shopper))
            .to_vec(),
        flow: Some(Operation::VoiceQuery),
    }
}

fn single(operation: Operation, shopper: u64) -> Visit {
    Visit {
        calls: vec![call(operation, shopper)],
        flow: None,
    }
}

fn call(operation: Operation, shopper: u64) -> Call {
    let id = shopper_id(shopper);
    let user = sample::user_id(shopper);
    let target = match operation {
        Operation::Session => format!("{VALKEY}/session/{id}"),
        Operation::TouchSession => format!("{VALKEY}/session/{id}/touch"),
        Operation::Conversation | Operation::StoreContext => {
            format!("{VALKEY}/cache/conversation/{id}")
        }
        Operation::Preferences => format!("{VALKEY}/cache/preferences/{id}"),
        Operation::Recommendations => format!("{VALKEY}/cache/recommendations/{id}"),
        Operation::Products => format!("{POSTGRES}/products?{}", filter(shopper)),
        Operation::Profile => format!("{POSTGRES}/users/{user}/profile"),
        Operation::Orders => format!("{POSTGRES}/users/{user}/orders?limit=10"),
        // Served by nobody, by contract, and asked for by an existing client.
        Operation::Floor | Operation::VoiceQuery => "/api/vultr/status".to_owned(),
    };
    let body = (operation == Operation::StoreContext)
        .then(|| json!({ "context": context(shopper), "ttl": TTL_S }).to_string());
    let method = match operation {
        Operation::StoreContext | Operation::TouchSession => Method::Post,
        _ => Method::Get,
    };
    Call {
        operation,
        method,
        target,
        body,
    }
}

fn shopper_id(shopper: u64) -> String {
    format!("replay-{shopper}")
}

/// A shopper always looks for the same thing, so that popular shoppers make
/// popular queries: 6 categories, each whole or by brand, each with or without
/// a highest price.
fn filter(shopper: u64) -> String {
    let mut dice = Dice::seeded(shopper);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("category", dice.choose(&sample::CATEGORIES));
    if dice.below(2) == 0 {
        query.append_pair("brand", dice.choose(&sample::BRANDS));
    }
    if dice.below(3) == 0 {
        query.append_pair("maxPrice", dice.choose(&["50", "100", "200"]));
    }
    query.append_pair("limit", "20");
    query.finish()
}

/// Everything that a shopper's visits read from Valkey, as batch operations.
fn stored(shopper: u64) -> [Value; 4] {
    let id = shopper_id(shopper);
    let preferences =
        json!({ "favoriteColors": ["navy", "cream"], "preferredSizes": ["M"], "shopper": shopper });
    let recommendations: Vec<Value> = (0..10_u32)
        .map(|rank| {
            json!({
                "productId": format!("product-{:04}", (shopper + u64::from(rank) * 37) % u64::from(sample::PRODUCTS)),
                "score": 1.0 - f64::from(rank) / 16.0,
                "reasons": ["fits your preferred sizes", "similar to what you kept"],
            })
        })
        .collect();
    let session = json!({
        "userId": id,
        "sessionId": id,
        "conversationContext": context(shopper),
        "preferences": preferences,
        "createdAt": 1_748_736_000_000_u64,
        "lastAccessed": 1_748_736_000_000_u64,
    });
    [
        ("session", session),
        ("conversation", json!({ "context": context(shopper) })),
        ("preferences", preferences),
        ("recommendations", Value::Array(recommendations)),
    ]
    .map(|(kind, value)| json!({ "type": "set", "key": format!("{kind}:{id}"), "value": value, "ttl": TTL_S }))
}

fn context(shopper: u64) -> Value {
    json!([
        { "role": "user", "text": "I need something for a wedding in June, not black." },
        { "role": "assistant", "text": "How about a navy midi dress? Your size is in stock.", "shopper": shopper },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Vec<Request> {
        (0..2000)
            .map(|index| Request {
                key: index % 300,
                time_ms: index,
                size_bytes: 1,
                ttl_s: None,
                operation: crate::trace::Operation::Read,
            })
            .collect()
    }

    #[test]
    fn a_plan_is_the_same_every_time_and_keeps_the_recordings_order() {
        let (trace, again) = (trace(), trace());
        assert_eq!(plan(&trace, 1000), plan(&again, 1000));
        assert_eq!(plan(&trace, 1000).visits.len(), 1000 + 100);
        assert_eq!(plan(&trace, 9999).visits.len(), 2000 + 200);
    }

    #[test]
    fn the_proportions_are_those_of_the_mix() {
        let workload = plan(&trace(), 2000);
        let flows = workload
            .visits
            .iter()
            .filter(|visit| visit.flow.is_some())
            .count();
        assert!(
            (550..650).contains(&flows),
            "{flows} voice queries of 2000 visits"
        );
        let writes = |operation| {
            workload
                .visits
                .iter()
                .flat_map(|visit| &visit.calls)
                .filter(|call| call.operation == operation)
                .count()
        };
        assert_eq!(writes(Operation::StoreContext), flows);
        assert!(writes(Operation::TouchSession) > 20);
    }

    #[test]
    fn postgresql_is_only_read_and_valkey_keys_are_our_own() {
        let workload = plan(&trace(), 500);
        for call in workload.visits.iter().flat_map(|visit| &visit.calls) {
            if call.target.starts_with(POSTGRES) {
                assert_eq!(call.method, Method::Get, "{}", call.target);
            } else if call.operation != Operation::Floor {
                assert!(call.target.contains("/replay-"), "{}", call.target);
            }
        }
        for batch in &workload.fill {
            let batch: Value = serde_json::from_str(batch).unwrap_or_default();
            let operations = batch["operations"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            assert!(!operations.is_empty() && operations.len() <= FILL_BATCH);
            for operation in operations {
                assert!(
                    operation["key"]
                        .as_str()
                        .is_some_and(|key| key.contains(":replay-"))
                );
                assert_eq!(operation["ttl"], TTL_S);
            }
        }
    }

    #[test]
    fn every_shopper_of_the_plan_is_filled() {
        let workload = plan(&trace(), 2000);
        let fill: String = workload.fill.concat();
        for shopper in 0..300 {
            assert!(
                fill.contains(&format!("\"recommendations:replay-{shopper}\"")),
                "{shopper}"
            );
        }
    }
}
