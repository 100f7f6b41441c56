//! What the sidecars of servers decide otherwise.

use std::collections::{BTreeMap, BTreeSet};

use super::boxes;
use super::kinds::{self, Space};
use super::workloads::{self, Side, Workload};
use super::{Arriving, Change, Decision, Kind, Meaning, Running, Witness};
use crate::evaluate::{self, Arrival};
use crate::guard::{Guard, Judge};
use crate::name::{ClusterName, Identity};
use crate::plan::{From, InboundPlan, Members, Rule, To};
use crate::source::{By, Source};
use crate::verdict::{AllowedBy, Judgement, Verdict};

/// No more kinds of requests than this are compared for one kind of workload.
const MOST_CELLS: usize = 400_000;

pub(super) fn compare(before: &Running, after: &Running, meaning: &mut Meaning) {
    let (workloads, untold) = workloads::changed(before, after);
    meaning.untold.extend(untold);
    for workload in &workloads {
        Bench::new(workload).compare(meaning);
    }
    for running in [before, after] {
        let twice = running
            .apart
            .keys()
            .filter(|name| running.inbound.as_ref().is_some_and(|plan| !plan.leaves(name)));
        meaning.untold.extend(twice.map(|name| format!("what two plans together judge in {name}")));
    }
}

/// Whence a request comes, as far as is known.
struct Origin {
    /// Clusters that no rule tells apart; none: nobody knows.
    clusters: Vec<ClusterName>,
    is_proven: bool,
}

/// A kind of workload with all kinds of requests to it.
struct Bench<'b> {
    workload: &'b Workload<'b>,
    origins: Vec<Origin>,
    /// Where the workload is.
    home: Option<&'b ClusterName>,
    senders: Space,
    /// The identity of each kind of sender.
    identities: Vec<Option<Identity>>,
    requests: Space,
}

/// Rows of the same change in the same columns; a row is an origin and a kind of sender, a column a kind of request.
type Rectangles = BTreeMap<(Decision, Decision, BTreeSet<usize>), BTreeSet<(usize, usize)>>;

impl<'b> Bench<'b> {
    fn new(workload: &'b Workload<'b>) -> Self {
        let sides = [&workload.before, &workload.after];
        let rules = || sides.into_iter().flat_map(Side::rules);
        let sources: BTreeSet<&From> = rules().flat_map(|rule| rule.from.iter()).collect();
        let targets: BTreeSet<&To> = rules().flat_map(|rule| rule.to.iter()).collect();
        let senders = kinds::senders(&sources.into_iter().collect::<Vec<_>>());
        Self {
            workload,
            origins: origins(sides),
            home: sides.into_iter().find_map(Side::plan).map(|plan| &plan.home.cluster),
            identities: (0..senders.count()).map(|kind| kinds::identity(&senders.sample(kind))).collect(),
            senders,
            requests: kinds::requests(&targets.into_iter().collect::<Vec<_>>()),
        }
    }

    fn compare(&self, meaning: &mut Meaning) {
        let rows = self.origins.len() * self.senders.count();
        let columns = self.requests.count().min((MOST_CELLS / rows.max(1)).max(1));
        if columns < self.requests.count() || self.senders.cut || self.requests.cut {
            meaning.untold.push(format!(
                "some kinds of requests to {}, of which its rules make {}",
                self.workload.name,
                rows * self.requests.count()
            ));
        }
        for ((before, after, columns), rows) in self.rectangles(columns) {
            let (Some((origin, sender)), Some(request)) = (rows.first(), columns.first()) else { continue };
            meaning.changes.push(Change {
                kind: Kind::of(&before, &after),
                subject: self.workload.name.clone(),
                who: self.who(&rows),
                what: self.what(&columns),
                before,
                after,
                witness: Witness::Inbound(self.witness((*origin, *sender), *request)),
            });
        }
    }

