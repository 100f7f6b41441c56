//! The one door from the text of a `mesh.yaml` to a [`Mesh`].

mod addresses;
mod check;
mod federation;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Cluster, ControlPlane, Federated, GATEWAY_PORT, Gateway, IssuerName, IstioVersion, Listing, Mesh, Target,
};
use crate::cidr::Cidr;
use crate::document::{self, Fields, Located, Node};
use crate::finding::{Code, Finding, Place};
use crate::name::{ClusterName, MeshName, Namespace, NetworkName, Port, RootName, Service, TrustDomain};

/// A cluster with the places that findings about it point at.
struct Draft {
    name: Located<ClusterName>,
    network: Located<NetworkName>,
    mesh: Option<Located<MeshName>>,
    trust_domain: Option<Located<TrustDomain>>,
    target: Option<Located<String>>,
    api_server: Option<Located<String>>,
    gateway: Option<Located<Gateway>>,
    pod_cidr: Option<Located<Cidr>>,
    remote_of: Option<Located<ClusterName>>,
    issuers: Vec<Located<IssuerName>>,
    cluster: Cluster,
}

struct DraftListing {
    service: Service,
    clusters: Option<Located<Vec<Located<ClusterName>>>>,
    port: u16,
    selector: BTreeMap<String, String>,
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
    let home = federation::home(name, trust_domain, root);
    let others = spec.optional_list("meshes").map(|list| list.value).unwrap_or_default();
    let others: Vec<_> =
        others.into_iter().filter_map(|node| federation::other(node, spec.findings())).collect();
    let (root_namespace, version) = spec.optional_fields("istio").map(istio).unwrap_or_default();
    let clusters = match spec.required("clusters") {
        Some(node) => {
            document::list(node, "clusters", spec.findings()).map(|list| list.value).unwrap_or_default()
        }
        None => Vec::new(),
    };
    let count = clusters.len();
    let mut drafts: Vec<Draft> =
        clusters.into_iter().filter_map(|node| cluster(node, &home.mesh, spec.findings())).collect();
    let listings = match spec.optional_fields("services") {
        Some(mut services) => services_of(&mut services),
        None => Vec::new(),
    };
    spec.close();
    let others = federation::join(&home, others, &mut drafts, findings);
    check::clusters(&drafts, findings);
    let services = listings.into_iter().filter_map(|draft| listing(draft, &drafts, findings)).collect();
    if drafts.len() < count {
        return None; // every mention of a cluster that could not be read would be a finding, and a wrong one
    }
    Some(Mesh {
        home: home.mesh,
        others,
        root_namespace: root_namespace.map_or_else(Namespace::istio_system, |namespace| namespace.value),
        istio: version.map(|version| version.value),
        clusters: drafts.into_iter().map(|draft| (draft.name.value, draft.cluster)).collect(),
        services,
    })
}

type Istio = (Option<Located<Namespace>>, Option<Located<IstioVersion>>);

fn istio(mut istio: Fields<'_>) -> Istio {
    let root_namespace = istio.optional_value::<Namespace>("rootNamespace");
    let version = istio.optional_value::<IstioVersion>("version");
    istio.optional_choice("installer", &[("istioctl", ()), ("helm", ())]);
    istio.close();
    (root_namespace, version)
}

fn cluster(node: Node, home: &Federated, findings: &mut Vec<Finding>) -> Option<Draft> {
    let mut fields = Fields::open(node, "cluster", findings)?;
    let name = fields.required_value::<ClusterName>("name");
    let mesh = fields.optional_value::<MeshName>("mesh");
    let trust_domain = fields.optional_value::<TrustDomain>("trustDomain");
    let network = fields.required_value::<NetworkName>("network");
    let region = fields.optional_value("region").map(|region| region.value);
    let (target, target_at) = target(&mut fields);
    let api_server = fields.optional_value::<String>("apiServer");
    let remote_of = fields.optional_fields("controlPlane").and_then(control_plane);
    let gateway = fields.optional_fields("gateway").and_then(gateway);
    let pod_cidr = fields.optional_value::<Cidr>("podCidr");
    let issuers = fields.optional_values::<IssuerName>("issuers");
    fields.close();
    let (name, network) = (name?, network?);
    let issuers = match issuers {
        Some(issuers) if !issuers.value.is_empty() => issuers.value,
        _ => vec![Located { at: name.at.clone(), value: IssuerName::of_intermediate(&name.value) }],
    };
    let cluster = Cluster {
        name: name.value.clone(),
        mesh: mesh.as_ref().map_or_else(|| home.name.clone(), |mesh| mesh.value.clone()),
        trust_domain: home.trust_domain.clone(),
        network: network.value.clone(),
        region,
        target,
        api_server: api_server.as_ref().map(|server| server.value.clone()),
        control_plane: match &remote_of {
            Some(primary) => ControlPlane::RemoteOf(primary.value.clone()),
            None => ControlPlane::Primary,
        },
        gateway: gateway.as_ref().map(|gateway| gateway.value.clone()),
        pod_cidr: pod_cidr.as_ref().map(|cidr| cidr.value),
        issuers: issuers.iter().map(|issuer| issuer.value.clone()).collect(),
    };
    Some(Draft {
        name,
        network,
        mesh,
        trust_domain,
        target: target_at,
        api_server,
        gateway,
        pod_cidr,
        remote_of,
        issuers,
        cluster,
    })
}

