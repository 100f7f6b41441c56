//! The CA of each cluster: what its istiod signs with, and who trusts whom.

use std::path::Path;

use policy::mesh::{Cluster, ControlPlane, Federated};
use time::Duration;

use super::control::root_objects;
use super::{Failure, Found, Inventory, Kind, Object, Skip, Visit};
use crate::cert::{Bundle, Certificate, Side, from_secret, missing_in};
use crate::manifest::ISTIO_NAMESPACE;
use crate::text::chain;

/// The Secret that istiod signs with.
const CACERTS: &str = "cacerts";
/// The key by which istiod marks a CA that it has made for itself.
const GENERATED: &str = "istio-generated";
/// A CA that ends sooner than this is told of: time enough to rotate a root without haste.
const SOON: Duration = Duration::days(30);

/// Only an istiod signs.
fn signs(visit: &Visit<'_>) -> Result<(), Skip> {
    match &visit.cluster.control_plane {
        ControlPlane::Primary => Ok(()),
        ControlPlane::RemoteOf(primary) => Err(Skip::idle(format!("the istiod of {primary} signs for it"))),
    }
}

fn secret<'v>(visit: &Visit<'v>) -> Result<Option<&'v Object>, Skip> {
    signs(visit)?;
    Ok(root_objects(visit, Kind::Secret)?.find(|secret| secret.name() == CACERTS))
}

/// The bundle of the cluster; what is wrong with it is told once.
fn bundle(visit: &Visit<'_>) -> Result<Bundle, Skip> {
    let secret = secret(visit)?.ok_or_else(|| Skip::idle("there is no Secret cacerts"))?;
    from_secret(|key| secret.data(key)).ok_or_else(|| Skip::idle("its Secret cacerts is incomplete"))
}

/// How a cluster looks to others; what makes it look like nothing is told once.
fn side(cluster: &Cluster, bundle: &Bundle, visit: &Visit<'_>) -> Result<Side, Skip> {
    Side::of(cluster.name.as_str(), cluster.trust_domain.as_str(), bundle, visit.all.now)
        .map_err(|_told_by_sound| Skip::idle("its CA is not sound"))
}

pub(super) fn present(visit: &Visit<'_>) -> Found {
    let hint =
        "`isthmus mesh certs` makes one of the mesh's root; put it there before istiod starts, or restart it";
    let Some(secret) = secret(visit)? else {
        return Ok(vec![Failure::error(
            format!(
                "no Secret {}/{CACERTS}: istiod makes a CA of its own, which no other cluster trusts",
                visit.root()
            ),
            hint,
        )]);
    };
    if secret.keys().contains(&GENERATED) {
        let message =
            format!("Secret {} was made by istiod itself: no other cluster trusts that CA", secret.shown());
        return Ok(vec![Failure::error(message, hint)]);
    }
    let missing = missing_in(&secret.keys());
    let failure = || {
        let message =
            format!("Secret {} has no {}: istiod does not start with it", secret.shown(), missing.join(", "));
        Failure::error(message, hint)
    };
    Ok((!missing.is_empty()).then(failure).into_iter().collect())
}

pub(super) fn sound(visit: &Visit<'_>) -> Found {
    let checked = bundle(visit)?.check(Path::new(CACERTS), visit.all.now);
    let failure = |error: crate::cert::CertError| {
        let hint = "make it anew with `isthmus mesh certs`, or see `isthmus mesh trust` for what is there";
        Failure::error(format!("istiod cannot sign with Secret {CACERTS}: {}", chain(&error)), hint)
    };
    Ok(checked.err().map(failure).into_iter().collect())
}

pub(super) fn lasting(visit: &Visit<'_>) -> Found {
    let bundle = bundle(visit)?;
    let now = visit.all.now;
    let signer = bundle.signer().map(|one| vec![one]).unwrap_or_default();
    let mut failures = Vec::new();
    let told = signer
        .into_iter()
        .map(|one| (one, format!("isthmus mesh rotate intermediate {}", visit.cluster.name)))
        .chain(
            bundle
                .anchors()
                .unwrap_or_default()
                .into_iter()
                .map(|one| (one, "isthmus mesh rotate root".to_owned())),
        );
    for (certificate, remedy) in told {
        let left = certificate.not_after() - now;
        let (name, day) = (certificate.name(), certificate.not_after().date());
        if left <= Duration::ZERO {
            let message = format!("{name} ended on {day}: no workload that it signs for is accepted");
            failures.push(Failure::error(message, remedy));
        } else if left < SOON {
            failures.push(Failure::warning(
                format!("{name} ends in {} days, on {day}", left.whole_days()),
                remedy,
            ));
        }
    }
    Ok(failures)
}

