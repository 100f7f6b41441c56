//! What has a rollout stop where it is, for the program that drives it: when somebody interrupts that.

use std::time::Duration;

use super::{Campaign, DryRun};
use crate::kube::many;
use crate::rollout::lease;
use crate::rollout::target::Target;

const AGAIN: Duration = Duration::from_millis(500);

/// Asks for what `isthmus rollout pause` does, of one rollout alone.
#[derive(Debug)]
pub struct Brake {
    root: String,
    targets: Vec<Target>,
    holder: String,
    parallel: usize,
}

impl Campaign<'_> {
    /// That of this rollout; none of one that only pretends, which has nothing to stop.
    pub fn brake(&self) -> Option<Brake> {
        let targets = self.targets.values().filter_map(|target| target.as_ref().ok().cloned());
        (self.how.dry_run == DryRun::No).then(|| Brake {
            root: self.root.clone(),
            targets: targets.collect(),
            holder: self.holder.name.clone(),
            parallel: self.how.parallel,
        })
    }
}

impl Brake {
    /// Asks in every cluster that can be reached, until one has heard: one is enough. Whoever has not got its clusters yet is
    /// asked again.
    pub async fn pull(self) {
        loop {
            let asking = self.targets.iter().cloned().map(|target| {
                let (root, holder) = (self.root.clone(), self.holder.clone());
                async move { lease::ask_to_pause(&target, &root, Some(&holder)).await.unwrap_or_default() }
            });
            let heard = many::bounded(asking.collect::<Vec<_>>(), self.parallel).await;
            if heard.into_iter().any(|heard| heard) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
