//! The verdict again, slow and plain: straight from what a mesh and its policies say, without plans.
//!
//! Where two policies deny, the first by namespace and name gives the reason; so it is with rules by name.

use std::collections::BTreeSet;

use policy::Mesh;
use policy::Policy;
use policy::mesh::Cluster;
use policy::name::{Identity, Service};
use policy::pattern::Pattern;
use policy::rule::{Access, Boundary, Demand, Judged, Rule, Scope};

use super::request::{Request, Words};
use super::world::Compiled;

fn allow(reason: &str) -> Words {
    (true, reason.to_owned())
}

fn deny(policy: &Policy, reason: &str) -> Words {
    (false, format!("{}/{reason}", policy.name.value))
}

/// The policies in the order in which they give reasons.
fn ordered(world: &Compiled) -> Vec<&Policy> {
    let mut policies: Vec<&Policy> = world.policies.iter().collect();
    policies.sort_by_key(|policy| (policy.namespace.as_str(), policy.name.value.as_str()));
    policies
}

/// The boundary that binds: the narrowest, and the first policy that draws it.
fn binding<'p>(policies: &[&'p Policy]) -> Option<(Boundary, &'p Policy)> {
    [Boundary::Cluster, Boundary::Network, Boundary::Region].into_iter().find_map(|boundary| {
        let draws = |policy: &&&Policy| policy.boundary.as_ref().is_some_and(|drawn| drawn.value == boundary);
        policies.iter().find(draws).map(|policy| (boundary, *policy))
    })
}

/// Whether one boundary holds two clusters.
fn together(one: &Cluster, other: &Cluster, boundary: Boundary) -> bool {
    one.name == other.name
        || match boundary {
            Boundary::Cluster => false,
            Boundary::Network => one.network == other.network,
            Boundary::Region => one.region.is_some() && one.region == other.region,
            Boundary::Mesh => true,
        }
}

fn runs(mesh: &Mesh, service: &Service, cluster: &Cluster) -> bool {
    mesh.service(service).is_none_or(|listing| listing.clusters.contains(&cluster.name))
}

/// What the source's sidecar says: the verdict and how far the request may go.
pub(crate) fn outbound(world: &Compiled, request: &Request) -> (Words, String) {
    let (here, service) = (request.cluster(world), request.service());
    let mut policies = ordered(world);
    policies.retain(|policy| policy.services.iter().any(|scope| scope.value.covers(&service)));
    let Some((boundary, policy)) = binding(&policies) else {
        return (allow("no-policy"), "Mesh".to_owned());
    };
    let reachable = world
        .mesh
        .clusters()
        .any(|cluster| together(here, cluster, boundary) && runs(&world.mesh, &service, cluster));
    let words = if reachable { allow("not-denied") } else { deny(policy, "boundary") };
    (words, format!("{boundary:?}"))
}

/// Whether a policy speaks of a service.
fn speaks(policy: &Policy, service: &Service) -> bool {
    policy.services.iter().any(|scope| match &scope.value {
        Scope::Service(named) => named == service,
        Scope::Namespace(namespace) => *namespace == service.namespace,
        Scope::Mesh => true,
    })
}

/// Whether a policy names a service that is not known to run in a cluster: then it lets no one in there.
fn closes(world: &Compiled, policy: &Policy, service: &Service, here: &Cluster) -> bool {
    let names = policy.services.iter().any(|scope| scope.value == Scope::Service(service.clone()));
    names && !runs(&world.mesh, service, here)
}

