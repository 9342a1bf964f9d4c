//! Exchanges with the stores: what they cost, and whether they succeed.

use edge::tiers::gate::{Closed, Pass};
use edge::tiers::{LOOK_MS, copy_deadline_ms};

use super::super::START_US;
use super::super::counter::{KEPT_US, Link};
use super::super::outages::{COPIES, POSTGRES, VALKEY};
use super::{Asker, Walk};
use crate::simulation::setup::Mode;

/// An exchange with a store.
pub(super) struct Exchange {
    /// None: it never came there.
    pub arrived_us: Option<u64>,
    /// Answered, or given up.
    pub done_us: u64,
    pub is_answered: bool,
    /// It was given up, and not refused.
    is_late: bool,
}

/// A store is not there, or too slow (RFC 9110, sections 15.6.4 and 15.6.5).
pub(super) const UNAVAILABLE: u16 = 503;
const TOO_LATE: u16 = 504;

impl Exchange {
    /// Of an answer that it failed.
    pub fn status(&self) -> u16 {
        if self.is_late { TOO_LATE } else { UNAVAILABLE }
    }

    fn failed(done_us: u64) -> Self {
        Self {
            arrived_us: None,
            done_us,
            is_answered: false,
            is_late: false,
        }
    }
}

/// Nobody is there, or the connection is not any more.
struct Broken {
    at_us: u64,
}

/// Leave to ask a store, and from when on.
pub(super) struct Room {
    pass: Pass,
    pub from_us: u64,
}

/// Who has what to do.
#[derive(Clone, Copy)]
struct Errand {
    store: usize,
    asker: Asker,
    /// Of Valkey; a statement of PostgreSQL is one.
    commands: u64,
    deadline_us: u64,
    /// That it passes says nothing of the store.
    is_short: bool,
}

