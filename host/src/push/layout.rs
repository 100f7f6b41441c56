//! Images as directories, in the layout that OCI defines: what is carried to where no registry can be reached.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::image::{Blob, Image, ImageError, MANIFEST};
use crate::reference::{ManifestDigest, ReferenceError};

/// The annotation by which crane, skopeo and oras call an image of a layout.
const NAME: &str = "org.opencontainers.image.ref.name";

/// A directory cannot be written or read as a layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The directory has other things in it.
    #[error("{0} is not empty and is no OCI image layout: name a directory that is, or a new one")]
    Foreign(PathBuf),
    /// A file is not what a layout has there.
    #[error("{path} is not what an OCI image layout has there: {why}")]
    Shape {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A blob has other bytes than its name says.
    #[error("{0} does not have the SHA-256 that it is called by: copy the layout again")]
    Mismatch(PathBuf),
    /// Nothing says which image is meant.
    #[error("{path} has {}: {why}", if known.is_empty() { "no image with a tag".to_owned() } else { format!("the images {}", known.join(", ")) })]
    Which {
        /// The layout.
        path: PathBuf,
        /// The tags that it has.
        known: Vec<String>,
        /// What was asked for.
        why: String,
    },
    /// The image is none for Istio.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Puts an image into a layout, beside those that are there; it takes the tag from another one.
///
/// The index is written last: until then the layout is as it was.
pub fn write(image: &Image, directory: &Path, tag: Option<&str>) -> Result<(), LayoutError> {
    let index = directory.join("index.json");
    let mut manifests = if index.exists() {
        entries(directory)?
    } else {
        let empty = match std::fs::read_dir(directory) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(source) => return Err(LayoutError::Read { path: directory.to_owned(), source }),
        };
        if !empty {
            return Err(LayoutError::Foreign(directory.to_owned()));
        }
        Vec::new()
    };
    let digest = image.digest().to_string();
    manifests.retain(|entry| match name(entry) {
        Some(name) => Some(name) != tag,
        None => tag.is_some() && entry.get("digest").and_then(Value::as_str) != Some(&digest),
    });
    let mut entry = json!({"mediaType": MANIFEST, "digest": digest, "size": image.manifest().bytes().len()});
    if let (Some(tag), Some(entry)) = (tag, entry.as_object_mut()) {
        entry.insert("annotations".to_owned(), json!({NAME: tag}));
    }
    manifests.push(entry);
    for blob in image.blobs().iter().chain([image.manifest()]) {
        put(&blob_path(directory, blob.digest()), blob.bytes())?;
    }
    put(&directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let all = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    put(&index, all.to_string().as_bytes())
}

/// The image of a layout: the one with this tag; or the one there is.
pub fn read(directory: &Path, tag: Option<&str>) -> Result<Image, LayoutError> {
    let entries = entries(directory)?;
    let tagged = tag.and_then(|tag| entries.iter().find(|entry| name(entry) == Some(tag)));
    let entry = match (tagged, entries.as_slice()) {
        (Some(entry), _) | (None, [entry]) => entry,
        (None, _) => {
            let known = entries.iter().filter_map(name).map(str::to_owned).collect();
            let why = match tag {
                Some(tag) => format!("none is called {tag}"),
                None => "say which by a tag".to_owned(),
            };
            return Err(LayoutError::Which { path: directory.to_owned(), known, why });
        }
    };
    let digest: ManifestDigest =
        entry.get("digest").and_then(Value::as_str).unwrap_or_default().parse().map_err(
            |error: ReferenceError| LayoutError::Shape {
                path: directory.join("index.json"),
                why: error.to_string(),
            },
        )?;
    let blob = |digest: &str| {
        let path = blob_path(directory, digest);
        let blob = Blob::new(get(&path)?);
        if blob.digest() == digest { Ok(blob.into_bytes()) } else { Err(LayoutError::Mismatch(path)) }
    };
    Image::gather(blob(digest.hex())?, blob)
}

fn entries(directory: &Path) -> Result<Vec<Value>, LayoutError> {
    let path = directory.join("index.json");
    let wrong = |why: String| LayoutError::Shape { path: path.clone(), why };
    let index: Value = serde_json::from_slice(&get(&path)?).map_err(|error| wrong(error.to_string()))?;
    match index.get("manifests") {
        Some(Value::Array(entries)) => Ok(entries.clone()),
        _ => Err(wrong("it has no list `manifests`".to_owned())),
    }
}

fn name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(NAME)?.as_str()
}

fn blob_path(directory: &Path, digest: &str) -> PathBuf {
    directory.join("blobs/sha256").join(digest)
}

fn get(path: &Path) -> Result<Vec<u8>, LayoutError> {
    std::fs::read(path).map_err(|source| LayoutError::Read { path: path.to_owned(), source })
}

/// Whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    let fail = |source| LayoutError::Write { path: path.to_owned(), source };
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(fail)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(fail)?;
    file.persist(path).map(drop).map_err(|error| fail(error.error))
}

#[cfg(test)]
mod tests;
