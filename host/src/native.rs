//! The objects of Istio that policies need beside the filter: it says in a header where a request may go, and these
//! make the sidecar's routes follow. Made from the same plans that the filter runs.
//!
//! ```text
//! plans ─┬─ routes that the filter can give ─┬─> VirtualService: header value -> subset     (of the client's cluster)
//!        │                                   └─> DestinationRule: subset -> labels          (of client and gateways)
//!        └─ locality ──────────────────────────> DestinationRule: which endpoints come first
//! ```

mod destination;
mod route;
pub mod upstream;

use std::collections::{BTreeMap, BTreeSet};

use policy::Mesh;
use policy::compile::{Area, Locality, Plans};
use policy::evaluate::{self, Route};
use policy::mesh::Cluster;
use policy::name::{ClusterName, Service};
use policy::plan::OutboundPlan;
use policy::rule::{Boundary, Scope};
use serde_json::{Value, json};

use crate::digest::sha256;
use crate::plugin::CLUSTER;

/// The two kinds of object, in the order in which they must be there: a route to a subset that is none loses its
/// requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Names the subsets of a service's endpoints, and which come first.
    DestinationRule,
    /// Sends what carries the filter's header to a subset.
    VirtualService,
}

impl Kind {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::DestinationRule, Self::VirtualService];

    /// As files name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DestinationRule => "destination",
            Self::VirtualService => "route",
        }
    }
}

/// The objects of a cluster: each kind and service has one at most.
pub type Objects = BTreeMap<(Kind, Service), Value>;

/// The objects that clusters need for their plans, by the cluster that has them: that of the control plane.
///
/// A subset must be there wherever a connection to it passes: at the client, and at the gateways of the network that
/// it goes to, which know it by the SNI. So a cluster's objects come from the plans of all.
pub fn objects(mesh: &Mesh, plans: &Plans) -> BTreeMap<ClusterName, Objects> {
    by_control_plane(mesh, plans).map(|(primary, _, objects)| (primary.name.clone(), objects)).collect()
}

/// The same, one control plane after the other, with the clusters that each leads: those of very many at once are much.
pub(crate) fn by_control_plane<'m>(
    mesh: &'m Mesh,
    plans: &'m Plans,
) -> impl Iterator<Item = (&'m Cluster, Vec<&'m Cluster>, Objects)> {
    let uses = uses(mesh, plans);
    let of = move |(primary, led): (&'m Cluster, Vec<&'m Cluster>)| {
        let mut objects = rules(mesh, plans, &led, &uses);
        for (service, ways) in ways(mesh, plans, &led) {
            let object = route::service(&service, &ways, led.len() > 1);
            objects.insert((Kind::VirtualService, service), object);
        }
        (primary, led, objects)
    };
    mesh.control_planes().into_iter().map(of)
}

/// The DestinationRules of what one control plane leads.
fn rules(mesh: &Mesh, plans: &Plans, led: &[&Cluster], uses: &Uses<'_>) -> Objects {
    let mut services: BTreeMap<&Service, BTreeSet<&Subset>> = BTreeMap::new();
    for ((service, subset), users) in uses {
        if led.iter().any(|cluster| is_needed(mesh, cluster, subset, users)) {
            services.entry(service).or_default().insert(subset);
        }
    }
    let none = BTreeMap::new();
    // It is the same for all of them.
    let locality = led.iter().find_map(|cluster| plans.get(&cluster.name)).map_or(&none, |own| &own.locality);
    for service in locality.keys() {
        services.entry(service).or_default();
    }
    let rule = |(service, subsets): (&Service, BTreeSet<&Subset>)| {
        let object = destination::rule(service, &subsets, locality.get(service));
        ((Kind::DestinationRule, service.clone()), object)
    };
    services.into_iter().map(rule).collect()
}

/// Where what the filter says in its header leads, and from which clusters.
type Ways<'p> = BTreeMap<(Route<'p>, Subset), BTreeSet<&'p ClusterName>>;

/// The ways of every service that needs some, from all that one control plane leads.
fn ways<'p>(mesh: &'p Mesh, plans: &'p Plans, led: &[&'p Cluster]) -> BTreeMap<Service, Ways<'p>> {
    let mut ways: BTreeMap<Service, Ways<'p>> = BTreeMap::new();
    for cluster in led {
        let Some(plans) = plans.get(&cluster.name) else { continue };
        for (service, routes) in routes(mesh, &plans.outbound) {
            let ways = ways.entry(service).or_default();
            for route in routes {
                if let Some(subset) = subset(cluster, route) {
                    ways.entry((route, subset)).or_default().insert(&cluster.name);
                }
            }
        }
    }
    ways
}

/// An object as it is while its plans change: what it says already, and beside it what is to come. Neither the plan
/// before nor the one after then names a route or a subset that is not there.
pub fn widened(old: &Value, new: &Value) -> Value {
    let mut wide = new.clone();
    keep(old, &mut wide, "/spec/subsets", |subset| subset.get("name"));
    // The last route takes what no other does, so nothing may come after it.
    let last = wide.pointer_mut("/spec/http").and_then(Value::as_array_mut).and_then(Vec::pop);
    keep(old, &mut wide, "/spec/http", |route| route.get("match"));
    if let Some(routes) = wide.pointer_mut("/spec/http").and_then(Value::as_array_mut) {
        routes.extend(last);
    }
    wide
}

