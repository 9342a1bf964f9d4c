//! One connection: TLS, start-up, then statements and their answers in order.
//!
//! It decides which message may come when and which bytes may leave together.
//! It does not know a clock: a server that says nothing is the caller's matter,
//! who can send [`Connection::cancel_request`] on another connection.

use std::collections::VecDeque;
use std::{io, mem};

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, BindError};

use super::answer::{Progress, Rows, ServerError};
use super::authentication::{Authentication, Next};
use super::frame::Frames;
use super::{Login, Scram, SslMode, Statement, encryption};
use crate::limits::{PG_PREPARED_MAX, PG_STARTUP_MESSAGES_MAX};
use crate::wire::{Machine, WITHHELD, Wants, WireError, gives_away};

/// The protocol counts parameters in 16 bits ("Bind").
const PARAMETERS_MAX: usize = u16::MAX as usize;
/// The protocol counts a message in 31 bits; a little is left for what stands
/// around the parameters.
const BIND_BYTES_MAX: u64 = i32::MAX as u64 - 64;

enum Phase {
    /// SSLRequest is out; one byte must come ("SSL Session Encryption").
    SslAnswer,
    /// The server said yes; no byte may come before TLS is on.
    TlsHandshake,
    Authentication(Authentication),
    /// We are in; parameters come until ReadyForQuery.
    Startup,
    Ready,
    /// Nothing can be done any longer, for this reason.
    Broken(WireError),
}

/// A connection to PostgreSQL, from the first byte on.
pub struct Connection {
    login: Login,
    scram: Scram,
    /// Nobody else can read what goes over this connection.
    private: bool,
    phase: Phase,
    startup_messages: usize,
    frames: Frames,
    output: BytesMut,
    /// Statements that must not leave before the log-in allows it. Empty once
    /// `released`.
    held: BytesMut,
    released: bool,
    /// Statements without an answer are in `held`, in `output` or sent; the
    /// oldest sent one is in `progress`.
    statements_held: usize,
    statements_in_output: usize,
    statements_sent: usize,
    progress: Progress,
    /// Statements that the server has under the names of their places here. None:
    /// this connection is not kept, and none would be used again.
    prepared: Option<Vec<&'static str>>,
    /// The one that will be among them when the server has parsed it.
    preparing: Option<&'static str>,
    answers: VecDeque<Result<Rows, ServerError>>,
    /// Process and secret, for a CancelRequest.
    backend_key: Option<(i32, i32)>,
}

impl Connection {
    pub fn new(login: Login, scram: Scram) -> Self {
        let mut connection = Self {
            private: login.ssl == SslMode::Private,
            phase: Phase::SslAnswer,
            startup_messages: 0,
            frames: Frames::default(),
            output: BytesMut::new(),
            held: BytesMut::new(),
            released: false,
            statements_held: 0,
            statements_in_output: 0,
            statements_sent: 0,
            progress: Progress::default(),
            prepared: None,
            preparing: None,
            answers: VecDeque::new(),
            backend_key: None,
            login,
            scram,
        };
        match connection.login.ssl {
            SslMode::Disable | SslMode::Private => connection.start_up(),
            SslMode::Require | SslMode::VerifyFull => {
                frontend::ssl_request(&mut connection.output);
            }
        }
        connection
    }

    /// For a connection that is kept: the server parses each statement once
    /// ("Extended Query", named prepared statements).
    pub fn preparing_statements(mut self) -> Self {
        self.prepared = Some(Vec::new());
        self
    }

    /// Queues a statement: Parse, Bind, Describe, Execute, Sync in one flight.
    ///
    /// Each has its own Sync, so an error of one does not skip the next
    /// ("Pipelining" in "Message Flow"). Answers come in the order of the calls.
    ///
    /// # Errors
    /// The statement is too large for the protocol; the connection is as before.
    /// Or the connection is broken, for the reason that is returned.
    pub fn submit(&mut self, statement: &Statement) -> Result<(), WireError> {
        if let Phase::Broken(why) = &self.phase {
            return Err(why.clone());
        }
        check_size(statement)?;
        let outstanding = self.statements_held + self.statements_in_output + self.statements_sent;
        let known = self.prepared.as_ref().filter(|_| outstanding == 0);
        let preparation = known.map_or(Preparation::None, |known| {
            match known.iter().position(|sql| *sql == statement.sql) {
                Some(place) => Preparation::Known(place),
                None if known.len() < PG_PREPARED_MAX => Preparation::New(known.len()),
                None => Preparation::None,
            }
        });
        let (buffer, count) = if self.released {
            (&mut self.output, &mut self.statements_in_output)
        } else {
            (&mut self.held, &mut self.statements_held)
        };
        let before = buffer.len();
        if write_statement(statement, preparation, buffer).is_err() {
            buffer.truncate(before);
            return Err(WireError::Protocol("a statement that cannot be sent"));
        }
        *count += 1;
        match preparation {
            Preparation::None => {}
            Preparation::New(_) => self.preparing = Some(statement.sql),
            Preparation::Known(_) => self.progress = Progress::Bind,
        }
        Ok(())
    }

