//! Copies of PostgreSQL's rows in L2 and L1, and the writes that make them old.
//!
//! A copy carries the time at which its rows were read; that time travels with
//! it through all tiers and never restarts. L2 is filled only under a lease
//! that a write takes away, so no load brings back what a write made old.

use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;

use super::entry::Times;
use super::flights::{Mark, NOT_KNOWN_MS};
use super::valkey::{Copy, Lease};
use super::{Found, InL2, Tier, Tiers, valkey};
use crate::error::{Error, Store};
use crate::host::Host;
use crate::limits::{BLOCK_MARGIN_MS, COPY_BYTES_MAX, INVALIDATION_PAUSES_MS, LEASE_WAITS_MAX};
use crate::mutation::{self, Mutation};
use crate::policy::{Kind, REFRESH_FROM};
use crate::wire::pg::{self, Statement};
use crate::wire::resp::{Command, Reply};

/// How long the one that holds a lease is given each time, in ms, drawn from.
pub const LEASE_WAIT_MS: (u64, u64) = (20, 40);

/// Rows that are asked for.
pub struct Query {
    pub kind: Kind,
    /// What writes name. Its variants are invalidated together.
    pub key: String,
    /// What changes elsewhere name, where that is another thing than the key.
    pub family: Option<&'static str>,
    pub variant: String,
    pub statement: Statement,
    /// Makes the body; None is an absence that may be remembered.
    pub render: fn(&pg::Rows) -> Result<Option<Vec<u8>>, Error>,
}

/// What L2 knows.
struct InCopy {
    /// When its rows were read, by this isolate's clock.
    found: Option<(u64, Option<Bytes>)>,
    /// Whether it may answer; else only when the truth cannot be asked.
    is_fresh: bool,
    asked_at_ms: u64,
    lease: Lease,
    in_l2: InL2,
    /// What L2's clock showed; [`NOT_KNOWN_MS`]: it did not answer.
    l2_now_ms: u64,
}

impl InCopy {
    /// L2 did not say, or was not asked.
    fn unknown(in_l2: InL2, asked_at_ms: u64) -> Self {
        Self {
            found: None,
            is_fresh: false,
            asked_at_ms,
            lease: Lease::NotGranted,
            in_l2,
            l2_now_ms: NOT_KNOWN_MS,
        }
    }
}

impl<H: Host> Tiers<H> {
    /// Rows, from the nearest tier that has them.
    ///
    /// # Errors
    /// No tier can answer.
    pub async fn rows(&self, query: &Rc<Query>) -> Result<Found, Error> {
        if let Some(found) = self.rows_at_once(query) {
            return Ok(found);
        }
        let (key, variant) = (query.key.as_str(), query.variant.as_str());
        let load = pin!(self.load_rows(query));
        self.collapsed(Store::Postgres, key, variant, load)
            .await
            .or_else(|error| self.stale_if_error(key, variant, error))
    }

    /// What L1 answers with, without waiting; a refresh that is due begins.
    pub fn rows_at_once(&self, query: &Rc<Query>) -> Option<Found> {
        let (found, is_due) = self.fresh(&query.key, &query.variant)?;
        if is_due {
            self.refresh_rows(query);
        }
        Some(found)
    }

    fn refresh_rows(&self, query: &Rc<Query>) {
        let (tiers, query) = (self.background(), Rc::clone(query));
        self.host.defer(async move {
            let load = pin!(tiers.load_rows(&query));
            if let Err(error) = tiers
                .collapsed(Store::Postgres, &query.key, &query.variant, load)
                .await
            {
                tiers.complain(&error);
            }
        });
    }