/// How objects reach the cluster, and where that is said.
fn target(fields: &mut Fields<'_>) -> (Option<Target>, Option<Located<String>>) {
    let context = fields.optional_value::<String>("context");
    let directory = fields.optional_value::<String>("directory");
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

fn control_plane(mut fields: Fields<'_>) -> Option<Located<ClusterName>> {
    let primary = fields.optional_value::<bool>("primary");
    let remote_of = fields.optional_value::<ClusterName>("remoteOf");
    if let Some(primary) = primary.filter(|primary| primary.value == remote_of.is_some()) {
        let (message, hint) = if primary.value {
            ("a control plane is primary or remote, not both", "keep one of primary: true and remoteOf")
        } else {
            ("this cluster has no control plane", "say whose remote it is: remoteOf: CLUSTER")
        };
        fields.findings().push(Finding {
            at: primary.at,
            code: Code::NoControlPlane,
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }
    fields.close();
    remote_of
}

fn gateway(mut fields: Fields<'_>) -> Option<Located<Gateway>> {
    let address = fields.required_value::<String>("address");
    let port = fields.optional_value::<Port>("port");
    fields.close();
    let Located { at, value: address } = address?;
    Some(Located {
        at,
        value: Gateway { address, port: port.map_or(GATEWAY_PORT, |port| port.value.number()) },
    })
}

fn services_of(services: &mut Fields<'_>) -> Vec<DraftListing> {
    let mut drafts = Vec::new();
    for (key, node) in services.rest() {
        let findings = services.findings();
        let service = match key.text.parse::<Service>() {
            Ok(service) => service,
            Err(error) => {
                findings.push(Finding {
                    at: key.at,
                    code: Code::BadValue,
                    message: error.to_string(),
                    hint: "the keys of services are NAME.NAMESPACE".to_owned(),
                });
                continue;
            }
        };
        let Some(mut fields) = Fields::open(node, "service", findings) else { continue };
        let port = fields.required_value::<Port>("port");
        let clusters = fields.optional_values::<ClusterName>("clusters");
        let mut selector = BTreeMap::new();
        if let Some(mut labels) = fields.optional_fields("selector") {
            for (label, value) in labels.rest() {
                if let Some(value) = document::text(value, "a label", labels.findings()) {
                    selector.insert(label.text, value.value);
                }
            }
        }
        fields.close();
        if let Some(port) = port {
            drafts.push(DraftListing { service, clusters, port: port.value.number(), selector });
        }
    }
    drafts
}

fn listing(draft: DraftListing, drafts: &[Draft], findings: &mut Vec<Finding>) -> Option<(Service, Listing)> {
    let known: BTreeSet<ClusterName> = drafts.iter().map(|draft| draft.name.value.clone()).collect();
    let clusters = match draft.clusters {
        None => known,
        Some(list) => {
            if list.value.is_empty() {
                findings.push(Finding {
                    at: list.at,
                    code: Code::BadValue,
                    message: format!("no cluster runs {}", draft.service),
                    hint: "name the clusters that run it, or leave clusters out when all do".to_owned(),
                });
                return None;
            }
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                list.value.into_iter().partition(|cluster| known.contains(&cluster.value));
            findings.extend(elsewhere.into_iter().map(|cluster| not_in_mesh(&cluster, &known)));
            here.into_iter().map(|cluster| cluster.value).collect()
        }
    };
    Some((draft.service, Listing { port: draft.port, clusters, selector: draft.selector }))
}

fn not_in_mesh(cluster: &Located<ClusterName>, known: &BTreeSet<ClusterName>) -> Finding {
    let names: Vec<&str> = known.iter().map(ClusterName::as_str).collect();
    Finding {
        at: cluster.at.clone(),
        code: Code::NotInMesh,
        message: format!("cluster {:?} is not in the mesh", cluster.value.as_str()),
        hint: format!("the mesh has {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
