//! Files of certificates and keys: whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use super::CertError;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Anybody: certificates.
    Public = 0o644,
    /// Its owner: keys, and what holds them.
    Private = 0o600,
}

pub(super) fn make_dir(dir: &Path) -> Result<(), CertError> {
    fs::create_dir_all(dir).map_err(|source| CertError::Write { path: dir.to_owned(), source })
}

/// A directory that holds keys: one that is made here is its owner's alone.
pub(super) fn make_private_dir(dir: &Path) -> Result<(), CertError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| CertError::Write { path: dir.to_owned(), source })
}

pub(super) fn read(path: &Path) -> Result<String, CertError> {
    fs::read_to_string(path).map_err(|source| CertError::Read { path: path.to_owned(), source })
}

pub(super) fn is_there(path: &Path) -> Result<bool, CertError> {
    path.try_exists().map_err(|source| CertError::Read { path: path.to_owned(), source })
}

/// Whether somebody other than its owner may read a file.
pub(super) fn others_may_read(path: &Path) -> Result<bool, CertError> {
    let found = fs::metadata(path).map_err(|source| CertError::Read { path: path.to_owned(), source })?;
    Ok(found.permissions().mode() & 0o077 != 0)
}

pub(super) fn write(path: &Path, content: &str) -> Result<(), CertError> {
    create(path, content, Mode::Public)
}

pub(super) fn write_key(path: &Path, content: &str) -> Result<(), CertError> {
    create(path, content, Mode::Private)
}

/// Writes beside the target, then links into place: readers see all or nothing, and nothing is ever overwritten.
pub(super) fn create(path: &Path, content: &str, mode: Mode) -> Result<(), CertError> {
    let write = || -> io::Result<()> {
        beside(path, content, mode)?.persist_noclobber(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| CertError::Write { path: path.to_owned(), source })
}

/// The same over a file that may be there: readers see the old one or the new one.
pub(super) fn replace(path: &Path, content: &str, mode: Mode) -> Result<(), CertError> {
    let write = || -> io::Result<()> {
        beside(path, content, mode)?.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| CertError::Write { path: path.to_owned(), source })
}

fn beside(path: &Path, content: &str, mode: Mode) -> io::Result<tempfile::NamedTempFile> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let permissions = fs::Permissions::from_mode(mode as u32);
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(dir)?;
    file.write_all(content.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Moves a file or directory to a name that is free.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), CertError> {
    fs::rename(from, to).map_err(|source| CertError::Write { path: to.to_owned(), source })
}

/// Removes a directory and what is in it.
pub(super) fn remove_dir(dir: &Path) -> Result<(), CertError> {
    fs::remove_dir_all(dir).map_err(|source| CertError::Write { path: dir.to_owned(), source })
}
