//! What a URL of a module stands for now, so that every proxy gets the same one, whatever is there later.

use std::io::Read;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::LOCATION;

use super::credentials::{CredentialsError, Keychain};
use super::image::{self, ImageError};
use super::registry::{
    Access, Answer, ConnectError, Http, Problem, Reach, Registry, RegistryError, TrustError, again,
};
use crate::plugin::{HttpModule, ModuleDigest, ModuleUrl, OciModule};

/// How often a web server may send us on: as often as Istio's fetcher, that of Go, lets it.
const HOPS: usize = 10;

/// More than any module.
const LARGEST: u64 = 256 << 20;

/// A URL stands for no module.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The registry cannot be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// What to trust cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The registry does not tell.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No image is there.
    #[error("{0} is not there: `isthmus push` puts a module there")]
    NoImage(String),
    /// What is there is no image for Istio.
    #[error("{url}: {why}")]
    Image {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: ImageError,
    },
    /// The web server does not give it.
    #[error("{url}: cannot fetch it: {why}")]
    Fetch {
        /// The URL.
        url: String,
        /// Why.
        why: Problem,
    },
    /// What it gives is no module.
    #[error("{url}: what is there is no module, neither as it is nor unpacked: {why}")]
    NoModule {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is there has another digest than the URL says.
    #[error("{url}: what is there is {got}, and not {wanted}")]
    Another {
        /// The URL.
        url: String,
        /// The digest that it says.
        wanted: String,
        /// That of what is there.
        got: String,
    },
}

impl ResolveError {
    /// Whether it says something of what is there, and not of the way to it.
    fn is_final(&self) -> bool {
        match self {
            Self::NoImage(_) | Self::Image { .. } | Self::NoModule { .. } | Self::Another { .. } => true,
            Self::Registry(error) => matches!(*error.problem, Problem::Mismatch { .. }),
            Self::Fetch { why, .. } => matches!(why, Problem::NotFound { .. }),
            Self::Credentials(_) | Self::Connect(_) | Self::Trust(_) => false,
        }
    }
}

/// The URL with the digest of what is there now. One that has a digest, and a file, stay as they are, and nobody is asked.
pub async fn resolve(url: ModuleUrl, reach: &Reach, keychain: &Keychain) -> Result<ModuleUrl, ResolveError> {
    match url {
        ModuleUrl::Oci(module) if module.image().digest().is_none() => {
            oci(module, reach, keychain).await.map(ModuleUrl::Oci)
        }
        ModuleUrl::Http(module) if module.digest().is_none() => {
            http(module, reach).await.map(ModuleUrl::Http)
        }
        known @ (ModuleUrl::Oci(_) | ModuleUrl::Http(_) | ModuleUrl::File(_)) => Ok(known),
    }
}

/// Whether what has a digest is there under it, as far as anybody answers: an error if it is not, and why nobody can say
/// otherwise. A file is in each proxy, and not to be seen from here.
pub async fn confirm(
    url: &ModuleUrl,
    reach: &Reach,
    keychain: &Keychain,
) -> Result<Option<String>, ResolveError> {
    let confirmed = match url {
        ModuleUrl::Oci(module) => pinned_image(module, reach, keychain).await,
        ModuleUrl::Http(module) => pinned_file(module, reach).await,
        ModuleUrl::File(_) => Ok(()),
    };
    match confirmed {
        Ok(()) => Ok(None),
        Err(error) if error.is_final() => Err(error),
        Err(error) => Ok(Some(error.to_string())),
    }
}

async fn pinned_image(module: &OciModule, reach: &Reach, keychain: &Keychain) -> Result<(), ResolveError> {
    let image = module.image();
    let Some(digest) = image.digest() else { return Ok(()) };
    let registry = Registry::connect(image, reach, Access::Pull, keychain.find(image.host())?).await?;
    match registry.manifest(&digest.to_string()).await? {
        Some(_) => Ok(()),
        None => Err(ResolveError::NoImage(format!("oci://{image}"))),
    }
}

