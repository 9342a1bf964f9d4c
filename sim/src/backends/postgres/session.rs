//! One connection: start-up, then statements and their answers in order.
//!
//! Knows the order of messages ("Message Flow"), not what statements do. Only
//! the unnamed statement and portal are there, as the edge uses no others, and
//! no password is asked for.

use super::message;
use super::statements::{Known, Parameter, parameter};
use super::tables::Server;
use super::values::Refusal;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENCRYPTION_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// Protocol 3.0.
const STARTUP: u32 = 196_608;
/// `PQ_LARGE_MESSAGE_LIMIT`.
const MESSAGE_BYTES_MAX: usize = 0x3FFF_FFFF;
/// `MAX_STARTUP_PACKET_LENGTH`.
const STARTUP_BYTES_MAX: usize = 10_000;

/// The server's side of one connection.
#[derive(Debug, Default)]
pub struct Session {
    is_logged_in: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    statement: Option<&'static Known>,
    portal: Option<(&'static Known, Vec<Parameter>)>,
    /// After an error: everything up to Sync is thrown away.
    skips: bool,
    is_closed: bool,
}

impl Session {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes, cut anywhere, and does every message that is complete.
    pub fn handle_input(&mut self, server: &mut Server, bytes: &[u8], now_ms: u64) {
        if self.is_closed {
            return;
        }
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while !self.is_closed {
            match cut(rest, self.is_logged_in) {
                Ok(None) => break,
                Ok(Some((tag, body, after))) => {
                    rest = after;
                    match tag {
                        None => self.start_up(server, body),
                        Some(tag) => self.take_message(server, (tag, body), now_ms),
                    }
                }
                Err(why) => self.end(&Refusal::new("08P01", why)),
            }
        }
        self.input = rest.to_vec();
    }

    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The server has closed the connection, after what [`Self::take_output`] gives.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn end(&mut self, refusal: &Refusal) {
        message::error("FATAL", refusal, &mut self.output);
        self.is_closed = true;
    }

    /// "Start-up", "Canceling Requests in Progress", "SSL Session Encryption".
    fn start_up(&mut self, server: &mut Server, body: &[u8]) {
        let code = body.first_chunk().map(|code| u32::from_be_bytes(*code));
        match code {
            Some(SSL_REQUEST | GSS_ENCRYPTION_REQUEST) => self.output.push(b'N'),
            // Every statement ends when it begins: there is nothing to cancel.
            Some(CANCEL_REQUEST) => self.is_closed = true,
            Some(STARTUP) => {
                self.is_logged_in = true;
                message::welcome(server.next_session(), &mut self.output);
            }
            _ => self.end(&Refusal::new("0A000", "unsupported frontend protocol")),
        }
    }

    /// "Extended Query" in "Message Flow".
    fn take_message(&mut self, server: &mut Server, (tag, body): (u8, &[u8]), now_ms: u64) {
        let outcome = match tag {
            b'S' => {
                self.skips = false;
                self.portal = None;
                message::ready(&mut self.output);
                return;
            }
            b'X' => {
                self.is_closed = true;
                return;
            }
            _ if self.skips => return,
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute(server, now_ms),
            b'C' => {
                message::empty(b'3', &mut self.output);
                Ok(())
            }
            b'H' => Ok(()),
            b'Q' => {
                let refusal = Refusal::new("42601", "syntax error");
                message::error("ERROR", &refusal, &mut self.output);
                message::ready(&mut self.output);
                return;
            }
            _ => {
                let why = format!("invalid frontend message type {tag}");
                return self.end(&Refusal::new("08P01", why));
            }
        };
        if let Err(refusal) = outcome {
            message::error("ERROR", &refusal, &mut self.output);
            self.skips = true;
            self.portal = None;
        }
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Refusal> {
        self.statement = None;
        let mut fields = Fields(body);
        fields.no_name()?;
        let sql = fields.text()?;
        let known = Known::by_text(sql);
        self.statement = Some(known.ok_or_else(|| Refusal::new("42601", "syntax error"))?);
        message::empty(b'1', &mut self.output);
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let mut fields = Fields(body);
        fields.no_name()?;
        fields.no_name()?;
        let known = self.statement()?;
        fields.text_formats()?;
        let count = usize::from(fields.count()?);
        if count != known.parameters.len() {
            let wanted = known.parameters.len();
            return Err(Refusal::new(
                "08P01",
                format!(
                    "bind message supplies {count} parameters, but prepared statement \"\" requires {wanted}"
                ),
            ));
        }
        let mut parameters = Vec::with_capacity(count);
        for wanted in known.parameters {
            let given = fields.value()?;
            parameters.push(parameter(*wanted, given)?);
        }
        fields.text_formats()?;
        self.portal = Some((known, parameters));
        message::empty(b'2', &mut self.output);
        Ok(())
    }

    fn statement(&self) -> Result<&'static Known, Refusal> {
        let missing = || Refusal::new("26000", "unnamed prepared statement does not exist");
        self.statement.ok_or_else(missing)
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let (kind, name) = body.split_first().ok_or_else(malformed)?;
        Fields(name).no_name()?;
        let known = match (kind, &self.portal) {
            (b'P', Some((known, _))) => known,
            (b'P', None) => return Err(no_portal()),
            (b'S', _) => {
                let known = self.statement()?;
                message::parameter_description(known.parameters, &mut self.output);
                known
            }
            _ => return Err(malformed()),
        };
        message::row_description(known.columns, &mut self.output);
        Ok(())
    }

