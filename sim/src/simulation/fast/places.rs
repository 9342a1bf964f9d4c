//! What isolates and gateways have, and how busy they are.
//!
//! Knows copies, loads under way, bodies and work; not what a request does with them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::counter::{Links, Workers};
use super::plan::Foreseen;
use super::stored::Version;
use crate::cache_status::Tier;
use crate::caches::{Cache, Foresight};

/// What an isolate has of one thing.
#[derive(Clone, Default)]
pub(super) struct Held {
    /// The isolate's life in which it got it.
    pub life: u32,
    pub copy: Option<Kept>,
    pub flight: Option<Flight>,
    /// What it weighs in L1; 0: it has not been there.
    pub weight_bytes: u32,
    /// Of L2's clock: a copy must not be older than that; 0: any may be.
    pub mark_us: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub refresh_at_ms: u64,
    pub fresh_until_ms: u64,
    pub stale_until_ms: u64,
    pub version: Version,
}

/// A load under way.
#[derive(Clone, Copy)]
pub(super) struct Flight {
    pub loaded: Loaded,
    /// A write has overtaken it: it is not kept.
    pub is_overtaken: bool,
}

/// What a load found, and when.
#[derive(Clone, Copy)]
pub(super) struct Loaded {
    pub done_us: u64,
    /// Or the status with which it failed.
    pub tier: Result<Tier, u16>,
    /// It answers only because the truth cannot be asked, and is not kept.
    pub is_stale: bool,
    pub kept: Kept,
    /// When the truth was read, by the clock of who loaded.
    pub read_us: u64,
    /// Copies that L2 read by then are older; 0: none is.
    pub mark_us: u64,
}

pub(super) struct Isolate {
    pub place: usize,
    pub life: u32,
    pub number: u64,
    pub began_us: u64,
    pub asked_us: u64,
    busy_until_us: u64,
    /// What it will have to do, and when that comes: the time and how long, in µs.
    work: BinaryHeap<Reverse<(u64, u64)>>,
    pub held: Vec<Held>,
    /// What decides which copies stay; None: all do.
    pub l1: Option<L1>,
    /// What its copies would weigh if all stayed.
    pub copies_bytes: u64,
    pub bodies: Bodies,
    /// It held more than it may.
    pub is_over: bool,
}

/// What a gateway has.
pub(super) struct Gateway {
    /// To both stores.
    pub links: [Links; 2],
    pub workers: Workers,
    pub bodies: Bodies,
}

impl Gateway {
    pub fn new() -> Self {
        Self {
            links: Default::default(),
            workers: Workers::new(1),
            bodies: Bodies::default(),
        }
    }
}

pub(super) enum L1 {
    Cache(Box<dyn Cache>),
    Clairvoyant(Foresight),
}

impl L1 {
    /// Whether the thing was there.
    pub fn access(&mut self, local: u32, foreseen: Foreseen) -> bool {
        match self {
            Self::Cache(cache) => cache.access(local),
            Self::Clairvoyant(foresight) => foresight.access(foreseen.now, foreseen.next),
        }
    }
}

impl Isolate {
    /// One that has not begun yet, and will be asked for so many things.
    pub fn at(place: usize, things: u32) -> Self {
        Self {
            place,
            life: 0,
            number: 0,
            began_us: 0,
            asked_us: 0,
            busy_until_us: 0,
            work: BinaryHeap::new(),
            held: vec![Held::default(); things as usize],
            l1: None,
            copies_bytes: 0,
            bodies: Bodies::default(),
            is_over: false,
        }
    }

    /// Another one begins in its place, with nothing.
    pub fn begin(&mut self, number: u64, now_us: u64) {
        self.life += 1;
        self.number = number;
        self.began_us = now_us;
        self.work.clear();
        self.copies_bytes = 0;
        self.bodies = Bodies::default();
        self.is_over = false;
    }

    /// Takes a request that comes then; when it has been busy with it for so long.
    pub fn take_request(&mut self, come_us: u64, busy_us: u64) -> u64 {
        while let Some(&Reverse((at_us, us))) = self.work.peek()
            && at_us <= come_us
        {
            self.work.pop();
            self.busy_until_us = self.busy_until_us.max(at_us) + us;
        }
        self.busy_until_us = self.busy_until_us.max(come_us) + busy_us;
        self.busy_until_us
    }

    /// Takes work for a request that it has.
    pub fn take(&mut self, at_us: u64, us: u64) {
        // What comes later may still find it idle.
        if at_us > self.busy_until_us {
            self.work.push(Reverse((at_us, us)));
        } else {
            self.busy_until_us += us;
        }
    }
}

/// Of the requests that an isolate or a gateway has, by when these are done.
#[derive(Default)]
pub(super) struct Bodies {
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    bytes: u64,
}

impl Bodies {
    /// A request that is sent and done at these times brings bodies; all there are.
    pub fn hold(&mut self, (sent_us, done_us): (u64, u64), bytes: u64) -> u64 {
        while let Some(&Reverse((end_us, bytes))) = self.ends.peek()
            && end_us <= sent_us
        {
            self.ends.pop();
            self.bytes -= bytes;
        }
        self.ends.push(Reverse((done_us, bytes)));
        self.bytes += bytes;
        self.bytes
    }
}
