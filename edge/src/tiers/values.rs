//! What Valkey is the truth of: sessions, the typed caches, generic keys.
//!
//! Any request costs at most one round trip after connecting. L1 has copies
//! that never outlive the key in Valkey.

use std::pin::pin;

use bytes::Bytes;

use super::entry::Times;
use super::flights::Ticket;
use super::{Found, InL2, Tier, Tiers, fresh, valkey};
use crate::error::{Error, Store};
use crate::host::Host;
use crate::json;
use crate::limits::{BATCH_VALUES_BYTES_MAX, RESP_BULK_BYTES_MAX};
use crate::mutation::{self, Mutation};
use crate::policy::Kind;
use crate::wire::resp::{Command, Reply};

/// One operation of a batch.
pub enum Operation {
    Get(String),
    /// Key, JSON text (None deletes), TTL in seconds (None: never expires).
    Set(String, Option<String>, Option<u64>),
    Delete(String),
}

/// What became of it.
pub enum Outcome {
    Value(Found),
    /// Whether the key existed.
    Done(bool),
    Failed(Error),
}

enum Step {
    Answered(Found),
    Get(String, Ticket),
    Write,
}

impl<H: Host> Tiers<H> {
    /// A value as JSON text.
    ///
    /// # Errors
    /// Valkey cannot answer and there is no copy that may.
    pub async fn value(&self, key: &str) -> Result<Found, Error> {
        if let Some(found) = self.value_at_once(key) {
            return Ok(found);
        }
        let load = pin!(self.load_value(key));
        let outcome = self
            .collapsed(Store::Valkey, key, "", load)
            .await
            .or_else(|error| self.stale_if_error(key, "", error))
            .or_else(|error| {
                let times = Times {
                    read_at_ms: 0,
                    asked_at_ms: 0,
                    gone_at_ms: 0,
                };
                let missing = self.entry(self.policy(Kind::of_key(key)), None, times);
                let found = self.found(&missing, Tier::L2, InL2::No);
                mutation::is(Mutation::OutageIsMiss)
                    .then_some(found)
                    .ok_or(error)
            });
        if let Ok(found) = &outcome {
            self.count_read(found);
        }
        outcome
    }

    /// What L1 answers with, without waiting; a refresh that is due begins.
    pub fn value_at_once(&self, key: &str) -> Option<Found> {
        let (found, is_due) = self.fresh(key, "")?;
        if is_due {
            self.refresh_value(key);
        }
        self.count_read(&found);
        Some(found)
    }

    fn refresh_value(&self, key: &str) {
        let (tiers, key) = (self.background(), key.to_owned());
        self.host.defer(async move {
            let load = pin!(tiers.load_value(&key));
            if let Err(error) = tiers.collapsed(Store::Valkey, &key, "", load).await {
                tiers.complain(&error);
            }
        });
    }

    async fn load_value(&self, key: &str) -> Result<Found, Error> {
        if let Some(gateway) = &self.gateway {
            return self.load_behind(gateway, (key, "")).await;
        }
        let ticket = self.ticket(key, "");
        let asked_at_ms = self.now_ms();
        let mut replies = self.ask(read(key).into()).await?.into_iter();
        self.got(
            key,
            ticket,
            replies.next(),
            replies.next(),
            (asked_at_ms, self.now_ms()),
        )
    }

    /// Stores a value (None: deletes it), with a TTL in seconds.
    ///
    /// # Errors
    /// Valkey cannot store it.
    pub async fn store(
        &self,
        key: String,
        text: Option<String>,
        ttl_s: Option<u64>,
    ) -> Result<bool, Error> {
        self.write(Operation::Set(key, text, ttl_s)).await
    }

    /// Deletes a key; whether it existed.
    ///
    /// # Errors
    /// Valkey cannot delete it.
    pub async fn delete(&self, key: String) -> Result<bool, Error> {
        self.write(Operation::Delete(key)).await
    }

    async fn write(&self, operation: Operation) -> Result<bool, Error> {
        match self.batch(vec![operation]).await?.pop() {
            Some(Outcome::Done(existed)) => Ok(existed),
            Some(Outcome::Failed(error)) => Err(error),
            _ => Err(valkey::refused(&Reply::Null)),
        }
    }

    /// Restarts a session's TTL and sets its `lastAccessed`; false: no such session.
    ///
    /// # Errors
    /// Valkey cannot do it.
    pub async fn touch(&self, key: &str, ttl_s: u64) -> Result<bool, Error> {
        self.forget(key);
        if let Some(gateway) = &self.gateway {
            return self.write_behind(gateway, &[key.to_owned()]).await;
        }
        let touch = valkey::touch(key, ttl_s, self.host.now_ms());
        let replies = self.ask(vec![touch]).await;
        self.forget(key);
        match replies?.first() {
            Some(Reply::Integer(count)) => Ok(*count > 0),
            Some(Reply::Error(error)) if error.code == "WRONGTYPE" => Ok(false),
            other => Err(valkey::refused(other.unwrap_or(&Reply::Null))),
        }
    }

