//! A mesh, taken away: what was made goes in the reverse of the order in which it came, and nothing else does.

use std::collections::BTreeSet;

use policy::name::ClusterName;
use serde_json::Value;

use super::object::{is_shared, nothing_of};
use super::program::Deed;
use super::{Change, DryRun, How, Outcome, Standing, Trouble, Wanted, Work, Works, outcomes, works};
use crate::kube::{Apply, ClusterError, Id, Kind, MESH_MANAGER, Problem, is_managed_by, many};
use crate::manifest::{Content, Phase, steps};

/// The kinds that a mesh is made of, but for namespaces.
const KINDS: [(&str, &str); 14] = [
    ("networking.istio.io/v1", "ServiceEntry"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "Gateway"),
    ("gateway.networking.k8s.io/v1", "TLSRoute"),
    ("gateway.networking.k8s.io/v1alpha2", "TLSRoute"),
    ("gateway.networking.k8s.io/v1", "Gateway"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
];

/// Takes away what [`super::apply`] has made. An object is ours where it has our label and our field manager applied it;
/// of one that others have put something into, only our part goes. Namespaces stay, without what we said of them, and so do
/// Istio's definitions.
pub async fn remove(wanted: &Wanted<'_>, standing: &Standing, how: &How) -> Vec<Outcome> {
    let mut all = works(wanted, standing, how);
    let mut steps = steps(wanted.mesh);
    steps.reverse();
    for step in steps {
        let phase = step.phase;
        let (taking, resting): (Works, Works) = all.into_iter().partition(|(name, work)| {
            step.clusters.contains(name) && matches!(work, Ok(work) if work.trouble.is_none())
        });
        let jobs = taking.into_iter().filter_map(|(name, work)| Some((name, work.ok()?)));
        let jobs = jobs.map(|(name, work)| back(name, work, phase));
        all = many::bounded(jobs, how.parallel).await.into_iter().chain(resting).collect();
    }
    outcomes(all)
}

async fn back(name: ClusterName, mut work: Work, phase: Phase) -> (ClusterName, Result<Work, Trouble>) {
    work.trouble = work.untake(phase).await.err();
    (name, Ok(work))
}

impl Work {
    /// Takes a step back.
    async fn untake(&mut self, phase: Phase) -> Result<(), Trouble> {
        let programs: Vec<_> = self.items.iter().filter(|item| item.phase == phase).cloned().collect();
        for item in programs.iter().rev().filter(|item| !matches!(item.content, Content::Object(_))) {
            self.install(item, Deed::Uninstall).await?;
        }
        if phase == Phase::Namespace {
            // What no step has: tokens for other clusters, and what an earlier mesh.yaml said.
            self.objects(phase, |_| true).await?;
            return self.namespaces().await;
        }
        let of_phase: BTreeSet<Id> = self.of(phase);
        self.objects(phase, |id| of_phase.contains(id)).await
    }

    /// The objects of a phase.
    fn of(&self, phase: Phase) -> BTreeSet<Id> {
        let object = |item: &crate::manifest::Item| match &item.content {
            Content::Object(object) if item.phase == phase => Id::of(object).ok(),
            Content::Object(_) | Content::IstioOperator(_) | Content::Helm(_) => None,
        };
        let mut ids: BTreeSet<Id> = self.items.iter().filter_map(object).collect();
        if phase == Phase::Trust {
            ids.extend(self.authority.as_ref().and_then(|secret| Id::of(secret).ok()));
        }
        ids
    }

    /// Removes those of our objects that are meant.
    async fn objects(&mut self, phase: Phase, is_meant: impl Fn(&Id) -> bool) -> Result<(), Trouble> {
        for (version, kind) in KINDS {
            let objects = match self.at.list(&Kind::new(version, kind)).await {
                Err(ClusterError { problem, .. }) if matches!(*problem, Problem::NoSuchKind { .. }) => {
                    continue;
                }
                objects => objects?,
            };
            for object in objects.into_iter().filter(|object| is_managed_by(object, MESH_MANAGER)) {
                let Ok(id) = Id::of(&object) else { continue };
                if is_meant(&id) {
                    self.object_goes(phase, &object, id).await?;
                }
            }
        }
        Ok(())
    }

    async fn object_goes(&mut self, phase: Phase, object: &Value, id: Id) -> Result<(), Trouble> {
        // A dry run keeps an object, which then is seen once more.
        let is_told = self.done.iter().any(|done| done.what == id.to_string());
        if is_told {
            return Ok(());
        }
        let change = if is_shared(object) { Change::Released } else { Change::Removed };
        if change == Change::Released {
            self.release(object).await?;
        } else if self.how.dry_run != DryRun::Client {
            self.at.delete(object, self.how.dry_run == DryRun::Server).await?;
        }
        self.note(phase, id.to_string(), change);
        Ok(())
    }

    /// Takes back what we said of namespaces, in which others have their things.
    async fn namespaces(&mut self) -> Result<(), Trouble> {
        for namespace in self.at.survey(&Kind::new("v1", "Namespace"), None, None).await? {
            if !is_managed_by(&namespace, MESH_MANAGER) {
                continue;
            }
            self.release(&namespace).await?;
            let name = namespace.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            self.note(Phase::Namespace, format!("Namespace {name}"), Change::Released);
        }
        Ok(())
    }

    async fn release(&self, object: &Value) -> Result<(), Trouble> {
        if self.how.dry_run != DryRun::Client {
            let how = Apply { dry_run: self.how.dry_run == DryRun::Server, force: false };
            self.at.apply(&nothing_of(object), how).await?;
        }
        Ok(())
    }
}
