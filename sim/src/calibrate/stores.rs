//! How far the stores are, and how long their work takes, asked as the edge asks.
//!
//! The edge's own client, on a host that watches the time between a write and
//! the answer to it: what it waits for, without what it computes. Knows nothing
//! of HTTP.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use edge::error::Error;
use edge::host::native::Native;
use edge::host::{Address, Host, Tls};
use edge::isolate::Isolate;
use edge::settings::Settings;
use edge::tiers::{postgres, valkey};
use edge::transport::Kept;
use edge::wire::pg::{SslMode, Statement};
use edge::wire::resp::{Command, Reply};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use super::fit::{self, Measured};
use super::{PAUSE, ms};
use crate::dice::Dice;
use crate::load::us;
use crate::model::{Model, Store, Times, Way};
use crate::sample;

const DEADLINE_MS: u64 = 10_000;
/// New connections are dear, and made after one another.
const LOG_INS: usize = 100;
/// What the way is read from: nearly the shortest, and where the tail begins.
const SHORTEST: f64 = 0.01;
const LATE: f64 = 0.99;
/// Of each way, so that it meets about one round trip in twenty.
const TAIL_PER_MILLE: u32 = 25;
/// A difference between the ways to the stores that is worth a word.
const APART_US: u64 = 1_000;
/// Enough to know a median by.
const WORK_DRAWS: usize = 1_000;
/// Less what is kept for the operator.
const CONNECTIONS: &str = "SELECT current_setting('max_connections')::int \
- current_setting('superuser_reserved_connections')::int";
/// Some 10 ms of work for one core, that needs no table.
const LABOUR: &str = "SELECT count(*) FROM generate_series(1, 100000)";
/// So many of these at once tell how many are done at once.
const LABOURS: u32 = 8;
/// The quickest of so many tries counts: others may want the same cores.
const LABOUR_TRIES: usize = 5;
/// Ours alone, and gone soon.
const COPY: &str = "shepherd-edge:calibrate";
/// Nobody's.
const COPY_MISSING: &str = "calibrate-missing";
const COPY_MS: u64 = 60_000;

/// What was found.
#[derive(Debug, Clone)]
pub struct Stores {
    pub way: Way,
    pub valkey: Store,
    pub postgres: Store,
    pub notes: Vec<String>,
}

impl Stores {
    /// Nothing is known: they are no distance away and work in no time, and all
    /// that a request takes is the edge's.
    pub fn unknown() -> Self {
        let here = Store {
            service_us: Times::Always(0),
            connect_round_trips: 1,
            log_in_round_trips: 0,
            ..Model::default().valkey
        };
        Self {
            way: Way::default(),
            valkey: here.clone(),
            postgres: Store {
                log_in_us: Times::Always(0),
                workers: Model::default().postgres.workers,
                connections_max: Model::default().postgres.connections_max,
                ..here
            },
            notes: Vec::new(),
        }
    }
}

/// Measures those that are named.
///
/// # Errors
/// A URL is malformed, or a store cannot be reached or refuses us.
pub async fn measure(
    database_url: Option<&str>,
    valkey_url: Option<&str>,
    samples: usize,
) -> Result<Stores> {
    let settings = Settings::read(&|name| {
        let value = match name {
            "DATABASE_URL" => database_url,
            "VALKEY_URL" => valkey_url,
            _ => None,
        };
        value.map(ToOwned::to_owned)
    });
    let work = async {
        let mut stores = Stores::unknown();
        // Nearer than any statement, and so the better measure of the way.
        let mut round_trip = None;
        if valkey_url.is_some() {
            round_trip = Some(stores.take_valkey(&settings, samples).await?);
        }
        if database_url.is_some() {
            let isolate = Rc::new(Isolate::new(settings));
            stores.take_postgres(&isolate, samples, round_trip).await?;
            stores.take_postgres_size(&isolate).await?;
        }
        Ok(stores)
    };
    LocalSet::new().run_until(work).await
}

