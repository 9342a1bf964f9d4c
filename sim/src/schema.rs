//! The tables of the API: made where they are missing, looked for where they
//! are somebody else's.

use anyhow::{Context, Result, ensure};

use crate::database::Database;

/// A migration, by its name. Each may run again at any time.
type Migration = (&'static str, &'static str);

/// In order of application.
const MIGRATIONS: [Migration; 1] = [(
    "0001_schema.sql",
    include_str!("../../edge/migrations/0001_schema.sql"),
)];

/// The one that is applied only on demand.
const CHANGES: Migration = (
    "changes.sql",
    include_str!("../../edge/migrations/changes.sql"),
);

const TABLES: [&str; 4] = ["catalog", "user_profiles", "orders", "returns"];

/// Applies every migration.
///
/// # Errors
/// The database refuses one.
pub async fn apply(database: &Database) -> Result<()> {
    for migration in MIGRATIONS {
        migrate(database, migration).await?;
    }
    Ok(())
}

/// Lets the database note each change of the tables, for the edge.
///
/// # Errors
/// The database refuses it.
pub async fn note_changes(database: &Database) -> Result<()> {
    migrate(database, CHANGES).await
}

async fn migrate(database: &Database, (name, sql): Migration) -> Result<()> {
    database
        .client
        .batch_execute(sql)
        .await
        .with_context(|| format!("the database refuses the migration {name}"))
}

/// Looks whether the tables are there, without writing.
///
/// # Errors
/// Some are missing.
pub async fn check(database: &Database) -> Result<()> {
    let missing: Vec<String> = database
        .client
        .query(
            "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NULL",
            &[&TABLES.as_slice()],
        )
        .await
        .context("the database cannot say which tables it has")?
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    ensure!(
        missing.is_empty(),
        "DATABASE_URL: the database has no table {}: make them with  cargo run -p sim -- migrate  (it reads DATABASE_URL too)",
        missing.join(", ")
    );
    Ok(())
}
