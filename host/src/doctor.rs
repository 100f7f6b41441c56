//! What is wrong in a mesh that exists: the objects of its clusters against what `mesh.yaml` says.
//!
//! Looking and judging are apart. [`Inventory`] is what was seen of a cluster, in a live one or in a directory of
//! manifests; [`examine`] is pure. A check whose objects could not be seen is skipped, with the reason: what nobody
//! looked at has not passed.

mod access;
mod attempts;
mod authority;
mod code;
mod control;
mod dns;
mod federation;
mod gateways;
mod imports;
mod installer;
mod inventory;
mod look;
mod networks;
mod object;
mod plugins;
mod probe;
pub mod report;
mod secrets;
mod services;
mod tried;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};

use policy::Mesh;
use policy::compile::Plans;
use policy::finding::Severity;
use policy::mesh::Cluster;
use policy::name::ClusterName;
use time::OffsetDateTime;

use crate::manifest::{ISTIO_NAMESPACE, read_by};
pub use attempts::{Answer, Tried};
pub use code::{Category, Code};
pub use inventory::{Inventory, InventoryError, Kind, Seen};
pub use look::look;
pub use object::Object;
pub use probe::probe;

/// A check of one cluster, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which check.
    pub code: Code,
    /// Of which cluster.
    pub cluster: ClusterName,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All is as it should be.
    Passed,
    /// It was not made.
    Skipped(Skip),
    /// Something is wrong: each by itself, never empty.
    Failed(Vec<Failure>),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whether requests fail of it, or may.
    pub severity: Severity,
    /// What, in lower case.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Failure {
    fn error(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let (message, hint) = (object::plain(&message.into()), object::plain(&hint.into()));
        Self { severity: Severity::Error, message, hint }
    }

    fn warning(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message, hint) }
    }
}

/// Why a check was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// It says nothing of this cluster.
    Idle(String),
    /// What it looks at was not seen.
    Unseen(String),
}

impl Skip {
    fn idle(why: impl Into<String>) -> Self {
        Self::Idle(object::plain(&why.into()))
    }

    fn unseen(why: impl Into<String>) -> Self {
        Self::Unseen(object::plain(&why.into()))
    }
}

/// What a check comes to: what is wrong, if it could be made.
type Found = Result<Vec<Failure>, Skip>;

/// What is known when a mesh is examined.
#[derive(Debug, Clone, Copy)]
pub struct Examined<'e> {
    /// The mesh as it should be.
    pub mesh: &'e Mesh,
    /// What its policies come to.
    pub plans: &'e Plans,
    /// What was seen of each cluster.
    pub seen: &'e BTreeMap<ClusterName, Seen>,
    /// When that was.
    pub now: OffsetDateTime,
}

/// One cluster, as the checks look at it.
#[derive(Debug, Clone, Copy)]
struct Visit<'v> {
    all: Examined<'v>,
    cluster: &'v Cluster,
    inventory: &'v Inventory,
    imports: &'v imports::Imports,
}

impl<'v> Visit<'v> {
    fn mesh(&self) -> &'v Mesh {
        self.all.mesh
    }

    /// Istio's namespace: where it runs, wherever its policies for all others stand.
    fn root(&self) -> &'static str {
        ISTIO_NAMESPACE
    }

    /// The objects of a kind, if they could be seen.
    fn of(&self, kind: Kind) -> Result<&'v [Object], Skip> {
        self.inventory.of(kind)
    }

    /// What was seen of another cluster, if anything was.
    fn other(&self, name: &ClusterName) -> Option<&'v Inventory> {
        match self.all.seen.get(name)? {
            Seen::Objects(inventory) => Some(inventory),
            Seen::Nothing(_) | Seen::Absent(_) => None,
        }
    }

    /// The other clusters of the mesh.
    fn others(&self) -> impl Iterator<Item = &'v Cluster> {
        let own = &self.cluster.name;
        self.all.mesh.clusters().filter(move |other| other.name != *own)
    }

    /// Whether anybody comes in by gateways: across networks, or from a control plane that does not know what is inside.
    fn is_entered(&self) -> bool {
        let mesh = self.all.mesh;
        networks::are_several(self) || mesh.meshes().count() > 1 || mesh.global_names().is_some()
    }

    /// The clusters whose services the control plane of this one knows by itself.
    fn known(&self) -> BTreeSet<&'v ClusterName> {
        let primary = self.all.mesh.primary(self.cluster);
        let read = read_by(self.all.mesh, primary).into_iter().map(|read| &read.name);
        read.chain([&primary.name]).collect()
    }
}

