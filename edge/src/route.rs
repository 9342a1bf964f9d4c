//! Paths, methods, statuses and headers of the API; nothing below knows them.
//!
//! Does not know how a host reads a request, nor which tier has what.

mod body;
pub mod changes;
pub mod gateway;
mod ready;
pub(crate) mod target;

use std::borrow::Cow;
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::Either;

use crate::checksum::checksum;
use crate::error::{Error, Store};
use crate::host::Host;
use crate::isolate::Isolate;
use crate::settings::Backend;
use crate::tiers::{Found, InL2, Tier, Tiers, Waited};
use body::Wanted;
use ready::Made;
pub use ready::Ready;
use target::Target;
pub use target::decode;

/// What the API reads of a request, and so all that can change an answer (but for
/// who asks, and where).
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// As sent: percent-encoded.
    pub path: String,
    pub query: String,
    pub content_type: Option<String>,
    pub origin: Option<String>,
    pub if_none_match: Option<String>,
    pub idempotency_key: Option<String>,
    /// Who asks and where, in the platform's words: read only for tracing, and by
    /// nothing that makes an answer.
    pub client: Option<String>,
    pub place: Option<String>,
    /// None: larger than [`crate::limits::REQUEST_BODY_BYTES_MAX`].
    pub body: Option<Bytes>,
    /// From an isolate to its gateway: what the answer must not be older than.
    pub floor_ms: Option<u64>,
}

/// An answer, ready for the host.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    pub body: Bytes,
    /// Of a hit in L1, for a host that wants to give it again: see [`begin`].
    pub ready: Option<Rc<Ready>>,
}

/// What an operation answers before headers are put on.
pub(crate) enum Answer {
    /// A body that is no cached value.
    Plain(u16, String),
    /// A read, what the tiers found, and what was made of it if it was before.
    Read(Rc<Wanted>, Found, Option<Made>),
}

/// How many headers an answer has, about.
const HEADERS_USUAL: usize = 10;
/// More than most are long.
const CACHE_STATUS_USUAL_BYTES: usize = 64;

const MISSING: &[u8] = br#"{"error":"not found"}"#;

const OPENAPI: &str = include_str!("../openapi.json");

/// Answers one request.
pub async fn answer<H: Host>(host: H, isolate: Rc<Isolate>, request: Request) -> Response {
    let began_ms = host.now_ms();
    let (tiers, request) = walk(host, isolate, request);
    later(tiers, request, began_ms).await
}

/// Answers one request: at once, without waiting for anything, when `ready` came with
/// the answer to the same request before and L1 still has it; else later.
pub fn begin<H: Host>(
    host: H,
    isolate: Rc<Isolate>,
    request: Request,
    ready: Option<&Ready>,
) -> Either<Response, impl Future<Output = Response> + use<H>> {
    let began_ms = host.now_ms();
    let (tiers, request) = walk(host, isolate, request);
    match ready.and_then(|ready| at_once(&tiers, &request, ready)) {
        Some(response) => Either::Left(complete(&tiers, &request, began_ms, response)),
        None => Either::Right(later(tiers, request, began_ms)),
    }
}

/// The walk that a request begins.
fn walk<H: Host>(host: H, isolate: Rc<Isolate>, request: Request) -> (Tiers<H>, Rc<Request>) {
    let request = Rc::new(request);
    let mut tiers = Tiers::new(host, isolate);
    if let Backend::Gateway { shards } = tiers.isolate.settings.backend {
        let way = gateway::way(&tiers.host, &tiers.isolate.settings, shards, &request);
        tiers = tiers.behind(way);
    }
    (tiers, request)
}

fn at_once<H: Host>(tiers: &Tiers<H>, request: &Request, ready: &Ready) -> Option<Response> {
    let found = ready.wanted.read_at_once(tiers)?;
    let made = found.body.as_ref().and_then(|body| ready.made(body));
    let answer = Answer::Read(Rc::clone(&ready.wanted), found, made);
    Some(finish(tiers, request, Ok(answer)))
}

async fn later<H: Host>(tiers: Tiers<H>, request: Rc<Request>, began_ms: u64) -> Response {
    let target = Target::parse(&request);
    let traced = match (&tiers.isolate.settings.tracing, &target) {
        (Some(tracing), Ok(target)) => tracing.begin(target, &request, began_ms),
        _ => None,
    };
    let response = if request.method == "OPTIONS" {
        preflight()
    } else {
        let outcome = match target {
            Ok(target) => operate(&tiers, target, &request).await,
            Err(error) => Err(error),
        };
        finish(&tiers, &request, outcome)
    };
    let mut response = complete(&tiers, &request, began_ms, response);
    if let Some(traced) = traced {
        tiers.host.print(&traced.line(&request, &response));
    }
    if request.method == "HEAD" {
        response.body = Bytes::new();
    }
    response
}

