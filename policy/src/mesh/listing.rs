//! What `mesh.yaml` says of a service.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::ClusterName;

/// A service, as far as the clusters cannot tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The service's port.
    pub port: u16,
    /// What is spoken there, if it is said.
    pub protocol: Option<Protocol>,
    /// Its other ports.
    pub other_ports: Vec<ServicePort>,
    /// The clusters that run it; never empty.
    pub clusters: BTreeSet<ClusterName>,
    /// The labels of its workloads; empty: the workload's canonical service is the service's name.
    pub selector: BTreeMap<String, String>,
    /// Labels by which its endpoints in a cluster are told apart where it is called by its `.global` name.
    pub labels: BTreeMap<ClusterName, BTreeMap<String, String>>,
}

impl Listing {
    /// All its ports, the first of them first.
    pub fn ports(&self) -> impl Iterator<Item = ServicePort> {
        let first = ServicePort { number: self.port, protocol: self.protocol };
        std::iter::once(first).chain(self.other_ports.iter().copied())
    }
}

/// A port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServicePort {
    /// Its number.
    pub number: u16,
    /// What is spoken there; Envoy finds out where it is not said.
    pub protocol: Option<Protocol>,
}

macro_rules! protocols {
    ($($name:ident = $text:literal,)*) => {
        /// A protocol that Istio knows by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Protocol {
            $(#[doc = concat!("`", $text, "`")] $name,)*
        }

        impl Protocol {
            /// Every one, by its name.
            pub const ALL: &[(&'static str, Self)] = &[$(($text, Self::$name)),*];

            /// As port names and `appProtocol` have it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

protocols! {
    Http = "http",
    Http2 = "http2",
    Https = "https",
    Grpc = "grpc",
    GrpcWeb = "grpc-web",
    Tcp = "tcp",
    Tls = "tls",
    Mongo = "mongo",
    Mysql = "mysql",
    Redis = "redis",
}
