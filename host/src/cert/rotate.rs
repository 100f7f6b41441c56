//! Rotations on disk: of an intermediate, and of the root, whose state is read from the files themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};

use super::hierarchy::{both, bundle_of, check_name, read_root, signer};
use super::layout::{Aside, CERTIFICATE, KEY, ROOT, ROOT_KEY};
use super::rotation::{Level, Standing};
use super::store::{self, Mode, is_there};
use super::trust::{Side, matrix};
use super::{Bundle, CaKey, CertError, Certificate, Flaw, Hierarchy, Options, Root, RootFiles, Validity};

/// What new intermediates are made of, and by whose key.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'p> {
    /// The key of the root, where it does not lie beside its certificate.
    pub root_key: Option<&'p Path>,
    /// The kind of their keys, and how long they hold.
    pub options: Options,
    /// The time.
    pub now: OffsetDateTime,
}

/// A rotation of the root that is under way.
#[derive(Debug)]
pub struct Rotation {
    old: Certificate,
    new: Certificate,
    bundles: BTreeMap<String, Bundle>,
    standing: Standing,
}

impl Rotation {
    /// How far it is.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The root that goes.
    #[must_use]
    pub fn old(&self) -> &Certificate {
        &self.old
    }

    /// The root that comes.
    #[must_use]
    pub fn new_root(&self) -> &Certificate {
        &self.new
    }
}

impl Hierarchy {
    /// Gives a cluster a new intermediate under the same root, of the same name; the one before is kept beside.
    pub fn rotate_intermediate(
        &self,
        cluster: &str,
        root_key: Option<&Path>,
        options: Options,
        now: OffsetDateTime,
    ) -> Result<(), CertError> {
        check_name(cluster)?;
        if self.recover(cluster, now)? {
            return Ok(());
        }
        let old = self.bundle(cluster)?;
        let (root, key) = self.signs(&old, cluster)?;
        let root = signer(&root, root_key.unwrap_or(&key))?;
        let validity = Validity::from(now, options.intermediate_lifetime);
        let made = root.intermediate(cluster, options.key, validity)?;
        let bundle = bundle_of(&made, root.certificate()).trusting(old.root().to_owned());
        self.install(cluster, &bundle, now)
    }

    /// Removes what was kept of a cluster's intermediate before; whether there was any.
    pub fn drop_intermediate(&self, cluster: &str) -> Result<bool, CertError> {
        check_name(cluster)?;
        let (own, old) = (self.cluster(cluster), self.aside(cluster, Aside::Old));
        if !is_there(&old)? {
            return Ok(false);
        }
        both(&own.join(CERTIFICATE), &own.join(KEY))?;
        self.bundle(cluster)?;
        store::remove_dir(&old)?;
        Ok(true)
    }

    /// The rotation of the root that is under way, if one is.
    pub fn rotation(&self, clusters: &[&str]) -> Result<Option<Rotation>, CertError> {
        let path = self.new_root();
        if !is_there(&path)? {
            return Ok(None);
        }
        let read = |path: &Path| Certificate::read(&store::read(path)?, path);
        // A rotation whose last step was cut short has moved the old root already.
        let own = self.root_certificate();
        let old = if is_there(&own)? { own } else { self.root_aside(Aside::Old).join(ROOT) };
        let (old, new) = (read(&old)?, read(&path)?);
        let mut bundles = BTreeMap::new();
        let mut standing = Standing { clusters: BTreeMap::new(), signed: None };
        for &cluster in clusters {
            let bundle = self.bundle(cluster)?;
            let level = self.level(cluster, &bundle, &old, &new)?;
            if level >= Level::Signed {
                let from = bundle.signer()?.not_before() + Validity::CLOCK_SKEW;
                standing.signed = Some(standing.signed.map_or(from, |last| last.max(from)));
            }
            standing.clusters.insert(cluster.to_owned(), level);
            bundles.insert(cluster.to_owned(), bundle);
        }
        Ok(Some(Rotation { old, new, bundles, standing }))
    }

