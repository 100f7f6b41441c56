//! Routing that leads nowhere, and policies that cannot both hold.

use std::collections::BTreeMap;

use super::super::ground::Ground;
use super::super::scopes::{self, Said, boundary, destinations};
use crate::document::Located;
use crate::finding::{Code, Finding, Place};
use crate::mesh::Cluster;
use crate::name::{ClusterName, PolicyName, Service};
use crate::plan::Members;
use crate::rule::{Boundary, Exposure, Policy, Scope};

/// What one policy says that cannot be meant, whatever the others say.
pub(super) fn check(ground: &Ground<'_>, policy: &Policy, findings: &mut Vec<Finding>) {
    let routing = &policy.routing;
    if !routing.is_empty() {
        findings.extend(policy.services.iter().filter_map(|scope| unrouted(ground, scope)));
    }
    findings.extend(destinations(policy).filter_map(|cluster| unknown(ground, cluster)));
    let failover = routing.failover.iter().flat_map(|list| &list.value);
    for cluster in destinations(policy).chain(failover) {
        findings.extend(destination(ground, policy, cluster));
    }
    let by_region =
        |said: &Option<Located<Boundary>>| said.clone().filter(|said| said.value == Boundary::Region);
    for said in [by_region(&routing.boundary), by_region(&routing.prefer)].into_iter().flatten() {
        let without = ground.members(|cluster| cluster.region.is_none());
        if without.last().is_some() {
            findings.push(Finding {
                at: said.at,
                code: Code::NoRegion,
                message: format!(
                    "mesh.yaml gives {} no region, so a region keeps each to itself",
                    ground.names(&without)
                ),
                hint: "say region at every cluster".to_owned(),
            });
        }
    }
}

/// Services of which `mesh.yaml` lists none: Istio is told of each by its name, and of these there is none to tell.
fn unrouted(ground: &Ground<'_>, scope: &Located<Scope>) -> Option<Finding> {
    let is_wide = !matches!(scope.value, Scope::Service(_));
    let is_listed = ground.mesh.services().any(|(service, _)| scope.value.covers(service));
    (is_wide && !is_listed).then(|| Finding {
        at: scope.at.clone(),
        code: Code::Unrouted,
        message: format!("mesh.yaml lists no service of {}, so Istio gets no route for any", scope.value),
        hint: "list under services those that this is meant for".to_owned(),
    })
}

/// A cluster that requests are sent to, and whose endpoints control planes of others do not know.
fn unknown(ground: &Ground<'_>, to: &Located<ClusterName>) -> Option<Finding> {
    let target = ground.mesh.cluster(&to.value)?;
    let off = ground.members(|cluster| !ground.mesh.knows(cluster, target));
    off.last()?;
    Some(Finding {
        at: to.at.clone(),
        code: Code::EmptyBoundary,
        message: format!("the control plane of {} knows no endpoint of {}", ground.names(&off), to.value),
        hint: "what is sent there from it is answered 503: leave the cluster out; where names are .global, that of the service has a subset for \
               each cluster"
            .to_owned(),
    })
}

/// A cluster that requests are sent to, and that is not there or does not run the services.
fn destination(ground: &Ground<'_>, policy: &Policy, cluster: &Located<ClusterName>) -> Option<Finding> {
    let Some(number) = ground.number(&cluster.value) else {
        let all = ground.members(|_| true);
        return Some(Finding {
            at: cluster.at.clone(),
            code: Code::NotInMesh,
            message: format!("cluster {:?} is not in the mesh", cluster.value.as_str()),
            hint: format!("the mesh has {}", ground.names(&all)),
        });
    };
    let missing = policy.services.iter().find_map(|scope| match &scope.value {
        Scope::Service(service) => Some(service).filter(|service| !ground.hosts(service).contains(number)),
        Scope::Namespace(_) | Scope::Mesh => None,
    })?;
    Some(Finding {
        at: cluster.at.clone(),
        code: Code::NotServed,
        message: format!("{} does not run {missing}", cluster.value),
        hint: format!("mesh.yaml lists it for {}", ground.names(ground.hosts(missing))),
    })
}

/// What policies say that cannot be meant together.
pub(super) fn together(ground: &Ground<'_>, said: &Said<'_>, findings: &mut Vec<Finding>) {
    for scope in said.scopes() {
        conflicts(said, scope, findings);
        hidden(ground, said, scope, findings);
    }
    // One finding for each policy and service, however many scopes lead to it.
    for (service, _) in ground.mesh.services() {
        reach(ground, said, service, findings);
    }
}

