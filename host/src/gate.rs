//! What a rollout demands of proxies before it goes on: that they run what was brought to their cluster, and how they fare
//! with it.

pub mod health;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use policy::Mesh;
use policy::name::ClusterName;
use tokio::sync::Mutex;

use crate::kube::{Cluster, ClusterError};
use crate::proxies::{Asking, Envoy, Proxy, Silence, envoys, in_pods, with_proxies};
use crate::rollout::Target;
use crate::rollout::gate::{Gate, Later, Verdict, Wanted};
use crate::rollout::strategy::Limits;
use crate::status::{Plans, Runs};
use health::{Health, Standing};

/// How many proxies are named that keep a gate shut.
const NAMED: usize = 3;

/// Where the proxies of clusters are, by the cluster of their control plane.
#[derive(Debug, Clone, Default)]
pub struct Sources(BTreeMap<ClusterName, Vec<Source>>);

/// Where those of one cluster are.
#[derive(Debug, Clone)]
struct Source {
    cluster: ClusterName,
    pods: Pods,
    envoys: Vec<Envoy>,
}

/// The way to the pods of a cluster.
#[derive(Debug, Clone)]
enum Pods {
    Of(Arc<Cluster>),
    /// It cannot be had now.
    Away(String),
    /// There is none.
    Nowhere,
}

impl Sources {
    /// The pods of clusters and of their remotes, and proxies that are known by their addresses.
    pub fn of(
        mesh: &Mesh,
        targets: &BTreeMap<ClusterName, Result<Target, ClusterError>>,
        remotes: &BTreeMap<ClusterName, Result<Arc<Cluster>, ClusterError>>,
        mut envoys: BTreeMap<ClusterName, Vec<Envoy>>,
    ) -> Self {
        let mut sources = BTreeMap::new();
        for (primary, led) in mesh.control_planes() {
            let source = |cluster: &ClusterName| {
                let pods = match (targets.get(cluster), remotes.get(cluster)) {
                    (Some(Ok(Target::Cluster(server))), _) | (None, Some(Ok(server))) => {
                        Pods::Of(Arc::clone(server))
                    }
                    (Some(Err(error)), _) | (None, Some(Err(error))) => Pods::Away(error.to_string()),
                    (Some(Ok(Target::Directory(_))), _) | (None, None) => Pods::Nowhere,
                };
                Source { cluster: cluster.clone(), pods, envoys: envoys.remove(cluster).unwrap_or_default() }
            };
            sources.insert(primary.name.clone(), led.iter().map(|led| &led.name).map(source).collect());
        }
        Self(sources)
    }

    /// The clusters whose proxies nobody can ask.
    pub fn unknown(&self) -> Vec<&ClusterName> {
        let all = self.0.values().flatten();
        all.filter(|source| source.is_unknown()).map(|source| &source.cluster).collect()
    }
}

impl Source {
    fn is_unknown(&self) -> bool {
        matches!(self.pods, Pods::Nowhere) && self.envoys.is_empty()
    }
}

/// All that a strategy demands of proxies, together: they are asked once for all of it.
#[derive(Debug)]
pub struct OfProxies {
    limits: Limits,
    root: String,
    sources: Sources,
    asking: Asking,
    health: Mutex<BTreeMap<ClusterName, Health>>,
}

/// What a strategy demands of proxies, as a gate; none where it demands nothing of them.
pub fn gates(limits: &Limits, root: &str, sources: &Sources, asking: Asking) -> Vec<Arc<dyn Gate>> {
    if limits.of_proxies().is_empty() {
        return Vec::new();
    }
    vec![Arc::new(OfProxies {
        limits: limits.clone(),
        root: root.to_owned(),
        sources: sources.clone(),
        asking,
        health: Mutex::default(),
    })]
}

