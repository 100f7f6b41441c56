//! The mesh: its clusters, their networks, and what can be known of its services.

mod install;
mod life;
mod listing;
mod model;
mod read;
mod signing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;
use crate::finding::{Finding, has_errors};
use crate::key::PublicKey;
use crate::name::{
    Blank, ClusterName, KeyId, MeshName, Namespace, NetworkName, RegionName, RootName, Service, TrustDomain,
};
pub use install::{
    Dns, Exports, GATEWAY_PORT, Gateway, GatewayService, GlobalNames, Installation, Installer, Whereabouts,
};
pub use life::{Life, LifeError};
pub use listing::{Listing, Protocol, ServicePort};
pub use model::{Count, Extension, IstioVersion, IstioVersionError, Model, OnFailure};

/// A mesh that was read from `mesh.yaml` and found sound: names are unique and every reference leads somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    home: Federated,
    others: BTreeMap<MeshName, Federated>,
    root_namespace: Namespace,
    installation: Installation,
    global: Option<GlobalNames>,
    on_failure: Option<OnFailure>,
    tokens: Option<Life>,
    clusters: BTreeMap<ClusterName, Cluster>,
    services: BTreeMap<Service, Listing>,
}

/// A mesh as far as others trust it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federated {
    /// Its name, which is Istio's mesh id.
    pub name: MeshName,
    /// The trust domain of its identities, unless a cluster says another.
    pub trust_domain: TrustDomain,
    /// The root CA that signs for it.
    pub root: RootName,
}

/// One Kubernetes cluster of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name, as Istio has it too.
    pub name: ClusterName,
    /// The mesh that it is of.
    pub mesh: MeshName,
    /// The trust domain of its identities.
    pub trust_domain: TrustDomain,
    /// The network that its pods are on.
    pub network: NetworkName,
    /// Where it runs.
    pub region: Option<RegionName>,
    /// What else it is called by, for those who choose clusters: the waves of a rollout.
    pub labels: BTreeMap<String, String>,
    /// How its objects reach it.
    pub target: Option<Target>,
    /// Where its API server answers the other clusters.
    pub api_server: Option<String>,
    /// Who runs its control plane.
    pub control_plane: ControlPlane,
    /// Where its istiod and its DNS are found.
    pub whereabouts: Whereabouts,
    /// Its east-west gateway.
    pub gateway: Option<Gateway>,
    /// The addresses of its pods.
    pub pod_cidr: Option<Cidr>,
    /// The names of the intermediate CAs that sign its workloads' certificates; never empty. Those of a remote cluster are
    /// its primary's, whose istiod signs for it, unless it says others.
    pub issuers: BTreeSet<IssuerName>,
    /// The public keys of the tokens that its sidecars sign.
    pub token_keys: BTreeMap<KeyId, PublicKey>,
}

/// How objects reach a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Through the API server that this kubeconfig context names.
    Context(String),
    /// Through files in this directory, relative to `mesh.yaml`: what GitOps applies.
    Directory(String),
}

/// Who runs the control plane of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlPlane {
    /// The cluster itself.
    Primary,
    /// Another cluster.
    RemoteOf(ClusterName),
}

/// A certificate issuer's name is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of an issuer: write what `openssl x509 -noout -issuer -nameopt RFC2253` prints, without \"issuer=\""
)]
pub struct IssuerError(String);

/// The distinguished name of a CA as RFC 2253 writes it, such as `L=cluster1,CN=Intermediate CA,O=Istio`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IssuerName(String);

impl IssuerName {
    /// The issuer's name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the intermediate that `isthmus mesh certs`, like Istio's own tool, makes for a cluster.
    pub fn of_intermediate(cluster: &ClusterName) -> Self {
        Self(format!("L={cluster},CN=Intermediate CA,O=Istio"))
    }
}

impl Blank for IssuerName {
    const BLANK: Self = Self(String::new());
}

impl FromStr for IssuerName {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, IssuerError> {
        let named = |part: &str| part.split_once('=').is_some_and(|(key, _)| !key.is_empty());
        if attributes(text).all(named) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IssuerError(text.to_owned()))
        }
    }
}