    async fn load_rows(&self, query: &Rc<Query>) -> Result<Found, Error> {
        let place = (query.key.as_str(), query.variant.as_str());
        if let Some(gateway) = &self.gateway {
            return self.load_behind(gateway, place).await;
        }
        let policy = self.policy(query.kind);
        let ticket = self.ticket(place.0, place.1);
        let token = self.token();
        let copy = if policy.allows_copies() {
            self.copy_in_l2(query, &token).await
        } else {
            InCopy::unknown(InL2::Bypassed, self.now_ms())
        };
        let entry = copy.found.map(|(read_at_ms, body)| {
            let times = Times {
                read_at_ms,
                asked_at_ms: copy.asked_at_ms,
                gone_at_ms: u64::MAX,
            };
            self.entry(policy, body, times)
        });
        let now_ms = self.now_ms();
        if let Some(entry) = entry.clone().filter(|_| copy.is_fresh) {
            if copy.lease == Lease::Granted {
                self.refill(query, token);
            }
            return Ok(self.keep(ticket, place, entry, Tier::L2, InL2::Yes, self.now_ms()));
        }
        let read_at_ms = self.now_ms();
        match self.load_truth(query).await {
            Ok(body) => {
                // L2 may have, or get, what was read before.
                let mut flights = self.isolate.flights.borrow_mut();
                let mark = flights.mark(place.0, Some(place.1));
                drop(flights);
                if copy.lease == Lease::Granted {
                    let (tiers, query, body) = (self.background(), Rc::clone(query), body.clone());
                    self.host
                        .defer(async move { tiers.fill(&query, &token, body, Some(mark)).await });
                }
                let times = Times {
                    read_at_ms,
                    asked_at_ms: read_at_ms,
                    gone_at_ms: u64::MAX,
                };
                let entry = self.entry(policy, body, times);
                // What this load fills was read at that very time, by L2's clock.
                let l2_asked_ms = match copy.lease {
                    Lease::Granted => copy.l2_now_ms.saturating_sub(1),
                    Lease::NotGranted | Lease::Blocked => copy.l2_now_ms,
                };
                Ok(Found {
                    l2_asked_ms,
                    ..self.keep(ticket, place, entry, Tier::L3, copy.in_l2, self.now_ms())
                })
            }
            Err(error) => match entry {
                Some(entry) if error.is_of_store() && now_ms < entry.stale_until_ms => Ok(Found {
                    is_stale: true,
                    ..self.found(&entry, Tier::L2, InL2::Yes)
                }),
                _ => Err(error),
            },
        }
    }

    /// Asks L2, and gives the one that holds a lease some time to fill it.
    async fn copy_in_l2(&self, query: &Query, token: &str) -> InCopy {
        let mut waits_left = LEASE_WAITS_MAX;
        let mut floor_ms = self.floor_ms.unwrap_or(0);
        loop {
            let asked_at_ms = self.now_ms();
            let flights = || self.isolate.flights.borrow_mut();
            let inquiry = flights().inquiry(&query.key, &query.variant);
            let after_ms = inquiry.after_ms.max(floor_ms);
            let copy = match self.read_copy(query, token, after_ms).await {
                Ok(copy) => copy,
                Err(error) => {
                    self.complain(&error);
                    return InCopy::unknown(InL2::Unavailable, asked_at_ms);
                }
            };
            // A copy that is older than what this isolate has answered is none, nor
            // one that is older than what the isolate knows for which we answer.
            flights().hear(&inquiry, copy.now_ms);
            floor_ms = floor_ms.min(copy.now_ms);
            let found = copy.found.filter(|(age_ms, _)| {
                let read_at_ms = copy.now_ms.saturating_sub(*age_ms);
                read_at_ms > floor_ms && flights().admits(&inquiry, read_at_ms)
            });
            let is_fresh = self.is_fresh(query, found.as_ref());
            let may_come = copy.lease == Lease::NotGranted && !is_fresh;
            if may_come && waits_left > 0 && self.left_ms() > 0 {
                waits_left -= 1;
                self.host.sleep(self.draw(LEASE_WAIT_MS)).await;
                continue;
            }
            let found = found.map(|(age_ms, body)| {
                if mutation::is(Mutation::AgeRestarts) {
                    return (asked_at_ms, body);
                }
                (asked_at_ms.saturating_sub(age_ms), body)
            });
            return InCopy {
                found,
                is_fresh,
                asked_at_ms,
                lease: copy.lease,
                l2_now_ms: copy.now_ms,
                in_l2: match copy.lease {
                    Lease::Granted => InL2::Yes,
                    Lease::NotGranted | Lease::Blocked => InL2::No,
                },
            };
        }
    }

    async fn read_copy(&self, query: &Query, token: &str, after_ms: u64) -> Result<Copy, Error> {
        let policy = self.policy(query.kind);
        let part = self.draw(REFRESH_FROM);
        let refresh_ms = (
            (policy.max_age_ms * part / 100),
            (policy.absence_ms * part / 100),
        );
        let names = (query.key.as_str(), query.family);
        let read = valkey::read_copy(names, &query.variant, token, refresh_ms, after_ms);
        let replies = self.ask_for_copies(read).await?;
        let reply = replies.first().unwrap_or(&Reply::Null);
        valkey::copy(reply).ok_or_else(|| valkey::refused(reply))
    }

