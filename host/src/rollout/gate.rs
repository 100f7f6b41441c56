//! What must hold in a cluster before a rollout goes on: the seam between the rollout and whatever looks at proxies.
//!
//! A [`Gate`] is made once for a rollout and asked of each cluster. [`Gate::before`] comes before the cluster's filters
//! change, for what has to be compared with later, such as counters. [`Gate::look`] comes after all of them are written,
//! about once a second until it passes, fails, or its [`Gate::patience`] is over; and again while the wave bakes. So a gate
//! never has to wait, and never is asked of what was there before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::name::ClusterName;
use serde_json::Value;

use super::rendered::Rendered;

/// What a gate says some time later.
pub type Later<'l, T> = Pin<Box<dyn Future<Output = T> + Send + 'l>>;

/// What a gate is asked about.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The cluster.
    pub cluster: ClusterName,
    /// All that it should have.
    pub(super) all: Arc<Rendered>,
    /// When the last of them was written. What proxies did before says nothing.
    pub since: Instant,
}

impl Wanted {
    /// All objects that the cluster should have, plugins with the digests of their plans among them.
    pub fn objects(&self) -> Vec<Value> {
        self.all.parts.iter().map(|part| part.object.open()).collect()
    }
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All is as it should be.
    Pass,
    /// It may yet become so; what is missing.
    NotYet(String),
    /// It is not, and waiting would not help; why.
    Fail(String),
}

/// One condition on a cluster.
pub trait Gate: std::fmt::Debug + Send + Sync {
    /// What findings and progress call it, such as `running`.
    fn name(&self) -> &'static str;

    /// How long it may say [`Verdict::NotYet`].
    fn patience(&self) -> Duration;

    /// Looks at a cluster whose filters are about to change.
    fn before<'g>(&'g self, _cluster: &'g ClusterName) -> Later<'g, ()> {
        Box::pin(async {})
    }

    /// Looks at a cluster whose objects are all written.
    fn look<'g>(&'g self, wanted: &'g Wanted) -> Later<'g, Verdict>;
}
