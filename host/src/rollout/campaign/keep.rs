//! Which revision a rollout is, what is kept of it before it begins, and what is thrown away after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::name::ClusterName;

use super::Refused;
use crate::kube::many;
use crate::rollout::crew::{Crew, Member};
use crate::rollout::job::Job;
use crate::rollout::machine::Goal;
use crate::rollout::record::{Origin, Record};
use crate::rollout::rendered::Rendered;
use crate::rollout::revision;
use crate::rollout::target::Trouble;

/// Whether the last rollout brings the very same as this one would, wherever it can be compared.
pub(super) fn is_same(crew: &Crew, last: &Record, origin: &Origin) -> bool {
    let compared = crew.members.iter().filter_map(|(name, member)| {
        let kept = member.kept.get(&last.revision)?;
        Some(revision::digest(crew.new.get(name)?).is_ok_and(|digest| digest == *kept))
    });
    let compared: Vec<bool> = compared.collect();
    last.state.goal() == Goal::New
        && last.origin.reason == origin.reason
        && !compared.is_empty()
        && compared.into_iter().all(|same| same)
}

/// No revision is of a higher number: two more than it are numbers too, that of what is found and of what is brought.
const LAST_NUMBER: u64 = u64::MAX - 2;

/// The number after the highest that any revision has.
pub(super) fn next_number(crew: &Crew, last: Option<&Record>) -> Result<u64, Refused> {
    let kept = |member: &Member| member.kept.keys().max().copied();
    let highest = crew.members.values().filter_map(kept).chain(last.map(|last| last.revision));
    let highest = highest.max().unwrap_or_default();
    if highest < LAST_NUMBER {
        return Ok(highest + 1);
    }
    let says = |member: &Member| {
        kept(member) == Some(highest)
            || member.copy.record.as_ref().is_some_and(|record| record.revision == highest)
    };
    let clusters = crew.members.iter().filter(|(_, member)| says(member));
    Err(Refused::LastNumber { clusters: clusters.map(|(name, _)| name.clone()).collect(), number: highest })
}

/// What each cluster goes back to if this is undone: what it has, if that was ever complete there.
pub(super) fn before(
    crew: &Crew,
    last: Option<&Record>,
    found: &BTreeMap<ClusterName, u64>,
) -> BTreeMap<ClusterName, Option<u64>> {
    let of = |name: &ClusterName, member: &Member| {
        let copy = &member.copy;
        if copy.at.is_none() { found.get(name).copied() } else { copy.good(name, last) }
    };
    let members = crew.members.iter().filter(|(name, _)| crew.new.contains_key(*name));
    members.map(|(name, member)| (name.clone(), of(name, member))).collect()
}

/// What those clusters had that could not be asked when the rollout began, and can now.
pub(super) fn catch_up(crew: &Crew, record: &mut Record, found: &BTreeMap<ClusterName, u64>) {
    for (name, member) in &crew.members {
        let has = || member.copy.at.or_else(|| found.get(name).copied());
        record.before.entry(name.clone()).or_insert_with(has);
    }
}

/// Keeps what was found in clusters of which no revision is kept, so that they can go back to it.
pub(super) async fn keep_found(
    crew: &mut Crew,
    jobs: &[Job],
    number: u64,
    origin: &Origin,
) -> BTreeMap<ClusterName, u64> {
    let origin = Origin {
        reason: "found".to_owned(),
        message: String::new(),
        source: String::new(),
        ..origin.clone()
    };
    let found = jobs.iter().filter(|job| job.trouble.is_none()).filter_map(|job| {
        let member = crew.members.get(&job.change.cluster)?;
        let rendered = revision::found(&job.there);
        (member.copy.at.is_none() && !rendered.parts.is_empty())
            .then(|| (job.change.cluster.clone(), Arc::new(rendered)))
    });
    let found: BTreeMap<_, _> = found.collect();
    keep_revision(crew, number, &origin, &found).await;
    found.into_keys().map(|name| (name, number)).collect()
}

/// Keeps the revision of a rollout wherever it is not yet.
pub(super) async fn keep(crew: &mut Crew, record: &Record) {
    let missing = |name: &ClusterName| {
        crew.members.get(name).is_some_and(|member| !member.kept.contains_key(&record.revision))
    };
    let new: BTreeMap<_, _> = crew
        .new
        .iter()
        .filter(|(name, _)| missing(name))
        .map(|(name, new)| (name.clone(), Arc::clone(new)))
        .collect();
    keep_revision(crew, record.revision, &record.origin, &new).await;
}

/// Keeps a revision in clusters. One where it cannot be kept is out: it could not go back.
async fn keep_revision(
    crew: &mut Crew,
    number: u64,
    origin: &Origin,
    of: &BTreeMap<ClusterName, Arc<Rendered>>,
) {
    let keeping = of.iter().filter_map(|(name, rendered)| {
        let shelf = crew.members.get(name)?.shelf.clone();
        let (name, rendered, origin) = (name.clone(), Arc::clone(rendered), origin.clone());
        Some(async move {
            let kept = async {
                let (objects, digest) = revision::objects(&shelf, number, &rendered, &origin)?;
                for (file, object) in objects {
                    shelf.put(&file, &object).await?;
                }
                Ok::<_, Trouble>(digest)
            };
            (name, kept.await)
        })
    });
    let kept = many::bounded(keeping.collect::<Vec<_>>(), crew.how.parallel).await;
    for (name, kept) in kept {
        match kept {
            Ok(digest) => {
                if let Some(member) = crew.members.get_mut(&name) {
                    member.kept.insert(number, digest);
                }
            }
            Err(trouble) => {
                crew.out.insert(name.clone(), trouble.to_string());
                if let Some(member) = crew.members.remove(&name) {
                    member.hold.release().await;
                }
            }
        }
    }
}

/// Throws away the oldest revisions of each cluster, but for what it has, and what it or this rollout would go back to.
pub(super) async fn prune(crew: &Crew, history: usize) {
    let Some(record) = &crew.record else { return };
    let used: BTreeSet<u64> = record.before.values().flatten().copied().chain([record.revision]).collect();
    for member in crew.members.values() {
        let is_used = |number: &u64| used.contains(number) || member.copy.at == Some(*number);
        let old: BTreeSet<u64> =
            member.kept.keys().rev().skip(history).filter(|number| !is_used(number)).copied().collect();
        if old.is_empty() || !member.hold.guard().holds() {
            continue;
        }
        // What cannot be thrown away now is thrown away the next time.
        let Ok(list) = member.shelf.list().await else { continue };
        for (_, objects) in
            revision::listed(&list).into_iter().filter(|(found, _)| old.contains(&found.number))
        {
            for object in objects {
                let _next_time = member.shelf.remove(object).await.is_err();
            }
        }
    }
}
