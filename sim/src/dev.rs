//! `make run`, from the first check to Ctrl-C.
//!
//! The order matters: what can be refused at once (port, URLs) comes before
//! anything slow. Whatever this starts it also ends; stores of somebody else's
//! are looked at and, but for the replay's own short-lived keys, not written to.

use std::env;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::sleep;

use crate::load::fill::{self, Needed};
use crate::report::{Row, table};
use crate::stores::{Data, Place, Stores};
use crate::traffic::mapped;
use crate::wrangler::Wrangler;
use crate::{checkout, database, load, sample, say, schema, steps, trace, valkey};

pub const PORT_DEFAULT: u16 = 8787;
/// Recorded requests to replay; about 3,100 requests to the edge.
pub const VISITS_DEFAULT: usize = 1200;
/// Few: with more, what is measured is the queue in front of wrangler's proxy.
pub const CONNECTIONS_DEFAULT: usize = 2;
/// Long enough for any replay; the rest of the store's life is not ours.
const FILLED_TTL_S: u32 = 600;
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// What the command line may change.
#[derive(Debug, Clone)]
pub struct Options {
    /// None: no replay.
    pub load: Option<Load>,
    /// Where the stores of ours keep their data.
    pub data: PathBuf,
}

/// How much traffic is replayed, and how.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Load {
    /// Recorded requests to replay; a voice query becomes six
    #[arg(long, default_value_t = VISITS_DEFAULT)]
    pub visits: usize,
    /// Clients, each with one request under way
    #[arg(long, default_value_t = CONNECTIONS_DEFAULT)]
    pub connections: usize,
}

/// Everything that runs; its parts end in this order.
pub struct Running {
    wrangler: Wrangler,
    stores: Option<Stores>,
}

/// Reads a variable; an empty one is not set.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Brings everything up and replays the sample. Dropping the future ends what
/// it has started so far.
///
/// # Errors
/// One sentence: what is wrong, with what, and what to do.
pub async fn bring_up(options: &Options) -> Result<Running> {
    let (database_url, valkey_url) = (variable("DATABASE_URL"), variable("VALKEY_URL"));
    // Before the port: a run that has both must be told of first.
    let place = match (&database_url, &valkey_url) {
        (Some(_), Some(_)) => None,
        _ => Some(Stores::place(&Data::Keep(options.data.clone()))?),
    };
    let port = free_port()?;
    if let Some(url) = &database_url {
        schema::check(&database::connect(url).await?).await?;
    }
    if let Some(url) = &valkey_url {
        valkey::ping(url).await?;
    }
    let checkout = checkout::directory();
    let data = &options.data;
    std::fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
    let stores = match place {
        None => None,
        Some(place) => Some(
            steps::step(
                "PostgreSQL and Valkey are up",
                "the first start makes a database",
                own_stores(place),
            )
            .await?,
        ),
    };
    if let Some(note) = stores.as_ref().and_then(Stores::note) {
        say::aside(note);
    }
    let own = |url: fn(&Stores) -> &str| stores.as_ref().map(url).unwrap_or_default().to_owned();
    let settings = [
        (
            "DATABASE_URL",
            database_url
                .clone()
                .unwrap_or_else(|| own(Stores::database_url)),
        ),
        (
            "VALKEY_URL",
            valkey_url
                .clone()
                .unwrap_or_else(|| own(Stores::valkey_url)),
        ),
    ];
    let settings = settings
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let mut wrangler = Wrangler::start(&checkout, data, port, &settings)?;
    steps::step(
        "The edge is up and both stores are healthy",
        "wrangler starts Cloudflare's runtime",
        wrangler.healthy(),
    )
    .await?;
    if let Some(load) = options.load {
        if valkey_url.is_some() {
            say::aside(
                "The replay writes keys like session:replay-1 into your Valkey; they expire within a day.",
            );
        }
        replay_sample(&wrangler.edge, load).await?;
    }
    Ok(Running { wrangler, stores })
}

/// Serves until something of it ends by itself.
///
/// # Errors
/// Always: what ended, and its last words.
pub async fn watch(running: &mut Running) -> Result<()> {
    loop {
        sleep(WATCH_EVERY).await;
        let Running { wrangler, stores } = &mut *running;
        let stores = stores
            .iter_mut()
            .flat_map(|stores| [&mut stores.postgres.process, &mut stores.valkey.process]);
        for process in std::iter::once(&mut wrangler.process).chain(stores) {
            if let Some(status) = process.exited() {
                bail!(
                    "{} ended by itself ({status}); {}",
                    process.name(),
                    process.last_words()
                );
            }
        }
    }
}

/// Fills, replays, prints the table.
///
/// # Errors
/// The edge does not store what the replay needs.
pub async fn replay_sample(edge: &load::Edge, load: Load) -> Result<()> {
    let traffic = mapped::traffic(&trace::excerpt()?, load.visits);
    let why = "5 s of it let the edge's own copies grow old, or L1 would look too good";
    steps::step(
        "The stores are filled for the replay",
        why,
        fill::fill(edge, Needed::of(&traffic, FILLED_TTL_S)),
    )
    .await?;
    let outcome = load::closed::run(edge, traffic, load.connections).await?;
    let rows = Row::all_of(&outcome.tallies);
    say::line(format_args!(
        "{}\n{}",
        table::table(&rows),
        table::notes(&outcome)
    ))?;
    Ok(())
}

/// What to try next.
pub fn invitation(running: &Running) -> String {
    let base = running.wrangler.edge.base();
    format!(
        "Serving on {base}\n\n  \
         curl '{base}/api/vultr/postgres/products?category=dresses&maxPrice=100&limit=3'\n  \
         curl -i {base}/api/vultr/postgres/users/{}/profile\n  \
         curl -X POST -H 'Content-Type: application/json' -d '{{\"value\":\"hello\",\"ttl\":60}}' {base}/api/vultr/valkey/cache/greeting\n\n\
         Ctrl-C ends it.",
        sample::user_id(7_u32)
    )
}

async fn own_stores(place: Place) -> Result<Stores> {
    let stores = Stores::start_in(place).await?;
    furnish(&stores).await?;
    Ok(stores)
}

/// Gives stores of ours their tables and the sample shop.
///
/// # Errors
/// The database refuses.
pub async fn furnish(stores: &Stores) -> Result<()> {
    let database = database::connect(stores.database_url()).await?;
    schema::apply(&database).await?;
    sample::load(&database).await
}

fn free_port() -> Result<u16> {
    let port = match variable("PORT") {
        None => PORT_DEFAULT,
        Some(text) => text
            .trim()
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .with_context(|| format!("PORT={text} is not a port: give a number from 1 to 65535"))?,
    };
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(port),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(anyhow!(
            "port {port} is taken: stop what listens there, or choose another one with  PORT={} make run",
            port.checked_add(1).unwrap_or(PORT_DEFAULT)
        )),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(anyhow!(
            "port {port} needs root: choose one from 1024 on with  PORT={PORT_DEFAULT} make run"
        )),
        Err(error) => Err(anyhow!("port {port} of 127.0.0.1 cannot be used: {error}")),
    }
}
