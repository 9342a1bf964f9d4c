//! One connection: requests cut from the stream, log-in, replies in order.
//!
//! Does not know what commands do. Inline commands ("Inline commands"), which
//! people type and no client sends, are refused.

use std::cell::RefCell;

use super::super::taken_from;
use super::Server;
use super::commands::{Command, Does, SYNTAX, command, integer, unknown, wrong_arguments};
use super::reply::{Reply, Version};

/// `PROTO_INLINE_MAX_SIZE`.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// `proto-max-bulk-len`.
const BULK_BYTES_MAX: i64 = 512 * 1024 * 1024;

/// Room for so many arguments is made at first.
const ARGUMENTS_USUAL: usize = 8;
/// And for so many bytes of replies.
const REPLY_BYTES_USUAL: usize = 512;

/// Runs one request.
type Run<'a> = &'a mut dyn FnMut(&mut Session, &[&[u8]]) -> Reply;

/// The server's side of one connection.
pub struct Session {
    version: Version,
    /// Given when the first command comes; shown by HELLO.
    id: i64,
    is_authenticated: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    is_closed: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    pub fn new() -> Self {
        Self {
            version: Version::Resp2,
            id: 0,
            is_authenticated: false,
            input: Vec::new(),
            output: Vec::new(),
            is_closed: false,
        }
    }

    /// Takes bytes, cut anywhere, and does every command that is complete.
    pub fn handle_input(&mut self, server: &mut Server, bytes: &[u8], now_ms: u64) {
        self.take(bytes, &mut |session, request| {
            session.run(server, request, now_ms)
        });
    }

    /// The same, and says so after each of them: what the server holds in between
    /// is what another client could read.
    pub fn handle_input_with(
        &mut self,
        server: &RefCell<Server>,
        bytes: &[u8],
        now_ms: u64,
        mut done: impl FnMut(),
    ) {
        self.take(bytes, &mut |session, request| {
            let reply = session.run(&mut server.borrow_mut(), request, now_ms);
            done();
            reply
        });
    }

    fn take(&mut self, bytes: &[u8], run: Run) {
        if self.is_closed {
            return;
        }
        let kept = std::mem::take(&mut self.input);
        self.input = taken_from(kept, bytes, |input| self.take_requests(input, run));
    }

    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The server has closed the connection, after what [`Self::take_output`] gives.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// How many bytes were taken.
    fn take_requests(&mut self, input: &[u8], run: Run) -> usize {
        let mut taken = 0;
        loop {
            match request(input.get(taken..).unwrap_or_default()) {
                Ok(Some((arguments, bytes))) => {
                    taken = taken.saturating_add(bytes);
                    if !arguments.is_empty() {
                        self.output.reserve(REPLY_BYTES_USUAL);
                        let reply = run(self, &arguments);
                        reply.write(self.version, &mut self.output);
                    }
                }
                Ok(None) => return taken,
                Err(why) => {
                    Reply::error(format!("ERR Protocol error: {why}"))
                        .write(self.version, &mut self.output);
                    self.is_closed = true;
                    return input.len();
                }
            }
        }
    }

    fn run(&mut self, server: &mut Server, arguments: &[&[u8]], now_ms: u64) -> Reply {
        if self.id == 0 {
            self.id = server.next_session();
            self.is_authenticated = server.password.is_none();
        }
        let Some((place, command)) = command(arguments.first().copied().unwrap_or_default()) else {
            return unknown(arguments);
        };
        if !command.takes(arguments.len()) {
            return wrong_arguments(command.name);
        }
        server.counts.add(place);
        if !self.is_authenticated && !command.is_for_everybody() {
            return Reply::error("NOAUTH Authentication required.");
        }
        self.execute(server, command, arguments, now_ms)
            .unwrap_or_else(|refusal| refusal)
    }

    fn execute(
        &mut self,
        server: &mut Server,
        command: &Command,
        arguments: &[&[u8]],
        now_ms: u64,
    ) -> Result<Reply, Reply> {
        {
            let mut keyspace = server.keyspace.borrow_mut();
            keyspace.begin(now_ms);
            if let Some(refusal) = command.refusal(keyspace.failure) {
                return Err(Reply::error(refusal));
            }
            if let Does::Keyspace(run) = command.does {
                return Ok(run(&mut keyspace, arguments));
            }
        }
        match command.does {
            Does::Hello => self.hello(server, arguments),
            Does::Auth => self.auth(server, arguments),
            Does::EvalSha => Ok(server.scripts()?.evaluate(arguments, true)),
            Does::Script => Ok(server.scripts()?.manage(arguments)),
            Does::Eval | Does::Keyspace(_) => Ok(server.scripts()?.evaluate(arguments, false)),
        }
    }

