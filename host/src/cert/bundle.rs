//! What istiod of one cluster is given: a CA certificate, its key, the roots to trust, and the chain to show.

use std::path::Path;

use super::certificate::Certificate;
use super::layout::{CERTIFICATE, CHAIN, KEY, ROOT};
use super::store;
use super::{CaKey, CertError};

/// The four files of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    certificate: String,
    key: CaKey,
    root: String,
    chain: String,
}

impl Bundle {
    /// A bundle of its parts, in PEM.
    #[must_use]
    pub fn new(certificate: String, key: CaKey, root: String, chain: String) -> Self {
        Self { certificate, key, root, chain }
    }

    /// Reads the four files of a directory.
    pub fn read(dir: &Path) -> Result<Self, CertError> {
        let text = |name: &str| store::read(&dir.join(name));
        let key = CaKey::read(&dir.join(KEY))?;
        Ok(Self { certificate: text(CERTIFICATE)?, key, root: text(ROOT)?, chain: text(CHAIN)? })
    }

    /// Writes the four files into a directory, none of which is there.
    pub(super) fn write(&self, dir: &Path) -> Result<(), CertError> {
        store::make_dir(dir)?;
        self.key.write(&dir.join(KEY))?;
        store::write(&dir.join(CERTIFICATE), &self.certificate)?;
        store::write(&dir.join(ROOT), &self.root)?;
        store::write(&dir.join(CHAIN), &self.chain)
    }

    /// The same with other roots to trust.
    #[must_use]
    pub(super) fn trusting(mut self, root: String) -> Self {
        self.root = root;
        self
    }

    pub(super) fn key(&self) -> &CaKey {
        &self.key
    }

    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(super) fn chain(&self) -> &str {
        &self.chain
    }

    /// The roots that it trusts, in PEM.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The certificate that signs the cluster's workloads.
    pub fn signer(&self) -> Result<Certificate, CertError> {
        Certificate::read(&self.certificate, Path::new(CERTIFICATE))
    }

    /// What a workload shows beside its own certificate.
    pub fn presented(&self) -> Result<Vec<Certificate>, CertError> {
        Certificate::read_all(&self.chain, Path::new(CHAIN))
    }

    /// The roots that it trusts.
    pub fn anchors(&self) -> Result<Vec<Certificate>, CertError> {
        Certificate::read_all(&self.root, Path::new(ROOT))
    }
}