type Test = fn(&Visit<'_>) -> Found;

/// Every check, in the order in which a person would make them.
const TESTS: &[(Code, Test)] = &[
    (Code::Readable, access::readable),
    (Code::Kubernetes, control::kubernetes),
    (Code::ControlPlane, control::control_plane),
    (Code::IstioVersion, control::istio_version),
    (Code::Settings, control::settings),
    (Code::TrustDomain, control::trust_domain),
    (Code::WayToIstiod, control::way_to_istiod),
    (Code::Definitions, control::definitions),
    (Code::CaSecret, authority::present),
    (Code::CaSound, authority::sound),
    (Code::CaLasting, authority::lasting),
    (Code::CaTelling, authority::telling),
    (Code::CaTrusted, authority::trusted),
    (Code::CaSpread, authority::spread),
    (Code::MeshRoots, federation::trusted),
    (Code::RemoteSecret, secrets::present),
    (Code::RemoteSecretName, secrets::named),
    (Code::RemoteSecretServer, secrets::server),
    (Code::RemoteSecretTaken, secrets::taken),
    (Code::RemoteSecretToken, secrets::token),
    (Code::Reader, secrets::reader),
    (Code::RemoteSecretWorks, tried::secrets),
    (Code::ServerAnswers, tried::server),
    (Code::ClustersRead, tried::read),
    (Code::NetworkLabel, networks::label),
    (Code::Led, networks::led),
    (Code::PodNetwork, networks::pods),
    (Code::PodsReach, tried::pods),
    (Code::GatewayService, gateways::service),
    (Code::GatewayAddress, gateways::address),
    (Code::GatewayReady, gateways::ready),
    (Code::GatewayOpen, gateways::open),
    (Code::Exposure, gateways::exposure),
    (Code::GatewayAnswers, tried::gateway),
    (Code::GatewayShows, tried::service),
    (Code::Webhook, webhooks::leads_somewhere),
    (Code::Injection, webhooks::injection),
    (Code::Validation, webhooks::validation),
    (Code::ServiceThere, services::there),
    (Code::ServiceSame, services::same),
    (Code::Endpoints, services::endpoints),
    (Code::Plugins, plugins::present),
    (Code::Running, plugins::running),
    (Code::Import, imports::present),
    (Code::ImportWay, imports::ways),
    (Code::ImportSni, imports::sni),
    (Code::ImportAddress, imports::addresses),
    (Code::ImportDns, dns::answers),
    (Code::ImportName, imports::names),
];

/// Makes every check of every cluster.
pub fn examine(all: Examined<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    let imports = imports::Imports::of(all);
    for cluster in all.mesh.clusters() {
        let check = |code, outcome| Check { code, cluster: cluster.name.clone(), outcome };
        match all.seen.get(&cluster.name) {
            Some(Seen::Objects(inventory)) => {
                let is_live = inventory.server.is_some();
                let files = || Outcome::Skipped(Skip::idle("files have no server"));
                checks.push(check(Code::Reachable, if is_live { Outcome::Passed } else { files() }));
                let visit = Visit { all, cluster, inventory, imports: &imports };
                checks.extend(TESTS.iter().map(|(code, test)| check(*code, outcome(test(&visit)))));
            }
            Some(Seen::Nothing(why)) => {
                let failure = access::unreachable(cluster, why);
                checks.push(check(Code::Reachable, Outcome::Failed(vec![failure])));
            }
            Some(Seen::Absent(why)) => {
                let failure = access::absent(why);
                checks.push(check(Code::Reachable, Outcome::Failed(vec![failure])));
            }
            None => {
                let why = Skip::unseen("nobody looked: the cluster was not asked for");
                checks.push(check(Code::Reachable, Outcome::Skipped(why)));
            }
        }
    }
    checks
}

fn outcome(found: Found) -> Outcome {
    match found {
        Ok(failures) if failures.is_empty() => Outcome::Passed,
        Ok(failures) => Outcome::Failed(failures),
        Err(skip) => Outcome::Skipped(skip),
    }
}
