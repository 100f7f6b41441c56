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

use super::{Found, Judged, Plans, Runs, Status, Told, drift};
use crate::kube::{Cluster, ClusterError, many};
use crate::plugin;
use crate::proxies::{self, Asking, Envoy, InPod, Proxy, Silence, Stamp};
use crate::rollout::{self, Chronicle, Records, RolloutError, Standing, Target, Wanted};

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
    /// The clusters, as far as they can be had. Those of remotes have proxies alone: their objects are in the cluster of
    /// their control plane.
    pub targets: BTreeMap<ClusterName, Result<Target, ClusterError>>,
    /// Proxies that are known by their addresses.
    pub envoys: BTreeMap<ClusterName, Vec<Envoy>>,
    /// How proxies are asked; `None`: they are not.
    pub asking: Option<Asking>,
    /// How many clusters at a time.
    pub parallel: usize,
}

/// Looks at every cluster whose control plane there is a target for.
pub async fn look(mesh: &Mesh, plans: &compile::Plans, mut look: Look) -> Result<Vec<Status>, LookError> {
    let (mut visits, records) = (Vec::new(), Arc::default());
    for (primary, wanted) in rollout::wanted(mesh, plans)? {
        let Some(own) = look.targets.remove(&primary) else { continue };
        let mut led = Vec::new();
        for cluster in wanted.digests.keys() {
            let target = if *cluster == primary { Some(own.as_ref()) } else { None };
            let other = target.is_none().then(|| look.targets.remove(cluster)).flatten();
            let place = Place::of(target.or(other.as_ref().map(Result::as_ref)));
            let plans = plans.get(cluster).map(Plans::of).transpose()?.unwrap_or_default();
            let envoys = look.envoys.remove(cluster).unwrap_or_default();
            led.push(Led { cluster: cluster.clone(), plans, place, envoys });
        }
        let visit = Visit { primary, wanted, target: own, led, records: Arc::clone(&records) };
        visits.push(Box::pin(visit.statuses(look.asking, look.parallel)));
    }
    let mut statuses: Vec<Status> =
        many::bounded(visits, look.parallel).await.into_iter().flatten().collect();
    statuses.sort_by(|one, other| one.cluster.cmp(&other.cluster));
    Ok(statuses)
}

/// A control plane and all that it leads.
struct Visit {
    primary: ClusterName,
    wanted: Wanted,
    target: Result<Target, ClusterError>,
    led: Vec<Led>,
    /// What all have told of rollouts.
    records: Arc<Records>,
}

/// A cluster, whose proxies are somewhere.
struct Led {
    cluster: ClusterName,
    plans: Plans,
    place: Place,
    envoys: Vec<Envoy>,
}

enum Place {
    Cluster(Arc<Cluster>),
    Nowhere(String),
}

impl Place {
    fn of(target: Option<Result<&Target, &ClusterError>>) -> Self {
        match target {
            Some(Ok(Target::Cluster(cluster))) => Self::Cluster(Arc::clone(cluster)),
            Some(Ok(Target::Directory(_))) => Self::Nowhere("files have no proxies".to_owned()),
            Some(Err(error)) => Self::Nowhere(error.problem.to_string()),
            None => Self::Nowhere("mesh.yaml gives the cluster no context".to_owned()),
        }
    }
}

impl Visit {
    async fn statuses(mut self, asking: Option<Asking>, parallel: usize) -> Vec<Status> {
        let led = std::mem::take(&mut self.led);
        let names: Vec<ClusterName> = led.iter().map(|led| led.cluster.clone()).collect();
        let seeing = many::bounded(led.into_iter().map(|led| led.see(asking)), parallel);
        let (mut standing, chronicle, seen) = tokio::join!(self.standing(), self.chronicle(), seeing);
        let told = chronicle.map(|chronicle| self.told(chronicle, standing.as_ref().ok()));
        let mut statuses = Vec::new();
        for (cluster, (plans, seen)) in names.into_iter().zip(seen) {
            let found = match &mut standing {
                Ok(all) => all.remove(&cluster).ok_or_else(|| "nothing is for it".to_owned()),
                Err(why) if cluster == self.primary => Err(why.clone()),
                Err(why) => Err(format!("{}, which has its objects: {why}", self.primary)),
            };
            let wanted = self.wanted.digests.get(&cluster).cloned().unwrap_or_default();
            let found = found.map(|standing| seen.beside(standing, &plans, told.clone()));
            statuses.push(Status { cluster, wanted, found });
        }
        self.name_revisions(&mut statuses).await;
        statuses
    }

