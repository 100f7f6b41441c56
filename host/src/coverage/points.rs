//! What there is to touch in a mesh with policies.

use std::collections::BTreeSet;

use policy::Policy;
use policy::document::Located;
use policy::name::{ClusterName, PolicyName, Service};
use policy::rule::{Boundary, Judged, Rule};

use super::{Kind, Point};
use crate::runner::World;

/// All of it.
pub(super) fn of(world: &World) -> BTreeSet<Point> {
    let mut points = BTreeSet::new();
    for policy in &world.project.policies {
        points.extend(rules(policy).map(|rule| self::rule(policy, rule)));
        points.extend(own_reasons(world, policy).into_iter().map(|word| reason(policy, word)));
    }
    points.extend(common_reasons(world).into_iter().map(|word| common(world, word)));
    let mut served: BTreeSet<ClusterName> = BTreeSet::new();
    for (service, _) in world.mesh.services() {
        served.extend(world.mesh.hosts(service));
    }
    for source in world.mesh.clusters() {
        points.extend(served.iter().map(|destination| pair(world, &source.name, destination)));
    }
    points
}

/// The points that a reason for or against a request to a service stands for.
pub(super) fn giving(world: &World, service: &Service, reason: &str) -> Vec<Point> {
    let Some((name, word)) = reason.split_once('/') else { return vec![common(world, reason)] };
    let mut points = Vec::new();
    // Policies of several namespaces may share a name, but seldom a service.
    let speaks = |policy: &&Policy| {
        policy.name.value.as_str() == name && policy.services.iter().any(|scope| scope.value.covers(service))
    };
    for policy in world.project.policies.iter().filter(speaks) {
        match rules(policy).find(|rule| rule.name.value.as_str() == word) {
            Some(rule) => points.push(self::rule(policy, rule)),
            None => points.push(self::reason(policy, word)),
        }
    }
    points
}

pub(super) fn pair(world: &World, source: &ClusterName, destination: &ClusterName) -> Point {
    let file = world.project.file.display().to_string();
    Point { kind: Kind::Pair, file, at: None, name: format!("{source} -> {destination}") }
}

fn rules(policy: &Policy) -> impl Iterator<Item = &Rule> {
    policy.access.iter().flat_map(|access| access.deny.iter().chain(access.allow.iter().flatten()))
}

fn rule(policy: &Policy, rule: &Rule) -> Point {
    placed(Kind::Rule, policy, &rule.name, rule.name.value.as_str())
}

fn reason(policy: &Policy, word: &str) -> Point {
    placed(Kind::Reason, policy, &policy.name, word)
}

fn placed<T>(kind: Kind, policy: &Policy, at: &Located<T>, word: &str) -> Point {
    let name = name(&policy.name.value, word);
    Point { kind, file: at.at.file.to_string(), at: Some(at.at.clone()), name }
}

fn name(policy: &PolicyName, word: &str) -> String {
    format!("{policy}/{word}")
}

/// A reason that is no policy's.
fn common(world: &World, word: &str) -> Point {
    Point {
        kind: Kind::Reason,
        file: world.project.file.display().to_string(),
        at: None,
        name: word.to_owned(),
    }
}

/// The reasons of isthmus' own that a policy can give, by what it says.
fn own_reasons(world: &World, policy: &Policy) -> Vec<&'static str> {
    let routing = &policy.routing;
    let bounds = routing.boundary.as_ref().is_some_and(|boundary| boundary.value != Boundary::Mesh);
    let hides = policy
        .exposure
        .as_ref()
        .is_some_and(|exposure| !exposure.is_for_everyone() || !exposure.ports.is_empty());
    let lists = policy.access.as_ref().is_some_and(|access| access.allow.is_some());
    [
        ("no-rule-matched", lists),
        ("source-unverified", policy.access.is_some() || bounds),
        ("boundary", bounds),
        ("not-exposed", hides),
        ("pin", routing.pin.is_some()),
        ("split", routing.split.is_some()),
        ("unreachable", unreachable(world, policy)),
    ]
    .into_iter()
    .filter_map(|(word, can)| can.then_some(word))
    .collect()
}

/// Whether a pin or a split of the policy leads somewhere that a request from some cluster cannot go.
fn unreachable(world: &World, policy: &Policy) -> bool {
    let pins = policy.routing.pin.iter().flat_map(|pin| pin.value.to.values());
    let split = policy.routing.split.as_ref().map(|split| &split.value.legs);
    let listed = world.mesh.services().map(|(service, _)| service);
    let services: Vec<&Service> =
        listed.filter(|service| policy.services.iter().any(|scope| scope.value.covers(service))).collect();
    let boundary = policy.routing.boundary.as_ref().map_or(Boundary::Mesh, |boundary| boundary.value);
    let reaches = |to: &ClusterName| {
        world.mesh.clusters().all(|source| {
            let inside = boundary.around(source, &world.mesh);
            inside.contains(to) && services.iter().all(|service| world.mesh.hosts(service).contains(to))
        })
    };
    let mut pins = pins;
    pins.any(|to| !reaches(&to.value))
        || split.is_some_and(|legs| legs.iter().all(|(to, _)| !reaches(&to.value)))
}

/// The reasons that no policy gives, as far as they can come up.
fn common_reasons(world: &World) -> Vec<&'static str> {
    let policies = &world.project.policies;
    let of_home =
        |policy: &Policy| policy.access.as_ref().is_some_and(|access| access.scope == Judged::Remote);
    let open = |policy: &Policy| {
        let lists_no_one = policy.access.as_ref().is_some_and(|access| access.allow.is_none());
        lists_no_one || policy.routing.steers() || policy.exposure.is_some()
    };
    [
        ("no-policy", true),
        ("same-cluster", policies.iter().any(of_home)),
        ("not-denied", policies.iter().any(open)),
    ]
    .into_iter()
    .filter_map(|(word, can)| can.then_some(word))
    .collect()
}