/// What the east-west gateway says.
pub(crate) fn gateway(world: &Compiled, request: &Request) -> Words {
    let service = request.service();
    let came_from = request.address().and_then(|address| {
        let holds = |cluster: &&Cluster| cluster.pod_cidr.is_some_and(|pods| pods.contains(address));
        world.mesh.clusters().filter(holds).max_by_key(|cluster| cluster.pod_cidr.map(|pods| pods.prefix()))
    });
    let mut spoken = false;
    for policy in ordered(world) {
        let Some(exposure) = &policy.exposure else { continue };
        if !speaks(policy, &service) {
            continue;
        }
        spoken = true;
        let shown = came_from.is_some_and(|cluster| {
            exposure.value.iter().any(|pattern| matches(&pattern.value, cluster.network.as_str()))
        });
        if !shown {
            return deny(policy, "not-exposed");
        }
    }
    allow(if spoken { "not-denied" } else { "no-policy" })
}

/// The policies that hold for a workload: for each service that it is behind, those that speak of the service;
/// if no policy names any of its services, those that speak of its whole namespace.
///
/// With each policy, whether it closes the service here.
fn holding<'w>(world: &'w Compiled, request: &Request, here: &Cluster) -> Vec<Vec<(&'w Policy, bool)>> {
    let saying: Vec<&Policy> = ordered(world)
        .into_iter()
        .filter(|policy| policy.access.is_some() || policy.boundary.is_some())
        .collect();
    let mut services = BTreeSet::new();
    for scope in saying.iter().flat_map(|policy| &policy.services) {
        if let Scope::Service(service) = &scope.value
            && service.namespace == request.namespace()
            && behind(&world.mesh, service, request)
        {
            services.insert(service);
        }
    }
    if services.is_empty() {
        let whole = |policy: &&Policy| {
            policy.services.iter().any(|scope| match &scope.value {
                Scope::Service(_) => false,
                Scope::Namespace(namespace) => *namespace == request.namespace(),
                Scope::Mesh => true,
            })
        };
        return vec![saying.into_iter().filter(whole).map(|policy| (policy, false)).collect()];
    }
    let of_service = |service: &Service| {
        let speaking = saying.iter().copied().filter(|policy| speaks(policy, service));
        speaking.map(|policy| (policy, closes(world, policy, service, here))).collect()
    };
    services.into_iter().map(of_service).collect()
}

fn behind(mesh: &Mesh, service: &Service, request: &Request) -> bool {
    let selector = mesh.service(service).map(|listing| listing.selector.clone()).unwrap_or_default();
    if selector.is_empty() {
        let canonical =
            request.labels.get("service.istio.io/canonical-name").or_else(|| request.labels.get("app"));
        return canonical.is_some_and(|name| name == service.name.as_str());
    }
    selector.iter().all(|(label, value)| request.labels.get(label) == Some(value))
}

/// What is known of the source: proven, and else claimed.
#[derive(Clone, Copy)]
struct Known<'w> {
    proven: Option<&'w Cluster>,
    claimed: Option<&'w Cluster>,
}

impl<'w> Known<'w> {
    fn of(world: &'w Compiled, request: &Request) -> Self {
        let (peer, issuer, tag) = request.evidence(world);
        let signed =
            |cluster: &&Cluster| cluster.issuers.iter().any(|name| Some(name.as_str()) == issuer.as_deref());
        let proven = world.mesh.clusters().find(signed).filter(|_| peer);
        let claimed =
            world.mesh.clusters().find(|cluster| Some(cluster.name.as_str()) == tag).filter(|_| peer);
        Self { proven, claimed: proven.or(claimed) }
    }

    fn well_enough(self, demand: Demand) -> Option<&'w Cluster> {
        match demand {
            Demand::Verified => self.proven,
            Demand::Claimed => self.claimed,
        }
    }
}

