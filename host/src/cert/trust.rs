//! Whether one cluster accepts the certificate of a workload of another, and why not.
//!
//! A path is validated by rustls-webpki. What that leaves out, and Envoy's library (as OpenSSL) does not, is checked
//! besides: the root's own dates, constraints and usages, `keyCertSign` of every CA, and that by name and key
//! identifiers the same CA is found, since those libraries try one issuer only.

use std::path::Path;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use time::{Duration, OffsetDateTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::authority::{Intermediate, Validity};
use super::bundle::Bundle;
use super::certificate::{Certificate, Uris};
use super::distrust::Distrust;
use super::error::{CertError, Flaw};
use super::layout::{CERTIFICATE, CHAIN, KEY, ROOT};

/// How long a certificate holds that is made to see whether it would be accepted.
const PROBE: Duration = Duration::hours(1);

/// Judges a leaf as a proxy does that trusts `anchors` and is shown `presented` beside it.
///
/// The leaf may have URIs as names only where no CA constrains those: see [`Side`], whose leaf has none.
pub fn judge(
    leaf: &Certificate,
    presented: &[Certificate],
    anchors: &[Certificate],
    now: OffsetDateTime,
) -> Result<(), Distrust> {
    let path = path(leaf, presented, anchors, now).map_err(|error| explained(error, leaf, presented, now))?;
    let mut child = leaf;
    for (below, parent) in path.iter().enumerate() {
        if !parent.constraints().signs {
            return Err(Distrust::NoCertSign { name: parent.name().to_owned() });
        }
        let tried = tried(child, anchors, presented, now);
        if tried.is_none_or(|tried| tried.spki != parent.spki) {
            return Err(Distrust::Ambiguous { name: parent.name().to_owned() });
        }
        check_authority(parent, below, now)?;
        child = parent;
    }
    if child.is_root() { Ok(()) } else { Err(Distrust::NotRoot { name: child.name().to_owned() }) }
}

/// The CAs from the leaf's issuer to the root, as the library finds them.
fn path<'c>(
    leaf: &Certificate,
    presented: &'c [Certificate],
    anchors: &'c [Certificate],
    now: OffsetDateTime,
) -> Result<Vec<&'c Certificate>, webpki::Error> {
    let der = |certificate: &'c Certificate| CertificateDer::from(certificate.der());
    let roots: Vec<CertificateDer<'_>> = anchors.iter().map(der).collect();
    let trusted: Vec<TrustAnchor<'_>> =
        roots.iter().map(anchor_from_trusted_cert).collect::<Result<_, _>>()?;
    let others: Vec<CertificateDer<'_>> = presented.iter().map(der).collect();
    let leaf = CertificateDer::from(leaf.der());
    let leaf = EndEntityCert::try_from(&leaf)?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let verify = |usage| {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(algorithms, &trusted, &others, time, usage, None, None)
    };
    verify(KeyUsage::server_auth())?;
    let found = verify(KeyUsage::client_auth())?;
    let presented_as = |der: &CertificateDer<'_>| presented.iter().find(|one| one.der() == der.as_ref());
    let mut path: Vec<&Certificate> =
        found.intermediate_certificates().filter_map(|one| presented_as(&one.der())).collect();
    let anchor = found.anchor();
    let is_it = |(_, trusted): &(_, &TrustAnchor<'_>)| std::ptr::eq(*trusted, anchor);
    path.extend(anchors.iter().zip(&trusted).find(is_it).map(|(certificate, _)| certificate));
    Ok(path)
}

/// The issuer that is tried for a certificate: a trusted one before those presented, one that holds before others,
/// else the first; whether it has signed is looked at only then.
fn tried<'c>(
    child: &Certificate,
    anchors: &'c [Certificate],
    presented: &'c [Certificate],
    now: OffsetDateTime,
) -> Option<&'c Certificate> {
    let of = |pool: &'c [Certificate]| {
        let fits = |one: &&Certificate| one.may_have_issued(child) && one.constraints().signs;
        let holding = pool.iter().filter(fits).find(|one| one.holds_at(now));
        holding.or_else(|| pool.iter().filter(fits).max_by_key(|one| one.not_after()))
    };
    of(anchors).or_else(|| of(presented))
}

fn check_authority(authority: &Certificate, below: usize, now: OffsetDateTime) -> Result<(), Distrust> {
    let constraints = authority.constraints();
    if !constraints.authority {
        return Err(Distrust::NotAuthority { name: authority.name().to_owned() });
    }
    if !constraints.tls {
        return Err(Distrust::Usage);
    }
    if constraints.path_length.is_some_and(|most| below > usize::try_from(most).unwrap_or(usize::MAX)) {
        return Err(Distrust::PathLength);
    }
    check_dates(authority, now)
}

pub(super) fn check_dates(certificate: &Certificate, now: OffsetDateTime) -> Result<(), Distrust> {
    let name = certificate.name().to_owned();
    if now > certificate.not_after() {
        return Err(Distrust::Expired { name, at: certificate.not_after() });
    }
    if now < certificate.not_before() {
        return Err(Distrust::NotYet { name, at: certificate.not_before() });
    }
    Ok(())
}

