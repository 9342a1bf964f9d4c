//! L3: the statements, and one exchange with PostgreSQL.
//!
//! Knows SQL and SQLSTATEs. Does not know paths, caches or JSON bodies.
//! Every statement may be sent twice: ids are made before the first attempt,
//! and an insert that finds its id gives back what the first one stored.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, select};

use crate::error::{Error, Fault, Store};
use crate::host::{Host, Tls};
use crate::isolate::Isolate;
use crate::limits;
use crate::mutation::{self, Mutation};
use crate::settings::{self, Settings};
use crate::transport::Link;
use crate::wire::pg::{Cancel, Connection, Rows, Scram, ServerError, SslMode, Statement};

pub const PROBE: &str = "SELECT 1";

pub const PRODUCTS: &str = "SELECT id, name, description, price, category, brand, style, color, \
sizes, stock, image_url, rating, reviews_count, created_at, updated_at FROM catalog \
WHERE ($1::text IS NULL OR category = $1::text) AND ($2::text IS NULL OR brand = $2::text) \
AND ($3::numeric IS NULL OR price >= $3::numeric) AND ($4::numeric IS NULL OR price <= $4::numeric) \
ORDER BY rating DESC, reviews_count DESC, id COLLATE \"C\" LIMIT $5::int";

pub const PROFILE: &str = "SELECT user_id, email, first_name, last_name, preferences, \
body_measurements, created_at, updated_at FROM user_profiles WHERE user_id = $1::text";

/// Updates first and inserts only what is missing: with `email NOT NULL`, an
/// insert without one fails before any `ON CONFLICT` is looked at.
pub const SAVE_PROFILE: &str = "WITH updated AS (UPDATE user_profiles SET \
preferences = COALESCE($2::jsonb, preferences), body_measurements = COALESCE($3::jsonb, body_measurements), \
updated_at = clock_timestamp() AT TIME ZONE 'UTC' WHERE user_id = $1::text \
RETURNING user_id, email, first_name, last_name, preferences, body_measurements, created_at, updated_at), \
inserted AS (INSERT INTO user_profiles (user_id, email, preferences, body_measurements, created_at, updated_at) \
SELECT $1::text, $4::text, COALESCE($2::jsonb, '{}'), COALESCE($3::jsonb, '{}'), \
now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC' WHERE NOT EXISTS (SELECT 1 FROM updated) \
ON CONFLICT (user_id) DO UPDATE SET preferences = COALESCE($2::jsonb, user_profiles.preferences), \
body_measurements = COALESCE($3::jsonb, user_profiles.body_measurements) \
RETURNING user_id, email, first_name, last_name, preferences, body_measurements, created_at, updated_at) \
SELECT * FROM updated UNION ALL SELECT * FROM inserted";

/// Ends where the items get too large together ([`limits::ORDERS_BYTES_MAX`]):
/// else a user with a few large orders would have no list at all.
pub const ORDERS: &str = "SELECT order_id, user_id, items, total_amount, status, shipping_info, \
predicted_return_rate, stripe_payment_intent_id, payment_intent_id, created_at, updated_at \
FROM (SELECT *, row_number() OVER newest AS place, sum(octet_length(items::text)) OVER newest AS bytes \
FROM (SELECT * FROM orders WHERE user_id = $1::text \
ORDER BY created_at DESC, order_id DESC LIMIT $2::int) AS latest \
WINDOW newest AS (ORDER BY created_at DESC, order_id DESC)) AS measured \
WHERE place = 1 OR bytes <= 20971520 ORDER BY created_at DESC, order_id DESC";

/// An update that changes nothing, because `DO NOTHING` gives no row back, and
/// a `SELECT` beside it does not see what was committed since the statement began.
/// No row comes back when the id is that of an order with another content.
pub const PLACE_ORDER: &str = "INSERT INTO orders (order_id, user_id, items, \
total_amount, status, created_at, updated_at) VALUES ($1::text, $2::text, $3::jsonb, $4::numeric, \
$5::text, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC') \
ON CONFLICT (order_id) DO UPDATE SET order_id = EXCLUDED.order_id \
WHERE orders.user_id = EXCLUDED.user_id AND orders.items = EXCLUDED.items \
AND orders.total_amount = EXCLUDED.total_amount \
RETURNING order_id, user_id, items, total_amount, status, created_at";