    /// The next answer, when it is complete and committed.
    pub fn take_answer(&mut self) -> Option<Result<Rows, ServerError>> {
        self.answers.pop_front()
    }

    /// The CancelRequest for what this connection runs, to be sent alone on a
    /// new one ("Canceling Requests in Progress"). None until the server has
    /// told the key.
    pub fn cancel_request(&self) -> Option<BytesMut> {
        let (process, secret) = self.backend_key?;
        let mut output = BytesMut::new();
        frontend::cancel_request(process, secret, &mut output);
        Some(output)
    }

    /// The Terminate message: what a polite client writes last.
    pub fn terminate() -> BytesMut {
        let mut output = BytesMut::new();
        frontend::terminate(&mut output);
        output
    }

    /// Whether [`Machine::take_output`] has handed out a statement that has no
    /// answer yet: if the connection is lost now, nobody knows whether it ran.
    pub fn statement_sent(&self) -> bool {
        self.statements_sent > 0
    }

    /// Whether another statement may be submitted.
    pub fn is_usable(&self) -> bool {
        !matches!(self.phase, Phase::Broken(_))
    }

    /// Bytes from the network that are kept, for the tests of the limits.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.frames.held_bytes() + self.progress.held_bytes()
    }

    /// Queues the StartupMessage. Where no password is expected, this is
    /// already our last word of the log-in.
    fn start_up(&mut self) {
        let parameters = [
            ("user", self.login.user.as_str()),
            ("database", self.login.database.as_str()),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, YMD"),
            ("TimeZone", "UTC"),
            ("application_name", "shepherd-edge"),
        ];
        if frontend::startup_message(parameters, &mut self.output).is_err() {
            return self.break_off(WireError::Security(
                "the user or database cannot be sent: it contains a NUL byte",
            ));
        }
        self.phase = Phase::Authentication(Authentication::Unknown);
        if self.login.password.is_none() {
            self.release();
        }
    }

    /// Lets statements leave, now and from now on.
    fn release(&mut self) {
        self.released = true;
        self.output.unsplit(mem::take(&mut self.held));
        self.statements_in_output += mem::take(&mut self.statements_held);
    }

    fn break_off(&mut self, why: WireError) {
        if matches!(self.phase, Phase::Authentication(_)) {
            self.scram.remembered.forget();
        }
        self.phase = Phase::Broken(why);
        self.frames = Frames::default();
        self.progress = Progress::default();
        self.output = BytesMut::new();
        self.held = BytesMut::new();
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        match &self.phase {
            Phase::Broken(why) => return Err(why.clone()),
            Phase::SslAnswer => {
                if encryption::take_answer(bytes)? {
                    self.phase = Phase::TlsHandshake;
                }
                return Ok(());
            }
            Phase::TlsHandshake if !bytes.is_empty() => {
                return Err(encryption::bytes_before_tls());
            }
            _ => {}
        }
        self.frames.extend(bytes);
        while self.is_usable()
            && let Some(message) = self.frames.next()?
        {
            self.take_message(message)?;
        }
        Ok(())
    }

    fn take_message(&mut self, message: Message) -> Result<(), WireError> {
        match self.phase {
            Phase::Authentication(_) | Phase::Startup => {
                self.startup_messages += 1;
                if self.startup_messages > PG_STARTUP_MESSAGES_MAX {
                    return Err(WireError::Limit("messages before the server is ready"));
                }
                self.take_startup_message(message)
            }
            Phase::Ready => self.take_ready_message(message),
            _ => Err(WireError::Protocol("a message out of order")),
        }
    }

    /// "Start-up" in "Message Flow".
    fn take_startup_message(&mut self, message: Message) -> Result<(), WireError> {
        let message = match message {
            Message::ErrorResponse(body) => {
                return Err(self.showable(ServerError::read(&body)?).refusal());
            }
            Message::NoticeResponse(_) => return Ok(()),
            message => message,
        };
        if let Phase::Authentication(authentication) = &mut self.phase {
            let next = authentication.answer(
                message,
                &self.login,
                &self.scram,
                self.private,
                &mut self.output,
            )?;
            if next != Next::Wait {
                self.release();
            }
            if next == Next::Accepted {
                self.phase = Phase::Startup;
            }
            return Ok(());
        }
        match message {
            Message::ParameterStatus(_) => {}
            Message::BackendKeyData(key) => {
                self.backend_key = Some((key.process_id(), key.secret_key()));
            }
            Message::ReadyForQuery(ready) if ready.status() == b'I' => {
                self.phase = Phase::Ready;
                self.frames.start_over();
            }
            _ => {
                return Err(WireError::Protocol(
                    "a message out of order in the start-up",
                ));
            }
        }
        Ok(())
    }

    /// "Extended Query" and "Asynchronous Operations" in "Message Flow".
    fn take_ready_message(&mut self, message: Message) -> Result<(), WireError> {
        match message {
            Message::NoticeResponse(_)
            | Message::ParameterStatus(_)
            | Message::NotificationResponse(_) => Ok(()),
            Message::ErrorResponse(body) if ServerError::read(&body)?.is_fatal() => {
                self.take_fatal(self.showable(ServerError::read(&body)?))
            }
            _ if self.statements_sent == 0 => {
                Err(WireError::Protocol("a message that answers nothing"))
            }
            Message::ReadyForQuery(ready) => {
                if !matches!(ready.status(), b'I' | b'T' | b'E') {
                    return Err(WireError::Protocol("an unknown transaction status"));
                }
                let answer = mem::take(&mut self.progress).finish()?;
                let answer = answer.map_err(|error| self.showable(error));
                self.answers.push_back(answer);
                self.statements_sent -= 1;
                self.preparing = None;
                self.frames.start_over();
                Ok(())
            }
            message => {
                if matches!(message, Message::ParseComplete)
                    && let (Some(known), Some(sql)) = (&mut self.prepared, self.preparing.take())
                {
                    known.push(sql);
                }
                self.progress = mem::take(&mut self.progress).advance(message)?;
                Ok(())
            }
        }
    }

    /// An error as it may be logged: a server that was given the password may
    /// repeat it.
    fn showable(&self, mut error: ServerError) -> ServerError {
        let password = self.login.password.as_deref().unwrap_or_default();
        if gives_away(&error.message, password) {
            error.message = WITHHELD.to_owned();
        }
        error
    }

    /// The server ends the connection, for instance because it is shut down.
    ///
    /// All that it was asked gets this error for an answer; whether the first
    /// statement ran, see [`ServerError::is_fatal`].
    fn take_fatal(&mut self, error: ServerError) -> Result<(), WireError> {
        let refusal = error.refusal();
        if self.statements_sent == 0 {
            return Err(refusal);
        }
        let unanswered =
            mem::take(&mut self.statements_sent) + mem::take(&mut self.statements_in_output);
        for _ in 0..unanswered {
            self.answers.push_back(Err(error.clone()));
        }
        self.break_off(refusal);
        Ok(())
    }
}

