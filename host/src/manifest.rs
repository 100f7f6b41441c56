//! What every cluster of a mesh needs so that it is one: objects for its API server, and inputs for what installs
//! Istio. Pure: the same mesh, policies and addresses give the same items, byte for byte.
//!
//! ```text
//! mesh ─┬─> namespace      network, and whose control plane it is
//!       ├─> control plane  an IstioOperator file, or values for charts
//!       ├─> gateway        the east-west gateway
//! plans ┼─> exposure       what it passes on, and istiod for remotes
//! book ─┴─> names          Services, ServiceEntries and DNS by which clusters call each other
//! ```
//!
//! What Istio itself reads (a `Gateway`, a `ServiceEntry`) stands where it looks: in the cluster of the control plane.
//! A remote's API server is asked for Services and pods, and for nothing else.

pub mod addresses;
mod dns;
mod egress;
mod exposure;
pub mod folder;
mod gateway;
mod ground;
mod imports;
mod istio;
mod names;
mod order;
mod page;

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy::Mesh;
use policy::cidr::Cidr;
use policy::compile::Plans;
use policy::name::{ClusterName, MeshName, NetworkName, RootName, Service};
use serde_json::{Value, json};

use addresses::Book;
use ground::Ground;
pub(crate) use ground::shows;
pub(crate) use imports::Wanted;
pub(crate) use istio::charts;
pub use order::{Step, read_by, steps};

/// The oldest and the newest Istio (1.x) for which it is rendered.
pub const KNOWN: (u16, u16) = (29, 32);

/// The namespace that Istio runs in.
pub const ISTIO_NAMESPACE: &str = "istio-system";

/// What a thing is for: what comes earlier must be there before what comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Istio's namespace, with its network.
    Namespace,
    /// The CA of the cluster. Nothing is rendered for it: it holds a key.
    Trust,
    /// Istio itself.
    ControlPlane,
    /// The way into the cluster's network.
    Gateway,
    /// What that gateway passes on.
    Exposure,
    /// Access to other clusters' API servers. Nothing is rendered for it: it holds a token.
    Secrets,
    /// The names of services that run elsewhere.
    Names,
}

impl Phase {
    /// Every one, in order.
    pub const ALL: [Self; 7] = [
        Self::Namespace,
        Self::Trust,
        Self::ControlPlane,
        Self::Gateway,
        Self::Exposure,
        Self::Secrets,
        Self::Names,
    ];

    /// What the names of its files begin with.
    pub fn number(self) -> u8 {
        match self {
            Self::Namespace => 10,
            Self::Trust => 20,
            Self::ControlPlane => 30,
            Self::Gateway => 40,
            Self::Exposure => 50,
            Self::Secrets => 60,
            Self::Names => 70,
        }
    }

    /// As people and programs call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Trust => "trust",
            Self::ControlPlane => "control-plane",
            Self::Gateway => "gateway",
            Self::Exposure => "exposure",
            Self::Secrets => "secrets",
            Self::Names => "names",
        }
    }
}

/// One thing that a cluster needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is for.
    pub phase: Phase,
    /// The file that it stands in, without number and ending. Several objects can share one.
    pub file: &'static str,
    /// The thing.
    pub content: Content,
}

/// What is done with an item.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An object of Kubernetes, for server-side apply.
    Object(Value),
    /// A file for `istioctl install -f`.
    IstioOperator(Value),
    /// A release for `helm upgrade --install`.
    Helm(Release),
}

/// A chart of Istio with the values it is installed with.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Its name.
    pub name: &'static str,
    /// The chart, as `istio/istiod`.
    pub chart: &'static str,
    /// Where it is installed.
    pub namespace: &'static str,
    /// The versions of the chart that will do; `None`: the newest.
    pub version: Option<String>,
    /// Its values.
    pub values: Value,
}

impl Item {
    fn object(phase: Phase, file: &'static str, object: Value) -> Self {
        Self { phase, file, content: Content::Object(object) }
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        let kind = match &self.content {
            Content::Object(_) => "",
            Content::IstioOperator(_) => ".istioctl",
            Content::Helm(_) => ".helm",
        };
        format!("{}-{}{kind}.yaml", self.phase.number(), self.file)
    }
}

