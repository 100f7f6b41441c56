//! What a server serves, as it says itself: a plural is not to be guessed, and a kind that is missing is better known
//! before anything is written.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::sync::Mutex;

use super::call::Call;
use super::{Cluster, Kind, Problem};

/// How the server serves a kind.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    plural: String,
    pub(super) namespaced: bool,
}

impl Resource {
    /// Where the objects of a kind lie: of one namespace, or all.
    pub(super) fn path(&self, kind: &Kind, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{}/namespaces/{namespace}/{}", kind.base(), self.plural),
            None => format!("{}/{}", kind.base(), self.plural),
        }
    }
}

/// What was asked already. A kind that was not there is asked for again: it may have been installed since.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<BTreeMap<Kind, Resource>>);

/// Kinds that every server serves, and how: what is asked of very many clusters need not be asked for first.
const EVERYWHERE: [(&str, &str, &str); 3] =
    [("v1", "ConfigMap", "configmaps"), ("v1", "Pod", "pods"), ("coordination.k8s.io/v1", "Lease", "leases")];

impl Kinds {
    pub(super) async fn resource(&self, cluster: &Cluster, kind: &Kind) -> Result<Resource, Problem> {
        let is_this = |(api_version, name, _): &&(&str, &str, &str)| {
            (*api_version, *name) == (kind.api_version.as_str(), kind.name.as_str())
        };
        if let Some((.., plural)) = EVERYWHERE.iter().find(is_this) {
            return Ok(Resource { plural: (*plural).to_owned(), namespaced: true });
        }
        let mut known = self.0.lock().await;
        if let Some(resource) = known.get(kind) {
            return Ok(resource.clone());
        }
        let missing = || Problem::NoSuchKind { kind: kind.clone() };
        let list = match cluster.call(&Call::get(kind.base())).await {
            Err(Problem::NotFound { .. }) => return Err(missing()),
            list => list?,
        };
        known.extend(served(&list, &kind.api_version));
        known.get(kind).cloned().ok_or_else(missing)
    }
}

/// The kinds of an `APIResourceList`; subresources such as `pods/log` have a slash.
fn served<'l>(list: &'l Value, api_version: &'l str) -> impl Iterator<Item = (Kind, Resource)> + 'l {
    let resources = list.get("resources").and_then(Value::as_array);
    resources.into_iter().flatten().filter_map(move |resource| {
        let text = |field: &str| resource.get(field).and_then(Value::as_str);
        let plural = text("name").filter(|name| !name.contains('/'))?.to_owned();
        let namespaced = resource.get("namespaced").and_then(Value::as_bool).unwrap_or_default();
        Some((Kind::new(api_version, text("kind")?), Resource { plural, namespaced }))
    })
}
