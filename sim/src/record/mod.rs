//! Turns what servers write down anyway into traffic: the edge's own trace lines,
//! `wrangler tail`, Logpush, HAR, access logs; or sits in front of a server.
//!
//! No id leaves as it was: keys and clients are replaced by what a keyed hash makes
//! of them. Nothing is dropped in silence: what is no request, what a replay leaves
//! out, and what came late is counted and said.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use edge::limits::TRACE_KEY_BYTES_MIN;

use crate::lines::BYTE_ORDER_MARK;
use crate::operation::{Effect, Operation};
use crate::steps;
use crate::trace::{self, Compression};
use crate::traffic::mapped::{self, Meaning};
use crate::traffic::path::{self, Asked};
use crate::traffic::{Request, Traffic, ndjson};

mod har;
mod line;
mod log;
pub mod proxy;
mod pseudonyms;
mod tail;

pub use pseudonyms::Pseudonyms;

/// Of a file, to tell its form.
const LOOKED_AT_BYTES: u64 = 16 * 1024;

/// The command line of `sim record`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What to read, compressed or not; - is stdin
    #[arg(required_unless_present = "proxy", conflicts_with = "proxy")]
    pub files: Vec<PathBuf>,
    /// What they are, where their content does not tell
    #[arg(long, conflicts_with = "proxy")]
    pub from: Option<Form>,
    /// Where to write; compressed where the name ends in .zst
    #[arg(short, long, value_name = "FILE", default_value = "traffic.ndjson.zst")]
    pub output: PathBuf,
    #[command(flatten)]
    pub hashing: Hashing,
    /// Stand in front of a server and write down what passes, until Ctrl-C
    #[arg(long, requires = "to")]
    pub proxy: bool,
    /// Where the proxy listens; port 0 takes a free one
    #[arg(long, requires = "proxy", default_value = "127.0.0.1:8788")]
    pub listen: std::net::SocketAddr,
    /// The server behind the proxy, such as http://127.0.0.1:8787
    #[arg(long, requires = "proxy", value_name = "URL")]
    pub to: Option<String>,
}

/// How ids are made unknowable.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Hashing {
    /// The secret that ids are hashed with; under the same one, recordings go together [default: drawn, and forgotten]
    #[arg(long, env = "TRACE_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Hash the filters of product searches too, which name nobody
    #[arg(long)]
    pub hash_all: bool,
}

/// In which form requests are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// `wrangler tail --format json`, or Logpush's Workers trace events
    Tail,
    /// HTTP Archive 1.2, as browsers save it
    Har,
    /// Lines: an access log of nginx or Apache (common or combined), or any log with the edge's own trace lines in it
    Log,
}

/// A request as somebody saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    time_ms: u64,
    method: String,
    /// URL, or path and query.
    target: String,
    /// As its body says, of an order or a return.
    user: Option<String>,
    client: String,
    place: String,
    /// Bytes of the bodies; 0: not known, or an answer that is no value.
    sent_bytes: u32,
    answered_bytes: u32,
}

/// What was found, and what came of the rest.
#[derive(Debug, Default)]
struct Sheet {
    /// In the order in which they were found.
    traffic: Traffic,
    left_out: BTreeMap<&'static str, u64>,
    unknown: u64,
    first_unknown: Option<String>,
    /// Orders and returns whose user is not known.
    nobodys: u64,
}

/// All that is found in one or more files.
pub struct Recording {
    pseudonyms: Pseudonyms,
    hash_all: bool,
    /// Of the files that were read.
    all: Sheet,
    /// Of the file that is read. By the edge itself: a sample of whole clients, with ids
    /// that it has hashed.
    own: Sheet,
    /// By anybody else.
    other: Sheet,
    /// Of these, what is not in the edge's sample.
    not_in_the_sample: usize,
}

impl Recording {
    /// # Errors
    /// The key can be guessed, or the system has no randomness for one.
    pub fn new(hashing: &Hashing) -> Result<Self> {
        Ok(Self {
            pseudonyms: match &hashing.key {
                Some(key) => {
                    ensure!(
                        key.len() >= TRACE_KEY_BYTES_MIN,
                        "the key for ids (--key or TRACE_KEY) has {} characters: one that nobody can guess has {TRACE_KEY_BYTES_MIN} or more",
                        key.len()
                    );
                    Pseudonyms::keyed(key.as_bytes())
                }
                None => Pseudonyms::drawn()?,
            },
            hash_all: hashing.hash_all,
            all: Sheet::default(),
            own: Sheet::default(),
            other: Sheet::default(),
            not_in_the_sample: 0,
        })
    }

