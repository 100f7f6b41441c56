//! Meshes that trust each other: each its own trust domain, each its own root.

use std::collections::BTreeMap;

use super::{Draft, Federated};
use crate::document::{Fields, Located, Node};
use crate::finding::{Code, Finding, Place};
use crate::name::{MeshName, RootName, TrustDomain};

/// A mesh with the place that findings about it point at.
pub(super) struct DraftMesh {
    at: Place,
    pub(super) mesh: Federated,
}

/// The mesh that the file is about.
pub(super) fn home(
    name: Located<MeshName>,
    trust_domain: Option<Located<TrustDomain>>,
    root: Option<Located<RootName>>,
) -> DraftMesh {
    let trust_domain = trust_domain.map_or_else(TrustDomain::cluster_local, |domain| domain.value);
    let root = root.map_or_else(|| name.value.own_root(), |root| root.value);
    DraftMesh { at: name.at, mesh: Federated { name: name.value, trust_domain, root } }
}

/// A mesh that it is federated with.
pub(super) fn other(node: Node, findings: &mut Vec<Finding>) -> Option<DraftMesh> {
    let mut fields = Fields::open(node, "mesh", findings)?;
    let name = fields.required_value::<MeshName>("name");
    let trust_domain = fields.required_value::<TrustDomain>("trustDomain");
    let root = fields.optional_value::<RootName>("root");
    fields.close();
    Some(home(name?, Some(trust_domain?), root))
}

/// Gives every cluster the trust domain of its mesh, and checks meshes against each other.
pub(super) fn join(
    home: &DraftMesh,
    others: Vec<DraftMesh>,
    drafts: &mut [Draft],
    findings: &mut Vec<Finding>,
) -> BTreeMap<MeshName, Federated> {
    let mut known: Vec<&DraftMesh> = vec![home];
    for other in &others {
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
    for draft in drafts.iter_mut() {
        match known.iter().find(|known| known.mesh.name == draft.cluster.mesh) {
            Some(own) => {
                let said = draft.trust_domain.as_ref().map(|domain| domain.value.clone());
                draft.cluster.trust_domain = said.unwrap_or_else(|| own.mesh.trust_domain.clone());
                findings.extend(known.iter().find_map(|other| foreign(draft, own, other)));
            }
            None => findings.extend(draft.mesh.as_ref().map(|mesh| unlisted(mesh, &known))),
        }
    }
    let empty = |other: &&DraftMesh| !drafts.iter().any(|draft| draft.cluster.mesh == other.mesh.name);
    findings.extend(others.iter().filter(empty).map(|other| Finding {
        at: other.at.clone(),
        code: Code::NoEffect,
        message: format!("no cluster is of mesh {:?}", other.mesh.name.as_str()),
        hint: format!("say mesh: {} at its clusters, or leave it out", other.mesh.name),
    }));
    others.into_iter().map(|other| (other.mesh.name.clone(), other.mesh)).collect()
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

fn unlisted(mesh: &Located<MeshName>, known: &[&DraftMesh]) -> Finding {
    let names: Vec<&str> = known.iter().map(|known| known.mesh.name.as_str()).collect();
    Finding {
        at: mesh.at.clone(),
        code: Code::NotInMesh,
        message: format!("mesh {:?} is not listed", mesh.value.as_str()),
        hint: format!("there are {}; list others under meshes", names.join(", ")),
    }
}