    fn rectangles(&self, columns: usize) -> Rectangles {
        let requests: Vec<Vec<Option<&str>>> = (0..columns).map(|kind| self.requests.sample(kind)).collect();
        let mut rectangles = Rectangles::new();
        for (number, origin) in self.origins.iter().enumerate() {
            for (sender, identity) in self.identities.iter().enumerate() {
                let mut row: BTreeMap<(Decision, Decision), BTreeSet<usize>> = BTreeMap::new();
                for (request, values) in requests.iter().enumerate() {
                    let arrival = kinds::arrival(identity.as_ref(), values);
                    let Workload { before, after, .. } = self.workload;
                    let (before, after) = (before.judge(origin, arrival), after.judge(origin, arrival));
                    if seen(before) != seen(after) {
                        row.entry((decision(before), decision(after))).or_default().insert(request);
                    }
                }
                for ((before, after), columns) in row {
                    rectangles.entry((before, after, columns)).or_default().insert((number, sender));
                }
            }
        }
        rectangles
    }

    fn who(&self, rows: &BTreeSet<(usize, usize)>) -> Vec<String> {
        let axes: Vec<usize> = [self.origins.len()].into_iter().chain(self.senders.lengths()).collect();
        let holds = |point: &[usize]| {
            let Some((origin, sender)) = point.split_first() else { return false };
            self.senders.kind(sender).is_some_and(|kind| rows.contains(&(*origin, kind)))
        };
        let boxes = boxes::boxes(&axes, &holds);
        let words = boxes.iter().filter_map(|found| {
            let (origins, senders) = found.split_first()?;
            match (self.origin_words(origins), kinds::sender_words(&self.senders, senders)) {
                (None, None) => None,
                (Some(origin), None) => Some(origin),
                (None, Some(sender)) => Some(sender),
                (Some(origin), Some(sender)) => Some(format!("{origin}, {sender}")),
            }
        });
        words.collect()
    }

    fn what(&self, columns: &BTreeSet<usize>) -> Vec<String> {
        let holds = |point: &[usize]| self.requests.kind(point).is_some_and(|kind| columns.contains(&kind));
        let boxes = boxes::boxes(&self.requests.lengths(), &holds);
        boxes.iter().filter_map(|found| kinds::request_words(&self.requests, found)).collect()
    }

    /// What some origins are called; `None`: all of them.
    fn origin_words(&self, chosen: &BTreeSet<usize>) -> Option<String> {
        if chosen.len() == self.origins.len() {
            return None;
        }
        let of = |is_proven: bool| -> BTreeSet<&ClusterName> {
            let chosen = chosen.iter().filter_map(|number| self.origins.get(*number));
            chosen
                .filter(|origin| origin.is_proven == is_proven)
                .flat_map(|origin| &origin.clusters)
                .collect()
        };
        let all: BTreeSet<&ClusterName> = self.origins.iter().flat_map(|origin| &origin.clusters).collect();
        let names = |some: BTreeSet<&ClusterName>| {
            let others: BTreeSet<&ClusterName> =
                all.iter().copied().filter(|name| Some(*name) != self.home).collect();
            match () {
                () if some == all && all.len() > 1 => "all clusters".to_owned(),
                () if some == others && others.len() > 1 => "all other clusters".to_owned(),
                () => some.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
            }
        };
        let (proven, claimed) = (of(true), of(false));
        let both: BTreeSet<&ClusterName> = proven.intersection(&claimed).copied().collect();
        let is_unknown = chosen
            .iter()
            .filter_map(|number| self.origins.get(*number))
            .any(|origin| origin.clusters.is_empty());
        let parts = [
            (both.clone(), ""),
            (proven.difference(&both).copied().collect(), " where that is proven"),
            (claimed.difference(&both).copied().collect(), " where that is only claimed"),
        ];
        let said = parts.into_iter().filter(|(some, _)| !some.is_empty());
        let mut said: Vec<String> = said.map(|(some, how)| format!("{}{how}", names(some))).collect();
        if is_unknown {
            said.push("sources that are not known".to_owned());
        }
        Some(said.join(", or "))
    }