/// Two policies of one scope that say different things of which one alone can hold.
fn conflicts(said: &Said<'_>, scope: &Scope, findings: &mut Vec<Finding>) {
    fn differing<'p, T: PartialEq + 'p>(
        what: &str,
        scope: &Scope,
        saying: impl Iterator<Item = (&'p PolicyName, &'p Place, T)>,
    ) -> Vec<Finding> {
        let mut saying = saying;
        let Some((policy, first, value)) = saying.next() else { return Vec::new() };
        let other = |(_, at, other): (&PolicyName, &Place, T)| {
            (other != value).then(|| Finding {
                at: at.clone(),
                code: Code::Conflict,
                message: format!("{what} for {scope} is said twice, and not the same"),
                hint: format!(
                    "policy {policy} says it at {first}; keep one, or speak of a narrower scope in the other"
                ),
            })
        };
        saying.filter_map(other).collect()
    }
    let own = || said.own(scope);
    findings.extend(differing(
        "pin",
        scope,
        own().filter_map(|policy| {
            let pin = policy.routing.pin.as_ref()?;
            let to: Vec<_> = pin.value.to.iter().map(|(value, cluster)| (value, &cluster.value)).collect();
            Some((&policy.name.value, &pin.at, (&pin.value.header, to)))
        }),
    ));
    findings.extend(differing(
        "split",
        scope,
        own().filter_map(|policy| {
            let split = policy.routing.split.as_ref()?;
            let mut legs: Vec<_> =
                split.value.legs.iter().map(|(cluster, weight)| (&cluster.value, *weight)).collect();
            legs.sort();
            Some((&policy.name.value, &split.at, (legs, &split.value.hash_on)))
        }),
    ));
    findings.extend(differing(
        "prefer",
        scope,
        own().filter_map(|policy| {
            let prefer = policy.routing.prefer.as_ref()?;
            Some((&policy.name.value, &prefer.at, prefer.value))
        }),
    ));
    findings.extend(differing(
        "failover",
        scope,
        own().filter_map(|policy| {
            let failover = policy.routing.failover.as_ref()?;
            let order: Vec<_> = failover.value.iter().map(|cluster| &cluster.value).collect();
            Some((&policy.name.value, &failover.at, order))
        }),
    ));
}

/// A pin or split that sends requests through a gateway which shows the service to none of them.
fn hidden(ground: &Ground<'_>, said: &Said<'_>, scope: &Scope, findings: &mut Vec<Finding>) {
    let holding = said.holding(scope);
    let hiding: Vec<(&Policy, &Exposure)> =
        said.of(&holding).filter_map(|policy| Some((policy, policy.exposure.as_ref()?))).collect();
    if hiding.is_empty() {
        return;
    }
    for policy in said.own(scope) {
        for cluster in destinations(policy) {
            let Some(there) = ground.number(&cluster.value).and_then(|number| ground.clusters.get(number))
            else {
                continue;
            };
            let outside: Vec<&&Cluster> =
                ground.clusters.iter().filter(|other| other.network != there.network).collect();
            let by = |other: &&&Cluster| hiding.iter().find(|(_, exposure)| !exposure.shows(&other.network));
            let all = outside.iter().all(|other| by(other).is_some());
            if let (true, Some((hider, exposure))) = (all, outside.first().and_then(by)) {
                findings.push(Finding {
                    at: cluster.at.clone(),
                    code: Code::HiddenAndPinned,
                    message: format!(
                        "requests for {scope} are sent to {} through a gateway that shows it to none of them",
                        cluster.value
                    ),
                    hint: format!("policy {} hides it at {}", hider.name.value, exposure.at),
                });
            }
        }
    }
}

/// A boundary that leaves some cluster no endpoint of a listed service, or cuts off where requests are sent.
fn reach(ground: &Ground<'_>, said: &Said<'_>, service: &Service, findings: &mut Vec<Finding>) {
    let scope = Scope::Service(service.clone());
    let holding = said.holding(&scope);
    let Some((drawn, policy)) = boundary(said.of(&holding)) else { return };
    let Some(place) = policy.routing.boundary.as_ref().map(|boundary| &boundary.at) else { return };
    let hosts = ground.hosts(service);
    let inside: Vec<Members> = ground.clusters.iter().map(|cluster| ground.inside(cluster, drawn)).collect();
    let cut_off = |reaches: &dyn Fn(&Members) -> bool| -> String {
        let off = inside.iter().enumerate().filter(|(_, near)| !reaches(near));
        ground.names(&off.map(|(number, _)| number).collect())
    };
    let without = cut_off(&|near| near.iter().any(|number| hosts.contains(number)));
    if !without.is_empty() {
        findings.push(Finding {
            at: place.clone(),
            code: Code::EmptyBoundary,
            message: format!("inside boundary {drawn:?} no cluster runs {service} for {without}"),
            hint: "its requests will be refused there: widen the boundary, or run the service inside it"
                .to_owned(),
        });
    }
    let pinned = scopes::nearest(said.of(&holding), &scope, scopes::pin);
    let mut targets: BTreeMap<&ClusterName, &Place> = BTreeMap::new();
    for cluster in pinned.into_iter().flat_map(|(_, pin)| pin.to.values()) {
        targets.entry(&cluster.value).or_insert(&cluster.at);
    }
    for (target, at) in targets {
        let Some(number) = ground.number(target).filter(|number| hosts.contains(*number)) else { continue };
        let off = cut_off(&|near| near.contains(number));
        if !off.is_empty() {
            findings.push(Finding {
                at: at.clone(),
                code: Code::EmptyBoundary,
                message: format!("boundary {drawn:?} keeps requests for {service} that are pinned to {target} away from it, for {off}"),
                hint: format!("they will be refused there: the boundary is drawn at {place}"),
            });
        }
    }
}
