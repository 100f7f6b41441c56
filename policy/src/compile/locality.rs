//! How Istio turns to clusters further away: its own locality settings, for what `prefer` and `failover` say.

use std::collections::{BTreeMap, BTreeSet};

use super::ground::Ground;
use super::scopes::{Said, boundary, nearest};
use crate::document::Located;
use crate::finding::{Code, Finding, Place};
use crate::mesh::Cluster;
use crate::name::{ClusterName, RegionName, Service};
use crate::plan::Members;
use crate::rule::{Boundary, Mode, Policy, Scope};

/// The order in which Istio takes the endpoints of a service, as one of the two settings that it has for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locality {
    /// Those that share all of these with the client, then those that share all but the last, and so on. Never
    /// regions: where an endpoint lies behind a gateway istiod compares the gateway, which has no region.
    Shared(Vec<Area>),
    /// Those of the client's region, then those of another, then the rest.
    Regions {
        /// Regions of clients, each with the one that they turn to.
        failover: BTreeMap<RegionName, RegionName>,
    },
}

/// What endpoints can have in common that istiod knows of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// A cluster.
    Cluster,
    /// A network.
    Network,
    /// A region.
    Region,
}

impl From<Area> for Boundary {
    fn from(area: Area) -> Self {
        match area {
            Area::Cluster => Self::Cluster,
            Area::Network => Self::Network,
            Area::Region => Self::Region,
        }
    }
}

/// What policies that act ask for a service.
pub(super) struct Asked<'p> {
    service: Service,
    at: &'p Place,
    prefer: Option<Boundary>,
    failover: Option<Vec<&'p ClusterName>>,
    boundary: Boundary,
}

/// What is asked for each service that `mesh.yaml` lists or a policy names.
pub(super) fn asked<'p>(ground: &Ground<'_>, said: &Said<'p>) -> Vec<Asked<'p>> {
    let named = said.scopes().filter_map(|scope| match scope {
        Scope::Service(service) => Some(service),
        Scope::Namespace(_) | Scope::Mesh => None,
    });
    let services: BTreeSet<&Service> =
        ground.mesh.services().map(|(service, _)| service).chain(named).collect();
    services.into_iter().filter_map(|service| asked_for(said, service)).collect()
}

fn asked_for<'p>(said: &Said<'p>, service: &Service) -> Option<Asked<'p>> {
    let scope = Scope::Service(service.clone());
    let holding = said.holding(&scope);
    let acting = || said.of(&holding).filter(|policy| policy.mode == Mode::Enforce);
    let prefer = nearest(acting(), &scope, |policy: &Policy| policy.routing.prefer.as_ref());
    let failover = nearest(acting(), &scope, |policy: &Policy| policy.routing.failover.as_ref());
    let at = failover.map(|(_, list)| &list.at).or(prefer.map(|(_, prefer)| &prefer.at))?;
    let listed = |(_, list): (_, &'p Located<Vec<Located<ClusterName>>>)| {
        list.value.iter().map(|cluster| &cluster.value).collect()
    };
    Some(Asked {
        service: service.clone(),
        at,
        prefer: prefer.map(|(_, prefer)| prefer.value),
        failover: failover.map(listed),
        boundary: boundary(acting()).map_or(Boundary::Mesh, |(boundary, _)| boundary),
    })
}

/// The settings of the clusters that one control plane leads, by service.
pub(super) fn of(ground: &Ground<'_>, led: &[&Cluster], asked: &[Asked<'_>]) -> BTreeMap<Service, Locality> {
    let chosen = |asked: &Asked<'_>| (asked.service.clone(), choose(ground, led, asked).0);
    asked.iter().map(chosen).collect()
}

/// Orders of clusters that Istio has no setting for.
pub(super) fn check(ground: &Ground<'_>, asked: &[Asked<'_>], findings: &mut Vec<Finding>) {
    let control_planes = ground.mesh.control_planes();
    for asked in asked {
        let mut without: Vec<&str> = Vec::new();
        for (_, led) in &control_planes {
            without.extend(choose(ground, led, asked).1.iter().map(|cluster| cluster.name.as_str()));
        }
        if !without.is_empty() {
            without.sort_unstable();
            findings.push(Finding {
                at: asked.at.clone(),
                code: Code::UnkeptOrder,
                message: format!(
                    "Istio cannot turn to the clusters of {} in this order, for {}",
                    asked.service,
                    without.join(", ")
                ),
                hint: "it goes by network and cluster, or by region: name what makes up one region, or all that is left"
                    .to_owned(),
            });
        }
    }
}

