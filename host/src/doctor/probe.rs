//! Trying the ways by which clusters reach each other. It is tried from here: a way that only this machine has, or has not,
//! is not told apart.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use policy::compile::Plans;
use policy::evaluate;
use policy::mesh::{Cluster, Gateway};
use policy::{Mesh, name::Service};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, crypto::aws_lc_rs};
use serde_json::json;

use super::secrets::kubeconfigs;
use super::{Answer, Inventory, Tried};
use crate::kube::{self, Kubeconfig, Problem};
use crate::manifest::ISTIO_NAMESPACE;
use crate::proxies::{self, Asking};
use crate::remote::{self, RemoteError};
use crate::text::chain;

/// How many proxies of a cluster are asked at a time.
const PROXIES: usize = 32;

/// Tries what leads to a cluster, and what it has to reach others.
pub async fn probe(
    (mesh, plans): (&Mesh, &Plans),
    cluster: &Cluster,
    (at, inventory): (&Arc<kube::Cluster>, &Inventory),
) -> Tried {
    let timeout = at.timeout();
    let mut tried = Tried::default();
    match at.running_pods().await {
        Ok(pods) => {
            let asking = Asking { patience: timeout, parallel: PROXIES };
            let istiods = proxies::istiods(at, &pods, ISTIO_NAMESPACE, asking).await;
            let running = proxies::in_pods(at, proxies::with_proxies(&pods), asking).await;
            (tried.istiods, tried.proxies) = (Some(Ok(istiods)), Some(Ok(running)));
        }
        Err(error) => {
            let why = error.to_string();
            (tried.istiods, tried.proxies) = (Some(Err(why.clone())), Some(Err(why)));
        }
    }
    if let Some(said) = &cluster.api_server {
        tried.server = Some(server(said, at).await);
    }
    for (name, text) in kubeconfigs(inventory, ISTIO_NAMESPACE) {
        match remote::check(&text, timeout).await {
            Err(foreign @ RemoteError::Foreign { .. }) => {
                tried.untried.insert(name, chain(&foreign));
            }
            came => {
                tried.secrets.insert(name, came.map_err(|error| chain(&error)));
            }
        }
    }
    let elsewhere = |other: &Cluster| other.network != cluster.network || other.mesh != cluster.mesh;
    let is_entered = mesh.global_names().is_some() || mesh.clusters().any(elsewhere);
    if let (Some(gateway), true) = (cluster.gateway.clone(), is_entered) {
        let sni = asked_for(mesh, plans, cluster);
        let tries = tokio::task::spawn_blocking(move || enter(&gateway, sni, timeout));
        if let Ok((gateway, service)) = tries.await {
            (tried.gateway, tried.service) = (Some(gateway), service);
        }
    }
    tried
}

/// Whether an API server answers at an address, by the certificates that we know it by. Whom it takes us for is no matter,
/// so nothing of us is shown to it.
async fn server(said: &str, at: &kube::Cluster) -> Result<(), String> {
    use base64ct::{Base64, Encoding as _};
    let mut cluster = json!({"server": said});
    if let (Some(authority), Some(fields)) = (at.authority(), cluster.as_object_mut()) {
        let data = Base64::encode_string(authority.as_bytes());
        fields.insert("certificate-authority-data".to_owned(), json!(data));
    }
    let config = json!({
        "clusters": [{"name": "tried", "cluster": cluster}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "tried", "context": {"cluster": "tried", "user": "nobody"}}],
    });
    let config = Kubeconfig::parse(&config.to_string()).map_err(|error| error.to_string())?;
    let reached = config.cluster("tried", at.timeout()).await.map_err(|error| error.problem.to_string())?;
    match reached.version().await {
        Ok(_) => Ok(()),
        Err(error) if matches!(*error.problem, Problem::Unauthorized { .. } | Problem::Forbidden { .. }) => {
            Ok(())
        }
        Err(error) => Err(error.problem.to_string()),
    }
}

/// The name by which sidecars ask the gateway of a cluster for a service that is shown to whoever asks.
fn asked_for(mesh: &Mesh, plans: &Plans, cluster: &Cluster) -> Option<String> {
    let plans = plans.get(&cluster.name)?;
    let port = |service: &Service, port: u16| {
        evaluate::gateway(&plans.gateway, service, Some(port), None).verdict.is_allow()
    };
    let mut listed = mesh.services().filter(|(_, listing)| listing.clusters.contains(&cluster.name));
    listed.find_map(|(service, listing)| {
        let shown = listing.ports().find(|one| port(service, one.number))?;
        Some(format!("outbound_.{}_._.{}", shown.number, service.host()))
    })
}

/// Connects to a gateway, and asks it for a service.
fn enter(gateway: &Gateway, sni: Option<String>, timeout: Duration) -> (Result<(), String>, Option<Answer>) {
    let stream = match connect(gateway, timeout) {
        Ok(stream) => stream,
        Err(error) => return (Err(error.to_string()), None),
    };
    let answer = |sni: String| {
        let shown = shown(stream, &sni).map_err(|error| error.to_string());
        Answer { sni, shown }
    };
    (Ok(()), sni.map(answer))
}

fn connect(gateway: &Gateway, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (gateway.address.as_str(), gateway.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The certificates of whoever answers to a name. They are judged elsewhere; here the handshake goes only as far as they are
/// shown, since a workload then wants one of us, who have none.
fn shown(mut stream: TcpStream, sni: &str) -> io::Result<Vec<Vec<u8>>> {
    let noted = Arc::new(Noting::default());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&noted) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let mut config = config;
    // What sidecars say, by which others know that a mesh asks.
    config.alpn_protocols = vec![b"istio-peer-exchange".to_vec(), b"istio".to_vec()];
    let name = ServerName::try_from(sni.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut came = Ok(());
    while connection.is_handshaking() && came.is_ok() {
        came = connection.complete_io(&mut stream).map(|_| ());
    }
    let chain = noted.0.lock().map(|chain| chain.clone()).unwrap_or_default();
    match came {
        Err(error) if chain.is_empty() => Err(error),
        Ok(()) | Err(_) => Ok(chain),
    }
}

/// Takes down what is shown, and accepts all of it: nothing is ever said over such a connection.
#[derive(Debug, Default)]
struct Noting(Mutex<Vec<Vec<u8>>>);

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        presented: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf).chain(presented).map(|one| one.to_vec()).collect();
        if let Ok(mut noted) = self.0.lock() {
            *noted = chain;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
