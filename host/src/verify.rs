//! The classic proof that a mesh of several clusters is one: a service that each of them runs is called from each of them,
//! and it is counted which cluster answers.
//!
//! What runs for it stands in a namespace of its own, which is there for nothing else and goes when the proof is over,
//! whatever came of it.

mod ground;
pub mod lab;
mod objects;
pub mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use policy::Mesh;
use policy::name::ClusterName;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::kube::{Apply, Cluster, ClusterError, Id, many};
use crate::manifest::read_by;
pub use ground::take_all;
pub use reach::{Came, Way};

/// The namespace that all of it stands in.
pub const NAMESPACE: &str = "isthmus-verify";

/// How often it is looked.
const TICK: Duration = Duration::from_millis(500);

/// What is run.
#[derive(Debug, Clone)]
pub struct What {
    /// The image of Istio's sample `helloworld`.
    pub service: String,
    /// An image that has a shell and curl.
    pub caller: String,
    /// How many requests each cluster sends.
    pub requests: u32,
    /// How long pods may take to start, and again to call.
    pub patience: Duration,
    /// How many clusters are worked on at a time.
    pub parallel: usize,
}

/// What came of a cluster's calls.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub cluster: ClusterName,
    /// The clusters that have to answer it.
    pub expected: Vec<ClusterName>,
    /// Which clusters answered how many requests; `-`: none did.
    pub answers: Result<BTreeMap<String, u32>, VerifyError>,
    /// The ways from its pods to those that they dial, where these are on its network.
    pub ways: Result<Vec<Way>, VerifyError>,
    /// What was left behind, and why.
    pub left: Option<ClusterError>,
}

impl Outcome {
    /// Whether all have answered that have to, no request was lost, and pods reach each other that have to.
    pub fn is_proven(&self) -> bool {
        let (Ok(answers), Ok(ways)) = (&self.answers, &self.ways) else { return false };
        let answered = |cluster: &ClusterName| answers.get(cluster.as_str()).is_some_and(|count| *count > 0);
        let are_reached = ways.iter().all(|way| way.came == Came::Reached);
        !answers.contains_key(LOST) && self.expected.iter().all(answered) && are_reached
    }
}

/// How the caller counts requests that nobody answered.
const LOST: &str = "-";

/// Why nothing is known of a cluster's calls.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be had.
    #[error("{0}")]
    Unreached(String),
    /// Its API server did not do as it was asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A pod did not do in time what it is for.
    #[error("{what} within {after:?}: {}", told(why, context))]
    TimedOut {
        /// What did not happen.
        what: &'static str,
        /// How long it was waited.
        after: Duration,
        /// The context of the cluster.
        context: String,
        /// What the cluster says of its pods, if anything.
        why: String,
    },
    /// A pod cannot start.
    #[error("{what}: {why}: --service-image and --caller-image say which images are run")]
    Held {
        /// What does not happen.
        what: &'static str,
        /// What the cluster says of its pods.
        why: String,
    },
    /// Somebody else's namespace has the name.
    #[error(
        "namespace {NAMESPACE} is there and was not made by `isthmus verify`, which would delete it in the end: rename it, or delete it \
         (`kubectl --context {context} delete namespace {NAMESPACE}`)"
    )]
    Foreign {
        /// The context of the cluster.
        context: String,
    },
}

/// What the cluster says, or how to ask it.
fn told(why: &str, context: &str) -> String {
    if why.is_empty() {
        return format!("`kubectl --context {context} -n {NAMESPACE} get pods` says why, with --keep");
    }
    why.to_owned()
}

/// The clusters that answer a service which all run, when one calls it: those whose endpoints its control plane knows.
pub fn expected(mesh: &Mesh, caller: &ClusterName) -> Vec<ClusterName> {
    let Some(cluster) = mesh.cluster(caller) else { return Vec::new() };
    let primary = mesh.signer(cluster);
    let known = read_by(mesh, primary).into_iter().map(|read| read.name.clone());
    let mut all: Vec<ClusterName> = known.chain([primary.name.clone()]).collect();
    all.sort();
    all.dedup();
    all
}

/// Clusters that are called from, as far as they can be had.
pub type Standing = BTreeMap<ClusterName, Result<Arc<Cluster>, String>>;

/// Runs the proof in every cluster that can be had, and takes away what ran for it unless it is to be kept.
pub async fn verify(mesh: &Mesh, standing: &Standing, what: &What, keep: bool) -> Vec<Outcome> {
    let serving = each(standing, what.parallel, |name, at| {
        let what = what.clone();
        async move { serve(&name, &at, &what).await }
    });
    let served = serving.await;
    let (addresses, mut lost) = addresses(mesh, standing, what).await;
    let pods = Arc::new((mesh.clone(), addresses));
    let calling = standing.iter().map(|(name, at)| {
        let (name, at, what, pods) = (name.clone(), at.clone(), what.clone(), Arc::clone(&pods));
        async move {
            let Ok(at) = at else { return (None, None) };
            let (called, reached) =
                tokio::join!(call(&name, &at, &what), reach::reach(&pods.0, (&name, &at), &pods.1, &what));
            (Some(called), Some(reached))
        }
    });
    let called = many::bounded(calling, what.parallel).await;
    let mut outcomes = Vec::new();
    for (((name, at), served), (called, reached)) in standing.iter().zip(served).zip(called) {
        let (answers, ways) = match (served, called, reached) {
            (Ok(()), Some(called), Some(reached)) => (called, reached),
            (Ok(()), _, _) => (Ok(BTreeMap::new()), Ok(Vec::new())),
            (Err(why), _, reached) => (Err(why), reached.unwrap_or(Ok(Vec::new()))),
        };
        let ways = lost.remove(name).filter(|_| answers.is_ok()).map_or(ways, Err);
        let left = match at {
            Ok(at) if !keep => ground::take_away(at).await.err(),
            Ok(_) | Err(_) => None,
        };
        outcomes.push(Outcome { cluster: name.clone(), expected: expected(mesh, name), answers, ways, left });
    }
    outcomes
}