async fn pinned_file(module: &HttpModule, reach: &Reach) -> Result<(), ResolveError> {
    let Some(wanted) = module.digest() else { return Ok(()) };
    let got = fetched(module, reach).await?;
    if got == *wanted {
        return Ok(());
    }
    let (wanted, got) = (wanted.to_string(), got.to_string());
    Err(ResolveError::Another { url: module.url().to_owned(), wanted, got })
}

async fn oci(module: OciModule, reach: &Reach, keychain: &Keychain) -> Result<OciModule, ResolveError> {
    let image = module.image();
    let registry = Registry::connect(image, reach, Access::Pull, keychain.find(image.host())?).await?;
    let url = format!("oci://{image}");
    let Some((manifest, digest)) = registry.manifest(&image.version()).await? else {
        return Err(ResolveError::NoImage(url));
    };
    image::named(&manifest).map_err(|why| ResolveError::Image { url, why })?;
    Ok(module.with_digest(digest))
}

async fn http(module: HttpModule, reach: &Reach) -> Result<HttpModule, ResolveError> {
    let digest = fetched(&module, reach).await?;
    Ok(module.with_digest(digest))
}

/// What a web server has, unpacked.
async fn fetched(module: &HttpModule, reach: &Reach) -> Result<ModuleDigest, ResolveError> {
    let http = Http::new(reach.ca_file.as_deref())?;
    let got = again(reach.timeout, async || fetch(&http, module.url()).await).await;
    let bytes = got.map_err(|why| ResolveError::Fetch { url: module.url().to_owned(), why })?;
    let unpacked = unpack(bytes.to_vec());
    let unpacked = unpacked.map_err(|why| ResolveError::NoModule { url: module.url().to_owned(), why })?;
    Ok(ModuleDigest::of(&unpacked))
}

async fn fetch(http: &Http, url: &str) -> Result<Bytes, Problem> {
    let mut url = url.to_owned();
    for _ in 0..HOPS {
        let request = Request::get(&url).body(Full::default());
        let request = request.map_err(|error| Problem::Astray { to: url.clone(), why: error.to_string() })?;
        let answer = http.send(request).await?;
        match answer.header(LOCATION.as_str()) {
            Some(location) if answer.status.is_redirection() => {
                url = super::registry::onward(&url, location)?;
            }
            _ if answer.status.is_success() => return Ok(answer.body),
            _ => return Err(refused(&answer)),
        }
    }
    Err(Problem::Astray { to: url, why: "it goes round in circles".to_owned() })
}

fn refused(answer: &Answer) -> Problem {
    let message = answer.status.canonical_reason().unwrap_or_default().to_owned();
    let retry_after = answer.header("retry-after").and_then(|value| value.parse().ok());
    match answer.status.as_u16() {
        404 => Problem::NotFound { message },
        429 => Problem::Throttled { retry_after: retry_after.map(Duration::from_secs), message },
        code @ 500.. => Problem::Server { code, message },
        code => Problem::Refused { code, message },
    }
}

/// The module in what was fetched, as Istio's fetcher finds it: out of gzip, out of the first file of a tar, and so on.
fn unpack(mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    loop {
        bytes = if bytes.starts_with(b"\0asm") && bytes.len() >= 8 {
            return Ok(bytes);
        } else if bytes.starts_with(b"\x1f\x8b") {
            all(MultiGzDecoder::new(bytes.as_slice()))?
        } else if bytes.get(257..262) == Some(b"ustar") {
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut entries = archive.entries().map_err(|error| error.to_string())?;
            match entries.next() {
                Some(entry) => all(entry.map_err(|error| error.to_string())?)?,
                None => return Err("its tar is empty".to_owned()),
            }
        } else {
            return Err("it does not begin as WebAssembly, gzip or tar do".to_owned());
        }
    }
}

fn all(from: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    from.take(LARGEST).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
