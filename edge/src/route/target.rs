//! What a path and query name: a resource and its parameters, checked.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};
use percent_encoding::percent_decode;

use crate::error::{Error, Store};
use crate::limits;
use crate::policy::Kind;
use crate::route::Request;
use crate::tiers::OWN_PREFIX;

/// The typed caches beside sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed {
    Conversation,
    Recommendations,
    Preferences,
}

impl Typed {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Recommendations => "recommendations",
            Self::Preferences => "preferences",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Conversation, Self::Recommendations, Self::Preferences]
            .into_iter()
            .find(|typed| typed.name() == name)
    }
}

/// What the caller wants of the catalogue; None is no filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProductFilter {
    pub category: Option<String>,
    pub brand: Option<String>,
    pub min_price: Option<String>,
    pub max_price: Option<String>,
    pub limit: u32,
}

/// A resource of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    OpenApi,
    Health(Store),
    Stats,
    Sql,
    Products(ProductFilter),
    Profile(String),
    Orders(String, u32),
    PlaceOrder,
    Returns(Option<String>, Option<String>),
    Session(String),
    Touch(String),
    Typed(Typed, String),
    Generic(String),
    Metrics,
    Batch,
}

impl Target {
    /// # Errors
    /// No such resource, or an id, key or parameter is malformed.
    pub(crate) fn parse(request: &Request) -> Result<Self, Error> {
        if request.path.len() + request.query.len() > limits::TARGET_BYTES_MAX {
            return Err(Error::bad("the URL is too long"));
        }
        let path = request.path.strip_suffix('/').unwrap_or(&request.path);
        if path == "/openapi.json" {
            return Ok(Self::OpenApi);
        }
        let rest = path.strip_prefix("/api/vultr/").ok_or(Error::NotFound)?;
        let segments = rest.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
        let segments: Vec<&str> = segments.iter().map(Cow::as_ref).collect();
        let query = Query::of(&request.query);
        Ok(match segments.as_slice() {
            ["postgres", "health"] => Self::Health(Store::Postgres),
            ["postgres", "stats"] => Self::Stats,
            ["postgres", "batch"] => Self::Sql,
            ["postgres", "products"] => Self::Products(ProductFilter {
                category: query.text("category")?,
                brand: query.text("brand")?,
                min_price: query.number("minPrice")?,
                max_price: query.number("maxPrice")?,
                limit: query.limit()?.unwrap_or(limits::ROWS_MAX),
            }),
            ["postgres", "users", user, "profile"] => Self::Profile(user_id(user)?),
            ["postgres", "users", user, "orders"] => Self::Orders(
                user_id(user)?,
                query
                    .limit()?
                    .filter(|limit| *limit > 0)
                    .unwrap_or(limits::ORDERS_DEFAULT),
            ),
            ["postgres", "orders"] => Self::PlaceOrder,
            ["postgres", "returns"] => {
                Self::Returns(query.text("userId")?, query.text("productId")?)
            }
            ["valkey", "health"] => Self::Health(Store::Valkey),
            ["valkey", "metrics"] => Self::Metrics,
            ["valkey", "batch"] => Self::Batch,
            ["valkey", "session", id] => Self::Session(key(id)?),
            ["valkey", "session", id, "touch"] => Self::Touch(key(id)?),
            ["valkey", "cache", one, id] if Typed::named(one).is_some() => {
                Self::Typed(Typed::named(one).ok_or(Error::NotFound)?, user_id(id)?)
            }
            ["valkey", "cache", rest @ ..] if !rest.is_empty() => {
                Self::Generic(generic_key(&rest.join("/"))?)
            }
            _ => return Err(Error::NotFound),
        })
    }

    /// The methods of the resource, as the `Allow` header wants them.
    pub(crate) fn allow(&self) -> &'static str {
        match self {
            Self::OpenApi
            | Self::Health(_)
            | Self::Stats
            | Self::Metrics
            | Self::Products(_)
            | Self::Orders(..) => "GET, HEAD",
            Self::Profile(_) | Self::Returns(..) => "GET, HEAD, POST",
            Self::Sql | Self::PlaceOrder | Self::Touch(_) | Self::Batch => "POST",
            Self::Session(_) | Self::Typed(..) | Self::Generic(_) => "GET, HEAD, POST, DELETE",
        }
    }
}

/// A segment of a path, decoded exactly once, as UTF-8; a plus stays a plus.
///
/// # Errors
/// It is not well percent-encoded (RFC 3986, section 2.1), no UTF-8, or has a NUL.
pub fn decode(segment: &str) -> Result<Cow<'_, str>, Error> {
    let malformed = || Error::bad("the path is not well percent-encoded UTF-8");
    let bytes = segment.as_bytes();
    let is_whole = |at: usize| {
        let digits = bytes.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let text = match memchr(b'%', bytes) {
        // As most are.
        None => Cow::Borrowed(segment),
        Some(_) if !memchr_iter(b'%', bytes).all(is_whole) => return Err(malformed()),
        Some(_) => percent_decode(bytes)
            .decode_utf8()
            .map_err(|_| malformed())?,
    };
    if memchr(0, text.as_bytes()).is_some() {
        return Err(Error::bad("an id or key must not contain NUL"));
    }
    Ok(text)
}