/// Ends where the reasons get too long together ([`limits::REASONS_BYTES_MAX`]).
pub const RETURNS: &str = "SELECT return_id, order_id, product_id, user_id, reason, status, created_at \
FROM (SELECT *, row_number() OVER newest AS place, \
sum(coalesce(octet_length(reason), 0)) OVER newest AS bytes \
FROM (SELECT * FROM returns WHERE ($1::text IS NULL OR user_id = $1::text) \
AND ($2::text IS NULL OR product_id = $2::text) \
ORDER BY created_at DESC, return_id DESC LIMIT $3::int) AS latest \
WINDOW newest AS (ORDER BY created_at DESC, return_id DESC)) AS measured \
WHERE place = 1 OR bytes <= 4194304 ORDER BY created_at DESC, return_id DESC";

/// As [`PLACE_ORDER`].
pub const PLACE_RETURN: &str = "INSERT INTO returns (return_id, order_id, user_id, \
product_id, reason, created_at) VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, \
now() AT TIME ZONE 'UTC') ON CONFLICT (return_id) DO UPDATE SET return_id = EXCLUDED.return_id \
WHERE returns.order_id = EXCLUDED.order_id AND returns.user_id = EXCLUDED.user_id \
AND returns.product_id = EXCLUDED.product_id AND returns.reason = EXCLUDED.reason \
RETURNING return_id, order_id, user_id, product_id, reason, status, created_at";

/// The oldest changes that L2 has not been told of (`migrations/changes.sql`); at
/// most [`limits::CHANGES_AT_ONCE_MAX`].
pub const CHANGES: &str =
    "SELECT id, kind, subject FROM shepherd_edge_changes ORDER BY id LIMIT 500";

pub const CHANGES_TOLD: &str = "DELETE FROM shepherd_edge_changes WHERE id = ANY($1::bigint[])";

/// Runs one statement over a connection that was kept or a new one, and once
/// more over a new one when the connection broke before the answer.
///
/// # Errors
/// The caller's data is refused (4xx), or PostgreSQL is not set up, cannot be
/// reached, is too slow, or cannot serve.
pub async fn run<H: Host>(
    host: &H,
    isolate: &Isolate,
    statement: &Statement,
    deadline_ms: u64,
) -> Result<Rows, Error> {
    let reached = Rc::new(Cell::new(false));
    let outcome = {
        let attempts = async {
            let kept = host.kept().map(|kept| &kept.postgres);
            let kept = kept.and_then(|kept| kept.take(host.now_ms()));
            if let Some(link) = kept {
                match attempt(host, isolate, statement, &reached, Some(link)).await {
                    // Closed while it was idle, most likely: as if it had not been there.
                    Err(Error::Store(_, Fault::Unreachable(_))) => {}
                    outcome => return outcome,
                }
            }
            match attempt(host, isolate, statement, &reached, None).await {
                Err(Error::Store(_, Fault::Unreachable(_))) => {
                    if mutation::is(Mutation::IdForEachAttempt) {
                        let mut other = statement.clone();
                        if let Some(Some(id)) = other.parameters.first_mut() {
                            id.push('x');
                        }
                        return attempt(host, isolate, &other, &reached, None).await;
                    }
                    attempt(host, isolate, statement, &reached, None).await
                }
                outcome => outcome,
            }
        };
        match select(pin!(attempts), pin!(host.sleep(deadline_ms))).await {
            Either::Left((outcome, _)) => Some(outcome),
            Either::Right(_) => None,
        }
    };
    outcome.unwrap_or_else(|| {
        let fault = if reached.get() {
            Fault::Busy
        } else {
            Fault::TimedOut
        };
        Err(Error::Store(Store::Postgres, fault))
    })
}

async fn attempt<H: Host>(
    host: &H,
    isolate: &Isolate,
    statement: &Statement,
    reached: &Rc<Cell<bool>>,
    kept: Option<Link<H, Connection>>,
) -> Result<Rows, Error> {
    let postgres = isolate.settings.postgres()?;
    let failed = |fault| Error::Store(Store::Postgres, fault);
    let was_kept = kept.is_some();
    let link = match kept {
        Some(link) => link,
        None => {
            let scram = Scram {
                nonce: host.random(),
                nfkc: H::nfkc,
                remembered: Rc::clone(&isolate.remembered_keys),
            };
            let mut machine = Connection::new(postgres.login.clone(), scram);
            if host.kept().is_some() {
                machine = machine.preparing_statements();
            }
            Link::open(host, &postgres.address, tls(postgres), machine)
                .await
                .map_err(failed)?
        }
    };
    let mut guard = CancelOnDrop {
        host: host.clone(),
        settings: isolate.settings.clone(),
        link: None,
        reached: Rc::clone(reached),
    };
    let link = guard.link.insert(link);
    link.machine
        .submit(statement)
        .map_err(|_| Error::bad("a value is too long"))?;
    link.run(host).await.map_err(failed)?;
    let answer = link.machine.take_answer();
    match answer {
        Some(Err(error)) if error.is_fatal() || was_kept && is_of_session(&error) => Err(failed(
            Fault::Unreachable(format!("the server hung up: {error}")),
        )),
        Some(answer) => {
            if let (Some(kept), Some(link)) = (host.kept(), guard.link.take())
                && is_worth_keeping(&answer)
            {
                kept.postgres.give(link, host.now_ms());
            }
            answer.map_err(|error| judge(&error))
        }
        None => Err(failed(Fault::Unreachable(
            "the statement has no answer".to_owned(),
        ))),
    }
}

