//! The one door from the text of a `mesh.yaml` to a [`Mesh`].

mod addresses;
mod check;
mod federation;
mod install;
mod services;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};

use federation::Meshes;
use tokens::TokenKeys;

use super::{Cluster, ControlPlane, Federated, Gateway, IssuerName, Mesh, Target, Whereabouts};
use crate::cidr::Cidr;
use crate::document::{self, Fields, Located, Node};
use crate::finding::{Code, Finding, Place};
use crate::name::{ClusterName, MeshName, Namespace, NetworkName, RootName, TrustDomain};

/// A cluster with the places that findings about it point at.
struct Draft {
    name: Located<ClusterName>,
    network: Located<NetworkName>,
    mesh: Option<Located<MeshName>>,
    trust_domain: Option<Located<TrustDomain>>,
    target: Option<Located<String>>,
    api_server: Option<Located<String>>,
    istiod: Option<Located<String>>,
    gateway: Option<Located<Gateway>>,
    pod_cidr: Option<Located<Cidr>>,
    remote_of: Option<Located<ClusterName>>,
    issuers: Vec<Located<IssuerName>>,
    token_keys: Option<TokenKeys>,
    cluster: Cluster,
}

pub(super) fn draft(file: &str, text: &str) -> (Option<Mesh>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut documents = document::read(file, text, &mut findings).into_iter();
    let mesh = match documents.next() {
        Some(first) => document_of(first, &mut findings),
        None if findings.is_empty() => {
            findings.push(Finding {
                at: Place { file: file.into(), line: 1, column: 1, width: 1 },
                code: Code::MissingKey,
                message: "this file holds no document".to_owned(),
                hint: "a mesh.yaml holds one document of kind Mesh".to_owned(),
            });
            None
        }
        None => None,
    };
    findings.extend(documents.map(|extra| Finding {
        at: extra.at,
        code: Code::Duplicate,
        message: "a second document in a mesh.yaml".to_owned(),
        hint: "policies stand in files of their own; a second mesh has a mesh.yaml of its own".to_owned(),
    }));
    findings.sort();
    (mesh, findings)
}

fn document_of(node: Node, findings: &mut Vec<Finding>) -> Option<Mesh> {
    let mut fields = Fields::open(node, "Mesh", findings)?;
    let kind = crate::kind::expect(&mut fields, "Mesh");
    let at = fields.at().clone();
    let name = fields.optional_fields("metadata").and_then(|mut metadata| {
        let name = metadata.required_value::<MeshName>("name");
        metadata.close();
        name
    });
    let name = name.unwrap_or_else(|| Located { at, value: MeshName::unnamed() });
    let mesh = fields.required("spec").and_then(|spec| self::spec(spec, name, fields.findings()));
    fields.close();
    kind.and(mesh)
}

fn spec(node: Node, name: Located<MeshName>, findings: &mut Vec<Finding>) -> Option<Mesh> {
    let mut spec = Fields::open(node, "spec", findings)?;
    let trust_domain = spec.optional_value::<TrustDomain>("trustDomain");
    let root = spec.optional_value::<RootName>("root");
    let others = spec.optional_list("meshes").map(|list| list.value).unwrap_or_default();
    let meshes = Meshes::read((name, trust_domain, root), others, spec.findings());
    let istio = spec.optional_fields("istio").map(install::istio).unwrap_or_default();
    let install::Istio { root_namespace, on_failure, mut installation } = istio;
    installation.exports = install::exports(&mut spec);
    installation.cluster_local = install::cluster_local(&mut spec);
    let global = install::global(&mut spec);
    let tokens = spec.optional_fields("tokens").map(tokens::life);
    let clusters = clusters(&mut spec);
    let count = clusters.len();
    let mut drafts: Vec<Draft> =
        clusters.into_iter().filter_map(|node| cluster(node, meshes.home(), spec.findings())).collect();
    let listings = match spec.optional_fields("services") {
        Some(mut services) => services::read(&mut services),
        None => Vec::new(),
    };
    spec.close();
    // Every mention of a cluster that could not be read would be a finding, and a wrong one.
    let whole = drafts.len() == count;
    let (home, others) = meshes.join(&mut drafts, whole, findings);
    give_issuers(&mut drafts);
    check::clusters(&drafts, whole, global.is_some(), findings);
    tokens::check(tokens.is_some(), &drafts, findings);
    let services = services::place(listings, &drafts, whole, findings);
    install::check(&installation, global.as_ref(), &drafts, services.len(), findings);
    if !whole {
        return None;
    }
    Some(Mesh {
        home,
        others,
        root_namespace: root_namespace.unwrap_or_else(Namespace::istio_system),
        installation,
        global: global.map(|global| global.value),
        on_failure,
        tokens: tokens.flatten(),
        clusters: drafts.into_iter().map(|draft| (draft.name.value, draft.cluster)).collect(),
        services,
    })
}

/// Gives remote clusters that say no CAs those of their primaries.
fn give_issuers(drafts: &mut [Draft]) {
    let of: BTreeMap<ClusterName, BTreeSet<IssuerName>> =
        drafts.iter().map(|draft| (draft.name.value.clone(), draft.cluster.issuers.clone())).collect();
    for draft in drafts.iter_mut().filter(|draft| draft.issuers.is_empty()) {
        let primary = draft.remote_of.as_ref().and_then(|primary| of.get(&primary.value));
        let own = || BTreeSet::from([IssuerName::of_intermediate(&draft.name.value)]);
        draft.cluster.issuers = primary.filter(|issuers| !issuers.is_empty()).cloned().unwrap_or_else(own);
    }
}

