//! The tiers and their order. Knows no path and no status.
//!
//! Two kinds of data: what Valkey is the truth of ([`Tiers::value`] …), and
//! copies of PostgreSQL's rows ([`Tiers::rows`], [`Tiers::write_rows`]).

pub mod memory;
pub mod postgres;
pub mod valkey;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;

use crate::error::{Error, Store};
use crate::host::Host;
use crate::isolate::Isolate;
use crate::json;
use crate::wire::pg::{Rows, Statement};
use crate::wire::resp::{Command, Reply};
use memory::{Entry, Filled, Ticket};

/// Keys that the edge keeps for itself begin so; no route reaches them.
pub const OWN_PREFIX: &str = "shepherd-edge:";

/// Which tier answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    L1,
    L2,
    L3,
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct Found {
    /// None: it is not there.
    pub body: Option<Bytes>,
    pub age_ms: u64,
    /// For how long this isolate may answer with it.
    pub ttl_ms: u64,
    pub tier: Tier,
    /// Whether it is in L1 now.
    pub in_l1: bool,
    pub in_l2: InL2,
}

/// Whether L2 has, or is about to get, what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InL2 {
    Yes,
    /// Another request fills it, or a write is under way.
    No,
    /// L2 did not answer.
    Unavailable,
}

/// One operation of a batch.
pub enum Operation {
    Get(String),
    /// Key, JSON text (None deletes), TTL in seconds (None: never expires).
    Set(String, Option<String>, Option<u64>),
    Delete(String),
}

/// What became of it.
pub enum Outcome {
    Value(Option<Bytes>),
    /// Whether the key existed.
    Done(bool),
    Failed(Error),
}

/// The walk over the tiers, for one request.
pub struct Tiers<H: Host> {
    pub host: H,
    pub isolate: Rc<Isolate>,
    pub waited: Waited,
}

/// How long the request has waited for each store, in ms; None: not at all.
#[derive(Debug, Default)]
pub struct Waited {
    pub valkey_ms: Cell<Option<u64>>,
    pub postgres_ms: Cell<Option<u64>>,
}

/// Gives a ticket back when a load or write ends without a value, however.
struct Open {
    isolate: Rc<Isolate>,
    key: String,
    ticket: Option<Ticket>,
}

impl Open {
    fn fill(mut self, variant: &str, entry: Entry) -> Filled {
        self.ticket.take().map_or(Filled::Overtaken, |ticket| {
            let mut memory = self.isolate.memory.borrow_mut();
            memory.fill(ticket, variant, entry)
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.isolate.memory.borrow_mut().give_back(ticket);
        }
    }
}

impl<H: Host> Tiers<H> {
    fn open(&self, key: &str) -> Open {
        let ticket = self.isolate.memory.borrow_mut().ticket(key);
        Open {
            isolate: Rc::clone(&self.isolate),
            key: key.to_owned(),
            ticket: Some(ticket),
        }
    }

    fn invalidate(&self, key: &str) {
        self.isolate.memory.borrow_mut().invalidate(key);
    }

    fn in_memory(&self, key: &str, variant: &str) -> Option<Found> {
        let now_ms = self.host.now_ms();
        let entry = self
            .isolate
            .memory
            .borrow_mut()
            .fresh(key, variant, now_ms)?;
        Some(found(&entry, now_ms, Tier::L1, InL2::No))
    }

    fn token(&self) -> String {
        self.host
            .random()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    async fn ask(&self, commands: Vec<Command>) -> Result<Vec<Reply>, Error> {
        let asked = valkey::ask(&self.host, &self.isolate.settings, commands);
        self.wait(&self.waited.valkey_ms, asked).await
    }

    async fn query(&self, statement: &Statement) -> Result<Rows, Error> {
        let asked = postgres::run(&self.host, &self.isolate.settings, statement);
        self.wait(&self.waited.postgres_ms, asked).await
    }

    async fn wait<T>(&self, waited_ms: &Cell<Option<u64>>, work: impl Future<Output = T>) -> T {
        let began_ms = self.host.now_ms();
        let outcome = work.await;
        let took_ms = self.host.now_ms().saturating_sub(began_ms);
        waited_ms.set(Some(waited_ms.get().unwrap_or(0).saturating_add(took_ms)));
        outcome
    }

    /// A value that Valkey is the truth of, as JSON text.
    ///
    /// # Errors
    /// Valkey cannot answer and there is no fresh copy.
    pub async fn value(&self, key: &str) -> Result<Found, Error> {
        let mut outcomes = self.batch(vec![Operation::Get(key.to_owned())]).await?;
        match outcomes.pop() {
            Some((Outcome::Value(_), Some(found))) => Ok(found),
            Some((Outcome::Failed(error), _)) => Err(error),
            _ => Err(valkey::refused(&Reply::Null)),
        }
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
            Some((Outcome::Done(existed), _)) => Ok(existed),
            Some((Outcome::Failed(error), _)) => Err(error),
            _ => Err(valkey::refused(&Reply::Null)),
        }
    }

