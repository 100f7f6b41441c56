//! Asking every cluster, and the proxies of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::Mesh;
use policy::compile;
use policy::name::ClusterName;
use policy::plan::PlanError;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Found, Judged, Plans, Status, drift};
use crate::kube::{Cluster, ClusterError, many};
use crate::proxies::{self, Asking, Envoy, InPod, Proxy, Silence, Stamp};
use crate::rollout::{self, RolloutError, Standing, Target, Wanted};

/// Why nobody knows what should be.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// What should be in a cluster cannot be made.
    #[error(transparent)]
    Wanted(#[from] RolloutError),
    /// A plan has no JSON.
    #[error("cannot write a plan as JSON")]
    Plan(#[from] PlanError),
}

/// Where to look.
#[derive(Debug)]
pub struct Look {
    /// The clusters, as far as they can be had.
    pub targets: BTreeMap<ClusterName, Result<Target, ClusterError>>,
    /// Proxies that are known by their addresses.
    pub envoys: BTreeMap<ClusterName, Vec<Envoy>>,
    /// How proxies are asked; `None`: they are not.
    pub asking: Option<Asking>,
    /// How many clusters at a time.
    pub parallel: usize,
}

/// Looks at every cluster that there is a target for.
pub async fn look(mesh: &Mesh, plans: &compile::Plans, mut look: Look) -> Result<Vec<Status>, LookError> {
    let mut visits = Vec::new();
    for (cluster, wanted) in rollout::wanted(mesh, plans)? {
        let Some(target) = look.targets.remove(&cluster) else { continue };
        let running = plans.get(&cluster).map(Plans::of).transpose()?.unwrap_or_default();
        let envoys = look.envoys.remove(&cluster);
        let visit = Visit { wanted, running, envoys, asking: look.asking };
        visits.push(async move {
            let digest = visit.wanted.digest.clone();
            let found = match target {
                Ok(target) => Box::pin(visit.find(target)).await,
                Err(error) => Err(error.problem.to_string()),
            };
            Status { cluster, wanted: digest, found }
        });
    }
    Ok(many::bounded(visits, look.parallel).await)
}

/// One cluster to be looked at.
struct Visit {
    wanted: Wanted,
    running: Plans,
    envoys: Option<Vec<Envoy>>,
    asking: Option<Asking>,
}

impl Visit {
    async fn find(self, target: Target) -> Result<Found, String> {
        let Self { wanted, running, envoys, asking } = self;
        let (standing, mut seen) = match &target {
            Target::Cluster(cluster) => tokio::join!(wanted.standing(&target), Seen::of(cluster, asking)),
            Target::Directory(_) => (wanted.standing(&target).await, Seen::nobody("files have no proxies")),
        };
        let standing = standing.map_err(|trouble| trouble.to_string())?;
        if let (Some(envoys), Some(asking)) = (envoys, asking) {
            let known = proxies::envoys(envoys, asking).await;
            seen.proxies = Ok(seen.proxies.into_iter().flatten().chain(known).collect());
        }
        let applied = stamps(&standing);
        let judged = |proxy: Proxy| Judged { runs: running.judge(&proxy, &applied), proxy };
        let proxies = all_forbidden(seen.proxies).map(|proxies| proxies.into_iter().map(judged).collect());
        let objects = standing.objects.iter().filter_map(|object| object.seen.as_ref());
        let changed = objects.filter_map(drift::changed).max();
        let changed = changed.and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
        Ok(Found { standing, proxies, kubernetes: seen.kubernetes, istio: seen.istio, changed })
    }
}

/// What was seen beside the objects.
struct Seen {
    proxies: Result<Vec<Proxy>, String>,
    kubernetes: Option<String>,
    istio: Vec<String>,
}

impl Seen {
    fn nobody(why: &str) -> Self {
        Self { proxies: Err(why.to_owned()), kubernetes: None, istio: Vec::new() }
    }

    async fn of(cluster: &Arc<Cluster>, asking: Option<Asking>) -> Self {
        let Some(asking) = asking else { return Self::nobody("they were not asked for") };
        let (version, pods) = tokio::join!(cluster.version(), cluster.running_pods());
        let kubernetes = version.ok().filter(|version| !version.is_empty());
        let pods = match pods {
            Ok(pods) => pods,
            Err(error) => return Self { kubernetes, ..Self::nobody(&error.to_string()) },
        };
        let with_proxies = proxies::with_proxies(&pods);
        let istio = istio(&pods, &with_proxies);
        drop(pods);
        let proxies = Ok(proxies::in_pods(cluster, with_proxies, asking).await);
        Self { proxies, kubernetes, istio }
    }
}

/// The versions of the control planes; without any, those of the proxies.
fn istio(pods: &[Value], with_proxies: &[InPod]) -> Vec<String> {
    let is_istiod = |pod: &&Value| pod.pointer("/metadata/labels/app").is_some_and(|app| app == "istiod");
    let images =
        pods.iter().filter(is_istiod).filter_map(|pod| pod.pointer("/spec/containers/0/image")?.as_str());
    let own: BTreeSet<String> = images.filter_map(proxies::tag).map(str::to_owned).collect();
    let versions = || with_proxies.iter().filter_map(|proxy| proxy.version.clone()).collect();
    if own.is_empty() { versions() } else { own }.into_iter().collect()
}

/// That nobody may be asked is one thing to tell, and not one of each proxy.
fn all_forbidden(proxies: Result<Vec<Proxy>, String>) -> Result<Vec<Proxy>, String> {
    let proxies = proxies?;
    let forbidden = |proxy: &Proxy| matches!(proxy.said, Err(Silence::Forbidden(_)));
    match proxies.first().map(|proxy| &proxy.said) {
        Some(Err(silence)) if proxies.iter().all(forbidden) => Err(silence.to_string()),
        _ => Ok(proxies),
    }
}

/// The plans that the objects of a cluster have.
fn stamps(standing: &Standing) -> Vec<Stamp> {
    let digest = |object: &Value| Stamp::of(object.pointer("/spec/pluginConfig/digest")?.as_str()?);
    standing.objects.iter().filter_map(|object| digest(object.seen.as_ref()?)).collect()
}
