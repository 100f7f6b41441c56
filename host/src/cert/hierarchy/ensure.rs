//! Makes what a hierarchy lacks.

use std::path::Path;

use time::{Duration, OffsetDateTime};

use super::{Hierarchy, both, bundle_of, check_name, read_root, signer};
use crate::cert::layout::{CERTIFICATE, CHAIN, KEY, ROOT};
use crate::cert::store::{self, is_there};
use crate::cert::{Bundle, CaKey, CertError, Certificate, KeyKind, Root, Validity};

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

/// A root that was made elsewhere. Its certificate is copied into the hierarchy, its key never is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RootFiles<'p> {
    /// Its certificate.
    pub certificate: Option<&'p Path>,
    /// Its key, needed only while something is signed.
    pub key: Option<&'p Path>,
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
    /// Makes what is missing and keeps what is there; the second call changes no byte.
    pub fn ensure(
        &self,
        clusters: &[&str],
        options: Options,
        now: OffsetDateTime,
    ) -> Result<Report, CertError> {
        self.ensure_under(RootFiles::default(), clusters, options, now)
    }

    /// The same below a root that was made elsewhere.
    pub fn ensure_under(
        &self,
        root: RootFiles<'_>,
        clusters: &[&str],
        options: Options,
        now: OffsetDateTime,
    ) -> Result<Report, CertError> {
        clusters.iter().try_for_each(|name| check_name(name))?;
        self.check_key_to_come(root, clusters)?;
        store::make_dir(&self.root)?;
        let root_made = match root.certificate {
            Some(path) => self.adopt(path, root.key, now)?,
            None => self.ensure_root(clusters, options, now)?,
        };
        let mut report = Report { root_made, ..Report::default() };
        for &cluster in clusters {
            let to = match self.ensure_intermediate(root.key, cluster, options, now)? {
                true => &mut report.made,
                false => &mut report.kept,
            };
            to.push(cluster.to_owned());
        }
        Ok(report)
    }

    /// A root that is taken without its key can sign nothing: that is told before it is taken, as another could not be
    /// named after it.
    fn check_key_to_come(&self, root: RootFiles<'_>, clusters: &[&str]) -> Result<(), CertError> {
        let path = self.root_key();
        if root.certificate.is_none() || root.key.is_some() || is_there(&path)? {
            return Ok(());
        }
        for cluster in clusters {
            if !is_there(&self.certificate(cluster))? {
                return Err(CertError::NoRootKey { path });
            }
        }
        Ok(())
    }

    /// Takes the certificate of a root that was made elsewhere, if it is one that can sign intermediates; whether it is new.
    fn adopt(&self, path: &Path, key: Option<&Path>, now: OffsetDateTime) -> Result<bool, CertError> {
        let root = read_root(path, now)?;
        if let Some(key) = key {
            CaKey::read(key)?.pair_of(&root.spki, key, path)?;
        }
        let own = self.root_certificate();
        if !is_there(&own)? {
            store::write(&own, root.text())?;
            return Ok(true);
        }
        if Certificate::read(&store::read(&own)?, &own)?.der() == root.der() {
            return Ok(false);
        }
        Err(CertError::OtherRoot { path: own })
    }

    /// Whether the root is new.
    fn ensure_root(
        &self,
        clusters: &[&str],
        options: Options,
        now: OffsetDateTime,
    ) -> Result<bool, CertError> {
        let (certificate, key) = (self.root_certificate(), self.root_key());
        if is_there(&certificate)? {
            if is_there(&key)? {
                self.root()?; // so that a foreign key is told before anything is signed
            }
            return Ok(false);
        }
        let theirs = clusters.iter().map(|cluster| self.certificate(cluster));
        for present in std::iter::once(key.clone()).chain(theirs) {
            if is_there(&present)? {
                return Err(CertError::Incomplete { present, missing: certificate });
            }
        }
        let root = Root::generate(options.key, Validity::from(now, options.root_lifetime))?;
        root.key().write(&key)?;
        store::write(&certificate, root.certificate())?;
        Ok(true)
    }

    /// Whether the intermediate of a cluster is new.
    fn ensure_intermediate(
        &self,
        root_key: Option<&Path>,
        cluster: &str,
        options: Options,
        now: OffsetDateTime,
    ) -> Result<bool, CertError> {
        self.check_whole(cluster)?;
        let dir = self.cluster(cluster);
        match (both(&dir.join(CERTIFICATE), &dir.join(KEY))?, self.in_rotation()?) {
            (true, true) => self.bundle(cluster)?.check(&dir, now).map(|()| false),
            (true, false) => self.complete(cluster, now).map(|()| false),
            (false, true) => Err(CertError::InRotation { cluster: cluster.to_owned() }),
            (false, false) => self.make_intermediate(root_key, cluster, options, now).map(|()| true),
        }
    }

    fn make_intermediate(
        &self,
        root_key: Option<&Path>,
        cluster: &str,
        options: Options,
        now: OffsetDateTime,
    ) -> Result<(), CertError> {
        let dir = self.cluster(cluster);
        for stray in [ROOT, CHAIN].map(|name| dir.join(name)) {
            if is_there(&stray)? {
                return Err(CertError::Incomplete { present: stray, missing: dir.join(CERTIFICATE) });
            }
        }
        let root = signer(&self.root_certificate(), root_key.unwrap_or(&self.root_key()))?;
        let made =
            root.intermediate(cluster, options.key, Validity::from(now, options.intermediate_lifetime))?;
        let bundle = bundle_of(&made, root.certificate());
        bundle.check(&dir, now)?;
        bundle.write(&dir)
    }

    /// The other two files follow from what is there, so a run that was cut short is completed.
    fn complete(&self, cluster: &str, now: OffsetDateTime) -> Result<(), CertError> {
        let dir = self.cluster(cluster);
        let path = dir.join(CERTIFICATE);
        let own = Certificate::read(&store::read(&path)?, &path)?;
        let root = Certificate::read(&store::read(&self.root_certificate())?, &self.root_certificate())?;
        let key = dir.join(KEY);
        CaKey::read(&key)?.pair_of(&own.spki, &key, &path)?;
        if !own.is_signed_by(&root) {
            return Err(CertError::ForeignIssuer { certificate: path, root: self.root_certificate() });
        }
        let chain = format!("{}{}", own.text(), root.text());
        for (name, content) in [(ROOT, root.text()), (CHAIN, &chain)] {
            if !is_there(&dir.join(name))? {
                store::write(&dir.join(name), content)?;
            }
        }
        Bundle::read(&dir)?.check(&dir, now)
    }
}