    /// Reads a file, in the form that its content tells unless one is given.
    ///
    /// # Errors
    /// It cannot be read, or is nothing that was recorded.
    pub fn read(&mut self, file: &Path, form: Option<Form>) -> Result<()> {
        let name = file.display();
        if form.is_none() && trace::Format::of_name(file).is_some() {
            // A trace of keys has no routes: it is given some. Its keys are numbers that
            // name nobody.
            let keys = trace::open(file, None)?;
            let mapped = mapped::with_meaning(&keys, Meaning::Thing);
            self.all.traffic.append(&mapped);
            return Ok(());
        }
        let cannot = || format!("cannot read {name}");
        if file == Path::new("-") {
            return self
                .read_from(std::io::stdin().lock(), form)
                .with_context(cannot);
        }
        let bytes = File::open(file).with_context(|| format!("cannot open {name}"))?;
        let size = bytes.metadata().map_or(0, |metadata| metadata.len());
        let bar = steps::bar(&format!("Reading {name} (bytes)"), size);
        let read = self
            .read_from(bar.wrap_read(bytes), form)
            .with_context(cannot);
        bar.finish_and_clear();
        read
    }

    fn read_from(&mut self, bytes: impl Read, form: Option<Form>) -> Result<()> {
        let mut reader = Compression::undo(bytes)?;
        let mut start = Vec::new();
        (&mut reader)
            .take(LOOKED_AT_BYTES)
            .read_to_end(&mut start)
            .context("the file is damaged")?;
        if start.starts_with(BYTE_ORDER_MARK) {
            start.drain(..BYTE_ORDER_MARK.len());
        }
        let form = form.map_or_else(|| told(&start), Ok)?;
        let reader = BufReader::new(Cursor::new(start).chain(reader));
        match form {
            Form::Tail => tail::read(reader, self)?,
            Form::Har => har::read(reader, self)?,
            Form::Log => log::read(reader, self)?,
        }
        self.settle();
        Ok(())
    }

    /// A file has ended. Where the edge's own lines are in it, they are what was
    /// recorded: their ids are hashed under another key, and do not go together with
    /// what others have seen.
    fn settle(&mut self) {
        let own = std::mem::take(&mut self.own);
        let mut other = std::mem::take(&mut self.other);
        if !own.traffic.requests.is_empty() {
            self.not_in_the_sample += other.traffic.requests.len();
            other.traffic.requests.clear();
            other.nobodys = 0;
        }
        self.all.add(own);
        self.all.add(other);
    }

    /// What another than the edge has seen.
    fn add(&mut self, seen: &Seen) {
        if let Some(request) = self.request(seen) {
            self.other.traffic.requests.push(request);
        }
    }

    /// None: it is no request for a replay, and counted.
    fn request(&mut self, seen: &Seen) -> Option<Request> {
        let sheet = &mut self.other;
        let (operation, key) = match path::read(&seen.method, &seen.target) {
            Asked::Operation(operation, key) => (operation, key),
            Asked::LeftOut(what) => {
                *sheet.left_out.entry(what).or_default() += 1;
                return None;
            }
            Asked::Unknown => {
                sheet.unknown(&seen.method, &seen.target);
                return None;
            }
        };
        let is_of_a_body = matches!(operation, Operation::CreateOrder | Operation::CreateReturn);
        let key = match &seen.user {
            _ if !is_of_a_body => key,
            Some(user) => user.clone(),
            None => {
                sheet.nobodys += 1;
                seen.client.clone()
            }
        };
        let key = hashed(&self.pseudonyms, self.hash_all, operation, &key);
        let traffic = &mut sheet.traffic;
        Some(Request {
            size_bytes: match operation.effect() {
                Effect::Read => seen.answered_bytes,
                Effect::Write => seen.sent_bytes,
                Effect::Touch | Effect::Delete | Effect::None => 0,
            },
            client: traffic.clients.number(&self.pseudonyms.of(&seen.client)),
            place: traffic.places.number(&seen.place),
            ..Request::new(seen.time_ms, operation, traffic.keys.number(&key))
        })
    }

    fn reject(&mut self, why: impl FnOnce() -> String) {
        self.other.traffic.oddities.reject(why);
    }

    fn leave_out(&mut self, what: &'static str) {
        *self.other.left_out.entry(what).or_default() += 1;
    }

    /// All requests in the order of their times, and what came of the rest.
    ///
    /// # Errors
    /// There are none.
    pub fn finish(self) -> Result<(Traffic, Account)> {
        let mut sheet = self.all;
        let requests = &mut sheet.traffic.requests;
        let late = requests
            .iter()
            .zip(requests.iter().skip(1))
            .filter(|(one, next)| next.time_ms < one.time_ms)
            .count();
        requests.sort_by_key(|request| request.time_ms);
        let is_empty = requests.is_empty();
        let account = Account {
            late,
            not_in_the_sample: self.not_in_the_sample,
            ..sheet.account()
        };
        if is_empty {
            bail!("not one request for the API was found\n{account}");
        }
        Ok((sheet.traffic, account))
    }
}

