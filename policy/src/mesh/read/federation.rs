//! Meshes that trust each other: each its own trust domain, each its own root.

use std::collections::BTreeMap;

use super::{Cluster, Draft, Federated};
use crate::document::{Fields, Located, Node};
use crate::finding::{Code, Finding, Place};
use crate::name::{ClusterName, MeshName, RootName, TrustDomain};

/// A mesh with the place that findings about it point at.
struct DraftMesh {
    at: Place,
    mesh: Federated,
}

impl DraftMesh {
    fn of(name: Located<MeshName>, trust_domain: TrustDomain, root: Option<Located<RootName>>) -> Self {
        let root = root.map_or_else(|| name.value.own_root(), |root| root.value);
        Self { at: name.at, mesh: Federated { name: name.value, trust_domain, root } }
    }
}

/// The mesh that the file is about: what its metadata and its spec say of it.
type Home = (Located<MeshName>, Option<Located<TrustDomain>>, Option<Located<RootName>>);

/// All meshes of the file.
pub(super) struct Meshes {
    home: DraftMesh,
    others: Vec<DraftMesh>,
    /// The names of those that could not be read; `None` where the name was what could not.
    misread: Vec<Option<MeshName>>,
}

impl Meshes {
    /// Reads the meshes that the one of the file is federated with.
    pub(super) fn read(home: Home, list: Vec<Node>, findings: &mut Vec<Finding>) -> Self {
        let (name, trust_domain, root) = home;
        let trust_domain = trust_domain.map_or_else(TrustDomain::cluster_local, |domain| domain.value);
        let home = DraftMesh::of(name, trust_domain, root);
        let mut meshes = Self { home, others: Vec::new(), misread: Vec::new() };
        for node in list {
            match other(node, findings) {
                Ok(mesh) => meshes.others.push(mesh),
                Err(name) => meshes.misread.push(name),
            }
        }
        meshes
    }

    /// The mesh that the file is about.
    pub(super) fn home(&self) -> &Federated {
        &self.home.mesh
    }

    /// Gives every cluster its trust domain, and checks meshes and clusters against each other; `whole`: all
    /// clusters could be read.
    pub(super) fn join(
        self,
        drafts: &mut [Draft],
        whole: bool,
        findings: &mut Vec<Finding>,
    ) -> (Federated, BTreeMap<MeshName, Federated>) {
        let known = self.told_apart(findings);
        give_trust_domains(&known, drafts, findings);
        let mut owners: BTreeMap<&TrustDomain, (&Draft, &DraftMesh)> = BTreeMap::new();
        for draft in drafts.iter() {
            let Some(own) = known.iter().find(|known| known.mesh.name == draft.cluster.mesh) else {
                findings.extend(self.unlisted(draft, &known));
                continue;
            };
            let (first, owner) = *owners.entry(&draft.cluster.trust_domain).or_insert((draft, own));
            let foreign = known.iter().find_map(|other| foreign(draft, own, other));
            findings.extend(foreign.or_else(|| twofold(draft, own, first, owner)));
        }
        if whole && !drafts.is_empty() {
            let empty = |mesh: &&&DraftMesh| !drafts.iter().any(|draft| draft.cluster.mesh == mesh.mesh.name);
            findings.extend(known.iter().filter(empty).map(|mesh| self.without_clusters(mesh)));
        }
        let others = self.others.into_iter().map(|other| (other.mesh.name.clone(), other.mesh));
        (self.home.mesh, others.collect())
    }

    /// One mesh of each name, the first.
    fn told_apart(&self, findings: &mut Vec<Finding>) -> Vec<&DraftMesh> {
        let mut known = vec![&self.home];
        for other in &self.others {
            match known.iter().find(|before| before.mesh.name == other.mesh.name) {
                Some(first) => findings.push(Finding {
                    at: other.at.clone(),
                    code: Code::Duplicate,
                    message: format!("mesh {:?} stands twice", other.mesh.name.as_str()),
                    hint: format!("the first is in line {}; a name is one mesh's", first.at.line),
                }),
                None => {
                    findings.extend(known.iter().find_map(|before| mixed(before, other)));
                    known.push(other);
                }
            }
        }
        known
    }

    fn unlisted(&self, draft: &Draft, known: &[&DraftMesh]) -> Option<Finding> {
        let mesh = draft.mesh.as_ref()?;
        let misread = |name: &Option<MeshName>| name.as_ref().is_none_or(|name| *name == mesh.value);
        if self.misread.iter().any(misread) {
            return None;
        }
        let names: Vec<&str> = known.iter().map(|known| known.mesh.name.as_str()).collect();
        Some(Finding {
            at: mesh.at.clone(),
            code: Code::NotInMesh,
            message: format!("mesh {:?} is not listed", mesh.value.as_str()),
            hint: format!("there are {}; list others under meshes", names.join(", ")),
        })
    }

