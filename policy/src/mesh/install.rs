//! How Istio is put into the clusters, as far as it is the mesh's to say.

use std::net::{IpAddr, Ipv4Addr};

use super::{Extension, IstioVersion};
use crate::cidr::Cidr;

/// The port of an east-west gateway on which it passes mTLS through by SNI.
pub const GATEWAY_PORT: u16 = 15443;

/// How Istio is installed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Installation {
    /// Its version, if it is said.
    pub version: Option<IstioVersion>,
    /// With what.
    pub installer: Installer,
    /// East-west gateways are objects of the Gateway API, which istiod deploys.
    pub gateway_api: bool,
    /// The kind of object that the filter comes as.
    pub extension: Extension,
    /// Sidecars answer for names that the cluster's own DNS does not know.
    pub dns_proxy: bool,
    /// What other networks can ask for.
    pub exports: Exports,
    /// Hosts whose requests stay in the cluster that they start in.
    pub cluster_local: Vec<String>,
}

impl Installation {
    /// Whether it is this version of Istio or a later one; one that is not said is taken to be the newest.
    pub fn is_at_least(&self, minor: u16) -> bool {
        self.version.is_none_or(|version| version >= IstioVersion { major: 1, minor })
    }
}

/// What puts Istio into a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Installer {
    /// `istioctl install`, with an `IstioOperator` file.
    #[default]
    Istioctl,
    /// `helm upgrade --install`, with values for each chart.
    Helm,
}

/// The services that the east-west gateways pass on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exports {
    /// Every service of the mesh.
    #[default]
    All,
    /// Those that `mesh.yaml` lists, and no policy hides from every other network.
    Listed,
}

/// Names of services in other clusters that share no control plane: `NAME.NAMESPACE.global`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalNames {
    /// Where their addresses come from.
    pub range: Cidr,
    /// Who answers for them.
    pub dns: Dns,
    /// Requests leave through the egress gateway.
    pub egress: bool,
}

impl GlobalNames {
    /// Where addresses come from unless it is said: class E, which nothing routes. What goes there leaves a pod by
    /// its default route, so that Istio's iptables see it.
    pub const RANGE: Cidr = Cidr::v4(Ipv4Addr::new(240, 0, 0, 0), 16);
    /// Where istiod takes addresses from for names that have none.
    pub const GIVEN_BY_ISTIOD: Cidr = Cidr::v4(Ipv4Addr::new(240, 240, 0, 0), 16);
    /// What goes here never leaves a pod.
    pub const LOOPBACK: Cidr = Cidr::v4(Ipv4Addr::new(127, 0, 0, 0), 8);

    /// How many names can have an address: all of the range but its first and its last.
    pub fn room(&self) -> u32 {
        match self.range.address(0) {
            IpAddr::V4(_) => {
                u32::MAX.checked_shr(u32::from(self.range.prefix())).unwrap_or(0).saturating_sub(1)
            }
            IpAddr::V6(_) => 0,
        }
    }
}

/// Who knows the addresses of `.global` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dns {
    /// The sidecar of whoever asks.
    #[default]
    Proxy,
    /// The cluster's CoreDNS.
    CoreDns,
    /// A CoreDNS of isthmus, which the cluster's kube-dns asks.
    KubeDns,
}

/// Where a cluster's east-west gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// An address, or a name that the other clusters can resolve.
    pub address: String,
    /// The port; [`GATEWAY_PORT`] unless said.
    pub port: u16,
    /// How its Service gets the address.
    pub service: GatewayService,
}

/// How the Service of a gateway gets an address that other clusters reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GatewayService {
    /// From a load balancer.
    #[default]
    LoadBalancer,
    /// Its address is an external IP that is led to the cluster's nodes.
    ExternalIp,
    /// Its address is a node's, and its port a node port.
    NodePort,
}

/// What only some clusters have to say of their control plane and their DNS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whereabouts {
    /// Where remotes find the istiod of this cluster; its gateway unless said.
    pub istiod: Option<String>,
    /// Where isthmus' CoreDNS answers inside this cluster.
    pub dns_server: Option<IpAddr>,
}
