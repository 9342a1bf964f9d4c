//! The command line: reads arguments and variables, calls the library, turns an
//! error into one sentence and an exit code.

use std::fmt::Display;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use serde_json::{Value, json};
use sim::chaos::campaign::{self, Plan};
use sim::chaos::oracle::Thing;
use sim::chaos::{Size, shrink};
use sim::check::Targets;
use sim::dev::{self, Load, Options};
use sim::load::Edge;
use sim::origin::origin;
use sim::record;
use sim::report::{Report, page};
use sim::say::{NobodyListens, harmless};
use sim::simulation::setup::{self, Setup};
use sim::stores::{Data, Stores};
use sim::study::{self, CurveOptions, Subject};
use sim::trace::Format;
use sim::traffic::{Traffic, synth};
use sim::{
    calibrate, certificate, chaos, check, checkout, database, load, say, schema, simulation, sweep,
    traffic,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// A replay makes and drops many small things: this one is twice as fast at that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// As a shell reports an end by Ctrl-C, and by a pipe that nobody reads.
const INTERRUPTED: u8 = 130;
const NOBODY_LISTENS: u8 = 141;

const RECORD: &str = "\
Turn what servers write down anyway into traffic, or stand in front of one.

  npx wrangler tail --format json >tail.json      # until Ctrl-C
  sim record tail.json -o monday.ndjson.zst
  sim record browser.har access.log.1.gz access.log
  sim record --proxy --to http://127.0.0.1:8787 -o now.ndjson

With TRACE_SAMPLE and TRACE_KEY the edge prints a trace line of its own for a sample
of clients, which wrangler tail, Logpush and any log carry; it says more than a URL.
Traces of keys (.slt, .trace, .csv, .oracleGeneral) are read as sim synth --trace does.

Ids of users, sessions and addresses are replaced by 16 digits of their HMAC-SHA-256
under --key or TRACE_KEY. What is no request, what a replay leaves out (health, metrics,
batches) and what came late is counted and said.

What is written is described at the top of sim/src/traffic/ndjson.rs: a JSON object a line.";

const SYNTH: &str = "\
Make the traffic of a voice shop, or give the keys of a recorded trace a meaning.

Shoppers log in, ask by voice (the integration guide's flow of six requests, one after
the other), look around, think, order, send back, and leave, some with a log-out. Few
come often and few searches are popular; an app stores again what is gone after its
TTL. The same seed makes the same bytes on every machine.

  sim synth --duration 2h --requests-per-s 50 -o evening.ndjson.zst
  sim synth --trace tests/data/traces/tw52_1m.csv.zst -o twitter.ndjson.zst

What is written is described at the top of sim/src/traffic/ndjson.rs: a JSON object a line.";

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Stores, edge under wrangler dev, replay, table, serve until Ctrl-C (reads PORT, DATABASE_URL, VALKEY_URL)
    Dev {
        /// End after the table
        #[arg(long)]
        once: bool,
        /// Do not replay recorded traffic
        #[arg(long)]
        no_replay: bool,
        /// Where the stores keep their data [default: .data in the checkout]
        #[arg(long)]
        data: Option<PathBuf>,
        #[command(flatten)]
        load: Load,
    },
    /// Serve the API from the native build of the edge (reads the same variables as the Worker)
    Serve {
        /// Where to listen; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:8787")]
        listen: SocketAddr,
    },
    /// Start a PostgreSQL and a Valkey, print where as one line of JSON, end when stdin closes
    Stores {
        /// Keep the data here; otherwise it ends with the stores
        #[arg(long)]
        data: Option<PathBuf>,
        /// Without tables and sample data
        #[arg(long)]
        empty: bool,
    },
    /// Make the tables where they are missing
    Migrate {
        /// Also the triggers that note changes for the edge (README, "Changes behind the edge")
        #[arg(long)]
        changes: bool,
        /// Otherwise from the variable DATABASE_URL
        #[arg(long)]
        database_url: Option<String>,
    },
    /// Make a certificate authority and a server certificate for tests, print them as one line of JSON
    Certificate {
        /// A name or IP address of the server; may be repeated
        #[arg(long, required = true)]
        host: Vec<String>,
        /// One that was valid some time ago
        #[arg(long)]
        expired: bool,
    },
    /// Try the promises in virtual time: many isolates, all faults, a judge
    Chaos {
        /// The first seed [default: drawn]
        #[arg(long)]
        seed: Option<u64>,
        /// How many seeds
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// Begin no seed after so many seconds
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: Option<u64>,
        /// How many isolates
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=chaos::ISOLATES_MAX))]
        isolates: Option<u16>,
        /// What is read and written: sessions s0…, profiles p0…, orders of o0…
        #[arg(long, value_delimiter = ',')]
        things: Vec<Thing>,
        /// For how long clients send requests, in virtual ms
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=chaos::TRAFFIC_MS_MAX))]
        traffic_ms: Option<u64>,
        /// Print all that happens (one seed)
        #[arg(long)]
        trace: bool,
    },
    /// How often every cache policy misses on a trace, beside the optimum and an unbounded cache
    Policies {
        #[command(flatten)]
        subject: Subject,
        /// For machines; the same for any number of threads
        #[arg(long)]
        json: bool,
    },
    /// The miss-ratio curve of LRU on a trace, from one pass
    Mrc {
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        options: CurveOptions,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Turn logs, tails and archives into traffic, or stand in front of a server and write down what passes
    #[command(long_about = RECORD)]
    Record(record::Options),
    /// Make the traffic of a voice shop, or give the keys of a recorded trace a meaning
    #[command(long_about = SYNTH)]
    Synth(synth::Options),
    /// Replay traffic through the tiers in virtual time: does it meet its targets, and at what load?
    Replay {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        arguments: setup::Arguments,
        /// For machines; the same for any number of threads
        #[arg(long)]
        json: bool,
        /// Write a page that needs nothing else to this file as well
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Show a report that a replay wrote as JSON: as the table, or as a page
    Report {
        /// The JSON; `-` reads it from stdin
        report: PathBuf,
        /// Write a page that needs nothing else to this file
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Replay traffic under many settings: which are better, and for what?
    Sweep {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        arguments: sweep::Arguments,
        /// For machines; the same for any number of threads
        #[arg(long)]
        json: bool,
        /// Write a page that needs nothing else to this file as well
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Whether a report meets its latency targets; exit code 1 if not
    Check {
        /// What `sim replay --json` or `sim load --json` wrote; - reads it from stdin
        report: PathBuf,
        #[command(flatten)]
        targets: Targets,
    },
    /// Send recorded traffic to running edges when it is due, and say what users would have waited
    Load {
        #[command(flatten)]
        options: load::command::Options,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Measure a running edge and its stores, and write the model that simulations take for them
    ///
    /// Measured: the way to the stores, their work, log-ins and connections, how much
    /// PostgreSQL does at once, and what the edge adds to each kind of request. What one
    /// edge cannot show keeps its default, to be changed in the file: how long a new
    /// isolate takes (edge.start_us), other places and their isolates, the way to
    /// Hyperdrive (hyperdrive_way), and the platform's limits.
    Calibrate {
        #[command(flatten)]
        options: calibrate::Options,
    },
    /// Replay recorded traffic against a running edge and print the table
    ReplaySample {
        #[arg(long, default_value_t = format!("http://127.0.0.1:{}", dev::PORT_DEFAULT))]
        url: String,
        #[command(flatten)]
        load: Load,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system refuses what an event loop needs")
        .and_then(|runtime| runtime.block_on(run(arguments.command)));
    result.unwrap_or_else(|error| {
        if error.is::<NobodyListens>() {
            return ExitCode::from(NOBODY_LISTENS);
        }
        say::aside(harmless(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Dev {
            once,
            no_replay,
            data,
            load,
        } => {
            let options = Options {
                load: (!no_replay).then_some(load),
                data: data.unwrap_or_else(|| checkout::directory().join(".data")),
            };
            dev(options, once).await
        }
        Command::Serve { listen } => serve(listen).await,
        Command::Stores { data, empty } => stores(data, empty).await,
        Command::Migrate {
            changes,
            database_url,
        } => {
            let url = database_url
                .or_else(|| dev::variable("DATABASE_URL"))
                .context("which database? Set DATABASE_URL or give --database-url")?;
            let database = database::connect(&url).await?;
            schema::apply(&database).await?;
            say::line("The tables are in place.")?;
            if changes {
                schema::note_changes(&database).await?;
                say::line("Changes are noted: let a Cron Trigger tell the edge.")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Certificate { host, expired } => {
            let made = certificate::make(host, expired)?;
            say::line(json!({"ca": made.authority, "cert": made.certificate, "key": made.key}))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Chaos {
            seed,
            seeds,
            seconds,
            isolates,
            things,
            traffic_ms,
            trace,
        } => {
            let mut size = Size::default();
            size.isolates = isolates.map_or(size.isolates, usize::from);
            size.traffic_ms = traffic_ms.unwrap_or(size.traffic_ms);
            if !things.is_empty() {
                size.things = things;
            }
            chaos(seed, seeds, seconds, size, trace)
        }
        Command::Policies { subject, json } => {
            let report = study::policies(&subject)?;
            print(&report, json.then(|| report.json()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Mrc {
            subject,
            options,
            json,
        } => {
            let report = study::curve(&subject, &options)?;
            print(&report, json.then(|| report.json()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Record(options) => {
            let said = if options.proxy {
                record::proxy::run(&options, interrupted()).await?
            } else {
                record::run(&options)?
            };
            say::answer(said)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Synth(options) => {
            say::answer(synth::run(&options)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Replay {
            what,
            arguments,
            json,
            html,
        } => {
            let setup = Setup::of(arguments)?;
            let report = simulation::replay(what.open()?, setup)?;
            show(&report, json, html.as_deref())
        }
        Command::Sweep {
            what,
            arguments,
            json,
            html,
        } => {
            let report = sweep::sweep(what.open()?, &arguments)?;
            show(&report, json, html.as_deref())
        }
        Command::Check { report, targets } => {
            let missed = check::missed(&Report::open(&report)?, &targets)?;
            for sentence in &missed {
                say::line(sentence)?;
            }
            match missed.is_empty() {
                true => {
                    say::line("All targets are met.")?;
                    Ok(ExitCode::SUCCESS)
                }
                false => Ok(ExitCode::FAILURE),
            }
        }
        Command::Load { options, json } => {
            let end = async {
                // Without signals it goes on to its own end.
                if interrupted().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let loaded = load::command::load(&options, end).await?;
            print(&loaded, json.then(|| json!(loaded)))?;
            Ok(match loaded.is_good {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            })
        }
        Command::Report { report, html } => {
            let report = Report::open(&report)?;
            match html {
                Some(file) => write_page(&report, &file)?,
                None => say::answer(&report)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Calibrate { options } => {
            let calibration = calibrate::calibrate(&options).await?;
            match &options.output {
                Some(path) => {
                    calibration.save(path)?;
                    say::line(format_args!(
                        "{calibration}The model is in {}.",
                        path.display()
                    ))?;
                }
                None => {
                    say::beside(&calibration);
                    say::line(serde_json::to_string_pretty(&calibration.model)?)?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::ReplaySample { url, load } => {
            origin(&url)?;
            dev::replay_sample(&Edge::at(&url), load).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Traffic that is replayed.
#[derive(clap::Args)]
struct What {
    /// Traffic (.ndjson, .ndjson.zst), or a recorded trace of keys, each of which becomes a shopper (sim synth gives keys another meaning)
    traffic: PathBuf,
    /// How a trace of keys is written [default: as its name says]
    #[arg(long)]
    format: Option<Format>,
    /// So many times as fast as recorded
    #[arg(long, value_parser = load::command::positive, conflicts_with = "rate")]
    speed: Option<f64>,
    /// So many requests per second, whenever they were recorded
    #[arg(long, value_parser = load::command::positive)]
    rate: Option<f64>,
    /// Only the first so many requests
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
}

impl What {
    /// Says what was odd about it.
    fn open(&self) -> Result<Traffic> {
        let mut traffic = traffic::open(&self.traffic, self.format)?;
        say::beside(&traffic.oddities);
        traffic
            .requests
            .truncate(self.requests.map_or(usize::MAX, |count| count as usize));
        if let Some(speed) = self.speed {
            traffic.at_speed(speed);
        }
        if let Some(rate) = self.rate {
            traffic.at_rate(rate);
        }
        traffic.ensure_times(&self.traffic)?;
        Ok(traffic)
    }
}

fn show(report: &Report, json: bool, html: Option<&Path>) -> Result<ExitCode> {
    if let Some(file) = html {
        write_page(report, file)?;
    }
    match json {
        true => say::line(serde_json::to_string_pretty(report)?)?,
        false => say::answer(report)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &impl Display, json: Option<Value>) -> Result<()> {
    match json {
        Some(json) => say::line(format_args!("{json:#}")),
        None => say::answer(report),
    }
}

fn write_page(report: &Report, file: &Path) -> Result<()> {
    std::fs::write(file, page::html(report))
        .with_context(|| format!("cannot write the page to {}", file.display()))
}

fn chaos(
    seed: Option<u64>,
    seeds: u64,
    seconds: Option<u64>,
    size: Size,
    trace: bool,
) -> Result<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let first_seed = seed.unwrap_or_else(|| now.unwrap_or_default().as_secs());
    say::line(format_args!("seed {first_seed}"))?;
    if trace {
        // Not on this thread: tokio's runtime lets no future be polled as often in a row.
        let traced = || chaos::run(first_seed, campaign::mood(first_seed), &size, None, true).trace;
        let lines = std::thread::scope(|scope| scope.spawn(traced).join());
        for line in lines.iter().flatten() {
            say::line(line)?;
        }
    }
    let plan = Plan {
        first_seed,
        seeds,
        time: seconds.map(Duration::from_secs),
        mutation: None,
        size,
    };
    let all = campaign::campaign(&plan, usize::MAX);
    say::answer(all.report())?;
    for run in &all.failures {
        let command = shrink::command(run.seed, &plan.size);
        say::line(format_args!("seed {} again: {command}", run.seed))?;
    }
    let Some(first) = all.failures.into_iter().next() else {
        return Ok(ExitCode::SUCCESS);
    };
    if !trace {
        let (run, size) = shrink::shrink(first, plan.size, None);
        say::line(format_args!(
            "the first, made smaller: {}",
            shrink::command(run.seed, &size)
        ))?;
    }
    Ok(ExitCode::FAILURE)
}

async fn dev(options: Options, once: bool) -> Result<ExitCode> {
    let mut running = tokio::select! {
        running = dev::bring_up(&options) => running?,
        interrupted = interrupted() => {
            interrupted?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if once {
        return Ok(ExitCode::SUCCESS);
    }
    say::line(dev::invitation(&running))?;
    tokio::select! {
        ended = dev::watch(&mut running) => ended?,
        interrupted = interrupted() => interrupted?,
    }
    say::aside("\nEnding the edge and its stores.");
    Ok(ExitCode::SUCCESS)
}

async fn serve(listen: SocketAddr) -> Result<ExitCode> {
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}: is the port taken? Choose another with --listen")
    })?;
    say::line(format_args!("Serving on http://{}", listener.local_addr()?))?;
    let edge = LocalSet::new();
    tokio::select! {
        ended = edge.run_until(edge::host::native::serve(listener, &|name| std::env::var(name).ok())) => ended?,
        interrupted = interrupted() => interrupted?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn stores(data: Option<PathBuf>, empty: bool) -> Result<ExitCode> {
    let data = data.map_or(Data::ThrowAway, Data::Keep);
    let start = async {
        let stores = Stores::start(&data).await?;
        if !empty {
            dev::furnish(&stores).await?;
        }
        anyhow::Ok(stores)
    };
    let stores = tokio::select! {
        stores = start => stores?,
        interrupted = interrupted() => {
            interrupted?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if let Some(note) = stores.note() {
        say::aside(note);
    }
    say::line(json!({
        "database_url": stores.database_url(),
        "valkey_url": stores.valkey_url(),
        "postgres_pid": stores.postgres.process.pid(),
        "valkey_pid": stores.valkey.process.pid(),
    }))?;
    tokio::select! {
        () = stdin_closed() => {}
        interrupted = interrupted() => interrupted?,
    }
    stores.stop();
    Ok(ExitCode::SUCCESS)
}

/// Whoever started us may be gone without a word; the pipe breaks then.
async fn stdin_closed() {
    let (closed, wait) = oneshot::channel();
    // A thread of its own, not the runtime's: nothing must wait for it at the end.
    std::thread::spawn(move || {
        let mut sink = [0; 256];
        while std::io::stdin()
            .read(&mut sink)
            .is_ok_and(|length| length > 0)
        {}
        // Nobody listens when a signal was faster.
        let _ = closed.send(());
    });
    // An error would mean that the thread is gone, and so is stdin.
    let _ = wait.await;
}

/// Ctrl-C, a polite kill, or a closed terminal.
async fn interrupted() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}