/// The `KEY=VALUE` parts of a name: what stands between commas and plus signs that no backslash escapes.
fn attributes(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    let part_ends = move |sign: char| {
        let ends = !escaped && matches!(sign, ',' | '+');
        escaped = !escaped && sign == '\\';
        ends
    };
    text.split(part_ends)
}

impl TryFrom<String> for IssuerName {
    type Error = IssuerError;

    fn try_from(text: String) -> Result<Self, IssuerError> {
        text.parse()
    }
}

impl From<IssuerName> for String {
    fn from(name: IssuerName) -> Self {
        name.0
    }
}

impl fmt::Display for IssuerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A mesh in which something may be wrong: enough to check policies against it, so that all mistakes show in
/// one run, and good for nothing else.
#[derive(Debug, Clone)]
pub struct Draft(pub(crate) Mesh);

impl Draft {
    /// Reads the text of a `mesh.yaml`, as far as it can be read.
    pub fn read(file: &str, text: &str) -> (Option<Self>, Vec<Finding>) {
        let (mesh, findings) = read::draft(file, text);
        (mesh.map(Self), findings)
    }

    /// The namespace whose policies hold in all others.
    pub fn root_namespace(&self) -> &Namespace {
        &self.0.root_namespace
    }

    /// The mesh, if the findings from reading it hold no error.
    pub fn sound(self, findings: &[Finding]) -> Option<Mesh> {
        if has_errors(findings) { None } else { Some(self.0) }
    }
}

impl Mesh {
    /// Reads the text of a `mesh.yaml`; without errors among the findings there is a mesh.
    ///
    /// ```
    /// let text = "
    /// apiVersion: isthmus.dev/v1alpha1
    /// kind: Mesh
    /// metadata: {name: mesh1}
    /// spec:
    ///   clusters:
    ///   - {name: cluster1, network: network1}
    /// ";
    /// let (mesh, findings) = policy::Mesh::read("mesh.yaml", text);
    /// assert!(findings.is_empty());
    /// assert_eq!(mesh.unwrap().clusters().count(), 1);
    /// ```
    pub fn read(file: &str, text: &str) -> (Option<Self>, Vec<Finding>) {
        let (draft, findings) = Draft::read(file, text);
        (draft.and_then(|draft| draft.sound(&findings)), findings)
    }

    /// Its name, which is Istio's mesh id.
    pub fn name(&self) -> &str {
        self.home.name.as_str()
    }

    /// The mesh itself and then those that it is federated with, by name.
    pub fn meshes(&self) -> impl Iterator<Item = &Federated> {
        std::iter::once(&self.home).chain(self.others.values())
    }

