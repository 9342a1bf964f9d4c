//! Changes that other programs make in PostgreSQL, told to L2.
//!
//! Triggers note each change in a table, the outbox (`migrations/changes.sql`). It
//! is looked through again and again; a change leaves it only after L2 was told,
//! so that none is lost. L2 is told of some twice, which costs a load more.
//!
//! Does not know by which keys copies go, nor when it is called.

use std::collections::BTreeSet;

use super::{Tiers, postgres, valkey};
use crate::error::Error;
use crate::host::Host;
use crate::mutation::{self, Mutation};
use crate::wire::pg::{Rows, Statement};
use crate::wire::resp::{Command, Reply};

/// What one change makes old in L2.
#[derive(Debug, PartialEq, Eq)]
pub enum MadeOld {
    Keys(Vec<String>),
    Family(&'static str),
}

impl<H: Host> Tiers<H> {
    /// Tells L2 of the oldest changes that it was not told of; how many there were.
    /// `made_old` knows what a change of that kind, of that subject, makes old.
    ///
    /// An answer that was on its way meanwhile is no exception: its load has lost
    /// its lease, and its copy in L1 is as old as any may become.
    ///
    /// # Errors
    /// A store cannot be asked. Nothing is lost by that.
    pub async fn tell_changes(
        &self,
        made_old: fn(&str, &str) -> Option<MadeOld>,
    ) -> Result<usize, Error> {
        let changes = self
            .query(&Statement {
                sql: postgres::CHANGES,
                parameters: Vec::new(),
            })
            .await?;
        if changes.is_empty() {
            return Ok(0);
        }
        let commands = self.commands(&changes, made_old);
        if !commands.is_empty() && !mutation::is(Mutation::ChangeIsNotTold) {
            let replies = self.ask(commands).await?;
            let is_done = |reply: &&Reply| matches!(reply, Reply::Integer(_));
            if let Some(refusal) = replies.iter().find(|reply| !is_done(reply)) {
                return Err(valkey::refused(refusal));
            }
        }
        let ids: Vec<&str> = (0..changes.len())
            .filter_map(|row| changes.text(row, 0))
            .collect();
        self.query(&Statement {
            sql: postgres::CHANGES_TOLD,
            parameters: vec![Some(format!("{{{}}}", ids.join(",")))],
        })
        .await?;
        Ok(changes.len())
    }

    /// What tells L2 of these rows of the outbox, in one flight.
    fn commands(
        &self,
        changes: &Rows,
        made_old: fn(&str, &str) -> Option<MadeOld>,
    ) -> Vec<Command> {
        let (mut keys, mut families) = (BTreeSet::new(), BTreeSet::new());
        for row in 0..changes.len() {
            let (kind, subject) = (changes.text(row, 1), changes.text(row, 2));
            match made_old(kind.unwrap_or_default(), subject.unwrap_or_default()) {
                Some(MadeOld::Keys(more)) => keys.extend(more),
                Some(MadeOld::Family(family)) => _ = families.insert(family),
                None => {}
            }
        }
        let keys: Vec<String> = keys.into_iter().collect();
        let of_keys = (!keys.is_empty()).then(|| valkey::release(&keys, &self.token()));
        let of_families = families.into_iter().map(valkey::outdate);
        of_keys.into_iter().chain(of_families).collect()
    }
}
