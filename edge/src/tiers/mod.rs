//! The tiers and their order. Knows no path and no status.
//!
//! Two kinds of data: what Valkey is the truth of ([`values`]), and copies of
//! PostgreSQL's rows ([`rows`]). Here is what both need: the way to the stores,
//! what L1 has, and one load at a time for each thing.

pub mod changes;
pub mod entry;
pub mod flights;
pub mod gate;
pub mod memory;
pub mod postgres;
pub mod rows;
pub mod shared;
pub mod valkey;
pub mod values;

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Fault, Store};
use crate::host::Host;
use crate::isolate::Isolate;
use crate::limits;
use crate::mutation::{self, Mutation};
use crate::policy::{JITTER, Kind, Policy, REFRESH_FROM};
use crate::wire::pg::{Rows, Statement};
use crate::wire::resp::{Command, Reply};
use entry::{Draws, Entry, Times};
use flights::{Flight, NOT_KNOWN_MS, Ticket};
use gate::{Closed, Gate, Pass};

/// Keys that the edge keeps for itself begin so; no route reaches them.
pub const OWN_PREFIX: &str = "shepherd-edge:";

/// How often a request looks whether what it waits for is there, in ms: at
/// first, and at last.
pub const LOOK_MS: (u64, u64) = (1, 8);

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
    /// For how long this isolate may answer with it; negative when it may not.
    pub ttl_ms: i64,
    /// The same when the truth cannot be asked.
    pub stale_ms: u64,
    /// Just before L2 was asked, by its clock; [`NOT_KNOWN_MS`]: it did not say.
    pub l2_asked_ms: u64,
    /// It answers although it is not fresh, because the truth cannot be asked.
    pub is_stale: bool,
    pub tier: Tier,
    /// Whether it is in L1 now.
    pub in_l1: bool,
    pub in_l2: InL2,
    /// Whether another request loaded it.
    pub is_collapsed: bool,
}

/// Whether L2 has, or is about to get, what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InL2 {
    Yes,
    /// Another request fills it, or a write is under way.
    No,
    /// L2 did not answer.
    Unavailable,
    /// No copy of it may answer, so that L2 is not asked.
    Bypassed,
}

impl Found {
    fn new(entry: Entry, tier: Tier, in_l2: InL2, now_ms: u64) -> Self {
        let ttl_ms = i128::from(entry.fresh_until_ms) - i128::from(now_ms);
        Self {
            stale_ms: entry.stale_until_ms.saturating_sub(now_ms),
            l2_asked_ms: NOT_KNOWN_MS,
            in_l1: true,
            in_l2,
            age_ms: entry.age_ms(now_ms),
            body: entry.body,
            ttl_ms: i64::try_from(ttl_ms).unwrap_or(i64::MAX),
            tier,
            is_stale: false,
            is_collapsed: false,
        }
    }

    pub fn age_s(&self) -> u64 {
        self.age_ms / 1000
    }

    /// Rounded down, also below zero: what has -0.5 s left is stale.
    pub fn ttl_s(&self) -> i64 {
        self.ttl_ms.div_euclid(1000)
    }
}

/// What L1 answers with at that time of the isolate's; true: a refresh is due, and
/// nobody does it.
pub fn fresh(isolate: &Isolate, key: &str, variant: &str, now_ms: u64) -> Option<(Found, bool)> {
    let entry = isolate.memory.borrow_mut().copy(key, variant, now_ms)?;
    if !entry.is_fresh(now_ms) {
        return None;
    }
    let under_way = || {
        let flights = isolate.flights.borrow();
        flights.under_way(key, variant, now_ms).is_some()
    };
    let is_due = entry.is_due(now_ms) && !under_way();
    Some((Found::new(entry, Tier::L1, InL2::No, now_ms), is_due))
}

/// What the gateway answers to the request that is walked for. The argument is
/// [`flights::Flights::floor_ms`]: what the answer must not be older than.
pub type Gateway = Rc<dyn Fn(Option<u64>) -> Pin<Box<dyn Future<Output = Result<Relayed, Error>>>>>;