/// Whether the filter can tell the cluster by what its CA signs.
pub(super) fn telling(visit: &Visit<'_>) -> Found {
    let bundle = bundle(visit)?;
    let issuer = side(visit.cluster, &bundle, visit)?.issuer().unwrap_or_default();
    let mut failures = Vec::new();
    let listed = &visit.cluster.issuers;
    if !listed.iter().any(|one| one.as_str() == issuer) {
        let wanted: Vec<String> = listed.iter().map(|one| format!("{:?}", one.as_str())).collect();
        failures.push(Failure::error(
            format!(
                "its workloads' certificates are issued by {issuer:?}, and mesh.yaml says {}",
                wanted.join(" or ")
            ),
            format!(
                "requests from it have no proven source: add the name to `issuers` of {}",
                visit.cluster.name
            ),
        ));
    }
    let Ok(signer) = bundle.signer() else { return Ok(failures) };
    let anchors = bundle.anchors().unwrap_or_default();
    if !signer.is_root() && signer.constraints().path_length != Some(0) {
        failures.push(Failure::error(
            format!(
                "{} may sign further CAs: whoever has its key makes one that calls itself another cluster's",
                signer.name()
            ),
            "sign an intermediate with a path length of 0, as `isthmus mesh certs` does",
        ));
    }
    if !anchors.iter().any(|anchor: &Certificate| signer.is_signed_by(anchor)) {
        failures.push(Failure::warning(
            format!(
                "{} is not directly below a root: CAs between them could sign for any cluster",
                signer.name()
            ),
            "let the root sign the CA of each cluster itself",
        ));
    }
    Ok(failures)
}

pub(super) fn trusted(visit: &Visit<'_>) -> Found {
    let own = bundle(visit)?;
    let own = side(visit.cluster, &own, visit)?;
    let mut failures = Vec::new();
    // Those of other roots are accepted by what sidecars are told besides.
    for other in visit.others().filter(|other| !is_of_another_root(visit, other)) {
        let Some(theirs) = side_of(visit, other) else { continue };
        if let Err(why) = own.accepts(&theirs, visit.all.now) {
            failures.push(Failure::error(
                format!("it does not accept workloads of {}: {why}", other.name),
                "`isthmus mesh trust` shows every pair; a root that changes is trusted everywhere before anything is signed by it \
                 (`isthmus mesh rotate root`)",
            ));
        }
    }
    Ok(failures)
}

/// The mesh that a cluster is of.
pub(super) fn mesh_of<'v>(visit: &Visit<'v>, cluster: &Cluster) -> Option<&'v Federated> {
    visit.mesh().meshes().find(|mesh| mesh.name == cluster.mesh)
}

/// Whether another root signs for a cluster than for the visited one.
fn is_of_another_root(visit: &Visit<'_>, other: &Cluster) -> bool {
    let root = |cluster: &Cluster| mesh_of(visit, cluster).map(|mesh| &mesh.root);
    root(visit.cluster) != root(other)
}

/// How another cluster looks, if its CA was seen and is sound.
pub(super) fn side_of(visit: &Visit<'_>, other: &Cluster) -> Option<Side> {
    let bundle = seen_bundle(visit, visit.other(&other.name)?)?;
    side(other, &bundle, visit).ok()
}

fn seen_bundle(visit: &Visit<'_>, seen: &Inventory) -> Option<Bundle> {
    bundle_in(seen, visit.root())
}

/// The CA that a cluster was seen to have, if it is whole.
pub(super) fn bundle_in(seen: &Inventory, root: &str) -> Option<Bundle> {
    let mut secrets = seen.of(Kind::Secret).ok()?.iter();
    let secret = secrets.find(|secret| secret.namespace() == root && secret.name() == CACERTS)?;
    from_secret(|key| secret.data(key))
}

impl Inventory {
    /// The CA that its istiod signs with, if that was seen and is whole.
    pub fn authority(&self) -> Option<Bundle> {
        bundle_in(self, ISTIO_NAMESPACE)
    }
}

/// Whether workloads were told the roots that istiod has.
pub(super) fn spread(visit: &Visit<'_>) -> Found {
    const MAP: &str = "istio-ca-root-cert";
    let wanted = bundle(visit)?.anchors().unwrap_or_default();
    let mut stale: Vec<&str> = Vec::new();
    for map in visit.of(Kind::ConfigMap)?.iter().filter(|map| map.name() == MAP) {
        let text = map.data("root-cert.pem").unwrap_or_default();
        let known = Certificate::read_all(&text, Path::new(MAP)).unwrap_or_default();
        if !wanted.iter().all(|root| known.contains(root)) {
            stale.push(map.namespace());
        }
    }
    let failure = || {
        Failure::error(
            format!("workloads of {} trust other roots than Secret {CACERTS} has", stale.join(", ")),
            "istiod takes a changed root only with ISTIO_MULTIROOT_MESH=true, or when it is restarted",
        )
    };
    Ok((!stale.is_empty()).then(failure).into_iter().collect())
}
