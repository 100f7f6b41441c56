//! Where proxies get the module from, with the digest that Istio compares there: each scheme has its own.

use std::fmt;
use std::str::FromStr;

use hyper::http::Uri;
use hyper::http::uri::InvalidUri;
use serde_json::{Map, Value};

use crate::reference::{ManifestDigest, Reference, ReferenceError, is_hex};

/// Where a proxy gets the module from, as the `url` of a `WasmPlugin` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleUrl {
    /// From a registry: the digest is that of the image's manifest.
    Oci(OciModule),
    /// From a web server: the digest is that of the module, unpacked.
    Http(HttpModule),
    /// From a file of each proxy: Istio compares no digest.
    File(FileModule),
}

/// A module in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciModule {
    image: Reference,
    pull_secret: Option<String>,
}

/// A module at a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpModule {
    url: String,
    digest: Option<ModuleDigest>,
}

/// A module that is a file of every proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileModule(String);

/// The SHA-256 of a module: of the bytes that Envoy runs, out of whatever they were packed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleDigest(String);

impl ModuleDigest {
    /// That of these bytes.
    pub fn of(module: &[u8]) -> Self {
        Self(crate::digest::sha256(module))
    }
}

impl fmt::Display for ModuleDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{SHA256}{}", self.0)
    }
}

const SHA256: &str = "sha256:";

/// A text is not where a module can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleUrlError {
    /// No scheme that Istio knows.
    #[error("{0:?} is not where a proxy can get a module: write oci://, https://, http:// or file://")]
    Scheme(String),
    /// No image.
    #[error("{0}")]
    Image(#[from] ReferenceError),
    /// No URL of a web server.
    #[error("{url:?} is not where a proxy can get a module: {why}")]
    Http {
        /// What was written.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No file.
    #[error("{url:?} is no file of every proxy: {why}")]
    File {
        /// What was written.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No name of a Secret.
    #[error("{0:?} is not the name of a Secret: small letters, digits, - and ., up to 253 of them")]
    Secret(String),
    /// A Secret where none is used.
    #[error("a pull secret is for images: {0} has none")]
    NoSecret(String),
}

/// What [`ModuleUrl::describe`] says, of all that a `WasmPlugin` can say.
pub(super) const FIELDS: [&str; 4] = ["url", "sha256", "imagePullPolicy", "imagePullSecret"];

impl ModuleUrl {
    /// No place at all, for objects that are compared and never applied.
    pub(crate) fn anywhere() -> Self {
        Self::File(FileModule("/".to_owned()))
    }

    /// The file that the module is, if it is one of every proxy.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::File(FileModule(path)) => Some(path),
            Self::Oci(_) | Self::Http(_) => None,
        }
    }

    /// The same, fetched with the Secret of this name, which is in the namespace of each plugin.
    pub fn with_pull_secret(self, name: &str) -> Result<Self, ModuleUrlError> {
        let byte = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        let edge = |edge: Option<u8>| edge.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let (first, last) = (name.bytes().next(), name.bytes().last());
        if !(name.len() <= 253 && name.bytes().all(byte) && edge(first) && edge(last)) {
            return Err(ModuleUrlError::Secret(name.to_owned()));
        }
        match self {
            Self::Oci(module) => Ok(Self::Oci(OciModule { pull_secret: Some(name.to_owned()), ..module })),
            Self::Http(_) | Self::File(_) => Err(ModuleUrlError::NoSecret(self.to_string())),
        }
    }

    /// What a `WasmPlugin` says of it.
    ///
    /// The digest of an image is in its URL as well: otherwise a proxy that starts after the tag was moved would get
    /// another image, see that its digest is wrong, and let nothing pass.
    pub(super) fn describe(&self, spec: &mut Map<String, Value>) {
        let mut say = |key: &str, value: &str| spec.insert(key.to_owned(), value.into());
        let digest = match self {
            Self::Oci(OciModule { image, pull_secret }) => {
                say("url", &format!("oci://{image}"));
                if let Some(name) = pull_secret {
                    say("imagePullSecret", name);
                }
                image.digest().map(ManifestDigest::hex)
            }
            Self::Http(HttpModule { url, digest }) => {
                say("url", url);
                digest.as_ref().map(|digest| digest.0.as_str())
            }
            Self::File(FileModule(path)) => {
                say("url", &format!("file://{path}"));
                return;
            }
        };
        if let Some(digest) = digest {
            say("sha256", digest);
        }
        // What leaving it out means depends on the tag.
        say("imagePullPolicy", if digest.is_some() { "IfNotPresent" } else { "Always" });
    }
}