/// An answer of the gateway that is no error.
#[derive(Debug, Clone)]
pub struct Relayed {
    pub status: u16,
    pub body: Bytes,
    /// Of a read: what was found, without its body.
    pub found: Option<Found>,
    /// Keys that were read, by whether they were there.
    pub reads: Reads,
    /// How long it waited for the stores.
    pub valkey_ms: Option<u64>,
    pub postgres_ms: Option<u64>,
}

/// How many keys were there, and how many were not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    pub hits: u64,
    pub misses: u64,
}

/// The walk over the tiers, for one request.
pub struct Tiers<H: Host> {
    pub host: H,
    pub isolate: Rc<Isolate>,
    pub waited: Waited,
    /// Keys of Valkey's that were read so far.
    pub reads: Cell<Reads>,
    began_ms: u64,
    /// The tiers below L1 are behind it.
    gateway: Option<Gateway>,
    /// What the answer must not be older than, for whom it is given.
    floor_ms: Option<u64>,
}

/// How long the request has waited for each of them, in ms; None: not at all.
/// What the gateway waited for is part of the wait for it.
#[derive(Debug, Default)]
pub struct Waited {
    pub gateway_ms: Cell<Option<u64>>,
    pub valkey_ms: Cell<Option<u64>>,
    pub postgres_ms: Cell<Option<u64>>,
}

impl Waited {
    fn add(sum_ms: &Cell<Option<u64>>, ms: u64) {
        sum_ms.set(Some(sum_ms.get().unwrap_or(0).saturating_add(ms)));
    }
}

impl<H: Host> Tiers<H> {
    pub fn new(host: H, isolate: Rc<Isolate>) -> Self {
        Self {
            began_ms: isolate.now_ms(host.now_ms()),
            host,
            isolate,
            waited: Waited::default(),
            reads: Cell::default(),
            gateway: None,
            floor_ms: None,
        }
    }

    /// Below L1, the gateway is asked.
    pub fn behind(mut self, gateway: Gateway) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Answers with no copy that was read by then, by L2's clock.
    pub fn no_older_than(mut self, floor_ms: u64) -> Self {
        self.floor_ms = Some(floor_ms);
        self
    }

    /// For work after the answer, with a time of its own.
    fn background(&self) -> Self {
        Self {
            gateway: self.gateway.clone(),
            ..Self::new(self.host.clone(), Rc::clone(&self.isolate))
        }
    }

    fn count_read(&self, found: &Found) {
        let is_hit = found.body.is_some();
        let one = Reads {
            hits: u64::from(is_hit),
            misses: u64::from(!is_hit),
        };
        self.isolate.metrics.read(one);
        let before = self.reads.get();
        self.reads.set(Reads {
            hits: before.hits + one.hits,
            misses: before.misses + one.misses,
        });
    }

    /// The time by which everything here ages; the host's own only says what is
    /// now for others.
    fn now_ms(&self) -> u64 {
        self.isolate.now_ms(self.host.now_ms())
    }

    fn policy(&self, kind: Kind) -> &Policy {
        self.isolate.settings.policies.of(kind)
    }

    fn draw(&self, range: (u64, u64)) -> u64 {
        self.isolate.draw(|| self.host.random(), range)
    }

    fn token(&self) -> String {
        const_hex::encode(self.host.random())
    }

    // ------------------------------------------------------------ the stores

    async fn ask(&self, commands: Vec<Command>) -> Result<Vec<Reply>, Error> {
        let pass = way_to_valkey(&self.isolate.valkey, self.now_ms())?;
        self.ask_with(pass, commands).await
    }

    fn ask_with(
        &self,
        pass: Pass,
        commands: Vec<Command>,
    ) -> impl Future<Output = Result<Vec<Reply>, Error>> {
        self.ask_within(pass, commands, self.isolate.settings.valkey_deadline_ms)
    }

    async fn ask_within(
        &self,
        pass: Pass,
        commands: Vec<Command>,
        deadline_ms: u64,
    ) -> Result<Vec<Reply>, Error> {
        let settings = &self.isolate.settings;
        let is_short = deadline_ms < settings.valkey_deadline_ms;
        let asked = pin!(valkey::ask(&self.host, settings, commands, deadline_ms));
        self.exchange(Store::Valkey, pass, is_short, asked).await
    }

