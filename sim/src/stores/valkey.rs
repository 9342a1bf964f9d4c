//! One Valkey server: started, awaited.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::place::{Place, write_secret};
use super::{PORT_ATTEMPTS, free_port};
use crate::child::Guarded;
use crate::valkey::ping;

const READY_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// A running Valkey.
#[derive(Debug)]
pub struct Valkey {
    pub url: String,
    pub port: u16,
    pub process: Guarded,
}

impl Valkey {
    pub(super) async fn start(server: &Path, place: &Place) -> Result<Self> {
        for _ in 0..PORT_ATTEMPTS {
            if let Some(valkey) = attempt(server, place).await? {
                return Ok(valkey);
            }
        }
        bail!(
            "Valkey found its port taken {PORT_ATTEMPTS} times: other programs take ports as fast as it can start"
        )
    }
}

/// One attempt; nothing when the port was taken.
async fn attempt(server: &Path, place: &Place) -> Result<Option<Valkey>> {
    let port = free_port()?;
    let data = place.path("valkey");
    fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    // A file and not arguments: everybody can read another's command line.
    let settings = place.path("valkey.conf");
    write_secret(&settings, &configuration(port, place))?;
    let mut command = Command::new(server);
    command.arg(&settings).current_dir(&data);
    let log = place.path("valkey.log");
    let mut process = Guarded::spawn("Valkey", command, Signal::TERM, &log)?;
    let url = format!("valkey://:{}@127.0.0.1:{port}", place.password());
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Some(status) = process.exited() {
            let words = process.last_words();
            if words.contains("Address already in use") {
                return Ok(None);
            }
            bail!("Valkey ended while starting ({status}); {words}");
        }
        match ping(&url).await {
            Ok(()) => return Ok(Some(Valkey { url, port, process })),
            Err(error) if Instant::now() > deadline => {
                bail!(
                    "Valkey does not answer after {READY_WITHIN:?}: {error}; {}",
                    process.last_words()
                );
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

fn configuration(port: u16, place: &Place) -> String {
    let save = if place.durable { "60 1" } else { "\"\"" };
    format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {}\nsave {save}\nappendonly no\ndaemonize no\ndir \"{}\"\n",
        place.password(),
        place.path("valkey").display()
    )
}
