//! One connection: start-up, then statements and their answers in order.
//!
//! Knows the flow of "Extended Query" and what a broken stream of messages
//! leads to. There is only the unnamed portal.

use std::collections::HashMap;

use super::super::taken_from;
use super::message::{Body, write, write_error, write_string};
use super::refusal::Refusal;
use super::startup::{self, Outcome, write_ready};
use super::statements::{Portal, Statement};
use super::{Failure, Server, reads, writes};

/// `MAX_STARTUP_PACKET_LENGTH`, and the least that holds anything.
const STARTUP_BYTES: std::ops::RangeInclusive<usize> = 8..=10_000;
/// `PQ_SMALL_MESSAGE_LIMIT` and `PQ_LARGE_MESSAGE_LIMIT`.
const SMALL_BYTES_MAX: usize = 10_000;
const LARGE_BYTES_MAX: usize = 0x3FFF_FFFF;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup,
    Ready,
    /// An error was told: all is skipped until Sync.
    Failed,
    Closed,
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    statement: Option<Statement>,
    /// Those that last as long as the session.
    named: HashMap<Vec<u8>, Statement>,
    /// What Bind made. Execute takes what it executes, and leaves the statement
    /// for a Describe that comes later.
    portal: Option<(Statement, Option<Portal>)>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    pub fn new() -> Self {
        Self {
            phase: Phase::Startup,
            statement: None,
            named: HashMap::new(),
            portal: None,
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Takes bytes, cut anywhere, and does every message that is complete.
    pub fn handle_input(&mut self, server: &mut Server, bytes: &[u8], now_ms: u64) {
        let kept = std::mem::take(&mut self.input);
        self.input = taken_from(kept, bytes, |input| {
            self.take_messages(server, input, now_ms)
        });
    }

    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The server has closed the connection, after what [`Self::take_output`] gives.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Statements may come: the log-in is over.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Failed)
    }

    /// How many bytes were taken.
    fn take_messages(&mut self, server: &mut Server, input: &[u8], now_ms: u64) -> usize {
        let mut taken = 0_usize;
        while self.phase != Phase::Closed {
            let rest = input.get(taken..).unwrap_or_default();
            let length = if self.phase == Phase::Startup {
                self.take_startup(server, rest)
            } else {
                self.take_message(server, rest, now_ms)
            };
            match length {
                Some(length) => taken = taken.saturating_add(length),
                None if self.phase == Phase::Closed => break,
                None => return taken,
            }
        }
        input.len()
    }

    /// The length of the packet, once it is complete.
    fn take_startup(&mut self, server: &mut Server, input: &[u8]) -> Option<usize> {
        let length = length(input)?;
        if !STARTUP_BYTES.contains(&length) {
            // Without a word: this may be no client at all.
            self.phase = Phase::Closed;
            return None;
        }
        let packet = input.get(4..length)?;
        let outcome = startup::take_packet(server, packet, &mut self.output);
        self.phase =
            match outcome.unwrap_or_else(|refusal| startup::refuse(&refusal, &mut self.output)) {
                Outcome::Again => Phase::Startup,
                Outcome::Ready => Phase::Ready,
                Outcome::Closed => Phase::Closed,
            };
        Some(length)
    }

    /// The length of the message, once it is complete.
    fn take_message(&mut self, server: &mut Server, input: &[u8], now_ms: u64) -> Option<usize> {
        let (&tag, rest) = input.split_first()?;
        let bytes_max = match tag {
            b'Q' | b'P' | b'B' | b'F' | b'd' => LARGE_BYTES_MAX,
            b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => SMALL_BYTES_MAX,
            _ => {
                self.hang_up(&format!("invalid frontend message type {tag}"));
                return None;
            }
        };
        let length = length(rest)?;
        if length < 4 || length > bytes_max {
            self.hang_up("invalid message length");
            return None;
        }
        let body = rest.get(4..length)?;
        if self.phase == Phase::Ready || matches!(tag, b'S' | b'X') {
            self.answer(server, tag, body, now_ms);
        }
        length.checked_add(1)
    }

    fn hang_up(&mut self, why: &str) {
        write_error(&mut self.output, "FATAL", &Refusal::new("08P01", why));
        self.phase = Phase::Closed;
    }

    fn answer(&mut self, server: &mut Server, tag: u8, body: &[u8], now_ms: u64) {
        let body = Body::new(body);
        let outcome = match tag {
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute(server, body, now_ms),
            b'C' => self.close(body),
            b'S' => {
                self.phase = Phase::Ready;
                self.portal = None;
                write_ready(&mut self.output);
                Ok(())
            }
            b'X' => {
                self.phase = Phase::Closed;
                Ok(())
            }
            b'Q' | b'F' => Err(unsupported("simple queries and function calls")),
            // Flush: nothing is held back. CopyData and its end are ignored.
            _ => Ok(()),
        };
        if let Err(refusal) = outcome {
            write_error(&mut self.output, "ERROR", &refusal);
            if matches!(tag, b'Q' | b'F') {
                write_ready(&mut self.output);
            } else {
                self.phase = Phase::Failed;
            }
        }
    }

    fn parse(&mut self, mut body: Body<'_>) -> Result<(), Refusal> {
        let name = body.string()?;
        let text = body.string()?;
        if self.named.contains_key(name) {
            let message = format!(
                "prepared statement \"{}\" already exists",
                name.escape_ascii()
            );
            return Err(Refusal::new("42P05", message));
        }
        if body.int16()? > 0 {
            return Err(unsupported("parameter types from the client"));
        }
        if name.is_empty() {
            self.statement = None;
        }
        let statement = Statement::of_text(text).ok_or_else(|| {
            Refusal::new("42601", "syntax error: this is no statement of the edge")
        })?;
        if name.is_empty() {
            self.statement = Some(statement);
        } else {
            self.named.insert(name.to_owned(), statement);
        }
        write(&mut self.output, b'1', |_| ());
        Ok(())
    }

    fn bind(&mut self, mut body: Body<'_>) -> Result<(), Refusal> {
        let (portal, name) = (body.string()?, body.string()?);
        if !portal.is_empty() {
            return Err(unsupported("named portals"));
        }
        let statement = if name.is_empty() {
            self.statement
        } else {
            self.named.get(name).copied()
        };
        let statement = statement.ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!(
                    "prepared statement \"{}\" does not exist",
                    name.escape_ascii()
                )
            };
            Refusal::new("26000", message)
        })?;
        expect_text_formats(&mut body)?;
        let count = body.int16()?;
        if count != statement.parameters() {
            let wanted = statement.parameters();
            return Err(Refusal::new(
                "08P01",
                format!(
                    "bind message supplies {count} parameters, but prepared statement \"\" requires {wanted}"
                ),
            ));
        }
        let mut values = [None; 5];
        for value in values.iter_mut().take(usize::from(count)) {
            *value = body.value()?;
        }
        expect_text_formats(&mut body)?;
        self.portal = Some((statement, Some(statement.bind(&values)?)));
        write(&mut self.output, b'2', |_| ());
        Ok(())
    }

    fn describe(&mut self, mut body: Body<'_>) -> Result<(), Refusal> {
        if body.bytes(1)? != b"P" || !body.string()?.is_empty() {
            return Err(unsupported("the description of anything but the portal"));
        }
        let (statement, _) = self.portal.as_ref().ok_or_else(no_portal)?;
        if statement.has_rows() {
            write(&mut self.output, b'T', |out| {
                statement.write_description(out);
            });
        } else {
            write(&mut self.output, b'n', |_| ());
        }
        Ok(())
    }

    fn execute(
        &mut self,
        server: &mut Server,
        mut body: Body<'_>,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        if !body.string()?.is_empty() {
            return Err(unsupported("named portals"));
        }
        if body.int32()? > 0 {
            return Err(unsupported("a portal in parts"));
        }
        let (statement, portal) = self.portal.as_mut().ok_or_else(no_portal)?;
        let statement = *statement;
        let portal = portal
            .take()
            .ok_or_else(|| Refusal::new("55000", "portal \"\" cannot be run"))?;
        server.statements = server.statements.saturating_add(1);
        if server.failure == Some(Failure::ReadOnly) && statement.writes() {
            let verb = statement.tag().split(' ').next().unwrap_or_default();
            return Err(Refusal::new(
                "25006",
                format!("cannot execute {verb} in a read-only transaction"),
            ));
        }
        let rows = execute(server, portal, now_ms, &mut self.output)?;
        write(&mut self.output, b'C', |out| {
            write_string(out, &format!("{} {rows}", statement.tag()));
        });
        Ok(())
    }

    fn close(&mut self, mut body: Body<'_>) -> Result<(), Refusal> {
        match (body.bytes(1)?, body.string()?) {
            (b"S", b"") => self.statement = None,
            (b"P", b"") => self.portal = None,
            // "It is not an error to issue Close against a nonexistent" one.
            _ => {}
        }
        write(&mut self.output, b'3', |_| ());
        Ok(())
    }
}

