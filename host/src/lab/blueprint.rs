//! What a lab is made of: a plain value, from a mesh or from a test.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{Client, Heading, Shows};

/// Ports that a proxy takes on its own address, as in Istio.
pub(super) const OUTBOUND_PORT: u16 = 15001;
pub(super) const INBOUND_PORT: u16 = 15006;
pub(super) const GATEWAY_PORT: u16 = 15443;
pub(super) const ADMIN_PORT: u16 = 15000;
/// Where an egress gateway takes requests from sidecars.
pub(super) const EGRESS_PORT: u16 = 8443;

/// The clusters, services and clients of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blueprint {
    /// The mesh id.
    pub mesh: String,
    /// The root namespace of its Istio.
    pub root_namespace: String,
    /// The clusters; the order gives their addresses.
    pub clusters: Vec<LabCluster>,
    /// The services; the order gives their addresses.
    pub services: Vec<LabService>,
    /// Where requests are sent from.
    pub clients: Vec<Client>,
    /// Whether its proxies have a slot for each kind of plugin: while one kind takes the place of the other, both are there.
    /// A slot is one more of Linux' inotify instances.
    pub both_kinds: bool,
}

/// A cluster of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabCluster {
    /// Its name.
    pub name: String,
    /// Its network: clusters of one network reach each other's workloads directly.
    pub network: String,
    /// Its region, when it has one.
    pub region: Option<String>,
    /// The trust domain of its workloads.
    pub trust_domain: String,
    /// The cluster whose CA signs for them.
    pub signer: String,
    /// The cluster whose istiod leads it, which reads objects in its own directory only.
    pub control_plane: String,
}

/// A service of a lab; in its n-th cluster it answers as version `v<n>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabService {
    /// Its name, also its service account.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its port.
    pub port: u16,
    /// The clusters that host it.
    pub clusters: Vec<String>,
    /// Clusters that have a workload of it which is no endpoint: only who goes astray comes to it.
    pub strays: Vec<String>,
    /// Labels of its workloads, beside those that Istio adds.
    pub labels: BTreeMap<String, String>,
    /// What its sidecars stand before.
    pub application: Application,
}

/// An application behind a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Application {
    /// The lab's own: answers over HTTP/1.1 and tells which tags it saw.
    #[default]
    Hello,
    /// None of the lab's: whatever listens at the address of the proxy and the port of the service, and is spoken to
    /// over HTTP/2, as Istio speaks to a port that is called `grpc`.
    Grpc,
}

impl LabService {
    /// The host name in full.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }

    /// The SNI that Istio gives connections to this service; all of its endpoints are the subset without a name.
    #[must_use]
    pub fn sni(&self, subset: &str) -> String {
        format!("outbound_.{}_.{subset}_.{}", self.port, self.host())
    }

    /// Where the application listens: not below 1024, where not everyone may.
    pub(super) fn listening(&self) -> u16 {
        match self.application {
            Application::Hello if self.port < 1024 => self.port.saturating_add(10_000),
            Application::Hello | Application::Grpc => self.port,
        }
    }
}

/// What is wrong with a blueprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlueprintError {
    /// Two things have one name.
    #[error("{name} is there twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A service or client names a cluster that is not in the blueprint.
    #[error("{user} names cluster {cluster:?}, which the lab does not have")]
    NoSuchCluster {
        /// The service or client.
        user: String,
        /// The cluster it names.
        cluster: String,
    },
    /// A client leaves by a gateway that is not in the blueprint.
    #[error("{user} leaves by {gateway}, which the lab does not have")]
    NoSuchGateway {
        /// The client.
        user: String,
        /// The gateway.
        gateway: String,
    },
    /// There are more of a kind than a lab has addresses for.
    #[error("{count} {kind} are more than the {most} a lab has addresses for")]
    TooMany {
        /// Clusters, services or clients.
        kind: &'static str,
        /// How many there are.
        count: usize,
        /// How many there can be.
        most: usize,
    },
    /// A service listens where its own sidecar does.
    #[error("service {service} cannot have port {port}: its sidecar listens there")]
    PortTaken {
        /// The service.
        service: String,
        /// The port.
        port: u16,
    },
}

impl Blueprint {
    pub(super) fn check(&self) -> Result<(), BlueprintError> {
        at_most("clusters", self.clusters.len(), 250)?;
        at_most("services", self.services.len(), 80)?;
        at_most("clients", self.pods().len(), 150)?;
        unique(self.clusters.iter().map(|c| c.name.clone()))?;
        unique(self.services.iter().map(LabService::host))?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.clients.iter().find(|client| !seen.insert(*client)) {
            return Err(BlueprintError::Twice { name: twice.to_string() });
        }
        for service in &self.services {
            unique(service.clusters.iter().map(|c| format!("{} in {c}", service.name)))?;
            self.check_clusters(&service.name, &service.clusters)?;
            self.check_clusters(&service.name, &service.strays)?;
            if [OUTBOUND_PORT, INBOUND_PORT, GATEWAY_PORT, ADMIN_PORT].contains(&service.port) {
                return Err(BlueprintError::PortTaken { service: service.name.clone(), port: service.port });
            }
        }
        self.clients.iter().try_for_each(|client| self.check_client(client))
    }