/// What the destination's sidecar says.
pub(crate) fn inbound(world: &Compiled, request: &Request) -> Words {
    let here = request.cluster(world);
    let known = Known::of(world, request);
    let groups = holding(world, request, here);
    let boundaries: Vec<(Boundary, &Policy)> = groups
        .iter()
        .filter_map(|group| binding(&group.iter().map(|(policy, _)| *policy).collect::<Vec<_>>()))
        .collect();
    let mut owned: Vec<(&Policy, Access)> = Vec::new();
    for (policy, closes) in groups.into_iter().flatten() {
        let Some(mut access) = policy.access.clone() else { continue };
        if closes {
            access.deny.clear();
            access.allow = Some(Vec::new());
        }
        owned.push((policy, access));
    }
    let sections: Vec<(&Policy, &Access)> = owned.iter().map(|(policy, access)| (*policy, access)).collect();
    if boundaries.is_empty() && sections.is_empty() {
        return allow("no-policy");
    }
    for (boundary, policy) in boundaries {
        match known.proven {
            None => return deny(policy, "source-unverified"),
            Some(source) if !together(here, source, boundary) => return deny(policy, "boundary"),
            Some(_) => {}
        }
    }
    access(here, known, request, &sections)
}

fn access(here: &Cluster, known: Known<'_>, request: &Request, sections: &[(&Policy, &Access)]) -> Words {
    let is_judged = |access: &Access| {
        access.scope == Judged::All
            || known.well_enough(access.source).is_none_or(|source| source.name != here.name)
    };
    let judged: Vec<_> = sections.iter().filter(|(_, access)| is_judged(access)).collect();
    if judged.is_empty() {
        return allow(if sections.is_empty() { "not-denied" } else { "same-cluster" });
    }
    let holding = |access: &Access, rules: &[Rule]| {
        let source = known.well_enough(access.source)?;
        let names =
            rules.iter().filter(|rule| holds(rule, source, request)).map(|rule| rule.name.value.as_str());
        names.min().map(str::to_owned)
    };
    for (policy, access) in &judged {
        if known.well_enough(access.source).is_none() {
            return deny(policy, "source-unverified");
        }
        if let Some(rule) = holding(access, &access.deny) {
            return deny(policy, &rule);
        }
    }
    let demanding =
        || judged.iter().filter_map(|(policy, access)| Some((policy, access, access.allow.as_ref()?)));
    let allowed = demanding().find_map(|(policy, access, rules)| {
        Some(format!("{}/{}", policy.name.value, holding(access, rules)?))
    });
    match (allowed, demanding().next()) {
        (Some(reason), _) => (true, reason),
        (None, Some((policy, ..))) => deny(policy, "no-rule-matched"),
        (None, None) => allow("not-denied"),
    }
}

fn holds(rule: &Rule, source: &Cluster, request: &Request) -> bool {
    let identity = request.identity();
    let path = request.path.split_once('?').map_or(request.path, |(path, _query)| path);
    let from = rule.from.iter().any(|from| {
        let patterns = |located: &[policy::document::Located<Pattern>]| {
            located.iter().map(|pattern| pattern.value.clone()).collect::<Vec<_>>()
        };
        let namespace = identity.as_ref().map(|identity| identity.namespace.to_string());
        let principal = identity.as_ref().map(Identity::principal);
        says(&patterns(&from.clusters), Some(source.name.as_str()))
            && says(&patterns(&from.networks), Some(source.network.as_str()))
            && says(&patterns(&from.namespaces), namespace.as_deref())
            && says(&patterns(&from.principals), principal.as_deref())
    });
    let to = rule.to.iter().any(|to| {
        (to.ports.is_empty() || to.ports.contains(&request.port))
            && says(&to.methods, Some(request.method))
            && says(&to.paths, Some(path))
    });
    from && (rule.to.is_empty() || to)
}

/// A field that is said holds when any of its values does; nothing holds of what is not known.
fn says(patterns: &[Pattern], text: Option<&str>) -> bool {
    patterns.is_empty() || text.is_some_and(|text| patterns.iter().any(|pattern| matches(pattern, text)))
}

fn matches(pattern: &Pattern, text: &str) -> bool {
    let written = pattern.to_string();
    match (written.strip_suffix('*'), written.strip_prefix('*')) {
        (Some(prefix), _) => text.starts_with(prefix),
        (None, Some(suffix)) => text.ends_with(suffix),
        (None, None) => text == written,
    }
}