    async fn standing(&self) -> Result<BTreeMap<ClusterName, Standing>, String> {
        match &self.target {
            Ok(target) => self.wanted.standing(target).await.map_err(|trouble| trouble.to_string()),
            Err(error) => Err(error.problem.to_string()),
        }
    }

    async fn chronicle(&self) -> Result<Chronicle, String> {
        match &self.target {
            Ok(target) => {
                let told = Chronicle::read(target, self.wanted.root(), &self.records).await;
                told.map_err(|trouble| trouble.to_string())
            }
            Err(error) => Err(error.problem.to_string()),
        }
    }

    /// Which revision is there, and which should be.
    fn told(&self, chronicle: Chronicle, standing: Option<&BTreeMap<ClusterName, Standing>>) -> Told {
        let there = standing.into_iter().flat_map(BTreeMap::values);
        let there: Vec<&str> = there.filter_map(|standing| standing.digest.as_deref()).collect();
        let wanted: Vec<&str> = self.wanted.digests.values().map(String::as_str).collect();
        Told {
            primary: self.primary.clone(),
            applied: chronicle.with_plans(&Wanted::together(&there)),
            wanted: chronicle.with_plans(&Wanted::together(&wanted)),
            chronicle: Arc::new(chronicle),
            running: Arc::default(),
        }
    }

    /// Finds out of which revisions those plans are that proxies run and should not.
    async fn name_revisions(&self, statuses: &mut [Status]) {
        let others: BTreeSet<Stamp> = statuses.iter().flat_map(others).collect();
        let told = statuses.iter_mut().filter_map(|status| status.found.as_mut().ok()?.told.as_mut().ok());
        let mut told: Vec<&mut Told> = told.collect();
        let (Some(first), Ok(target), false) = (told.first(), &self.target, others.is_empty()) else {
            return;
        };
        let running = Arc::new(first.chronicle.revisions_of(others, target, self.wanted.root()).await);
        told.iter_mut().for_each(|told| told.running = Arc::clone(&running));
    }
}

/// The plans that proxies of a cluster run and should not.
fn others(status: &Status) -> Vec<Stamp> {
    let proxies = status.found.as_ref().ok().and_then(|found| found.proxies.as_ref().ok());
    let other = |judged: &Judged| match &judged.runs {
        Runs::Other { stamp, .. } => Some(*stamp),
        Runs::Wanted | Runs::Lacks(_) | Runs::Nothing | Runs::Silent(_) => None,
    };
    proxies.into_iter().flatten().filter_map(other).collect()
}

impl Led {
    async fn see(self, asking: Option<Asking>) -> (Plans, Seen) {
        let mut seen = match &self.place {
            Place::Cluster(cluster) => Seen::of(cluster, asking).await,
            Place::Nowhere(why) => Seen::nobody(why),
        };
        if let (false, Some(asking)) = (self.envoys.is_empty(), asking) {
            let known = proxies::envoys(self.envoys, asking).await;
            seen.proxies = Ok(seen.proxies.into_iter().flatten().chain(known).collect());
        }
        (self.plans, seen)
    }
}

/// What was seen beside the objects.
struct Seen {
    proxies: Result<Vec<Proxy>, String>,
    kubernetes: Option<String>,
    istio: Vec<String>,
}

impl Seen {
    /// All that was found of a cluster.
    fn beside(self, standing: Standing, plans: &Plans, told: Result<Told, String>) -> Found {
        let applied = stamps(&standing);
        let judged = |proxy: Proxy| Judged { runs: plans.judge(&proxy, &applied), proxy };
        let proxies = all_forbidden(self.proxies).map(|proxies| proxies.into_iter().map(judged).collect());
        let objects = standing.objects.iter().filter_map(|object| object.seen.as_ref());
        let changed = objects.filter_map(drift::changed).max();
        let changed = changed.and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
        Found { standing, proxies, kubernetes: self.kubernetes, istio: self.istio, changed, told }
    }

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
    let digest = |object: &Value| Stamp::of(plugin::configured(object)?.get("digest")?.as_str()?);
    standing.objects.iter().filter_map(|object| digest(object.seen.as_ref()?)).collect()
}
