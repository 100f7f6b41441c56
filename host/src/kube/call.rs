//! What is asked of a server.

use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request};
use kube::client::Body;
use serde_json::Value;

use super::Problem;

/// What is asked of a server. All of it may be asked twice: an apply says what should be, a delete which state of
/// an object should go. What is made or replaced twice is a conflict the second time, and whoever asks looks again; a
/// token that nobody took ends by itself.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    body: Vec<u8>,
    content: &'static str,
    accept: &'static str,
}

const JSON: &str = "application/json";
/// Lists without what their objects say: their names, labels and annotations alone.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

impl Call {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: Vec::new(), content: JSON, accept: JSON }
    }

    /// A list of what objects are called and labelled, and of nothing else.
    pub(super) fn get_metadata(path: String) -> Self {
        Self { accept: METADATA, ..Self::get(path) }
    }

    /// An object, or a question that is asked by making something of it: a token, a review of rights.
    pub(super) fn create(path: String, object: &Value) -> Self {
        Self { method: Method::POST, body: object.to_string().into_bytes(), ..Self::get(path) }
    }

    pub(super) fn replace(path: String, object: &Value) -> Self {
        Self { method: Method::PUT, body: object.to_string().into_bytes(), ..Self::get(path) }
    }

    pub(super) fn delete(path: String, options: &Value) -> Self {
        Self { method: Method::DELETE, body: options.to_string().into_bytes(), ..Self::get(path) }
    }

    /// JSON is YAML.
    pub(super) fn apply(path: String, object: &Value) -> Self {
        let body = object.to_string().into_bytes();
        Self { method: Method::PATCH, body, content: "application/apply-patch+yaml", ..Self::get(path) }
    }

    /// The verb that RBAC has for it.
    pub(super) fn verb(&self) -> &'static str {
        match self.method {
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            Method::POST => "create",
            Method::PUT => "update",
            _ => "get",
        }
    }

    /// How much is sent with it.
    pub(super) fn size(&self) -> usize {
        self.body.len()
    }

    pub(super) fn request(&self) -> Result<Request<Body>, Problem> {
        Request::builder()
            .method(&self.method)
            .uri(&self.path)
            .header(CONTENT_TYPE, self.content)
            .header(ACCEPT, self.accept)
            .body(Body::from(self.body.clone()))
            .map_err(|error| Problem::Unreachable { why: error.to_string() })
    }
}
