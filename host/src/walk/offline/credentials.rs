//! The CAs of a walk, and the certificates of its peers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use policy::Mesh;
use policy::mesh::Cluster;
use policy::name::{ClusterName, Identity};

use super::{Journey, NoPath, OfflineError};
use crate::case::Level;
use crate::cert::{CertError, Intermediate, KeyKind, Root, Validity};
use crate::digest::sha256;
use crate::sandbox::PeerCertificate;

/// Certificates of a walk need not outlive it.
const LIFETIME: time::Duration = time::Duration::days(1);

/// The CA that signs for each cluster, and what they have signed so far.
#[derive(Debug)]
pub(super) struct Credentials {
    issuers: BTreeMap<ClusterName, Arc<Intermediate>>,
    validity: Validity,
    peers: Mutex<BTreeMap<Key, PeerCertificate>>,
}

/// Whose certificate it is, and whether proxies show it: what a filter has learnt of one it remembers, and no proxy
/// shows a certificate that it did not show before.
type Key = (ClusterName, String, bool);

impl Credentials {
    pub(super) fn new(mesh: &Mesh, now: time::OffsetDateTime) -> Result<Self, CertError> {
        let validity = Validity::from(now, LIFETIME);
        let root = Root::generate(KeyKind::P256, validity)?;
        let mut signers: BTreeMap<&ClusterName, Arc<Intermediate>> = BTreeMap::new();
        for cluster in mesh.clusters() {
            let intermediate = root.intermediate(cluster.name.as_str(), KeyKind::P256, validity)?;
            signers.insert(&cluster.name, Arc::new(intermediate));
        }
        let signer = |cluster: &Cluster| signers.get(&mesh.signer(cluster).name).map(Arc::clone);
        let issuers =
            mesh.clusters().filter_map(|cluster| Some((cluster.name.clone(), signer(cluster)?))).collect();
        Ok(Self { issuers, validity, peers: Mutex::default() })
    }

    /// What the destination's proxy shows of its peer's certificate; `None`: there is none.
    pub(super) fn peer(&self, journey: &Journey<'_>) -> Result<Option<PeerCertificate>, OfflineError> {
        let shown = match journey.call.level {
            Level::Verified => true,
            // Envoy before 1.38 knows of the certificate and does not give it away.
            Level::TrustDomain | Level::Token | Level::Claimed => false,
            Level::Unknown => return Ok(None),
        };
        self.signed(journey, &journey.identity, shown).map(Some)
    }

    /// What the workload that sends the request shows to the gateway that it leaves by.
    pub(super) fn workload(&self, journey: &Journey<'_>) -> Result<PeerCertificate, OfflineError> {
        let from = &journey.call.from;
        let identity = Identity {
            namespace: from.namespace.clone(),
            service_account: from.service_account.clone(),
            ..journey.identity.clone()
        };
        self.signed(journey, &identity, true)
    }

    /// The certificate of an identity, signed by the CA of the source's cluster.
    fn signed(
        &self,
        journey: &Journey<'_>,
        identity: &Identity,
        shown: bool,
    ) -> Result<PeerCertificate, OfflineError> {
        let identity = identity.to_string();
        let key = (journey.source.name.clone(), identity.clone(), shown);
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get(&key) {
            return Ok(known.clone());
        }
        let issuer = self.issuers.get(&journey.source.name).ok_or(NoPath::Misfit)?;
        let leaf = issuer.leaf(&identity, self.validity)?;
        let (_, parsed) =
            x509_parser::pem::parse_x509_pem(leaf.chain.as_bytes()).map_err(|_error| OfflineError::Pem)?;
        const END: &str = "-----END CERTIFICATE-----\n";
        let pem = leaf.chain.split_inclusive(END).next().filter(|_| shown).unwrap_or_default().to_owned();
        let sha256 = sha256(&parsed.contents);
        let uri_san = Some(identity);
        let peer = PeerCertificate { pem, sha256, uri_san, valid: true, ..PeerCertificate::default() };
        peers.insert(key, peer.clone());
        Ok(peer)
    }
}
