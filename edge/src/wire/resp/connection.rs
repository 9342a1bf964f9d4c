//! One connection to Valkey: log-in, flights of commands, their replies.
//!
//! `HELLO 3` travels in front of the first flight, so that a new connection
//! costs no round trip of its own ("Client handshake"):
//!
//! ```text
//! Unsent ── first flight, HELLO in front ──► HelloSent ── a map ──► LoggedIn
//!                                                │                     ▲
//!                      HELLO is not known there  ▼                     │
//!                                              Resp2 ─── no NOAUTH ────┤
//!                                                │                     │
//!          every reply is NOAUTH: AUTH, and the  ▼                     │
//!          same commands again, none of which  AuthSent ───── OK ──────┘
//!          had been executed
//! ```
//!
//! What is deliberately not known here: what the commands do, and whether
//! sending one again would be safe. Therefore nothing is ever sent twice, with
//! the one exception above, where the server said that it executed nothing.

use std::{fmt, mem};

use bytes::{BufMut, BytesMut};

use super::decode::Decoder;
use super::{Command, Reply, ServerError};
use crate::wire::{Machine, WITHHELD, Wants, WireError, gives_away};

/// Who we are. Neither of the two: the server's default user, without password.
#[derive(Clone)]
pub struct Login {
    /// `None` is the user `default`.
    pub user: Option<String>,
    /// `None` is for users that need none.
    pub password: Option<String>,
}

impl Login {
    fn is_anonymous(&self) -> bool {
        self.user.is_none() && self.password.is_none()
    }

    /// HELLO has no form without a user, nor AUTH one without a password; a
    /// user that needs no password takes any, also an empty one.
    fn hello(&self) -> Command {
        let hello = Command::new("HELLO").number(3);
        if self.is_anonymous() {
            return hello;
        }
        hello
            .arg("AUTH")
            .arg(self.user.as_deref().unwrap_or("default"))
            .arg(self.password.as_deref().unwrap_or_default())
    }

    /// A server that lacks HELLO may also lack users: no name unless one is set.
    fn auth(&self) -> Command {
        let mut auth = Command::new("AUTH");
        if let Some(user) = &self.user {
            auth = auth.arg(user);
        }
        auth.arg(self.password.as_deref().unwrap_or_default())
    }

    /// What the server said when it refused us, for logs and for people.
    fn refused(&self, error: &ServerError) -> WireError {
        WireError::Refused(self.showable(error).to_string())
    }

    /// An error as it may be shown.
    ///
    /// Servers repeat arguments in errors, and a hostile one what it likes.
    fn showable(&self, error: &ServerError) -> ServerError {
        const SHOWN_CHARS_MAX: usize = 200;
        let password = self.password.as_deref().unwrap_or_default();
        let shown = |text: &str| -> Option<String> {
            let text: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            (!gives_away(&text, password)).then_some(text)
        };
        ServerError {
            code: shown(&error.code).unwrap_or_else(|| "an error".to_owned()),
            message: shown(&error.message).unwrap_or_else(|| WITHHELD.to_owned()),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "withheld"))
            .finish()
    }
}

/// The client's side of one connection.
///
/// One flight at a time: [`submit`](Self::submit), drive it as a [`Machine`]
/// until it wants nothing, [`take_replies`](Self::take_replies).
///
/// An error does not say that no command was executed. That is so even for
/// [`WireError::Refused`]: the flight travels behind HELLO, and a server whose
/// default user needs no password executes it as that user.
pub struct Connection {
    login: Login,
    stage: Stage,
    decoder: Decoder,
    output: BytesMut,
    /// Commands of the flight that have no reply yet; HELLO and AUTH, which come
    /// before them, are not counted.
    due: usize,
    replies: Vec<Reply>,
    /// A flight was submitted and its replies were not taken.
    in_flight: bool,
    failed: Option<WireError>,
}

