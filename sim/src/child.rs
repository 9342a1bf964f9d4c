//! A process of ours that ends when we end, even when we are killed.
//!
//! It runs in its own process group, so that a Ctrl-C in the terminal reaches
//! us alone and we decide the order. Beside it waits a watchdog: a shell that
//! holds the reading end of a pipe from us and stops the group when the pipe
//! breaks. (The kernel's parent-death signal follows the death of the *thread*
//! that started a process, which is wrong for a store shared by many tests.)
//!
//! Knows processes and signals. Does not know what runs in them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// Time for an orderly end; PostgreSQL writes a checkpoint in it.
const STOP_GENTLY: Duration = Duration::from_secs(10);
/// Time for the rest of a group after its leader has ended.
const STOP_GROUP: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);
/// Lines of a log that are worth repeating in an error.
const LOG_LINES: usize = 12;

/// A running process and its watchdog.
#[derive(Debug)]
pub struct Guarded {
    name: &'static str,
    child: Child,
    watchdog: Option<Child>,
    stop_with: Signal,
    log: PathBuf,
}

impl Guarded {
    /// Starts `command` with its output in the file `log`.
    ///
    /// # Errors
    /// The program or the watchdog's shell cannot be started.
    pub fn spawn(
        name: &'static str,
        mut command: Command,
        stop_with: Signal,
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log)
            .with_context(|| format!("{name}: cannot write its log {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| {
                format!(
                    "{name}: cannot start {}",
                    command.get_program().to_string_lossy()
                )
            })?;
        let mut guarded = Self {
            name,
            child,
            watchdog: None,
            stop_with,
            log: log.to_owned(),
        };
        guarded.watchdog = Some(watchdog(guarded.child.id(), stop_with)?);
        Ok(guarded)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The status if the process has ended by itself.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines that it wrote, for an error.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let start = lines.len().saturating_sub(LOG_LINES);
        let tail = lines.get(start..).unwrap_or_default().join("\n  ");
        format!("the end of {}:\n  {tail}", self.log.display())
    }

    /// Asks for the end without waiting for it.
    pub fn ask_to_stop(&self) {
        self.signal(self.stop_with);
    }

    /// Ends the process and everything in its group, and waits for it.
    pub fn stop(&mut self) {
        if self.watchdog.is_none() {
            return;
        }
        if self.exited().is_none() {
            self.signal(self.stop_with);
            let deadline = Instant::now() + STOP_GENTLY;
            while self.exited().is_none() && Instant::now() < deadline {
                sleep(POLL);
            }
        }
        let deadline = Instant::now() + STOP_GROUP;
        while self.group_lives() && Instant::now() < deadline {
            sleep(POLL);
        }
        if self.group_lives() {
            self.signal(Signal::KILL);
        }
        // Both results only repeat that the process is gone.
        let _ = self.child.wait();
        if let Some(mut watchdog) = self.watchdog.take() {
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
    }

    fn group(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn group_lives(&self) -> bool {
        self.group()
            .is_some_and(|group| test_kill_process_group(group).is_ok())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group() {
            // A group that is gone needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }

    /// What the process is called in sentences.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits on its input for our end, then stops the group, in the end by force.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
read -r _
kill -s "$2" -- "-$1" 2>/dev/null || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do
    sleep 1
    kill -s 0 -- "-$1" 2>/dev/null || exit 0
done
kill -s KILL -- "-$1" 2>/dev/null
"#;

fn watchdog(group: u32, stop_with: Signal) -> Result<Child> {
    let signal = if stop_with == Signal::INT {
        "INT"
    } else {
        "TERM"
    };
    Command::new("sh")
        .args(["-c", WATCHDOG, "watchdog", &group.to_string(), signal])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start sh, which is needed to stop processes when this program is killed")
}