impl Gate for OfProxies {
    fn name(&self) -> &'static str {
        "proxies"
    }

    fn patience(&self) -> Duration {
        // Where nothing need run, proxies that cannot be asked for a moment are no reason to stop.
        self.limits.running.map_or(self.limits.applied, |running| running.within)
    }

    fn before<'g>(&'g self, cluster: &'g ClusterName) -> Later<'g, ()> {
        Box::pin(async move {
            // Proxies that do not answer have counted nothing that is known.
            let proxies = self.ask(cluster).await.unwrap_or_default();
            let all: Vec<Proxy> = proxies.into_iter().map(|(_, proxy)| proxy).collect();
            self.health.lock().await.insert(cluster.clone(), Health::before(&all));
        })
    }

    fn look<'g>(&'g self, wanted: &'g Wanted) -> Later<'g, Verdict> {
        Box::pin(async move {
            let proxies = match self.ask(&wanted.cluster).await {
                Ok(proxies) => proxies,
                Err(why) => return Verdict::NotYet(why),
            };
            if let Some(silence) = all_forbidden(&proxies) {
                return Verdict::Fail(silence);
            }
            let objects = wanted.objects();
            let mut plans: BTreeMap<&ClusterName, Plans> = BTreeMap::new();
            for (cluster, _) in &proxies {
                plans.entry(cluster).or_insert_with(|| Plans::of_objects(&objects, cluster, &self.root));
            }
            let runs =
                |plans: &Plans, proxy: &Proxy| plans.judge(proxy, &[]) == Runs::Wanted && plans.tries(proxy);
            let judged: Vec<(&Proxy, bool)> = proxies
                .iter()
                .filter_map(|(cluster, proxy)| Some((proxy, runs(plans.get(cluster)?, proxy))))
                .collect();
            let mut health = self.health.lock().await;
            let health = health.entry(wanted.cluster.clone()).or_default();
            let standing = health.see(judged.iter().copied());
            self.judge(&standing, &judged)
        })
    }
}

impl OfProxies {
    /// Asks the proxies of a control plane, each with its cluster.
    async fn ask(&self, primary: &ClusterName) -> Result<Vec<(ClusterName, Proxy)>, String> {
        let mut all = Vec::new();
        for source in self.sources.0.get(primary).into_iter().flatten() {
            if source.is_unknown() {
                return Err(format!("the proxies of {} cannot be asked", source.cluster));
            }
            let mut proxies = envoys(source.envoys.clone(), self.asking).await;
            match &source.pods {
                Pods::Of(server) => {
                    let pods = server.running_pods().await.map_err(|error| error.to_string())?;
                    proxies.extend(in_pods(server, with_proxies(&pods), self.asking).await);
                }
                Pods::Away(why) => return Err(why.clone()),
                Pods::Nowhere => {}
            }
            // Two clusters may have pods of one name.
            let named = |proxy: Proxy| {
                let name = match source.cluster == *primary {
                    true => proxy.name,
                    false => format!("{}/{}", source.cluster, proxy.name),
                };
                (source.cluster.clone(), Proxy { name, ..proxy })
            };
            all.extend(proxies.into_iter().map(named));
        }
        Ok(all)
    }

    /// What was counted says no at once; what does not run yet may.
    fn judge(&self, standing: &Standing, judged: &[(&Proxy, bool)]) -> Verdict {
        let Limits { applied: _, running, would_deny, denials, errors, traps } = &self.limits;
        if let Some(limit) = traps.filter(|limit| standing.counts.traps > *limit) {
            let found = standing.counts.traps;
            return Verdict::Fail(format!("the module broke {found} times, and {limit} may be"));
        }
        if let Some(beyond) = would_deny.and_then(|limit| standing.would_deny_beyond(limit)) {
            return Verdict::Fail(format!("requests that the new plan would deny: {beyond}"));
        }
        if let Some(beyond) = denials.and_then(|limit| standing.denied_beyond(limit)) {
            return Verdict::Fail(format!("requests denied since the plan runs: {beyond}"));
        }
        if let Some(beyond) = errors.and_then(|limit| standing.failed_beyond(limit)) {
            return Verdict::Fail(format!("answers of 5xx since the plan runs: {beyond}"));
        }
        let all = standing.asked + standing.silent;
        // Where nobody answers nothing is known, neither what runs nor what was counted.
        let is_dark = standing.asked == 0 && standing.silent > 0;
        let share = running.map_or(0.0, |running| running.share.of_one());
        // One that does not answer may have broken by the plan.
        if !is_dark && is_share(standing.running, all, share) {
            return Verdict::Pass;
        }
        let behind = judged.iter().filter(|(_, runs)| !runs);
        let named: Vec<&str> = behind.map(|(proxy, _)| proxy.name.as_str()).take(NAMED).collect();
        Verdict::NotYet(format!(
            "{} of {all} proxies run the plan, {} do not answer; not {}",
            standing.running,
            standing.silent,
            named.join(", ")
        ))
    }
}

#[expect(clippy::cast_precision_loss, reason = "no cluster has so many proxies")]
fn is_share(some: usize, all: usize, share: f64) -> bool {
    some as f64 >= all as f64 * share
}

/// That nobody may be asked does not change by waiting.
fn all_forbidden(proxies: &[(ClusterName, Proxy)]) -> Option<String> {
    let forbidden = |(_, proxy): &(ClusterName, Proxy)| matches!(proxy.said, Err(Silence::Forbidden(_)));
    let first = proxies.first()?;
    let silence = first.1.said.as_ref().err()?;
    proxies.iter().all(forbidden).then(|| silence.to_string())
}

#[cfg(test)]
mod tests;