/// What a setting goes by.
#[derive(Debug, Clone, Copy)]
enum Sort {
    Shared(&'static [Area]),
    Regions,
}

const BY_NETWORK: Sort = Sort::Shared(&[Area::Network]);
const BY_CLUSTER: Sort = Sort::Shared(&[Area::Network, Area::Cluster]);

/// The setting that comes nearest to what is asked, and the clusters for which it is not that. What one control plane
/// leads has one setting, as the object that says it has no place for two.
fn choose<'c>(ground: &Ground<'_>, led: &[&'c Cluster], asked: &Asked<'_>) -> (Locality, Vec<&'c Cluster>) {
    let has_region = led.iter().any(|cluster| cluster.region.is_some());
    let [first, second, third] = match asked.prefer {
        Some(Boundary::Network) => [BY_NETWORK, BY_CLUSTER, Sort::Regions],
        Some(Boundary::Region) if has_region => [Sort::Regions, BY_NETWORK, BY_CLUSTER],
        Some(Boundary::Cluster | Boundary::Region | Boundary::Mesh) | None => {
            [BY_CLUSTER, BY_NETWORK, Sort::Regions]
        }
    };
    let mut best = together(ground, led, asked, first);
    for sort in [second, third] {
        let other = together(ground, led, asked, sort);
        if other.1.len() < best.1.len() {
            best = other;
        }
    }
    best
}

/// The setting of a sort for these clusters, and those for which it does not do.
fn together<'c>(
    ground: &Ground<'_>,
    led: &[&'c Cluster],
    asked: &Asked<'_>,
    sort: Sort,
) -> (Locality, Vec<&'c Cluster>) {
    match sort {
        Sort::Shared(areas) => {
            let way = Locality::Shared(areas.to_vec());
            let lacks = |cluster: &&Cluster| !keeps(ground, cluster, asked, &way);
            let without = led.iter().copied().filter(lacks).collect();
            (way, without)
        }
        Sort::Regions => by_regions(ground, led, asked),
    }
}

fn by_regions<'c>(
    ground: &Ground<'_>,
    led: &[&'c Cluster],
    asked: &Asked<'_>,
) -> (Locality, Vec<&'c Cluster>) {
    let mut turned: BTreeMap<&RegionName, Option<&RegionName>> = BTreeMap::new();
    let mut without = Vec::new();
    for cluster in led {
        // Istio would take every cluster that has no region for one of the same.
        let Some(own) = &cluster.region else {
            without.push(*cluster);
            continue;
        };
        let kept =
            |to: &Option<&RegionName>| keeps(ground, cluster, asked, &turning(std::iter::once((own, *to))));
        let found = match turned.get(own) {
            Some(to) => Some(*to).filter(kept),
            None => turns(ground, own).find(kept),
        };
        match found {
            Some(to) => {
                turned.insert(own, to);
            }
            None => without.push(*cluster),
        }
    }
    (turning(turned.into_iter()), without)
}

/// The setting by which clients of a region turn to another, or to none before the rest.
fn turning<'r>(turned: impl Iterator<Item = (&'r RegionName, Option<&'r RegionName>)>) -> Locality {
    let named = |(from, to): (&RegionName, Option<&RegionName>)| Some((from.clone(), to?.clone()));
    Locality::Regions { failover: turned.filter_map(named).collect() }
}

/// Every region that clients of one could turn to, and first of all none.
fn turns<'g>(ground: &'g Ground<'_>, own: &RegionName) -> impl Iterator<Item = Option<&'g RegionName>> {
    let regions: BTreeSet<&RegionName> =
        ground.clusters.iter().filter_map(|there| there.region.as_ref()).collect();
    std::iter::once(None).chain(regions.into_iter().filter(move |region| *region != own).map(Some))
}

