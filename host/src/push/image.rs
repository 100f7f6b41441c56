//! A module as the image that Istio's fetcher takes: one manifest, one layer `tar+gzip`, in it `plugin.wasm`.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use crate::digest::sha256;
use crate::reference::{ManifestDigest, is_hex};

/// The manifest's type: the one of an image, as Istio takes no other artifact.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The name that Istio looks for in the last layer.
const FILE: &str = "plugin.wasm";

/// Says which module is in an image: for people, and for whoever looks for one by it.
pub const MODULE: &str = "dev.isthmus.module.sha256";

/// Bytes that are called by their SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: sha256(&bytes), bytes }
    }

    /// Their SHA-256, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// They themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// They themselves, kept.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }
}

/// An image, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    manifest: Blob,
    blobs: Vec<Blob>,
}

/// No image can be made, or what should be one is none.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file is no module.
    #[error("it does not begin as WebAssembly does: write the module that `isthmus build` makes")]
    NotWasm,
    /// The archive cannot be packed.
    #[error("cannot pack the module")]
    Pack(#[from] std::io::Error),
    /// A manifest is not one that Istio takes.
    #[error("Istio would not take the image: {0}")]
    Shape(String),
}

impl Image {
    /// The image of a module: its bytes are a function of the module and the annotations.
    ///
    /// No time, no owner, no name of this machine is in it, so that whoever builds the module gets the digest that we have.
    pub fn of(module: &[u8], annotations: &BTreeMap<String, String>) -> Result<Self, ImageError> {
        if !module.starts_with(b"\0asm") {
            return Err(ImageError::NotWasm);
        }
        let archive = archive(module)?;
        // What runs it is an Envoy of any machine: what an image for wasm says.
        let config = Blob::new(canonical(&json!({
            "architecture": "wasm",
            "config": {},
            "os": "wasi",
            "rootfs": {"diff_ids": [format!("sha256:{}", sha256(&archive))], "type": "layers"},
        })));
        let layer = Blob::new(compress(&archive)?);
        let mut notes = annotations.clone();
        notes.insert(MODULE.to_owned(), sha256(module));
        let manifest = Blob::new(canonical(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": [layer.descriptor(LAYER)],
            "annotations": notes,
        })));
        Ok(Self { manifest, blobs: vec![config, layer] })
    }

    /// The manifest, by whose digest the image goes.
    pub fn manifest(&self) -> &Blob {
        &self.manifest
    }

    /// What the manifest names, in the order in which it may come.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// The digest that Istio compares.
    pub fn digest(&self) -> ManifestDigest {
        ManifestDigest::of(&self.manifest.bytes)
    }

    /// How much is brought to a registry that has nothing of it.
    pub fn size(&self) -> usize {
        self.blobs.iter().chain([&self.manifest]).map(|blob| blob.bytes.len()).sum()
    }

    /// The image of a manifest, whose blobs `read` finds by their digest.
    pub fn gather<E: From<ImageError>>(
        manifest: Vec<u8>,
        read: impl Fn(&str) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let names = named(&manifest)?;
        let blobs = names.iter().map(|digest| read(digest).map(Blob::new)).collect::<Result<_, E>>()?;
        Ok(Self { manifest: Blob::new(manifest), blobs })
    }
}

/// The digests of what a manifest names, if Istio takes an image of such a manifest.
pub fn named(manifest: &[u8]) -> Result<Vec<String>, ImageError> {
    let wrong = |why: &str| ImageError::Shape(why.to_owned());
    let json: Value =
        serde_json::from_slice(manifest).map_err(|error| ImageError::Shape(error.to_string()))?;
    if json.get("manifests").is_some() {
        return Err(wrong(
            "it is an index of several, and Istio compares the digest of the one that it picks: name that one",
        ));
    }
    let digest = |descriptor: &Value| {
        let digest = descriptor.get("digest").and_then(Value::as_str)?.strip_prefix("sha256:")?;
        is_hex(digest).then(|| digest.to_owned())
    };
    let config = json.get("config").and_then(digest).ok_or_else(|| wrong("its manifest names no config"))?;
    let layers = json.get("layers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let last = layers.last().and_then(|layer| layer.get("mediaType")).and_then(Value::as_str);
    // What Docker calls its own layers is the same thing.
    let taken = match json.get("mediaType").and_then(Value::as_str) {
        Some("application/vnd.docker.distribution.manifest.v2+json") => {
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
        }
        _ => LAYER,
    };
    if last != Some(taken) {
        return Err(ImageError::Shape(format!(
            "its last layer is {}, not {taken}",
            last.unwrap_or("missing")
        )));
    }
    let layers = layers.iter().map(|layer| digest(layer).ok_or_else(|| wrong("a layer has no digest")));
    std::iter::once(Ok(config)).chain(layers).collect()
}

fn archive(module: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let mut header = tar::Header::new_ustar();
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, FILE, module)?;
    archive.into_inner()
}

fn compress(archive: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    // 255 is `unknown`: otherwise the header would tell the system.
    let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    gzip.write_all(archive)?;
    gzip.finish()
}

/// Keys in alphabetical order, no blanks.
fn canonical(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
