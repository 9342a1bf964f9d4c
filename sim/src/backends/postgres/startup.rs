//! What comes before the first statement ("Start-up" in "Message Flow").
//!
//! Trusts everybody, speaks no TLS. Does not know statements.

use super::message::{Body, write, write_error, write_string};
use super::refusal::Refusal;
use super::{Failure, Server};

const CANCEL_REQUEST: i32 = 80_877_102;
const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;

/// What a packet of the start-up led to.
pub(super) enum Outcome {
    /// Another packet must come.
    Again,
    /// Statements may come.
    Ready,
    Closed,
}

/// Takes one packet, without its length, and writes the answer.
pub(super) fn take_packet(
    server: &mut Server,
    packet: &[u8],
    out: &mut Vec<u8>,
) -> Result<Outcome, Refusal> {
    let mut body = Body::new(packet);
    match body.int32()? {
        SSL_REQUEST | GSSENC_REQUEST => {
            out.push(b'N');
            Ok(Outcome::Again)
        }
        // Nothing is ever under way between two calls.
        CANCEL_REQUEST => Ok(Outcome::Closed),
        version if version >> 16 == 3 => {
            let client = Client::read(&mut body)?;
            log_in(server, &client, out)?;
            Ok(Outcome::Ready)
        }
        version => {
            let (major, minor) = (version >> 16, version & 0xFFFF);
            Err(Refusal::new(
                "0A000",
                format!(
                    "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0"
                ),
            ))
        }
    }
}

/// Closes with the words of the refusal.
pub(super) fn refuse(refusal: &Refusal, out: &mut Vec<u8>) -> Outcome {
    write_error(out, "FATAL", refusal);
    Outcome::Closed
}

struct Client {
    user: String,
    application: String,
}

impl Client {
    fn read(body: &mut Body<'_>) -> Result<Self, Refusal> {
        let malformed = || {
            Refusal::new(
                "08P01",
                "invalid startup packet layout: expected terminator as last byte",
            )
        };
        let mut client = Self {
            user: String::new(),
            application: String::new(),
        };
        loop {
            let name = body.string().map_err(|_| malformed())?;
            if name.is_empty() {
                break;
            }
            let value = body.string().map_err(|_| malformed())?;
            let value = || String::from_utf8_lossy(value).into_owned();
            match name {
                b"user" => client.user = value(),
                b"application_name" => client.application = value(),
                _ => {}
            }
        }
        if !body.is_empty() {
            return Err(malformed());
        }
        if client.user.is_empty() {
            return Err(Refusal::new(
                "28000",
                "no PostgreSQL user name specified in startup packet",
            ));
        }
        Ok(client)
    }
}

fn log_in(server: &mut Server, client: &Client, out: &mut Vec<u8>) -> Result<(), Refusal> {
    match server.failure {
        Some(Failure::StartingUp) => {
            return Err(Refusal::new("57P03", "the database system is starting up"));
        }
        Some(Failure::Full) => {
            return Err(Refusal::new("53300", "sorry, too many clients already"));
        }
        Some(Failure::ReadOnly) | None => {}
    }
    let is_standby = if server.failure.is_some() {
        "on"
    } else {
        "off"
    };
    let process = server.next_session();
    // AuthenticationOk.
    write(out, b'R', |out| out.extend_from_slice(&[0; 4]));
    for (name, value) in [
        ("in_hot_standby", is_standby),
        ("integer_datetimes", "on"),
        ("TimeZone", "UTC"),
        ("IntervalStyle", "postgres"),
        ("is_superuser", "on"),
        ("application_name", &client.application),
        ("default_transaction_read_only", "off"),
        ("DateStyle", "ISO, YMD"),
        ("standard_conforming_strings", "on"),
        ("session_authorization", &client.user),
        ("client_encoding", "UTF8"),
        ("server_version", "15.18"),
        ("server_encoding", "UTF8"),
    ] {
        write(out, b'S', |out| {
            write_string(out, name);
            write_string(out, value);
        });
    }
    // BackendKeyData: nobody guesses at secrets here.
    write(out, b'K', |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(&process.reverse_bits().to_be_bytes());
    });
    write_ready(out);
    Ok(())
}

/// ReadyForQuery, in no transaction.
pub(super) fn write_ready(out: &mut Vec<u8>) {
    write(out, b'Z', |out| out.push(b'I'));
}
