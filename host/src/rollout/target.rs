//! Where a cluster's objects go, how it is treated, and what keeps it from getting them.

use std::path::PathBuf;
use std::sync::Arc;

use policy::name::ClusterName;

use super::RolloutError;
use crate::kube::{Cluster, ClusterError};

/// Where a cluster's objects go.
#[derive(Debug, Clone)]
pub enum Target {
    /// Files, in this directory.
    Directory(PathBuf),
    /// Objects, on this API server.
    Cluster(Arc<Cluster>),
}

/// Whether anything is done at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// Everything is done.
    No,
    /// Nothing is; what is there is looked at.
    Client,
    /// The API servers do all but keep it.
    Server,
}

/// How clusters are treated.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Whether anything is done.
    pub dry_run: DryRun,
    /// Whether fields that others own are taken from them.
    pub force: bool,
    /// How many clusters at a time.
    pub parallel: usize,
}

/// What keeps a cluster from getting what it should have.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Its API server, or the way to it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Its directory.
    #[error(transparent)]
    Directory(#[from] RolloutError),
    /// Requests would go through a cluster that is not ready for them.
    #[error(
        "{cluster}: waits for {other}, whose gateways do not know yet where its requests for {service} should go"
    )]
    Waits {
        /// Which waits.
        cluster: ClusterName,
        /// For which other.
        other: ClusterName,
        /// A service, as `namespace.name`, whose subsets that one lacks.
        service: String,
    },
    /// Another rollout is at work there.
    #[error(
        "{cluster}: {by} rolls out here since {since}: wait for it, or stop it with `isthmus rollout pause`"
    )]
    Held {
        /// Where.
        cluster: ClusterName,
        /// Who.
        by: String,
        /// Since when, as they say.
        since: String,
    },
    /// Another rollout of this machine writes there.
    #[error("{path}: another rollout writes here: wait for it, or stop it with `isthmus rollout pause`")]
    Locked {
        /// Where.
        path: PathBuf,
    },
    /// Somebody else has taken over.
    #[error(
        "{cluster}: somebody else has taken over here, and nothing more was written: see `isthmus rollout status`"
    )]
    Lost {
        /// Where.
        cluster: ClusterName,
    },
    /// The lease could not be renewed, so somebody else may have it.
    #[error("{cluster}: the lease could not be renewed in time, and nothing more was written here")]
    Unrenewed {
        /// Where.
        cluster: ClusterName,
    },
    /// What is kept of rollouts cannot be used.
    #[error("{place} cannot be used: {why}: delete it if nobody can mend it")]
    Record {
        /// Where.
        place: String,
        /// Why.
        why: String,
    },
    /// A revision to go back to that is kept no more, or never was.
    #[error(
        "{cluster}: revision {number} is not kept here: `isthmus rollout history` says which are; or run `isthmus rollout` with its policies"
    )]
    NotKept {
        /// Where.
        cluster: ClusterName,
        /// Which.
        number: u64,
    },
    /// A revision that is kept no more, or never was.
    #[error("{cluster}: revision {number} is not kept here: run `isthmus rollout` with its policies again")]
    NoRevision {
        /// Where.
        cluster: ClusterName,
        /// Which.
        number: u64,
    },
    /// A plugin whose new plan cannot be tried.
    #[error(
        "{cluster}: the new plan of {file} cannot be tried beside the one in force: {why}: nothing was changed; roll out without shadowFirst"
    )]
    Untriable {
        /// Where.
        cluster: ClusterName,
        /// Which.
        file: String,
        /// Why.
        why: String,
    },
    /// What went wrong before.
    #[error("{0}")]
    Before(String),
}
