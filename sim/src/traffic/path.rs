//! Operation and key as the path and query of a request, and back.
//!
//! Knows the paths of the API. What has no operation of its own is told apart:
//! what the API has and a replay leaves out, and what it does not have at all.

use std::borrow::Cow;

use edge::route::decode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use url::form_urlencoded::{self, Serializer};

use crate::operation::{KEY, Method, Operation};

const API: &str = "/api/vultr";
/// What is no unreserved character (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The caches that share a path with generic keys, each with the prefix of its
/// keys in Valkey.
const TYPED: [&str; 3] = ["conversation", "recommendations", "preferences"];
/// The parameters that the API reads, in the order that is kept.
const PRODUCTS: [&str; 5] = ["category", "brand", "minPrice", "maxPrice", "limit"];
const RETURNS: [&str; 2] = ["userId", "productId"];

/// What a recorded path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The key of an order or a return that is made stands in its body: it is
    /// empty here.
    Operation(Operation, String),
    /// The API has it and a replay leaves it out: of which kind.
    LeftOut(&'static str),
    /// The API does not have it.
    Unknown,
}

/// Path and query, percent-encoded.
pub fn write(operation: Operation, key: &str) -> String {
    let (_, route) = operation.route();
    let (before, after) = route.split_once(KEY).unwrap_or((route, ""));
    let mut target = [API, before].concat();
    match operation {
        Operation::Products => target.push_str(key),
        Operation::Returns if is_query(key) => target.push_str(key),
        Operation::Returns => target.extend(["userId="].into_iter().chain(encoded(key))),
        _ if before.len() < route.len() => target.extend(encoded(key)),
        _ => {}
    }
    target.push_str(after);
    target.truncate(target.trim_end_matches('?').len());
    target
}

pub fn batch() -> String {
    format!("{API}/valkey/batch")
}

/// A query is its own key; any other key of returns is a user.
fn is_query(key: &str) -> bool {
    RETURNS.iter().any(|name| {
        key.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('='))
    })
}

fn encoded(key: &str) -> PercentEncode<'_> {
    utf8_percent_encode(key, RESERVED)
}

/// What a request with this method asks for; `target` is a URL, or its path and
/// query.
pub fn read(method: &str, target: &str) -> Asked {
    let target = target.split('#').next().unwrap_or_default();
    let target = match target.split_once("://") {
        // A key may look like a URL, but a URL begins with no slash.
        Some((_, rest)) if !target.starts_with('/') => {
            rest.find('/').map_or("/", |slash| rest.split_at(slash).1)
        }
        _ => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_suffix('/').unwrap_or(path);
    if path == "/openapi.json" {
        return Asked::LeftOut("the API's description");
    }
    let Some(rest) = path
        .strip_prefix(API)
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return Asked::Unknown;
    };
    // What the API would refuse is unknown.
    let Ok(segments) = rest.split('/').map(decode).collect::<Result<Vec<_>, _>>() else {
        return Asked::Unknown;
    };
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    // What a HEAD asks for is what a GET would be answered.
    let method = match method {
        "GET" | "HEAD" => Method::Get,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        "OPTIONS" => return Asked::LeftOut("a browser's question before a request"),
        _ => return Asked::Unknown,
    };
    asked(method, &segments, query)
}

fn asked(method: Method, segments: &[&str], query: &str) -> Asked {
    use Method::{Delete, Get, Post};
    let thing = |operation, key: &str| match key {
        "" => Asked::Unknown,
        key => Asked::Operation(operation, key.to_owned()),
    };
    match (method, segments) {
        (_, ["postgres" | "valkey", "health"]) => Asked::LeftOut("a check of health"),
        (_, ["postgres", "stats"] | ["valkey", "metrics"]) => Asked::LeftOut("metrics"),
        (_, ["postgres" | "valkey", "batch"]) => Asked::LeftOut("a batch"),
        (Get, ["status"]) => Asked::Operation(Operation::Floor, String::new()),
        (Get, ["postgres", "products"]) => {
            Asked::Operation(Operation::Products, normal(query, &PRODUCTS))
        }
        (Get, ["postgres", "users", id, "profile"]) => thing(Operation::Profile, id),
        (Post, ["postgres", "users", id, "profile"]) => thing(Operation::SaveProfile, id),
        (Get, ["postgres", "users", id, "orders"]) => thing(Operation::Orders, id),
        (Post, ["postgres", "orders"]) => Asked::Operation(Operation::CreateOrder, String::new()),
        (Get, ["postgres", "returns"]) => Asked::Operation(Operation::Returns, returns(query)),
        (Post, ["postgres", "returns"]) => Asked::Operation(Operation::CreateReturn, String::new()),
        (Get, ["valkey", "session", id]) => thing(Operation::Session, id),
        (Post, ["valkey", "session", id]) => thing(Operation::StoreSession, id),
        (Delete, ["valkey", "session", id]) => thing(Operation::DeleteSession, id),
        (Post, ["valkey", "session", id, "touch"]) => thing(Operation::TouchSession, id),
        (method, ["valkey", "cache", typed, id]) if TYPED.contains(typed) => match (method, *typed)
        {
            // The route of all keys deletes them too, by their name in Valkey.
            (Delete, typed) if !id.is_empty() => {
                thing(Operation::DeleteGeneric, &format!("{typed}:{id}"))
            }
            (Get, "conversation") => thing(Operation::Conversation, id),
            (Get, "recommendations") => thing(Operation::Recommendations, id),
            (Get, "preferences") => thing(Operation::Preferences, id),
            (Post, "conversation") => thing(Operation::StoreContext, id),
            (Post, "recommendations") => thing(Operation::StoreRecommendations, id),
            (Post, "preferences") => thing(Operation::StorePreferences, id),
            _ => Asked::Unknown,
        },
        (method, ["valkey", "cache", key @ ..]) => {
            let operation = match method {
                Get => Operation::Generic,
                Post => Operation::StoreGeneric,
                Delete => Operation::DeleteGeneric,
            };
            thing(operation, &key.join("/"))
        }
        _ => Asked::Unknown,
    }
}