    /// A flight that a request for rows waits for. Where Valkey is too far away, or too
    /// slow, to answer in that time, it is not waited for in vain again and again; for
    /// what it is the truth of, it may be near enough.
    async fn ask_for_copies(&self, command: Command) -> Result<Vec<Reply>, Error> {
        let now_ms = self.now_ms();
        let pass = way_to_valkey(&self.isolate.copies, now_ms)?;
        let to_valkey = way_to_valkey(&self.isolate.valkey, now_ms)?;
        let deadline_ms = self.copy_deadline_ms();
        let outcome = self.ask_within(to_valkey, vec![command], deadline_ms).await;
        match &outcome {
            Ok(_) => {
                if pass.succeeded() {
                    self.host
                        .log("Valkey answers in time for copies of rows again");
                }
            }
            Err(Error::Store(_, Fault::Busy)) => {
                if pass.failed(self.now_ms()) {
                    self.host.log(&format!(
                        "Valkey does not answer within the {deadline_ms} ms that a copy of rows may take: PostgreSQL is asked at once until it does"
                    ));
                }
            }
            // Of other failures its own breaker knows.
            Err(_) => {}
        }
        outcome
    }

    async fn query(&self, statement: &Statement) -> Result<Rows, Error> {
        let pass = self.room_at_postgres().await?;
        self.query_with(pass, statement).await
    }

    async fn query_with(&self, pass: Pass, statement: &Statement) -> Result<Rows, Error> {
        let asked = postgres::run(&self.host, &self.isolate, statement, self.left_ms());
        // Large, and most requests need no room for it.
        let mut asked = Box::pin(asked);
        self.exchange(Store::Postgres, pass, false, asked.as_mut())
            .await
    }

    /// Waits for room among the exchanges under way, as long as there is time.
    async fn room_at_postgres(&self) -> Result<Pass, Error> {
        let mut looks = Looks::default();
        loop {
            let Isolate { valkey, copies, .. } = &*self.isolate;
            let at_once_max = if valkey.is_broken() || copies.is_broken() {
                limits::POSTGRES_AT_ONCE_MAX_ALONE
            } else {
                limits::POSTGRES_AT_ONCE_MAX
            };
            match self.isolate.postgres.enter(self.now_ms(), at_once_max) {
                Ok(pass) => return Ok(pass),
                Err(Closed::Full) if self.left_ms() > 0 => looks.pause(&self.host).await,
                Err(closed) => return Err(turned_away(Store::Postgres, closed)),
            }
        }
    }

    /// What is left of the time that a request with PostgreSQL may take, in ms.
    fn left_ms(&self) -> u64 {
        let gone_ms = self.now_ms().saturating_sub(self.began_ms);
        let deadline_ms = self.isolate.settings.postgres_deadline_ms;
        deadline_ms.saturating_sub(gone_ms)
    }

    /// How long L2 may take before L3 is asked, in ms.
    fn copy_deadline_ms(&self) -> u64 {
        let settings = &self.isolate.settings;
        copy_deadline_ms(
            settings.valkey_deadline_ms,
            settings.postgres_deadline_ms,
            self.isolate.postgres_took_ms.get(),
        )
    }