    /// Runs operations in order, in at most one round trip.
    ///
    /// # Errors
    /// Valkey cannot answer; the writes may or may not have happened.
    pub async fn batch(&self, operations: Vec<Operation>) -> Result<Vec<Outcome>, Error> {
        let mut commands = Vec::new();
        let mut written: Vec<String> = Vec::new();
        let mut plan = Vec::new();
        // To look at the clock is a call of the platform.
        let now_ms = self.now_ms();
        for operation in operations {
            let (key, command) = match operation {
                Operation::Get(key) => {
                    let copy =
                        fresh(&self.isolate, &key, "", now_ms).filter(|_| !written.contains(&key));
                    plan.push(match copy {
                        Some((found, _)) => Step::Answered(found),
                        None => {
                            commands.extend(read(&key));
                            let ticket = self.ticket(&key, "");
                            Step::Get(key, ticket)
                        }
                    });
                    continue;
                }
                Operation::Set(key, Some(text), ttl_s) => {
                    let set = Command::new("SET").arg(&key).arg(text);
                    let set = match ttl_s {
                        Some(ttl_s) => set.arg("EX").number(ttl_s),
                        None => set,
                    };
                    (key, set)
                }
                Operation::Set(key, None, _) | Operation::Delete(key) => {
                    let delete = Command::new("DEL").arg(&key);
                    (key, delete)
                }
            };
            self.forget(&key);
            commands.push(command);
            written.push(key);
            plan.push(Step::Write);
        }
        if let Some(gateway) = self.gateway.as_ref().filter(|_| !commands.is_empty()) {
            return self.write_behind(gateway, &written).await;
        }
        let asked_at_ms = self.now_ms();
        let replies = if commands.is_empty() {
            Ok(Vec::new())
        } else {
            self.ask(commands).await
        };
        // A read that began while a write was under way may hold the old value.
        for key in &written {
            self.forget(key);
        }
        let mut replies = replies?.into_iter();
        let times_ms = (asked_at_ms, self.now_ms());
        let mut bytes_left = BATCH_VALUES_BYTES_MAX;
        Ok(plan
            .into_iter()
            .map(|step| {
                let got = match step {
                    Step::Write => return done(replies.next()),
                    Step::Answered(found) => Ok(found),
                    Step::Get(key, ticket) => {
                        self.got(&key, ticket, replies.next(), replies.next(), times_ms)
                    }
                };
                got.map_or_else(Outcome::Failed, |found| {
                    self.count_read(&found);
                    let bytes = found.body.as_ref().map_or(0, Bytes::len);
                    match bytes_left.checked_sub(bytes) {
                        Some(left) => bytes_left = left,
                        None => return Outcome::Failed(Error::TooMuch),
                    }
                    Outcome::Value(found)
                })
            })
            .collect())
    }

    /// The replies to [`read`].
    fn got(
        &self,
        key: &str,
        ticket: Ticket,
        value: Option<Reply>,
        ttl: Option<Reply>,
        (asked_at_ms, now_ms): (u64, u64),
    ) -> Result<Found, Error> {
        let body = match value {
            Some(Reply::Bulk(text)) => readable(&text),
            Some(Reply::Null) => None,
            // A key of another type is not one of ours.
            Some(Reply::Error(error)) if error.code == "WRONGTYPE" => None,
            other => return Err(valkey::refused(&other.unwrap_or(Reply::Null))),
        };
        let gone_at_ms = match ttl {
            Some(Reply::Integer(left_ms)) => u64::try_from(left_ms)
                .map_or(u64::MAX, |left_ms| asked_at_ms.saturating_add(left_ms)),
            _ => asked_at_ms,
        };
        let times = Times {
            read_at_ms: asked_at_ms,
            asked_at_ms,
            gone_at_ms,
        };
        let entry = self.entry(self.policy(Kind::of_key(key)), body, times);
        Ok(self.keep(ticket, (key, ""), entry, Tier::L2, InL2::Yes, now_ms))
    }
}

fn read(key: &str) -> [Command; 2] {
    ["GET", "PTTL"].map(|name| Command::new(name).arg(key))
}

fn done(reply: Option<Reply>) -> Outcome {
    match reply {
        Some(Reply::Simple(_)) => Outcome::Done(true),
        Some(Reply::Integer(count)) => Outcome::Done(count > 0),
        other => Outcome::Failed(valkey::refused(&other.unwrap_or(Reply::Null))),
    }
}

/// What others wrote: JSON as JSON, other text as a string, the rest not at all.
/// Copied, because a reply shares the buffer that it was read into.
fn readable(bytes: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(bytes).ok()?;
    if json::check(text).is_ok() {
        return Some(Bytes::copy_from_slice(bytes));
    }
    // Escapes can make a text six times as long.
    let quoted = json::quoted(text);
    (quoted.len() <= RESP_BULK_BYTES_MAX).then(|| Bytes::from(quoted))
}