/// What the API reads of a query, always in the same order.
fn normal(query: &str, names: &[&str]) -> String {
    let pairs: Vec<(Cow<str>, Cow<str>)> = form_urlencoded::parse(query.as_bytes()).collect();
    let mut normal = Serializer::new(String::new());
    for name in names {
        for (_, value) in pairs
            .iter()
            .filter(|(given, value)| given == name && !value.is_empty())
        {
            normal.append_pair(name, value);
        }
    }
    normal.finish()
}

/// The returns of one user are known by the user, as the making of one is.
fn returns(query: &str) -> String {
    let query = normal(query, &RETURNS);
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    match (pairs.next(), pairs.next()) {
        (Some((name, user)), None) if name == "userId" && !is_query(&user) => user.into_owned(),
        _ => query,
    }
}

/// A key with the ids in it replaced. Filters of products name nobody.
pub fn replace_ids(operation: Operation, key: &str, replace: impl Fn(&str) -> String) -> String {
    match operation {
        Operation::Products | Operation::Floor => key.to_owned(),
        _ if key.is_empty() => String::new(),
        Operation::Returns if is_query(key) => {
            let mut query = Serializer::new(String::new());
            for (name, value) in form_urlencoded::parse(key.as_bytes()) {
                match &*name {
                    "userId" => query.append_pair(&name, &replace(&value)),
                    _ => query.append_pair(&name, &value),
                };
            }
            query.finish()
        }
        // By its name in Valkey: the id is that of the typed route.
        Operation::Generic | Operation::StoreGeneric | Operation::DeleteGeneric => {
            match key.split_once(':') {
                Some((kind, id)) if kind == "session" || TYPED.contains(&kind) => {
                    format!("{kind}:{}", replace(id))
                }
                _ => replace(key),
            }
        }
        _ => replace(key),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn operation(method: &str, target: &str) -> (Operation, String) {
        match read(method, target) {
            Asked::Operation(operation, key) => (operation, key),
            other => panic!("{method} {target}: {other:?}"),
        }
    }

    /// Those that have a path with a key in it.
    fn has_key(operation: Operation) -> bool {
        let (_, route) = operation.route();
        route.contains(KEY)
    }

    #[test]
    fn paths_are_read_as_the_api_reads_them() {
        for (method, target, expected, key) in [
            (
                "GET",
                "/api/vultr/valkey/session/a%2Fb%3F",
                Operation::Session,
                "a/b?",
            ),
            (
                "HEAD",
                "/api/vultr/valkey/session/a%252Fb/",
                Operation::Session,
                "a%2Fb",
            ),
            (
                "POST",
                "https://x.example/api/vultr/valkey/session/s/touch",
                Operation::TouchSession,
                "s",
            ),
            (
                "GET",
                "/api/vultr/valkey/cache/preferences/u+1",
                Operation::Preferences,
                "u+1",
            ),
            (
                "GET",
                "/api/vultr/valkey/cache/preferences",
                Operation::Generic,
                "preferences",
            ),
            (
                "GET",
                "/api/vultr/valkey/cache/a/b/c",
                Operation::Generic,
                "a/b/c",
            ),
            (
                "GET",
                "/api/vultr/valkey/cache/http://x/y",
                Operation::Generic,
                "http://x/y",
            ),
            (
                "POST",
                "/api/vultr/valkey/cache/conversation%2Fu",
                Operation::StoreGeneric,
                "conversation/u",
            ),
            (
                "DELETE",
                "/api/vultr/valkey/cache/recommendations/u",
                Operation::DeleteGeneric,
                "recommendations:u",
            ),
            (
                "GET",
                "/api/vultr/postgres/users/%C3%BC/orders?limit=5",
                Operation::Orders,
                "ü",
            ),
            (
                "GET",
                "/api/vultr/postgres/returns?userId=u%201",
                Operation::Returns,
                "u 1",
            ),
            (
                "GET",
                "/api/vultr/postgres/returns?productId=p&userId=u",
                Operation::Returns,
                "userId=u&productId=p",
            ),
            ("GET", "/api/vultr/postgres/returns", Operation::Returns, ""),
            (
                "GET",
                "/api/vultr/postgres/products/?utm_source=x&limit=3&brand=&category=a+b&minPrice=0",
                Operation::Products,
                "category=a+b&minPrice=0&limit=3",
            ),
            (
                "POST",
                "/api/vultr/postgres/orders",
                Operation::CreateOrder,
                "",
            ),
            ("GET", "/api/vultr/status", Operation::Floor, ""),
        ] {
            assert_eq!(
                operation(method, target),
                (expected, key.to_owned()),
                "{target}"
            );
        }
    }

    #[test]
    fn what_is_not_replayed_is_told_from_what_is_not_there() {
        for (method, target) in [
            ("GET", "/api/vultr/postgres/health"),
            ("GET", "/api/vultr/valkey/metrics"),
            ("POST", "/api/vultr/valkey/batch"),
            ("OPTIONS", "/api/vultr/valkey/session/s"),
            ("GET", "/openapi.json"),
        ] {
            assert!(
                matches!(read(method, target), Asked::LeftOut(_)),
                "{target}"
            );
        }
        for (method, target) in [
            ("GET", "/"),
            ("GET", "https://x.example"),
            ("PUT", "/api/vultr/valkey/session/s"),
            ("DELETE", "/api/vultr/postgres/products"),
            ("GET", "/api/vultr/valkey/cache/50%"),
            ("GET", "/api/vultr/valkey/cache/%ff"),
            ("GET", "/api/vultr/valkey/cache/"),
            ("GET", "/api/vultr/valkey/cache/preferences//"),
            ("GET", "/api/vultrx/valkey/session/s"),
        ] {
            assert_eq!(read(method, target), Asked::Unknown, "{method} {target}");
        }
    }

    #[test]
    fn ids_are_replaced_wherever_they_stand() {
        let replaced = |operation, key| replace_ids(operation, key, |id| format!("<{id}>"));
        for (operation, key, expected) in [
            (Operation::Session, "s:1", "<s:1>"),
            (Operation::Generic, "session:s:1", "session:<s:1>"),
            (Operation::Generic, "cart:9", "<cart:9>"),
            (Operation::Returns, "u", "<u>"),
            (
                Operation::Returns,
                "userId=u&productId=p",
                "userId=%3Cu%3E&productId=p",
            ),
            (Operation::Products, "category=shoes", "category=shoes"),
        ] {
            assert_eq!(replaced(operation, key), expected);
        }
    }

    proptest! {
        #[test]
        fn every_key_of_every_operation_comes_back(
            // Slashes, percent signs, dots, unicode, and what looks like a query.
            key in "([a-z/%?&=+#.:]|\\PC){1,12}",
            index in 0..Operation::ALL.len(),
        ) {
            let one = Operation::ALL[index];
            prop_assume!(has_key(one) && one != Operation::Products);
            let key = if one == Operation::Returns && is_query(&key) {
                normal(&key, &RETURNS)
            } else {
                key
            };
            prop_assume!(!key.is_empty());
            let expected = (one, key.clone());
            let found = operation(one.route().0.name(), &write(one, &key));
            // A query that is only a user is that user.
            prop_assert!(found == expected || is_query(&key));
            prop_assert_eq!(
                operation(found.0.route().0.name(), &write(found.0, &found.1)),
                found
            );
        }

        #[test]
        fn every_query_comes_back(category in "\\PC{1,8}", limit in 0_u32..1000) {
            let mut query = Serializer::new(String::new());
            query.append_pair("category", &category);
            query.append_pair("limit", &limit.to_string());
            let key = query.finish();
            let target = write(Operation::Products, &key);
            prop_assert_eq!(operation("GET", &target), (Operation::Products, key));
        }

        #[test]
        fn no_path_is_a_surprise(target in "(/api/vultr/(valkey|postgres)/)?\\PC{0,30}") {
            read("GET", &target);
        }
    }
}
