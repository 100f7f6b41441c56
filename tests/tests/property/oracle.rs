//! The verdict again, slow and plain: straight from what a mesh and its policies say, without plans.
//!
//! Where two policies deny, the first by namespace and name gives the reason; so it is with rules by name.

use std::collections::{BTreeMap, BTreeSet};

use policy::Mesh;
use policy::Policy;
use policy::document::Located;
use policy::mesh::Cluster;
use policy::name::{ClusterName, Identity, Service};
use policy::pattern::Pattern;
use policy::rule::{Access, Boundary, Clause, Demand, From, HashOn, Judged, Mode, Rule, Scope, To};

use super::request::{Both, Request, Words};
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

fn acting<'p>(policies: &[&'p Policy]) -> Vec<&'p Policy> {
    policies.iter().copied().filter(|policy| policy.mode == Mode::Enforce).collect()
}

fn in_shadow(policy: &Policy) -> bool {
    policy.mode == Mode::Shadow
}

/// The boundary that binds: the narrowest, and the first policy that draws it.
fn binding<'p>(policies: &[&'p Policy]) -> Option<(Boundary, &'p Policy)> {
    [Boundary::Cluster, Boundary::Network, Boundary::Region].into_iter().find_map(|boundary| {
        let draws =
            |policy: &&&Policy| policy.routing.boundary.as_ref().is_some_and(|drawn| drawn.value == boundary);
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

/// Whether a policy has the source's sidecar do anything.
fn steers(policy: &Policy) -> bool {
    let routing = &policy.routing;
    let bounds = routing.boundary.as_ref().is_some_and(|drawn| drawn.value != Boundary::Mesh);
    bounds || routing.pin.is_some() || routing.split.is_some()
}

/// What the source's sidecar says: the verdicts and where the request may go.
pub(crate) fn outbound(world: &Compiled, request: &Request) -> (Both, String) {
    let mut policies = ordered(world);
    policies.retain(|policy| speaks(policy, &request.service()) && steers(policy));
    let shadow = policies.iter().any(|policy| in_shadow(policy));
    let (verdict, route) = departing(world, request, &acting(&policies));
    let shadow = shadow.then(|| departing(world, request, &policies).0);
    ((verdict, shadow), route)
}

fn departing(world: &Compiled, request: &Request, policies: &[&Policy]) -> (Words, String) {
    if policies.is_empty() {
        return (allow("no-policy"), "anywhere".to_owned());
    }
    let (here, service) = (request.cluster(world), request.service());
    let drawn = binding(policies);
    let inside = |cluster: &Cluster| drawn.is_none_or(|(boundary, _)| together(here, cluster, boundary));
    let reaches = |name: &ClusterName| {
        world
            .mesh
            .cluster(name)
            .is_some_and(|cluster| inside(cluster) && runs(&world.mesh, &service, cluster))
    };
    if let Some((_, policy)) = drawn
        && !world.mesh.clusters().any(|cluster| reaches(&cluster.name))
    {
        return (deny(policy, "boundary"), "nowhere".to_owned());
    }
    let to = |policy: &Policy, word: &str, cluster: Option<&ClusterName>| match cluster {
        Some(cluster) => (allow(&format!("{}/{word}", policy.name.value)), format!("to {cluster}")),
        None => (deny(policy, "unreachable"), "nowhere".to_owned()),
    };
    let pinning = nearest(policies, &service, |policy| policy.routing.pin.is_some());
    if let Some(policy) = pinning {
        let pin = &policy.routing.pin.as_ref().expect("a pin").value;
        let value = request.header(pin.header.as_str());
        if let Some(cluster) = value.and_then(|value| pin.to.get(&value)) {
            return to(policy, "pin", Some(&cluster.value).filter(|cluster| reaches(cluster)));
        }
    }
    if let Some(policy) = nearest(policies, &service, |policy| policy.routing.split.is_some()) {
        let split = &policy.routing.split.as_ref().expect("a split").value;
        let legs: BTreeMap<&ClusterName, u8> = split
            .legs
            .iter()
            .map(|(cluster, weight)| (&cluster.value, *weight))
            .filter(|(cluster, _)| reaches(cluster))
            .collect();
        // A slot for each hundredth.
        let slots: Vec<&ClusterName> =
            legs.iter().flat_map(|(cluster, weight)| vec![*cluster; usize::from(*weight)]).collect();
        let value = split.hash_on.as_ref().and_then(|hash_on| match hash_on {
            HashOn::Header(name) => request.header(name.as_str()),
            HashOn::Cookie(name) => {
                let cookies = request.header("cookie")?;
                let pairs = cookies.split("; ").filter_map(|pair| pair.split_once('='));
                pairs
                    .into_iter()
                    .find(|(found, _)| *found == name.as_str())
                    .map(|(_, value)| value.to_owned())
            }
        });
        let point = value.map_or(request.draw, |value| policy::evaluate::point(&value));
        let slot =
            usize::try_from(point.checked_rem(slots.len() as u64).unwrap_or_default()).expect("a slot");
        return to(policy, "split", slots.get(slot).copied());
    }
    let route = drawn.map_or("anywhere".to_owned(), |(boundary, _)| format!("within {boundary:?}"));
    (allow("not-denied"), route)
}

/// Of the policies that say something, the one whose scope around a service is the narrowest.
fn nearest<'p>(
    policies: &[&'p Policy],
    service: &Service,
    says: impl Fn(&Policy) -> bool,
) -> Option<&'p Policy> {
    let named = |scope: &Scope| matches!(scope, Scope::Service(named) if named == service);
    let around = |scope: &Scope| matches!(scope, Scope::Namespace(around) if *around == service.namespace);
    let all = |scope: &Scope| matches!(scope, Scope::Mesh);
    let kinds: [&dyn Fn(&Scope) -> bool; 3] = [&named, &around, &all];
    kinds.into_iter().find_map(|is| {
        let of = |policy: &&&Policy| says(policy) && policy.services.iter().any(|scope| is(&scope.value));
        policies.iter().find(of).copied()
    })
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
pub(crate) fn gateway(world: &Compiled, request: &Request) -> Both {
    let mut policies = ordered(world);
    policies.retain(|policy| speaks(policy, &request.service()) && policy.exposure.is_some());
    let shadow = policies.iter().any(|policy| in_shadow(policy));
    let verdict = passing(world, request, &acting(&policies));
    (verdict, shadow.then(|| passing(world, request, &policies)))
}

fn passing(world: &Compiled, request: &Request, policies: &[&Policy]) -> Words {
    let came_from = request.address().and_then(|address| {
        let holds = |cluster: &&Cluster| cluster.pod_cidr.is_some_and(|pods| pods.contains(address));
        world.mesh.clusters().filter(holds).max_by_key(|cluster| cluster.pod_cidr.map(|pods| pods.prefix()))
    });
    for policy in policies {
        let exposure = policy.exposure.as_ref().expect("an exposure");
        let only_ports =
            exposure.networks.as_ref().is_some_and(|said| said.any.is_empty() && said.none.is_empty());
        let network = only_ports
            || came_from.is_some_and(|cluster| {
                exposure
                    .networks
                    .as_ref()
                    .is_some_and(|networks| clause(networks, Some(cluster.network.as_str()), false))
            });
        let ports: Vec<u16> = exposure.ports.iter().map(|port| port.value.number()).collect();
        let port = ports.is_empty() || request.port.is_some_and(|port| ports.contains(&port));
        if !(network && port) {
            return deny(policy, "not-exposed");
        }
    }
    allow(if policies.is_empty() { "no-policy" } else { "not-denied" })
}

/// The policies that hold for a workload: for each service that it is behind, those that speak of the service;
/// if no policy names any of its services, those that speak of its whole namespace.
///
/// With each policy, whether it closes the service here.
fn holding<'w>(
    world: &'w Compiled,
    policies: &[&'w Policy],
    request: &Request,
    here: &Cluster,
) -> Vec<Vec<(&'w Policy, bool)>> {
    let says = |policy: &Policy| policy.access.is_some() || policy.routing.boundary.is_some();
    let saying: Vec<&Policy> = policies.iter().copied().filter(|policy| says(policy)).collect();
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
    level: &'static str,
}

impl<'w> Known<'w> {
    fn of(world: &'w Compiled, request: &Request) -> Self {
        let (peer, issuer, [token, tag]) = request.evidence(world);
        let proven = |cluster, level| Self { proven: Some(cluster), claimed: Some(cluster), level };
        let nothing = Self { proven: None, claimed: None, level: "unknown" };
        let clusters: Vec<&Cluster> = world.mesh.clusters().collect();
        let domain = request.identity().map(|identity| identity.trust_domain);
        // Where there are several trust domains, the identity must be of the cluster's own.
        let several = clusters.iter().any(|cluster| cluster.trust_domain != clusters[0].trust_domain);
        let may_be = |cluster: &Cluster| !several || domain.as_ref() == Some(&cluster.trust_domain);
        if !peer {
            return nothing;
        }
        let signs =
            |cluster: &&&Cluster| cluster.issuers.iter().any(|name| Some(name.as_str()) == issuer.as_deref());
        // What signs for several says that it is one of them, which proves none.
        let signed: Vec<&&Cluster> = clusters.iter().filter(signs).collect();
        if let [cluster] = signed.as_slice() {
            return if may_be(cluster) { proven(cluster, "verified by certificate") } else { nothing };
        }
        let possible: Vec<&Cluster> = clusters.iter().copied().filter(|cluster| may_be(cluster)).collect();
        // What signs for a cluster and for no other can sign for its trust domain alone.
        let root = |cluster: &Cluster| {
            world.mesh.meshes().find(|mesh| mesh.name == cluster.mesh).map(|mesh| mesh.root.clone())
        };
        if let (true, [only]) = (several, possible.as_slice())
            && clusters.iter().all(|other| other.name == only.name || root(other) != root(only))
        {
            return proven(only, "verified by trust domain");
        }
        if let Some(cluster) = possible.iter().find(|cluster| Some(cluster.name.as_str()) == token) {
            return proven(cluster, "verified by token");
        }
        match clusters.iter().find(|cluster| Some(cluster.name.as_str()) == tag) {
            Some(cluster) => Self { proven: None, claimed: Some(cluster), level: "claimed" },
            None => nothing,
        }
    }

    fn well_enough(self, demand: Demand) -> Option<&'w Cluster> {
        match demand {
            Demand::Verified => self.proven,
            Demand::Claimed => self.claimed,
        }
    }
}

/// Where the destination's sidecar takes a request to come from, in words.
pub(crate) fn source(world: &Compiled, request: &Request) -> String {
    let known = Known::of(world, request);
    known.claimed.map_or_else(String::new, |cluster| format!("{}, ", cluster.name)) + known.level
}

/// What the destination's sidecar says.
pub(crate) fn inbound(world: &Compiled, request: &Request) -> Both {
    let here = request.cluster(world);
    let all = holding(world, &ordered(world), request, here);
    let shadow = all.iter().flatten().any(|(policy, _)| in_shadow(policy));
    let verdict = arriving(world, request, holding(world, &acting(&ordered(world)), request, here));
    (verdict, shadow.then(|| arriving(world, request, all)))
}

fn arriving(world: &Compiled, request: &Request, groups: Vec<Vec<(&Policy, bool)>>) -> Words {
    let here = request.cluster(world);
    let known = Known::of(world, request);
    let boundaries: Vec<(Boundary, &Policy)> = groups
        .iter()
        .filter_map(|group| binding(&group.iter().map(|(policy, _)| *policy).collect::<Vec<_>>()))
        .collect();
    let mut sections: Vec<(&Policy, Access)> = Vec::new();
    for (policy, closes) in groups.into_iter().flatten() {
        let Some(mut access) = policy.access.clone() else { continue };
        if closes {
            access.deny.clear();
            access.allow = Some(Vec::new());
        }
        sections.push((policy, access));
    }
    sections.sort_by_key(|(policy, _)| (policy.namespace.to_string(), policy.name.value.to_string()));
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

fn access(here: &Cluster, known: Known<'_>, request: &Request, sections: &[(&Policy, Access)]) -> Words {
    let is_judged = |access: &Access| {
        access.scope == Judged::All
            || known.well_enough(access.source).is_none_or(|source| source.name != here.name)
    };
    let judged: Vec<_> = sections.iter().filter(|(_, access)| is_judged(access)).collect();
    if judged.is_empty() {
        return allow(if sections.is_empty() { "not-denied" } else { "same-cluster" });
    }
    for (policy, access) in &judged {
        if known.well_enough(access.source).is_none() {
            return deny(policy, "source-unverified");
        }
    }
    let first = |access: &Access, rules: &[Rule], denying: bool| {
        let source = known.well_enough(access.source)?;
        let holding = rules.iter().filter(|rule| holds(rule, source, request, denying));
        holding.map(|rule| rule.name.value.to_string()).min()
    };
    for (policy, access) in &judged {
        if let Some(rule) = first(access, &access.deny, true) {
            return deny(policy, &rule);
        }
    }
    let mut listing = None;
    for (policy, access) in &judged {
        let Some(rules) = &access.allow else { continue };
        listing = listing.or(Some(*policy));
        if let Some(rule) = first(access, rules, false) {
            return (true, format!("{}/{rule}", policy.name.value));
        }
    }
    match listing {
        Some(policy) => deny(policy, "no-rule-matched"),
        None => allow("not-denied"),
    }
}

/// Whether a rule takes a request in. What is not known never helps the peer.
fn holds(rule: &Rule, source: &Cluster, request: &Request, denying: bool) -> bool {
    let from = rule.from.iter().any(|from| from_holds(from, source, request, denying));
    let to = rule.to.is_empty() || rule.to.iter().any(|to| to_holds(to, request, denying));
    from && to
}

fn from_holds(from: &From, source: &Cluster, request: &Request, denying: bool) -> bool {
    let identity = request.identity();
    let namespace = identity.as_ref().map(|identity| identity.namespace.to_string());
    let principal = identity.as_ref().map(Identity::principal);
    let domain = identity.as_ref().map(|identity| identity.trust_domain.to_string());
    // A cluster without a region is in none: not in those that are named, nor in those that are left out.
    let region = match &source.region {
        Some(region) => clause(&from.regions, Some(region.as_str()), denying),
        None => from.regions.any.is_empty(),
    };
    region
        && clause(&from.clusters, Some(source.name.as_str()), denying)
        && clause(&from.networks, Some(source.network.as_str()), denying)
        && clause(&from.namespaces, namespace.as_deref(), denying)
        && clause(&from.principals, principal.as_deref(), denying)
        && clause(&from.trust_domains, domain.as_deref(), denying)
}

fn to_holds(to: &To, request: &Request, denying: bool) -> bool {
    let numbers = |ports: &[Located<policy::name::Port>]| -> Vec<u16> {
        ports.iter().map(|port| port.value.number()).collect()
    };
    let (any, none) = (numbers(&to.ports.any), numbers(&to.ports.none));
    let ports = match request.port.filter(|port| *port != 0) {
        _ if any.is_empty() && none.is_empty() => true,
        None => denying,
        Some(port) => (any.is_empty() || any.contains(&port)) && !none.contains(&port),
    };
    let method = Some(request.method).filter(|method| !method.is_empty());
    ports
        && clause(&to.methods, method, denying)
        && clause(&to.paths, request.path.1, denying)
        && clause(&to.hosts, request.host.1, denying)
}

/// A field and its twin: one value of the one if it is said, and no value of the other.
fn clause(clause: &Clause<Pattern>, text: Option<&str>, denying: bool) -> bool {
    if clause.any.is_empty() && clause.none.is_empty() {
        return true;
    }
    let Some(text) = text else { return denying };
    let any = |patterns: &[Located<Pattern>]| patterns.iter().any(|pattern| matches(&pattern.value, text));
    (clause.any.is_empty() || any(&clause.any)) && !any(&clause.none)
}

fn matches(pattern: &Pattern, text: &str) -> bool {
    let written = pattern.to_string();
    match (written.strip_suffix('*'), written.strip_prefix('*')) {
        (Some(prefix), _) => text.starts_with(prefix),
        (None, Some(suffix)) => text.ends_with(suffix),
        (None, None) => text == written,
    }
}
