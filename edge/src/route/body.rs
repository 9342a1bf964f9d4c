//! The operations: bodies taken apart, values and rows given back in the API's shapes.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::host::Host;
use crate::json::{self, Object};
use crate::limits;
use crate::policy::Kind;
use crate::route::ready::Made;
use crate::route::target::{Target, Typed, generic_key};
use crate::route::{Answer, Request, entity_tag};
use crate::tiers::changes::MadeOld;
use crate::tiers::postgres as sql;
use crate::tiers::rows::Query;
use crate::tiers::values::{Operation, Outcome};
use crate::tiers::{Found, OWN_PREFIX, Tiers};
use crate::wire::pg::{Rows, Statement};

impl Typed {
    fn kind(self) -> Kind {
        match self {
            Self::Conversation => Kind::Conversation,
            Self::Recommendations => Kind::Recommendations,
            Self::Preferences => Kind::Preferences,
        }
    }

    fn key(self, id: &str) -> String {
        [self.name(), ":", id].concat()
    }
}

fn session_key(id: &str) -> String {
    ["session:", id].concat()
}

fn copy_key(kind: &str, id: &str) -> String {
    [OWN_PREFIX, "{", kind, ":", id, "}"].concat()
}

/// All lists of products: whatever product is changed, any of them may be old.
const PRODUCTS: &str = "shepherd-edge:{products}";

/// What a change of rows makes old, by what the outbox says of it
/// (`migrations/changes.sql`); None: nothing that is known here.
pub(super) fn made_old(kind: &str, subject: &str) -> Option<MadeOld> {
    Some(match kind {
        "products" => MadeOld::Family(PRODUCTS),
        "profile" => MadeOld::Keys(vec![copy_key("profile", subject)]),
        "orders" => MadeOld::Keys(vec![copy_key("orders", subject)]),
        "returns" => MadeOld::Keys(vec![returns_of(subject), every_return()]),
        _ => return None,
    })
}

/// What a read asks the tiers for, and how it is sent.
pub(crate) enum Wanted {
    Value {
        key: String,
        /// The value is sent under this name; None: bare.
        name: Option<&'static str>,
        /// Else a stored null is as if nothing were there.
        null_counts: bool,
    },
    Rows(Rc<Query>),
}

impl Wanted {
    /// # Errors
    /// Nothing that can be read.
    pub(super) fn of(target: Target) -> Result<Self, Error> {
        let typed = |key, name| Self::Value {
            key,
            name,
            null_counts: false,
        };
        Ok(match target {
            Target::Session(id) => typed(session_key(&id), None),
            Target::Typed(one @ Typed::Conversation, id) => typed(one.key(&id), None),
            Target::Typed(one, id) => typed(one.key(&id), Some(one.name())),
            Target::Generic(key) => Self::Value {
                key,
                name: Some("value"),
                null_counts: true,
            },
            Target::Products(filter) => {
                let parameters = vec![
                    filter.category,
                    filter.brand,
                    filter.min_price,
                    filter.max_price,
                    Some(filter.limit.to_string()),
                ];
                // What is not given, is empty; and no parameter has a NUL in it.
                let mut whole = Sha256::new();
                for parameter in &parameters {
                    whole.update(parameter.as_deref().unwrap_or_default());
                    whole.update([0]);
                }
                // One key a filter: a hash of all of them would be too large to look through.
                let key = [PRODUCTS, ":", &const_hex::encode(whole.finalize())].concat();
                let statement = Statement {
                    sql: sql::PRODUCTS,
                    parameters,
                };
                rows(Kind::Products, (key, String::new()), statement, list)
            }
            Target::Profile(user) => {
                let key = copy_key("profile", &user);
                let statement = Statement {
                    sql: sql::PROFILE,
                    parameters: vec![Some(user)],
                };
                rows(Kind::Profile, (key, String::new()), statement, single)
            }
            Target::Orders(user, limit) => {
                let key = copy_key("orders", &user);
                let statement = Statement {
                    sql: sql::ORDERS,
                    parameters: vec![Some(user), Some(limit.to_string())],
                };
                rows(Kind::Orders, (key, limit.to_string()), statement, list)
            }
            Target::Returns(user, product) => {
                let key = user.as_deref().map_or_else(every_return, returns_of);
                let variant = product.as_deref().map_or_else(String::new, |product| {
                    const_hex::encode(Sha256::digest(product))
                });
                let statement = Statement {
                    sql: sql::RETURNS,
                    parameters: vec![user, product, Some(limits::ROWS_MAX.to_string())],
                };
                rows(Kind::Returns, (key, variant), statement, list)
            }
            _ => return Err(Error::NotFound),
        })
    }

