//! Why one cluster cannot read another.

use std::time::Duration;

use policy::name::ClusterName;

use crate::kube::{ClusterError, KubeconfigError};

/// A remote secret could not be made, or does not work.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A cluster did not do as it was asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Nobody knows where the API server is.
    #[error(
        "nothing says where the API server of {cluster} answers other clusters: say apiServer in mesh.yaml"
    )]
    NoServer {
        /// Of which cluster.
        cluster: ClusterName,
    },
    /// Nobody knows which certificates the API server has.
    #[error(
        "nothing says which CA the API server of {cluster} has: neither the token's Secret, nor ConfigMap kube-root-ca.crt, nor \
         certificate-authority of the kubeconfig"
    )]
    NoAuthority {
        /// Of which cluster.
        cluster: ClusterName,
    },
    /// Nothing puts tokens into Secrets there.
    #[error(
        "no token came into Secret {secret} of {cluster} within {after:?}: kube-controller-manager puts it there; --token-lifetime \
         makes tokens that need none"
    )]
    NoToken {
        /// In which cluster.
        cluster: ClusterName,
        /// Where it should have come.
        secret: String,
        /// How long it was waited.
        after: Duration,
    },
    /// Others have made the same secret again and again.
    #[error(
        "somebody else makes the remote secret of {cluster} at the same time: run again when they are done"
    )]
    Raced {
        /// Of which cluster.
        cluster: ClusterName,
    },
    /// A kubeconfig that cannot be used at all.
    #[error("the kubeconfig of the secret cannot be used")]
    Kubeconfig(#[source] KubeconfigError),
    /// A kubeconfig that would do more than connect.
    #[error("its kubeconfig has {what}, which is not used from here: only a token is")]
    Foreign {
        /// What it has.
        what: String,
    },
    /// A kubeconfig that has no YAML.
    #[error("cannot write the kubeconfig as YAML")]
    Yaml(#[source] Box<serde_saphyr::SerializeError>),
    /// The server at this address does not answer, or does not know the token.
    #[error("{server} with the token of the secret: {why}")]
    Refused {
        /// Which server.
        server: String,
        /// What came of it.
        why: String,
    },
    /// The account may not read what istiod reads.
    #[error(
        "the account of the token may not {}: Istio's ClusterRole istio-reader-clusterrole-istio-system grants it",
        lacks.join(", ")
    )]
    Lacks {
        /// Each verb with its resource.
        lacks: Vec<String>,
    },
}
