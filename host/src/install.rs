//! A mesh, brought to its clusters: what was rendered is applied, Istio is installed by its own tools, and what others have
//! to do is waited for. And all of that taken away again.
//!
//! ```text
//! steps of the mesh ──> clusters, side by side ──> objects, programs, waits ──> Done
//!                            └─ one that fails is out; who needs it waits, and the others go on
//! ```

mod error;
mod object;
mod program;
mod remove;
mod trust;
mod wait;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use policy::Mesh;
use policy::mesh::{Cluster, ControlPlane};
use policy::name::ClusterName;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

pub use error::Trouble;
pub use program::{Programs, Tool};
pub use remove::remove;
pub use trust::authority_at;

use crate::kube::{self, many};
use crate::manifest::{Content, Item, Manifest, Phase, Step, steps};
use crate::remote::{self, Pair, Reached};
use crate::text::chain;

/// What was done, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Made,
    /// It was otherwise.
    Changed,
    /// It was so already.
    Unchanged,
    /// A program ran, which says itself what it did.
    Ran,
    /// It was there and is not any more.
    Removed,
    /// It stays, though without what we said of it.
    Released,
}

impl Change {
    /// As people and programs call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Ran => "ran",
            Self::Removed => "removed",
            Self::Released => "released",
        }
    }
}

/// One thing that was done in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// For what.
    pub phase: Phase,
    /// An object, or a command.
    pub what: String,
    /// What became of it.
    pub change: Change,
}

/// What came of a cluster.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub cluster: ClusterName,
    /// What was done, in order.
    pub done: Vec<Done>,
    /// Why the rest was not.
    pub trouble: Option<Trouble>,
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// Yes.
    No,
    /// No: it is looked at what is there.
    Client,
    /// No: servers do all but keep it.
    Server,
}

/// How a mesh is made or taken away.
#[derive(Debug, Clone)]
pub struct How {
    /// Whether anything is changed.
    pub dry_run: DryRun,
    /// Fields that others own are taken from them.
    pub force: bool,
    /// How long others may take for what they have to do.
    pub patience: Duration,
    /// How many clusters are worked on at a time.
    pub parallel: usize,
    /// What installs Istio.
    pub programs: Programs,
    /// A CA is put into a cluster also where workloads then refuse each other.
    pub replace_authority: bool,
    /// How remote secrets are made.
    pub secrets: remote::How,
    /// Where it is said what is waited for.
    pub tell: UnboundedSender<String>,
}

/// A cluster that can be worked on, or why not.
pub type Standing = BTreeMap<ClusterName, Result<Arc<kube::Cluster>, String>>;

/// What is brought to the clusters.
#[derive(Debug)]
pub struct Wanted<'w> {
    /// The mesh.
    pub mesh: &'w Mesh,
    /// What each cluster needs.
    pub manifest: &'w Manifest,
    /// The Secret `cacerts` of each cluster that has a CA here.
    pub authorities: &'w BTreeMap<ClusterName, Value>,
}

/// The work in a cluster, from step to step.
struct Work {
    cluster: Cluster,
    at: Arc<kube::Cluster>,
    items: Vec<Item>,
    authority: Option<Value>,
    how: How,
    charts: &'static str,
    done: Vec<Done>,
    trouble: Option<Trouble>,
}

/// Brings every cluster what it needs, as far as the order allows.
pub async fn apply(wanted: &Wanted<'_>, standing: &Standing, how: &How) -> Vec<Outcome> {
    let mut all = works(wanted, standing, how);
    for step in steps(wanted.mesh) {
        hold_back(wanted.mesh, &step, &mut all);
        if step.phase == Phase::Trust {
            trust::keep(wanted, standing, how, &mut all).await;
        }
        let (taking, resting): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, work)| {
            step.clusters.contains(name) && matches!(work, Ok(work) if work.trouble.is_none())
        });
        let phase = step.phase;
        let reached: BTreeMap<ClusterName, Arc<kube::Cluster>> = standing
            .iter()
            .filter_map(|(name, at)| Some((name.clone(), Arc::clone(at.as_ref().ok()?))))
            .collect();
        let mesh = wanted.mesh.clone();
        let jobs =
            taking.into_iter().filter_map(|(name, work)| Some((name, work.ok()?))).map(|(name, mut work)| {
                let (mesh, reached) = (mesh.clone(), reached.clone());
                async move {
                    let came = if phase == Phase::Secrets {
                        work.secrets(&mesh, &reached).await
                    } else {
                        work.take(phase).await
                    };
                    work.trouble = came.err();
                    (name, Ok(work))
                }
            });
        all = many::bounded(jobs, how.parallel).await.into_iter().chain(resting).collect();
    }
    outcomes(all)
}

type Works = BTreeMap<ClusterName, Result<Work, Trouble>>;

