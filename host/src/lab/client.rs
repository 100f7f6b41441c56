//! Who sends requests in a lab: workloads, gateways at the edge, and those whose sidecar a test wants otherwise.

use std::fmt;

/// The root namespace of a lab's Istio, unless it says another: its plugins reach every proxy, its gateways live there.
pub(super) const ROOT_NAMESPACE: &str = "istio-system";

/// A workload that sends requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// The cluster it runs in.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account, also its name.
    pub service_account: String,
    /// What sets its proxy apart from that of any workload.
    pub manner: Manner,
}

/// What sets the proxy of a client apart: nothing, unless it is said. One workload may be there in several manners, each
/// with a listener of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Manner {
    /// What kind of proxy it is.
    pub door: Door,
    /// What it shows of itself to the proxies that it sends requests to.
    pub shows: Shows,
    /// Where its requests go.
    pub heading: Heading,
    /// A host that is no service's name, and the host in full of the service that its route leads to.
    pub called: Option<(String, String)>,
}

/// The proxy that requests leave by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Door {
    /// The sidecar of the application that sends them; by the name that Istio installs it under, a gateway all the same.
    #[default]
    Sidecar,
    /// An ingress gateway.
    Ingress,
    /// An egress gateway, which takes them from sidecars, over mutual TLS.
    Egress,
}

/// What a client's proxy shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Shows {
    /// A certificate by the CA of its cluster; and tokens, if its cluster has a key.
    #[default]
    Certificate,
    /// A certificate by a CA below the same root that is no cluster's, as good as one that Envoy does not give away; and
    /// tokens.
    Token,
    /// The same without tokens.
    Tag,
    /// None: plain text on its own network, and where a gateway must read a name, TLS without a certificate.
    Nothing,
}

/// Where the requests of a client go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Heading {
    /// Where its routes lead.
    #[default]
    Routed,
    /// The same, while every endpoint outside this cluster has failed.
    Failover(String),
    /// To this cluster, whatever the routes say.
    Astray(String),
    /// To an egress gateway of its cluster.
    Through(Box<Client>),
}

impl Client {
    /// A workload with a sidecar as any has.
    pub fn new(cluster: &str, namespace: &str, service_account: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            manner: Manner::default(),
        }
    }

    /// The proxies that its requests pass before they go to another workload: its own, and an egress gateway.
    pub fn doors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |client| match &client.manner.heading {
            Heading::Through(gateway) => Some(&**gateway),
            Heading::Routed | Heading::Failover(_) | Heading::Astray(_) => None,
        })
    }

    /// Whether one pod can be both: they differ in nothing that is fixed when its proxy starts.
    pub(super) fn is_in_pod_of(&self, other: &Self) -> bool {
        let fixed = |client: &Self| (client.manner.door, client.manner.shows.signs());
        (&self.cluster, &self.namespace, &self.service_account, fixed(self))
            == (&other.cluster, &other.namespace, &other.service_account, fixed(other))
    }

    /// Whether its pod is as that of any workload.
    pub(super) fn is_in_plain_pod(&self) -> bool {
        self.manner.door == Door::Sidecar && self.manner.shows.signs()
    }

    /// What Istio labels it with, `istio: ingressgateway` or `istio: egressgateway`, if it is one of those.
    pub(super) fn edge(&self) -> Option<&str> {
        match self.manner.door {
            Door::Ingress => return Some("ingressgateway"),
            Door::Egress => return Some("egressgateway"),
            Door::Sidecar => {}
        }
        let edge = self.service_account.strip_prefix("istio-")?;
        (self.namespace == ROOT_NAMESPACE && ["ingressgateway", "egressgateway"].contains(&edge))
            .then_some(edge)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}.{}", self.cluster, self.service_account, self.namespace)
    }
}

impl Shows {
    /// Whether its pod has the cluster's key for tokens.
    pub(super) fn signs(self) -> bool {
        matches!(self, Self::Certificate | Self::Token)
    }

    /// Whether the CA of its cluster has signed what it shows.
    pub(super) fn is_marked(self) -> bool {
        matches!(self, Self::Certificate | Self::Nothing)
    }
}