fn clusters(spec: &mut Fields<'_>) -> Vec<Node> {
    let list = spec.required("clusters").and_then(|node| document::list(node, "clusters", spec.findings()));
    let Some(list) = list else { return Vec::new() };
    if list.value.is_empty() {
        spec.findings().push(Finding {
            at: list.at,
            code: Code::BadValue,
            message: "a mesh without clusters".to_owned(),
            hint: "list one at least: {name: ..., network: ...}".to_owned(),
        });
    }
    list.value
}

fn cluster(node: Node, home: &Federated, findings: &mut Vec<Finding>) -> Option<Draft> {
    let mut fields = Fields::open(node, "cluster", findings)?;
    let name = fields.required_value::<ClusterName>("name");
    let mesh = fields.optional_value::<MeshName>("mesh");
    let trust_domain = fields.optional_value::<TrustDomain>("trustDomain");
    let network = fields.required_value::<NetworkName>("network");
    let region = fields.optional_value("region").map(|region| region.value);
    let labels = fields.optional_fields("labels").map(services::labels).unwrap_or_default();
    let (target, target_at) = target(&mut fields);
    let api_server = fields.optional_value::<String>("apiServer");
    let (remote_of, istiod) =
        fields.optional_fields("controlPlane").map(install::control_plane).unwrap_or_default();
    let gateway = fields.optional_fields("gateway").and_then(install::gateway);
    let dns_server = fields.optional_value("dnsServer").map(|server| server.value);
    let pod_cidr = addresses::pods(&mut fields);
    let issuers = issuers(&mut fields);
    let token_keys = tokens::keys(&mut fields);
    fields.close();
    let (name, network) = (name?, network?);
    let issuers = issuers.unwrap_or_else(|| {
        // An istiod signs for the clusters that it leads.
        let own = || Located { at: name.at.clone(), value: IssuerName::of_intermediate(&name.value) };
        if remote_of.is_some() { Vec::new() } else { vec![own()] }
    });
    let cluster = Cluster {
        name: name.value.clone(),
        mesh: mesh.as_ref().map_or_else(|| home.name.clone(), |mesh| mesh.value.clone()),
        trust_domain: home.trust_domain.clone(),
        network: network.value.clone(),
        region,
        labels,
        target,
        api_server: api_server.as_ref().map(|server| server.value.clone()),
        control_plane: match &remote_of {
            Some(primary) => ControlPlane::RemoteOf(primary.value.clone()),
            None => ControlPlane::Primary,
        },
        whereabouts: Whereabouts { istiod: istiod.as_ref().map(|istiod| istiod.value.clone()), dns_server },
        gateway: gateway.as_ref().map(|gateway| gateway.value.clone()),
        pod_cidr: pod_cidr.as_ref().map(|cidr| cidr.value),
        issuers: issuers.iter().map(|issuer| issuer.value.clone()).collect(),
        token_keys: tokens::by_name(token_keys.as_ref()),
    };
    Some(Draft {
        name,
        network,
        mesh,
        trust_domain,
        target: target_at,
        api_server,
        istiod,
        gateway,
        pod_cidr,
        remote_of,
        issuers,
        token_keys,
        cluster,
    })
}

/// How objects reach the cluster, and where that is said.
fn target(fields: &mut Fields<'_>) -> (Option<Target>, Option<Located<String>>) {
    let context = filled(fields, "context");
    let directory = filled(fields, "directory");
    if let (Some(_), Some(directory)) = (&context, &directory) {
        fields.findings().push(Finding {
            at: directory.at.clone(),
            code: Code::Duplicate,
            message: "a cluster has a context or a directory, not both".to_owned(),
            hint: "keep the context to apply to the API server, or the directory for GitOps".to_owned(),
        });
    }
    let target = match (&context, &directory) {
        (Some(context), _) => Some(Target::Context(context.value.clone())),
        (None, Some(directory)) => Some(Target::Directory(directory.value.clone())),
        (None, None) => None,
    };
    (target, context.or(directory))
}

/// A text that says something, if it is there.
fn filled(fields: &mut Fields<'_>, key: &'static str) -> Option<Located<String>> {
    let text = fields.optional_value::<String>(key)?;
    if !text.value.trim().is_empty() {
        return Some(text);
    }
    fields.findings().push(Finding {
        at: text.at,
        code: Code::BadValue,
        message: format!("{key} is empty"),
        hint: format!("say which, or leave {key} out"),
    });
    None
}

/// The names of the CAs that sign for the cluster, if they are said.
fn issuers(fields: &mut Fields<'_>) -> Option<Vec<Located<IssuerName>>> {
    let list = fields.optional_list("issuers")?;
    if list.value.is_empty() {
        fields.findings().push(Finding {
            at: list.at,
            code: Code::BadValue,
            message: "no CA signs for this cluster".to_owned(),
            hint: "name its intermediate CA, or leave issuers out where `isthmus mesh certs` makes it"
                .to_owned(),
        });
        return None;
    }
    let issuers = list.value.into_iter();
    let issuers: Vec<_> =
        issuers.filter_map(|node| document::parse(node, "issuers", fields.findings())).collect();
    (!issuers.is_empty()).then_some(issuers)
}

#[cfg(test)]
mod tests;