impl Machine for Connection {
    fn take_output(&mut self) -> BytesMut {
        self.statements_sent += mem::take(&mut self.statements_in_output);
        mem::take(&mut self.output)
    }

    fn wants(&self) -> Wants {
        let answered = self.statements_held + self.statements_in_output + self.statements_sent == 0;
        match self.phase {
            Phase::TlsHandshake => Wants::Tls,
            Phase::Broken(_) => Wants::Nothing,
            Phase::Ready if answered => Wants::Nothing,
            _ => Wants::Input,
        }
    }

    fn handle_input(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let result = self.advance(bytes);
        if let Err(why) = &result {
            self.break_off(why.clone());
        }
        result
    }

    /// Does nothing unless [`Wants::Tls`] was asked for.
    fn tls_started(&mut self) {
        if matches!(self.phase, Phase::TlsHandshake) {
            self.private = true;
            self.start_up();
        }
    }
}

fn check_size(statement: &Statement) -> Result<(), WireError> {
    if statement.parameters.len() > PARAMETERS_MAX {
        return Err(WireError::Limit(
            "more parameters than a statement can carry",
        ));
    }
    let bytes: u64 = statement
        .parameters
        .iter()
        .map(|parameter| 4 + parameter.as_ref().map_or(0, |text| text.len() as u64))
        .sum();
    if bytes > BIND_BYTES_MAX {
        return Err(WireError::Limit(
            "longer parameters than a statement can carry",
        ));
    }
    Ok(())
}

/// The unnamed statement in the unnamed portal, all in text format.
/// What the server knows of a statement.
#[derive(Clone, Copy)]
enum Preparation {
    /// Nothing, and it is to forget it again.
    None,
    /// Nothing yet, but from now on by this number.
    New(usize),
    /// It has it by this number.
    Known(usize),
}

fn write_statement(
    statement: &Statement,
    preparation: Preparation,
    buffer: &mut BytesMut,
) -> io::Result<()> {
    let name = match preparation {
        Preparation::None => String::new(),
        Preparation::New(number) | Preparation::Known(number) => format!("s{number}"),
    };
    if !matches!(preparation, Preparation::Known(_)) {
        frontend::parse(&name, statement.sql, [], buffer)?;
    }
    frontend::bind(
        "",
        &name,
        [],
        &statement.parameters,
        |parameter, buffer| {
            Ok(match parameter {
                Some(text) => {
                    buffer.extend_from_slice(text.as_bytes());
                    IsNull::No
                }
                None => IsNull::Yes,
            })
        },
        [],
        buffer,
    )
    .map_err(|error| match error {
        BindError::Serialization(error) => error,
        BindError::Conversion(error) => io::Error::other(error),
    })?;
    frontend::describe(b'P', "", buffer)?;
    frontend::execute("", 0, buffer)?;
    frontend::sync(buffer);
    Ok(())
}
