//! Loads beside small servers that answer as slowly as they are told.

use std::future::pending;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use sim::dev;
use sim::load::fill::{Needed, fill};
use sim::load::open::{self, Counts, Plan};
use sim::load::outcome::{self, Keeping};
use sim::load::schedule::{Arrivals, Limits, Pace};
use sim::load::target::{Prepared, Target};
use sim::load::{Edge, closed};
use sim::operation::{Method, Operation};
use sim::report::{Report, Row};
use sim::sample;
use sim::stores::{Data, Stores};
use sim::traffic::call::Call;
use sim::traffic::{Request, Traffic};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{LocalSet, spawn_blocking};
use tokio::time::sleep;

/// A server in front of one worker, which needs a while for each request, as
/// an isolate does.
struct Slow {
    address: SocketAddr,
    answered: Arc<AtomicUsize>,
}

impl Slow {
    async fn start(service: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let answered = Arc::new(AtomicUsize::new(0));
        let (worker, count) = (Arc::new(Mutex::new(())), Arc::clone(&answered));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(
                    stream,
                    Arc::clone(&worker),
                    service,
                    Arc::clone(&count),
                ));
            }
        });
        Ok(Self { address, answered })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

async fn serve(
    stream: TcpStream,
    worker: Arc<Mutex<()>>,
    service: Duration,
    answered: Arc<AtomicUsize>,
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line).await? > 0, "the client is gone");
        // The requests of these tests have no body.
        if line == "\r\n" {
            {
                let _turn = worker.lock().await;
                sleep(service).await;
            }
            answered.fetch_add(1, Ordering::Relaxed);
            let answer = "HTTP/1.1 200 OK\r\ncache-status: L1; hit\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}

/// Reads of sessions, by so many clients in turn.
fn reads(count: u64, clients: u64) -> Traffic {
    let mut traffic = Traffic::default();
    for number in 0..count {
        let client = format!("c{}", number % clients);
        let request = Request {
            client: traffic.clients.number(&client),
            ..Request::new(number, Operation::Session, traffic.keys.number("s"))
        };
        traffic.push(request);
    }
    traffic
}

fn at(per_s: f64) -> Pace {
    Pace::Rate {
        per_s,
        arrivals: Arrivals::Even,
    }
}

async fn fire(urls: &[String], traffic: Traffic, pace: Pace, connections: usize) -> Result<Counts> {
    let mut targets = Vec::new();
    for url in urls {
        targets.push(Target::open(url, connections).await?);
    }
    let limits = Limits::default();
    let plan = Plan {
        traffic,
        targets,
        pace,
        limits,
        bar: ProgressBar::hidden(),
    };
    open::run(plan, pending()).await
}

#[tokio::test]
async fn what_was_sent_until_somebody_ended_it_is_reported() -> Result<()> {
    let slow = Slow::start(Duration::from_millis(1)).await?;
    let plan = Plan {
        traffic: reads(100_000, 4),
        targets: vec![Target::open(&slow.url(), 8).await?],
        pace: at(200.0),
        limits: Limits::default(),
        bar: ProgressBar::hidden(),
    };
    let five_answers = async {
        while slow.answered() < 5 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let counts = open::run(plan, five_answers).await?;
    assert!(counts.sent >= 5 && counts.sent + counts.left == 100_000);
    assert_eq!(counts.tallies.sum(|tally| tally.requests), counts.sent);
    let keeping = Keeping::of(&counts, Duration::from_millis(300));
    let report = outcome::report(&counts, &keeping, Vec::new());
    let said = format!("INTERRUPTED: {} of 100000", counts.sent);
    assert!(
        report.notes.iter().any(|note| note.starts_with(&said)),
        "{:?}",
        report.notes
    );
    Ok(())
}

fn sessions(counts: &Counts) -> Result<Row> {
    let tally = counts.tallies.get(Operation::Session);
    Ok(Row::of(Operation::Session, tally.context("no sessions")?))
}

fn is_saturated(counts: &Counts) -> bool {
    // A busy machine is no fault; what is too much is late by more than a second.
    Keeping::of(counts, Duration::from_millis(300)).is_saturated()
}

#[tokio::test]
async fn an_open_loop_counts_the_wait_that_a_closed_one_does_not_see() -> Result<()> {
    // Ten times as much as the server can do: 100 requests in 0.1 s, 10 ms each.
    let server = Slow::start(Duration::from_millis(10)).await?;
    let closed = closed::run(&Edge::at(&server.url()), reads(100, 1), 1).await?;
    let closed = closed.tallies.get(Operation::Session).context("nothing")?;
    let closed_p99_us = Row::of(Operation::Session, closed).latency.p99_us;
    let open = fire(&[server.url()], reads(100, 1), at(1_000.0), 4).await?;
    let open_p99_us = sessions(&open)?.latency.p99_us;
    assert!(closed_p99_us < 400_000, "{closed_p99_us}");
    // The last one was due after 0.1 s and is answered after 1 s.
    assert!(open_p99_us > 800_000, "{open_p99_us}");
    assert_eq!(server.answered(), 200);
    Ok(())
}

#[tokio::test]
async fn nothing_is_dropped_and_a_load_that_is_too_much_is_called_saturated() -> Result<()> {
    let server = Slow::start(Duration::from_millis(4)).await?;
    let counts = fire(&[server.url()], reads(500, 1), at(5_000.0), 2).await?;
    let row = sessions(&counts)?;
    assert_eq!((row.requests, row.errors, row.l1), (500, 0, 500));
    assert_eq!(server.answered(), 500);
    assert!(is_saturated(&counts));
    let answered: u64 = counts
        .timeline
        .buckets
        .iter()
        .map(|bucket| bucket.requests)
        .sum();
    assert_eq!(answered, 500);
    // Each is at least as late as its turn in the queue.
    assert!(counts.lag_us.max() > 1_000_000, "{}", counts.lag_us.max());
    Ok(())
}

#[tokio::test]
async fn a_load_that_is_kept_up_with_is_sent_when_it_is_due() -> Result<()> {
    let server = Slow::start(Duration::ZERO).await?;
    let started = Instant::now();
    let counts = fire(&[server.url()], reads(100, 1), at(200.0), 8).await?;
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_millis(495), "{elapsed:?}");
    assert!(!is_saturated(&counts), "{:?}", counts.lag_us.max());
    Ok(())
}

#[tokio::test]
async fn clients_are_spread_over_the_targets_and_stay_there() -> Result<()> {
    let (one, other) = (
        Slow::start(Duration::ZERO).await?,
        Slow::start(Duration::ZERO).await?,
    );
    let urls = [one.url(), other.url()];
    fire(&urls, reads(90, 3), at(2_000.0), 4).await?;
    // Clients 0 and 2 ask the first, client 1 the second.
    assert_eq!((one.answered(), other.answered()), (60, 30));
    Ok(())
}

#[tokio::test]
async fn requests_of_a_flow_follow_one_another_and_are_one_voice_query() -> Result<()> {
    let server = Slow::start(Duration::from_millis(20)).await?;
    let mut traffic = reads(5, 1);
    traffic.requests.iter_mut().for_each(|one| one.flow = 7);
    let counts = fire(&[server.url()], traffic, at(1_000.0), 8).await?;
    let flow = counts
        .tallies
        .get(Operation::VoiceQuery)
        .context("no flow")?;
    assert_eq!(flow.requests, 1);
    assert!(
        flow.latency_us.max() >= 100_000,
        "{}",
        flow.latency_us.max()
    );
    // Each counts from when the one before was answered.
    assert!(sessions(&counts)?.latency.p50_us < 80_000);
    assert_eq!(counts.lag_us.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_server_that_hangs_up_after_each_answer_loses_no_request() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    ensure!(stream.read_line(&mut line).await? > 0, "gone");
                }
                // It does not say that it will close.
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                Ok(stream.write_all(answer.as_bytes()).await?)
            });
        }
    });
    let counts = fire(&[url], reads(50, 1), at(500.0), 2).await?;
    assert_eq!(
        (sessions(&counts)?.requests, sessions(&counts)?.errors),
        (50, 0)
    );
    Ok(())
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                ensure!(stream.read(&mut [0; 1024]).await? > 0, "gone");
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                while stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
                Ok::<_, anyhow::Error>(())
            });
        }
    });
    let target = Target::open(&url, 1).await?;
    let prepared = Prepared::new(Call {
        method: Method::Get,
        target: "/".to_owned(),
        body: None,
    })?;
    let outcome = target.lease().await?.send(&prepared).await;
    let error = outcome.err().context("it was read to its end")?;
    let said = format!("{url} answers / with more than");
    assert!(error.to_string().starts_with(&said), "{error:#}");
    Ok(())
}

