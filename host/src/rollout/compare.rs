//! What a rollout would change, object by object.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::Mesh;
use policy::compile::Plans;
use policy::meaning::Meaning;
use policy::name::ClusterName;
use serde_json::Value;

use super::difference::{Difference, bare};
use super::job::{Job, Task, Wanted};
use super::lease::Guard;
use super::rendered;
use super::steps::Step;
use super::{DryRun, How, Options, RolloutError, Target, Trouble, meaning};
use crate::kube::{Apply, ClusterError, many};

/// What is otherwise in one cluster.
#[derive(Debug)]
pub struct Compared {
    /// The cluster.
    pub cluster: ClusterName,
    /// What is otherwise, as far as it could be found out.
    pub differences: Vec<Difference>,
    /// What becomes otherwise by that, for the proxies of each cluster of its control plane; nothing where `trouble` kept
    /// it from being found out.
    pub meaning: BTreeMap<ClusterName, Meaning>,
    /// What kept the rest from being found out.
    pub trouble: Option<Trouble>,
}

/// Compares what is there in every cluster with what a rollout would make of it. With [`DryRun::Server`] API servers are asked
/// what that is, so what others said of an object is no difference.
pub async fn compare(
    mesh: &Mesh,
    plans: &Plans,
    mut targets: BTreeMap<ClusterName, Result<Target, ClusterError>>,
    (options, how): (Options<'_>, How),
) -> Result<Vec<Compared>, RolloutError> {
    let comparing = rendered::render(mesh, plans, options)?.into_iter().filter_map(|(cluster, rendered)| {
        let target = targets.remove(&cluster)?.map_err(|error| error.to_string());
        let wanted = Wanted::These(Arc::new(rendered));
        let root = mesh.root_namespace().to_string();
        let task =
            Task { cluster, target, wanted, left: None, tries: false, root, how, guard: Guard::none() };
        Some(async { Job::start(task).await.compare().await })
    });
    Ok(many::bounded(comparing.collect::<Vec<_>>(), how.parallel).await)
}

impl Job {
    async fn compare(mut self) -> Compared {
        let mut differences = Vec::new();
        let there: meaning::Objects =
            self.there.iter().map(|(file, seen)| (file.clone(), seen.open())).collect();
        // An object that is written wide and then narrow is narrow in the end.
        let last: BTreeMap<String, Step> =
            self.steps.drain(..).map(|(_, step)| (step.file().to_owned(), step)).collect();
        for (file, step) in last {
            if self.trouble.is_some() {
                break;
            }
            let before = there.get(&file).map(bare);
            match self.result(&step).await {
                Ok(after) if after == before => {}
                Ok(after) => differences.push((file, Difference { name: self.name(&step), before, after })),
                Err(trouble) => self.trouble = Some(trouble),
            }
        }
        let meaning = match self.trouble {
            Some(_) => BTreeMap::new(),
            None => {
                let after = meaning::made(&there, &differences);
                meaning::of(&self.change.cluster, self.root(), (&there, &after), &differences)
            }
        };
        let differences = differences.into_iter().map(|(_, difference)| difference).collect();
        Compared { cluster: self.change.cluster, differences, meaning, trouble: self.trouble }
    }

    /// What a step would leave.
    async fn result(&self, step: &Step) -> Result<Option<Value>, Trouble> {
        match (step, &self.target) {
            (Step::Remove(_), _) => Ok(None),
            (Step::Write(_, object), Some(Target::Cluster(server))) if self.how.dry_run == DryRun::Server => {
                let how = Apply { dry_run: true, force: self.how.force };
                Ok(Some(bare(&server.apply(&object.open(), how).await?)))
            }
            (Step::Write(_, object), _) => Ok(Some(object.open())),
        }
    }
}
