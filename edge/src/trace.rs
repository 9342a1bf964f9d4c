//! A line about a request for whoever records traffic (`sim record` reads it), for
//! a sample of the clients.
//!
//! Whole clients and not single requests: a cache lives on what is asked for again,
//! so that a sample of requests would look worse than all of them. No id leaves as
//! it was: what is printed is its HMAC-SHA-256 under a key of the operator's. Knows
//! routes as traffic names them; does not know how an answer is found.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use url::form_urlencoded::byte_serialize;

use crate::json::{Object, string};
use crate::limits::ROWS_MAX;
use crate::policy::Kind;
use crate::route::target::{ProductFilter, Target, Typed};
use crate::route::{Request, Response};

/// Who is traced, and the key that ids are hashed with.
#[derive(Clone)]
pub struct Tracing {
    mac: Hmac<Sha256>,
    /// Clients whose hash is not above it are the sample.
    hash_max: u64,
}

/// A request of the sample, before it is answered.
pub(crate) struct Traced {
    began_ms: u64,
    method: &'static str,
    route: &'static str,
    key: String,
    client: String,
}

impl Tracing {
    /// A share of all clients, from 0 to 1.
    pub fn new(share: f64, key: &str) -> Self {
        // Never: it takes keys of any length.
        #[allow(clippy::expect_used)]
        let mac = Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes any key");
        let hash_max = (share * u64::MAX as f64) as u64;
        Self { mac, hash_max }
    }

    /// None: not of the sample, or nothing that is replayed.
    pub(crate) fn begin(
        &self,
        target: &Target,
        request: &Request,
        began_ms: u64,
    ) -> Option<Traced> {
        let method = match request.method.as_str() {
            "GET" | "HEAD" => "GET",
            "POST" => "POST",
            "DELETE" => "DELETE",
            _ => return None,
        };
        let (route, key) = self.named(target, request)?;
        // Who asks; where nobody knows, from which page, or for what.
        let client = request.client.as_ref().or(request.origin.as_ref());
        let client = self.hash(client.unwrap_or(&key));
        (client <= self.hash_max).then(|| Traced {
            began_ms,
            method,
            route,
            key,
            client: const_hex::encode(client.to_be_bytes()),
        })
    }

    fn hash(&self, id: &str) -> u64 {
        let hash = self.mac.clone().chain_update(id).finalize().into_bytes();
        let start = hash.first_chunk().copied();
        u64::from_be_bytes(start.unwrap_or_default())
    }

    fn id(&self, id: &str) -> String {
        const_hex::encode(self.hash(id).to_be_bytes())
    }

    /// The route as traffic has it, and the key without an id in it.
    fn named(&self, target: &Target, request: &Request) -> Option<(&'static str, String)> {
        let is_post = request.method == "POST";
        Some(match target {
            Target::Products(filter) => ("/postgres/products?{key}", query(filter)),
            Target::Profile(user) => ("/postgres/users/{key}/profile", self.id(user)),
            Target::Orders(user, _) => ("/postgres/users/{key}/orders", self.id(user)),
            Target::PlaceOrder => ("/postgres/orders", self.user(request)),
            Target::Returns(..) if is_post => ("/postgres/returns", self.user(request)),
            Target::Returns(Some(user), None) => ("/postgres/returns?{key}", self.id(user)),
            Target::Returns(user, product) => {
                let user = user.as_ref().map(|user| self.id(user));
                let pairs = [("userId", user.as_ref()), ("productId", product.as_ref())];
                ("/postgres/returns?{key}", encoded(pairs))
            }
            Target::Session(id) => ("/valkey/session/{key}", self.id(id)),
            Target::Touch(id) => ("/valkey/session/{key}/touch", self.id(id)),
            // What the route of all keys does too, by the name in Valkey.
            Target::Typed(typed, user) if request.method == "DELETE" => (
                "/valkey/cache/{key}",
                format!("{}:{}", typed.name(), self.id(user)),
            ),
            Target::Typed(typed, user) => {
                let route = match typed {
                    Typed::Conversation => "/valkey/cache/conversation/{key}",
                    Typed::Recommendations => "/valkey/cache/recommendations/{key}",
                    Typed::Preferences => "/valkey/cache/preferences/{key}",
                };
                (route, self.id(user))
            }
            Target::Generic(key) => {
                let key = match key.split_once(':') {
                    Some((kind, id)) if Kind::of_key(key) != Kind::Generic => {
                        format!("{kind}:{}", self.id(id))
                    }
                    _ => self.id(key),
                };
                ("/valkey/cache/{key}", key)
            }
            Target::OpenApi
            | Target::Health(_)
            | Target::Stats
            | Target::Sql
            | Target::Metrics
            | Target::Batch => return None,
        })
    }

    /// Of whom an order or a return is, as its body says; empty if it does not.
    fn user(&self, request: &Request) -> String {
        let body = request.body.as_deref().unwrap_or_default();
        let body = std::str::from_utf8(body).map(Object::parse);
        let user = match &body {
            Ok(Ok(body)) => body.field("user_id").and_then(string),
            _ => None,
        };
        user.map(|user| self.id(&user)).unwrap_or_default()
    }
}

