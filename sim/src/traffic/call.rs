//! What a request looks like to HTTP, and what has to be stored so that it finds
//! something.
//!
//! A recording knows a key and a size, and no content: that is invented here,
//! always the same for the same key. Knows bodies of the API; its paths are
//! [`path`]'s.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use edge::json::quoted;
use edge::policy::Kind;
use rustc_hash::FxBuildHasher;
use serde_json::json;
use url::form_urlencoded;

use super::{Request, Thing, Traffic, path};
use crate::dice::Dice;
use crate::operation::{Effect, Method, Operation};
use crate::sample;

/// Sets in one batch: well below the API's cap, and bodies of some 100 KB.
const FILL_BATCH: usize = 250;
/// Products in an answer.
const PRODUCTS: &str = "20";

/// One HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub method: Method,
    /// Path and query, percent-encoded.
    pub target: String,
    pub body: Option<String>,
}

impl Call {
    pub fn get(target: &str) -> Self {
        Self {
            method: Method::Get,
            target: target.to_owned(),
            body: None,
        }
    }

    /// What a write stores says its `turn`, by which answers can be told apart.
    pub fn of(traffic: &Traffic, request: &Request, turn: u64) -> Self {
        let (operation, key) = (request.operation, traffic.key(request));
        let target = match operation {
            Operation::Products => path::write(operation, &filter(key)),
            _ => path::write(operation, key),
        };
        Self {
            method: operation.route().0,
            target,
            body: body(operation, key, request.size_bytes, turn),
        }
    }
}

/// What a write sends.
fn body(operation: Operation, key: &str, size_bytes: u32, turn: u64) -> Option<String> {
    let content = |kind| content(kind, key, size_bytes, turn);
    let member = |name, kind| ["{\"", name, "\":", &content(kind), "}"].concat();
    Some(match operation {
        Operation::StoreSession => content(Kind::Session),
        Operation::StoreContext => content(Kind::Conversation),
        Operation::StorePreferences => member("preferences", Kind::Preferences),
        Operation::StoreRecommendations => member("recommendations", Kind::Recommendations),
        Operation::StoreGeneric => member("value", Kind::Generic),
        Operation::SaveProfile => member("preferences", Kind::Profile),
        Operation::CreateOrder => json!({
            "user_id": key,
            "items": [{ "product_id": "product-0001", "quantity": 1, "price": 19.99, "size": "M" }],
            "total_amount": 19.99,
        })
        .to_string(),
        Operation::CreateReturn => json!({
            "order_id": sample::order_id(0),
            "user_id": key,
            "product_id": "product-0001",
            "reason": "too small",
        })
        .to_string(),
        _ => return None,
    })
}

