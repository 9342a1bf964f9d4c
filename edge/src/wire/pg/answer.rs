//! What the server answers to one statement: rows, or an error.
//!
//! Rows stay as they came, in text format, in the buffers they came in. What a
//! column means is not known here; [`super::json`] knows types.

use std::fmt;

use bytes::Bytes;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{
    DataRowBody, ErrorResponseBody, Message, RowDescriptionBody,
};

use crate::limits::{PG_COLUMNS_MAX, PG_NAME_BYTES_MAX};
use crate::wire::WireError;

/// How much of a server's error message is kept: it goes into a log line.
const ERROR_MESSAGE_CHARS_MAX: usize = 1000;
/// The longest severity is `WARNING`; a translation may be longer.
const SEVERITY_CHARS_MAX: usize = 16;

/// A column of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    pub name: String,
    /// The row of `pg_type`.
    pub type_oid: u32,
}

/// The fields of a DataRow, as they came.
///
/// Invariant: as many fields as there are columns, every field whole and UTF-8.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row(Bytes);

impl Row {
    fn checked(body: &DataRowBody, columns: usize) -> Result<Self, WireError> {
        // The field count of the message; the crate shows it only so.
        if body.ranges().size_hint().0 != columns {
            return Err(WireError::Protocol("a row with a wrong number of fields"));
        }
        let mut rest: &[u8] = body.buffer();
        for _ in 0..columns {
            let (field, after) =
                split_field(rest).ok_or(WireError::Protocol("a row with a wrong field length"))?;
            if field.is_some_and(|field| std::str::from_utf8(field).is_err()) {
                return Err(WireError::Protocol("a field that is not UTF-8"));
            }
            rest = after;
        }
        if !rest.is_empty() {
            return Err(WireError::Protocol("a row with more bytes than fields"));
        }
        Ok(Self(body.buffer_bytes().clone()))
    }

    /// The fields in the order of the columns; None is NULL.
    pub(super) fn fields(&self) -> impl Iterator<Item = Option<&str>> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (field, after) = split_field(rest)?;
            rest = after;
            Some(field.and_then(|field| std::str::from_utf8(field).ok()))
        })
    }

    /// Bytes on the wire, without the header.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Splits off a field: a length, -1 for NULL, then that many bytes ("DataRow").
fn split_field(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    match i32::from_be_bytes(*length) {
        -1 => Some((None, rest)),
        length => {
            let (field, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Some(field), rest))
        }
    }
}

/// A statement's answer.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rows {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// Rows that were written or read, from the command tag.
    pub affected: u64,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A field; None when it is NULL or not there.
    pub fn text(&self, row: usize, column: usize) -> Option<&str> {
        self.rows.get(row)?.fields().nth(column)?
    }
}

/// An ErrorResponse ("Error and Notice Message Fields").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerError {
    /// Five characters: see the appendix "PostgreSQL Error Codes".
    pub sqlstate: String,
    /// `ERROR`, `FATAL` or `PANIC`, in the server's language where it is old.
    pub severity: String,
    /// For logs only, never for answers: it can quote data. Cut when long.
    pub message: String,
}

impl ServerError {
    pub(super) fn read(body: &ErrorResponseBody) -> Result<Self, WireError> {
        let wrong = || WireError::Protocol("an error message with wrong fields");
        let mut error = Self {
            sqlstate: String::new(),
            severity: String::new(),
            message: String::new(),
        };
        let mut is_untranslated = false;
        let mut fields = body.fields();
        while let Some(field) = fields.next().map_err(|_| wrong())? {
            let text = String::from_utf8_lossy(field.value_bytes());
            match field.type_() {
                b'C' => error.sqlstate = text.into_owned(),
                b'M' => error.message = text.chars().take(ERROR_MESSAGE_CHARS_MAX).collect(),
                b'V' => {
                    error.severity = text.chars().take(SEVERITY_CHARS_MAX).collect();
                    is_untranslated = true;
                }
                b'S' if !is_untranslated => {
                    error.severity = text.chars().take(SEVERITY_CHARS_MAX).collect();
                }
                _ => {}
            }
        }
        let is_code = error
            .sqlstate
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if error.sqlstate.len() != 5 || !is_code {
            return Err(wrong());
        }
        Ok(error)
    }