    /// Makes the new root, or takes the one that is given; nothing trusts it yet.
    pub fn begin_rotation(
        &self,
        clusters: &[&str],
        given: RootFiles<'_>,
        options: Options,
        now: OffsetDateTime,
    ) -> Result<(), CertError> {
        let old = self.root_aside(Aside::Old);
        if is_there(&old)? {
            return Err(CertError::Kept { path: old });
        }
        let own = self.root_certificate();
        let current = Certificate::read(&store::read(&own)?, &own)?;
        for &cluster in clusters {
            let bundle = self.bundle(cluster)?;
            bundle.check(&self.cluster(cluster), now)?;
            let trusts = bundle.anchors()?.iter().any(|one| one.der() == current.der());
            if !trusts || !bundle.signer()?.is_signed_by(&current) {
                return Err(CertError::OffTrack { path: self.cluster(cluster) });
            }
        }
        let half = self.root_aside(Aside::Half);
        if is_there(&half)? {
            store::remove_dir(&half)?; // nothing has trusted or used it
        }
        store::make_private_dir(&half)?;
        let text = match given.certificate {
            Some(path) => given_root(path, given.key, &current, now)?,
            None => {
                let validity = Validity::from(now, options.root_lifetime);
                let root = Root::generate_named(&next_name(current.name()), options.key, validity)?;
                root.key().write(&half.join(ROOT_KEY))?;
                root.certificate().to_owned()
            }
        };
        store::write(&half.join(ROOT), &text)?;
        store::rename(&half, &self.root_aside(Aside::New))
    }

    /// Brings one cluster to its next level, after all pairs of clusters were found to accept each other then.
    pub fn advance(
        &self,
        rotation: &mut Rotation,
        (cluster, to): (&str, Level),
        signing: Signing<'_>,
    ) -> Result<(), CertError> {
        let (dir, now) = (self.cluster(cluster), signing.now);
        let Some(bundle) = rotation.bundles.get(cluster).cloned() else {
            return Err(CertError::OffTrack { path: dir });
        };
        let (old, new) = (rotation.old.clone(), rotation.new.clone());
        let changed = match to {
            Level::Before => return Ok(()),
            Level::Both => bundle.clone().trusting(with(bundle.root(), new.text())),
            Level::After => bundle.clone().trusting(without(bundle.root(), &old)?),
            Level::Signed => {
                let beside = self.new_root().with_file_name(ROOT_KEY);
                let root = signer(&self.new_root(), signing.root_key.unwrap_or(&beside))?;
                let validity = Validity::from(now, signing.options.intermediate_lifetime);
                let made = root.intermediate(cluster, signing.options.key, validity)?;
                bundle_of(&made, root.certificate()).trusting(bundle.root().to_owned())
            }
        };
        let mut bundles = rotation.bundles.clone();
        bundles.insert(cluster.to_owned(), changed.clone());
        check_trust(&bundles, now)?;
        if to == Level::Signed {
            self.install(cluster, &changed, now)?;
        } else {
            changed.check(&dir, now)?;
            store::replace(&dir.join(ROOT), changed.root(), Mode::Public)?;
        }
        rotation.bundles = bundles;
        rotation.standing.clusters.insert(cluster.to_owned(), to);
        Ok(())
    }

    /// Puts the new root in the place of the old one, once every cluster is through; the old one is kept beside.
    /// It can be cut short anywhere and called again.
    pub fn finish_rotation(&self) -> Result<(), CertError> {
        let (new, old) = (self.root_aside(Aside::New), self.root_aside(Aside::Old));
        store::make_private_dir(&old)?;
        let (own, kept) = (self.root_certificate(), old.join(ROOT));
        let gone = if is_there(&kept)? { &kept } else { &own };
        let gone = Certificate::read(&store::read(gone)?, gone)?;
        let key = self.root_key();
        // The key first: which one lies there is told by the old certificate.
        if is_there(&key)? && CaKey::read(&key)?.pair_of(&gone.spki, &key, &own).is_ok() {
            store::rename(&key, &old.join(ROOT_KEY))?;
        }
        if is_there(&new.join(ROOT_KEY))? {
            store::rename(&new.join(ROOT_KEY), &key)?;
        }
        if !is_there(&kept)? {
            store::rename(&own, &kept)?;
        }
        store::rename(&new.join(ROOT), &own)?;
        store::remove_dir(&new)
    }

    /// Removes the root before with its key, and every intermediate that it signed; whether there was one.
    pub fn drop_root(&self, clusters: &[&str]) -> Result<bool, CertError> {
        let old = self.root_aside(Aside::Old);
        if !is_there(&old)? || self.in_rotation()? {
            return Ok(false);
        }
        for &cluster in clusters {
            self.drop_intermediate(cluster)?;
        }
        store::remove_dir(&old)?;
        Ok(true)
    }