    /// `is_short`: it had less time than the store may take, and that it was too much for
    /// that says nothing of the store.
    async fn exchange<T>(
        &self,
        store: Store,
        pass: Pass,
        is_short: bool,
        work: Pin<&mut impl Future<Output = Result<T, Error>>>,
    ) -> Result<T, Error> {
        let began_ms = self.now_ms();
        let mut outcome = work.await;
        if is_short && matches!(outcome, Err(Error::Store(_, Fault::TimedOut))) {
            outcome = Err(Error::Store(store, Fault::Busy));
        }
        let now_ms = self.now_ms();
        let waited_ms = match store {
            Store::Valkey => &self.waited.valkey_ms,
            Store::Postgres => &self.waited.postgres_ms,
        };
        let took_ms = now_ms.saturating_sub(began_ms);
        Waited::add(waited_ms, took_ms);
        if store == Store::Postgres
            && matches!(outcome, Ok(_) | Err(Error::Store(_, Fault::TimedOut)))
        {
            self.isolate.postgres_took_ms.set(took_ms);
        }
        match &outcome {
            Err(error) if error.is_outage() => {
                if pass.failed(now_ms) {
                    self.host.log(&format!(
                        "{store} is not there: requests are turned away until it is"
                    ));
                }
            }
            // A statement that waits for a lock, or a setting, says nothing either.
            Err(Error::Store(_, Fault::Busy | Fault::Settings(_))) => {}
            _ => {
                if pass.succeeded() {
                    self.host.log(&format!("{store} is there again"));
                }
            }
        }
        outcome
    }

    /// Asks a store whether it is there; the time it took in ms.
    ///
    /// # Errors
    /// It is not.
    pub async fn probe(&self, store: Store) -> Result<u64, Error> {
        let began_ms = self.now_ms();
        let pass = |gate: &Gate| gate.probe(began_ms);
        match store {
            Store::Postgres => {
                let statement = Statement {
                    sql: postgres::PROBE,
                    parameters: Vec::new(),
                };
                self.query_with(pass(&self.isolate.postgres), &statement)
                    .await?;
            }
            Store::Valkey => {
                let ping = vec![Command::new("PING")];
                let pass = pass(&self.isolate.valkey);
                match self.ask_with(pass, ping).await?.first() {
                    Some(Reply::Simple(_)) => {}
                    other => return Err(valkey::refused(other.unwrap_or(&Reply::Null))),
                }
            }
        }
        Ok(self.now_ms().saturating_sub(began_ms))
    }

    /// Tells the operator what the caller is not told.
    pub fn complain(&self, error: &Error) {
        if let Some(line) = error.for_operator() {
            self.host.log(&line);
        }
    }

    // ------------------------------------------------------------ L1

    /// What L1 answers with; true: a refresh is due, and nobody does it.
    fn fresh(&self, key: &str, variant: &str) -> Option<(Found, bool)> {
        fresh(&self.isolate, key, variant, self.now_ms())
    }

    /// What L1 answers with when the truth cannot be asked (RFC 5861, section 4).
    fn stale_if_error(&self, key: &str, variant: &str, error: Error) -> Result<Found, Error> {
        let now_ms = self.now_ms();
        let copy = self.isolate.memory.borrow_mut().copy(key, variant, now_ms);
        let copy = copy.filter(|_| error.is_of_store());
        copy.map(|entry| Found {
            is_stale: true,
            ..self.found(&entry, Tier::L1, InL2::No)
        })
        .ok_or(error)
    }

    fn ticket(&self, key: &str, variant: &str) -> Ticket {
        self.isolate.flights.borrow_mut().ticket(key, variant)
    }

    /// Forgets a key, and lets no load that is under way bring it back.
    fn forget(&self, key: &str) {
        if mutation::is(Mutation::OwnWriteIsNotSeen) {
            return;
        }
        self.isolate.memory.borrow_mut().forget(key);
        self.isolate.flights.borrow_mut().overtake(key);
    }

    /// Puts what a tier below answered into L1, unless it was overtaken: what
    /// this isolate has served since must not get older.
    fn keep(
        &self,
        ticket: Ticket,
        (key, variant): (&str, &str),
        entry: Entry,
        tier: Tier,
        in_l2: InL2,
        now_ms: u64,
    ) -> Found {
        let mut found = Found::new(entry.clone(), tier, in_l2, now_ms);
        if !self.isolate.flights.borrow_mut().land(ticket, key, variant) {
            found.in_l1 = false;
            let newer = fresh(&self.isolate, key, variant, now_ms);
            return newer.map_or(found, |(newer, _)| newer);
        }
        let mut memory = self.isolate.memory.borrow_mut();
        found.in_l1 = memory.keep(key, variant, entry, now_ms) && found.ttl_ms > 0;
        found
    }