/// Runs the program while the servers here go on.
async fn sim(words: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(words);
    Ok(spawn_blocking(move || command.output()).await??)
}

const TRACE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/data/weblog-424-norobots-evening.slt.gz"
);

#[tokio::test]
async fn a_port_that_refuses_gives_a_sentence() -> Result<()> {
    let done = sim(&["load", TRACE, "--url", "http://127.0.0.1:1"]).await?;
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(done.stderr)?,
        "http://127.0.0.1:1 refuses connections: start the edge there, or give another --url\n"
    );
    Ok(())
}

#[tokio::test]
async fn the_command_prints_a_report_and_holds_it_against_another() -> Result<()> {
    let server = Slow::start(Duration::ZERO).await?;
    let url = server.url();
    let words = [
        "load",
        TRACE,
        "--url",
        &url,
        "--no-fill",
        "--requests",
        "100",
    ];
    let run = async |more: &[&str]| {
        sim(&[&words[..], &["--speed", "200", "--json"], more].concat()).await
    };
    let done = run(&[]).await?;
    let report: Report = serde_json::from_slice(&done.stdout)?;
    let requests: u64 = report.rows.iter().map(|row| row.requests).sum();
    assert!(requests >= 100 && !report.timeline.buckets.is_empty());
    let path = tempfile::NamedTempFile::new()?;
    std::fs::write(path.path(), &done.stdout)?;
    let name = path.path().to_str().context("no path")?;
    let compared = run(&["--compare", name]).await?;
    let json: serde_json::Value = serde_json::from_slice(&compared.stdout)?;
    assert_eq!(json["comparison"]["unmatched"], serde_json::json!([]));
    // Of so few requests nothing is judged, and so nothing is right.
    let strict = run(&["--compare", name, "--strict"]).await?;
    assert!(!strict.status.success());
    Ok(())
}

