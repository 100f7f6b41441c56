//! The flags of every verb that talks to API servers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use policy::Mesh;
use policy::mesh::Target;
use policy::name::ClusterName;

use crate::kube::{Cluster, ClusterError, Kubeconfig, MANAGER, MESH_MANAGER, many};

/// The clusters of a mesh, as far as they can be had.
pub(super) type Standing = BTreeMap<ClusterName, Result<Arc<Cluster>, ClusterError>>;

/// How clusters are reached.
#[derive(Debug, Clone, Args)]
pub(super) struct Clusters {
    /// The kubeconfig that has the contexts; by default the files of KUBECONFIG, else ~/.kube/config
    #[arg(long, env = "ISTHMUS_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How many seconds each call to an API server may take, with all its tries
    #[arg(long, env = "ISTHMUS_TIMEOUT", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// How many clusters are talked to at a time
    #[arg(long, env = "ISTHMUS_PARALLEL", value_name = "N", default_value_t = 20)]
    pub(super) parallel: usize,
}

impl Clusters {
    /// The kubeconfig that was named.
    pub(super) fn named(&self) -> Option<PathBuf> {
        self.kubeconfig.clone()
    }

    /// The clusters that contexts lead to; one that cannot be had is an error of its own.
    pub(super) async fn connect(&self, contexts: BTreeMap<ClusterName, String>) -> anyhow::Result<Standing> {
        self.connect_as(contexts, MANAGER).await
    }

    /// The same, to make and to remove what a mesh needs.
    pub(super) async fn connect_for_mesh(
        &self,
        contexts: BTreeMap<ClusterName, String>,
    ) -> anyhow::Result<Standing> {
        self.connect_as(contexts, MESH_MANAGER).await
    }

    async fn connect_as(
        &self,
        contexts: BTreeMap<ClusterName, String>,
        manager: &'static str,
    ) -> anyhow::Result<Standing> {
        let list = std::env::var_os("KUBECONFIG");
        let home = std::env::var_os("HOME");
        let named = self.kubeconfig.as_deref();
        let kubeconfig = Arc::new(Kubeconfig::read(named, list.as_deref(), home.as_deref().map(Path::new))?);
        let timeout = Duration::from_secs(self.timeout);
        let connecting = contexts.into_iter().map(|(name, context)| {
            let kubeconfig = Arc::clone(&kubeconfig);
            async move {
                let cluster = kubeconfig.cluster(&context, timeout).await;
                (name, cluster.map(|cluster| Arc::new(cluster.managed_by(manager))))
            }
        });
        Ok(many::bounded(connecting, self.parallel).await.into_iter().collect())
    }
}

/// A cluster that is needed, or why there is none.
pub(super) fn reached(standing: &Standing, name: &ClusterName) -> Result<Arc<Cluster>, String> {
    match standing.get(name) {
        Some(Ok(cluster)) => Ok(Arc::clone(cluster)),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(format!("mesh.yaml gives {name} no context of the kubeconfig")),
    }
}

/// The contexts by which the clusters are reached.
pub(super) fn contexts(mesh: &Mesh) -> BTreeMap<ClusterName, String> {
    let context = |cluster: &policy::mesh::Cluster| match &cluster.target {
        Some(Target::Context(context)) => Some((cluster.name.clone(), context.clone())),
        Some(Target::Directory(_)) | None => None,
    };
    mesh.clusters().filter_map(context).collect()
}
