//! One PostgreSQL server: made, started, awaited.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;

use super::account::Account;
use super::binaries;
use super::place::{Place, write_secret};
use super::{PORT_ATTEMPTS, free_port};
use crate::child::Guarded;

pub const USER: &str = "shepherd";
pub const DATABASE: &str = "style_shepherd";

/// Covers recovery after a crash on a slow disk.
const READY_WITHIN: Duration = Duration::from_secs(60);
const PREDECESSOR_GONE_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// The edge opens connections per request, so a busy laptop needs more than 100.
const CONNECTIONS_MAX: u32 = 200;

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    pub url: String,
    pub port: u16,
    pub process: Guarded,
}

enum Start {
    Ready(Postgres),
    PortTaken,
}

impl Postgres {
    pub(super) async fn start(place: &Place, account: Option<&Account>) -> Result<Self> {
        let programs = binaries::postgres(account)?;
        let cluster = place.path(&format!("postgres-{}", programs.major));
        if cluster.join("PG_VERSION").exists() {
            wait_for_predecessor(&cluster).await?;
        } else {
            make_cluster(&programs, &cluster, place, account)?;
        }
        for _ in 0..PORT_ATTEMPTS {
            match attempt(&programs, &cluster, place, account).await? {
                Start::Ready(postgres) => return Ok(postgres),
                Start::PortTaken => {}
            }
        }
        bail!(
            "PostgreSQL found its port taken {PORT_ATTEMPTS} times: other programs take ports as fast as it can start"
        )
    }
}

/// Runs initdb beside the final place and moves the result there, so that a run
/// that was cut short leaves nothing that looks finished.
fn make_cluster(
    programs: &binaries::Postgres,
    cluster: &Path,
    place: &Place,
    account: Option<&Account>,
) -> Result<()> {
    let unfinished = cluster.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    fs::create_dir(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
    let secret = place.path("initdb-password");
    write_secret(&secret, place.password())?;
    let mut initdb = Command::new(&programs.initdb);
    initdb
        .arg("--pgdata")
        .arg(&unfinished)
        .arg("--pwfile")
        .arg(&secret)
        .args(["--username", USER, "--auth", "scram-sha-256"])
        .args(["--encoding", "UTF8", "--no-locale", "--no-sync"])
        .current_dir("/")
        .stdin(Stdio::null());
    if let Some(account) = account {
        account.give(&unfinished)?;
        account.give(&secret)?;
        account.run(&mut initdb);
    }
    let output = initdb
        .output()
        .with_context(|| format!("cannot run {}", programs.initdb.display()));
    fs::remove_file(&secret)?;
    let output = output?;
    ensure!(
        output.status.success(),
        "PostgreSQL's initdb failed in {}:\n  {}",
        unfinished.display(),
        String::from_utf8_lossy(&output.stderr)
            .trim()
            .replace('\n', "\n  ")
    );
    fs::rename(&unfinished, cluster)
        .with_context(|| format!("cannot move the new database to {}", cluster.display()))
}

/// After a crash of ours, the server of the earlier run may still be on its way
/// out, or a `postmaster.pid` may name a process that is something else by now,
/// which PostgreSQL takes for itself.
async fn wait_for_predecessor(cluster: &Path) -> Result<()> {
    let pid_file = cluster.join("postmaster.pid");
    let deadline = Instant::now() + PREDECESSOR_GONE_WITHIN;
    loop {
        let Some(pid) = first_line(&pid_file) else {
            return Ok(());
        };
        let directory = fs::read_link(format!("/proc/{pid}/cwd")).ok();
        if directory.as_deref() != Some(cluster) {
            return fs::remove_file(&pid_file)
                .with_context(|| format!("cannot remove the stale {}", pid_file.display()));
        }
        ensure!(
            Instant::now() < deadline,
            "a PostgreSQL of an earlier run (process {pid}) still uses {}: stop it with kill -INT {pid}",
            cluster.display()
        );
        sleep(POLL).await;
    }
}

fn first_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

async fn attempt(
    programs: &binaries::Postgres,
    cluster: &Path,
    place: &Place,
    account: Option<&Account>,
) -> Result<Start> {
    let port = free_port()?;
    let command = server(programs, cluster, port, place.durable, account);
    let log: PathBuf = place.path("postgres.log");
    let mut process = Guarded::spawn("PostgreSQL", command, Signal::INT, &log)?;
    let url = format!(
        "postgres://{USER}:{}@127.0.0.1:{port}/{DATABASE}?sslmode=disable",
        place.password()
    );
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Some(status) = process.exited() {
            let words = process.last_words();
            if words.contains("Address already in use") {
                return Ok(Start::PortTaken);
            }
            bail!("PostgreSQL ended while starting ({status}); {words}");
        }
        match make_database(port, place.password()).await {
            Ok(()) => return Ok(Start::Ready(Postgres { url, port, process })),
            Err(error) if Instant::now() > deadline => {
                bail!(
                    "PostgreSQL does not answer after {READY_WITHIN:?}: {error}; {}",
                    process.last_words()
                );
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

fn server(
    programs: &binaries::Postgres,
    cluster: &Path,
    port: u16,
    durable: bool,
    account: Option<&Account>,
) -> Command {
    let mut command = Command::new(&programs.server);
    command
        .arg("-D")
        .arg(cluster)
        .arg("-p")
        .arg(port.to_string());
    let connections = format!("max_connections={CONNECTIONS_MAX}");
    let mut settings = vec![
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "logging_collector=off",
        "timezone=UTC",
        "log_timezone=UTC",
        &connections,
    ];
    if !durable {
        settings.extend([
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
        ]);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    // The working directory of ours may be closed to the server's account.
    command.current_dir(cluster);
    if let Some(account) = account {
        account.run(&mut command);
    }
    command
}

/// Logs in and makes the database if this is the first time. Nobody else on
/// the port could have answered: they do not know the password.
async fn make_database(port: u16, password: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(port)
        .user(USER)
        .password(password)
        .dbname("postgres")
        .connect(NoTls)
        .await?;
    let driver = tokio::spawn(connection);
    let made = async {
        let found = client
            .query_opt("SELECT FROM pg_database WHERE datname = $1", &[&DATABASE])
            .await?;
        if found.is_none() {
            client
                .batch_execute(&format!("CREATE DATABASE {DATABASE}"))
                .await?;
        }
        Ok(())
    }
    .await;
    driver.abort();
    made
}