/// Adds to a list those old items whose key none of the new ones has; an item without a key is passed over.
fn keep(old: &Value, new: &mut Value, list: &str, key: impl Fn(&Value) -> Option<&Value>) {
    let items = |object: &Value| object.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let present = items(new);
    let is_gone = |item: &Value| key(item).is_some() && !present.iter().any(|other| key(other) == key(item));
    let gone: Vec<Value> = items(old).into_iter().filter(is_gone).collect();
    match new.pointer_mut(list) {
        Some(Value::Array(items)) => items.extend(gone),
        Some(_) => {}
        None if gone.is_empty() => {}
        None => {
            if let Some((parent, name)) = list.rsplit_once('/')
                && let Some(fields) = new.pointer_mut(parent).and_then(Value::as_object_mut)
            {
                fields.insert(name.to_owned(), Value::Array(gone));
            }
        }
    }
}

/// Endpoints of a service that share a label which istiod gives them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Subset {
    area: Area,
    value: String,
}

impl Subset {
    /// Its name: the same in every cluster, as it goes from one to the other in the SNI. A DNS label, as Istio demands.
    fn name(&self) -> String {
        let area = match self.area {
            Area::Cluster => "cluster",
            Area::Network => "network",
            Area::Region => "region",
        };
        let name = format!("isthmus-{area}-{}", self.value);
        if name.len() <= LONGEST {
            return name;
        }
        let digest = sha256(&name);
        let (start, digest): (String, String) =
            (name.chars().take(LONGEST - 9).collect(), digest.chars().take(8).collect());
        format!("{start}-{digest}")
    }

    /// The label by which istiod knows its endpoints; it sets all three by itself.
    fn label(&self) -> &'static str {
        label(self.area)
    }

    fn includes(&self, cluster: &Cluster) -> bool {
        match self.area {
            Area::Cluster => cluster.name.as_str() == self.value,
            Area::Network => cluster.network.as_str() == self.value,
            Area::Region => cluster.region.as_ref().is_some_and(|region| region.as_str() == self.value),
        }
    }
}

/// The most characters of a DNS label.
const LONGEST: usize = 63;

/// The label that istiod gives to endpoints, by what they have in common.
fn label(area: Area) -> &'static str {
    match area {
        Area::Cluster => CLUSTER,
        Area::Network => "topology.istio.io/network",
        Area::Region => "topology.kubernetes.io/region",
    }
}

/// Where a route leads from a cluster; `None`: anywhere.
fn subset(cluster: &Cluster, route: Route<'_>) -> Option<Subset> {
    let (area, value) = match route {
        Route::Within(Boundary::Network) => (Area::Network, cluster.network.as_str()),
        Route::Within(Boundary::Region) => match &cluster.region {
            Some(region) => (Area::Region, region.as_str()),
            None => (Area::Cluster, cluster.name.as_str()),
        },
        Route::Within(Boundary::Cluster) => (Area::Cluster, cluster.name.as_str()),
        Route::To(cluster) => (Area::Cluster, cluster.as_str()),
        Route::Within(Boundary::Mesh) | Route::Anywhere => return None,
    };
    Some(Subset { area, value: value.to_owned() })
}

/// Every service that `mesh.yaml` lists or a policy names: a host with a wildcard has no endpoints of its own that a
/// subset could name.
fn services<'p>(mesh: &'p Mesh, plan: &'p OutboundPlan) -> BTreeSet<&'p Service> {
    let named = plan.scopes().filter_map(|scope| match scope {
        Scope::Service(service) => Some(service),
        Scope::Namespace(_) | Scope::Mesh => None,
    });
    mesh.services().map(|(service, _)| service).chain(named).collect()
}

/// The routes that a cluster's filters can give.
fn routes<'p>(mesh: &Mesh, plan: &'p OutboundPlan) -> BTreeMap<Service, BTreeSet<Route<'p>>> {
    let given = |service: &Service| (service.clone(), evaluate::routes(plan, service));
    services(mesh, plan).into_iter().map(given).filter(|(_, routes)| !routes.is_empty()).collect()
}

/// The services that have a boundary in a cluster, inside which something runs them.
pub fn bounded(mesh: &Mesh, plan: &OutboundPlan) -> Vec<Service> {
    let is_open = |service: &Service| {
        plan.of(service).and_then(|said| said.bound.as_ref()).is_some_and(|bound| bound.open)
    };
    services(mesh, plan).into_iter().filter(|service| is_open(service)).cloned().collect()
}

/// The clusters whose clients use each subset of each service.
type Uses<'m> = BTreeMap<(Service, Subset), Vec<&'m Cluster>>;

fn uses<'m>(mesh: &'m Mesh, plans: &Plans) -> Uses<'m> {
    let mut uses = Uses::new();
    for cluster in mesh.clusters() {
        let routes = plans.get(&cluster.name).map(|plans| routes(mesh, &plans.outbound));
        for (service, routes) in routes.into_iter().flatten() {
            for subset in routes.into_iter().filter_map(|route| subset(cluster, route)) {
                uses.entry((service.clone(), subset)).or_default().push(cluster);
            }
        }
    }
    uses
}

/// Whether connections to a subset start in a cluster or pass a gateway of its network.
fn is_needed(mesh: &Mesh, cluster: &Cluster, subset: &Subset, users: &[&Cluster]) -> bool {
    let leads_here =
        || mesh.clusters().any(|other| subset.includes(other) && other.network == cluster.network);
    users.iter().any(|user| user.name == cluster.name)
        || users.iter().any(|user| user.network != cluster.network) && leads_here()
}

/// The frame of an object: what Kubernetes and people know it by.
fn object(kind: Kind, service: &Service, spec: &Value) -> Value {
    let kind = match kind {
        Kind::DestinationRule => "DestinationRule",
        Kind::VirtualService => "VirtualService",
    };
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {
            "name": format!("isthmus-{}", service.name),
            "namespace": service.namespace.as_str(),
            "labels": {"app.kubernetes.io/managed-by": "isthmus"},
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests;
