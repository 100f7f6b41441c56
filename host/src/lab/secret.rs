//! The key for tokens, as pods get it: Istio's agent makes node metadata of `ISTIO_META_ISTHMUS_TOKEN_KEY`, and
//! that comes from a Secret of the pod's own namespace.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::error::PluginError;
use super::manifests::read_all;

/// The name of the Secret that `isthmus mesh token-key` prints.
pub(super) const TOKEN_KEY: &str = "isthmus-token-key";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    metadata: Metadata,
    string_data: Data,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    key: String,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Data").finish_non_exhaustive()
    }
}

/// What a namespace's pods have of their cluster's key. A Secret that names no namespace counts for each that has none
/// of its own: it is what `kubectl apply -n` would have put there.
pub(super) fn token_key(dir: &Path, namespace: &str) -> Result<Option<String>, PluginError> {
    let (mut own, mut of_all) = (None, None);
    for (path, text) in read_all(dir)? {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
            .map_err(|source| PluginError::Syntax { path: path.clone(), source: Box::new(source) })?;
        let is_one =
            |document: &&Value| document.pointer("/metadata/name").and_then(Value::as_str) == Some(TOKEN_KEY);
        for document in documents.iter().filter(is_one) {
            let object = || format!("the Secret {TOKEN_KEY} of {}", path.display());
            let secret = Secret::deserialize(document)
                .map_err(|source| PluginError::Shape { object: object(), source })?;
            match secret.metadata.namespace {
                None => of_all = Some(secret.string_data.key),
                Some(other) if other == namespace => own = Some(secret.string_data.key),
                Some(_) => {}
            }
        }
    }
    Ok(own.or(of_all))
}
