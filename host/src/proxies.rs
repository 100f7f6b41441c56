//! What each proxy runs, as the proxy itself tells it.
//!
//! ```text
//! pods of a cluster ── through its API server ──> /stats/prometheus ──> Reading: plans, counts
//! Envoys by address ── their admin interface  ──────────┘
//! ```
//!
//! An object that a cluster has says nothing of its proxies: a module may not have been fetched, a plan refused, a filter
//! passed by.

mod admin;
mod exposition;
mod istiod;
mod pods;
mod reading;

use std::time::Duration;

use policy::name::Namespace;
use policy::plan::Role;
use serde::{Deserialize, Serialize};

pub use admin::{Envoy, envoys};
pub use exposition::ExpositionError;
pub use istiod::{Istiod, Reads, istiods};
pub(crate) use pods::tag;
pub use pods::{InPod, in_pods, with_proxies};
pub use reading::{Counts, Reading, Stamp};

/// What a proxy is for, and so which of the filter's places it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Beside an application: requests arrive through it. Through most sidecars some leave as well, but a `Sidecar`
    /// may have left none.
    Sidecar,
    /// A gateway at which requests start their way through the mesh.
    Gateway,
    /// The gateway between networks.
    EastWest,
    /// Nobody knows.
    Unknown,
}

impl Kind {
    /// The places without which something passes by the filter.
    pub fn needs(self) -> Option<Role> {
        match self {
            Self::Sidecar => Some(Role::Inbound),
            Self::Gateway => Some(Role::Outbound),
            Self::EastWest => Some(Role::Gateway),
            Self::Unknown => None,
        }
    }
}

/// A proxy, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its name in its cluster: `namespace/pod`, or what it was called by whoever gave its address.
    pub name: String,
    /// Its namespace, where that is known.
    pub namespace: Option<Namespace>,
    /// What it is for.
    pub kind: Kind,
    /// What it said, or why it said nothing.
    pub said: Result<Reading, Silence>,
}

/// Why a proxy said nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// We may not ask: nobody, not this one alone.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// What it said is no metrics.
    #[error("{0}")]
    Unreadable(#[from] ExpositionError),
}

/// How proxies are asked.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// How long each may take.
    pub patience: Duration,
    /// How many of a cluster at a time.
    pub parallel: usize,
}