/// What the library says, with the certificate that it means.
fn explained(
    error: webpki::Error,
    leaf: &Certificate,
    presented: &[Certificate],
    now: OffsetDateTime,
) -> Distrust {
    use webpki::Error as E;
    let all = || std::iter::once(leaf).chain(presented);
    let of_dates = || all().find_map(|one| check_dates(one, now).err());
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may say new things")]
    match error {
        E::UnknownIssuer => Distrust::NoPath,
        E::InvalidSignatureForPublicKey => Distrust::OtherKey,
        E::CertExpired { .. } | E::CertNotValidYet { .. } => of_dates().unwrap_or(Distrust::Other(error)),
        E::PathLenConstraintViolated => Distrust::PathLength,
        E::EndEntityUsedAsCa => {
            let issuer = presented.iter().find(|one| one.may_have_issued(leaf)).unwrap_or(leaf);
            Distrust::NotAuthority { name: issuer.name().to_owned() }
        }
        E::RequiredEkuNotFoundContext(_) => Distrust::Usage,
        E::NameConstraintViolation => Distrust::Constraint,
        other => Distrust::Other(other),
    }
}

/// A cluster as others see it: what its workloads show, and which roots it trusts.
#[derive(Debug)]
pub struct Side {
    cluster: String,
    trust_domain: String,
    leaf: Certificate,
    presented: Vec<Certificate>,
    anchors: Vec<Certificate>,
}

impl Side {
    /// What istiod makes of a cluster's bundle: a leaf that its key signs, with its chain behind it. The leaf has no
    /// name, as the library refuses every URI below a CA that constrains any; those are compared here.
    pub fn of(
        cluster: &str,
        trust_domain: &str,
        bundle: &Bundle,
        now: OffsetDateTime,
    ) -> Result<Self, CertError> {
        let path = Path::new(cluster);
        let certificate = bundle.signer()?;
        let pair = bundle.key().pair(&path.join(KEY))?;
        let signer = Intermediate::load(certificate.text().to_owned(), pair, String::new())
            .map_err(|source| CertError::Make { what: format!("a certificate of {cluster}"), source })?;
        let leaf = signer.nameless_leaf(Validity::from(now, PROBE))?;
        Ok(Self {
            cluster: cluster.to_owned(),
            trust_domain: trust_domain.to_owned(),
            leaf: Certificate::read(&leaf, path)?,
            presented: bundle.presented()?,
            anchors: bundle.anchors()?,
        })
    }

    /// Its name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The issuer that its leaves name, as the filter reads it.
    pub fn issuer(&self) -> Option<String> {
        policy::certificate::issuer(self.leaf.der()).ok()
    }

    /// Whether it accepts a workload of another, or of itself.
    pub fn accepts(&self, other: &Self, now: OffsetDateTime) -> Result<(), Distrust> {
        other.is_accepted_by(&self.anchors, now)
    }

    /// Whether whoever trusts these roots accepts a workload of it.
    pub fn is_accepted_by(&self, anchors: &[Certificate], now: OffsetDateTime) -> Result<(), Distrust> {
        judge(&self.leaf, &self.presented, anchors, now)?;
        let authorities = self.presented.iter().chain(anchors);
        if authorities.map(|one| &one.uris).all(|uris| allows(uris, &self.trust_domain)) {
            Ok(())
        } else {
            Err(Distrust::Constraint)
        }
    }
}

impl Bundle {
    /// Checks what istiod demands of the files of `dir` before it uses them, and that a workload of the cluster would
    /// be accepted in it.
    pub fn check(&self, dir: &Path, now: OffsetDateTime) -> Result<(), CertError> {
        let flawed = |file: &str, flaw| CertError::Unsound { path: dir.join(file), source: flaw };
        let of = |file: &str, text: &str| Certificate::read_all(text, &dir.join(file));
        let signer = Certificate::read(self.certificate(), &dir.join(CERTIFICATE))?;
        let chain = of(CHAIN, self.chain())?;
        of(ROOT, self.root())?;
        self.key().is_as_istiod_reads().map_err(|flaw| flawed(KEY, flaw))?;
        self.key().pair_of(&signer.spki, &dir.join(KEY), &dir.join(CERTIFICATE))?;
        if chain.first() != Some(&signer) {
            return Err(flawed(CHAIN, Flaw::ChainBegins));
        }
        let side = Side::of(&dir.display().to_string(), "cluster.local", self, now)?;
        side.accepts(&side, now).map_err(|flaw| flawed(CERTIFICATE, Flaw::Distrust(flaw)))
    }
}

/// RFC 5280, 4.2.1.10: a constraint is a host, or with a dot in front all hosts below it.
fn allows(uris: &Uris, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let fits = |constraint: &String| {
        let constraint = constraint.to_ascii_lowercase();
        if constraint.starts_with('.') { host.ends_with(&constraint) } else { host == constraint }
    };
    (uris.permitted.is_empty() || uris.permitted.iter().any(fits)) && !uris.excluded.iter().any(fits)
}

/// Whether one cluster accepts the workloads of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Whose workload is judged.
    pub from: String,
    /// Who judges.
    pub to: String,
    /// What comes out.
    pub result: Result<(), Distrust>,
}

/// Each cluster before each, itself too.
#[must_use]
pub fn matrix(sides: &[Side], now: OffsetDateTime) -> Vec<Cell> {
    let cell = |from: &Side, to: &Side| Cell {
        from: from.cluster.clone(),
        to: to.cluster.clone(),
        result: to.accepts(from, now),
    };
    sides.iter().flat_map(|from| sides.iter().map(move |to| cell(from, to))).collect()
}