/// The address of a pod in each cluster whose pods others dial, and where none came up.
async fn addresses(
    mesh: &Mesh,
    standing: &Standing,
    what: &What,
) -> (BTreeMap<ClusterName, IpAddr>, BTreeMap<ClusterName, VerifyError>) {
    let dialled: BTreeSet<ClusterName> =
        standing.keys().flat_map(|caller| reach::neighbours(mesh, caller)).collect();
    let asking = standing.iter().filter(|(name, _)| dialled.contains(*name)).filter_map(|(name, at)| {
        let (name, at, patience) = (name.clone(), at.clone().ok()?, what.patience);
        Some(async move { (name, reach::address(&at, patience).await) })
    });
    let (mut found, mut lost) = (BTreeMap::new(), BTreeMap::new());
    for (name, address) in many::bounded(asking.collect::<Vec<_>>(), what.parallel).await {
        match address {
            Ok(address) => drop(found.insert(name, address)),
            Err(why) => drop(lost.insert(name, why)),
        }
    }
    (found, lost)
}

async fn each<F>(
    standing: &Standing,
    parallel: usize,
    work: impl Fn(ClusterName, Arc<Cluster>) -> F,
) -> Vec<Result<(), VerifyError>>
where
    F: Future<Output = Result<(), VerifyError>> + Send + 'static,
{
    let jobs = standing.iter().map(|(name, at)| {
        let job = at.clone().map(|at| work(name.clone(), at));
        async move {
            match job {
                Ok(job) => job.await,
                Err(why) => Err(VerifyError::Unreached(why)),
            }
        }
    });
    many::bounded(jobs.collect::<Vec<_>>(), parallel).await
}

/// Runs the service, and waits until it is ready.
async fn serve(name: &ClusterName, at: &Cluster, what: &What) -> Result<(), VerifyError> {
    ground::clear(at, what.patience).await?;
    for object in objects::service(name, &what.service) {
        at.apply(&object, Apply::default()).await?;
    }
    let id = objects::id("apps/v1", "Deployment", objects::SERVICE);
    until(at, &id, ("the service is not ready", what.patience), |deployment| {
        let number = |path: &str| deployment.pointer(path).and_then(Value::as_i64).unwrap_or_default();
        let is_seen = number("/status/observedGeneration") >= number("/metadata/generation");
        (number("/status/readyReplicas") > 0 && is_seen).then_some(())
    })
    .await
}

/// Calls the service, and reads what the caller has counted.
async fn call(name: &ClusterName, at: &Cluster, what: &What) -> Result<BTreeMap<String, u32>, VerifyError> {
    at.apply(&objects::caller(name, what), Apply::default()).await?;
    Ok(counts(&last_words(at, objects::CALLER, ("the caller has not ended", what.patience)).await?))
}

/// What a pod's container of the same name says when it ends.
async fn last_words(at: &Cluster, name: &str, wait: (&'static str, Duration)) -> Result<String, VerifyError> {
    until(at, &objects::id("v1", "Pod", name), wait, |pod| {
        let states = pod.pointer("/status/containerStatuses").and_then(Value::as_array)?;
        let mut own = states.iter().filter(|one| one.get("name").and_then(Value::as_str) == Some(name));
        let ended = own.find_map(|one| one.pointer("/state/terminated"))?;
        Some(ended.get("message").and_then(Value::as_str).unwrap_or_default().to_owned())
    })
    .await
}

/// The lines of `uniq -c`.
fn counts(text: &str) -> BTreeMap<String, u32> {
    let line = |line: &str| {
        let (count, name) = line.trim().split_once(' ')?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

async fn until<T>(
    at: &Cluster,
    id: &Id,
    (what, patience): (&'static str, Duration),
    is_so: impl Fn(&Value) -> Option<T>,
) -> Result<T, VerifyError> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = at.get(id).await?.as_ref().and_then(&is_so) {
            return Ok(found);
        }
        let held = ground::held(at).await?;
        if let Some(held) = held.iter().find(|held| held.is_final) {
            return Err(VerifyError::Held { what, why: held.why.clone() });
        }
        if Instant::now() >= deadline {
            let why: Vec<String> = held.into_iter().map(|held| held.why).collect();
            let (context, why) = (at.context().to_owned(), why.join("; "));
            return Err(VerifyError::TimedOut { what, after: patience, context, why });
        }
        sleep(TICK.min(patience)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_counts_is_read_and_whoever_has_not_answered_is_missed() {
        let answers = counts("     12 eu-1\n      8 eu-2\n");
        assert_eq!(answers, BTreeMap::from([("eu-1".to_owned(), 12), ("eu-2".to_owned(), 8)]));
        let of = |expected: &[&str], text: &str| {
            let expected = expected.iter().map(|name| name.parse().unwrap()).collect();
            let cluster = "eu-1".parse().unwrap();
            Outcome { cluster, expected, answers: Ok(counts(text)), ways: Ok(Vec::new()), left: None }
                .is_proven()
        };
        assert!(of(&["eu-1", "eu-2"], "1 eu-1\n1 eu-2\n"));
        assert!(!of(&["eu-1", "eu-2"], "20 eu-1\n"));
        assert!(!of(&["eu-1"], "19 eu-1\n1 -\n"), "a lost request");
        assert!(!of(&["eu-1"], ""));
    }
}
