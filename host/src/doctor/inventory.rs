//! What was seen of a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Object, Skip, Tried, installer};
use crate::read::{ReadError, yaml_files};

macro_rules! kinds {
    ($($name:ident = $kind:literal, $group:literal, $version:literal, $plural:literal, $($lasting:ident)?;)*) => {
        /// The kinds that are looked at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = $kind] $name,)*
        }

        impl Kind {
            /// Every kind that is looked at.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, the group and version of its API, and its name in a path of that.
            pub fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
                match self {
                    $(Self::$name => ($kind, $group, $version, $plural),)*
                }
            }

            /// Whether people keep it as a file: where there is none of a kind that is made by running, nothing
            /// is known of it.
            fn is_kept(self) -> bool {
                match self {
                    $(Self::$name => kinds!(@ $($lasting)?),)*
                }
            }
        }
    };
    (@ kept) => { true };
    (@) => { false };
}

kinds! {
    ConfigMap = "ConfigMap", "", "v1", "configmaps", ;
    Deployment = "Deployment", "apps", "v1", "deployments", ;
    DestinationRule = "DestinationRule", "networking.istio.io", "v1", "destinationrules", kept;
    EndpointSlice = "EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", ;
    Gateway = "Gateway", "networking.istio.io", "v1", "gateways", kept;
    Namespace = "Namespace", "", "v1", "namespaces", kept;
    Node = "Node", "", "v1", "nodes", ;
    Secret = "Secret", "", "v1", "secrets", ;
    Service = "Service", "", "v1", "services", ;
    ServiceAccount = "ServiceAccount", "", "v1", "serviceaccounts", ;
    ServiceEntry = "ServiceEntry", "networking.istio.io", "v1", "serviceentries", kept;
    TrafficExtension = "TrafficExtension", "extensions.istio.io", "v1alpha1", "trafficextensions", kept;
    Validator = "ValidatingWebhookConfiguration", "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", ;
    WasmPlugin = "WasmPlugin", "extensions.istio.io", "v1alpha1", "wasmplugins", kept;
    Webhook = "MutatingWebhookConfiguration", "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", ;
}

/// What was seen of a cluster, or why nothing was.
#[derive(Debug, Clone)]
pub enum Seen {
    /// Its objects.
    Objects(Inventory),
    /// Nothing: its API server does not answer.
    Nothing(String),
    /// Nothing: there are no files of it.
    Absent(String),
}

/// The objects of a cluster, by kind.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    objects: BTreeMap<Kind, Result<Vec<Object>, String>>,
    /// The version of Kubernetes, where there is a server to ask.
    pub server: Option<String>,
    /// The kinds that the server does not know.
    pub unknown: Vec<Kind>,
    /// What came of trying, where it was tried.
    pub tried: Option<Box<Tried>>,
    /// Files of it are for what installs Istio, which makes objects of them that nobody has seen yet.
    pub is_for_installers: bool,
}

/// Why a directory is not what was seen of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// Its files cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file is not YAML.
    #[error("{path} is not YAML")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What the parser said.
        source: Box<serde_saphyr::Error>,
    },
    /// No directory for a cluster.
    #[error("there is no directory {path}: objects of a cluster are looked for in one that has its name")]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
}

impl Inventory {
    /// Nothing yet of a cluster whose Kubernetes is of this version.
    pub(super) fn of_server(version: String) -> Self {
        Self { server: Some(version), ..Self::default() }
    }

    /// The objects of a kind, or why they were not seen.
    pub fn note(&mut self, kind: Kind, objects: Result<Vec<Object>, String>) {
        self.objects.insert(kind, objects);
    }

    /// The objects of a kind, if they could be seen.
    pub(super) fn of(&self, kind: Kind) -> Result<&[Object], Skip> {
        match self.objects.get(&kind) {
            Some(Ok(objects)) => Ok(objects),
            Some(Err(why)) => Err(Skip::unseen(why.clone())),
            None => Err(Skip::unseen(format!("nobody looked for a {}", kind.names().0))),
        }
    }

    /// That something is not there: unless an installer would make it of the files.
    pub(super) fn lacks(&self, what: &str) -> Result<(), Skip> {
        if self.is_for_installers {
            return Err(Skip::unseen(format!(
                "the files are for istioctl or helm, which make {what} of them"
            )));
        }
        Ok(())
    }

    /// The kinds that could not be seen, and why.
    pub(super) fn gaps(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.objects.iter().filter_map(|(kind, seen)| Some((*kind, seen.as_ref().err()?.as_str())))
    }

    /// The objects in the manifests of a directory and those below it, as `kubectl get -o yaml` or GitOps has them.
    pub fn read(directory: &Path) -> Result<Self, InventoryError> {
        if !directory.is_dir() {
            return Err(InventoryError::Missing { path: directory.to_owned() });
        }
        let mut found: BTreeMap<Kind, Vec<Object>> = BTreeMap::new();
        let (mut inventory, mut meant) = (Self::default(), Vec::new());
        for path in yaml_files(directory)? {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| ReadError::Io { path: path.clone(), source })?;
            let documents: Vec<Value> = super::object::documents(&text)
                .map_err(|source| InventoryError::Syntax { path: path.clone(), source: Box::new(source) })?;
            let is_chart = path.to_string_lossy().ends_with(".helm.yaml");
            inventory.is_for_installers |= is_chart;
            for document in documents.into_iter().flat_map(items) {
                inventory.is_for_installers |= installer::is_operator(&document);
                meant.extend(installer::maps(&document, is_chart));
                let Some(object) = Object::of(document) else { continue };
                if let Some(kind) = kind_of(&object) {
                    found.entry(kind).or_default().push(object);
                }
            }
        }
        installer::add(found.entry(Kind::ConfigMap).or_default(), meant);
        found.retain(|_, objects| !objects.is_empty());
        for kind in Kind::ALL {
            let objects = found.remove(kind).or_else(|| kind.is_kept().then(Vec::new));
            let why = || format!("the directory has no {}", kind.names().0);
            inventory.note(*kind, objects.ok_or_else(why));
        }
        Ok(inventory)
    }
}

/// The objects of a document: those of a list, or itself.
fn items(mut document: Value) -> Vec<Value> {
    match document.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        Some(_) | None => vec![document],
    }
}

fn kind_of(object: &Object) -> Option<Kind> {
    let named = |kind: &&Kind| {
        let (name, group, ..) = kind.names();
        object.kind() == name && object.group() == group
    };
    Kind::ALL.iter().find(named).copied()
}
