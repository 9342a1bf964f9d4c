//! The account that PostgreSQL runs under when we are root, which it refuses.
//!
//! Knows accounts and permissions. Does not know PostgreSQL.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Accounts that exist on a Debian machine, the better one first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];
/// `nobody` and `nogroup`, where no file of accounts says so.
const NOBODY: u32 = 65534;

/// An ordinary account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account to change to; none when we are an ordinary user ourselves.
    pub fn to_drop_to() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(
            CANDIDATES
                .iter()
                .find_map(|name| Self::named(&accounts, name))
                .unwrap_or(Self {
                    uid: NOBODY,
                    gid: NOBODY,
                }),
        )
    }

    fn named(accounts: &str, name: &str) -> Option<Self> {
        accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            (uid != 0).then_some(Self { uid, gid })
        })
    }

    /// Whether the account may go through every directory down to `path`.
    pub fn can_enter(&self, path: &Path) -> bool {
        path.ancestors().all(|directory| {
            fs::metadata(directory).is_ok_and(|found| {
                let bit = if found.uid() == self.uid {
                    0o100
                } else if found.gid() == self.gid {
                    0o010
                } else {
                    0o001
                };
                found.mode() & bit != 0
            })
        })
    }

    /// Gives a file or an empty directory to the account.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn give(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid)).with_context(|| {
            format!(
                "cannot give {} to the account that PostgreSQL runs under",
                path.display()
            )
        })
    }

    /// Makes a command run under the account, without our groups.
    pub fn run(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533::/:/bin/false\n";

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        assert_eq!(
            Account::named(ACCOUNTS, "nobody"),
            Some(Account {
                uid: 65534,
                gid: 65533
            })
        );
        assert_eq!(Account::named(ACCOUNTS, "nob"), None);
        assert_eq!(Account::named(ACCOUNTS, "root"), None);
    }
}
