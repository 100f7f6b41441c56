//! The private key of a CA: its text as it lies in the file, wiped when it is let go.

use std::path::Path;

use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::store::{self, Mode};
use super::{CertError, Flaw};

/// The labels of keys that istiod reads, which looks at the first block of the file alone.
const LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// A CA's private key in PEM. It is never printed, not by `Debug` either.
#[derive(Clone, PartialEq, Eq)]
pub struct CaKey(Zeroizing<String>);

impl std::fmt::Debug for CaKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("CaKey").finish_non_exhaustive()
    }
}

impl CaKey {
    /// A key by its text.
    pub(super) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Reads a key's file; whether it is a key shows when it is used.
    pub fn read(path: &Path) -> Result<Self, CertError> {
        store::read(path).map(Self::new)
    }

    /// Writes it to a file that is not there, for its owner alone.
    pub(super) fn write(&self, path: &Path) -> Result<(), CertError> {
        store::create(path, &self.0, Mode::Private)
    }

    /// The text, for where only its owner reads it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The key, ready to sign; `path` is where it was read.
    pub(super) fn pair(&self, path: &Path) -> Result<KeyPair, CertError> {
        if self.0.contains("ENCRYPTED") {
            return Err(CertError::Encrypted { path: path.to_owned() });
        }
        let not_one = |source| CertError::NotAKey { path: path.to_owned(), source };
        let unread = || not_one(rcgen::Error::CouldNotParseKeyPair);
        let key = PrivateKeyDer::from_pem_slice(self.0.as_bytes()).map_err(|_cause| unread())?;
        // The label says how the key is written; openssl and istiod believe it, so it must be so.
        let written = PrivateKeyDer::try_from(key.secret_der()).map_err(|_cause| unread())?;
        if std::mem::discriminant(&key) != std::mem::discriminant(&written) {
            return Err(unread());
        }
        KeyPair::try_from(key.secret_der()).map_err(not_one)
    }

    /// The same, where the key must belong to a certificate.
    pub(super) fn pair_of(&self, spki: &[u8], path: &Path, certificate: &Path) -> Result<KeyPair, CertError> {
        let pair = self.pair(path)?;
        if pair.subject_public_key_info() == spki {
            return Ok(pair);
        }
        Err(CertError::KeyMismatch { certificate: certificate.to_owned(), key: path.to_owned() })
    }

    /// Whether istiod can read it: it takes the first block of the file, whatever that is.
    pub(super) fn is_as_istiod_reads(&self) -> Result<(), Flaw> {
        let first = self.0.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----"));
        if first.is_some_and(|(label, _)| LABELS.contains(&label)) { Ok(()) } else { Err(Flaw::KeyForm) }
    }
}
