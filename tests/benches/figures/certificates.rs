//! The certificates of a sidecar and of those that call it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use isthmus::cert::{Hierarchy, Intermediate, KeyKind, Options, Validity};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::Outcome;

const LIFETIME: time::Duration = time::Duration::days(1);

/// A mesh of two clusters, c0 and c1.
#[derive(Debug)]
pub(super) struct Certificates {
    dir: PathBuf,
    source: Intermediate,
    validity: Validity,
}

impl Certificates {
    /// Makes a hierarchy, and a leaf for a sidecar of c0.
    pub(super) fn make(dir: &Path) -> Outcome<Self> {
        let hierarchy = Hierarchy::at(dir.join("ca"));
        let options =
            Options { key: KeyKind::P256, root_lifetime: LIFETIME, intermediate_lifetime: LIFETIME };
        let now = time::OffsetDateTime::now_utc();
        hierarchy.ensure(&["c0", "c1"], options, now)?;
        let validity = Validity::from(now, LIFETIME);
        let leaf = hierarchy.intermediate("c0")?.leaf("spiffe://cluster.local/ns/shop0/sa/s0", validity)?;
        std::fs::write(dir.join("sidecar.pem"), &leaf.chain)?;
        std::fs::write(dir.join("sidecar.key"), &leaf.key)?;
        Ok(Self { dir: dir.to_owned(), source: hierarchy.intermediate("c1")?, validity })
    }

    /// The root.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("ca/root-cert.pem")
    }

    /// The sidecar's certificate and key.
    pub(super) fn sidecar(&self) -> [PathBuf; 2] {
        ["sidecar.pem", "sidecar.key"].map(|name| self.dir.join(name))
    }

    /// A workload of c1 in a namespace, as a client.
    pub(super) fn client(&self, namespace: &str) -> Outcome<Arc<ClientConfig>> {
        let leaf =
            self.source.leaf(&format!("spiffe://cluster.local/ns/{namespace}/sa/web"), self.validity)?;
        let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_client_auth_cert(chain, key)?;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// Takes any server: a sidecar's certificate names no host, and it is the server that is measured.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