/// As [`decode`], where a plus is a space.
fn decode_form(text: &str) -> Result<Cow<'_, str>, Error> {
    if memchr(b'+', text.as_bytes()).is_none() {
        return decode(text);
    }
    let text = text.replace('+', " ");
    Ok(Cow::Owned(decode(&text)?.into_owned()))
}

fn user_id(text: &str) -> Result<String, Error> {
    if text.is_empty() {
        return Err(Error::NotFound);
    }
    if text.chars().count() > limits::USER_ID_CHARS_MAX {
        return Err(Error::bad("a user id has at most 255 characters"));
    }
    Ok(text.to_owned())
}

fn key(text: &str) -> Result<String, Error> {
    match text.len() {
        0 => Err(Error::NotFound),
        1..=limits::KEY_BYTES_MAX => Ok(text.to_owned()),
        _ => Err(Error::bad("an id or key has at most 1024 bytes")),
    }
}

/// A key that any caller may name: not one of the edge's own.
pub(crate) fn generic_key(text: &str) -> Result<String, Error> {
    if text.starts_with(OWN_PREFIX) {
        return Err(Error::Forbidden(
            "keys that begin with shepherd-edge: are the edge's own",
        ));
    }
    // As long as the id may be that the typed route takes.
    let id = match Kind::of_key(text) {
        Kind::Generic => text,
        _ => text.split_once(':').map_or(text, |(_, id)| id),
    };
    key(if id.is_empty() { text } else { id })?;
    Ok(text.to_owned())
}

/// Names that can be read, with values as they were sent.
struct Query<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Query<'a> {
    fn of(query: &'a str) -> Self {
        let pairs = query.split('&').filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode_form(key).ok()?, value))
        });
        Self(pairs.collect())
    }

    /// The value of a parameter; an empty one is absent.
    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let mut values = self
            .0
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| *value);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(Error::bad(format!("{name} is given more than once")));
        }
        let text = decode_form(value)?;
        if text.chars().count() > limits::ID_CHARS_MAX {
            return Err(Error::bad(format!(
                "{name} has at most {} characters",
                limits::ID_CHARS_MAX
            )));
        }
        Ok((!text.is_empty()).then(|| text.into_owned()))
    }

    fn number(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let sound = text.len() <= limits::NUMBER_CHARS_MAX
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
            && text.parse::<f64>().is_ok_and(f64::is_finite);
        if sound {
            Ok(Some(text))
        } else {
            Err(Error::bad(format!("{name} is not a number")))
        }
    }

    fn limit(&self) -> Result<Option<u32>, Error> {
        let Some(text) = self.text("limit")? else {
            return Ok(None);
        };
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Some(text.parse().map_or(limits::ROWS_MAX, |limit: u32| {
                limit.min(limits::ROWS_MAX)
            })))
        } else {
            Err(Error::bad("limit is a whole number, 0 or more"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, query: &str) -> Result<Target, Error> {
        Target::parse(&Request {
            path: path.into(),
            query: query.into(),
            ..Request::default()
        })
    }

    #[test]
    fn keys_are_decoded_exactly_once() {
        let generic = |path: &str| parse(&format!("/api/vultr/valkey/cache/{path}"), "").unwrap();
        assert_eq!(generic("a%2Fb"), Target::Generic("a/b".into()));
        assert_eq!(generic("a%252Fb"), Target::Generic("a%2Fb".into()));
        assert_eq!(generic("a+b"), Target::Generic("a+b".into()));
        assert_eq!(generic("a/b/"), Target::Generic("a/b".into()));
        assert_eq!(
            generic("preferences/u"),
            Target::Typed(Typed::Preferences, "u".into())
        );
        assert_eq!(
            generic("preferences"),
            Target::Generic("preferences".into())
        );
    }

    #[test]
    fn malformed_paths_and_own_keys_are_refused() {
        for (path, status) in [
            ("50%", 400),
            ("%zz", 400),
            ("%ff", 400),
            ("a%00", 400),
            ("shepherd-edge:x", 403),
            ("shepherd-edge%3Ax", 403),
            ("", 404),
        ] {
            let error = parse(&format!("/api/vultr/valkey/cache/{path}"), "").unwrap_err();
            assert_eq!(error.status(), status, "{path}");
        }
    }

    #[test]
    fn filters_are_checked() {
        let products = |query: &str| parse("/api/vultr/postgres/products", query);
        assert!(matches!(
            products("category=&limit=0"),
            Ok(Target::Products(ProductFilter {
                category: None,
                limit: 0,
                ..
            }))
        ));
        for query in [
            "limit=-1",
            "limit=1.5",
            "minPrice=x",
            "minPrice=NaN",
            "brand=a&brand=b",
        ] {
            assert_eq!(products(query).unwrap_err().status(), 400, "{query}");
        }
    }
}