    fn without_clusters(&self, mesh: &DraftMesh) -> Finding {
        let name = &mesh.mesh.name;
        let hint = if *name == self.home.mesh.name {
            "the clusters of the mesh that metadata names leave mesh out".to_owned()
        } else {
            format!("say mesh: {name} at its clusters, or leave it out")
        };
        Finding {
            at: mesh.at.clone(),
            code: Code::NoEffect,
            message: format!("no cluster is of mesh {:?}", name.as_str()),
            hint,
        }
    }
}

/// A mesh that the one of the file is federated with; or, where it could not be read, its name.
fn other(node: Node, findings: &mut Vec<Finding>) -> Result<DraftMesh, Option<MeshName>> {
    let mut fields = Fields::open(node, "mesh", findings).ok_or(None)?;
    let name = fields.required_value::<MeshName>("name");
    let trust_domain = fields.required_value::<TrustDomain>("trustDomain");
    let root = fields.optional_value::<RootName>("root");
    fields.close();
    match (name, trust_domain) {
        (Some(name), Some(trust_domain)) => Ok(DraftMesh::of(name, trust_domain.value, root)),
        (name, _) => Err(name.map(|name| name.value)),
    }
}

/// A cluster's trust domain is what it says, or its mesh's. A remote has its primary's, whatever it says: the
/// primary's istiod names its workloads.
fn give_trust_domains(known: &[&DraftMesh], drafts: &mut [Draft], findings: &mut Vec<Finding>) {
    for draft in drafts.iter_mut() {
        let said = draft.trust_domain.as_ref().map(|domain| &domain.value);
        let own = known.iter().find(|known| known.mesh.name == draft.cluster.mesh);
        if let Some(domain) = said.or(own.map(|own| &own.mesh.trust_domain)) {
            draft.cluster.trust_domain = domain.clone();
        }
    }
    let primaries: BTreeMap<ClusterName, (MeshName, TrustDomain)> = drafts
        .iter()
        .filter(|draft| draft.remote_of.is_none())
        .map(|draft| {
            let Cluster { name, mesh, trust_domain, .. } = &draft.cluster;
            (name.clone(), (mesh.clone(), trust_domain.clone()))
        })
        .collect();
    for draft in drafts.iter_mut() {
        let Some(primary) = &draft.remote_of else { continue };
        let Some((mesh, domain)) = primaries.get(&primary.value) else { continue };
        if draft.cluster.mesh != *mesh {
            continue;
        }
        draft.cluster.trust_domain = domain.clone();
        if let Some(said) = draft.trust_domain.as_ref().filter(|said| said.value != *domain) {
            findings.push(Finding {
                at: said.at.clone(),
                code: Code::BadValue,
                message: format!(
                    "trustDomain: {} is a remote of {}, which gives identities of {domain}",
                    draft.name.value, primary.value
                ),
                hint: "leave it out: a remote has the trust domain of its primary".to_owned(),
            });
        }
    }
}

/// Two meshes that share what must be each one's own, or half of what must be shared.
fn mixed(one: &DraftMesh, other: &DraftMesh) -> Option<Finding> {
    let (first, second) = (&one.mesh, &other.mesh);
    let same = (first.root == second.root, first.trust_domain == second.trust_domain);
    let (message, hint) = match same {
        (false, false) | (true, true) => return None,
        (true, false) => (
            format!(
                "meshes {} and {} share root {} and not a trust domain",
                first.name, second.name, first.root
            ),
            "a root signs for every trust domain alike, so either mesh could make the other's identities: give each a root of its own, or both one trust domain",
        ),
        (false, true) => (
            format!(
                "meshes {} and {} share trust domain {} and not a root",
                first.name, second.name, first.trust_domain
            ),
            "the same identity would mean two workloads: give each mesh a trust domain of its own, or both one root",
        ),
    };
    Some(Finding { at: other.at.clone(), code: Code::MixedTrust, message, hint: hint.to_owned() })
}

/// A cluster whose trust domain is that of a mesh with another root.
fn foreign(draft: &Draft, own: &DraftMesh, other: &DraftMesh) -> Option<Finding> {
    let said = draft.trust_domain.as_ref()?;
    let taken = other.mesh.root != own.mesh.root && other.mesh.trust_domain == said.value;
    taken.then(|| Finding {
        at: said.at.clone(),
        code: Code::MixedTrust,
        message: format!(
            "cluster {} of mesh {} has the trust domain of mesh {}, and not its root",
            draft.name.value, own.mesh.name, other.mesh.name
        ),
        hint: format!("leave trustDomain out, or make the cluster one of mesh: {}", other.mesh.name),
    })
}

/// A cluster whose trust domain is that of a cluster under another root.
fn twofold(draft: &Draft, own: &DraftMesh, first: &Draft, owner: &DraftMesh) -> Option<Finding> {
    let said = draft.trust_domain.as_ref()?;
    (own.mesh.root != owner.mesh.root).then(|| Finding {
        at: said.at.clone(),
        code: Code::MixedTrust,
        message: format!(
            "cluster {} of mesh {} has the trust domain of {} of mesh {}, and not its root",
            draft.name.value, own.mesh.name, first.name.value, owner.mesh.name
        ),
        hint: "the same identity would mean two workloads: leave trustDomain out, or give each mesh its own"
            .to_owned(),
    })
}