    fn execute(&mut self, server: &mut Server, now_ms: u64) -> Result<(), Refusal> {
        let (known, parameters) = self.portal.take().ok_or_else(no_portal)?;
        server.statements = server.statements.saturating_add(1);
        let before = self.output.len();
        let run = (known.run)(server, &parameters, now_ms, &mut self.output);
        match run {
            Ok(rows) => {
                let tag = format!("{} {rows}", known.tag);
                message::command_complete(&tag, &mut self.output);
                Ok(())
            }
            Err(refusal) => {
                self.output.truncate(before);
                Err(refusal)
            }
        }
    }
}

fn malformed() -> Refusal {
    Refusal::new("08P01", "invalid message format")
}

fn no_portal() -> Refusal {
    Refusal::new("34000", "portal \"\" does not exist")
}

/// Tag (none in the start-up), body, and what comes after.
type Cut<'a> = (Option<u8>, &'a [u8], &'a [u8]);

/// The first message, once it is complete.
fn cut(input: &[u8], has_tag: bool) -> Result<Option<Cut<'_>>, &'static str> {
    let (tag, rest) = match (has_tag, input.split_first()) {
        (false, _) => (None, input),
        (true, Some((tag, rest))) => (Some(*tag), rest),
        (true, None) => return Ok(None),
    };
    let Some((length, rest)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let bytes_max = if has_tag {
        MESSAGE_BYTES_MAX
    } else {
        STARTUP_BYTES_MAX
    };
    let length = usize::try_from(u32::from_be_bytes(*length))
        .ok()
        .and_then(|length| length.checked_sub(4))
        .filter(|length| *length <= bytes_max)
        .ok_or("invalid message length")?;
    Ok(rest
        .split_at_checked(length)
        .map(|(body, after)| (tag, body, after)))
}

/// The fields of a message, from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn text(&mut self) -> Result<&'a str, Refusal> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let (text, rest) = end
            .and_then(|end| self.0.split_at_checked(end))
            .ok_or_else(malformed)?;
        self.0 = rest.get(1..).unwrap_or_default();
        std::str::from_utf8(text).map_err(|_| not_utf8())
    }

    fn no_name(&mut self) -> Result<(), Refusal> {
        if self.text()?.is_empty() {
            Ok(())
        } else {
            let why = "only the unnamed statement and portal are known here";
            Err(Refusal::new("0A000", why))
        }
    }

    fn count(&mut self) -> Result<u16, Refusal> {
        let (count, rest) = self.0.split_first_chunk().ok_or_else(malformed)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*count))
    }

    fn text_formats(&mut self) -> Result<(), Refusal> {
        for _ in 0..self.count()? {
            if self.count()? != 0 {
                return Err(Refusal::new("0A000", "only the text format is known here"));
            }
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Option<&'a str>, Refusal> {
        let (length, rest) = self.0.split_first_chunk().ok_or_else(malformed)?;
        let length = i32::from_be_bytes(*length);
        self.0 = rest;
        if length == -1 {
            return Ok(None);
        }
        let (value, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length))
            .ok_or_else(malformed)?;
        self.0 = rest;
        let text = std::str::from_utf8(value).map_err(|_| not_utf8())?;
        if text.contains('\0') {
            return Err(not_utf8());
        }
        Ok(Some(text))
    }
}

fn not_utf8() -> Refusal {
    Refusal::new("22021", "invalid byte sequence for encoding \"UTF8\"")
}