    fn check_client(&self, client: &Client) -> Result<(), BlueprintError> {
        let heading = match &client.manner.heading {
            Heading::Failover(to) | Heading::Astray(to) => Some(to),
            Heading::Routed | Heading::Through(_) => None,
        };
        if let Some(gateway) = client.doors().find(|door| !self.clients.contains(door)) {
            let (user, gateway) = (client.service_account.clone(), gateway.service_account.clone());
            return Err(BlueprintError::NoSuchGateway { user, gateway });
        }
        std::iter::once(&client.cluster).chain(heading).try_for_each(|cluster| {
            self.check_clusters(&client.service_account, std::slice::from_ref(cluster))
        })
    }

    /// How many Envoys it takes.
    #[must_use]
    pub fn proxies(&self) -> usize {
        let servers = self.services.iter().map(|service| service.clusters.len() + service.strays.len());
        self.pods().len() + servers.sum::<usize>() + self.clusters.len()
    }

    /// The clients pod by pod, each with the manners that it is there in.
    pub(super) fn pods(&self) -> Vec<Vec<&Client>> {
        let mut pods: Vec<Vec<&Client>> = Vec::new();
        for client in &self.clients {
            let own = pods.iter_mut().find(|pod| pod.first().is_some_and(|first| first.is_in_pod_of(client)));
            match own {
                Some(pod) => pod.push(client),
                None => pods.push(vec![client]),
            }
        }
        pods
    }

    /// Whether sidecars must take peers that show no certificate.
    pub(super) fn is_permissive(&self) -> bool {
        self.clients.iter().any(|client| client.manner.shows == Shows::Nothing)
    }

    fn check_clusters(&self, user: &str, named: &[String]) -> Result<(), BlueprintError> {
        match named.iter().find(|name| self.cluster(name).is_none()) {
            None => Ok(()),
            Some(cluster) => {
                Err(BlueprintError::NoSuchCluster { user: user.to_owned(), cluster: cluster.clone() })
            }
        }
    }

    pub(super) fn cluster(&self, name: &str) -> Option<&LabCluster> {
        self.clusters.iter().find(|c| c.name == name)
    }
}

fn at_most(kind: &'static str, count: usize, most: usize) -> Result<(), BlueprintError> {
    if count <= most { Ok(()) } else { Err(BlueprintError::TooMany { kind, count, most }) }
}

fn unique(names: impl Iterator<Item = String>) -> Result<(), BlueprintError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.clone()) {
            return Err(BlueprintError::Twice { name });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::client::ROOT_NAMESPACE;
    use super::*;

    pub(in crate::lab) fn two_clusters() -> Blueprint {
        let cluster = |n: u8| LabCluster {
            name: format!("cluster{n}"),
            network: format!("network{n}"),
            region: Some(format!("region{n}")),
            trust_domain: "cluster.local".to_owned(),
            signer: format!("cluster{n}"),
            control_plane: format!("cluster{n}"),
        };
        Blueprint {
            mesh: "mesh1".to_owned(),
            root_namespace: ROOT_NAMESPACE.to_owned(),
            clusters: vec![cluster(1), cluster(2)],
            services: vec![LabService {
                name: "helloworld".to_owned(),
                namespace: "sample".to_owned(),
                port: 5000,
                clusters: vec!["cluster1".to_owned(), "cluster2".to_owned()],
                strays: Vec::new(),
                labels: BTreeMap::new(),
                application: Application::Hello,
            }],
            clients: vec![Client::new("cluster1", "sample", "sleep")],
            both_kinds: false,
        }
    }

    #[test]
    fn a_blueprint_that_holds_together_passes() {
        assert_eq!(two_clusters().check(), Ok(()));
    }

    #[test]
    fn a_cluster_that_is_not_there_is_named_with_its_user() {
        let mut blueprint = two_clusters();
        blueprint.services[0].clusters.push("cluster9".to_owned());
        let error = blueprint.check().expect_err("refused").to_string();
        assert_eq!(error, "helloworld names cluster \"cluster9\", which the lab does not have");
    }

    #[test]
    fn two_of_one_name_are_refused() {
        let mut blueprint = two_clusters();
        blueprint.clients.push(blueprint.clients[0].clone());
        assert_eq!(
            blueprint.check(),
            Err(BlueprintError::Twice { name: "cluster1/sleep.sample".to_owned() })
        );
    }

    #[test]
    fn a_service_cannot_take_its_sidecars_port() {
        let mut blueprint = two_clusters();
        blueprint.services[0].port = 15006;
        assert!(matches!(blueprint.check(), Err(BlueprintError::PortTaken { port: 15006, .. })));
    }
    #[test]
    fn who_leaves_by_a_gateway_that_is_not_there_is_refused() {
        let mut blueprint = two_clusters();
        let gateway = Client::new("cluster1", ROOT_NAMESPACE, "egress");
        blueprint.clients[0].manner.heading = Heading::Through(Box::new(gateway.clone()));
        let error = blueprint.check().expect_err("refused").to_string();
        assert_eq!(error, "sleep leaves by egress, which the lab does not have");
        blueprint.clients.push(gateway);
        assert_eq!(blueprint.check(), Ok(()));
    }

    #[test]
    fn the_manners_of_a_client_share_an_envoy_but_for_its_key_for_tokens() {
        let mut blueprint = two_clusters();
        let before = blueprint.proxies();
        for shows in [Shows::Token, Shows::Tag, Shows::Nothing] {
            let mut client = blueprint.clients[0].clone();
            client.manner.shows = shows;
            blueprint.clients.push(client);
        }
        assert_eq!((blueprint.check(), blueprint.proxies()), (Ok(()), before + 1));
        let pods: Vec<usize> = blueprint.pods().iter().map(Vec::len).collect();
        assert_eq!(pods, [2, 2]);
    }
}