    pub(super) async fn read<H: Host>(&self, tiers: &Tiers<H>) -> Result<Found, Error> {
        match self {
            Self::Value { key, .. } => tiers.value(key).await,
            Self::Rows(query) => tiers.rows(query).await,
        }
    }

    /// What L1 answers with, without waiting.
    pub(super) fn read_at_once<H: Host>(&self, tiers: &Tiers<H>) -> Option<Found> {
        match self {
            Self::Value { key, .. } => tiers.value_at_once(key),
            Self::Rows(query) => tiers.rows_at_once(query),
        }
    }

    /// What L1 is looked at for: a key and its variant.
    pub(super) fn place(&self) -> (&str, &str) {
        match self {
            Self::Value { key, .. } => (key, ""),
            Self::Rows(query) => (&query.key, &query.variant),
        }
    }

    pub(super) fn is_value(&self) -> bool {
        matches!(self, Self::Value { .. })
    }

    /// What is sent for what was found; None: as if nothing were there.
    pub(super) fn made(&self, found: &Bytes) -> Option<Made> {
        let body = match self {
            Self::Value {
                null_counts: false, ..
            } if found.trim_ascii() == b"null" => return None,
            Self::Value {
                name: Some(name), ..
            } => Bytes::from([b"{\"", name.as_bytes(), b"\":", found, b"}"].concat()),
            Self::Value { name: None, .. } | Self::Rows(_) => found.clone(),
        };
        let tag = entity_tag(&body).into();
        Some(Made { body, tag })
    }
}

fn rows(
    kind: Kind,
    (key, variant): (String, String),
    statement: Statement,
    render: fn(&Rows) -> Result<Option<Vec<u8>>, Error>,
) -> Wanted {
    Wanted::Rows(Rc::new(Query {
        kind,
        key,
        family: (kind == Kind::Products).then_some(PRODUCTS),
        variant,
        statement,
        render,
    }))
}

fn returns_of(user: &str) -> String {
    copy_key("returns", user)
}

/// The lists that are not of one user.
fn every_return() -> String {
    copy_key("every", "return")
}

fn list(rows: &Rows) -> Result<Option<Vec<u8>>, Error> {
    rows.json_array().map(Some).map_err(broken)
}

fn single(rows: &Rows) -> Result<Option<Vec<u8>>, Error> {
    if rows.is_empty() {
        Ok(None)
    } else {
        rows.json_object(0).map(Some).map_err(broken)
    }
}

fn broken(error: crate::wire::WireError) -> Error {
    Error::Store(
        crate::error::Store::Postgres,
        crate::error::Fault::Wire(error),
    )
}