impl Stores {
    /// How long a round trip is.
    async fn take_valkey(&mut self, settings: &Settings, samples: usize) -> Result<Measured> {
        let tls = settings.valkey().map_err(explained)?.tls;
        let host = Watched::new(true);
        let ask = async |commands: Vec<Command>| {
            let asked = valkey::ask(&host, settings, commands, DEADLINE_MS).await;
            sleep(PAUSE).await;
            asked.map_err(explained)
        };
        ask(vec![Command::new("PING")]).await?;
        let connect_us = host.take_connects();
        host.take_waits();
        for _ in 0..samples {
            ask(vec![Command::new("PING")]).await?;
        }
        let round_trip: Measured = host.take_waits().into_iter().collect();
        let read = || valkey::read_copy((COPY, None), "", "calibrate", (COPY_MS, COPY_MS), 0);
        let body = format!("[{}]", vec!["1"; 1_000].join(","));
        ask(vec![read()]).await?;
        ask(vec![valkey::fill_copy(
            COPY,
            "",
            "calibrate",
            body.as_bytes(),
            COPY_MS,
        )])
        .await?;
        host.take_waits();
        for number in 0..samples {
            let get = || {
                vec![
                    Command::new("GET").arg(COPY_MISSING),
                    Command::new("PTTL").arg(COPY_MISSING),
                ]
            };
            ask(if number % 2 == 0 { vec![read()] } else { get() }).await?;
        }
        let waits = host.take_waits();
        // A server may be told not to say.
        let info = ask(vec![Command::new("INFO").arg("clients")]).await?;
        if let Some(Reply::Bulk(text) | Reply::Verbatim(text)) = info.first()
            && let Some(count) = clients_max(&String::from_utf8_lossy(text))
        {
            self.valkey.connections_max = count;
        }
        self.way = way(&round_trip);
        let (service_us, flights) = work(waits, self.way, 1);
        self.valkey.service_us = service_us;
        // TLS 1.3 takes one more.
        self.valkey.connect_round_trips = if tls == Tls::Off { 1 } else { 2 };
        self.notes.push(format!(
            "Valkey is {} away and there and back again; it works {} on a flight of commands (p50). A TCP \
             connection opened in {}.",
            ms(round_trip.at(0.5)),
            ms(flights.at(0.5)),
            ms(connect_us.first().copied().unwrap_or_default()),
        ));
        Ok(round_trip)
    }

