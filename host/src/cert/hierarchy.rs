//! The hierarchy on disk, in the layout of Istio's `cacerts`.

use std::path::{Path, PathBuf};

use policy::name::RootName;
use time::{Duration, OffsetDateTime};

use super::store::{self, is_there};
use super::trust::check_dates;
use super::{Bundle, CaKey, CertError, Certificate, Flaw, Intermediate, KeyKind, Root, Validity};

/// A root and an intermediate per cluster, in a directory.
///
/// `root-cert.pem` and `root-key.pem` lie on top; each cluster has a directory with the four files that become
/// its `cacerts` Secret: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and `cert-chain.pem`. What a change makes or
/// keeps lies beside, under names that no cluster has: `CLUSTER.new`, `CLUSTER.old`, `root.new`, `root.old`. Where
/// meshes are federated, another root lies in `NAME.root`, and the clusters below it beside the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    dir: PathBuf,
    root: PathBuf,
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
    /// The hierarchy in `dir`, which need not exist yet.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { root: dir.clone(), dir }
    }

    /// The hierarchy in `dir` below the root of another mesh, by the name of that root.
    #[must_use]
    pub fn of_root(dir: impl Into<PathBuf>, name: &RootName) -> Self {
        let dir = dir.into();
        Self { root: dir.join(format!("{name}.root")), dir }
    }

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
            if !is_there(&self.cluster(cluster).join("ca-cert.pem"))? {
                return Err(CertError::NoRootKey { path });
            }
        }
        Ok(())
    }

    /// Reads the root, which must have its key beside it.
    pub fn root(&self) -> Result<Root, CertError> {
        signer(&self.root_certificate(), &self.root_key())
    }

    /// Reads the intermediate of one cluster, and checks that it belongs to this root.
    pub fn intermediate(&self, cluster: &str) -> Result<Intermediate, CertError> {
        let bundle = self.bundle(cluster)?;
        let path = self.cluster(cluster).join("ca-cert.pem");
        let signer = bundle.signer()?;
        let root = Certificate::read(&store::read(&self.root_certificate())?, &self.root_certificate())?;
        if !signer.is_signed_by(&root) {
            return Err(CertError::ForeignIssuer { certificate: path, root: self.root_certificate() });
        }
        let key = self.cluster(cluster).join("ca-key.pem");
        let pair = bundle.key().pair_of(&signer.spki, &key, &path)?;
        Intermediate::load(signer.text().to_owned(), pair, root.text().to_owned())
            .map_err(|_source| CertError::NotACertificate { path })
    }

    /// Reads the four files of a cluster.
    pub fn bundle(&self, cluster: &str) -> Result<Bundle, CertError> {
        check_name(cluster)?;
        self.check_whole(cluster)?;
        Bundle::read(&self.cluster(cluster))
    }

    /// The keys that others than their owner may read, as a tool that is not ours may have left them.
    pub fn exposed_keys(&self, clusters: &[&str]) -> Result<Vec<PathBuf>, CertError> {
        let of_clusters = clusters.iter().map(|cluster| self.cluster(cluster).join("ca-key.pem"));
        let mut exposed = Vec::new();
        for key in std::iter::once(self.root_key()).chain(of_clusters) {
            if is_there(&key)? && store::others_may_read(&key)? {
                exposed.push(key);
            }
        }
        Ok(exposed)
    }

    /// The root that signs intermediates; while a new one comes, the old one.
    #[must_use]
    pub fn root_certificate(&self) -> PathBuf {
        self.root.join("root-cert.pem")
    }

    pub(super) fn root_key(&self) -> PathBuf {
        self.root.join("root-key.pem")
    }

    /// Where the root is that comes (`new`), that went (`old`), or that is being made (`half`).
    pub(super) fn other_root(&self, which: &str) -> PathBuf {
        self.root.join(format!("root.{which}"))
    }

    /// The root that comes, while a rotation is under way.
    pub(super) fn new_root(&self) -> PathBuf {
        self.other_root("new").join("root-cert.pem")
    }

    pub(super) fn in_rotation(&self) -> Result<bool, CertError> {
        is_there(&self.new_root())
    }

    /// The directory of a cluster's files.
    #[must_use]
    pub fn cluster(&self, cluster: &str) -> PathBuf {
        self.dir.join(cluster)
    }

    /// Something beside the clusters, under a name that none of them has.
    pub(super) fn beside(&self, name: &str, what: &str) -> PathBuf {
        self.dir.join(format!("{name}.{what}"))
    }

    /// A change that was cut short after the old files were moved away is told, never taken for a new cluster.
    fn check_whole(&self, cluster: &str) -> Result<(), CertError> {
        let new = self.beside(cluster, "new");
        if is_there(&new)? && !is_there(&self.cluster(cluster))? {
            return Err(CertError::HalfDone { path: new, cluster: cluster.to_owned() });
        }
        Ok(())
    }

    /// Takes the certificate of a root that was made elsewhere, if it is one that can sign intermediates.
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
        let theirs = clusters.iter().map(|cluster| self.cluster(cluster).join("ca-cert.pem"));
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

    fn ensure_intermediate(
        &self,
        root_key: Option<&Path>,
        cluster: &str,
        options: Options,
        now: OffsetDateTime,
    ) -> Result<bool, CertError> {
        self.check_whole(cluster)?;
        let dir = self.cluster(cluster);
        let (certificate, key) = (dir.join("ca-cert.pem"), dir.join("ca-key.pem"));
        let missing = !both(&certificate, &key)?;
        let in_rotation = self.in_rotation()?;
        if !missing && in_rotation {
            self.bundle(cluster)?.check(&dir, now)?;
            return Ok(false);
        }
        if in_rotation {
            return Err(CertError::InRotation { cluster: cluster.to_owned() });
        }
        if !missing {
            self.complete(cluster, now)?;
            return Ok(false);
        }
        for stray in ["root-cert.pem", "cert-chain.pem"].map(|name| dir.join(name)) {
            if is_there(&stray)? {
                return Err(CertError::Incomplete { present: stray, missing: certificate });
            }
        }
        let root = signer(&self.root_certificate(), root_key.unwrap_or(&self.root_key()))?;
        let made =
            root.intermediate(cluster, options.key, Validity::from(now, options.intermediate_lifetime))?;
        let bundle = bundle_of(&made, root.certificate());
        bundle.check(&dir, now)?;
        bundle.write(&dir)?;
        Ok(true)
    }

    /// The other two files follow from what is there, so a run that was cut short is completed.
    fn complete(&self, cluster: &str, now: OffsetDateTime) -> Result<(), CertError> {
        let dir = self.cluster(cluster);
        let path = dir.join("ca-cert.pem");
        let own = Certificate::read(&store::read(&path)?, &path)?;
        let root = Certificate::read(&store::read(&self.root_certificate())?, &self.root_certificate())?;
        let key = dir.join("ca-key.pem");
        CaKey::read(&key)?.pair_of(&own.spki, &key, &path)?;
        if !own.is_signed_by(&root) {
            return Err(CertError::ForeignIssuer { certificate: path, root: self.root_certificate() });
        }
        let chain = format!("{}{}", own.text(), root.text());
        for (name, content) in [("root-cert.pem", root.text()), ("cert-chain.pem", &chain)] {
            if !is_there(&dir.join(name))? {
                store::write(&dir.join(name), content)?;
            }
        }
        Bundle::read(&dir)?.check(&dir, now)
    }
}

