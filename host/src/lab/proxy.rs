//! The proxies of a lab: who they are, where they listen, where their files lie.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use policy::mesh::Extension;

use super::blueprint::{ADMIN_PORT, Blueprint, LabCluster, LabService, OUTBOUND_PORT};
use super::client::{Client, Door};
use super::config::Labels;
use super::site::Site;

/// What a proxy of the lab is, as someone outside sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `<cluster>/<workload>.<namespace>`, unique in the lab.
    pub name: String,
    /// The cluster it runs in.
    pub cluster: String,
    /// What it does.
    pub kind: ProxyKind,
    /// Its admin interface.
    pub admin: SocketAddr,
    /// Its bootstrap, logs and certificates lie here.
    pub dir: PathBuf,
    /// Its access log: a JSON object a line.
    pub access_log: PathBuf,
}

/// The three kinds of proxy of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// A client's sidecar, outbound.
    Client,
    /// A service's sidecar, inbound, and the application behind it.
    Server,
    /// An east-west gateway.
    Gateway,
}

impl ProxyKind {
    /// Its filter slots, in the order in which they stand before a request. A server has one for a plugin of its own
    /// namespace before the one of the root namespace, as priorities say; where both kinds of plugin can be there at once,
    /// each has its own, that of a `TrafficExtension` after the other.
    pub(super) fn slots(self, both_kinds: bool) -> Vec<Slot> {
        let places: &[(&str, Option<bool>)] = match self {
            Self::Client => &[("isthmus-outbound", None)],
            Self::Server => &[("isthmus-inbound-own", Some(true)), ("isthmus-inbound", Some(false))],
            Self::Gateway => &[("isthmus-gateway", None)],
        };
        let of = |(name, own): &(&str, Option<bool>)| {
            let slot = |mark: &str, extension| Slot { name: format!("{name}{mark}"), own: *own, extension };
            if both_kinds {
                let [plugin, extension] = Extension::ALL;
                vec![slot("", Some(plugin)), slot("-extension", Some(extension))]
            } else {
                vec![slot("", None)]
            }
        };
        places.iter().flat_map(of).collect()
    }
}

/// A place for a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    /// Its name, and that of the ECDS resource that fills it.
    pub(super) name: String,
    /// Whether it is for plugins of the proxy's own namespace, if it is not for all.
    pub(super) own: Option<bool>,
    /// For which kind of them, if not for both.
    pub(super) extension: Option<Extension>,
}

