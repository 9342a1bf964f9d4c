//! The tables of the API: made where they are missing, looked for where they
//! are somebody else's.

use anyhow::{Context, Result, ensure};

use crate::database::Database;

/// In order of application; each may run again at any time.
const MIGRATIONS: [(&str, &str); 1] = [(
    "0001_schema.sql",
    include_str!("../../edge/migrations/0001_schema.sql"),
)];

const TABLES: [&str; 4] = ["catalog", "user_profiles", "orders", "returns"];

/// Applies every migration.
///
/// # Errors
/// The database refuses one.
pub async fn apply(database: &Database) -> Result<()> {
    for (name, sql) in MIGRATIONS {
        database
            .client
            .batch_execute(sql)
            .await
            .with_context(|| format!("the database refuses the migration {name}"))?;
    }
    Ok(())
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