/// Whether a setting is what is asked, for the clients of a cluster.
fn keeps(ground: &Ground<'_>, cluster: &Cluster, asked: &Asked<'_>, way: &Locality) -> bool {
    let Some(failover) = &asked.failover else {
        return match (asked.prefer, way) {
            (Some(Boundary::Region), Locality::Regions { failover }) => failover.is_empty(),
            (Some(Boundary::Region), Locality::Shared(_)) if cluster.region.is_some() => false,
            (Some(Boundary::Network), Locality::Shared(areas)) => *areas == [Area::Network],
            (_, Locality::Shared(areas)) => *areas == [Area::Network, Area::Cluster],
            (_, Locality::Regions { .. }) => false,
        };
    };
    let inside = ground.inside(cluster, asked.boundary);
    let hosts: Vec<usize> =
        ground.hosts(&asked.service).iter().filter(|number| inside.contains(*number)).collect();
    let near = ground.inside(cluster, asked.prefer.unwrap_or(Boundary::Cluster));
    let wanted = |number: &usize| {
        let listed = failover.iter().position(|name| ground.number(name) == Some(*number));
        if near.contains(*number) { 0 } else { listed.map_or(failover.len() + 1, |place| place + 1) }
    };
    let wanted: Vec<usize> = hosts.iter().map(wanted).collect();
    let given: Vec<usize> = hosts.iter().map(|number| tier(ground, cluster, way, *number)).collect();
    // Each of Istio's tiers lies within one that is wanted, and they are in the same order.
    let pairs = || given.iter().zip(&wanted);
    pairs().all(|(here, tier)| {
        pairs().all(|(there, other)| if here < there { tier <= other } else { here > there || tier == other })
    })
}

