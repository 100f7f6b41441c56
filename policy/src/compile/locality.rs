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
        /// The client's region and the one to turn to.
        failover: Option<(RegionName, RegionName)>,
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
    prefer: Option<Boundary>,
    failover: Option<(&'p Place, Vec<&'p ClusterName>)>,
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
    if prefer.is_none() && failover.is_none() {
        return None;
    }
    let listed = |(_, list): (_, &'p Located<Vec<Located<ClusterName>>>)| {
        (&list.at, list.value.iter().map(|cluster| &cluster.value).collect())
    };
    Some(Asked {
        service: service.clone(),
        prefer: prefer.map(|(_, prefer)| prefer.value),
        failover: failover.map(listed),
        boundary: boundary(acting()).map_or(Boundary::Mesh, |(boundary, _)| boundary),
    })
}

/// The settings of one cluster, by service.
pub(super) fn of(ground: &Ground<'_>, cluster: &Cluster, asked: &[Asked<'_>]) -> BTreeMap<Service, Locality> {
    let chosen = |asked: &Asked<'_>| (asked.service.clone(), choose(ground, cluster, asked).0);
    asked.iter().map(chosen).collect()
}

/// Orders of clusters that Istio has no setting for.
pub(super) fn check(ground: &Ground<'_>, asked: &[Asked<'_>], findings: &mut Vec<Finding>) {
    for asked in asked {
        let Some((at, _)) = &asked.failover else { continue };
        let kept = |cluster: &&&Cluster| choose(ground, cluster, asked).1;
        let without: Vec<&&Cluster> = ground.clusters.iter().filter(|cluster| !kept(cluster)).collect();
        if !without.is_empty() {
            let names: Vec<&str> = without.iter().map(|cluster| cluster.name.as_str()).collect();
            findings.push(Finding {
                at: (*at).clone(),
                code: Code::UnkeptOrder,
                message: format!(
                    "Istio cannot turn to the clusters of {} in this order, for {}",
                    asked.service,
                    names.join(", ")
                ),
                hint: "it goes by network and cluster, or by region: name what makes up one region, or all that is left"
                    .to_owned(),
            });
        }
    }
}

/// The setting that comes nearest to what is asked, and whether it is that.
fn choose(ground: &Ground<'_>, cluster: &Cluster, asked: &Asked<'_>) -> (Locality, bool) {
    let ways = ways(ground, cluster, asked);
    let Some((_, failover)) = &asked.failover else { return (first(ways), true) };
    let inside = ground.inside(cluster, asked.boundary);
    let hosts: Vec<usize> =
        ground.hosts(&asked.service).iter().filter(|number| inside.contains(*number)).collect();
    let near = ground.inside(cluster, asked.prefer.unwrap_or(Boundary::Cluster));
    let wanted = |number: &usize| {
        let listed = failover.iter().position(|name| ground.number(name) == Some(*number));
        if near.contains(*number) { 0 } else { listed.map_or(failover.len() + 1, |place| place + 1) }
    };
    let wanted: Vec<usize> = hosts.iter().map(wanted).collect();
    let keeps = |way: &Locality| {
        let given: Vec<usize> = hosts.iter().map(|number| tier(ground, cluster, way, *number)).collect();
        // Each of Istio's tiers lies within one that is wanted, and they are in the same order.
        let pairs = || given.iter().zip(&wanted);
        pairs().all(|(here, tier)| {
            pairs().all(
                |(there, other)| if here < there { tier <= other } else { here > there || tier == other },
            )
        })
    };
    match ways.iter().find(|way| keeps(way)) {
        Some(way) => (way.clone(), true),
        None => (first(ways), false),
    }
}

/// Every setting that could do, the one first that does when only `prefer` is said.
fn ways(ground: &Ground<'_>, cluster: &Cluster, asked: &Asked<'_>) -> Vec<Locality> {
    let by_network = Locality::Shared(vec![Area::Network]);
    let by_cluster = Locality::Shared(vec![Area::Network, Area::Cluster]);
    let by_region = Locality::Regions { failover: None };
    let mut ways = match asked.prefer {
        Some(Boundary::Network) => vec![by_network, by_cluster, by_region],
        Some(Boundary::Region) if cluster.region.is_some() => vec![by_region, by_network, by_cluster],
        Some(Boundary::Cluster | Boundary::Region | Boundary::Mesh) | None => {
            vec![by_cluster, by_network, by_region]
        }
    };
    let Some(own) = &cluster.region else {
        // Istio would take every cluster that has no region for one of the same.
        ways.retain(|way| matches!(way, Locality::Shared(_)));
        return ways;
    };
    let regions: BTreeSet<&RegionName> =
        ground.clusters.iter().filter_map(|there| there.region.as_ref()).collect();
    let to = regions.into_iter().filter(|region| *region != own);
    ways.extend(to.map(|region| Locality::Regions { failover: Some((own.clone(), region.clone())) }));
    ways
}

fn first(ways: Vec<Locality>) -> Locality {
    ways.into_iter().next().unwrap_or(Locality::Shared(Vec::new()))
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
            let turned_to = failover.as_ref().is_some_and(|(_, to)| region == Some(to));
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
        let text = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{services: [\"*\"], routing: {routing}}}\n"
        );
        let mesh = Mesh::read("mesh.yaml", MESH).0.unwrap();
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
        Locality::Regions { failover: failover.map(named) }
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
}
