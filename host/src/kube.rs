//! Clusters, by the contexts of a kubeconfig: what is applied, replaced, listed and deleted there, and what went wrong as data.
//!
//! ```text
//! Kubeconfig ── cluster(context) ──> Cluster ── apply, get, list, delete ──> object | Error
//!                                       └─ kinds: what the server serves, asked once
//! ```
//!
//! Objects are JSON: what is written is what was rendered, whatever version of Istio's types this program was built with.

mod access;
mod call;
mod config;
mod error;
mod kind;
mod kinds;
pub mod many;
mod object;
mod pods;
mod send;
mod status;

use std::fmt;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

pub use access::Right;
use call::Call;
pub use config::{Kubeconfig, KubeconfigError};
pub use error::{ClusterError, Deed, Held, Problem, Wrong};
pub use kind::Kind;
use kinds::Kinds;
pub use object::{Id, is_managed_by, is_ours, same};
pub use pods::PodPort;

/// The field manager of all that a rollout applies: who owns a field that we set.
pub const MANAGER: &str = "isthmus";

/// The field manager of all that a mesh needs besides.
pub const MESH_MANAGER: &str = "isthmus-mesh";

/// The label that all our objects have.
const OURS: &str = "app.kubernetes.io/managed-by=isthmus";

/// How many objects are asked for at a time.
const PAGE: usize = 500;

/// A cluster's API server, as one user of it.
pub struct Cluster {
    context: String,
    client: Client,
    timeout: Duration,
    kinds: Kinds,
    manager: &'static str,
    server: Option<String>,
    authority: Option<String>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A client has credentials.
        let Self { context, timeout, .. } = self;
        out.debug_struct("Cluster")
            .field("context", context)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

/// How an object is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Apply {
    /// The server does all but keep it.
    pub dry_run: bool,
    /// Fields that others own are taken from them.
    pub force: bool,
}

impl Cluster {
    /// The context that leads here.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// Where the kubeconfig says that its API server is.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// The certificates in PEM by which the kubeconfig knows its API server, where they are not those that everybody has.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// How long each call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same cluster, where what is applied belongs to another field manager than [`MANAGER`].
    #[must_use]
    pub fn managed_by(self, manager: &'static str) -> Self {
        Self { manager, ..self }
    }

    /// Applies an object on the server's side, so that it has what we say and keeps what others said of it. The server
    /// refuses fields that it does not know. Returns the object as it is then.
    pub async fn apply(&self, object: &Value, how: Apply) -> Result<Value, ClusterError> {
        let id = Id::of(object).map_err(|problem| self.error(Deed::apply("an object"), problem))?;
        let deed = Deed::apply(&id.to_string());
        let mut query = format!("fieldManager={}&fieldValidation=Strict", self.manager);
        if how.dry_run {
            query += "&dryRun=All";
        }
        if how.force {
            query += "&force=true";
        }
        let applied = async {
            let path = self.path(&id).await?;
            let call = Call::apply(format!("{path}?{query}"), object);
            let applied = self.call(&call).await?;
            // Where a map of free form loses all that we said of it before, a server keeps null the first time.
            if object::is_nulled(object, &applied) { self.call(&call).await } else { Ok(applied) }
        };
        applied.await.map_err(|problem| self.error(deed, problem.about(&id.kind)))
    }

    /// Makes an object that is not there yet; [`Problem::Changed`] if it is.
    pub async fn create(&self, object: &Value) -> Result<Value, ClusterError> {
        let id = Id::of(object).map_err(|problem| self.error(Deed::create("an object"), problem))?;
        let created = async {
            let resource = self.kinds.resource(self, &id.kind).await?;
            let path = resource.path(&id.kind, id.namespace.as_deref());
            self.call(&Call::create(format!("{path}?fieldManager={}", self.manager), object)).await
        };
        created.await.map_err(|problem| self.error(Deed::create(&id.to_string()), problem))
    }

    /// Replaces an object as it was seen, by its `resourceVersion`; [`Problem::Changed`] if it has changed since.
    pub async fn replace(&self, object: &Value) -> Result<Value, ClusterError> {
        let id = Id::of(object).map_err(|problem| self.error(Deed::replace("an object"), problem))?;
        let replaced = async {
            let path = self.path(&id).await?;
            self.call(&Call::replace(format!("{path}?fieldManager={}", self.manager), object)).await
        };
        replaced.await.map_err(|problem| self.error(Deed::replace(&id.to_string()), problem))
    }

