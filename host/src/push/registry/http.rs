//! The way to a registry: TCP, TLS with the CAs of this machine and one's own, one request and its answer.

use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::Problem;
use crate::text::chain;

/// More than any module, and less than fills a memory.
const LARGEST: usize = 256 << 20;

/// How long a connection may take to stand; a try after it may have more luck.
const CONNECT: Duration = Duration::from_secs(10);

/// The certificates of one's own CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file has none.
    #[error("cannot use the certificates of {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No TLS can be had at all.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A client of HTTP.
#[derive(Debug, Clone)]
pub(in crate::push) struct Http {
    direct: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    tcp: HttpConnector,
    tls: ClientConfig,
    proxies: Arc<Matcher>,
}

/// What came back.
#[derive(Debug)]
pub(in crate::push) struct Answer {
    pub(in crate::push) status: StatusCode,
    pub(in crate::push) headers: HeaderMap,
    pub(in crate::push) body: Bytes,
}

impl Http {
    /// One that trusts the CAs of this machine, and those of a file.
    pub(in crate::push) fn new(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in ca_file.map(certificates).transpose()?.into_iter().flatten() {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        // As every program of this machine is told of proxies: HTTPS_PROXY and NO_PROXY.
        let proxies = Arc::new(Matcher::from_env());
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp.clone());
        let direct = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { direct, tcp, tls, proxies })
    }

    /// The way through a proxy, where one is to be used: TLS goes through it from end to end, and nothing else goes at all.
    fn tunnel(&self, to: &Uri) -> Option<Tunnel<HttpConnector>> {
        let host = to.host()?.trim_matches(['[', ']']);
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
        let tls = to.scheme_str() == Some("https");
        let proxy = self.proxies.intercept(to).filter(|_| tls && !here)?;
        let tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
        Some(match proxy.basic_auth() {
            Some(shown) => tunnel.with_auth(shown.clone()),
            None => tunnel,
        })
    }

    /// Sends a request and takes the whole answer.
    pub(in crate::push) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Problem> {
        let answer = match self.tunnel(request.uri()) {
            None => self.direct.request(request).await,
            Some(tunnel) => {
                let connector = HttpsConnectorBuilder::new()
                    .with_tls_config(self.tls.clone())
                    .https_only()
                    .enable_http1()
                    .wrap_connector(tunnel);
                Client::builder(TokioExecutor::new()).build(connector).request(request).await
            }
        };
        let answer = answer.map_err(|error| unsent(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|error| unsent(&*error))?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

impl Answer {
    /// A header, if it is there and text.
    pub(in crate::push) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let fail = |why: String| TrustError::File { path: path.to_owned(), why };
    let text = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(fail("it has no certificate in PEM".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// Why there is no answer.
fn unsent(error: &(dyn Error + 'static)) -> Problem {
    let why = chain(error);
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return Problem::Tls { why };
        }
        // An error of IO hides the one that it was made of.
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = inside.map_or_else(|| error.source(), |inside| Some(inside));
    }
    Problem::Unreachable { why }
}
