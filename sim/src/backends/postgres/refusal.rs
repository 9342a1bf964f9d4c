//! What the server says instead of an answer.
//!
//! The codes are those of the appendix "PostgreSQL Error Codes", the words
//! those of PostgreSQL 15 where a log may show them.

use std::fmt::Display;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub sqlstate: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
        }
    }

    pub fn syntax(type_name: &str, text: impl Display) -> Self {
        let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
        Self::new("22P02", message)
    }

    pub fn numeric_overflow() -> Self {
        Self::new("22003", "value overflows numeric format")
    }

    pub fn null(table: &str, column: &str) -> Self {
        Self::new(
            "23502",
            format!(
                "null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"
            ),
        )
    }

    pub fn unknown_reference(table: &str, column: &str) -> Self {
        Self::new(
            "23503",
            format!(
                "insert or update on table \"{table}\" violates foreign key constraint \"{table}_{column}_fkey\""
            ),
        )
    }

    pub fn no_outbox() -> Self {
        let message = "relation \"shepherd_edge_changes\" does not exist";
        Self::new("42P01", message)
    }

    pub fn duplicate(constraint: &str) -> Self {
        let message = format!("duplicate key value violates unique constraint \"{constraint}\"");
        Self::new("23505", message)
    }
}