/// A value as long as it was recorded, or as one of its kind usually is, as JSON text:
/// a replay writes many, and takes none apart.
pub fn content(kind: Kind, key: &str, size_bytes: u32, turn: u64) -> String {
    let shopper = quoted(key);
    let mut digits = itoa::Buffer::new();
    let turn = digits.format(turn);
    let (before, mut text, is_object) = match kind {
        Kind::Session => {
            let (turns, preferences) = (turns(&shopper), preferences(&shopper));
            let parts = [
                r#"{"userId":"#,
                &shopper,
                r#","sessionId":"#,
                &shopper,
                r#","conversationContext":"#,
                &turns,
                r#"],"preferences":"#,
                &preferences,
                r#"},"createdAt":1748736000000,"lastAccessed":1748736000000"#,
            ];
            ("", parts.concat(), true)
        }
        Kind::Conversation => (r#"{"context":"#, turns(&shopper), false),
        Kind::Recommendations => ("", recommendations(key), false),
        _ => ("", preferences(&shopper), true),
    };
    let end = if is_object { "}" } else { "]" };
    if is_object {
        text.extend([r#","turn":"#, turn]);
    } else {
        text.extend([r#",{"turn":"#, turn, "}"]);
    }
    let length = text.len() + end.len() + r#","more":"""#.len();
    let more = (size_bytes as usize).saturating_sub(length);
    if more > 0 {
        text.push_str(if is_object { r#","more":""# } else { r#",""# });
        text.push_str(&"x".repeat(more));
        text.push('"');
    }
    text.push_str(end);
    if before.is_empty() {
        text
    } else {
        [before, &text, "}"].concat()
    }
}

/// Without its last bracket, as what follows: something is added to it.
fn turns(shopper: &str) -> String {
    [
        r#"[{"role":"user","text":"I need something for a wedding in June, not black."},"#,
        r#"{"role":"assistant","text":"How about a navy midi dress? Your size is in stock.","#,
        r#""shopper":"#,
        shopper,
        "}",
    ]
    .concat()
}

fn preferences(shopper: &str) -> String {
    let known = r#"{"favoriteColors":["navy","cream"],"preferredSizes":["M"],"shopper":"#;
    [known, shopper].concat()
}

fn recommendations(key: &str) -> String {
    let first = hash(key);
    let one = |rank: u32| {
        let product = first.wrapping_add(u64::from(rank) * 37) % u64::from(sample::PRODUCTS);
        let score = 1.0 - f64::from(rank) / 16.0;
        format!(
            r#"{{"productId":"product-{product:04}","score":{score:?},"reasons":["fits your preferred sizes","similar to what you kept"]}}"#
        )
    };
    let all: Vec<String> = (0..10).map(one).collect();
    ["[", &all.join(",")].concat()
}

fn hash(key: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

/// A query as it was recorded (an empty one asks for all), or for the name of one
/// that is not known a query of its own.
fn filter(key: &str) -> String {
    if key.is_empty() || key.contains('=') {
        return key.to_owned();
    }
    own_query(key)
}

/// A query that no other name has.
pub fn own_query(name: &str) -> String {
    let mut dice = Dice::seeded(hash(name));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("category", dice.choose(&sample::CATEGORIES));
    // Below any price, and another one for nearly every key.
    query.append_pair("minPrice", &format!("0.{:08}", dice.below(100_000_000)));
    query.append_pair("limit", PRODUCTS);
    query.finish()
}

/// What somebody with these tastes looks for, so that popular shoppers make
/// popular queries: 6 categories, each whole or by brand, each with or without
/// a highest price.
pub fn taste(shopper: u64) -> String {
    let mut dice = Dice::seeded(shopper);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("category", dice.choose(&sample::CATEGORIES));
    if dice.below(2) == 0 {
        query.append_pair("brand", dice.choose(&sample::BRANDS));
    }
    if dice.below(3) == 0 {
        query.append_pair("maxPrice", dice.choose(&["50", "100", "200"]));
    }
    query.append_pair("limit", PRODUCTS);
    query.finish()
}

/// A thing that is read before it is written, so that it must have been there.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<'a> {
    pub kind: Kind,
    pub key: &'a str,
    /// What is stored, as JSON text.
    pub content: String,
}

impl Stored<'_> {
    /// Its key in Valkey; none for rows.
    pub fn valkey_key(&self) -> Option<String> {
        let prefix = match self.kind {
            Kind::Session => "session:",
            Kind::Conversation => "conversation:",
            Kind::Recommendations => "recommendations:",
            Kind::Preferences => "preferences:",
            Kind::Generic => "",
            Kind::Products | Kind::Profile | Kind::Orders | Kind::Returns => return None,
        };
        Some(format!("{prefix}{}", self.key))
    }
}

/// What is done to each thing first.
pub fn first_effects(traffic: &Traffic) -> HashMap<Thing, Effect, FxBuildHasher> {
    let mut first = HashMap::default();
    for request in &traffic.requests {
        first
            .entry(request.thing())
            .or_insert_with(|| request.operation.effect());
    }
    first
}

/// All that was there before the first request: what is not made before it is
/// read, touched or deleted. In the order of the first requests.
pub fn stored(traffic: &Traffic) -> Vec<Stored<'_>> {
    let mut seen: HashSet<Thing, FxBuildHasher> = HashSet::default();
    let firsts = traffic
        .requests
        .iter()
        .filter(|request| seen.insert(request.thing()));
    firsts
        .filter(|request| request.operation.effect() != Effect::Write)
        .filter_map(|request| {
            let (kind, key) = (request.operation.kind()?, traffic.key(request));
            let content = content(kind, key, request.size_bytes, 0);
            Some(Stored { kind, key, content })
        })
        .collect()
}

/// The users that must be there: whose rows are read before they are written, and
/// who orders or returns something. In the order of the first requests.
pub fn users(traffic: &Traffic) -> Vec<&str> {
    let was_there: HashSet<&str> = stored(traffic)
        .iter()
        .filter(|thing| matches!(thing.kind, Kind::Profile | Kind::Orders | Kind::Returns))
        .map(|thing| thing.key)
        .collect();
    let mut seen = HashSet::new();
    let keys = traffic.requests.iter().filter_map(|request| {
        let key = traffic.key(request);
        let must_be = match request.operation {
            Operation::CreateOrder | Operation::CreateReturn => true,
            Operation::Profile | Operation::Orders | Operation::Returns => was_there.contains(key),
            _ => false,
        };
        // A query is nobody.
        (must_be && !key.contains('=') && seen.insert(key)).then_some(key)
    });
    keys.collect()
}

/// Makes a user where there is none; of one that is there all fields stay.
pub fn make_user(user: &str) -> Call {
    Call {
        method: Method::Post,
        target: path::write(Operation::SaveProfile, user),
        body: Some("{}".to_owned()),
    }
}

/// Calls that store it, for as long as `ttl_s`. Rows are left to PostgreSQL.
pub fn fill(stored: &[Stored], ttl_s: u32) -> Vec<Call> {
    let set = |thing: &Stored| {
        let (key, value) = (quoted(&thing.valkey_key()?), &thing.content);
        Some(format!(
            r#"{{"type":"set","key":{key},"value":{value},"ttl":{ttl_s}}}"#
        ))
    };
    let sets: Vec<String> = stored.iter().filter_map(set).collect();
    sets.chunks(FILL_BATCH)
        .map(|sets| Call {
            method: Method::Post,
            target: path::batch(),
            body: Some(["{\"operations\":[", &sets.join(","), "]}"].concat()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(operation: Operation, key: &str, size_bytes: u32) -> Call {
        let mut traffic = Traffic::default();
        let number = traffic.keys.number(key);
        let request = Request {
            size_bytes,
            ..Request::new(0, operation, number)
        };
        Call::of(&traffic, &request, 0)
    }

    #[test]
    fn a_key_is_one_segment_of_the_path_and_a_query_is_a_query() {
        let target = |operation, key| call(operation, key, 0).target;
        assert_eq!(
            target(Operation::Session, "a/b?"),
            "/api/vultr/valkey/session/a%2Fb%3F"
        );
        let query = "category=shoes&limit=3";
        assert_eq!(
            target(Operation::Products, query),
            format!("/api/vultr/postgres/products?{query}")
        );
        assert_ne!(
            target(Operation::Products, "q1"),
            target(Operation::Products, "q2")
        );
        assert_eq!(
            target(Operation::Returns, "u 1"),
            "/api/vultr/postgres/returns?userId=u%201"
        );
    }

    #[test]
    fn a_value_is_as_long_as_it_was_recorded() {
        for kind in [
            Kind::Session,
            Kind::Recommendations,
            Kind::Generic,
            Kind::Profile,
        ] {
            for size_bytes in [2_000, 10_000] {
                let text = content(kind, "k", size_bytes, 1);
                assert!(
                    serde_json::from_str::<serde_json::Value>(&text).is_ok(),
                    "{text}"
                );
                let length = text.len();
                assert!(
                    length.abs_diff(size_bytes as usize) < 12,
                    "{kind:?}: {length}"
                );
            }
        }
    }

    #[test]
    fn what_is_read_first_was_stored_and_what_is_written_first_was_not() {
        let mut traffic = Traffic::default();
        let (a, b) = (traffic.keys.number("a"), traffic.keys.number("b"));
        for (operation, key) in [
            (Operation::Session, a),
            (Operation::StoreSession, b),
            (Operation::Session, b),
            (Operation::Preferences, b),
            (Operation::StorePreferences, b),
            (Operation::Profile, a),
            (Operation::Floor, a),
        ] {
            traffic.push(Request::new(0, operation, key));
        }
        let stored = stored(&traffic);
        let things: Vec<_> = stored.iter().map(|thing| (thing.kind, thing.key)).collect();
        assert_eq!(
            things,
            [
                (Kind::Session, "a"),
                (Kind::Preferences, "b"),
                (Kind::Profile, "a")
            ]
        );
        assert_eq!(users(&traffic), ["a"]);
        let calls = fill(&stored, 60);
        let body = calls[0].body.as_deref().unwrap_or_default();
        assert!(calls.len() == 1 && body.contains("session:a") && body.contains("preferences:b"));
    }
}
