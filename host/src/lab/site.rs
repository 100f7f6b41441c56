//! The ground of a lab: its addresses and its directory, before anything runs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::addresses::Addresses;
use super::blueprint::Blueprint;
use super::error::LabError;
use super::secret::TOKEN_KEY;
use crate::cert::TokenKey;

/// A claimed range of loopback addresses and a directory.
///
/// Between [`Site::claim`] and [`Site::up`] the caller puts WasmPlugins into [`Site::plugins`], compiled with the
/// addresses this gives.
#[derive(Debug)]
pub struct Site {
    blueprint: Blueprint,
    dir: PathBuf,
    addresses: Addresses,
}

impl Site {
    /// Checks the blueprint and claims addresses, which are ours until the lab is gone.
    pub fn claim(blueprint: Blueprint, dir: &Path) -> Result<Self, LabError> {
        blueprint.check().map_err(|source| LabError::Blueprint { source })?;
        // Envoy reads its files by absolute path.
        let dir =
            std::path::absolute(dir).map_err(|source| LabError::File { path: dir.to_owned(), source })?;
        for cluster in &blueprint.clusters {
            let path = dir.join("clusters").join(&cluster.name);
            std::fs::create_dir_all(&path).map_err(|source| LabError::File { path, source })?;
        }
        Ok(Self { blueprint, dir, addresses: Addresses::claim()? })
    }

    /// The addresses of a cluster's workloads, for example `127.10.1.0/24`.
    #[must_use]
    pub fn pod_cidr(&self, cluster: &str) -> Option<String> {
        self.number(cluster).map(|n| self.addresses.pod_cidr(n))
    }

    /// The address of a cluster's east-west gateway.
    #[must_use]
    pub fn gateway(&self, cluster: &str) -> Option<IpAddr> {
        self.number(cluster).map(|n| self.addresses.gateway(n).into())
    }

    /// The directory that plays a cluster's API server: its WasmPlugins, as YAML files.
    #[must_use]
    pub fn plugins(&self, cluster: &str) -> PathBuf {
        self.dir.join("clusters").join(cluster)
    }

    /// Gives a cluster's pods a key for tokens, those of one namespace or all, as applying the Secret that
    /// `isthmus mesh token-key` prints does; proxies that start after it sign with it.
    pub fn give_token_key(
        &self,
        cluster: &str,
        namespace: Option<&str>,
        key: &TokenKey,
    ) -> Result<(), LabError> {
        let mut metadata = json!({"name": TOKEN_KEY});
        if let (Some(namespace), Some(fields)) = (namespace, metadata.as_object_mut()) {
            fields.insert("namespace".to_owned(), json!(namespace));
        }
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"key": key.secret()},
        });
        let file = format!("{TOKEN_KEY}@{}.yaml", namespace.unwrap_or_default());
        replace_private(&self.plugins(cluster).join(file), &secret.to_string())
    }

    /// What the lab is made of.
    #[must_use]
    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    /// Where everything of this lab lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    fn number(&self, cluster: &str) -> Option<usize> {
        self.blueprint.clusters.iter().position(|c| c.name == cluster)
    }
}

/// Replaces a file that only its owner may read: one of them is a key.
pub(super) fn replace_private(path: &Path, content: &str) -> Result<(), LabError> {
    let write = || {
        use std::io::Write as _;
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or_else(|| Path::new(".")))?;
        file.write_all(content.as_bytes())?;
        file.persist(path).map_err(|e| e.error)
    };
    match write() {
        Ok(_) => Ok(()),
        Err(source) => Err(LabError::File { path: path.to_owned(), source }),
    }
}