impl Sheet {
    /// That of a file that was read after it.
    fn add(&mut self, other: Self) {
        self.traffic.append(&other.traffic);
        for (what, count) in other.left_out {
            *self.left_out.entry(what).or_default() += count;
        }
        self.unknown += other.unknown;
        self.first_unknown = self.first_unknown.take().or(other.first_unknown);
        self.nobodys += other.nobodys;
    }

    /// What it says, taken out of it.
    fn account(&mut self) -> Account {
        Account {
            oddities: self.traffic.oddities.clone(),
            left_out: std::mem::take(&mut self.left_out),
            unknown: self.unknown,
            first_unknown: self.first_unknown.take(),
            nobodys: self.nobodys,
            ..Account::default()
        }
    }

    fn unknown(&mut self, method: &str, target: &str) {
        const SHOWN_CHARS: usize = 100;
        self.unknown += 1;
        self.first_unknown.get_or_insert_with(|| {
            // Anybody may have written it: nothing in it steers a terminal.
            let target: String = target.chars().take(SHOWN_CHARS).collect();
            format!("{} {}", method.escape_debug(), target.escape_debug())
        });
    }
}

fn hashed(pseudonyms: &Pseudonyms, hash_all: bool, operation: Operation, key: &str) -> String {
    if hash_all && operation == Operation::Products && !key.is_empty() {
        return pseudonyms.of(key);
    }
    path::replace_ids(operation, key, |id| pseudonyms.of(id))
}

/// The form of what begins so.
fn told(start: &[u8]) -> Result<Form> {
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start();
    let first_line = text.lines().next().unwrap_or_default();
    if text.is_empty() {
        bail!("it is empty");
    }
    if first_line.contains(line::BEGINS) || log::is_one(first_line) {
        return Ok(Form::Log);
    }
    match text.strip_prefix('{').map(str::trim_start) {
        Some(rest) if rest.starts_with("\"log\"") || text.contains("\"startedDateTime\"") => {
            Ok(Form::Har)
        }
        Some(_) if first_line.contains("\"time_ms\"") && first_line.contains("\"route\"") => {
            bail!("it is traffic already: sim replay and sim load take it as it is")
        }
        Some(_) => Ok(Form::Tail),
        None if text.contains(line::BEGINS) => Ok(Form::Log),
        None => bail!(
            "its first line is neither JSON nor one of an access log; if it is recorded all the same, say as what with --from"
        ),
    }
}

/// What came of all that did not simply become a request.
#[derive(Debug, Default)]
pub struct Account {
    late: usize,
    not_in_the_sample: usize,
    oddities: trace::Oddities,
    left_out: BTreeMap<&'static str, u64>,
    unknown: u64,
    first_unknown: Option<String>,
    nobodys: u64,
    /// Of a proxy that was ended.
    under_way: usize,
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.late > 0 {
            let late = self.late;
            writeln!(
                formatter,
                "Written down after later ones, and sorted by time: {late}."
            )?;
        }
        if self.not_in_the_sample > 0 {
            let count = self.not_in_the_sample;
            writeln!(
                formatter,
                "Left out, because the edge has no trace line for them (they are not of its sample): {count}."
            )?;
        }
        if !self.left_out.is_empty() {
            let kinds: Vec<String> = self
                .left_out
                .iter()
                .map(|(what, count)| format!("{what} ({count})"))
                .collect();
            writeln!(
                formatter,
                "Left out, because they are not replayed: {}.",
                kinds.join(", ")
            )?;
        }
        if let Some(first) = &self.first_unknown {
            let count = self.unknown;
            writeln!(
                formatter,
                "Left out, because the API has no such route: {count}; the first: {first}"
            )?;
        }
        if self.nobodys > 0 {
            let count = self.nobodys;
            writeln!(
                formatter,
                "Orders and returns that do not say of which user, so that their client stands for it: {count}."
            )?;
        }
        if self.under_way > 0 {
            let count = self.under_way;
            writeln!(
                formatter,
                "Left out, because they were under way at the end: {count}."
            )?;
        }
        write!(formatter, "{}", self.oddities)
    }
}

/// Reads all files, writes the traffic, and says in a few sentences what it is.
///
/// # Errors
/// A file cannot be read, or the traffic not be written.
pub fn run(options: &Options) -> Result<String> {
    let mut recording = Recording::new(&options.hashing)?;
    for file in &options.files {
        recording.read(file, options.from)?;
    }
    let (traffic, account) = recording.finish()?;
    ndjson::save(&traffic, &options.output)?;
    Ok(format!(
        "{account}{}{}: {}\n",
        forgotten(&options.hashing),
        options.output.display(),
        traffic.summary()
    ))
}

/// What to know of a key that nobody has given.
fn forgotten(hashing: &Hashing) -> &'static str {
    match hashing.key {
        Some(_) => "",
        None => {
            "Ids were hashed with a key that is forgotten now; recordings that are to go together need TRACE_KEY.\n"
        }
    }
}

#[cfg(test)]
mod tests;