pub(super) async fn write<H: Host>(
    tiers: &Tiers<H>,
    target: Target,
    method: &str,
    request: &Request,
) -> Result<Answer, Error> {
    if method == "DELETE" {
        let existed = match target {
            Target::Session(id) => tiers.delete(session_key(&id)).await?,
            Target::Typed(typed, id) => tiers.delete(typed.key(&id)).await?,
            Target::Generic(key) => tiers.delete(key).await?,
            _ => return Err(Error::NotFound),
        };
        return Ok(success(existed));
    }
    let policies = &tiers.isolate.settings.policies;
    let ttl_s_of = |kind| policies.of(kind).ttl_s;
    if let Target::Touch(id) = target {
        if request
            .content_type
            .as_deref()
            .is_some_and(|kind| !is_json(kind))
        {
            return Err(Error::UnsupportedMediaType);
        }
        // A session that never expires by itself would be one that expires at once.
        let session_ttl_s = ttl_s_of(Kind::Session).unwrap_or(limits::TTL_S_MAX);
        let touched = tiers.touch(&session_key(&id), session_ttl_s).await?;
        return if touched {
            Ok(success(true))
        } else {
            Err(Error::NotFound)
        };
    }
    if !request.content_type.as_deref().is_some_and(is_json) {
        return Err(Error::UnsupportedMediaType);
    }
    let body = request.body.as_ref().ok_or(Error::TooLarge)?;
    let text = std::str::from_utf8(body).map_err(|_| Error::bad("the body is not UTF-8"))?;
    if let Target::Session(id) = target {
        let ttl_s = if text.trim_start().starts_with('[') {
            json::check(text)?;
            None
        } else {
            ttl(Object::parse(text)?.present("ttl"))?
        };
        let ttl_s = ttl_s.or(ttl_s_of(Kind::Session));
        tiers
            .store(session_key(&id), Some(text.to_owned()), ttl_s)
            .await?;
        return Ok(success(true));
    }
    let object = Object::parse(text)?;
    match target {
        Target::Typed(typed, id) => {
            let ttl_s = ttl(object.present("ttl"))?.or(ttl_s_of(typed.kind()));
            let text = match typed {
                Typed::Conversation => Some(match object.field("context") {
                    Some(context) => format!("{{\"context\":{context}}}"),
                    None => "{}".to_owned(),
                }),
                _ => object.present(typed.name()).map(str::to_owned),
            };
            tiers.store(typed.key(&id), text, ttl_s).await?;
            Ok(success(true))
        }
        Target::Generic(key) => {
            let ttl_s = ttl(object.present("ttl"))?;
            tiers
                .store(key, object.field("value").map(str::to_owned), ttl_s)
                .await?;
            Ok(success(true))
        }
        Target::Batch => batch(tiers, &object).await,
        Target::Profile(user) => save_profile(tiers, user, &object).await,
        Target::PlaceOrder => place_order(tiers, request, &object).await,
        Target::Returns(..) => place_return(tiers, request, &object).await,
        _ => Err(Error::NotFound),
    }
}

fn success(success: bool) -> Answer {
    Answer::Plain(200, format!("{{\"success\":{success}}}"))
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// A TTL: whole seconds, or a string of digits.
fn ttl(text: Option<&str>) -> Result<Option<u64>, Error> {
    let Some(text) = text else { return Ok(None) };
    let digits = json::string(text);
    let number = match &digits {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse::<u64>().ok()
        }
        Some(_) => None,
        None => text
            .parse::<f64>()
            .ok()
            .filter(|ttl| ttl.fract() == 0.0 && (1.0..1e12).contains(ttl))
            .map(|ttl| ttl as u64),
    };
    number
        .filter(|ttl| (1..=limits::TTL_S_MAX).contains(ttl))
        .map(Some)
        .ok_or_else(|| {
            Error::bad(format!(
                "ttl is a whole number of seconds from 1 to {}",
                limits::TTL_S_MAX
            ))
        })
}