    fn entry(&self, policy: &Policy, body: Option<Bytes>, times: Times) -> Entry {
        let draws = Draws {
            jitter: self.draw((0, JITTER)),
            refresh: self.draw(REFRESH_FROM),
        };
        Entry::new(policy, body, times, draws)
    }

    fn found(&self, entry: &Entry, tier: Tier, in_l2: InL2) -> Found {
        Found::new(entry.clone(), tier, in_l2, self.now_ms())
    }

    // ------------------------------------------------------------ the gateway

    async fn ask_gateway(
        &self,
        gateway: &Gateway,
        floor_ms: Option<u64>,
    ) -> Result<Relayed, Error> {
        let began_ms = self.host.now_ms();
        let relayed = gateway(floor_ms).await;
        let took_ms = self.host.now_ms().saturating_sub(began_ms);
        Waited::add(&self.waited.gateway_ms, took_ms);
        if let Ok(relayed) = &relayed {
            let theirs = [relayed.valkey_ms, relayed.postgres_ms];
            let ours = [&self.waited.valkey_ms, &self.waited.postgres_ms];
            for (ours, theirs) in ours.into_iter().zip(theirs) {
                theirs.into_iter().for_each(|ms| Waited::add(ours, ms));
            }
        }
        relayed
    }

    /// What only the gateway can say: how its connections are. See
    /// [`Tiers::write_behind`]; None: there is no gateway.
    pub async fn pass_on<T>(&self) -> Option<Result<T, Error>> {
        let gateway = self.gateway.as_ref()?;
        Some(self.write_behind(gateway, &[]).await)
    }

    /// A load by the gateway, which has the tiers below L1.
    async fn load_behind(&self, gateway: &Gateway, place: (&str, &str)) -> Result<Found, Error> {
        let ticket = self.ticket(place.0, place.1);
        let asked_at_ms = self.now_ms();
        let flights = || self.isolate.flights.borrow_mut();
        let asked = flights().ask_gateway();
        let floor_ms = flights().floor_ms(place.0, place.1);
        let relayed = self.ask_gateway(gateway, floor_ms).await?;
        let Some(found) = relayed.found else {
            return Err(Error::Answered(relayed.status, relayed.body));
        };
        let found = Found {
            body: (relayed.status == 200).then_some(relayed.body),
            ..found
        };
        if found.is_stale {
            return Ok(found);
        }
        if found.tier == Tier::L3 {
            // L2 may have, or get, what was read before.
            flights().note_truth(place.0, Some(place.1), asked, found.l2_asked_ms);
        }
        let ttl_ms = u64::try_from(found.ttl_ms).unwrap_or(0);
        let entry = Entry {
            body: found.body,
            read_at_ms: asked_at_ms.saturating_sub(found.age_ms),
            refresh_at_ms: asked_at_ms + ttl_ms * self.draw(REFRESH_FROM) / 100,
            fresh_until_ms: asked_at_ms.saturating_add(ttl_ms),
            stale_until_ms: asked_at_ms.saturating_add(found.stale_ms),
        };
        let kept = self.keep(ticket, place, entry, found.tier, found.in_l2, self.now_ms());
        Ok(Found {
            is_collapsed: found.is_collapsed,
            ..kept
        })
    }

    /// Leaves a write to the gateway. Never comes back with a value: what the
    /// gateway answers is the end of the way.
    async fn write_behind<T>(&self, gateway: &Gateway, keys: &[String]) -> Result<T, Error> {
        let relayed = self.ask_gateway(gateway, None).await;
        // A write that is turned away makes no copy old.
        let is_turned_away = relayed.as_ref().is_err_and(Error::is_turned_away);
        for key in keys.iter().filter(|_| !is_turned_away) {
            self.forget(key);
            let mut flights = self.isolate.flights.borrow_mut();
            let asked = flights.ask_gateway();
            flights.note_truth(key, None, asked, NOT_KNOWN_MS);
        }
        let relayed = relayed?;
        self.isolate.metrics.read(relayed.reads);
        Err(Error::Answered(relayed.status, relayed.body))
    }

