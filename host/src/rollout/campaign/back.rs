//! Going back to a revision that clusters keep; and what only pretends.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::name::ClusterName;

use super::{Campaign, Order, Refused, Report, concerned, finish, refuse, torn, trying, waves};
use crate::rollout::crew::Crew;
use crate::rollout::drive::Driver;
use crate::rollout::machine::{Event, OnFailure, State};
use crate::rollout::record::Origin;
use crate::rollout::revision;
use crate::rollout::strategy::Strategy;
use crate::rollout::target::{DryRun, Trouble};

impl Campaign<'_> {
    /// Brings every cluster back to what it had at a revision; to the one before the last without one.
    pub async fn roll_back(
        self,
        number: Option<u64>,
        strategy: Strategy,
        origin: Origin,
    ) -> Result<Report, Refused> {
        let mut crew = self.open(self.targets.keys().cloned().collect()).await?;
        let agreed = crew.agreed();
        if let Some(torn) = torn(&agreed) {
            return refuse(crew, torn).await;
        }
        let earlier = || agreed.record.as_ref()?.before.values().flatten().max().copied();
        let Some(number) = number.or_else(earlier) else { return refuse(crew, Refused::NoEarlier).await };
        let mut order = Order { new: BTreeMap::new(), left: BTreeMap::new(), strategy, origin };
        order.origin.reason = format!("rollback to {number}");
        recall(&mut crew, &mut order, number).await;
        if order.new.is_empty() && !crew.members.is_empty() {
            return refuse(crew, Refused::NoRevision(number)).await;
        }
        // A cluster that cannot be brought there takes no part, and is told to be behind.
        let lacking: Vec<ClusterName> =
            crew.members.keys().filter(|name| !order.new.contains_key(*name)).cloned().collect();
        for name in lacking {
            if let Some(member) = crew.members.remove(&name) {
                member.hold.release().await;
            }
        }
        if self.how.dry_run != DryRun::No {
            return self.pretend(order, crew.out).await;
        }
        self.begin(crew, order).await
    }

    /// What would be done, without anything that is kept.
    pub(super) async fn pretend(
        self,
        order: Order,
        out: BTreeMap<ClusterName, String>,
    ) -> Result<Report, Refused> {
        let mut crew = self.crew();
        (crew.new, crew.left, crew.out) = (order.new, order.left, out);
        for (name, target) in self.targets {
            match target {
                Ok(target) if crew.new.contains_key(&name) => drop(crew.seen.insert(name, target)),
                Ok(_) => {}
                Err(error) => drop(crew.out.insert(name, error.to_string())),
            }
        }
        let waves = waves(&order.strategy, &concerned(&crew));
        crew.trying = trying(&waves);
        let state = State::new(waves, OnFailure::Stop);
        let driven = Driver::new(state, &mut crew, self.tell).run(Event::Begin).await;
        finish(crew, driven, self.history).await
    }
}

/// What each cluster had at a revision, and what it has now; why not, where it cannot be known.
async fn recall(crew: &mut Crew, order: &mut Order, number: u64) {
    for (name, member) in &crew.members {
        match revision::read(&member.shelf, number).await {
            Ok(Some(rendered)) => drop(order.new.insert(name.clone(), Arc::new(rendered))),
            Ok(None) => {
                let trouble = Trouble::NotKept { cluster: name.clone(), number };
                crew.out.insert(name.clone(), trouble.to_string());
            }
            Err(trouble) => drop(crew.out.insert(name.clone(), trouble.to_string())),
        }
        if let Some(at) = member.copy.at
            && let Ok(Some(left)) = revision::read(&member.shelf, at).await
        {
            order.left.insert(name.clone(), Arc::new(left));
        }
    }
}
