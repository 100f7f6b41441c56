//! The checks by number and name.

use std::fmt;

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Whether clusters can be looked at.
    Access,
    /// The control planes and their settings.
    ControlPlane,
    /// The CAs, and who trusts whom.
    Authority,
    /// How control planes reach the API servers of other clusters.
    RemoteSecrets,
    /// Networks and the addresses on them.
    Networks,
    /// East-west gateways and what they let through.
    Gateways,
    /// How sidecars get into pods.
    Injection,
    /// Services and what stands behind them.
    Services,
    /// The filter and its plans.
    Filter,
    /// What clusters call of control planes that theirs does not know.
    Imports,
}

impl Category {
    /// As a headline says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::ControlPlane => "control planes",
            Self::Authority => "certificates",
            Self::RemoteSecrets => "remote secrets",
            Self::Networks => "networks",
            Self::Gateways => "east-west gateways",
            Self::Injection => "injection",
            Self::Services => "services",
            Self::Filter => "filter",
            Self::Imports => "services of other control planes",
        }
    }
}

macro_rules! codes {
    ($($name:ident = $number:literal, $category:ident, $title:literal;)*) => {
        /// The stable number of a check. A number is never used again for another check.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $name = $number,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it is about.
            pub fn category(self) -> Category {
                match self {
                    $(Self::$name => Category::$category,)*
                }
            }

            /// What holds where it passes.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

codes! {
    Reachable = 1, Access, "the API server answers";
    Readable = 2, Access, "all that is looked at may be read";
    Kubernetes = 10, ControlPlane, "Kubernetes is of a version that Istio supports";
    ControlPlane = 11, ControlPlane, "istiod runs where mesh.yaml says";
    IstioVersion = 12, ControlPlane, "Istio is of the version that mesh.yaml says";
    Settings = 13, ControlPlane, "istiod knows the cluster, its network and its mesh by their names";
    TrustDomain = 14, ControlPlane, "the trust domain is that of mesh.yaml";
    WayToIstiod = 15, ControlPlane, "a remote cluster finds its istiod where the gateway is";
    Definitions = 16, ControlPlane, "Istio's definitions are there";
    CaSecret = 20, Authority, "istiod signs with a CA of the mesh";
    CaSound = 21, Authority, "istiod can use that CA";
    CaLasting = 22, Authority, "it does not end soon";
    CaTelling = 23, Authority, "what it signs says which cluster it is of";
    CaTrusted = 24, Authority, "workloads of the other clusters are accepted";
    CaSpread = 25, Authority, "workloads trust the roots that istiod has";
    MeshRoots = 26, Authority, "sidecars accept the other meshes, whose roots are not theirs";
    RemoteSecret = 30, RemoteSecrets, "there is a remote secret for each cluster whose endpoints istiod needs";
    RemoteSecretName = 31, RemoteSecrets, "remote secrets are of clusters of the mesh, each of one";
    RemoteSecretServer = 32, RemoteSecrets, "remote secrets lead to the API servers of mesh.yaml";
    RemoteSecretTaken = 33, RemoteSecrets, "istiod takes the kubeconfigs of remote secrets";
    RemoteSecretToken = 34, RemoteSecrets, "tokens of remote secrets hold";
    Reader = 35, RemoteSecrets, "there is an account that other control planes read as";
    RemoteSecretWorks = 36, RemoteSecrets, "remote secrets let istiod list what it needs";
    ServerAnswers = 37, RemoteSecrets, "the API server answers where the others are told that it is";
    ClustersRead = 38, RemoteSecrets, "istiod itself has read the clusters that it has secrets of";
    NetworkLabel = 40, Networks, "Istio's namespace says the network";
    Led = 41, Networks, "the control plane of a remote cluster may lead there";
    PodNetwork = 42, Networks, "pods of one network have addresses of their own";
    PodsReach = 43, Networks, "pods of one network reach each other";
    GatewayService = 50, Gateways, "there is an east-west gateway where a network needs one";
    GatewayAddress = 51, Gateways, "the gateway has the address that mesh.yaml says";
    GatewayReady = 52, Gateways, "a pod of the gateway is ready";
    GatewayOpen = 53, Gateways, "the gateway passes mTLS through by SNI";
    Exposure = 54, Gateways, "the gateway knows every service that policies show";
    GatewayAnswers = 55, Gateways, "the gateway answers where the others are told that it is";
    GatewayShows = 56, Gateways, "behind it answer workloads that the others accept";
    Webhook = 60, Injection, "the webhook of injection leads somewhere";
    Injection = 61, Injection, "namespaces of listed services are injected";
    Validation = 62, Injection, "the webhook that judges Istio's objects leads somewhere";
    ServiceThere = 70, Services, "listed services are in every cluster that calls them";
    ServiceSame = 71, Services, "a service has the same ports everywhere";
    Endpoints = 72, Services, "services have endpoints where mesh.yaml says";
    Plugins = 80, Filter, "the plugins have the plans of these policies";
    Running = 81, Filter, "proxies run the plans that the plugins have";
    Import = 90, Imports, "what is called of other control planes has a ServiceEntry, and nothing else has";
    ImportWay = 91, Imports, "such entries lead to the gateways of the clusters that run the service";
    ImportSni = 92, Imports, "gateways are asked for .global names by what they know";
    ImportAddress = 93, Imports, "each of these names has one address, which is its own";
    ImportDns = 94, Imports, "somebody answers for these names";
    ImportName = 95, Imports, "no entry takes the name of a service that the control plane knows itself";
}

impl fmt::Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ISD{:03}", *self as u8)
    }
}
