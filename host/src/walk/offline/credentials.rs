//! The CAs of a walk, and the certificates of its peers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use policy::Mesh;
use policy::name::ClusterName;

use super::{Journey, NoPath, OfflineError};
use crate::cert::{CertError, Intermediate, KeyKind, Root, Validity};
use crate::digest::sha256;
use crate::sandbox::PeerCertificate;

/// Certificates of a walk need not outlive it.
const LIFETIME: time::Duration = time::Duration::days(1);

/// A CA for every cluster, and what they have signed so far.
#[derive(Debug)]
pub(super) struct Credentials {
    issuers: BTreeMap<ClusterName, Intermediate>,
    validity: Validity,
    peers: Mutex<BTreeMap<(ClusterName, String), PeerCertificate>>,
}

impl Credentials {
    pub(super) fn new(mesh: &Mesh, now: time::OffsetDateTime) -> Result<Self, CertError> {
        let validity = Validity::from(now, LIFETIME);
        let root = Root::generate(KeyKind::P256, validity)?;
        let mut issuers = BTreeMap::new();
        for cluster in mesh.clusters() {
            let intermediate = root.intermediate(cluster.name.as_str(), KeyKind::P256, validity)?;
            issuers.insert(cluster.name.clone(), intermediate);
        }
        Ok(Self { issuers, validity, peers: Mutex::default() })
    }

    /// The certificate that the sender's sidecar shows, signed by its own cluster's CA.
    pub(super) fn peer(&self, journey: &Journey<'_>) -> Result<PeerCertificate, OfflineError> {
        let identity = journey.identity.to_string();
        let key = (journey.source.name.clone(), identity.clone());
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get(&key) {
            return Ok(known.clone());
        }
        let issuer = self.issuers.get(&journey.source.name).ok_or(NoPath::Misfit)?;
        let leaf = issuer.leaf(&identity, self.validity)?;
        let (_, parsed) =
            x509_parser::pem::parse_x509_pem(leaf.chain.as_bytes()).map_err(|_error| OfflineError::Pem)?;
        const END: &str = "-----END CERTIFICATE-----\n";
        let pem = leaf.chain.split_inclusive(END).next().unwrap_or_default().to_owned();
        let sha256 = sha256(&parsed.contents);
        let peer = PeerCertificate {
            pem,
            sha256,
            uri_san: Some(identity),
            valid: true,
            ..PeerCertificate::default()
        };
        peers.insert(key, peer.clone());
        Ok(peer)
    }
}
