//! The hierarchy on disk, in the layout of Istio's `cacerts`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PublicKeyData};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::{Pem, parse_x509_pem};

use super::{CertError, Intermediate, KeyKind, Root, Validity};

/// A root and an intermediate per cluster, in a directory.
///
/// `root-cert.pem` and `root-key.pem` lie on top; each cluster has a directory with the four files that become
/// its `cacerts` Secret: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and `cert-chain.pem`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    dir: PathBuf,
}

/// What new authorities are made of; `Default` is what Istio's own tool makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The kind of key of the root and of the intermediates.
    pub key: KeyKind,
    /// How long the root holds.
    pub root_lifetime: Duration,
    /// How long an intermediate holds.
    pub intermediate_lifetime: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let ten_years = Duration::days(3650);
        Self { key: KeyKind::Rsa4096, root_lifetime: ten_years, intermediate_lifetime: ten_years }
    }
}

/// What [`Hierarchy::ensure`] made and what it left as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The root is new.
    pub root_made: bool,
    /// Clusters whose intermediate is new.
    pub made: Vec<String>,
    /// Clusters that had one.
    pub kept: Vec<String>,
}

impl Hierarchy {
    /// The hierarchy in `dir`, which need not exist yet.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes what is missing and keeps what is there; the second call changes no byte.
    pub fn ensure(
        &self,
        clusters: &[&str],
        options: Options,
        now: OffsetDateTime,
    ) -> Result<Report, CertError> {
        clusters.iter().try_for_each(|name| check_name(name))?;
        make_dir(&self.dir)?;
        let (root, root_made) = self.ensure_root(options, now)?;
        let mut report = Report { root_made, ..Report::default() };
        for &cluster in clusters {
            let to = match self.ensure_intermediate(&root, cluster, options, now)? {
                true => &mut report.made,
                false => &mut report.kept,
            };
            to.push(cluster.to_owned());
        }
        Ok(report)
    }

    /// Reads the root.
    pub fn root(&self) -> Result<Root, CertError> {
        let pair = self.root_pair();
        let (certificate, key) = pair.read()?;
        Root::load(certificate, key).map_err(|_source| CertError::NotACertificate { path: pair.certificate })
    }

    /// Reads the intermediate of one cluster, and checks that it belongs to this root.
    pub fn intermediate(&self, cluster: &str) -> Result<Intermediate, CertError> {
        check_name(cluster)?;
        let pair = self.cluster_pair(cluster);
        let (certificate, key) = pair.read()?;
        let root_path = self.root_certificate();
        let root = read(&root_path)?;
        check_issuer(&certificate, &pair.certificate, &root, &root_path)?;
        Intermediate::load(certificate, key, root)
            .map_err(|_source| CertError::NotACertificate { path: pair.certificate })
    }

    /// The trust anchor every proxy is given.
    #[must_use]
    pub fn root_certificate(&self) -> PathBuf {
        self.dir.join("root-cert.pem")
    }

    fn ensure_root(&self, options: Options, now: OffsetDateTime) -> Result<(Root, bool), CertError> {
        let pair = self.root_pair();
        if pair.exists()? {
            return Ok((self.root()?, false));
        }
        let root = Root::generate(options.key, Validity::from(now, options.root_lifetime))?;
        write_key(&pair.key, &root.key())?;
        write(&pair.certificate, root.certificate())?;
        Ok((root, true))
    }

    fn ensure_intermediate(
        &self,
        root: &Root,
        cluster: &str,
        options: Options,
        now: OffsetDateTime,
    ) -> Result<bool, CertError> {
        let pair = self.cluster_pair(cluster);
        let dir = self.dir.join(cluster);
        make_dir(&dir)?;
        let missing = !pair.exists()?;
        let intermediate = if missing {
            let validity = Validity::from(now, options.intermediate_lifetime);
            let made = root.intermediate(cluster, options.key, validity)?;
            write_key(&pair.key, &made.key())?;
            write(&pair.certificate, made.certificate())?;
            made
        } else {
            self.intermediate(cluster)?
        };
        // The other two follow from what is there, so a run that was cut short is completed.
        write_if_missing(&dir.join("root-cert.pem"), root.certificate())?;
        write_if_missing(&dir.join("cert-chain.pem"), &intermediate.chain())?;
        Ok(missing)
    }

