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
/// Exponent of a number in JSON that becomes `jsonb`, which writes it out in
/// digits; doubles end at 308.
pub const EXPONENT_MAX: u16 = 400;
/// Operations of one batch: each needs a place in the pipeline and in the answer.
pub const BATCH_OPERATIONS_MAX: usize = 1000;
/// Longest TTL that a caller may ask for: a year. Longer is a mistake of unit.
pub const TTL_S_MAX: u64 = 365 * 24 * 60 * 60;

/// Rows of a list, also when the caller names no limit.
pub const ROWS_MAX: u32 = 1000;
/// Orders of a user when the caller names no limit.
pub const ORDERS_DEFAULT: u32 = 50;

/// A session up to this size has its `lastAccessed` set by a touch; of a larger
/// one only the TTL restarts, because Valkey does nothing else meanwhile.
pub const TOUCHED_BYTES_MAX: u64 = 128 * 1024;
/// Values in the answer to a batch, all together: an isolate has 128 MB.
pub const BATCH_VALUES_BYTES_MAX: usize = 24 * 1024 * 1024;
/// The `items` of a list of orders: the list ends before the order with which
/// they are more. The first order always comes.
pub const ORDERS_BYTES_MAX: usize = 20 * 1024 * 1024;
/// The same of the reasons in a list of returns, which in JSON can be six times
/// as long.
pub const REASONS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One value in a RESP reply: a stored body and some air.
pub const RESP_BULK_BYTES_MAX: usize = 12 * 1024 * 1024;
/// A copy of rows in Valkey: with its checksum it is one value that can be read.
pub const COPY_BYTES_MAX: usize = RESP_BULK_BYTES_MAX - 1024;
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
/// The salt of SCRAM, which is remembered: PostgreSQL's has 16 bytes.
pub const SCRAM_SALT_BYTES_MAX: usize = 1024;

/// Weight of the L1, by default. An isolate has 128 MB for everything.
pub const L1_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;
/// Largest L1 that a setting may ask for: the other half of the isolate is for
/// the code, the bodies and the replies of the requests under way.
pub const L1_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Answers that a host keeps ready to be sent again, in a form of its own beside L1: with
/// L1 at its most, the Wasm and what requests need, less than the 128 MB of an isolate.
/// Over it all are forgotten: what is asked for often is soon ready again.
pub const READY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A larger body is not kept ready: to copy it is the smaller part of sending it.
pub const READY_BODY_BYTES_MAX: usize = 64 * 1024;
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

/// Longest stale-if-error that a setting may ask for, in s: an hour. Who is
/// served older answers should rather be told of the outage.
pub const STALE_IF_ERROR_S_MAX: u64 = 3_600;
/// A clock may go back so far and still be the same clock, as when it is set
/// right over the network.
pub const CLOCK_STEP_MS_MAX: u64 = 1_000;
/// A load that began longer ago than this has been cut off: no
/// deadline of a store is longer.
pub const FLIGHT_MS_MAX: u64 = 2 * DEADLINE_MS_MAX;
/// Loads that others can wait for, in one isolate.
pub const FLIGHTS_MAX: usize = 1024;
/// Keys whose last change an isolate remembers, for the loads under way.
pub const RECENT_CHANGES_MAX: usize = 4096;
/// Rows that were answered or written without L2 knowing them, for which an
/// isolate remembers that.
pub const RECENT_MARKS_MAX: usize = 4096;
/// Failures in a row that open a breaker, by default: one can be bad luck.
pub const BREAKER_FAILURES_DEFAULT: u64 = 3;
/// A setting of more failures means none.
pub const BREAKER_FAILURES_MAX: u64 = 1_000;
/// How long a breaker stays open at first, and at last: a store that is back
/// must not wait long for its first request.
pub const BREAKER_PAUSE_MS_MIN: u64 = 250;
pub const BREAKER_PAUSE_MS_MAX: u64 = 2_000;
/// Exchanges with a store that one isolate has under way: a PostgreSQL has a
/// hundred connections, and there are many isolates.
pub const VALKEY_AT_ONCE_MAX: usize = 256;
pub const POSTGRES_AT_ONCE_MAX: usize = 32;
/// The same while L2 cannot be asked, when all that it would have answered comes.
pub const POSTGRES_AT_ONCE_MAX_ALONE: usize = 8;
/// Gateways over which keys are spread. One takes about a thousand requests a
/// second, and each may have [`POSTGRES_AT_ONCE_MAX`] connections.
pub const GATEWAY_SHARDS_DEFAULT: u64 = 2;
pub const GATEWAY_SHARDS_MAX: u64 = 64;
/// The way to a gateway and back, beyond the time that it gives the stores.
pub const GATEWAY_WAY_MS: u64 = 250;
/// A shorter secret is tried out, and whose the ids are is known.
pub const TRACE_KEY_BYTES_MIN: usize = 16;
/// Statements that a kept connection has prepared: the edge has about a dozen.
pub const PG_PREPARED_MAX: usize = 32;
/// Connections to a store that wait in one place for their next exchange.
pub const KEPT_LINKS_MAX: usize = 32;
/// Flights with what several requests ask of Valkey that one place has under way
/// before what comes next has to gather; fewer would make it wait longer.
pub const SHARED_FLIGHTS_MAX: usize = 4;
/// One that takes longer is not waited for: so long at most does the next one gather.
pub const SHARED_FLIGHT_LATE_MS: u64 = 25;
/// What one of them carries. Who asks more travels alone.
pub const SHARED_COMMANDS_MAX: usize = 64;
pub const SHARED_BYTES_MAX: usize = 32 * 1024;
/// Servers, and what lies between, hang up on those that say nothing for a minute or more.
pub const KEPT_IDLE_MS_MAX: u64 = 30_000;
/// How often the one that holds a lease is given time to fill, before another
/// asks PostgreSQL as well.
pub const LEASE_WAITS_MAX: u32 = 3;
/// L2 may always take so long, before L3 is asked: where PostgreSQL is slow, there is all
/// the more reason to ask L2.
pub const COPY_MS_MIN: u64 = 100;
/// An `Idempotency-Key`: room for a UUID, and for those who make keys of names.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// When an invalidation that L2 missed is sent again, in ms after the time
/// before: a Worker has 30 s after its answer.
pub const INVALIDATION_PAUSES_MS: [u64; 5] = [0, 250, 1_000, 4_000, 15_000];
/// Changes behind the edge that L2 is told of in one round trip.
pub const CHANGES_AT_ONCE_MAX: usize = 500;
/// How often L2 is told of them, by default, at least and at most: each time costs
/// PostgreSQL a query, and a change is to be seen within seconds.
pub const CHANGES_EVERY_MS_DEFAULT: u64 = 2_000;
pub const CHANGES_EVERY_MS_MIN: u64 = 100;
pub const CHANGES_EVERY_MS_MAX: u64 = 30_000;
/// For how long a scheduled handler does so: until the next one is due, a minute
/// after it (Cloudflare, "Cron Triggers").
pub const CHANGES_WATCH_MS: u64 = 60_000;
/// Fills stay blocked for so long after a write that never ended: the time for
/// a statement that was given up to be cancelled or committed.
pub const BLOCK_MARGIN_MS: u64 = 9_000;

/// Largest entry that L1 takes, as a fraction of its size: one value must not
/// push out all others.
pub const L1_ENTRY_FRACTION: u64 = 8;