    /// An object as it is, if it is there.
    pub async fn get(&self, id: &Id) -> Result<Option<Value>, ClusterError> {
        let got = async { self.call(&Call::get(self.path(id).await?)).await };
        match got.await {
            Ok(object) => Ok(Some(object)),
            Err(Problem::NotFound { .. }) => Ok(None),
            Err(problem) => Err(self.error(Deed::get(&id.to_string()), problem)),
        }
    }

    /// All objects of a kind that have our label, in every namespace.
    pub async fn list(&self, kind: &Kind) -> Result<Vec<Value>, ClusterError> {
        self.all(kind).await.map_err(|problem| self.error(Deed::list(&kind.to_string()), problem))
    }

    /// All objects of a kind, whosever they are: of one namespace or of all, of one name or of every.
    pub async fn survey(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Vec<Value>, ClusterError> {
        let selector = name.map_or_else(String::new, |name| format!("fieldSelector=metadata.name={name}&"));
        let listed = self.pages(kind, namespace, &selector, Call::get).await;
        listed.map_err(|problem| self.error(Deed::list(&kind.to_string()), problem))
    }

    /// The version of Kubernetes that it says it is, such as `v1.34.2`.
    pub async fn version(&self) -> Result<String, ClusterError> {
        let version = self.call(&Call::get("/version".to_owned())).await;
        let version = version.map_err(|problem| self.error(Deed::get("its version"), problem))?;
        Ok(version.get("gitVersion").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    async fn all(&self, kind: &Kind) -> Result<Vec<Value>, Problem> {
        self.pages(kind, None, &format!("labelSelector={OURS}&"), Call::get).await
    }

    /// What all objects of a kind that have our label are called and labelled, in one namespace, without what they say.
    pub async fn metadata(&self, kind: &Kind, namespace: &str) -> Result<Vec<Value>, ClusterError> {
        let selector = format!("labelSelector={OURS}&");
        let listed = self.pages(kind, Some(namespace), &selector, Call::get_metadata).await;
        listed.map_err(|problem| self.error(Deed::list(&format!("{kind} in {namespace}")), problem))
    }

    async fn pages(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        selector: &str,
        call: fn(String) -> Call,
    ) -> Result<Vec<Value>, Problem> {
        let path = self.kinds.resource(self, kind).await?.path(kind, namespace);
        let (mut objects, mut rest) = (Vec::new(), String::new());
        loop {
            let query = format!("{selector}limit={PAGE}{rest}");
            let listed = self.call(&call(format!("{path}?{query}"))).await;
            let mut list = listed.map_err(|problem| problem.about(kind))?;
            if let Some(items) = list.get_mut("items").and_then(Value::as_array_mut) {
                objects.extend(items.drain(..).map(|item| kind.named_in(item)));
            }
            match list.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => rest = format!("&continue={next}"),
                _ => return Ok(objects),
            }
        }
    }

    /// Deletes an object as it was seen: one that has changed since stays, and that is an error. False if it was gone
    /// already.
    pub async fn delete(&self, seen: &Value, dry_run: bool) -> Result<bool, ClusterError> {
        let id = Id::of(seen).map_err(|problem| self.error(Deed::delete("an object"), problem))?;
        let field = |name: &str| seen.pointer(&format!("/metadata/{name}")).cloned().unwrap_or_default();
        let mut options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": field("uid"), "resourceVersion": field("resourceVersion")},
        });
        if let (true, Some(fields)) = (dry_run, options.as_object_mut()) {
            fields.insert("dryRun".to_owned(), json!(["All"]));
        }
        let deleted = async { self.call(&Call::delete(self.path(&id).await?, &options)).await };
        match deleted.await {
            Ok(_) => Ok(true),
            Err(Problem::NotFound { .. }) => Ok(false),
            Err(problem) => Err(self.error(Deed::delete(&id.to_string()), problem)),
        }
    }

    /// Where an object lies on the server.
    async fn path(&self, id: &Id) -> Result<String, Problem> {
        let resource = self.kinds.resource(self, &id.kind).await?;
        let namespace = match (&id.namespace, resource.namespaced) {
            (None, true) => return Err(Problem::malformed("metadata.namespace", "is missing")),
            (Some(_), false) => {
                return Err(Problem::malformed("metadata.namespace", "this kind is in none"));
            }
            (namespace, _) => namespace.as_deref(),
        };
        Ok(format!("{}/{}", resource.path(&id.kind, namespace), id.name))
    }

    fn error(&self, deed: Deed, problem: Problem) -> ClusterError {
        ClusterError { context: self.context.clone(), deed, problem: Box::new(problem) }
    }
}