    async fn take_postgres(
        &mut self,
        isolate: &Isolate,
        samples: usize,
        round_trip: Option<Measured>,
    ) -> Result<()> {
        let login = &isolate.settings.postgres().map_err(explained)?.login;
        let is_tls = !matches!(login.ssl, SslMode::Disable | SslMode::Private);
        let host = Watched::new(true);
        let run = async |host: &Watched, statement: &Statement| {
            let ran = postgres::run(host, isolate, statement, DEADLINE_MS).await;
            sleep(PAUSE).await;
            ran.map(drop).map_err(explained)
        };
        let probe = statement(postgres::PROBE, &[]);
        let kinds = [
            products(Some("0.5")),
            products(None),
            statement(postgres::PROFILE, &[Some("calibrate")]),
        ];
        // The first of each kind is also parsed and planned.
        for statement in kinds.iter().chain([&probe]) {
            run(&host, statement).await?;
        }
        host.take_waits();
        for _ in 0..samples {
            run(&host, &probe).await?;
        }
        let probes: Measured = host.take_waits().into_iter().collect();
        for statement in kinds.iter().cycle().take(samples) {
            run(&host, statement).await?;
        }
        let statements = host.take_waits();
        let round_trip = match round_trip {
            Some(round_trip) => round_trip,
            None => {
                self.way = way(&probes);
                probes.clone()
            }
        };
        let (service_us, statements) = work(statements, self.way, 1);
        self.postgres.service_us = service_us;
        // A place that keeps nothing logs in for each statement.
        let stranger = Watched::new(false);
        let (mut log_ins, mut flights) = (Vec::new(), 0);
        for statement in kinds.iter().cycle().take(LOG_INS.min(samples)) {
            run(&stranger, statement).await?;
            let waits = stranger.take_waits();
            flights = waits.len();
            log_ins.push(waits.iter().sum::<u64>());
        }
        let flights = u32::try_from(flights).unwrap_or_default();
        let (log_in_us, log_in) = work(log_ins, self.way, flights);
        self.postgres.log_in_us = log_in_us;
        // With TLS the first flight asks for it.
        let of_log_in = flights.saturating_sub(u32::from(is_tls));
        self.postgres.log_in_round_trips = of_log_in.saturating_sub(1);
        self.postgres.connect_round_trips = if is_tls { 3 } else { 1 };
        self.notes.push(format!(
            "PostgreSQL answers SELECT 1 in {}; it works {} on a statement (p50), and {} on a log-in \
             with its first statement, which takes {flights} flights.",
            ms(probes.at(0.5)),
            ms(statements.at(0.5)),
            ms(log_in.at(0.5)),
        ));
        let trip_us = round_trip.at(0.5);
        let apart_us = probes.at(0.5).abs_diff(trip_us);
        if apart_us > APART_US && apart_us * 3 > trip_us {
            self.notes.push(
                "The two stores are not equally far away, and the model has one way for both: what is \
                 more to PostgreSQL counts as its work."
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl Stores {
    /// How much PostgreSQL does at once.
    async fn take_postgres_size(&mut self, isolate: &Rc<Isolate>) -> Result<()> {
        let host = Watched::new(true);
        let statement = statement(CONNECTIONS, &[]);
        let asked = postgres::run(&host, isolate, &statement, DEADLINE_MS).await;
        let asked = asked.map_err(explained)?;
        if let Some(count) = asked.text(0, 0).and_then(|text| text.parse().ok()) {
            self.postgres.connections_max = count;
        }
        // The first time, connections are made.
        labours(&host, isolate, LABOURS).await?;
        let (mut one, mut many) = (Duration::MAX, Duration::MAX);
        for _ in 0..LABOUR_TRIES {
            one = one.min(labours(&host, isolate, 1).await?);
            many = many.min(labours(&host, isolate, LABOURS).await?);
        }
        let at_once = f64::from(LABOURS) * one.as_secs_f64() / many.as_secs_f64();
        self.postgres.workers = (at_once.round() as u32).clamp(1, LABOURS);
        self.notes.push(format!(
            "PostgreSQL has {} connections, and does {at_once:.1} of {LABOURS} statements at once.",
            self.postgres.connections_max,
        ));
        Ok(())
    }
}

/// How long so many take that begin at once.
async fn labours(host: &Watched, isolate: &Rc<Isolate>, count: u32) -> Result<Duration> {
    let began = Instant::now();
    let mut under_way = JoinSet::new();
    for _ in 0..count {
        let (host, isolate) = (host.clone(), Rc::clone(isolate));
        under_way.spawn_local(async move {
            let labour = statement(LABOUR, &[]);
            postgres::run(&host, &isolate, &labour, DEADLINE_MS).await
        });
    }
    while let Some(ran) = under_way.join_next().await {
        ran?.map_err(explained)?;
    }
    Ok(began.elapsed())
}

/// As INFO says it.
fn clients_max(info: &str) -> Option<u32> {
    let mut lines = info.lines();
    lines.find_map(|line| line.strip_prefix("maxclients:")?.trim().parse().ok())
}

fn statement(sql: &'static str, parameters: &[Option<&str>]) -> Statement {
    let owned = |parameter: &Option<&str>| parameter.map(ToOwned::to_owned);
    Statement {
        sql,
        parameters: parameters.iter().map(owned).collect(),
    }
}

fn products(from_price: Option<&str>) -> Statement {
    let category = sample::CATEGORIES.first().copied();
    let parameters = [category, None, from_price, None, Some("20")];
    statement(postgres::PRODUCTS, &parameters)
}

/// A way on which a round trip is, at p1, p50 and p99, as it was measured: two
/// jitters, each evenly spread, have the length of one as their median, and of the
/// twentieth that meets a tail four fifths lie within p99.
fn way(round_trip: &Measured) -> Way {
    let [shortest, usual, late] = [SHORTEST, 0.5, LATE].map(|quantile| round_trip.at(quantile));
    Way {
        latency_us: shortest / 2,
        jitter_us: usual - shortest,
        tail_per_mille: TAIL_PER_MILLE,
        tail_us: (late - usual) * 5 / 4,
    }
}

/// What the store did, of waits of so many round trips each.
fn work(waits: Vec<u64>, way: Way, trips: u32) -> (Times, Measured) {
    let waits: Measured = waits.into_iter().collect();
    let (times, _) = fit::added(&waits, |dice| fit::round_trips(way, trips, dice));
    let mut dice = Dice::seeded(0);
    let drawn = (0..WORK_DRAWS).map(|_| times.draw(&mut dice)).collect();
    (times, drawn)
}

fn explained(error: Error) -> anyhow::Error {
    match error.for_operator() {
        Some(sentence) => anyhow!("{sentence}"),
        None => anyhow!("a store refuses what it is asked for calibration: {error:?}"),
    }
}

/// The native platform, watched.
#[derive(Clone)]
struct Watched {
    native: Native,
    seen: Rc<RefCell<Seen>>,
    kept: Option<Rc<Kept<Self>>>,
}

/// Times in µs.
#[derive(Default)]
struct Seen {
    connects: Vec<u64>,
    /// From a write to the first bytes of its answer.
    waits: Vec<u64>,
}

impl Watched {
    fn new(keeps: bool) -> Self {
        Self {
            native: Native::default(),
            seen: Rc::default(),
            kept: keeps.then(Rc::default),
        }
    }

    fn take_waits(&self) -> Vec<u64> {
        std::mem::take(&mut self.seen.borrow_mut().waits)
    }

    fn take_connects(&self) -> Vec<u64> {
        std::mem::take(&mut self.seen.borrow_mut().connects)
    }

    fn watch(&self, stream: <Native as Host>::Stream) -> Stream {
        Stream {
            stream,
            asked: None,
            seen: Rc::clone(&self.seen),
        }
    }
}

impl Host for Watched {
    type Stream = Stream;

    fn now_ms(&self) -> u64 {
        self.native.now_ms()
    }

    fn sleep(&self, duration_ms: u64) -> impl Future<Output = ()> {
        self.native.sleep(duration_ms)
    }

    async fn connect(&self, address: &Address, tls: Tls) -> io::Result<Stream> {
        let asked = Instant::now();
        let stream = self.native.connect(address, tls).await?;
        self.seen.borrow_mut().connects.push(us(asked.elapsed()));
        Ok(self.watch(stream))
    }

    async fn start_tls(&self, plain: Stream, address: &Address, tls: Tls) -> io::Result<Stream> {
        let stream = self.native.start_tls(plain.stream, address, tls).await?;
        Ok(self.watch(stream))
    }

    fn kept(&self) -> Option<&Kept<Self>> {
        self.kept.as_deref()
    }

    fn defer(&self, work: impl Future<Output = ()> + 'static) {
        self.native.defer(work);
    }

    fn random(&self) -> [u8; 16] {
        self.native.random()
    }

    fn nfkc(text: &str) -> String {
        Native::nfkc(text)
    }

    fn print(&self, line: &str) {
        self.native.print(line);
    }
}

/// A connection that notes how long its answers take.
struct Stream {
    stream: <Native as Host>::Stream,
    /// When something was written that has no answer yet.
    asked: Option<Instant>,
    seen: Rc<RefCell<Seen>>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready()
            && let Some(asked) = self.asked.take()
        {
            self.seen.borrow_mut().waits.push(us(asked.elapsed()));
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() {
            self.asked = Some(Instant::now());
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
