//! A mesh on stage: the lab's addresses put in, policies compiled for them, plans rolled out into its clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use policy::cidr::{Cidr, CidrError};
use policy::compile::Plans;
use policy::name::{ClusterName, KeyId, Namespace, ServiceAccount};
use policy::{Finding, Mesh, Policy};

use crate::cert::{CertError, TokenKey};
use crate::digest::sha256;
use crate::kube::ClusterError;
use crate::lab::{Application, Blueprint, Client, LabCluster, LabError, LabService, Site};
use crate::plugin::{ModuleUrl, ModuleUrlError};
use crate::rollout::{self, Change, Options, RolloutError, Target};

/// Why a mesh did not get on stage.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The lab has no ground to stand on.
    #[error("cannot set up the lab")]
    Lab(#[from] LabError),
    /// The lab's addresses are none.
    #[error("the lab has an unusable address range")]
    Addresses(#[from] CidrError),
    /// The module cannot be read or copied.
    #[error("cannot use the module {path}: run `isthmus build` first")]
    Module {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key for tokens cannot be used.
    #[error("cannot use a key for tokens")]
    TokenKey(#[from] CertError),
    /// The module lies where no URL leads.
    #[error("the module's place has no URL")]
    Url(#[from] ModuleUrlError),
    /// The plans cannot be written.
    #[error("cannot roll out")]
    Rollout(#[from] RolloutError),
    /// The policies cannot be compiled for the lab's addresses.
    #[error("the policies have errors: {}", .findings.first().map(ToString::to_string).unwrap_or_default())]
    Findings {
        /// What is wrong.
        findings: Vec<Finding>,
    },
}

/// The mesh as the lab plays it: the same but for its addresses and its CA.
#[derive(Debug)]
pub struct Stage {
    mesh: Mesh,
    url: ModuleUrl,
    directories: BTreeMap<ClusterName, PathBuf>,
}

/// What the lab runs for a mesh: a workload for every listed service and cluster, and these clients.
pub fn blueprint(mesh: &Mesh, clients: impl IntoIterator<Item = Client>) -> Blueprint {
    let clients: BTreeSet<Client> = clients.into_iter().collect();
    Blueprint {
        mesh: mesh.name().to_owned(),
        root_namespace: mesh.root_namespace().to_string(),
        clusters: mesh
            .clusters()
            .map(|cluster| LabCluster {
                name: cluster.name.to_string(),
                network: cluster.network.to_string(),
                region: cluster.region.as_ref().map(ToString::to_string),
                trust_domain: cluster.trust_domain.to_string(),
                signer: mesh.signer(cluster).name.to_string(),
                control_plane: mesh.primary(cluster).name.to_string(),
            })
            .collect(),
        services: mesh
            .services()
            .map(|(service, listing)| LabService {
                name: service.name.to_string(),
                namespace: service.namespace.to_string(),
                port: listing.port,
                clusters: listing.clusters.iter().map(ToString::to_string).collect(),
                strays: Vec::new(),
                labels: listing.selector.clone(),
                application: Application::Hello,
            })
            .collect(),
        clients: clients.into_iter().collect(),
        both_kinds: false,
    }
}

/// A client of the lab, by checked names.
pub fn client(cluster: &ClusterName, namespace: &Namespace, account: &ServiceAccount) -> Client {
    Client::new(cluster.as_str(), namespace.as_str(), account.as_str())
}

impl Stage {
    /// Puts the lab's addresses and CA into the mesh, and a copy of the module where its Envoys find it.
    pub fn set(mesh: &Mesh, site: &Site, module: &Path) -> Result<Self, StageError> {
        let mut addresses = BTreeMap::new();
        let mut directories = BTreeMap::new();
        for cluster in mesh.clusters() {
            let name = cluster.name.as_str();
            if let (Some(pods), Some(gateway)) = (site.pod_cidr(name), site.gateway(name)) {
                addresses.insert(cluster.name.clone(), (pods.parse::<Cidr>()?, gateway));
            }
            directories.insert(cluster.name.clone(), site.plugins(name));
        }
        let url = place_module(module, site.dir())?;
        Ok(Self { mesh: mesh.clone().relocated(&addresses).with_own_ca(), url, directories })
    }

    /// The mesh with the lab's addresses.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Where the proxies find the module.
    pub fn url(&self) -> &ModuleUrl {
        &self.url
    }

    /// The directories that play the clusters' API servers, those of remotes apart.
    pub fn targets(&self) -> BTreeMap<ClusterName, Result<Target, ClusterError>> {
        let primaries = self.mesh.control_planes().into_iter().map(|(primary, _)| &primary.name);
        let target = |name: &ClusterName| {
            Some((name.clone(), Ok(Target::Directory(self.directories.get(name)?.clone()))))
        };
        primaries.filter_map(target).collect()
    }

    /// Gives each cluster's pods its key for tokens: of the keys that the mesh lists for it, the last by name that
    /// lies in `keys`, where `isthmus mesh token-key` puts them.
    pub fn give_token_keys(&self, site: &Site, keys: &Path) -> Result<(), StageError> {
        for cluster in self.mesh.clusters() {
            let is_here = |id: &&KeyId| TokenKey::path(keys, id).is_file();
            if let Some(id) = cluster.token_keys.keys().rev().find(is_here) {
                let (key, _made) = TokenKey::ensure(keys, id.clone())?;
                site.give_token_key(cluster.name.as_str(), None, &key)?;
            }
        }
        Ok(())
    }

    /// Compiles policies for the lab.
    pub fn compile(&self, policies: &[Policy]) -> Result<Plans, StageError> {
        let (plans, findings) = policy::compile(&self.mesh, policies);
        plans.ok_or(StageError::Findings { findings })
    }

    /// Compiles policies and rolls them out to every cluster of the lab.
    pub fn roll_out(&self, policies: &[Policy]) -> Result<Vec<Change>, StageError> {
        self.roll_out_with(policies, false)
    }

    /// The same, with boundaries held once more where the endpoint is known, or not.
    pub fn roll_out_with(
        &self,
        policies: &[Policy],
        upstream_check: bool,
    ) -> Result<Vec<Change>, StageError> {
        let plans = self.compile(policies)?;
        let options = Options { url: &self.url, upstream_check, dry_run: false };
        Ok(rollout::to_directories(&self.mesh, &plans, &self.directories, options)?)
    }
}

/// Copies a module under a name that says what is in it: Envoy does not look at a file of the same name again.
pub fn place_module(module: &Path, directory: &Path) -> Result<ModuleUrl, StageError> {
    let fail = |source| StageError::Module { path: module.to_owned(), source };
    let bytes = std::fs::read(module).map_err(fail)?;
    let digest: String = sha256(&bytes).chars().take(12).collect();
    let directory = std::path::absolute(directory).map_err(fail)?;
    std::fs::create_dir_all(&directory).map_err(fail)?;
    let copy = directory.join(format!("isthmus-{digest}.wasm"));
    if !copy.is_file() {
        let half = directory.join(format!(".isthmus-{digest}.{}", std::process::id()));
        std::fs::write(&half, &bytes).and_then(|()| std::fs::rename(&half, &copy)).map_err(fail)?;
    }
    Ok(format!("file://{}", copy.display()).parse()?)
}