/// In which of its tiers, from 0, Istio has the endpoints of a cluster.
fn tier(ground: &Ground<'_>, cluster: &Cluster, way: &Locality, number: usize) -> usize {
    let shares = |boundary: Boundary| -> bool {
        let inside: Members = ground.inside(cluster, boundary);
        inside.contains(number)
    };
    match way {
        Locality::Shared(labels) => {
            labels.len() - labels.iter().take_while(|area| shares((**area).into())).count()
        }
        Locality::Regions { failover } => {
            let region = ground.clusters.get(number).and_then(|there| there.region.as_ref());
            let to = cluster.region.as_ref().and_then(|own| failover.get(own));
            let turned_to = to.is_some() && region == to;
            if shares(Boundary::Region) { 0 } else { 2 - usize::from(turned_to) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mesh, compile};

    const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: bank}
spec:
  clusters:
  - {name: eu-1, network: frankfurt, region: eu, gateway: {address: 192.0.2.1}}
  - {name: eu-2, network: frankfurt, region: eu}
  - {name: eu-3, network: paris, region: eu, gateway: {address: 192.0.2.2}}
  - {name: us-1, network: ohio, region: us, gateway: {address: 192.0.2.3}}
  - {name: moon, network: crater, gateway: {address: 192.0.2.4}}
  services: {web.shop: {port: 80}, few.shop: {port: 80, clusters: [eu-1, eu-3]}}
";

    /// What Istio is told of a service, and the clusters for which that is not what was asked.
    fn told(service: &str, cluster: &str, routing: &str) -> (Locality, String) {
        told_in(MESH, service, cluster, routing)
    }

    fn told_in(mesh: &str, service: &str, cluster: &str, routing: &str) -> (Locality, String) {
        let text = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{services: [\"*\"], routing: {routing}}}\n"
        );
        let mesh = Mesh::read("mesh.yaml", mesh).0.unwrap();
        let (policies, found) = Policy::read("p.yaml", &text, mesh.root_namespace());
        assert_eq!(found, []);
        let (plans, findings) = compile(&mesh, &policies);
        let of = format!("{service} in this order, for ");
        let without = findings.iter().find_map(|finding| Some(finding.message.split_once(&of)?.1.to_owned()));
        let plans = plans.unwrap_or_else(|| panic!("{findings:?}"));
        let locality = &plans[&cluster.parse().unwrap()].locality[&service.parse().unwrap()];
        (locality.clone(), without.unwrap_or_default())
    }

    fn shared(areas: &[Area]) -> Locality {
        Locality::Shared(areas.to_vec())
    }

    fn regions(failover: Option<(&str, &str)>) -> Locality {
        let named = |(from, to): (&str, &str)| (from.parse().unwrap(), to.parse().unwrap());
        Locality::Regions { failover: failover.into_iter().map(named).collect() }
    }

    #[test]
    fn a_preference_alone_goes_outward() {
        use Area::{Cluster, Network};
        let kept = |locality| (locality, String::new());
        assert_eq!(told("web.shop", "eu-1", "{prefer: Cluster}"), kept(shared(&[Network, Cluster])));
        assert_eq!(told("web.shop", "eu-1", "{prefer: Network}"), kept(shared(&[Network])));
        assert_eq!(told("web.shop", "eu-1", "{prefer: Region}"), kept(regions(None)));
        // In no region it is alone, which regions could not say: the others without one would be as near.
        assert_eq!(told("web.shop", "moon", "{prefer: Region}"), kept(shared(&[Network, Cluster])));
    }

    #[test]
    fn an_order_is_told_as_the_setting_that_gives_it() {
        use Area::{Cluster, Network};
        let (locality, _) = told("web.shop", "eu-1", "{failover: [eu-2]}");
        assert_eq!(locality, shared(&[Network, Cluster]));
        let (locality, without) = told("web.shop", "eu-1", "{prefer: Region, failover: [us-1]}");
        assert_eq!(locality, regions(Some(("eu", "us"))));
        assert_eq!(without, "moon", "which has no region to go from");
        // Only eu-1 and eu-3 run it, so from eu-1 there is nothing else to turn to.
        assert_eq!(told("few.shop", "eu-1", "{failover: [eu-3]}").0, shared(&[Network, Cluster]));
        // Nothing of Ohio runs it, so its order is that of the two.
        assert_eq!(told("few.shop", "us-1", "{failover: [eu-1, eu-3]}").1, "moon, us-1");
    }

    #[test]
    fn a_boundary_takes_clusters_out_of_the_order() {
        let (locality, without) =
            told("web.shop", "eu-1", "{boundary: Region, prefer: Network, failover: [eu-3]}");
        assert_eq!((locality, without.as_str()), (shared(&[Area::Network]), ""));
        let (_, without) = told("web.shop", "eu-1", "{prefer: Network, failover: [eu-3]}");
        assert_eq!(without, "eu-1, eu-2, moon, us-1");
    }
    #[test]
    fn clusters_of_one_control_plane_have_one_setting_in_which_each_region_turns_to_its_own() {
        const LED: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: bank}
spec:
  clusters:
  - {name: eu-1, network: paris, region: eu, gateway: {address: 192.0.2.1}}
  - {name: us-1, network: ohio, region: us, controlPlane: {remoteOf: eu-1}, gateway: {address: 192.0.2.2}}
  - {name: asia-1, network: seoul, region: asia, controlPlane: {remoteOf: eu-1}, gateway: {address: 192.0.2.3}}
  services: {web.shop: {port: 80}}
";
        let of =
            |cluster: &str| told_in(LED, "web.shop", cluster, "{prefer: Region, failover: [eu-1, us-1]}");
        let turned = [("asia", "eu"), ("eu", "us"), ("us", "eu")];
        let turned = turned.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        let one = (Locality::Regions { failover: turned.into() }, String::new());
        assert_eq!([of("eu-1"), of("us-1"), of("asia-1")], [one.clone(), one.clone(), one]);
    }

    #[test]
    fn what_does_not_do_for_a_cluster_of_a_control_plane_is_told_of_that_one() {
        let led = MESH.replace("name: moon,", "name: moon, controlPlane: {remoteOf: eu-1},");
        // The moon has no region to go from, and what the others have is the setting of all.
        let of = |cluster: &str| told_in(&led, "web.shop", cluster, "{prefer: Region}");
        assert_eq!(of("eu-1"), (regions(None), "moon".to_owned()));
        assert_eq!(of("moon"), of("eu-1"));
    }
}
