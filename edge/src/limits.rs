//! Every limit of the edge, with its reason, in one place.
//!
//! Bytes unless the name ends otherwise. A limit that a caller can meet gives
//! a 4xx with a sentence; one that a store breaks closes that connection.

/// Request body. The API promises at least 10 MiB; an isolate has 128 MB for
/// everything, and a body is held once as it came and once as a command.
pub const REQUEST_BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Path and query together, as a proxy in front of any server would refuse.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;
/// Session ids, user ids in Valkey keys, and generic cache keys, after decoding.
pub const KEY_BYTES_MAX: usize = 1024;
/// A user id is a `varchar(255)`: characters, not bytes.
pub const USER_ID_CHARS_MAX: usize = 255;
/// Other ids and codes in bodies and queries that name a `varchar(255)` column.
pub const ID_CHARS_MAX: usize = 255;
/// A price in a query: longer ones are no price.
pub const NUMBER_CHARS_MAX: usize = 64;
/// Nesting of JSON in a request: far beyond any client, small enough for
/// PostgreSQL's own recursion in `jsonb`.
pub const JSON_DEPTH_MAX: usize = 4096;
/// Operations of one batch: each needs a place in the pipeline and in the answer.
pub const BATCH_OPERATIONS_MAX: usize = 1000;
/// Longest TTL that a caller may ask for: a year. Longer is a mistake of unit.
pub const TTL_S_MAX: u64 = 365 * 24 * 60 * 60;

/// Rows of a list, also when the caller names no limit.
pub const ROWS_MAX: u32 = 1000;
/// Orders of a user when the caller names no limit.
pub const ORDERS_DEFAULT: u32 = 50;

/// One value in a RESP reply: a stored body and some air.
pub const RESP_BULK_BYTES_MAX: usize = 12 * 1024 * 1024;
/// All replies of one flight together, so that a batch of large values cannot
/// fill the isolate.
pub const RESP_FLIGHT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A RESP line (simple string, error, length, number).
pub const RESP_LINE_BYTES_MAX: usize = 64 * 1024;
/// Elements of one RESP aggregate: far above what any command here is answered with.
pub const RESP_ELEMENTS_MAX: usize = 16 * 1024;
/// Nesting of RESP aggregates: the replies of our commands nest twice.
pub const RESP_DEPTH_MAX: usize = 8;

/// One PostgreSQL message. The largest is a data row with its jsonb columns.
pub const PG_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// All messages that answer one statement.
pub const PG_RESULT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Columns of a result: our widest table has fourteen.
pub const PG_COLUMNS_MAX: usize = 256;
/// The name of a column, which stands in the JSON of every row. A server has 63
/// unless it was built with another NAMEDATALEN.
pub const PG_NAME_BYTES_MAX: usize = 1024;
/// Messages before the server is ready for a query (parameters, notices).
pub const PG_STARTUP_MESSAGES_MAX: usize = 256;
/// SCRAM iterations: PostgreSQL's default is 4096; each costs CPU time that a
/// hostile server must not be able to ask for without end.
pub const SCRAM_ITERATIONS_MAX: u32 = 100_000;

/// Weight of the L1, by default. An isolate has 128 MB for everything.
pub const L1_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;
/// Largest L1 that a setting may ask for: the other half of the isolate is for
/// the code, the bodies and the replies of the requests under way.
pub const L1_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest time for which an isolate answers without asking: the bound within
/// which it sees what other isolates wrote.
pub const L1_AGE_MS_MAX: u64 = 5_000;
/// Oldest copy of a PostgreSQL row that a setting may allow: a day. Copies are
/// not told of changes that other programs make.
pub const COPY_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// How long the absence of a row is remembered at most. What was looked for in
/// vain is often made soon after, and often by another program.
pub const ABSENCE_AGE_MS_MAX: u64 = 5_000;
/// Longest deadline of a store: a client has given up by then.
pub const DEADLINE_MS_MAX: u64 = 30_000;
/// A CancelRequest is best effort; nothing waits for it.
pub const CANCEL_DEADLINE_MS: u64 = 1_000;
/// A body over the limit is still read for so long, and thrown away: a client
/// that cannot finish sending does not read the answer.
pub const DISCARDED_BODY_BYTES_MAX: usize = 4 * REQUEST_BODY_BYTES_MAX;
/// A line of the log, in which a server's own words can stand.
pub const LOG_LINE_CHARS_MAX: usize = 1200;

/// Largest entry that L1 takes, as a fraction of its size: one value must not
/// push out all others.
pub const L1_ENTRY_FRACTION: u64 = 8;
