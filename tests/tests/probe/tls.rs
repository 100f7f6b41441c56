//! TLS: a listener's certificate, a client's, and what they say of themselves.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isthmus::cert::{KeyKind, Leaf, Root, Validity};
use isthmus::digest::sha256;
use isthmus::sandbox::{PeerCertificate, Tls};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

const LIFETIME: time::Duration = time::Duration::days(1);

/// The identities of the listener and of the client.
const SERVER: &str = "spiffe://cluster.local/ns/probe/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/probe/sa/client";

/// The name that the client says it wants.
pub(super) const SERVER_NAME: &str = "probe.example";

/// A server, known by its name too, and a client, known by its authority.
#[derive(Debug)]
pub(super) struct Identities {
    dir: PathBuf,
    server: CertificateDer<'static>,
    client: Leaf,
}

impl Identities {
    pub(super) fn make(dir: &Path) -> Self {
        let validity = Validity::from(time::OffsetDateTime::now_utc(), LIFETIME);
        let root = Root::generate(KeyKind::P256, validity).expect("a root");
        let authority = root.intermediate("east", KeyKind::P256, validity).expect("an intermediate");
        let mut server = CertificateParams::new([SERVER_NAME.to_owned()]).expect("a name");
        server.subject_alt_names.push(SanType::URI(SERVER.try_into().expect("a URI")));
        server.distinguished_name = DistinguishedName::new();
        let server_key = KeyPair::generate().expect("a key");
        let server = server.self_signed(&server_key).expect("a certificate");
        let client = authority.leaf(CLIENT, validity).expect("a leaf");
        let files = [
            ("root.pem", root.certificate().to_owned()),
            ("server.pem", server.pem()),
            ("server.key", server_key.serialize_pem()),
        ];
        for (name, text) in files {
            std::fs::write(dir.join(name), text).expect("a file");
        }
        Self { dir: dir.to_owned(), server: server.der().clone(), client }
    }

    /// How Envoy ends TLS.
    pub(super) fn transport_socket(&self) -> Value {
        let file = |name: &str| json!({"filename": self.dir.join(name)});
        json!({
            "name": "tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                    "tls_certificates": [{"certificate_chain": file("server.pem"), "private_key": file("server.key")}],
                    "validation_context": {"trusted_ca": file("root.pem")},
                },
            },
        })
    }

    /// Speaks TLS over a connection, with the client's certificate or without one.
    pub(super) fn over(
        &self,
        stream: TcpStream,
        certified: bool,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.server.clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots);
        let mut config = if certified {
            let chain =
                CertificateDer::pem_slice_iter(self.client.chain.as_bytes()).collect::<Result<_, _>>();
            let key = PrivateKeyDer::from_pem_slice(self.client.key.as_bytes()).expect("a key");
            config.with_client_auth_cert(chain.expect("a chain"), key).expect("a certificate")
        } else {
            config.with_no_client_auth()
        };
        config.resumption = Resumption::disabled();
        let name = SERVER_NAME.try_into().expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        StreamOwned::new(client, stream)
    }

    /// The same session, for the sandbox.
    pub(super) fn session(&self, certified: bool) -> Tls {
        let (pem, _) = self.client.chain.split_once("-----END CERTIFICATE-----\n").expect("a leaf");
        let pem = format!("{pem}-----END CERTIFICATE-----\n");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a leaf");
        let peer = PeerCertificate {
            sha256: sha256(&der),
            pem,
            uri_san: Some(CLIENT.to_owned()),
            valid: true,
            ..PeerCertificate::default()
        };
        Tls {
            version: "TLSv1.3".to_owned(),
            uri_san_local_certificate: Some(SERVER.to_owned()),
            dns_san_local_certificate: Some(SERVER_NAME.to_owned()),
            peer: certified.then_some(peer),
            ..Tls::default()
        }
    }
}