/// What every answer needs in the end.
fn complete<H: Host>(
    tiers: &Tiers<H>,
    request: &Request,
    began_ms: u64,
    mut response: Response,
) -> Response {
    if request.path.starts_with("/api/vultr/valkey/") {
        let took_ms = tiers.host.now_ms().saturating_sub(began_ms);
        tiers.isolate.metrics.request(took_ms);
    }
    allow_origin(&tiers.isolate.settings.origins, request, &mut response);
    response
}

async fn operate<H: Host>(
    tiers: &Tiers<H>,
    target: Target,
    request: &Request,
) -> Result<Answer, Error> {
    let allow = target.allow();
    let method = if request.method == "HEAD" {
        "GET"
    } else {
        request.method.as_str()
    };
    if !allow.split(", ").any(|allowed| allowed == method) {
        return Err(Error::MethodNotAllowed(allow));
    }
    if matches!(target, Target::Health(_) | Target::Stats)
        && let Some(answered) = tiers.pass_on().await
    {
        return match (answered, &target) {
            (Err(error @ Error::Store(..)), Target::Health(_)) => Ok(unhealthy(tiers, &error)),
            (Err(error @ Error::Store(..)), _) => {
                tiers.complain(&error);
                Ok(stats(0, false))
            }
            (answered, _) => answered,
        };
    }
    match (&target, method) {
        (Target::OpenApi, _) => Ok(Answer::Plain(200, OPENAPI.to_owned())),
        (Target::Sql, _) => Err(Error::Forbidden("SQL is not accepted here")),
        (Target::Metrics, _) => Ok(Answer::Plain(200, tiers.isolate.metrics.json())),
        (Target::Health(store), _) => Ok(health(tiers, *store).await),
        (Target::Stats, _) => {
            let is_healthy = tiers.probe(Store::Postgres).await.is_ok();
            // Without a gateway, connections end with their request, and none is idle.
            let idle = tiers.host.kept().map_or(0, |kept| kept.postgres.count());
            Ok(stats(idle, is_healthy))
        }
        (_, "GET") => {
            let wanted = Rc::new(Wanted::of(target)?);
            let found = wanted.read(tiers).await?;
            Ok(Answer::Read(wanted, found, None))
        }
        _ => body::write(tiers, target, method, request).await,
    }
}

