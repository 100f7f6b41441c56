//! Which image of which registry, as everyone writes it: `host/repository:tag@sha256:digest`.

use std::fmt;
use std::str::FromStr;

/// What starts a digest by SHA-256, the only kind that Istio compares.
const SHA256: &str = "sha256:";

/// The SHA-256 of an image's manifest: what an image is, whatever its tags say later.
///
/// It is a type of its own because the digest of a module is another one, and Istio compares which of both depends on how it
/// gets the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDigest(String);

impl ManifestDigest {
    /// That of a manifest with these bytes.
    pub fn of(manifest: &[u8]) -> Self {
        Self(crate::digest::sha256(manifest))
    }

    /// 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ManifestDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{SHA256}{}", self.0)
    }
}

impl FromStr for ManifestDigest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.strip_prefix(SHA256).filter(|hex| is_hex(hex)) {
            Some(hex) => Ok(Self(hex.to_owned())),
            None => Err(ReferenceError::Digest(text.to_owned())),
        }
    }
}

/// Whether a text is a SHA-256 as Istio takes it.
pub(crate) fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// An image of a registry, by tag, by digest, or by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<ManifestDigest>,
}

/// A text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing says which registry.
    #[error(
        "{0:?} names no registry: write host/repository:tag, such as docker.io/example/isthmus:v1, as Istio takes what \
         stands before the first / for a registry only if it has a dot or a port"
    )]
    Host(String),
    /// The host is none.
    #[error("{0:?} is not the host of a registry: write a name or an address, with :port if need be")]
    Name(String),
    /// The repository has a form that registries refuse.
    #[error(
        "{0:?} is not a repository: it has small letters, digits and single . _ - between them, in parts set apart by /"
    )]
    Repository(String),
    /// The tag has a form that registries refuse.
    #[error("{0:?} is not a tag: it has up to 128 letters, digits, . _ - and begins with neither . nor -")]
    Tag(String),
    /// The digest is none.
    #[error("{0:?} is not a digest: write sha256: and 64 hexadecimal digits in lower case")]
    Digest(String),
}

impl Reference {
    /// The registry, with its port if it was said.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if it was said.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if it is known.
    pub fn digest(&self) -> Option<&ManifestDigest> {
        self.digest.as_ref()
    }

    /// The same image, by what it is.
    #[must_use]
    pub fn with_digest(mut self, digest: ManifestDigest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// What a registry is asked for: the digest, where it is known; else the tag, which is `latest` if it was not said.
    pub fn version(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag.as_deref().unwrap_or("latest").to_owned(),
        }
    }

    /// The host as such, without its port.
    pub fn name(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => &self.host,
        }
    }

    /// Whether the registry is on this machine.
    pub fn is_loopback(&self) -> bool {
        let name = self.name().trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repository, tag, digest } = self;
        write!(out, "{host}/{repository}")?;
        if let Some(tag) = tag {
            write!(out, ":{tag}")?;
        }
        digest.as_ref().map_or(Ok(()), |digest| write!(out, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (host, path) = rest.split_once('/').ok_or_else(|| ReferenceError::Host(text.to_owned()))?;
        if !host.contains(['.', ':']) {
            return Err(ReferenceError::Host(text.to_owned()));
        }
        if !is_host(host) {
            return Err(ReferenceError::Name(host.to_owned()));
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !is_repository(repository) {
            return Err(ReferenceError::Repository(repository.to_owned()));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        let tag = tag.map(str::to_owned);
        Ok(Self { host: host.to_owned(), repository: of_hub(host, repository), tag, digest })
    }
}

/// Docker Hub keeps what has no owner in `library/`, and Istio asks it there.
fn of_hub(host: &str, repository: &str) -> String {
    let hub = matches!(host, "docker.io" | "index.docker.io") && !repository.contains('/');
    if hub { format!("library/{repository}") } else { repository.to_owned() }
}

/// As a URL has it: no user, no path, a port if any.
fn is_host(host: &str) -> bool {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    host.bytes().all(name)
        && host.parse::<hyper::http::uri::Authority>().is_ok_and(|authority| {
            let port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
            !authority.host().is_empty() && (port.is_none() || authority.port_u16().is_some())
        })
}

fn is_repository(text: &str) -> bool {
    let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let mut gaps = part.split(|c: char| c.is_ascii() && small(c as u8)).filter(|gap| !gap.is_empty());
        let gap = |gap: &str| matches!(gap, "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-');
        part.bytes().next().is_some_and(small) && part.bytes().last().is_some_and(small) && gaps.all(gap)
    };
    (2..=255).contains(&text.len()) && text.split('/').all(part)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests;
