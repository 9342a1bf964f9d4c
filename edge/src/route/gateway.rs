//! The two ends of the way to a gateway: a request is handed on as it came, and
//! what was found comes back with all that L1 has to know of it.
//!
//! A gateway is a place that outlives requests (on Workers a Durable Object)
//! and keeps the connections to the stores. It runs the same routes and tiers,
//! but for L1. Does not know how a host carries a message there; [`message`] says what
//! one is.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};

use super::target::Target;
use super::{Answer, Request, Response, operate};
use crate::error::{Error, Fault, Store};
use crate::host::Host;
use crate::isolate::Isolate;
use crate::limits::GATEWAY_WAY_MS;
use crate::settings::Settings;
use crate::tiers::{Found, Gateway, InL2, Reads, Relayed, Tier, Tiers};

pub mod message;

/// The one header of a gateway's answer: an [`Envelope`] as JSON.
pub const ENVELOPE: &str = "Shepherd-Edge-Envelope";

/// What an answer means, beside its status and body.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Envelope {
    found: Option<Finding>,
    /// A store's fault; the body is its sentence.
    fault: Option<(Shop, Failing)>,
    hits: u64,
    misses: u64,
    valkey_ms: Option<u64>,
    postgres_ms: Option<u64>,
}

/// [`Found`] without its body, which is the answer's.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Finding {
    age_ms: u64,
    ttl_ms: i64,
    stale_ms: u64,
    l2_asked_ms: u64,
    is_stale: bool,
    is_collapsed: bool,
    /// Else from L3.
    is_from_l2: bool,
    in_l2: InL2,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Shop {
    Postgres,
    Valkey,
}

/// [`Fault`] without what only the gateway's own log has to say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Failing {
    Settings,
    Unreachable,
    TimedOut,
    Busy,
    Broken,
    Full,
    Unavailable,
}

/// Answers in the place of the isolate that asks.
pub async fn serve<H: Host>(host: H, isolate: Rc<Isolate>, request: Request) -> Response {
    let mut tiers = Tiers::new(host, isolate);
    if let Some(floor_ms) = request.floor_ms {
        tiers = tiers.no_older_than(floor_ms);
    }
    let outcome = match Target::parse(&request) {
        Ok(target) => operate(&tiers, target, &request).await,
        Err(error) => Err(error),
    };
    let mut envelope = Envelope {
        hits: tiers.reads.get().hits,
        misses: tiers.reads.get().misses,
        valkey_ms: tiers.waited.valkey_ms.get(),
        postgres_ms: tiers.waited.postgres_ms.get(),
        ..Envelope::default()
    };
    let (status, body) = match outcome {
        Ok(Answer::Plain(status, text)) => (status, Bytes::from(text)),
        Ok(Answer::Read(_, found, _)) => {
            envelope.found = Some(finding(&found));
            let status = if found.body.is_some() { 200 } else { 404 };
            (status, found.body.unwrap_or_default())
        }
        Err(error) => {
            tiers.complain(&error);
            let status = error.status();
            let sentence = error.to_string();
            if let Error::Store(store, fault) = error {
                envelope.fault = Some((shop(store), failing(&fault)));
                (status, Bytes::from(sentence))
            } else {
                (status, super::sentence(&sentence))
            }
        }
    };
    let text = serde_json::to_string(&envelope).unwrap_or_default();
    Response {
        status,
        headers: vec![(ENVELOPE, text.into())],
        body,
        ready: None,
    }
}

/// The way to the gateway that a request belongs to.
pub(super) fn way<H: Host>(
    host: &H,
    settings: &Settings,
    shards: u64,
    request: &Rc<Request>,
) -> Gateway {
    let (host, request) = (host.clone(), Rc::clone(request));
    let (store, deadline_ms) = if request.path.starts_with("/api/vultr/postgres/") {
        (Store::Postgres, settings.postgres_deadline_ms)
    } else {
        (Store::Valkey, settings.valkey_deadline_ms)
    };
    let deadline_ms = deadline_ms.saturating_add(GATEWAY_WAY_MS);
    Rc::new(move |floor_ms| {
        let (host, request) = (host.clone(), Rc::clone(&request));
        Box::pin(async move {
            // Which one does not matter to what is answered, only to how much is shared.
            let shard = shard(&request) % shards;
            let relayed = host.relay(
                shard,
                Request {
                    method: request.method.replace("HEAD", "GET"),
                    floor_ms,
                    ..(*request).clone()
                },
            );
            let failed = |fault| Err(Error::Store(store, fault));
            match select(pin!(relayed), pin!(host.sleep(deadline_ms))).await {
                Either::Left((Ok(response), _)) => opened(response)
                    .unwrap_or_else(|| failed(Fault::Unavailable(NO_ENVELOPE.to_owned()))),
                Either::Left((Err(error), _)) => {
                    failed(Fault::Unreachable(format!("the gateway: {error}")))
                }
                Either::Right(_) => failed(Fault::TimedOut),
            }
        })
    })
}

const NO_ENVELOPE: &str = "the gateway gave an answer without its envelope";

/// The same for what the same thing is read and written by, as far as the path tells.
fn shard(request: &Request) -> u64 {
    let path = request.path.strip_suffix("/touch").unwrap_or(&request.path);
    let mut hasher = DefaultHasher::new();
    (path, &request.query).hash(&mut hasher);
    hasher.finish()
}