    fn witness(&self, (origin, sender): (usize, usize), request: usize) -> Arriving {
        let identity = self.identities.get(sender).cloned().flatten();
        let values = self.requests.sample(request);
        let Arrival { port, method, path, host, .. } = kinds::arrival(None, &values);
        let origin = self.origins.get(origin);
        Arriving {
            namespace: self.workload.namespace.clone(),
            labels: self.workload.labels.clone(),
            source: origin.and_then(|origin| Some((origin.clusters.first()?.clone(), origin.is_proven))),
            identity,
            port,
            method: method.to_owned(),
            path: path.to_owned(),
            host: host.map(str::to_owned),
        }
    }
}

impl<'p> Side<'p> {
    fn plan(&self) -> Option<&'p InboundPlan> {
        match self {
            Self::Guarded(plan, _) => Some(plan),
            Self::Open | Self::Missing => None,
        }
    }

    fn judges(&self) -> impl Iterator<Item = &Judge> {
        let guard: Option<&Guard> = match self {
            Self::Guarded(_, guard) => Some(guard),
            Self::Open | Self::Missing => None,
        };
        guard.into_iter().flat_map(|guard| [&guard.enforced].into_iter().chain(&guard.shadow))
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.judges().flat_map(|judge| &judge.sections).flat_map(|section| section.rules())
    }

    /// The sets of clusters that it asks about.
    fn members(&self) -> impl Iterator<Item = &Members> {
        let within = self.judges().flat_map(|judge| &judge.within).map(|within| &within.clusters);
        within.chain(self.rules().flat_map(|rule| &rule.from).map(|from| &from.clusters))
    }

    /// What it decides; `None`: it refuses, since the plan is missing.
    fn judge(&self, origin: &Origin, arrival: Arrival<'_>) -> Option<Judgement<'_>> {
        match self {
            Self::Open => Some(Judgement { verdict: Verdict::Allow(AllowedBy::NoPolicy), shadow: None }),
            Self::Missing => None,
            Self::Guarded(plan, guard) => {
                let at = origin.clusters.first().and_then(|cluster| plan.location(cluster));
                let source = match at {
                    Some(at) if origin.is_proven => Source::Verified(at, By::Certificate),
                    Some(at) => Source::Claimed(at),
                    None => Source::Unknown,
                };
                Some(evaluate::inbound(guard, &Arrival { source, ..arrival }))
            }
        }
    }
}

/// What anybody sees of a judgement.
fn seen(judged: Option<Judgement<'_>>) -> Option<(Verdict<'_>, Option<Verdict<'_>>)> {
    judged.map(|judged| (judged.verdict, judged.dissent()))
}

fn decision(judged: Option<Judgement<'_>>) -> Decision {
    let missing =
        || Decision { allow: false, reason: "isthmus:plan-missing".to_owned(), route: None, shadow: None };
    judged.map_or_else(missing, |judged| Decision::of(&judged))
}

/// The kinds of clusters that two sides tell apart, each proven and claimed, and that which nobody knows.
fn origins(sides: [&Side<'_>; 2]) -> Vec<Origin> {
    let plans = || sides.into_iter().filter_map(Side::plan);
    let names: BTreeSet<&ClusterName> =
        plans().flat_map(|plan| plan.clusters()).map(|location| &location.name).collect();
    let mut kinds: BTreeMap<Vec<Option<bool>>, Vec<ClusterName>> = BTreeMap::new();
    for name in names {
        let signature =
            sides.into_iter().filter_map(|side| Some((side, side.plan()?))).flat_map(|(side, plan)| {
                let at = plan.location(name);
                let bits = side.members().map(move |members| at.map(|at| members.contains(at.number)));
                bits.chain([at.map(|at| at.name == plan.home.cluster)]).collect::<Vec<_>>()
            });
        kinds.entry(signature.collect()).or_default().push(name.clone());
    }
    let known = kinds
        .into_values()
        .flat_map(|clusters| [true, false].map(|is_proven| Origin { clusters: clusters.clone(), is_proven }));
    known.chain([Origin { clusters: Vec::new(), is_proven: false }]).collect()
}