impl OciModule {
    /// Which image.
    pub fn image(&self) -> &Reference {
        &self.image
    }

    /// The same with its digest.
    #[must_use]
    pub fn with_digest(self, digest: ManifestDigest) -> Self {
        Self { image: self.image.with_digest(digest), ..self }
    }
}

impl HttpModule {
    /// Where.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The digest, if it is known.
    pub fn digest(&self) -> Option<&ModuleDigest> {
        self.digest.as_ref()
    }

    /// The same with its digest.
    #[must_use]
    pub fn with_digest(self, digest: ModuleDigest) -> Self {
        Self { digest: Some(digest), ..self }
    }
}

impl fmt::Display for ModuleUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oci(OciModule { image, .. }) => write!(out, "oci://{image}"),
            Self::Http(HttpModule { url, digest: None }) => out.write_str(url),
            Self::Http(HttpModule { url, digest: Some(digest) }) => write!(out, "{url}@{digest}"),
            Self::File(FileModule(path)) => write!(out, "file://{path}"),
        }
    }
}

impl FromStr for ModuleUrl {
    type Err = ModuleUrlError;

    fn from_str(text: &str) -> Result<Self, ModuleUrlError> {
        match text.split_once("://") {
            Some(("oci", image)) => Ok(Self::Oci(OciModule { image: image.parse()?, pull_secret: None })),
            Some(("https" | "http", _)) => http(text).map(Self::Http),
            Some(("file", path)) => file(text, path).map(Self::File),
            _ => Err(ModuleUrlError::Scheme(text.to_owned())),
        }
    }
}

/// A URL, and after `@sha256:` the digest of the module that is there.
fn http(text: &str) -> Result<HttpModule, ModuleUrlError> {
    let fail = |why| ModuleUrlError::Http { url: text.to_owned(), why };
    let (url, digest) = match text.rsplit_once('@').filter(|(_, digest)| digest.starts_with("sha256")) {
        Some((url, digest)) => (url, Some(digest)),
        None => (text, None),
    };
    let parsed: Uri = url.parse().map_err(|_no: InvalidUri| fail("it is no URL"))?;
    match parsed.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            return Err(fail("whoever may read the plugin would read the password in it"));
        }
        Some(authority) if !authority.host().is_empty() => {}
        _ => return Err(fail("it names no host")),
    }
    if url.contains('#') {
        return Err(fail("no server is told what stands after a #"));
    }
    let digest = match digest.map(|digest| digest.strip_prefix(SHA256)) {
        None => None,
        Some(Some(hex)) if is_hex(hex) => Some(ModuleDigest(hex.to_owned())),
        Some(_) => return Err(fail("after @ comes sha256: and 64 hexadecimal digits in lower case")),
    };
    Ok(HttpModule { url: url.to_owned(), digest })
}

fn file(text: &str, path: &str) -> Result<FileModule, ModuleUrlError> {
    let fail = |why| Err(ModuleUrlError::File { url: text.to_owned(), why });
    if path.contains("@sha256:") {
        return fail("Istio compares no digest of a file: leave it out");
    }
    if !path.starts_with('/') || path.ends_with('/') {
        return fail("write file:// and its whole path, such as file:///etc/isthmus/isthmus.wasm");
    }
    Ok(FileModule(path.to_owned()))
}

#[cfg(test)]
mod tests;
