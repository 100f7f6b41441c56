//! The module to a registry, as an image that Istio's own fetcher takes; or into a directory that is carried to one.
//!
//! ```text
//! module ── Image::of ──> Image ── push ──> registry ── manifest and blobs, by digest ──> compared ──> Reference@sha256:…
//!                           └─ layout::write ──> directory ── layout::read ──> Image, elsewhere
//! ```

pub mod credentials;
pub mod image;
pub mod layout;
pub mod registry;
pub mod resolve;

use crate::reference::{ManifestDigest, Reference};
use image::Image;
use registry::{Registry, RegistryError};

/// An image that is at a registry: what was brought has been read again and is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Where, with its digest.
    pub image: Reference,
    /// Whether the tag had this image before.
    pub was_there: bool,
}

/// Why an image is not at a registry.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Nothing says under which tag.
    #[error("{0} has no tag: write {0}:v1, say, as what no tag holds a registry may throw away")]
    NoTag(String),
    /// What is to be pushed has a digest of its own.
    #[error("{0} has a digest, and what is pushed gets its own: leave the digest out")]
    HasDigest(String),
    /// The tag is another image's.
    #[error("{image} is {there}, and this would be {ours}: take another tag, or say --overwrite")]
    Taken {
        /// The image.
        image: String,
        /// What the tag has.
        there: ManifestDigest,
        /// What it would have.
        ours: ManifestDigest,
    },
    /// What was brought is not what can be read again.
    #[error(
        "{image} was pushed, and {what}: do not roll it out; push it again, and if that does not help, ask who runs the registry"
    )]
    NotThere {
        /// The image.
        image: String,
        /// What is wrong.
        what: String,
    },
    /// What was brought cannot be read again.
    #[error(
        "{image} was pushed, and cannot be read again: do not roll it out before the same push says that it can: {why}"
    )]
    Unread {
        /// The image.
        image: String,
        /// Why.
        why: RegistryError,
    },
    /// The registry does not do it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Checks that an image can be pushed there, before anything is asked of a registry.
pub fn check(to: &Reference) -> Result<&str, PushError> {
    match (to.tag(), to.digest()) {
        (_, Some(_)) => Err(PushError::HasDigest(to.to_string())),
        (None, None) => Err(PushError::NoTag(to.to_string())),
        (Some(tag), None) => Ok(tag),
    }
}

/// Brings an image to a registry, as far as it is not there, and reads all of it again.
///
/// The manifest comes last: until then the tag is what it was, and a push that breaks off anywhere has changed nothing that
/// anybody sees. The same push again goes on from there.
pub async fn push(
    image: &Image,
    to: &Reference,
    registry: &Registry,
    overwrite: bool,
) -> Result<Pushed, PushError> {
    let tag = check(to)?;
    let ours = image.digest();
    let there = registry.manifest(tag).await?.map(|(_, digest)| digest);
    let was_there = there.as_ref() == Some(&ours);
    match there {
        Some(there) if !was_there && !overwrite => {
            return Err(PushError::Taken { image: to.to_string(), there, ours });
        }
        _ => {}
    }
    for blob in image.blobs() {
        registry.upload(blob).await?;
    }
    if !was_there {
        registry.put_manifest(image.manifest(), tag).await?;
    }
    compare(image, to, registry, tag).await?;
    Ok(Pushed { image: to.clone().with_digest(ours), was_there })
}

/// Reads an image again, by its digest and by its tag.
async fn compare(image: &Image, to: &Reference, registry: &Registry, tag: &str) -> Result<(), PushError> {
    let ours = image.digest();
    let not_there = |what: String| Err(PushError::NotThere { image: to.to_string(), what });
    let unread = |why| PushError::Unread { image: to.to_string(), why };
    match registry.manifest(&ours.to_string()).await.map_err(unread)? {
        Some((manifest, _)) if manifest == image.manifest().bytes() => {}
        _ => return not_there(format!("nothing has its digest {ours}")),
    }
    for blob in image.blobs() {
        if registry.blob(blob.digest()).await.map_err(unread)? != blob.bytes() {
            return not_there(format!("the blob sha256:{} is another", blob.digest()));
        }
    }
    match registry.manifest(tag).await.map_err(unread)? {
        Some((_, digest)) if digest == ours => Ok(()),
        Some((_, digest)) => not_there(format!("the tag has {digest} and not {ours}")),
        None => not_there(format!("the tag has nothing and not {ours}")),
    }
}