    /// The trust domain of its identities, unless a cluster says another.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.home.trust_domain
    }

    /// The trust domains that identities of its clusters are of.
    pub fn trust_domains(&self) -> BTreeSet<&TrustDomain> {
        self.clusters().map(|cluster| &cluster.trust_domain).collect()
    }

    /// Whether its Envoys give a peer's certificate away, which proves the source cluster; `None` where
    /// `mesh.yaml` does not say the version. They do from 1.38 on, which Istio 1.30 brought.
    pub fn gives_certificates(&self) -> Option<bool> {
        self.installation.version.map(|version| version >= IstioVersion { major: 1, minor: 30 })
    }

    /// What its proxies do with requests when the filter breaks.
    pub fn on_failure(&self) -> OnFailure {
        const RELOADS: IstioVersion = IstioVersion { major: 1, minor: 27 };
        let reloads = self.installation.version.is_none_or(|version| version >= RELOADS);
        self.on_failure.unwrap_or(if reloads { OnFailure::Reload } else { OnFailure::Close })
    }

    /// How Istio is installed.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// How services of other clusters are named, where control planes are replicated and none knows another's services.
    pub fn global_names(&self) -> Option<&GlobalNames> {
        self.global.as_ref()
    }

    /// For how long a token holds, where sidecars sign them.
    pub fn tokens(&self) -> Option<Life> {
        self.tokens
    }

    /// The clusters whose trust domain proves them: each has a root CA that signs for no other cluster. A root signs
    /// for every trust domain alike, so a domain under a shared one says only what any CA below that root likes.
    pub fn proven_by_trust_domain(&self) -> impl Iterator<Item = &Cluster> {
        let roots: BTreeMap<_, _> = self.meshes().map(|mesh| (&mesh.name, &mesh.root)).collect();
        let mut under: BTreeMap<_, Vec<&Cluster>> = BTreeMap::new();
        for cluster in self.clusters() {
            under.entry(roots.get(&cluster.mesh).copied()).or_default().push(cluster);
        }
        let several = under.len() > 1;
        let alone = move |clusters: Vec<_>| <[_; 1]>::try_from(clusters).ok().filter(|_| several);
        under.into_values().filter_map(alone).flatten()
    }

    /// Whether a trust domain or tokens prove each cluster: what tells a source where certificates are not shown.
    pub fn proves_without_certificates(&self) -> bool {
        let by_domain: BTreeSet<_> = self.proven_by_trust_domain().map(|cluster| &cluster.name).collect();
        let signs = |cluster: &Cluster| self.tokens.is_some() && !cluster.token_keys.is_empty();
        self.clusters().all(|cluster| by_domain.contains(&cluster.name) || signs(cluster))
    }

    /// Which of the eight ways of building a mesh it is.
    pub fn model(&self) -> Model {
        let networks: BTreeSet<_> = self.clusters().map(|cluster| &cluster.network).collect();
        let primaries = |mesh: &Federated| {
            let own = self.clusters().filter(|cluster| cluster.mesh == mesh.name);
            own.filter(|cluster| cluster.control_plane == ControlPlane::Primary).count()
        };
        Model {
            networks: Count::of(networks.len()),
            control_planes: Count::of(self.meshes().map(primaries).max().unwrap_or_default()),
            meshes: Count::of(self.meshes().count()),
        }
    }

    /// Istio's namespace, whose policies hold in all others.
    pub fn root_namespace(&self) -> &Namespace {
        &self.root_namespace
    }

    /// The clusters, by name.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values()
    }

    /// The cluster of this name.
    pub fn cluster(&self, name: &ClusterName) -> Option<&Cluster> {
        self.clusters.get(name)
    }

    /// The services that `mesh.yaml` lists, by name.
    pub fn services(&self) -> impl Iterator<Item = (&Service, &Listing)> {
        self.services.iter()
    }

    /// What `mesh.yaml` says of a service.
    pub fn service(&self, service: &Service) -> Option<&Listing> {
        self.services.get(service)
    }

    /// The clusters that run a service: every one, unless `mesh.yaml` says which.
    pub fn hosts(&self, service: &Service) -> BTreeSet<ClusterName> {
        match self.services.get(service) {
            Some(listing) => listing.clusters.clone(),
            None => self.clusters.keys().cloned().collect(),
        }
    }

    /// The same mesh with other keys for its tokens: how it is played where no one has the secrets of its own.
    #[must_use]
    pub fn with_token_keys(mut self, keys: &BTreeMap<ClusterName, (KeyId, PublicKey)>) -> Self {
        for (name, (id, key)) in keys {
            if let Some(cluster) = self.clusters.get_mut(name) {
                cluster.token_keys = BTreeMap::from([(id.clone(), *key)]);
            }
        }
        self
    }

    /// The same mesh at other addresses: how the lab plays it on loopback.
    #[must_use]
    pub fn relocated(mut self, addresses: &BTreeMap<ClusterName, (Cidr, IpAddr)>) -> Self {
        for (name, (pods, gateway)) in addresses {
            if let Some(cluster) = self.clusters.get_mut(name) {
                cluster.pod_cidr = Some(*pods);
                let service = GatewayService::default();
                cluster.gateway = Some(Gateway { address: gateway.to_string(), port: GATEWAY_PORT, service });
            }
        }
        self
    }
}