async fn health<H: Host>(tiers: &Tiers<H>, store: Store) -> Answer {
    match tiers.probe(store).await {
        Ok(latency_ms) => Answer::Plain(
            200,
            format!(r#"{{"status":"healthy","latency":{latency_ms}}}"#),
        ),
        Err(error) => unhealthy(tiers, &error),
    }
}

fn unhealthy<H: Host>(tiers: &Tiers<H>, error: &Error) -> Answer {
    tiers.complain(error);
    let text = serde_json::json!({"status": "unhealthy", "error": error.to_string()});
    Answer::Plain(503, text.to_string())
}

fn stats(idle: usize, is_healthy: bool) -> Answer {
    let health = if is_healthy { "healthy" } else { "unhealthy" };
    let text = serde_json::json!({"totalCount": idle, "idleCount": idle, "waitingCount": 0, "health": health});
    Answer::Plain(200, text.to_string())
}

fn finish<H: Host>(
    tiers: &Tiers<H>,
    request: &Request,
    outcome: Result<Answer, Error>,
) -> Response {
    let mut headers = Vec::with_capacity(HEADERS_USUAL);
    headers.extend([
        ("Content-Type", "application/json; charset=utf-8".into()),
        ("Cache-Control", "no-store".into()),
        ("X-Content-Type-Options", "nosniff".into()),
    ]);
    let mut ready = None;
    let (status, body) = match outcome {
        Ok(Answer::Plain(status, text)) => (status, Bytes::from(text)),
        Ok(Answer::Read(wanted, found, made)) => {
            headers.push(("Cache-Status", cache_status(&found).into()));
            headers.push(("Age", found.age_s().to_string().into()));
            let made = made.or_else(|| wanted.made(found.body.as_ref()?));
            if let Some(made) = made {
                headers.push(("ETag", made.tag.to_string().into()));
                if matches_tag(request.if_none_match.as_deref(), &made.tag) {
                    (304, Bytes::new())
                } else {
                    // A line is printed for each that is traced.
                    let is_traced = tiers.isolate.settings.tracing.is_some();
                    if request.method == "GET" && !is_traced {
                        ready = Ready::new(wanted, &found, &made);
                    }
                    (200, made.body)
                }
            } else {
                (404, Bytes::from_static(MISSING))
            }
        }
        Err(error) => {
            tiers.complain(&error);
            if let Error::MethodNotAllowed(allow) = &error {
                headers.push(("Allow", (*allow).into()));
            }
            if error.is_for_a_moment() {
                headers.push(("Retry-After", "1".into()));
            }
            match error {
                Error::Answered(status, body) => (status, body),
                error => (error.status(), sentence(&error.to_string())),
            }
        }
    };
    if let Some(timing) = server_timing(&tiers.waited) {
        headers.push(("Server-Timing", timing.into()));
    }
    Response {
        status,
        headers,
        body,
        ready,
    }
}

/// `Cache-Status` (RFC 9211), the cache nearest to the origin first. L3 is the
/// origin and no cache: an answer without a hit is its answer.
fn cache_status(found: &Found) -> String {
    let mut status = String::with_capacity(CACHE_STATUS_USUAL_BYTES);
    status.push_str(match (found.tier, found.in_l2) {
        (Tier::L1, _) => "L1; hit",
        (Tier::L2, _) => "L2; hit",
        (Tier::L3, InL2::Yes) => "L2; fwd=miss; stored",
        (Tier::L3, InL2::No) => "L2; fwd=miss",
        (Tier::L3, InL2::Unavailable) => "L2; fwd=miss; detail=unavailable",
        (Tier::L3, InL2::Bypassed) => "L2; fwd=bypass",
    });
    if found.tier == Tier::L1 || found.is_stale {
        status.push_str("; ttl=");
        push(&mut status, found.ttl_s());
    }
    if found.is_stale {
        status.push_str("; detail=stale-if-error");
    }
    if found.tier != Tier::L1 {
        status.push_str(", L1; fwd=miss");
        if found.in_l1 {
            status.push_str("; stored; ttl=");
            push(&mut status, found.ttl_ms / 1000);
        }
        if found.is_collapsed {
            status.push_str("; collapsed");
        }
    }
    status
}

/// `Server-Timing` (W3C): what the answer waited for.
fn server_timing(waited: &Waited) -> Option<String> {
    let stores = [
        ("gateway;dur=", &waited.gateway_ms),
        ("valkey;dur=", &waited.valkey_ms),
        ("postgres;dur=", &waited.postgres_ms),
    ];
    let mut timing = String::new();
    for (name, ms) in stores.map(|(name, ms)| (name, ms.get())) {
        let Some(ms) = ms else { continue };
        timing.push_str(if timing.is_empty() { "" } else { ", " });
        timing.push_str(name);
        push(&mut timing, ms);
    }
    (!timing.is_empty()).then_some(timing)
}

fn push(text: &mut String, number: impl itoa::Integer) {
    text.push_str(itoa::Buffer::new().format(number));
}

fn sentence(text: &str) -> Bytes {
    Bytes::from(serde_json::json!({"error": text}).to_string())
}

fn entity_tag(body: &[u8]) -> String {
    let mut length = itoa::Buffer::new();
    let length = length.format(body.len());
    ["\"", &checksum(body), "-", length, "\""].concat()
}

/// `If-None-Match` with the weak comparison (RFC 9110, section 13.1.2).
fn matches_tag(condition: Option<&str>, tag: &str) -> bool {
    condition.is_some_and(|condition| {
        condition
            .split(',')
            .map(str::trim)
            .any(|one| one == "*" || one.trim_start_matches("W/") == tag)
    })
}

fn preflight() -> Response {
    Response {
        status: 204,
        headers: vec![
            (
                "Access-Control-Allow-Methods",
                "GET, POST, DELETE, OPTIONS".into(),
            ),
            (
                "Access-Control-Allow-Headers",
                "Content-Type, Authorization, If-None-Match, Idempotency-Key".into(),
            ),
            ("Access-Control-Max-Age", "7200".into()),
            ("Cache-Control", "no-store".into()),
            ("X-Content-Type-Options", "nosniff".into()),
        ],
        body: Bytes::new(),
        ready: None,
    }
}

fn allow_origin(origins: &[String], request: &Request, response: &mut Response) {
    let headers = &mut response.headers;
    if origins.iter().any(|origin| origin == "*") {
        headers.push(("Access-Control-Allow-Origin", "*".into()));
    } else {
        headers.push(("Vary", "Origin".into()));
        let Some(origin) = request
            .origin
            .as_ref()
            .filter(|origin| origins.contains(origin))
        else {
            return;
        };
        headers.push(("Access-Control-Allow-Origin", origin.clone().into()));
    }
    headers.push((
        "Access-Control-Expose-Headers",
        "Age, Cache-Status, ETag, Retry-After, Server-Timing".into(),
    ));
}