/// The files of an intermediate below a root that is the only one to trust.
pub(super) fn bundle_of(made: &Intermediate, root: &str) -> Bundle {
    Bundle::new(made.certificate().to_owned(), made.key(), root.to_owned(), made.chain())
}

/// A root with its key, ready to sign.
pub(super) fn signer(certificate: &Path, key: &Path) -> Result<Root, CertError> {
    let own = Certificate::read(&store::read(certificate)?, certificate)?;
    if !is_there(key)? {
        return Err(CertError::NoRootKey { path: key.to_owned() });
    }
    let pair = CaKey::read(key)?.pair_of(&own.spki, key, certificate)?;
    Root::load(own.text().to_owned(), pair)
        .map_err(|_source| CertError::NotACertificate { path: certificate.to_owned() })
}

/// A root's file, if intermediates can stand below it now.
pub(super) fn read_root(path: &Path, now: OffsetDateTime) -> Result<Certificate, CertError> {
    let all = Certificate::read_all(&store::read(path)?, path)?;
    let flawed = |source| CertError::Unsound { path: path.to_owned(), source };
    let [root] = <[Certificate; 1]>::try_from(all).map_err(|all| flawed(Flaw::Several(all.len())))?;
    let constraints = root.constraints();
    let flaws = [
        (!constraints.authority, Flaw::NotAuthority),
        (!constraints.signs, Flaw::NoCertSign),
        (constraints.path_length == Some(0), Flaw::PathLength),
        (!root.is_root() || !root.is_signed_by(&root), Flaw::NotRoot),
    ];
    if let Some((_, flaw)) = flaws.into_iter().find(|(flawed, _)| *flawed) {
        return Err(flawed(flaw));
    }
    check_dates(&root, now).map_err(|source| flawed(Flaw::Distrust(source)))?;
    Ok(root)
}

/// Whether both files of a pair are there; one alone could be all that is left of something precious.
pub(super) fn both(certificate: &Path, key: &Path) -> Result<bool, CertError> {
    let incomplete = |present: &Path, missing: &Path| {
        Err(CertError::Incomplete { present: present.to_owned(), missing: missing.to_owned() })
    };
    match (is_there(certificate)?, is_there(key)?) {
        (true, true) => Ok(true),
        (false, false) => Ok(false),
        (true, false) => incomplete(certificate, key),
        (false, true) => incomplete(key, certificate),
    }
}

/// A cluster name becomes a directory and the subject of its intermediate: a DNS label, so it cannot climb out.
pub(super) fn check_name(name: &str) -> Result<(), CertError> {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let good = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good { Ok(()) } else { Err(CertError::ClusterName { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests;
