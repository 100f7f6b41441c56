//! Why a cluster did not get all that it needs.

use std::path::PathBuf;
use std::time::Duration;

use policy::name::ClusterName;

use crate::kube::ClusterError;
use crate::manifest::folder::FolderError;

/// What keeps a cluster from going on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It cannot be had.
    #[error("{why}")]
    Unreached {
        /// Why not.
        why: String,
    },
    /// Its API server did not do as it was asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Its primary is not done.
    #[error("waits for its primary {primary}, which is not done")]
    Waits {
        /// The cluster of its control plane.
        primary: ClusterName,
    },
    /// It would make a CA of its own that nobody trusts.
    #[error(
        "there is no CA for it: neither here, where `isthmus mesh certs` makes it, nor as Secret istio-system/cacerts in the cluster"
    )]
    NoAuthority,
    /// The CA that lies here does not go with those that the clusters have.
    #[error(
        "the CA that lies here would break trust, and was not put there: {}; a root changes in steps (`isthmus mesh rotate root`), each \
         applied everywhere before the next; --replace-ca changes it at once, and then every workload has to be restarted",
        broken.join("; ")
    )]
    Distrust {
        /// Who would refuse whom.
        broken: Vec<String>,
    },
    /// A tool is not there.
    #[error(
        "there is no {name} on the PATH to run `{command}`: install it, name it with --{name}, or --skip-install and install from what \
             `isthmus mesh render` writes"
    )]
    NoTool {
        /// Which.
        name: &'static str,
        /// What it was to do.
        command: String,
    },
    /// A tool failed.
    #[error("`{command}` failed: {why}")]
    Failed {
        /// What ran.
        command: String,
        /// What it said last.
        why: String,
    },
    /// A file for a tool could not be written.
    #[error("cannot write {path} for the installer")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What a tool is told has no YAML.
    #[error(transparent)]
    Yaml(#[from] FolderError),
    /// Others did not do in time what they have to.
    #[error("waited {after:?} for {what}: --wait says how many seconds")]
    TimedOut {
        /// For what.
        what: String,
        /// How long.
        after: Duration,
    },
    /// The gateway is elsewhere than the others are told.
    #[error(
        "its gateway has the address {}, and mesh.yaml says {wanted}: say that one there as gateway.address, and run again",
        found.join(", ")
    )]
    Elsewhere {
        /// Where it is.
        found: Vec<String>,
        /// Where it should be.
        wanted: String,
    },
    /// Its control plane does not read all that it has to.
    #[error("its control plane does not read {}", unread.join("; "))]
    Unread {
        /// Each cluster, and why.
        unread: Vec<String>,
    },
}