enum Stage {
    /// HELLO goes out with the first flight.
    Unsent,
    /// The first reply is HELLO's. The flight is kept in case it must be sent
    /// again; only when we could log in, so that nothing is kept in vain.
    HelloSent {
        flight: Vec<BytesMut>,
    },
    /// HELLO is not known there; the replies tell whether AUTH is needed.
    Resp2 {
        flight: Vec<BytesMut>,
    },
    /// The first reply is AUTH's.
    AuthSent,
    LoggedIn,
}

impl Connection {
    pub fn new(login: Login) -> Self {
        Self {
            login,
            stage: Stage::Unsent,
            decoder: Decoder::default(),
            output: BytesMut::new(),
            due: 0,
            replies: Vec::new(),
            in_flight: false,
            failed: None,
        }
    }

    /// Queues one flight of commands. The replies come in their order. A flight
    /// without commands sends nothing, also no HELLO, and is answered at once.
    ///
    /// At most one flight is outstanding. To submit another is a mistake that
    /// could hand the replies to the wrong caller, such as when a request was
    /// abandoned half-way and its connection used again; the connection then
    /// fails: it wants nothing, and has no replies.
    pub fn submit(&mut self, commands: Vec<Command>) {
        if self.due > 0 {
            self.fail(WireError::Protocol(
                "a flight began before the last one ended",
            ));
        }
        if self.failed.is_some() {
            return;
        }
        self.decoder.begin_flight();
        self.replies = Vec::new();
        self.in_flight = true;
        self.due = commands.len();
        if self.due == 0 {
            return;
        }
        if !matches!(self.stage, Stage::Unsent) {
            for command in commands {
                self.send(command.into_bytes());
            }
            return;
        }
        self.send(self.login.hello().into_bytes());
        let mut flight = Vec::new();
        for command in commands {
            let bytes = command.into_bytes();
            self.output.put_slice(&bytes);
            if !self.login.is_anonymous() {
                flight.push(bytes);
            }
        }
        self.stage = Stage::HelloSent { flight };
    }

    /// The replies of the flight once all have arrived, else `None`.
    ///
    /// `None` from a connection that wants nothing: no flight was submitted, its
    /// replies were taken already, or the connection failed.
    pub fn take_replies(&mut self) -> Option<Vec<Reply>> {
        let is_complete = self.in_flight && self.due == 0 && self.failed.is_none();
        if !is_complete {
            return None;
        }
        self.in_flight = false;
        Some(mem::take(&mut self.replies))
    }

    /// Bytes that the connection holds of what the server sent for this flight,
    /// the replies included, but for the slack of growing buffers. Never more
    /// than [`crate::limits::RESP_FLIGHT_BYTES_MAX`].
    pub fn held_bytes(&self) -> usize {
        self.decoder.charged_bytes()
    }

    #[cfg(test)]
    pub(super) fn buffer_capacity(&self) -> usize {
        self.decoder.buffer_capacity()
    }