    // ------------------------------------------------------------ one load at a time

    /// Loads, or waits for the load of another request. The load is not moved, because a
    /// future that is given another one has room for it three times over.
    async fn collapsed(
        &self,
        store: Store,
        key: &str,
        variant: &str,
        load: Pin<&mut impl Future<Output = Result<Found, Error>>>,
    ) -> Result<Found, Error> {
        let settings = &self.isolate.settings;
        let deadline_ms = match store {
            Store::Valkey => settings.valkey_deadline_ms,
            Store::Postgres => settings.postgres_deadline_ms,
        };
        loop {
            let now_ms = self.now_ms();
            let flight = self
                .isolate
                .flights
                .borrow()
                .under_way(key, variant, now_ms);
            // It may be led for one who knows of less.
            let joined = flight.filter(|_| self.floor_ms.is_none());
            let Some(flight) = joined else { break };
            self.follow(&flight, deadline_ms).await;
            if let Some(outcome) = flight.outcome() {
                return outcome.map(|found| Found {
                    is_collapsed: true,
                    ..found
                });
            }
            // All that wait would else begin loads of their own, at the same moment.
            if flight.is_under_way(self.now_ms()) {
                return Err(Error::Store(store, Fault::TimedOut));
            }
        }
        let now_ms = self.now_ms();
        let lead = self.isolate.flights.borrow_mut().lead(key, variant, now_ms);
        let outcome = load.await;
        lead.land(outcome.clone());
        outcome
    }

    /// Looks again and again, because nothing that a request awaits may be
    /// completed by another one (the platform's rule): the timer is its own.
    async fn follow(&self, flight: &Flight, deadline_ms: u64) {
        let mut looks = Looks::default();
        let gone_ms = || self.now_ms().saturating_sub(self.began_ms);
        while flight.is_under_way(self.now_ms()) && gone_ms() < deadline_ms {
            looks.pause(&self.host).await;
        }
    }
}

/// Pauses between looks, each longer than the one before.
struct Looks {
    pause_ms: u64,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            pause_ms: LOOK_MS.0,
        }
    }
}

impl Looks {
    async fn pause<H: Host>(&mut self, host: &H) {
        host.sleep(self.pause_ms).await;
        self.pause_ms = (self.pause_ms * 2).min(LOOK_MS.1);
    }
}

/// The same, of deadlines and of how long PostgreSQL took last: a third of its time,
/// or less where it needs more of the rest.
pub fn copy_deadline_ms(valkey_ms: u64, postgres_ms: u64, took_ms: u64) -> u64 {
    // A quarter more, as no two take the same.
    let needs_ms = took_ms.saturating_add(took_ms / 4);
    let spare_ms = postgres_ms.saturating_sub(needs_ms);
    valkey_ms
        .min(postgres_ms / 3)
        .min(spare_ms.max(limits::COPY_MS_MIN))
}

/// # Errors
/// This gate on the way there is closed.
fn way_to_valkey(gate: &Gate, now_ms: u64) -> Result<Pass, Error> {
    gate.enter(now_ms, limits::VALKEY_AT_ONCE_MAX)
        .map_err(|closed| turned_away(Store::Valkey, closed))
}

fn turned_away(store: Store, closed: Closed) -> Error {
    let fault = match closed {
        Closed::Broken => Fault::Broken,
        Closed::Full => Fault::Full,
    };
    Error::Store(store, fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l2_leaves_postgresql_the_time_that_it_takes() {
        for (took_ms, expected_ms) in [
            (0, 300),
            (480, 300),
            (600, 150),
            // Slow or too far away: no reason not to ask a near L2.
            (900, limits::COPY_MS_MIN),
            (u64::MAX, limits::COPY_MS_MIN),
        ] {
            assert_eq!(
                copy_deadline_ms(900, 900, took_ms),
                expected_ms,
                "{took_ms}"
            );
        }
        assert_eq!(copy_deadline_ms(50, 900, 0), 50);
        assert_eq!(copy_deadline_ms(900, 90, 0), 30);
    }
}