impl Traced {
    /// One JSON object. It is found in a log by how it begins.
    pub(crate) fn line(&self, request: &Request, response: &Response) -> String {
        let size_bytes = match (self.method, response.status) {
            ("GET", 200) => response.body.len(),
            ("GET", _) => 0,
            _ => request.body.as_ref().map_or(0, |body| body.len()),
        };
        let mut headers = response.headers.iter();
        let cache_status = headers.find(|(name, _)| *name == "Cache-Status");
        let cache_status = cache_status.map_or("", |(_, value)| value);
        // Nothing else in the line is anybody's text but the edge's own.
        let place = request.place.as_deref().unwrap_or_default();
        let place: String = place.chars().filter(char::is_ascii_alphanumeric).collect();
        let Self {
            began_ms,
            method,
            route,
            key,
            client,
        } = self;
        let status = response.status;
        format!(
            r#"{{"trace":1,"time_ms":{began_ms},"method":"{method}","route":"{route}","key":"{key}","size_bytes":{size_bytes},"client":"{client}","place":"{place}","status":{status},"cache_status":"{cache_status}"}}"#
        )
    }
}

impl fmt::Debug for Tracing {
    // Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tracing({:#x})", self.hash_max)
    }
}

/// Filters name nobody. What the API does not read is not there.
fn query(filter: &ProductFilter) -> String {
    let limit = Some(filter.limit).filter(|limit| *limit != ROWS_MAX);
    encoded([
        ("category", filter.category.as_ref()),
        ("brand", filter.brand.as_ref()),
        ("minPrice", filter.min_price.as_ref()),
        ("maxPrice", filter.max_price.as_ref()),
        ("limit", limit.map(|limit| limit.to_string()).as_ref()),
    ])
}

fn encoded<const N: usize>(pairs: [(&str, Option<&String>); N]) -> String {
    let mut query = String::new();
    for (name, value) in pairs {
        if let Some(value) = value {
            query.push_str(if query.is_empty() { "" } else { "&" });
            query.push_str(name);
            query.push('=');
            query.extend(byte_serialize(value.as_bytes()));
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(method: &str, target: &str) -> Request {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request {
            method: method.to_owned(),
            path: format!("/api/vultr{path}"),
            query: query.to_owned(),
            client: Some("192.0.2.7".to_owned()),
            place: Some("FRA".to_owned()),
            ..Request::default()
        }
    }

    fn traced(share: f64, request: &Request) -> Option<Traced> {
        let target = Target::parse(request).unwrap();
        Tracing::new(share, "Jefe").begin(&target, request, 7)
    }

    #[test]
    fn ids_are_hashed_and_routes_are_as_traffic_has_them() {
        // RFC 4231, test case 2.
        let id = "what do ya want for nothing%3F";
        let hash = "5bdcc146bf60754e";
        let order = Request {
            body: Some(Bytes::from(r#"{"user_id":"what do ya want for nothing?"}"#)),
            ..request("POST", "/postgres/orders")
        };
        for (request, route, key) in [
            (
                request("GET", &format!("/valkey/session/{id}")),
                "/valkey/session/{key}",
                hash.to_owned(),
            ),
            (
                request("DELETE", &format!("/valkey/cache/preferences/{id}")),
                "/valkey/cache/{key}",
                format!("preferences:{hash}"),
            ),
            (
                request("GET", &format!("/valkey/cache/session:{id}")),
                "/valkey/cache/{key}",
                format!("session:{hash}"),
            ),
            (
                request("GET", &format!("/postgres/returns?productId=p&userId={id}")),
                "/postgres/returns?{key}",
                format!("userId={hash}&productId=p"),
            ),
            (
                request("GET", &format!("/postgres/returns?userId={id}")),
                "/postgres/returns?{key}",
                hash.to_owned(),
            ),
            (
                request(
                    "GET",
                    "/postgres/products?limit=3&mail=me%40x.example&category=a%20b",
                ),
                "/postgres/products?{key}",
                "category=a+b&limit=3".to_owned(),
            ),
            (order, "/postgres/orders", hash.to_owned()),
        ] {
            let traced = traced(1.0, &request).unwrap();
            assert_eq!((traced.route, &traced.key), (route, &key));
        }
        assert!(traced(1.0, &request("GET", "/valkey/metrics")).is_none());
    }

    #[test]
    fn a_line_says_what_came_of_it_and_never_whose_it_was() {
        let request = request("GET", "/valkey/session/secret-id");
        let response = Response {
            status: 200,
            headers: vec![("Cache-Status", "L1; hit; ttl=4".into())],
            body: Bytes::from("{}"),
            ready: None,
        };
        let line = traced(1.0, &request).unwrap().line(&request, &response);
        assert!(
            line.starts_with(r#"{"trace":1,"time_ms":7,"method":"GET","#),
            "{line}"
        );
        let end = r#""place":"FRA","status":200,"cache_status":"L1; hit; ttl=4"}"#;
        assert!(line.ends_with(end), "{line}");
        assert!(
            !line.contains("secret-id") && !line.contains("192.0.2.7"),
            "{line}"
        );
    }

    #[test]
    fn the_sample_is_of_clients_and_as_large_as_asked() {
        let count = (0..1000)
            .filter(|number| {
                let of_client = |path| Request {
                    client: Some(format!("client {number}")),
                    ..request("GET", path)
                };
                let one = traced(0.25, &of_client("/valkey/session/a")).is_some();
                let other = traced(0.25, &of_client("/postgres/users/b/orders")).is_some();
                assert_eq!(one, other);
                one
            })
            .count();
        assert!((200..300).contains(&count), "{count} of 1000");
    }
}
