//! Looking at a live cluster: nothing is changed there, and no more is read than is looked at.

use super::{Inventory, Kind, Object, Seen};
use crate::kube::{Cluster, ClusterError, Kind as ApiKind, Problem};

/// Where objects of a kind are looked for: Secrets and settings of other namespaces are nobody's business.
enum Where {
    Everywhere,
    Root,
    /// In Istio's namespace, and those of these names everywhere.
    RootAnd(&'static [&'static str]),
}

/// What workloads trust, what the API server is known by, and who answers for names.
const MAPS: &[&str] = &["istio-ca-root-cert", "kube-root-ca.crt", "coredns", "coredns-custom", "kube-dns"];

impl Kind {
    fn place(self) -> Where {
        match self {
            Self::Secret | Self::Deployment | Self::ServiceAccount => Where::Root,
            Self::ConfigMap => Where::RootAnd(MAPS),
            Self::DestinationRule
            | Self::EndpointSlice
            | Self::Gateway
            | Self::Namespace
            | Self::Node
            | Self::Service
            | Self::ServiceEntry
            | Self::TrafficExtension
            | Self::Validator
            | Self::WasmPlugin
            | Self::Webhook => Where::Everywhere,
        }
    }
}

/// What there is of a cluster; `root` is Istio's namespace.
pub async fn look(cluster: &Cluster, root: &str) -> Seen {
    let mut inventory = match cluster.version().await {
        Ok(version) => Inventory::of_server(version),
        Err(error) => return Seen::Nothing(error.problem.to_string()),
    };
    for kind in Kind::ALL {
        let seen = match of(cluster, *kind, root).await {
            Ok(objects) => Ok(objects),
            Err(error) if matches!(*error.problem, Problem::NoSuchKind { .. }) => {
                inventory.unknown.push(*kind);
                Ok(Vec::new())
            }
            Err(error) => Err(error.problem.to_string()),
        };
        inventory.note(*kind, seen);
    }
    Seen::Objects(inventory)
}

async fn of(cluster: &Cluster, kind: Kind, root: &str) -> Result<Vec<Object>, ClusterError> {
    let (name, group, version, _) = kind.names();
    let version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let api = ApiKind::new(&version, name);
    let mut found = Vec::new();
    match kind.place() {
        Where::Everywhere => found.extend(cluster.survey(&api, None, None).await?),
        Where::Root => found.extend(cluster.survey(&api, Some(root), None).await?),
        Where::RootAnd(names) => {
            found.extend(cluster.survey(&api, Some(root), None).await?);
            for name in names {
                let elsewhere = cluster.survey(&api, None, Some(name)).await?;
                found.extend(elsewhere.into_iter().filter(|map| {
                    map.pointer("/metadata/namespace").and_then(serde_json::Value::as_str) != Some(root)
                }));
            }
        }
    }
    Ok(found.into_iter().filter_map(Object::of).collect())
}
