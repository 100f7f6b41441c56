//! What a proxy starts with: its certificates and its bootstrap.

use std::path::PathBuf;

use super::bootstrap;
use super::error::LabError;
use super::proxy::Workload;
use super::secret::token_key;
use super::site::{Site, replace_private};
use crate::cert::{Hierarchy, KeyKind, Options, Validity};

/// How long the certificates of a lab hold.
const LIFETIME: time::Duration = time::Duration::days(30);
/// What the CA is called that is no cluster's: no cluster can be.
const NO_CLUSTER: &str = "no cluster";

/// Certificates and bootstrap of every proxy.
pub(super) fn write(
    site: &Site,
    workloads: &[Workload<'_>],
    now: time::OffsetDateTime,
) -> Result<(), LabError> {
    let hierarchy = Hierarchy::at(site.dir().join("ca"));
    let names: Vec<&str> = site.blueprint().clusters.iter().map(|c| c.name.as_str()).collect();
    let options = Options { key: KeyKind::P256, root_lifetime: LIFETIME, intermediate_lifetime: LIFETIME };
    let certificates = |source| LabError::Certificates { source };
    hierarchy.ensure(&names, options, now).map_err(certificates)?;
    let root = hierarchy.root().map_err(certificates)?;
    let validity = Validity::from(now, LIFETIME);
    let unmarked = root.intermediate(NO_CLUSTER, KeyKind::P256, validity).map_err(certificates)?;
    for own in workloads {
        let ca = hierarchy.intermediate(&own.cluster.signer).map_err(certificates)?;
        let leaf = ca.leaf(&own.spiffe_id(), validity).map_err(certificates)?;
        let is_unmarked = own.sides().any(|side| !side.client.manner.shows.is_marked());
        let nameless = is_unmarked.then(|| unmarked.leaf(&own.spiffe_id(), validity));
        let nameless = nameless.transpose().map_err(certificates)?;
        let signs = own.sides().all(|side| side.client.manner.shows.signs());
        let token_key = token_key(&site.plugins(&own.cluster.name), own.namespace())
            .map_err(|source| LabError::Plugin { source })?
            .filter(|_| signs);
        let bootstrap = bootstrap::bootstrap(site, own, token_key.as_deref()).to_string();
        std::fs::create_dir_all(&own.dir)
            .map_err(|source| LabError::File { path: own.dir.clone(), source })?;
        let mut files = vec![
            ("root-cert.pem", root.certificate()),
            ("cert-chain.pem", &leaf.chain),
            ("key.pem", &leaf.key),
            ("bootstrap.json", &bootstrap),
        ];
        if let Some(leaf) = &nameless {
            files.extend([("unmarked-chain.pem", &*leaf.chain), ("unmarked-key.pem", &*leaf.key)]);
        }
        for (name, content) in files {
            replace_private(&own.dir.join(name), content)?;
        }
        forget(own.proxy().access_log)?;
    }
    Ok(())
}

/// What a lab before this one logged here is none of its own.
fn forget(log: PathBuf) -> Result<(), LabError> {
    match std::fs::remove_file(&log) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::File { path: log, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
