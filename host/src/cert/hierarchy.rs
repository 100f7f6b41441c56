//! The hierarchy on disk, in the layout of Istio's `cacerts`.

mod ensure;

use std::path::{Path, PathBuf};

use policy::name::RootName;
use time::OffsetDateTime;

use super::layout::{Aside, CERTIFICATE, KEY, ROOT, ROOT_KEY};
use super::store::{self, is_there};
use super::trust::check_dates;
use super::{Bundle, CaKey, CertError, Certificate, Flaw, Intermediate, Root};

pub use ensure::{Options, Report, RootFiles};

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

    /// Reads the root, which must have its key beside it.
    pub fn root(&self) -> Result<Root, CertError> {
        signer(&self.root_certificate(), &self.root_key())
    }

    /// Reads the intermediate of one cluster, and checks that it belongs to this root.
    pub fn intermediate(&self, cluster: &str) -> Result<Intermediate, CertError> {
        let bundle = self.bundle(cluster)?;
        let path = self.certificate(cluster);
        let signer = bundle.signer()?;
        let root = Certificate::read(&store::read(&self.root_certificate())?, &self.root_certificate())?;
        if !signer.is_signed_by(&root) {
            return Err(CertError::ForeignIssuer { certificate: path, root: self.root_certificate() });
        }
        let key = self.cluster(cluster).join(KEY);
        let pair = bundle.key().pair_of(&signer.spki, &key, &path)?;
        Intermediate::load(signer.text().to_owned(), pair, root.text().to_owned())
            .map_err(|source| CertError::NotASigner { path, source })
    }

    /// Whether the CA of a cluster lies here. One whose change was cut short does, and cannot be read: that is an error.
    pub fn has(&self, cluster: &str) -> Result<bool, CertError> {
        check_name(cluster)?;
        self.check_whole(cluster)?;
        is_there(&self.certificate(cluster))
    }

    /// Reads the four files of a cluster.
    pub fn bundle(&self, cluster: &str) -> Result<Bundle, CertError> {
        check_name(cluster)?;
        self.check_whole(cluster)?;
        Bundle::read(&self.cluster(cluster))
    }

    /// The keys that others than their owner may read, as a tool that is not ours may have left them.
    pub fn exposed_keys(&self, clusters: &[&str]) -> Result<Vec<PathBuf>, CertError> {
        let of_clusters = clusters.iter().map(|cluster| self.cluster(cluster).join(KEY));
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
        self.root.join(ROOT)
    }

    pub(super) fn root_key(&self) -> PathBuf {
        self.root.join(ROOT_KEY)
    }

    /// The directory of another root than the one in force.
    pub(super) fn root_aside(&self, which: Aside) -> PathBuf {
        self.root.join(which.of("root"))
    }

    /// The root that comes, while a rotation is under way.
    pub(super) fn new_root(&self) -> PathBuf {
        self.root_aside(Aside::New).join(ROOT)
    }

    pub(super) fn in_rotation(&self) -> Result<bool, CertError> {
        is_there(&self.new_root())
    }

    /// The directory of a cluster's files.
    #[must_use]
    pub fn cluster(&self, cluster: &str) -> PathBuf {
        self.dir.join(cluster)
    }

    /// The certificate of a cluster's intermediate.
    pub(super) fn certificate(&self, cluster: &str) -> PathBuf {
        self.cluster(cluster).join(CERTIFICATE)
    }

    /// The directory of other files of a cluster than those in force.
    pub(super) fn aside(&self, cluster: &str, which: Aside) -> PathBuf {
        self.dir.join(which.of(cluster))
    }

    /// A change that was cut short after the old files were moved away is told, never taken for a new cluster.
    fn check_whole(&self, cluster: &str) -> Result<(), CertError> {
        let new = self.aside(cluster, Aside::New);
        if is_there(&new)? && !is_there(&self.cluster(cluster))? {
            return Err(CertError::HalfDone { path: new, cluster: cluster.to_owned() });
        }
        Ok(())
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
        .map_err(|source| CertError::NotASigner { path: certificate.to_owned(), source })
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