/// What rows have, but for the time at which they were changed.
fn fields(body: &[u8]) -> Result<serde_json::Value> {
    let mut fields: serde_json::Value = serde_json::from_slice(body)?;
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("updated_at");
    }
    Ok(fields)
}

#[tokio::test]
async fn rows_that_the_traffic_reads_are_made_and_those_that_are_there_stay() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    dev::furnish(&stores).await?;
    let known = sample::user_id(7_u32);
    let mut traffic = Traffic::default();
    for (operation, key) in [
        (Operation::Profile, "somebody"),
        (Operation::Profile, known.as_str()),
        (Operation::Orders, "one who looks"),
        (Operation::CreateOrder, "one who buys"),
        (Operation::CreateReturn, "one who returns"),
        (Operation::Session, "s"),
    ] {
        let key = traffic.keys.number(key);
        traffic.push(Request::new(0, operation, key));
    }
    let urls = [stores.database_url(), stores.valkey_url()].map(ToOwned::to_owned);
    let work = async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let edge = Edge::at(&format!("http://{}", listener.local_addr()?));
        tokio::task::spawn_local(async move {
            let lookup = |name: &str| match name {
                "DATABASE_URL" => urls.first().cloned(),
                "VALKEY_URL" => urls.last().cloned(),
                "POSTGRES_DEADLINE_MS" | "VALKEY_DEADLINE_MS" => Some("5000".to_owned()),
                _ => None,
            };
            edge::host::native::serve(listener, &lookup).await
        });
        let profile = Call::of(&traffic, traffic.requests.get(1).context("it has one")?, 0);
        let before = edge.send(&profile).await?;
        let needed = Needed::of(&traffic, 60);
        assert_eq!((needed.keys, needed.users), (1, 5));
        fill(&edge, needed).await?;
        assert_eq!(
            fields(&edge.send(&profile).await?.body)?,
            fields(&before.body)?
        );
        for request in &traffic.requests {
            let call = Call::of(&traffic, request, 0);
            let answer = edge.send(&call).await?;
            let text = String::from_utf8_lossy(&answer.body);
            ensure!(answer.status.is_success(), "{}: {text}", call.target);
        }
        anyhow::Ok(())
    };
    LocalSet::new().run_until(work).await
}