    /// "Client handshake".
    fn hello(&mut self, server: &Server, arguments: &[&[u8]]) -> Result<Reply, Reply> {
        let mut version = self.version;
        if let Some(asked) = arguments.get(1) {
            version = match integer(asked) {
                Some(2) => Version::Resp2,
                Some(3) => Version::Resp3,
                Some(_) => return Err(Reply::error("NOPROTO unsupported protocol version")),
                None => {
                    return Err(Reply::error(
                        "ERR Protocol version is not an integer or out of range",
                    ));
                }
            };
        }
        let mut options = arguments.get(2..).unwrap_or_default();
        let mut credentials = None;
        while let [option, rest @ ..] = options {
            options = match (option.to_ascii_uppercase().as_slice(), rest) {
                (b"AUTH", [user, password, rest @ ..]) => {
                    credentials = Some((*user, *password));
                    rest
                }
                (b"SETNAME", [_, rest @ ..]) => rest,
                _ => {
                    let text = [b"ERR Syntax error in HELLO option '", *option, b"'"].concat();
                    return Err(Reply::Error(text));
                }
            };
        }
        if let Some((user, password)) = credentials {
            self.log_in(server, user, password)?;
        }
        if !self.is_authenticated {
            return Err(Reply::error(NOT_LOGGED_IN));
        }
        self.version = version;
        Ok(self.greeting())
    }

    fn auth(&mut self, server: &Server, arguments: &[&[u8]]) -> Result<Reply, Reply> {
        match arguments {
            [_, _] if server.password.is_none() => Err(Reply::error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            )),
            [_, password] => self.log_in(server, b"default", password),
            [_, user, password] => self.log_in(server, user, password),
            _ => Err(Reply::error(SYNTAX)),
        }
    }

    /// A user that needs no password takes any.
    fn log_in(&mut self, server: &Server, user: &[u8], password: &[u8]) -> Result<Reply, Reply> {
        let is_right = server.password.as_deref().is_none_or(|own| own == password);
        if user != b"default" || !is_right {
            return Err(Reply::error(
                "WRONGPASS invalid username-password pair or user is disabled.",
            ));
        }
        self.is_authenticated = true;
        Ok(Reply::ok())
    }

    fn greeting(&self) -> Reply {
        let version = match self.version {
            Version::Resp2 => 2,
            Version::Resp3 => 3,
        };
        let members = [
            ("server", Reply::word("valkey")),
            ("version", Reply::word("8.1.8")),
            ("proto", Reply::Integer(version)),
            ("id", Reply::Integer(self.id)),
            ("mode", Reply::word("standalone")),
            ("role", Reply::word("master")),
            ("modules", Reply::Array(Vec::new())),
        ];
        Reply::Map(
            members
                .into_iter()
                .map(|(name, value)| (Reply::word(name), value))
                .collect(),
        )
    }
}

const NOT_LOGGED_IN: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";

/// A request's arguments and its length in bytes, once it is complete ("Sending
/// commands to a Valkey server").
type Request<'a> = (Vec<&'a [u8]>, usize);

fn request(input: &[u8]) -> Result<Option<Request<'_>>, String> {
    match input.first() {
        None => return Ok(None),
        Some(b'*') => {}
        Some(_) => return Err("inline commands are not for programs".to_owned()),
    }
    let Some((count, mut at)) = line(input, 1, "too big mbulk count string")? else {
        return Ok(None);
    };
    let count = integer(count)
        .filter(|count| *count <= i64::from(i32::MAX))
        .ok_or("invalid multibulk length")?;
    let mut arguments = Vec::with_capacity(ARGUMENTS_USUAL);
    for _ in 0..count {
        // The whole line is awaited before its first byte is looked at.
        let Some((length, start)) = line(input, at, "too big bulk count string")? else {
            return Ok(None);
        };
        let Some((b'$', length)) = length.split_first() else {
            let mark = length.first().copied().unwrap_or(b'\r');
            return Err(format!("expected '$', got '{}'", char::from(mark)));
        };
        let length = integer(length)
            .filter(|length| (0..=BULK_BYTES_MAX).contains(length))
            .and_then(|length| usize::try_from(length).ok())
            .ok_or("invalid bulk length")?;
        let end = start.saturating_add(length);
        at = end.saturating_add(2);
        if input.len() < at {
            return Ok(None);
        }
        arguments.push(input.get(start..end).unwrap_or_default());
    }
    Ok(Some((arguments, at)))
}

/// A line from `start` on, and where the next one begins.
fn line<'a>(
    input: &'a [u8],
    start: usize,
    too_long: &str,
) -> Result<Option<(&'a [u8], usize)>, String> {
    let rest = input.get(start..).unwrap_or_default();
    let Some(end) = rest.iter().position(|byte| *byte == b'\r') else {
        return if rest.len() > LINE_BYTES_MAX {
            Err(too_long.to_owned())
        } else {
            Ok(None)
        };
    };
    let next = start.saturating_add(end).saturating_add(2);
    if input.len() < next {
        return Ok(None);
    }
    Ok(rest.get(..end).map(|line| (line, next)))
}
