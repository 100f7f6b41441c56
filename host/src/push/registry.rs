//! A registry, as the distribution specification of OCI has it: what is asked of it, and what goes wrong as data.

mod auth;
mod call;
mod error;
mod http;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode, Uri};
use serde_json::Value;
use tokio::sync::Mutex;

use super::credentials::Found;
use super::image::{Blob, MANIFEST};
use crate::reference::{ManifestDigest, Reference};
pub(super) use call::again;
use call::{Call, uri};
pub use error::{Problem, RegistryError};
pub use http::TrustError;
pub(super) use http::{Answer, Http};

/// The types of manifests that we can tell apart; an index is asked for to say that it is one.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// How a registry is reached.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Without TLS. A registry on this machine is reached so anyway, unless a CA is named for it.
    pub plain_http: bool,
    /// Certificates of CAs to trust beside those of this machine.
    pub ca_file: Option<PathBuf>,
    /// How long a call may take, with all its tries.
    pub timeout: Duration,
}

/// What is to be done in a repository, as the service that gives tokens has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// One repository of a registry, as one user of it.
pub struct Registry {
    http: Http,
    base: String,
    host: String,
    repository: String,
    access: Access,
    timeout: Duration,
    found: Found,
    shown: Mutex<Option<HeaderValue>>,
    doubt: Mutex<Option<String>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is shown is a secret.
        out.debug_struct("Registry")
            .field("base", &self.base)
            .field("repository", &self.repository)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry of an image, once it has answered as one.
    pub async fn connect(
        image: &Reference,
        reach: &Reach,
        access: Access,
        found: Found,
    ) -> Result<Self, ConnectError> {
        let plain = reach.plain_http || (image.is_loopback() && reach.ca_file.is_none());
        let scheme = if plain { "http" } else { "https" };
        // Docker Hub's own name is not where it answers.
        let host = match image.host() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        };
        let registry = Self {
            http: Http::new(reach.ca_file.as_deref())?,
            base: format!("{scheme}://{host}"),
            host: image.host().to_owned(),
            repository: image.repository().to_owned(),
            access,
            timeout: reach.timeout,
            found,
            shown: Mutex::new(None),
            doubt: Mutex::new(None),
        };
        registry.greet().await.map_err(|problem| registry.error("connect", problem))?;
        Ok(registry)
    }

    /// Why proxies may get nothing from a registry that takes our pushes.
    pub async fn doubt(&self) -> Option<String> {
        self.doubt.lock().await.clone()
    }

    /// A manifest by its tag or digest, if it is there: the very bytes, and what they are.
    pub async fn manifest(&self, version: &str) -> Result<Option<(Vec<u8>, ManifestDigest)>, RegistryError> {
        let call = Call::get(self.uri(&format!("manifests/{version}"))).accept(MANIFESTS);
        let got = match self.call(&call).await {
            Ok(answer) => Ok(Some(answer.body.to_vec())),
            Err(Problem::NotFound { .. }) => Ok(None),
            Err(problem) => Err(problem),
        };
        let got = got.and_then(|got| {
            let Some(bytes) = got else { return Ok(None) };
            let digest = ManifestDigest::of(&bytes);
            let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if json.get("schemaVersion").is_none() && !version.contains(':') {
                return Err(Problem::NotARegistry { why: "its answer is no manifest".to_owned() });
            }
            if version.contains(':') && version != digest.to_string() {
                return Err(Problem::Mismatch { wanted: version.to_owned(), got: digest.to_string() });
            }
            Ok(Some((bytes, digest)))
        });
        got.map_err(|problem| self.error(&format!("read {}", self.called(version)), problem))
    }

    /// The bytes of a digest.
    pub async fn blob(&self, digest: &str) -> Result<Vec<u8>, RegistryError> {
        let call = Call::get(self.uri(&format!("blobs/sha256:{digest}")));
        let got = self.call(&call).await.and_then(|answer| {
            let blob = Blob::new(answer.body.to_vec());
            if blob.digest() == digest {
                return Ok(blob.into_bytes());
            }
            let named = |digest: &str| format!("sha256:{digest}");
            Err(Problem::Mismatch { wanted: named(digest), got: named(blob.digest()) })
        });
        got.map_err(|problem| self.error(&format!("read a blob of {}", self.repository), problem))
    }

    /// Brings a blob, unless it is there. Returns whether it was brought.
    pub async fn upload(&self, blob: &Blob) -> Result<bool, RegistryError> {
        // From the start at each try: what a registry has of an upload that broke off, it alone knows, and a try before may
        // have arrived with only its answer lost.
        let brought = again(self.timeout, async || {
            if self.has(blob).await? {
                return Ok(false);
            }
            let begin = Call::new(Method::POST, self.uri("blobs/uploads/"));
            let begun = self.once(&begin).await?;
            let there = begun.header(LOCATION.as_str()).ok_or_else(|| Problem::NotARegistry {
                why: "it takes an upload and does not say where to".to_owned(),
            })?;
            let end = Call::new(Method::PUT, self.upload_to(there, blob)?)
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(blob.bytes());
            self.once(&end).await.map(|_| true)
        });
        let deed = || format!("upload {} bytes to {}", blob.bytes().len(), self.repository);
        brought.await.map_err(|problem| self.error(&deed(), problem))
    }

    /// Brings a manifest whose blobs are there, under a tag or its digest.
    pub async fn put_manifest(&self, manifest: &Blob, version: &str) -> Result<(), RegistryError> {
        let call = Call::new(Method::PUT, self.uri(&format!("manifests/{version}")))
            .header(CONTENT_TYPE, MANIFEST)
            .body(manifest.bytes());
        let put = self.call(&call).await.map(drop);
        put.map_err(|problem| self.error(&format!("write {}", self.called(version)), problem))
    }

    async fn has(&self, blob: &Blob) -> Result<bool, Problem> {
        let path = format!("blobs/sha256:{}", blob.digest());
        match self.once(&Call::new(Method::HEAD, self.uri(&path))).await {
            Ok(_) => Ok(true),
            Err(Problem::NotFound { .. }) => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    /// Where the bytes of an upload go: the registry says, in full or without its own name.
    fn upload_to(&self, location: &str, blob: &Blob) -> Result<String, Problem> {
        let there = onward(&self.base, location)?;
        let mark = if there.contains('?') { '&' } else { '?' };
        Ok(format!("{there}{mark}digest=sha256:{}", blob.digest()))
    }

    /// What answers at `/v2/` is a registry; what it wants to see is shown from here on.
    async fn greet(&self) -> Result<(), Problem> {
        let call = Call::get(format!("{}/v2/", self.base));
        match self.call(&call).await {
            Ok(answer) if answer.status == StatusCode::OK => Ok(()),
            Ok(answer) => Err(Problem::NotARegistry { why: format!("GET /v2/ answers {}", answer.status) }),
            // Services that give tokens for a repository alone do not let everybody in at the door.
            Err(Problem::Denied { .. }) => Ok(()),
            Err(Problem::Refused { code, message }) => {
                Err(Problem::NotARegistry { why: format!("GET /v2/ answers {code}: {message}") })
            }
            Err(Problem::NotFound { message }) => Err(Problem::NotARegistry {
                why: format!("GET /v2/ answers 404 {message}").trim_end().to_owned(),
            }),
            Err(problem) => Err(problem),
        }
    }

    fn called(&self, version: &str) -> String {
        let mark = if version.contains(':') { '@' } else { ':' };
        format!("{}{mark}{version}", self.repository)
    }

    fn uri(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.repository)
    }

    fn error(&self, deed: &str, problem: Problem) -> RegistryError {
        RegistryError { host: self.host.clone(), deed: deed.to_owned(), problem: Box::new(problem) }
    }
}

/// Where a server sends us on to. Nothing that came by TLS goes on without it.
pub(super) fn onward(from: &str, location: &str) -> Result<String, Problem> {
    let astray = |why: &str| Problem::Astray { to: location.to_owned(), why: why.to_owned() };
    let there: Uri = if location.starts_with('/') {
        let at = uri(from)?;
        let server = (at.scheme_str().unwrap_or_default(), at.authority().map_or("", Authority::as_str));
        uri(&format!("{}://{}{location}", server.0, server.1))?
    } else {
        uri(location)?
    };
    match there.scheme_str() {
        Some("https") => Ok(there.to_string()),
        Some("http") if from.starts_with("http:") => Ok(there.to_string()),
        Some("http") => Err(astray("it has no TLS; a registry behind a proxy has to know its own URL")),
        _ => Err(astray("it is no URL of http")),
    }
}

/// No registry can be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// What to trust cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The registry does not answer as one.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

#[cfg(test)]
mod tests;