    fn send(&mut self, bytes: BytesMut) {
        // Taken as it is where possible: it may be ten megabytes.
        if self.output.is_empty() {
            self.output = bytes;
        } else {
            self.output.put_slice(&bytes);
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.decoder.feed(bytes)?;
        // A reply to what has not even been taken for sending is not a reply.
        // Asked anew for each value, as the last one may have ended the flight,
        // and before each wait, so that one byte too many is noticed at once.
        while let Some(reply) = self.decoder.next(self.due > 0 && self.output.is_empty())? {
            self.accept(reply)?;
        }
        if self.due == 0 {
            self.decoder.end_flight();
        }
        Ok(())
    }

    fn accept(&mut self, reply: Reply) -> Result<(), WireError> {
        match mem::replace(&mut self.stage, Stage::LoggedIn) {
            Stage::Unsent => Err(WireError::Protocol("a reply before any command")),
            Stage::HelloSent { flight } => self.accept_hello(&reply, flight),
            Stage::AuthSent => match reply {
                Reply::Simple(ok) if ok == "OK" => Ok(()),
                Reply::Error(error) => Err(self.login.refused(&error)),
                _ => Err(WireError::Protocol(
                    "AUTH was answered with neither OK nor error",
                )),
            },
            stage @ (Stage::Resp2 { .. } | Stage::LoggedIn) => {
                self.stage = stage;
                self.replies.push(match reply {
                    Reply::Error(error) => Reply::Error(self.login.showable(&error)),
                    reply => reply,
                });
                self.due = self.due.saturating_sub(1);
                if self.due == 0 {
                    self.complete_flight()?;
                }
                Ok(())
            }
        }
    }

    fn accept_hello(&mut self, reply: &Reply, flight: Vec<BytesMut>) -> Result<(), WireError> {
        match reply {
            // An array is how a server would answer that stayed with RESP2.
            Reply::Map(_) | Reply::Array(_) => Ok(()),
            Reply::Error(error) if is_hello_unknown(error) => {
                self.stage = Stage::Resp2 { flight };
                Ok(())
            }
            Reply::Error(error) => Err(self.login.refused(error)),
            _ => Err(WireError::Protocol(
                "HELLO was answered with neither map nor error",
            )),
        }
    }

    /// All commands have their replies. They are the flight's, unless they say
    /// that we have to log in first.
    fn complete_flight(&mut self) -> Result<(), WireError> {
        let Stage::Resp2 { flight } = mem::replace(&mut self.stage, Stage::LoggedIn) else {
            return Ok(());
        };
        let mut refusals = self.replies.iter().filter_map(no_auth);
        let Some(refusal) = refusals.next() else {
            return Ok(());
        };
        if refusals.count() + 1 < self.replies.len() {
            // Some were executed: to send them again could do things twice.
            return Err(WireError::Protocol(
                "NOAUTH for some commands of a flight only",
            ));
        }
        if self.login.is_anonymous() {
            return Err(self.login.refused(refusal));
        }
        self.due = flight.len();
        self.replies = Vec::new();
        self.decoder.begin_flight();
        self.send(self.login.auth().into_bytes());
        for bytes in flight {
            self.send(bytes);
        }
        self.stage = Stage::AuthSent;
        Ok(())
    }

    /// Ends the connection for good, and lets go of what it held.
    fn fail(&mut self, error: WireError) {
        *self = Self {
            failed: Some(error),
            ..Self::new(self.login.clone())
        };
    }
}

impl Machine for Connection {
    fn take_output(&mut self) -> BytesMut {
        mem::take(&mut self.output)
    }

    fn wants(&self) -> Wants {
        if self.due > 0 {
            Wants::Input
        } else {
            Wants::Nothing
        }
    }

    fn handle_input(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.receive(bytes)
            .inspect_err(|error| self.fail(error.clone()))
    }

    /// RESP has no way into TLS: it begins before the first byte, or never.
    fn tls_started(&mut self) {}
}

/// Says where the connection stands; not what it sends or has received.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Unsent => "unsent",
            Stage::HelloSent { .. } => "hello sent",
            Stage::Resp2 { .. } => "resp2",
            Stage::AuthSent => "auth sent",
            Stage::LoggedIn => "logged in",
        };
        f.debug_struct("Connection")
            .field("login", &self.login)
            .field("stage", &stage)
            .field("due", &self.due)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// "Client handshake": the two ways in which a server says that it has no
/// `HELLO 3`. In both, it has neither looked at a password nor left RESP2.
fn is_hello_unknown(error: &ServerError) -> bool {
    const UNKNOWN: &[u8] = b"unknown command";
    let is_unknown = |text: &[u8]| {
        text.get(..UNKNOWN.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(UNKNOWN))
    };
    match error.code.as_str() {
        "NOPROTO" => true,
        "ERR" => is_unknown(error.message.as_bytes()),
        _ => false,
    }
}

fn no_auth(reply: &Reply) -> Option<&ServerError> {
    match reply {
        Reply::Error(error) if error.code == "NOAUTH" => Some(error),
        _ => None,
    }
}