/// The items of each cluster, in the order of their phases.
pub type Manifest = BTreeMap<ClusterName, Vec<Item>>;

/// What a mesh does not say of itself.
#[derive(Debug, Clone, Default)]
pub struct Options<'o> {
    /// The addresses that names were given before.
    pub book: Book,
    /// The root certificates of meshes, in PEM.
    pub roots: BTreeMap<RootName, String>,
    /// Certificates of two roots of one mesh are about, since its root is being changed.
    pub changing_root: bool,
    /// Only these clusters are asked for; empty: all of them.
    pub clusters: &'o [ClusterName],
}

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A remote that cannot find its control plane.
    #[error(
        "nothing says where {remote} finds the istiod of {primary}: give {primary} a gateway, or controlPlane: {{primary: true, address: ...}}"
    )]
    NoIstiod {
        /// The cluster without a control plane.
        remote: ClusterName,
        /// The cluster that has it.
        primary: ClusterName,
    },
    /// A mesh whose certificates could not be told from any others.
    #[error(
        "there is no root certificate {root}, which signs for mesh {mesh}: put it into {root}.pem where --roots says, or into roots/ beside mesh.yaml"
    )]
    NoRoot {
        /// The mesh.
        mesh: MeshName,
        /// Its root.
        root: RootName,
    },
    /// Services that cannot be entered from outside.
    #[error("no gateway leads to {service} in {cluster}, on network {network}")]
    NoGateway {
        /// The service.
        service: Service,
        /// A cluster that runs it.
        cluster: ClusterName,
        /// Its network.
        network: NetworkName,
    },
    /// More names than addresses.
    #[error("{range} has no address left for {service}: widen range under global in mesh.yaml")]
    Full {
        /// The addresses.
        range: Cidr,
        /// The service that got none.
        service: Service,
    },
}

/// Renders what every cluster needs.
pub fn render(mesh: &Mesh, plans: &Plans, options: &Options<'_>) -> Result<Manifest, ManifestError> {
    let ground = Ground::new(mesh, plans, options)?;
    let mut manifest = Manifest::new();
    for cluster in mesh.clusters() {
        if !options.clusters.is_empty() && !options.clusters.contains(&cluster.name) {
            continue;
        }
        let mut items = vec![istio::namespace(&ground, cluster)];
        items.extend(istio::control_plane(&ground, cluster)?);
        items.extend(gateway::east_west(&ground, cluster));
        items.extend(egress::gateway(&ground, cluster));
        if ground::is_primary(cluster) {
            items.extend(exposure::services(&ground, cluster));
            items.extend(exposure::istiod(&ground, cluster));
            items.extend(imports::entries(&ground, cluster));
        }
        items.extend(names::stubs(&ground, cluster));
        items.extend(dns::items(&ground, cluster));
        items.sort_by_key(|item| item.phase);
        manifest.insert(cluster.name.clone(), items);
    }
    Ok(manifest)
}

/// What the clusters of each control plane need to call services of others.
pub(crate) fn wanted(
    mesh: &Mesh,
    plans: &Plans,
    book: Book,
) -> Result<BTreeMap<ClusterName, Vec<Wanted>>, ManifestError> {
    let options = Options { book, ..Options::default() };
    let ground = Ground::new(mesh, plans, &options)?;
    let primaries = mesh.clusters().filter(|cluster| ground::is_primary(cluster));
    Ok(primaries.map(|primary| (primary.name.clone(), imports::wanted(&ground, primary))).collect())
}

/// An object that isthmus owns.
fn object(api_version: &str, kind: &str, name: &str, namespace: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": metadata(name, namespace),
        "spec": spec,
    })
}

fn metadata(name: &str, namespace: &str) -> Value {
    json!({
        "name": name,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": "isthmus"},
    })
}

/// How Istio finds endpoints at these addresses: names are resolved, and one name makes it so for all.
fn resolution<'a>(mut addresses: impl Iterator<Item = &'a str>) -> &'static str {
    if addresses.all(|address| address.parse::<IpAddr>().is_ok()) { "STATIC" } else { "DNS" }
}

#[cfg(test)]
mod tests;