    fn is_fresh(&self, query: &Query, found: Option<&(u64, Option<Bytes>)>) -> bool {
        let policy = self.policy(query.kind);
        found.is_some_and(|(age_ms, body)| *age_ms < policy.age_ms_max(body.is_none()))
    }

    async fn load_truth(&self, query: &Query) -> Result<Option<Bytes>, Error> {
        let rows = self.query(&query.statement).await?;
        Ok((query.render)(&rows)?.map(Bytes::from))
    }

    /// Reads the truth anew, after the answer, for the copy that is getting old.
    fn refill(&self, query: &Rc<Query>, token: String) {
        let (tiers, query) = (self.background(), Rc::clone(query));
        self.host.defer(async move {
            match tiers.load_truth(&query).await {
                Ok(body) => tiers.fill(&query, &token, body, None).await,
                Err(error) => tiers.complain(&error),
            }
        });
    }

    /// Fills L2, and takes back the mark that was made until it knows. What could not be
    /// read again is left to L3: to try would count as a failure of L2's.
    async fn fill(&self, query: &Query, token: &str, body: Option<Bytes>, mark: Option<Mark>) {
        let policy = self.policy(query.kind);
        let keep_ms = policy.max_age_ms.saturating_add(policy.stale_if_error_ms);
        let body = body.unwrap_or_default();
        if body.len() > COPY_BYTES_MAX {
            return;
        }
        let (key, variant) = (query.key.as_str(), query.variant.as_str());
        let fill = valkey::fill_copy(key, variant, token, &body, keep_ms);
        match self.ask(vec![fill]).await {
            Ok(replies) if replies.first() == Some(&Reply::Integer(1)) => {
                let mut flights = self.isolate.flights.borrow_mut();
                if let Some(mark) = mark {
                    flights.unmark(key, Some(variant), mark);
                }
            }
            // Its lease was taken away.
            Ok(_) => {}
            Err(error) => self.complain(&error),
        }
    }

    /// Runs a statement that makes copies old. Fills are blocked before the
    /// commit and let through after it; the isolate reads its own write at once.
    ///
    /// When it is not known whether the statement was committed, fills stay
    /// blocked until it must have been.
    ///
    /// # Errors
    /// The statement was refused or PostgreSQL cannot run it.
    pub async fn write_rows(
        &self,
        keys: Vec<String>,
        statement: &Statement,
    ) -> Result<pg::Rows, Error> {
        if let Some(gateway) = &self.gateway {
            return self.write_behind(gateway, &keys).await;
        }
        let forget = || {
            for key in &keys {
                self.forget(key);
            }
        };
        // A write that is turned away makes no copy old.
        let pass = self.room_at_postgres().await?;
        let token = self.token();
        let block_ms = self.isolate.settings.postgres_deadline_ms + BLOCK_MARGIN_MS;
        let block = valkey::block(&keys, &token, block_ms);
        forget();
        if mutation::is(Mutation::WriteDoesNotInvalidate) {
            return self.query_with(pass, statement).await;
        }
        if let Err(error) = self.ask_for_copies(block.clone()).await {
            // Without L2 the write still counts; copies elsewhere end by age.
            self.complain(&error);
        }
        let outcome = self.query_with(pass, statement).await;
        forget();
        // Until L2 is told, it may have what was there before.
        let marks: Vec<Mark> = {
            let mut flights = self.isolate.flights.borrow_mut();
            keys.iter().map(|key| flights.mark(key, None)).collect()
        };
        let is_known = !outcome.as_ref().is_err_and(Error::is_ambiguous);
        let after = if is_known {
            valkey::release(&keys, &token)
        } else {
            block
        };
        let tiers = self.background();
        self.host.defer(async move {
            if tiers.insist(after).await {
                let mut flights = tiers.isolate.flights.borrow_mut();
                for (key, mark) in keys.iter().zip(marks) {
                    flights.unmark(key, None, mark);
                }
            }
        });
        outcome
    }

    /// Tells L2 what it must not miss, as often as the platform gives time for;
    /// whether it knows now.
    async fn insist(&self, command: Command) -> bool {
        for pause_ms in INVALIDATION_PAUSES_MS {
            self.host.sleep(pause_ms).await;
            let pass = self.isolate.valkey.probe(self.now_ms());
            match self.ask_with(pass, vec![command.clone()]).await {
                Ok(replies) if matches!(replies.first(), Some(Reply::Integer(_))) => return true,
                Ok(replies) => {
                    self.complain(&valkey::refused(replies.first().unwrap_or(&Reply::Null)));
                }
                Err(error) => self.complain(&error),
            }
        }
        false
    }
}