    /// The server closes the connection after this one.
    ///
    /// A caller that wrote something treats it like a lost connection: a pooler
    /// says `FATAL` also when it lost the server and does not know more.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// What a log-in that ends with this error says. It starts with the
    /// SQLSTATE, so that a caller can tell a full server from a wrong password.
    pub(super) fn refusal(&self) -> WireError {
        let Self {
            sqlstate, message, ..
        } = self;
        WireError::Refused(match sqlstate.as_str() {
            "28P01" => format!("{sqlstate} password authentication failed: {message}"),
            "28000" => format!("{sqlstate} authentication failed: {message}"),
            "3D000" => format!("{sqlstate} unknown database: {message}"),
            "53300" => format!("{sqlstate} too many connections: {message}"),
            "57P03" => format!("{sqlstate} the server is starting up or stopping: {message}"),
            _ => format!("{sqlstate} {message}"),
        })
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.sqlstate, self.message)
    }
}

impl std::error::Error for ServerError {}

/// How far the answer to the oldest statement has come.
///
/// The order is that of "Extended Query" for Parse, Bind, Describe (portal),
/// Execute, Sync.
#[derive(Default)]
pub(super) enum Progress {
    /// ParseComplete must come.
    #[default]
    Parse,
    /// BindComplete must come.
    Bind,
    /// RowDescription or NoData must come.
    Describe,
    /// CommandComplete must come, before it rows if they were described.
    Execute { rows: Rows, described: bool },
    /// ReadyForQuery must come. Until then even a complete command can fail:
    /// Sync commits, and that is when deferred constraints are checked.
    Sync(Rows),
    /// The server skips until our Sync and says ReadyForQuery.
    Failed(ServerError),
}

impl Progress {
    /// One message on. ReadyForQuery and what may come at any time are not
    /// given here.
    pub(super) fn advance(self, message: Message) -> Result<Self, WireError> {
        Ok(match (self, message) {
            // An error while an error is being skipped: the first one is the cause.
            (Self::Failed(first), Message::ErrorResponse(_)) => Self::Failed(first),
            (_, Message::ErrorResponse(body)) => Self::Failed(ServerError::read(&body)?),
            (Self::Parse, Message::ParseComplete) => Self::Bind,
            (Self::Bind, Message::BindComplete) => Self::Describe,
            (Self::Describe, Message::NoData) => Self::Execute {
                rows: Rows::default(),
                described: false,
            },
            (Self::Describe, Message::RowDescription(body)) => Self::Execute {
                rows: Rows {
                    columns: columns(&body)?,
                    ..Rows::default()
                },
                described: true,
            },
            (
                Self::Execute {
                    mut rows,
                    described: true,
                },
                Message::DataRow(body),
            ) => {
                rows.rows.push(Row::checked(&body, rows.columns.len())?);
                Self::Execute {
                    rows,
                    described: true,
                }
            }
            (Self::Execute { mut rows, .. }, Message::CommandComplete(body)) => {
                rows.affected = affected(
                    body.tag()
                        .map_err(|_| WireError::Protocol("a command tag in no UTF-8"))?,
                );
                Self::Sync(rows)
            }
            (Self::Execute { rows, .. }, Message::EmptyQueryResponse) => Self::Sync(rows),
            _ => return Err(WireError::Protocol("a message out of order")),
        })
    }

    /// The answer, when ReadyForQuery came.
    pub(super) fn finish(self) -> Result<Result<Rows, ServerError>, WireError> {
        match self {
            Self::Sync(rows) => Ok(Ok(rows)),
            Self::Failed(error) => Ok(Err(error)),
            _ => Err(WireError::Protocol(
                "ready before the statement was answered",
            )),
        }
    }

    /// Bytes of rows that are kept, for the tests of the limits.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Execute { rows, .. } | Self::Sync(rows) => {
                rows.rows.iter().map(|row| row.0.len()).sum()
            }
            _ => 0,
        }
    }
}

fn columns(body: &RowDescriptionBody) -> Result<Vec<Column>, WireError> {
    let mut fields = body.fields();
    if fields.size_hint().0 > PG_COLUMNS_MAX {
        return Err(WireError::Limit("columns of a result"));
    }
    let wrong = |_| WireError::Protocol("a wrong row description");
    let mut columns = Vec::new();
    while let Some(field) = fields.next().map_err(wrong)? {
        if field.format() != 0 {
            return Err(WireError::Protocol(
                "a column in binary, which we never ask for",
            ));
        }
        if field.name().len() > PG_NAME_BYTES_MAX {
            return Err(WireError::Limit("the name of a column"));
        }
        columns.push(Column {
            name: field.name().to_owned(),
            type_oid: field.type_oid(),
        });
    }
    Ok(columns)
}

/// The count at the end of a command tag: `INSERT 0 1`, `SELECT 20` ("CommandComplete").
fn affected(tag: &str) -> u64 {
    tag.rsplit(' ')
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}