    /// Ends a change of a cluster's files that was cut short; whether there was one to end.
    fn recover(&self, cluster: &str, now: OffsetDateTime) -> Result<bool, CertError> {
        let (own, new) = (self.cluster(cluster), self.aside(cluster, Aside::New));
        if !is_there(&new)? {
            return Ok(false);
        }
        if is_there(&own)? {
            store::remove_dir(&new)?; // never in force: it takes the place of the old files in one move
            return Ok(false);
        }
        Bundle::read(&new)?.check(&new, now)?;
        store::rename(&new, &own)?;
        Ok(true)
    }

    /// Puts new files in the place of a cluster's, all at once; the old ones are kept beside.
    fn install(&self, cluster: &str, bundle: &Bundle, now: OffsetDateTime) -> Result<(), CertError> {
        let own = self.cluster(cluster);
        let (new, old) = (self.aside(cluster, Aside::New), self.aside(cluster, Aside::Old));
        if is_there(&old)? {
            return Err(CertError::Kept { path: old });
        }
        bundle.check(&own, now)?;
        bundle.write(&new)?;
        store::rename(&own, &old)?;
        store::rename(&new, &own)
    }

    /// The root that has signed a cluster's intermediate, and where its key would be.
    fn signs(&self, bundle: &Bundle, cluster: &str) -> Result<(PathBuf, PathBuf), CertError> {
        let signer = bundle.signer()?;
        let roots = [self.new_root(), self.root_certificate()];
        for path in roots.iter().filter(|path| path.is_file()) {
            if signer.is_signed_by(&Certificate::read(&store::read(path)?, path)?) {
                return Ok((path.clone(), path.with_file_name(ROOT_KEY)));
            }
        }
        let certificate = self.certificate(cluster);
        Err(CertError::ForeignIssuer { certificate, root: self.root_certificate() })
    }

    fn level(
        &self,
        cluster: &str,
        bundle: &Bundle,
        old: &Certificate,
        new: &Certificate,
    ) -> Result<Level, CertError> {
        let anchors = bundle.anchors()?;
        let trusts = |root: &Certificate| anchors.iter().any(|one| one.der() == root.der());
        let signer = bundle.signer()?;
        match (trusts(old), trusts(new), signer.is_signed_by(old), signer.is_signed_by(new)) {
            (true, false, true, _) => Ok(Level::Before),
            (true, true, _, true) => Ok(Level::Signed),
            (true, true, true, false) => Ok(Level::Both),
            (false, true, _, true) => Ok(Level::After),
            _ => Err(CertError::OffTrack { path: self.cluster(cluster) }),
        }
    }
}

/// The certificate of a root that was made elsewhere and comes after another.
fn given_root(
    path: &Path,
    key: Option<&Path>,
    current: &Certificate,
    now: OffsetDateTime,
) -> Result<String, CertError> {
    let root = read_root(path, now)?;
    if let Some(key) = key {
        CaKey::read(key)?.pair_of(&root.spki, key, path)?;
    }
    if root.spki == current.spki {
        return Err(CertError::Unsound { path: path.to_owned(), source: Flaw::SameKey });
    }
    Ok(root.text().to_owned())
}

/// Every cluster must accept the workloads of every other.
fn check_trust(bundles: &BTreeMap<String, Bundle>, now: OffsetDateTime) -> Result<(), CertError> {
    let side = |(name, bundle): (&String, &Bundle)| Side::of(name, "cluster.local", bundle, now);
    let sides = bundles.iter().map(side).collect::<Result<Vec<_>, _>>()?;
    for cell in matrix(&sides, now) {
        if let Err(source) = cell.result {
            return Err(CertError::BreaksTrust { from: cell.from, to: cell.to, source });
        }
    }
    Ok(())
}

/// A bundle with one more root at its end. Every byte stays: istiod takes a new bundle without a restart where the old
/// one is a part of it, or it of the old one, byte by byte.
fn with(bundle: &str, root: &str) -> String {
    let end = if bundle.ends_with('\n') { "" } else { "\n" };
    format!("{bundle}{end}{root}")
}

/// A bundle without one root.
fn without(bundle: &str, root: &Certificate) -> Result<String, CertError> {
    let all = Certificate::read_all(bundle, Path::new(ROOT))?;
    Ok(all.iter().filter(|one| one.der() != root.der()).map(Certificate::text).collect())
}

/// The common name of the root after one of this name: another, so that no proxy takes one for the other.
fn next_name(name: &str) -> String {
    let number = name.rsplit_once(' ').and_then(|(_, number)| number.parse::<u32>().ok()).unwrap_or(1);
    format!("{} {}", Root::NAME, number.saturating_add(1))
}

/// How long workloads hold their certificates where istiod is not told otherwise.
pub const LEAF_LIFETIME: Duration = Duration::hours(24);