/// A workload with its proxy, as its own istiod knows it.
#[derive(Debug, Clone)]
pub(super) struct Workload<'b> {
    pub(super) role: Role<'b>,
    pub(super) cluster: &'b LabCluster,
    root: &'b str,
    both_kinds: bool,
    /// A client in all its manners, each with a listener of its own.
    manners: Vec<&'b Client>,
    /// Sets apart what else would have one name: who is there in several manners.
    mark: String,
    pub(super) address: Ipv4Addr,
    pub(super) dir: PathBuf,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Role<'b> {
    Client(&'b Client),
    Server { service: &'b LabService, version: usize },
    Gateway,
}

impl<'b> Workload<'b> {
    /// Everyone in the lab, in the order of the blueprint.
    pub(super) fn all(site: &'b Site) -> Vec<Self> {
        let blueprint = site.blueprint();
        let clients = (0..).zip(blueprint.pods()).filter_map(|(n, manners)| {
            let first = *manners.first()?;
            let workload = Self::new(site, &first.cluster, (Role::Client(first), Place::Client(n)))?;
            Some(Self { manners, ..workload })
        });
        let servers = (0..).zip(&blueprint.services).flat_map(|(n, service)| {
            (1..).zip(service.clusters.iter().chain(&service.strays)).map(move |(version, cluster)| {
                (cluster.as_str(), Role::Server { service, version }, Place::Service(n))
            })
        });
        let gateways = blueprint.clusters.iter().map(|c| (c.name.as_str(), Role::Gateway, Place::Gateway));
        let others = servers
            .chain(gateways)
            .filter_map(|(cluster, role, place)| Self::new(site, cluster, (role, place)));
        clients.chain(others).collect()
    }

    fn new(site: &'b Site, cluster: &str, (role, place): (Role<'b>, Place)) -> Option<Self> {
        let blueprint: &Blueprint = site.blueprint();
        let (number, cluster) = (0..).zip(&blueprint.clusters).find(|(_, c)| c.name == cluster)?;
        let addresses = site.addresses();
        let address = match place {
            Place::Client(n) => addresses.client(number, n),
            Place::Service(n) => addresses.service(number, n),
            Place::Gateway => addresses.gateway(number),
        };
        let mark = match (role, place) {
            (Role::Client(client), Place::Client(n)) if !client.is_in_plain_pod() => format!("~{n}"),
            _ => String::new(),
        };
        let (root, manners, dir) = (blueprint.root_namespace.as_str(), Vec::new(), PathBuf::new());
        let both_kinds = blueprint.both_kinds;
        let mut workload = Self { role, cluster, root, both_kinds, manners, mark, address, dir };
        workload.dir = site.dir().join("proxies").join(workload.name());
        Some(workload)
    }

    /// The manners of a client, each with its listener; none of what is no client.
    pub(super) fn sides(&self) -> impl Iterator<Item = Side<'_>> {
        (0..).zip(&self.manners).map(|(number, client)| Side { own: self, client, number })
    }

    /// The side that is this client.
    pub(super) fn side(&self, wanted: &Client) -> Option<Side<'_>> {
        self.sides().find(|side| side.client == wanted)
    }

    pub(super) fn kind(&self) -> ProxyKind {
        match self.role {
            Role::Client(_) => ProxyKind::Client,
            Role::Server { .. } => ProxyKind::Server,
            Role::Gateway => ProxyKind::Gateway,
        }
    }

    /// Where its filters come.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.kind().slots(self.both_kinds)
    }

    pub(super) fn name(&self) -> String {
        format!("{}/{}{}.{}", self.cluster.name, self.workload_name(), self.mark, self.namespace())
    }

    pub(super) fn namespace(&self) -> &'b str {
        match self.role {
            Role::Client(client) => &client.namespace,
            Role::Server { service, .. } => &service.namespace,
            Role::Gateway => self.root,
        }
    }

    pub(super) fn service_account(&self) -> &'b str {
        match self.role {
            Role::Client(client) => &client.service_account,
            Role::Server { service, .. } => &service.name,
            Role::Gateway => "istio-eastwestgateway-service-account",
        }
    }

    pub(super) fn workload_name(&self) -> String {
        match self.role {
            Role::Client(client) => client.service_account.clone(),
            Role::Server { service, version } => format!("{}-v{version}", service.name),
            Role::Gateway => "istio-eastwestgateway".to_owned(),
        }
    }

    /// The labels of the pod, with those that istiod adds.
    pub(super) fn labels(&self) -> Labels {
        let app = match self.role {
            Role::Gateway => "istio-eastwestgateway",
            Role::Client(_) | Role::Server { .. } => self.service_account(),
        };
        let mut labels = Labels::new();
        let mut add = |key: &str, value: &str| {
            labels.insert(key.to_owned(), value.to_owned());
        };
        add("app", app);
        add("service.istio.io/canonical-name", app);
        add("topology.istio.io/cluster", &self.cluster.name);
        add("topology.istio.io/network", &self.cluster.network);
        if let Some(region) = &self.cluster.region {
            add("topology.kubernetes.io/region", region);
        }
        match self.role {
            Role::Client(client) => {
                if let Some(edge) = client.edge() {
                    add("istio", edge);
                }
            }
            Role::Server { version, service } => {
                add("version", &format!("v{version}"));
                labels.extend(service.labels.clone());
            }
            Role::Gateway => add("istio", "eastwestgateway"),
        }
        labels
    }

    /// As the id of its node begins.
    pub(super) fn node_type(&self) -> &'static str {
        match self.role {
            Role::Client(client) if client.edge().is_some() => "router",
            Role::Client(_) | Role::Server { .. } => "sidecar",
            Role::Gateway => "router",
        }
    }

    pub(super) fn spiffe_id(&self) -> String {
        let trust_domain = &self.cluster.trust_domain;
        format!("spiffe://{trust_domain}/ns/{}/sa/{}", self.namespace(), self.service_account())
    }

    /// Where Envoy finds its filters, a file for each slot; a directory of its own, as Envoy watches the whole of it.
    pub(super) fn ecds(&self) -> PathBuf {
        self.dir.join("ecds")
    }

    /// Where Envoy finds its clusters, routes and listeners, as far as they come and go.
    pub(super) fn discovery(&self) -> PathBuf {
        self.dir.join("discovery")
    }

    pub(super) fn proxy(&self) -> Proxy {
        Proxy {
            name: self.name(),
            cluster: self.cluster.name.clone(),
            kind: self.kind(),
            admin: SocketAddr::from((self.address, ADMIN_PORT)),
            access_log: self.dir.join("access.log"),
            dir: self.dir.clone(),
        }
    }
}

/// A client in one of its manners.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'w> {
    pub(super) own: &'w Workload<'w>,
    pub(super) client: &'w Client,
    number: u16,
}

impl Side<'_> {
    /// Sets its clusters, routes and listeners apart from those of the first one.
    pub(super) fn mark(&self) -> String {
        if self.number == 0 { String::new() } else { format!("~{}", self.number) }
    }

    /// Its port, beginning from that of the first one.
    pub(super) fn port(&self, first: u16) -> u16 {
        first.saturating_add(self.number)
    }

    /// Where applications send their requests.
    pub(super) fn listener(&self) -> SocketAddr {
        SocketAddr::from((self.own.address, self.port(OUTBOUND_PORT)))
    }

    /// Whether it is an egress gateway that sidecars send to.
    pub(super) fn is_egress(&self) -> bool {
        self.client.manner.door == Door::Egress
    }
}

#[derive(Clone, Copy)]
enum Place {
    Client(usize),
    Service(usize),
    Gateway,
}