/// Whether a new session may do what an old one could not, and did not: a pooler
/// gave us another server without our prepared statements (26000, 42P05), the
/// table has changed since (0A000), or only the old session is read-only (25006).
fn is_of_session(error: &ServerError) -> bool {
    matches!(
        error.sqlstate.as_str(),
        "26000" | "42P05" | "0A000" | "25006"
    )
}

/// After an error that is not about the caller's data, a new connection finds
/// out whether it was about this one (a plan of a table that was changed since).
fn is_worth_keeping(answer: &Result<Rows, ServerError>) -> bool {
    answer.as_ref().map_or_else(
        |error| matches!(error.sqlstate.get(..2), Some("22" | "23")),
        |_| true,
    )
}

fn tls(postgres: &settings::Postgres) -> Tls {
    match postgres.login.ssl {
        SslMode::Disable | SslMode::Private => Tls::Off,
        SslMode::Require => Tls::Later { verify: false },
        SslMode::VerifyFull => Tls::Later { verify: true },
    }
}

/// Tells the server to stop when the deadline, or the caller, dropped us while
/// a statement ran (PostgreSQL, "Canceling Requests in Progress").
struct CancelOnDrop<H: Host> {
    host: H,
    settings: Settings,
    /// None once its statement has its answer.
    link: Option<Link<H, Connection>>,
    /// Set when the server had begun to work for us.
    reached: Rc<Cell<bool>>,
}

impl<H: Host> Drop for CancelOnDrop<H> {
    fn drop(&mut self) {
        let Some(link) = &self.link else { return };
        let (Some(request), true) = (link.machine.cancel_request(), link.machine.statement_sent())
        else {
            return;
        };
        self.reached.set(true);
        let (host, settings) = (self.host.clone(), self.settings.clone());
        self.host.defer(async move {
            let Ok(postgres) = settings.postgres() else {
                return;
            };
            let machine = Cancel::new(request, postgres.login.ssl);
            let exchange = async {
                let mut link = Link::open(&host, &postgres.address, tls(postgres), machine).await?;
                link.run(&host).await?;
                link.hung_up().await
            };
            let deadline = host.sleep(limits::CANCEL_DEADLINE_MS);
            if let Either::Left((Err(fault), _)) = select(pin!(exchange), pin!(deadline)).await {
                let error = Error::Store(Store::Postgres, fault);
                host.log(&format!(
                    "cannot cancel: {}",
                    error.for_operator().unwrap_or_default()
                ));
            }
        });
    }
}

/// The only unique column that is no key is the address of a user.
pub const ADDRESS_TAKEN: &str = "the user's synthetic address is taken";

/// Who is at fault, by SQLSTATE class (PostgreSQL, appendix "Error Codes").
fn judge(error: &ServerError) -> Error {
    let state = error.sqlstate.as_str();
    match state.get(..2) {
        _ if state == "23503" => Error::Conflict("unknown user or order"),
        _ if state == "23505" => Error::Conflict(ADDRESS_TAKEN),
        _ if state == "57014" => Error::Store(Store::Postgres, Fault::Busy),
        _ if state == "54001" => Error::bad("the JSON nests too deep"),
        Some("22" | "23") => Error::bad("a value does not fit its column"),
        _ if state == "42P01" => Error::Store(
            Store::Postgres,
            Fault::Unavailable(format!(
                "a table is missing ({}): make it with  cargo run -p sim -- migrate",
                error.message
            )),
        ),
        _ => Error::Store(
            Store::Postgres,
            Fault::Unavailable(format!("SQLSTATE {state}: {}", error.message)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_end_at_their_limits() {
        let ends = |sql: &str, bytes: usize| sql.contains(&format!("bytes <= {bytes} "));
        assert!(ends(ORDERS, limits::ORDERS_BYTES_MAX));
        assert!(ends(RETURNS, limits::REASONS_BYTES_MAX));
        let changes = format!("LIMIT {}", limits::CHANGES_AT_ONCE_MAX);
        assert!(CHANGES.ends_with(&changes));
    }
}