    fn root_pair(&self) -> Pair {
        Pair { certificate: self.root_certificate(), key: self.dir.join("root-key.pem") }
    }

    fn cluster_pair(&self, cluster: &str) -> Pair {
        let dir = self.dir.join(cluster);
        Pair { certificate: dir.join("ca-cert.pem"), key: dir.join("ca-key.pem") }
    }
}

/// A certificate and its key, as files.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn exists(&self) -> Result<bool, CertError> {
        let is_there = |path: &Path| {
            path.try_exists().map_err(|source| CertError::Read { path: path.to_owned(), source })
        };
        match (is_there(&self.certificate)?, is_there(&self.key)?) {
            (true, true) => Ok(true),
            (false, false) => Ok(false),
            (true, false) => {
                Err(CertError::Incomplete { present: self.certificate.clone(), missing: self.key.clone() })
            }
            (false, true) => {
                Err(CertError::Incomplete { present: self.key.clone(), missing: self.certificate.clone() })
            }
        }
    }

    fn read(&self) -> Result<(String, KeyPair), CertError> {
        let certificate = read(&self.certificate)?;
        let key = KeyPair::from_pem(&read(&self.key)?)
            .map_err(|source| CertError::NotAKey { path: self.key.clone(), source })?;
        let pem = decode(&certificate, &self.certificate)?;
        let parsed = parse(&pem, &self.certificate)?;
        if parsed.public_key().raw == key.subject_public_key_info() {
            Ok((certificate, key))
        } else {
            Err(CertError::KeyMismatch { certificate: self.certificate.clone(), key: self.key.clone() })
        }
    }
}

fn check_issuer(child: &str, child_path: &Path, root: &str, root_path: &Path) -> Result<(), CertError> {
    let (child_pem, root_pem) = (decode(child, child_path)?, decode(root, root_path)?);
    let (child, root) = (parse(&child_pem, child_path)?, parse(&root_pem, root_path)?);
    child.verify_signature(Some(root.public_key())).map_err(|_source| CertError::ForeignIssuer {
        certificate: child_path.to_owned(),
        root: root_path.to_owned(),
    })
}

fn decode(text: &str, path: &Path) -> Result<Pem, CertError> {
    let (_rest, pem) = parse_x509_pem(text.as_bytes())
        .map_err(|_source| CertError::NotACertificate { path: path.to_owned() })?;
    Ok(pem)
}

fn parse<'p>(pem: &'p Pem, path: &Path) -> Result<x509_parser::certificate::X509Certificate<'p>, CertError> {
    pem.parse_x509().map_err(|_source| CertError::NotACertificate { path: path.to_owned() })
}

/// A cluster name becomes a directory and the subject of its intermediate: a DNS label, so it cannot climb out.
fn check_name(name: &str) -> Result<(), CertError> {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let good = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good { Ok(()) } else { Err(CertError::ClusterName { name: name.to_owned() }) }
}

pub(super) fn make_dir(dir: &Path) -> Result<(), CertError> {
    fs::create_dir_all(dir).map_err(|source| CertError::Write { path: dir.to_owned(), source })
}

pub(super) fn read(path: &Path) -> Result<String, CertError> {
    fs::read_to_string(path).map_err(|source| CertError::Read { path: path.to_owned(), source })
}

fn write_if_missing(path: &Path, content: &str) -> Result<(), CertError> {
    if path.exists() { Ok(()) } else { write(path, content) }
}

fn write(path: &Path, content: &str) -> Result<(), CertError> {
    store(path, content, 0o644).map_err(|source| CertError::Write { path: path.to_owned(), source })
}

pub(super) fn write_key(path: &Path, content: &str) -> Result<(), CertError> {
    store(path, content, 0o600).map_err(|source| CertError::Write { path: path.to_owned(), source })
}

/// Writes beside the target, then links into place: readers see all or nothing, and nothing is ever overwritten.
fn store(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new().permissions(fs::Permissions::from_mode(mode)).tempfile_in(dir)?;
    file.write_all(content.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests;