/// None: not what [`serve`] makes.
fn opened(response: Response) -> Option<Result<Relayed, Error>> {
    let (_, text) = response
        .headers
        .iter()
        .find(|(name, _)| *name == ENVELOPE)?;
    let envelope: Envelope = serde_json::from_str(text).ok()?;
    if let Some((store, failing)) = envelope.fault {
        let sentence = String::from_utf8_lossy(&response.body).into_owned();
        let store = match store {
            Shop::Postgres => Store::Postgres,
            Shop::Valkey => Store::Valkey,
        };
        return Some(Err(Error::Store(store, fault(failing, sentence))));
    }
    Some(Ok(Relayed {
        status: response.status,
        body: response.body,
        found: envelope.found.map(found),
        reads: Reads {
            hits: envelope.hits,
            misses: envelope.misses,
        },
        valkey_ms: envelope.valkey_ms,
        postgres_ms: envelope.postgres_ms,
    }))
}

fn finding(found: &Found) -> Finding {
    Finding {
        age_ms: found.age_ms,
        ttl_ms: found.ttl_ms,
        stale_ms: found.stale_ms,
        l2_asked_ms: found.l2_asked_ms,
        is_stale: found.is_stale,
        is_collapsed: found.is_collapsed,
        is_from_l2: found.tier != Tier::L3,
        in_l2: found.in_l2,
    }
}

fn found(finding: Finding) -> Found {
    Found {
        body: None,
        age_ms: finding.age_ms,
        ttl_ms: finding.ttl_ms,
        stale_ms: finding.stale_ms,
        l2_asked_ms: finding.l2_asked_ms,
        is_stale: finding.is_stale,
        is_collapsed: finding.is_collapsed,
        tier: if finding.is_from_l2 {
            Tier::L2
        } else {
            Tier::L3
        },
        in_l1: false,
        in_l2: finding.in_l2,
    }
}

fn shop(store: Store) -> Shop {
    match store {
        Store::Postgres => Shop::Postgres,
        Store::Valkey => Shop::Valkey,
    }
}

fn failing(fault: &Fault) -> Failing {
    match fault {
        Fault::Settings(_) => Failing::Settings,
        Fault::Unreachable(_) | Fault::Wire(_) => Failing::Unreachable,
        Fault::TimedOut => Failing::TimedOut,
        Fault::Busy => Failing::Busy,
        Fault::Broken => Failing::Broken,
        Fault::Full => Failing::Full,
        Fault::Unavailable(_) => Failing::Unavailable,
    }
}

fn fault(failing: Failing, sentence: String) -> Fault {
    match failing {
        Failing::Settings => Fault::Settings(sentence),
        Failing::Unreachable => Fault::Unreachable(FROM_THERE.to_owned()),
        Failing::TimedOut => Fault::TimedOut,
        Failing::Busy => Fault::Busy,
        Failing::Broken => Fault::Broken,
        Failing::Full => Fault::Full,
        Failing::Unavailable => Fault::Unavailable(FROM_THERE.to_owned()),
    }
}

const FROM_THERE: &str = "so says the gateway, whose log says more";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_and_what_failed_come_through() {
        let there = Found {
            body: None,
            age_ms: 12,
            ttl_ms: -3,
            stale_ms: 400,
            l2_asked_ms: u64::MAX,
            is_stale: true,
            is_collapsed: true,
            tier: Tier::L3,
            in_l1: false,
            in_l2: InL2::Unavailable,
        };
        let envelope = Envelope {
            found: Some(finding(&there)),
            hits: 2,
            valkey_ms: Some(7),
            ..Envelope::default()
        };
        let answer = |envelope: &Envelope| Response {
            status: 200,
            headers: vec![(ENVELOPE, serde_json::to_string(envelope).unwrap().into())],
            body: Bytes::from("[1]"),
            ready: None,
        };
        let relayed = opened(answer(&envelope)).unwrap().unwrap();
        assert_eq!(
            format!("{:?}", relayed.found.unwrap()),
            format!("{there:?}")
        );
        assert_eq!((relayed.reads.hits, relayed.valkey_ms), (2, Some(7)));

        for fault in [
            Fault::TimedOut,
            Fault::Busy,
            Fault::Broken,
            Fault::Full,
            Fault::Settings("[1]".to_owned()),
        ] {
            let envelope = Envelope {
                fault: Some((shop(Store::Postgres), failing(&fault))),
                ..Envelope::default()
            };
            let error = opened(answer(&envelope)).unwrap().unwrap_err();
            assert_eq!(error, Error::Store(Store::Postgres, fault));
        }
    }

    #[test]
    fn an_answer_without_its_envelope_is_none() {
        let mut response = Response {
            status: 200,
            headers: Vec::new(),
            body: Bytes::new(),
            ready: None,
        };
        assert!(opened(response.clone()).is_none());
        response.headers.push((ENVELOPE, "{".into()));
        assert!(opened(response).is_none());
    }

    #[test]
    fn a_thing_has_one_shard() {
        let request = |path: &str| Request {
            path: path.to_owned(),
            ..Request::default()
        };
        let session = "/api/vultr/valkey/session/a";
        assert_eq!(
            shard(&request(session)),
            shard(&request(&format!("{session}/touch")))
        );
    }
}