impl Walk<'_> {
    /// So many commands for Valkey.
    fn flight(&self, asker: Asker, now_us: u64, commands: u64, for_ms: u64) -> Errand {
        Errand {
            store: VALKEY,
            asker,
            commands,
            deadline_us: now_us + for_ms * 1000,
            is_short: for_ms < self.setup.settings.valkey_deadline_ms,
        }
    }

    /// A flight of so many commands.
    pub(super) fn ask_valkey(&mut self, asker: Asker, now_us: u64, commands: u64) -> Exchange {
        let for_ms = self.setup.settings.valkey_deadline_ms;
        self.fly(self.flight(asker, now_us, commands, for_ms), now_us)
    }

    /// A flight that a request for rows waits for.
    pub(super) fn ask_for_copies(&mut self, asker: Asker, now_us: u64) -> Exchange {
        let Ok(pass) = self.gates(asker).enter(COPIES, now_us) else {
            return Exchange::failed(now_us);
        };
        let took_us = self.gates(asker).postgres_took_us;
        let settings = &self.setup.settings;
        let (valkey_ms, postgres_ms) = (settings.valkey_deadline_ms, settings.postgres_deadline_ms);
        let for_ms = copy_deadline_ms(valkey_ms, postgres_ms, took_us / 1000);
        let errand = self.flight(asker, now_us, 1, for_ms);
        let exchange = self.fly(errand, now_us);
        let is_good = match exchange.is_answered {
            true => Some(true),
            // Of other failures Valkey's own breaker knows.
            false => (errand.is_short && exchange.is_late).then_some(false),
        };
        self.gates(asker)
            .leave(COPIES, pass, exchange.done_us, is_good);
        exchange
    }

    fn fly(&mut self, errand: Errand, now_us: u64) -> Exchange {
        match self.room(errand, now_us) {
            Ok(room) => self.exchange(errand, room),
            Err(failed_us) => Exchange::failed(failed_us),
        }
    }

    /// One command, whether or not Valkey has been there lately.
    pub(super) fn insist(&mut self, asker: Asker, now_us: u64) -> Exchange {
        let for_ms = self.setup.settings.valkey_deadline_ms;
        let errand = self.flight(asker, now_us, 1, for_ms);
        let room = Room {
            pass: self.gates(asker).probe(VALKEY, now_us),
            from_us: now_us,
        };
        self.exchange(errand, room)
    }

    /// # Errors
    /// There is none in time: when that is clear.
    pub(super) fn room_at_postgres(&mut self, asker: Asker, now_us: u64) -> Result<Room, u64> {
        self.room(self.statement(asker), now_us)
    }

    /// One statement.
    pub(super) fn ask_postgres(&mut self, asker: Asker, room: Room) -> Exchange {
        let from_us = room.from_us;
        let exchange = self.exchange(self.statement(asker), room);
        if exchange.is_answered || exchange.is_late {
            self.gates(asker).postgres_took_us = exchange.done_us.saturating_sub(from_us);
        }
        exchange
    }

    fn statement(&self, asker: Asker) -> Errand {
        let deadline_ms = self.setup.settings.postgres_deadline_ms;
        Errand {
            store: POSTGRES,
            asker,
            commands: 0,
            deadline_us: asker.began_us + deadline_ms * 1000,
            is_short: false,
        }
    }

    /// At PostgreSQL one waits for it, as long as there is time.
    fn room(&mut self, errand: Errand, mut now_us: u64) -> Result<Room, u64> {
        let mut pause_ms = LOOK_MS.0;
        let pass = loop {
            match self.gates(errand.asker).enter(errand.store, now_us) {
                Ok(pass) => break pass,
                Err(Closed::Full) if errand.store == POSTGRES && now_us < errand.deadline_us => {
                    now_us += pause_ms * 1000;
                    pause_ms = (pause_ms * 2).min(LOOK_MS.1);
                }
                Err(_) => return Err(now_us),
            }
        };
        Ok(Room {
            pass,
            from_us: now_us,
        })
    }

    fn exchange(&mut self, errand: Errand, room: Room) -> Exchange {
        let exchange = self.reach(errand, room.from_us);
        let done_us = exchange.done_us;
        let is_good = (!(errand.is_short && exchange.is_late)).then_some(exchange.is_answered);
        self.gates(errand.asker)
            .leave(errand.store, room.pass, done_us, is_good);
        exchange
    }

    /// Over a connection that was kept, or else over a new one.
    fn reach(&mut self, errand: Errand, now_us: u64) -> Exchange {
        let gateway = errand.asker.gateway;
        let kept =
            gateway.and_then(|gateway| self.gateways[gateway].links[errand.store].take(now_us));
        let exchange = match self.over(errand, now_us, kept) {
            // That it is broken is learned only there.
            Err(Broken { at_us }) if kept.is_some() => self.over(errand, at_us, None),
            exchange => exchange,
        };
        exchange.unwrap_or_else(|Broken { at_us }| Exchange::failed(at_us.min(errand.deadline_us)))
    }

    /// Over one that was used last at that time, or else over a new one.
    fn over(
        &mut self,
        errand: Errand,
        now_us: u64,
        kept_us: Option<u64>,
    ) -> Result<Exchange, Broken> {
        let Errand {
            store,
            asker,
            commands,
            deadline_us,
            ..
        } = errand;
        let dice = &mut self.dice;
        let costs = &self.counters[store].store;
        let is_postgres = store == POSTGRES;
        // Hyperdrive is near, and goes on to the store itself.
        let is_near = is_postgres && self.setup.mode == Mode::Hyperdrive;
        let (way, beyond) = match is_near {
            true => (self.setup.model.hyperdrive_way, Some(asker.way)),
            false => (asker.way, None),
        };
        let connects = match (kept_us, is_near) {
            (Some(_), _) => 0,
            (None, true) => 1,
            (None, false) => costs.connect_round_trips,
        };
        let work_us = costs.service_us.draw(dice)
            + match kept_us {
                Some(_) => 0,
                None => costs.log_in_us.draw(dice),
            };
        let mut ways_us = 0;
        for _ in 0..connects {
            ways_us += 2 * way.draw(dice);
        }
        let from_us = now_us + ways_us;
        let there_us = from_us + way.draw(dice);
        let mut log_in_us = 0;
        if is_postgres && kept_us.is_none() {
            for _ in 0..costs.log_in_round_trips {
                log_in_us += 2 * way.draw(dice);
            }
        }
        let beyond_us = beyond.map_or(0, |beyond| 2 * beyond.draw(dice));
        if kept_us.is_none() {
            self.subrequests[usize::from(asker.gateway.is_some())] += 1;
            let busy = self.setup.model.edge.busy;
            self.compute(asker, now_us, [busy.valkey_us, busy.postgres_us][store]);
            if self.outages.refuse(store, now_us) {
                return Err(Broken { at_us: from_us });
            }
            // It has given up before what it wants could leave.
            if from_us + log_in_us > deadline_us {
                self.counters[store].opened(from_us, deadline_us);
                return Ok(Exchange {
                    is_late: true,
                    ..Exchange::failed(deadline_us)
                });
            }
        }
        let arrived_us =
            self.counters[store].workers.done_us(there_us, work_us) + log_in_us + beyond_us;
        let done_us = arrived_us + way.draw(&mut self.dice);
        let is_broken = self
            .outages
            .broke(store, kept_us.unwrap_or(from_us), arrived_us);
        if kept_us.is_none() {
            let kept_us = match asker.gateway {
                Some(_) if !is_broken => KEPT_US,
                _ => 0,
            };
            self.counters[store].opened(from_us, done_us + kept_us);
        }
        if is_broken {
            return Err(Broken { at_us: arrived_us });
        }
        if let Some(gateway) = asker.gateway {
            self.gateways[gateway].links[store].give(Link {
                used_us: arrived_us,
                free_us: done_us,
            });
        }
        // HELLO comes with the first commands.
        let (commands, statements) = match is_postgres {
            true => (0, 1),
            false => (commands + u64::from(kept_us.is_none()), 0),
        };
        self.observed
            .reached(arrived_us - START_US, commands, statements);
        Ok(Exchange {
            arrived_us: Some(arrived_us),
            done_us: done_us.min(deadline_us),
            is_answered: done_us <= deadline_us,
            is_late: done_us > deadline_us,
        })
    }
}
