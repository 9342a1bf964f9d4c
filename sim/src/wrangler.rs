//! `wrangler dev` as a child: started, awaited, and its log shown when it fails.
//!
//! Knows wrangler's options and the health routes. Does not build the Wasm.

use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use crate::child::Guarded;
use crate::load::Edge;
use crate::traffic::call::Call;

const HEALTH: [&str; 2] = ["/api/vultr/postgres/health", "/api/vultr/valkey/health"];
/// The first start of all also unpacks and compiles.
const READY_WITHIN: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);

/// A running wrangler.
#[derive(Debug)]
pub struct Wrangler {
    pub process: Guarded,
    pub edge: Edge,
    /// It ends with us, after wrangler, which reads it again when anything changes.
    _secrets: NamedTempFile,
}

impl Wrangler {
    /// Starts it on `port` in front of the stores that `settings` name.
    ///
    /// # Errors
    /// It is not installed or cannot be started.
    pub fn start(
        checkout: &Path,
        data: &Path,
        port: u16,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let tools = checkout.join("node_modules/.bin");
        let program = tools.join("wrangler");
        ensure!(
            program.exists(),
            "wrangler is not installed in {}: make run does that first, or run  npm ci",
            checkout.display()
        );
        let secrets = env_file(data, settings)?;
        let mut command = Command::new(program);
        command
            .args(["dev", "--ip", "127.0.0.1", "--port", &port.to_string()])
            // Port 0: debuggers of several wranglers must not fight over one port.
            .args([
                "--inspector-port",
                "0",
                "--show-interactive-dev-session",
                "false",
            ]);
        // Naming one file turns off wrangler's own choice, so the operator's is named too.
        let own = checkout.join(".dev.vars");
        for file in [own.as_path(), secrets.path()]
            .iter()
            .filter(|file| file.exists())
        {
            command.arg("--env-file").arg(file);
        }
        command
            .current_dir(checkout)
            .env("PATH", path_with(&tools)?)
            .env("WRANGLER_SEND_METRICS", "false")
            .env("NO_COLOR", "1");
        let process = Guarded::spawn("wrangler dev", command, Signal::TERM, &log(data, port))?;
        Ok(Self {
            process,
            edge: Edge::at(&format!("http://127.0.0.1:{port}")),
            _secrets: secrets,
        })
    }

    /// Waits until both health routes are green.
    ///
    /// # Errors
    /// wrangler ends, or the routes stay red; with what each of them said last.
    pub async fn healthy(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        for target in HEALTH {
            loop {
                if let Some(status) = self.process.exited() {
                    bail!(
                        "wrangler dev ended while starting ({status}); {}",
                        self.process.last_words()
                    );
                }
                let said = match self.edge.send(&Call::get(target)).await {
                    Ok(answer) if answer.status == 200 && is_healthy(&answer.body) => break,
                    Ok(answer) => String::from_utf8_lossy(&answer.body)
                        .chars()
                        .take(300)
                        .collect(),
                    Err(error) => format!("{error:#}"),
                };
                ensure!(
                    Instant::now() < deadline,
                    "{target} is not healthy after {READY_WITHIN:?}: {said}; {}",
                    self.process.last_words()
                );
                sleep(POLL).await;
            }
        }
        Ok(())
    }
}

/// One for each port, as two runs can share the directory.
fn log(data: &Path, port: u16) -> PathBuf {
    data.join(format!("wrangler-{port}.log"))
}

fn is_healthy(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body)
        .is_ok_and(|body| body.get("status").is_some_and(|status| status == "healthy"))
}

/// The Node that setup fetched lies among the tools and has to win.
fn path_with(tools: &Path) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(tools.to_owned()).chain(env::split_paths(&path)))
        .context("the checkout's path contains a colon, which PATH cannot carry: move the checkout")
}

/// The settings in a file that only we may read, and not in arguments: everybody
/// can read another's command line.
fn env_file(directory: &Path, settings: &[(&str, &str)]) -> Result<NamedTempFile> {
    let mut named = tempfile::Builder::new();
    named.prefix("wrangler-").suffix(".env");
    let mut file = named
        .tempfile_in(directory)
        .with_context(|| format!("cannot write in {}", directory.display()))?;
    file.write_all(env_lines(settings)?.as_bytes())?;
    Ok(file)
}

/// Single quotes keep everything but themselves; `$` is expanded even inside
/// them, so both travel percent-encoded, as they may in a URL.
fn env_lines(settings: &[(&str, &str)]) -> Result<String> {
    let mut text = String::new();
    for (name, value) in settings {
        ensure!(
            !value.contains(['\n', '\r']),
            "{name} contains a line break"
        );
        let value = value.replace('\'', "%27").replace('$', "%24");
        writeln!(text, "{name}='{value}'")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_env_file() -> Result<()> {
        let file = env_lines(&[("DATABASE_URL", "postgres://u:a'b$c#d@h/x?sslmode=disable")])?;
        assert_eq!(
            file,
            "DATABASE_URL='postgres://u:a%27b%24c#d@h/x?sslmode=disable'\n"
        );
        assert!(env_lines(&[("A", "b\nC=d")]).is_err());
        Ok(())
    }

    #[test]
    fn only_the_word_healthy_is_healthy() {
        assert!(is_healthy(br#"{"status":"healthy","latency":1}"#));
        assert!(!is_healthy(br#"{"status":"unhealthy"}"#));
        assert!(!is_healthy(b"not json"));
    }
}