async fn batch<H: Host>(tiers: &Tiers<H>, object: &Object<'_>) -> Result<Answer, Error> {
    let entries = object
        .field("operations")
        .and_then(json::elements)
        .ok_or_else(|| Error::bad("operations must be an array"))?;
    if entries.len() > limits::BATCH_OPERATIONS_MAX {
        return Err(Error::bad(format!(
            "a batch has at most {} operations",
            limits::BATCH_OPERATIONS_MAX
        )));
    }
    let mut operations = Vec::new();
    let mut plan = Vec::new();
    for entry in entries {
        let (key, operation) = batch_entry(entry.get());
        let key_text = key
            .as_deref()
            .map_or_else(|| "null".to_owned(), json::quoted);
        plan.push((
            key_text,
            operation.map(|operation| operations.push(operation)),
        ));
    }
    let mut outcomes = tiers.batch(operations).await?.into_iter();
    let mut text = r#"{"results":["#.to_owned();
    for (place, (key, planned)) in plan.into_iter().enumerate() {
        let outcome = match planned {
            Ok(()) => outcomes.next(),
            Err(error) => Some(Outcome::Failed(error)),
        };
        let (success, name, value): (_, _, Cow<str>) = match &outcome {
            Some(Outcome::Value(found)) => {
                // What is no text was not found.
                let value = found.body.as_deref();
                let value = value.and_then(|value| str::from_utf8(value).ok());
                ("true", r#","value":"#, value.unwrap_or("null").into())
            }
            Some(Outcome::Done(_)) => ("true", "", "".into()),
            Some(Outcome::Failed(error)) => {
                let error = json::quoted(&error.to_string());
                ("false", r#","error":"#, error.into())
            }
            None => ("false", r#","error":"#, r#""no answer""#.into()),
        };
        text.push_str(if place > 0 { "," } else { "" });
        for part in [
            r#"{"success":"#,
            success,
            r#","key":"#,
            &key,
            name,
            &value,
            "}",
        ] {
            text.push_str(part);
        }
    }
    text.push_str("]}");
    Ok(Answer::Plain(200, text))
}

fn batch_entry(text: &str) -> (Option<String>, Result<Operation, Error>) {
    let object = match Object::parse(text) {
        Ok(object) => object,
        Err(_) => return (None, Err(Error::bad("an operation must be an object"))),
    };
    let key = object.field("key").and_then(json::string);
    let operation = (|| {
        let named = key
            .as_deref()
            .ok_or_else(|| Error::bad("key must be a string"))?;
        if named.is_empty() || named.contains('\0') {
            return Err(Error::bad("key must not be empty or contain NUL"));
        }
        let key = generic_key(named)?;
        match object.field("type").and_then(json::string).as_deref() {
            Some("get") => Ok(Operation::Get(key)),
            Some("delete") => Ok(Operation::Delete(key)),
            Some("set") => {
                let ttl_s = ttl(object.present("ttl"))?;
                Ok(Operation::Set(
                    key,
                    object.field("value").map(str::to_owned),
                    ttl_s,
                ))
            }
            _ => Err(Error::bad("type must be set, get or delete")),
        }
    })();
    (key, operation)
}

async fn save_profile<H: Host>(
    tiers: &Tiers<H>,
    user: String,
    object: &Object<'_>,
) -> Result<Answer, Error> {
    let field = |name: &str| {
        let Some(text) = object.field(name) else {
            return Ok(None);
        };
        match text {
            "null" => Ok(Some("{}".to_owned())),
            text if text.starts_with('{') => storable(name, text).map(Some),
            _ => Err(Error::bad(format!("{name} must be an object or null"))),
        }
    };
    let preferences = field("preferences")?;
    // Both are checked; the older name counts only alone.
    let (measurements, former) = (field("body_measurements")?, field("bodyMeasurements")?);
    let measurements = measurements.or(former);
    let email = format!("{}@users.invalid", const_hex::encode(Sha256::digest(&user)));
    let key = copy_key("profile", &user);
    let statement = Statement {
        sql: sql::SAVE_PROFILE,
        parameters: vec![Some(user), preferences, measurements, Some(email)],
    };
    let save = || tiers.write_rows(vec![key.clone()], &statement);
    let stored = match save().await {
        // Of two first saves at the same moment one may be refused for the address, which
        // both make, before it is seen that the user is there: now it is.
        Err(Error::Conflict(sql::ADDRESS_TAKEN)) => save().await,
        stored => stored,
    }?;
    with_members(&stored, "\"success\":true")
}

/// JSON that a `jsonb` column takes.
fn storable(name: &str, text: &str) -> Result<String, Error> {
    if json::contains_nul(text) {
        return Err(Error::bad(format!("{name} must not contain \\u0000")));
    }
    if json::contains_huge_number(text) {
        return Err(Error::bad(format!(
            "{name} has a number whose exponent is beyond {}",
            limits::EXPONENT_MAX
        )));
    }
    Ok(text.to_owned())
}

async fn place_order<H: Host>(
    tiers: &Tiers<H>,
    request: &Request,
    object: &Object<'_>,
) -> Result<Answer, Error> {
    let user = id(object, "user_id")?;
    let items = object
        .field("items")
        .filter(|text| text.starts_with('['))
        .ok_or_else(|| Error::bad("items must be an array"))
        .and_then(|text| storable("items", text))?;
    let total = object.field("total_amount").unwrap_or_default();
    if !total
        .parse::<f64>()
        .is_ok_and(|total| (0.0..1e8).contains(&total))
    {
        return Err(Error::bad(
            "total_amount must be a number from 0 up to, not including, 100000000",
        ));
    }
    let status = match object.present("status") {
        None => "pending".to_owned(),
        Some(text) => json::string(text)
            .filter(|status| !status.contains('\0') && status.chars().count() <= 50)
            .ok_or_else(|| Error::bad("status must be a string of at most 50 characters"))?,
    };
    let order = new_id(tiers, request, "order", &user)?;
    let key = copy_key("orders", &user);
    let statement = Statement {
        sql: sql::PLACE_ORDER,
        parameters: vec![
            Some(order.clone()),
            Some(user),
            Some(items),
            Some(total.to_owned()),
            Some(status),
        ],
    };
    let stored = tiers.write_rows(vec![key], &statement).await?;
    with_members(&stored, &format!("\"orderId\":{}", json::quoted(&order)))
}

async fn place_return<H: Host>(
    tiers: &Tiers<H>,
    request: &Request,
    object: &Object<'_>,
) -> Result<Answer, Error> {
    let (order, user, product) = (
        id(object, "order_id")?,
        id(object, "user_id")?,
        id(object, "product_id")?,
    );
    let reason = object
        .present("reason")
        .and_then(json::string)
        .filter(|reason| !reason.contains('\0'))
        .ok_or_else(|| Error::bad("reason must be a string"))?;
    let name = new_id(tiers, request, "return", &user)?;
    let (of_user, every) = (returns_of(&user), every_return());
    let statement = Statement {
        sql: sql::PLACE_RETURN,
        parameters: vec![
            Some(name.clone()),
            Some(order),
            Some(user),
            Some(product),
            Some(reason),
        ],
    };
    let stored = tiers.write_rows(vec![of_user, every], &statement).await?;
    with_members(&stored, &format!("\"returnId\":{}", json::quoted(&name)))
}

fn id(object: &Object<'_>, name: &str) -> Result<String, Error> {
    object
        .field(name)
        .and_then(json::string)
        .filter(|id| {
            !id.is_empty() && !id.contains('\0') && id.chars().count() <= limits::ID_CHARS_MAX
        })
        .ok_or_else(|| Error::bad(format!("{name} must be a string of 1 to 255 characters")))
}

/// An id that is made before the first attempt, so that a second one is
/// recognised: the edge's own after a broken connection by a random id, the
/// caller's by one that follows from its `Idempotency-Key`
/// (draft-ietf-httpapi-idempotency-key-header). Such an id has no time in it.
fn new_id<H: Host>(
    tiers: &Tiers<H>,
    request: &Request,
    kind: &str,
    user: &str,
) -> Result<String, Error> {
    let Some(key) = &request.idempotency_key else {
        let now_ms = tiers.host.now_ms();
        return Ok(format!(
            "{kind}_{now_ms}_{}",
            const_hex::encode(tiers.host.random())
        ));
    };
    let is_printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !is_printable || !(1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
        return Err(Error::bad(
            "an Idempotency-Key has 1 to 255 printable ASCII characters",
        ));
    }
    // Keys of two users are not the same key.
    let digest = Sha256::digest(format!("{kind} {} {user} {key}", user.len()));
    Ok(format!(
        "{kind}_0_{}",
        const_hex::encode(digest.first_chunk::<16>().unwrap_or(&[0; 16]))
    ))
}

fn with_members(stored: &Rows, members: &str) -> Result<Answer, Error> {
    if stored.is_empty() {
        return Err(Error::Unprocessable(
            "this Idempotency-Key came before with another content",
        ));
    }
    let mut text = String::from_utf8(stored.json_object(0).map_err(broken)?).unwrap_or_default();
    if text.pop() != Some('}') {
        return Err(broken(crate::wire::WireError::Protocol(
            "the stored row did not come back",
        )));
    }
    Ok(Answer::Plain(200, format!("{text},{members}}}")))
}