fn works(wanted: &Wanted<'_>, standing: &Standing, how: &How) -> Works {
    let charts = crate::manifest::charts(wanted.mesh.installation());
    let work = |cluster: &Cluster| {
        let at = match standing.get(&cluster.name) {
            Some(Ok(at)) => Arc::clone(at),
            Some(Err(why)) => return Err(Trouble::Unreached { why: why.clone() }),
            None => return Err(Trouble::Unreached { why: "mesh.yaml gives it no context".to_owned() }),
        };
        let items = wanted.manifest.get(&cluster.name).cloned().unwrap_or_default();
        let authority = wanted.authorities.get(&cluster.name).cloned();
        let (cluster, how) = (cluster.clone(), how.clone());
        Ok(Work { cluster, at, items, authority, how, charts, done: Vec::new(), trouble: None })
    };
    wanted.mesh.clusters().map(|cluster| (cluster.name.clone(), work(cluster))).collect()
}

/// A remote has to wait for a primary that is not done: its proxies would wait for that istiod.
fn hold_back(mesh: &Mesh, step: &Step, all: &mut Works) {
    let failed = |all: &Works, name: &ClusterName| {
        all.get(name).is_none_or(|work| !matches!(work, Ok(work) if work.trouble.is_none()))
    };
    for cluster in mesh.clusters().filter(|cluster| step.clusters.contains(&cluster.name)) {
        let ControlPlane::RemoteOf(primary) = &cluster.control_plane else { continue };
        if step.phase == Phase::Namespace || !failed(all, primary) {
            continue;
        }
        if let Some(Ok(work)) = all.get_mut(&cluster.name) {
            work.trouble.get_or_insert_with(|| Trouble::Waits { primary: primary.clone() });
        }
    }
}

fn outcomes(all: Works) -> Vec<Outcome> {
    let outcome = |(cluster, work): (ClusterName, Result<Work, Trouble>)| match work {
        Ok(Work { done, trouble, .. }) => Outcome { cluster, done, trouble },
        Err(trouble) => Outcome { cluster, done: Vec::new(), trouble: Some(trouble) },
    };
    all.into_iter().map(outcome).collect()
}

impl Work {
    /// Takes a step: its objects, its programs, and what has to come of them.
    async fn take(&mut self, phase: Phase) -> Result<(), Trouble> {
        if phase == Phase::Trust {
            return self.trust().await;
        }
        let items: Vec<Item> = self.items.iter().filter(|item| item.phase == phase).cloned().collect();
        for item in &items {
            match &item.content {
                Content::Object(object) => self.object(phase, object).await?,
                Content::IstioOperator(_) | Content::Helm(_) => self.program(item).await?,
            }
        }
        if self.how.dry_run != DryRun::No {
            return Ok(());
        }
        match phase {
            Phase::ControlPlane if self.cluster.control_plane == ControlPlane::Primary => self.istiod().await,
            Phase::Gateway if !items.is_empty() => self.gateway().await,
            Phase::Namespace
            | Phase::Trust
            | Phase::ControlPlane
            | Phase::Gateway
            | Phase::Exposure
            | Phase::Secrets
            | Phase::Names => Ok(()),
        }
    }

    /// The CA of the cluster: as the files have it, or as somebody has put it there.
    async fn trust(&mut self) -> Result<(), Trouble> {
        if let Some(authority) = self.authority.clone() {
            return self.object(Phase::Trust, &authority).await;
        }
        if object::is_there(&self.at, "v1", "Secret", "cacerts").await? {
            self.note(Phase::Trust, "Secret istio-system/cacerts".to_owned(), Change::Unchanged);
            return Ok(());
        }
        Err(Trouble::NoAuthority)
    }

    /// Access for this control plane to each cluster that it reads.
    async fn secrets(
        &mut self,
        mesh: &Mesh,
        reached: &BTreeMap<ClusterName, Arc<kube::Cluster>>,
    ) -> Result<(), Trouble> {
        let (mut unread, dry_run) = (Vec::new(), self.how.dry_run != DryRun::No);
        let how =
            remote::How { dry_run, force: self.how.force, patience: self.how.patience, ..self.how.secrets };
        for read in crate::manifest::read_by(mesh, &self.cluster) {
            let Some(at) = reached.get(&read.name) else {
                unread.push(format!("{} cannot be reached", read.name));
                continue;
            };
            let pair = Pair { reader: &self.cluster, read };
            let change = match remote::ensure(pair, Reached { reader: &self.at, read: at }, how).await {
                Ok(remote::Change::Kept) => Change::Unchanged,
                Ok(remote::Change::Made) => Change::Made,
                Ok(remote::Change::Renewed) => Change::Changed,
                Err(why) => {
                    unread.push(format!("{}: {}", read.name, chain(&why)));
                    continue;
                }
            };
            let what = format!("Secret istio-system/istio-remote-secret-{}", read.name);
            self.note(Phase::Secrets, what, change);
        }
        if unread.is_empty() { Ok(()) } else { Err(Trouble::Unread { unread }) }
    }

    fn note(&mut self, phase: Phase, what: String, change: Change) {
        self.done.push(Done { phase, what, change });
    }
}