    /// Restarts a session's TTL and sets its `lastAccessed`; false: no such session.
    ///
    /// # Errors
    /// Valkey cannot do it.
    pub async fn touch(&self, key: &str, ttl_s: u64) -> Result<bool, Error> {
        self.invalidate(key);
        let replies = self
            .ask(vec![valkey::touch(key, ttl_s, self.host.now_ms())])
            .await;
        self.invalidate(key);
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
    pub async fn batch(
        &self,
        operations: Vec<Operation>,
    ) -> Result<Vec<(Outcome, Option<Found>)>, Error> {
        let mut commands = Vec::new();
        let mut written: Vec<String> = Vec::new();
        let mut plan = Vec::new();
        for operation in operations {
            match operation {
                Operation::Get(key) => {
                    let copy = if written.contains(&key) {
                        None
                    } else {
                        self.in_memory(&key, "")
                    };
                    if let Some(copy) = copy {
                        plan.push(Step::Answered(copy));
                    } else {
                        commands.push(Command::new("GET").arg(&key));
                        commands.push(Command::new("PTTL").arg(&key));
                        plan.push(Step::Get(self.open(&key)));
                    }
                }
                Operation::Set(key, text, ttl_s) => {
                    self.invalidate(&key);
                    let set = Command::new("SET").arg(&key);
                    commands.push(match (text, ttl_s) {
                        (None, _) => Command::new("DEL").arg(&key),
                        (Some(text), None) => set.arg(text),
                        (Some(text), Some(ttl_s)) => set.arg(text).arg("EX").number(ttl_s),
                    });
                    written.push(key);
                    plan.push(Step::Write);
                }
                Operation::Delete(key) => {
                    self.invalidate(&key);
                    commands.push(Command::new("DEL").arg(&key));
                    written.push(key);
                    plan.push(Step::Write);
                }
            }
        }
        let asked_at_ms = self.host.now_ms();
        let replies = if commands.is_empty() {
            Ok(Vec::new())
        } else {
            self.ask(commands).await
        };
        // A read that began while a write was under way may hold the old value.
        for key in &written {
            self.invalidate(key);
        }
        let mut replies = replies?.into_iter();
        Ok(plan
            .into_iter()
            .map(|step| match step {
                Step::Answered(found) => {
                    self.isolate.metrics.read(found.body.is_some());
                    (Outcome::Value(found.body.clone()), Some(found))
                }
                Step::Get(open) => self.got(open, replies.next(), replies.next(), asked_at_ms),
                Step::Write => (
                    match replies.next() {
                        Some(Reply::Simple(_)) => Outcome::Done(true),
                        Some(Reply::Integer(count)) => Outcome::Done(count > 0),
                        other => Outcome::Failed(valkey::refused(&other.unwrap_or(Reply::Null))),
                    },
                    None,
                ),
            })
            .collect())
    }

    fn got(
        &self,
        open: Open,
        value: Option<Reply>,
        ttl: Option<Reply>,
        asked_at_ms: u64,
    ) -> (Outcome, Option<Found>) {
        let body = match value {
            Some(Reply::Bulk(text)) => readable(&text),
            Some(Reply::Null) => None,
            // A key of another type is not one of ours.
            Some(Reply::Error(error)) if error.code == "WRONGTYPE" => None,
            other => {
                return (
                    Outcome::Failed(valkey::refused(&other.unwrap_or(Reply::Null))),
                    None,
                );
            }
        };
        self.isolate.metrics.read(body.is_some());
        let left_ms = match ttl {
            Some(Reply::Integer(left_ms)) if left_ms >= 0 => u64::try_from(left_ms).unwrap_or(0),
            _ => u64::MAX,
        };
        let max_age_ms = self.isolate.settings.l1_max_age_ms.min(left_ms);
        let entry = Entry {
            body,
            read_at_ms: asked_at_ms,
            fresh_until_ms: asked_at_ms.saturating_add(max_age_ms),
        };
        let found = self.keep(open, "", entry, Tier::L2, InL2::Yes);
        (Outcome::Value(found.body.clone()), Some(found))
    }

    /// Puts what a tier below answered into L1, unless it was overtaken: what
    /// this isolate has served since must not get older.
    fn keep(&self, open: Open, variant: &str, entry: Entry, tier: Tier, in_l2: InL2) -> Found {
        let key = open.key.clone();
        let mut found = found(&entry, self.host.now_ms(), tier, in_l2);
        match open.fill(variant, entry) {
            Filled::Stored => {}
            Filled::TooLarge => found.in_l1 = false,
            Filled::Overtaken => {
                found.in_l1 = false;
                return self.in_memory(&key, variant).unwrap_or(found);
            }
        }
        found
    }

    /// Rows, from the nearest tier that has them. `render` makes the body; None
    /// is a remembered absence.
    ///
    /// # Errors
    /// No tier can answer.
    pub async fn rows(
        &self,
        key: &str,
        variant: &str,
        statement: Statement,
        render: fn(&Rows) -> Result<Option<Vec<u8>>, Error>,
    ) -> Result<Found, Error> {
        if let Some(found) = self.in_memory(key, variant) {
            return Ok(found);
        }
        let open = self.open(key);
        let settings = &self.isolate.settings;
        let token = self.token();
        let asked_at_ms = self.host.now_ms();
        let read = valkey::read_copy(key, variant, &token, settings);
        let (copy, in_l2) = match self.ask(vec![read]).await {
            Ok(replies) => copy(replies.first()),
            Err(error) => {
                self.complain(&error);
                (None, InL2::Unavailable)
            }
        };
        let (body, read_at_ms, tier) = if let Some((age_ms, body)) = copy {
            (body, asked_at_ms.saturating_sub(age_ms), Tier::L2)
        } else {
            let read_at_ms = self.host.now_ms();
            let rows = self.query(&statement).await?;
            let body = render(&rows)?.map(Bytes::from);
            if in_l2 == InL2::Yes {
                self.fill_later(key, variant, token, body.clone());
            }
            (body, read_at_ms, Tier::L3)
        };
        let age_ms_max = settings.copy_age_ms_max(body.is_none());
        let fresh_until_ms = (asked_at_ms + settings.l1_max_age_ms).min(read_at_ms + age_ms_max);
        let entry = Entry {
            body,
            read_at_ms,
            fresh_until_ms,
        };
        Ok(self.keep(open, variant, entry, tier, in_l2))
    }

    fn fill_later(&self, key: &str, variant: &str, token: String, body: Option<Bytes>) {
        let (host, isolate) = (self.host.clone(), Rc::clone(&self.isolate));
        let fill = valkey::fill_copy(key, variant, &token, &body.unwrap_or_default());
        self.host.defer(async move {
            if let Err(error) = valkey::ask(&host, &isolate.settings, vec![fill]).await {
                host.log(&error.for_operator().unwrap_or_default());
            }
        });
    }

    /// Runs a statement that makes copies old. Fills are blocked before the
    /// commit and let through after it; the isolate reads its own write at once.
    ///
    /// # Errors
    /// The statement was refused or PostgreSQL cannot run it.
    pub async fn write_rows(&self, keys: &[&str], statement: &Statement) -> Result<Rows, Error> {
        let forget = || keys.iter().for_each(|key| self.invalidate(key));
        let token = self.token();
        forget();
        if let Err(error) = self.ask(vec![valkey::block(keys, &token)]).await {
            // Without L2 the write still counts; copies elsewhere end by age.
            self.complain(&error);
        }
        let outcome = self.query(statement).await;
        forget();
        let (host, isolate) = (self.host.clone(), Rc::clone(&self.isolate));
        let release = valkey::release(keys, &token);
        self.host.defer(async move {
            if let Err(error) = valkey::ask(&host, &isolate.settings, vec![release]).await {
                host.log(&error.for_operator().unwrap_or_default());
            }
        });
        outcome
    }

    /// Asks a store whether it is there; the time it took in ms.
    ///
    /// # Errors
    /// It is not.
    pub async fn probe(&self, store: Store) -> Result<u64, Error> {
        let began_ms = self.host.now_ms();
        match store {
            Store::Postgres => {
                let statement = Statement {
                    sql: postgres::PROBE,
                    parameters: Vec::new(),
                };
                self.query(&statement).await?;
            }
            Store::Valkey => match self.ask(vec![Command::new("PING")]).await?.first() {
                Some(Reply::Simple(_)) => {}
                other => return Err(valkey::refused(other.unwrap_or(&Reply::Null))),
            },
        }
        Ok(self.host.now_ms().saturating_sub(began_ms))
    }

    fn complain(&self, error: &Error) {
        if let Some(line) = error.for_operator() {
            self.host.log(&line);
        }
    }
}

enum Step {
    Answered(Found),
    Get(Open),
    Write,
}

fn found(entry: &Entry, now_ms: u64, tier: Tier, in_l2: InL2) -> Found {
    Found {
        in_l1: true,
        in_l2,
        body: entry.body.clone(),
        age_ms: entry.age_ms(now_ms),
        ttl_ms: entry.fresh_until_ms.saturating_sub(now_ms),
        tier,
    }
}

/// What others wrote: JSON as JSON, other text as a string, the rest not at all.
/// Copied, because a reply shares the buffer that it was read into.
fn readable(bytes: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(if json::check(text).is_ok() {
        Bytes::copy_from_slice(bytes)
    } else {
        Bytes::from(json::quoted(text))
    })
}

fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| json::check(text).is_ok())
}

/// The answer of the read script: a copy with its age, or whether we may fill.
/// A copy that is no JSON is none: it is sent to callers as it is.
fn copy(reply: Option<&Reply>) -> (Option<(u64, Option<Bytes>)>, InL2) {
    let Some(Reply::Array(parts)) = reply else {
        return (None, InL2::Unavailable);
    };
    match parts.as_slice() {
        [Reply::Integer(age_ms), Reply::Bulk(body)] if body.is_empty() || is_json(body) => {
            let body = (!body.is_empty()).then(|| Bytes::copy_from_slice(body));
            (Some((u64::try_from(*age_ms).unwrap_or(0), body)), InL2::Yes)
        }
        [_, Reply::Integer(1)] => (None, InL2::Yes),
        _ => (None, InL2::No),
    }
}
