//! Where the stores keep their data, their logs and their password.
//!
//! One directory per pair of stores, either temporary or kept; locked while in
//! use, so that two runs cannot share it. Knows nothing of what is stored.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::account::Account;

/// Where the data of a pair of stores goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Into a temporary directory that ends with the stores, written without
    /// care for a crash.
    ThrowAway,
    /// Into this directory, to be found there again.
    Keep(PathBuf),
}

/// A locked directory for one pair of stores.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    password: String,
    /// The directory that was asked for, when PostgreSQL's account could not enter it.
    pub moved_from: Option<PathBuf>,
    pub durable: bool,
    // Both are held for what their end does.
    _lock: File,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    /// Opens, or makes, the directory.
    ///
    /// # Errors
    /// It cannot be made or entered, or another run uses it.
    pub fn open(data: &Data, account: Option<&Account>) -> Result<Self> {
        let (directory, temporary, moved_from) = match data {
            Data::ThrowAway => {
                let made = temporary(account)?;
                (made.path().to_owned(), Some(made), None)
            }
            Data::Keep(wanted) => {
                let (directory, moved) = kept(wanted, account)?;
                (directory, None, moved.then(|| wanted.clone()))
            }
        };
        let lock = lock(&directory)?;
        Ok(Self {
            password: password(&directory)?,
            durable: temporary.is_none(),
            directory,
            moved_from,
            _lock: lock,
            _temporary: temporary,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The stores' password: random, and only in this directory.
    pub fn password(&self) -> &str {
        &self.password
    }
}

fn temporary(account: Option<&Account>) -> Result<tempfile::TempDir> {
    let mut parent = std::env::temp_dir();
    if account.is_some_and(|account| !account.can_enter(&parent)) {
        parent = PathBuf::from("/tmp");
    }
    let made = tempfile::Builder::new()
        .prefix("shepherd-edge-")
        .tempdir_in(&parent)
        .with_context(|| {
            format!(
                "cannot make a directory for the stores in {}",
                parent.display()
            )
        })?;
    if account.is_some() {
        fs::set_permissions(made.path(), fs::Permissions::from_mode(0o711))?;
    }
    Ok(made)
}

/// The directory itself or, where PostgreSQL's account may not enter it (a
/// checkout below `/root`), one of the same meaning below `/var/tmp`.
fn kept(wanted: &Path, account: Option<&Account>) -> Result<(PathBuf, bool)> {
    let cannot = || format!("cannot use {} for the stores' data", wanted.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(wanted)
        .with_context(cannot)?;
    let wanted = wanted.canonicalize().with_context(cannot)?;
    if account.is_none_or(|account| account.can_enter(&wanted)) {
        return Ok((wanted, false));
    }
    let elsewhere = beside("data", &wanted);
    make_own(&elsewhere)?;
    Ok((elsewhere, true))
}

/// A path below `/var/tmp` that belongs to `path` and to no other.
pub(super) fn beside(kind: &str, path: &Path) -> PathBuf {
    // FNV-1a: stable between runs, and nobody chooses paths to collide.
    let hash = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    PathBuf::from(format!("/var/tmp/shepherd-edge-{kind}-{hash:016x}"))
}

/// Makes a directory in a place where anybody may have made it before us.
fn make_own(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        DirBuilder::new()
            .mode(0o711)
            .create(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
    }
    ensure_ours(path)
}

/// Makes sure that a directory in `/var/tmp` was made by us.
pub(super) fn ensure_ours(path: &Path) -> Result<()> {
    let found = fs::symlink_metadata(path)?;
    ensure!(
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw(),
        "{} exists and is not ours: remove it",
        path.display()
    );
    Ok(())
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| {
            format!("cannot open {}: was it made by another account? Remove the directory, or give one of your own", path.display())
        })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            file.read_to_string(&mut owner)?;
            bail!(
                "the data in {} is in use by another run (process {}): stop that one first",
                directory.display(),
                owner.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(anyhow!(error).context(format!("cannot lock {}", path.display())));
        }
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn password(directory: &Path) -> Result<String> {
    let path = directory.join("password");
    if let Ok(kept) = fs::read_to_string(&path)
        && kept.trim().len() >= 32
    {
        return Ok(kept.trim().to_owned());
    }
    let mut random = [0; 24];
    getrandom::fill(&mut random).context("the system gives no random bytes for a password")?;
    let mut made = String::new();
    for byte in random {
        write!(made, "{byte:02x}")?;
    }
    write_secret(&path, &made)?;
    Ok(made)
}

/// Writes a file that only we may read.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        // `mode` counts only when the file is new.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_place_keeps_its_password_and_is_used_by_one_run_at_a_time() -> Result<()> {
        let parent = tempfile::tempdir()?;
        let data = Data::Keep(parent.path().join("data"));
        let first = Place::open(&data, None)?;
        let password = first.password().to_owned();
        let refused = Place::open(&data, None)
            .map(|_| ())
            .map_err(|error| error.to_string());
        assert!(refused.is_err_and(|error| error.contains("in use by another run")));
        drop(first);
        assert_eq!(Place::open(&data, None)?.password(), password);
        let mode = fs::metadata(parent.path().join("data/password"))?
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        Ok(())
    }
}