/// Writes the rows of a statement and says how many they are.
fn execute(
    server: &mut Server,
    portal: Portal,
    now_ms: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    match portal {
        Portal::Probe => Ok(reads::probe(out)),
        Portal::Products(filter) => reads::products(server, &filter, out),
        Portal::Profile(user_id) => Ok(reads::profile(server, user_id.as_deref(), out)),
        Portal::Orders(user_id, limit) => reads::orders(server, user_id.as_deref(), limit, out),
        Portal::Returns(filter) => reads::returns(server, &filter, out),
        Portal::SaveProfile(asked) => writes::save_profile(server, asked, now_ms, out),
        Portal::PlaceOrder(asked) => writes::place_order(server, asked, now_ms, out),
        Portal::PlaceReturn(asked) => writes::place_return(server, asked, now_ms, out),
        Portal::Changes => reads::changes(server, out),
        Portal::ChangesTold(ids) => writes::changes_told(server, &ids),
    }
}

/// The length at the beginning, which counts itself.
fn length(input: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(*input.first_chunk()?);
    // A negative one is as wrong as a short one.
    Some(usize::try_from(length).unwrap_or_default())
}

fn expect_text_formats(body: &mut Body<'_>) -> Result<(), Refusal> {
    for _ in 0..body.int16()? {
        if body.int16()? != 0 {
            return Err(unsupported("the binary format"));
        }
    }
    Ok(())
}

fn no_portal() -> Refusal {
    Refusal::new("34000", "portal \"\" does not exist")
}

fn unsupported(what: &str) -> Refusal {
    Refusal::new("0A000", format!("not known to this server: {what}"))
}
