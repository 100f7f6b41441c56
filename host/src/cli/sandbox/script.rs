//! Several requests for one module, and what the two ends of a TCP connection send, as files say it.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::bytes;

/// One request of `--requests`; its words are those of the flags.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) request: String,
    #[serde(default)]
    pub(super) headers: Vec<String>,
    pub(super) body: Option<String>,
    pub(super) response: Option<u16>,
    #[serde(default)]
    pub(super) response_headers: Vec<String>,
    pub(super) response_body: Option<String>,
}

/// One step of `--connection`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Said {
    client: Option<String>,
    upstream: Option<String>,
    #[serde(default)]
    end: bool,
}

/// What an end of a connection does: it sends bytes, none or some, and can send its last.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) from_client: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) end: bool,
}

pub(super) fn requests(path: &Path) -> anyhow::Result<Vec<Request>> {
    read(path)
}

pub(super) fn steps(path: &Path) -> anyhow::Result<Vec<Step>> {
    let said: Vec<Said> = read(path)?;
    let step = |(nth, said): (usize, Said)| {
        let (from_client, text) = match (said.client, said.upstream) {
            (Some(text), None) => (true, text),
            (None, Some(text)) => (false, text),
            (Some(_), Some(_)) | (None, None) => {
                bail!(
                    "step {} of {} is neither client nor upstream, or both: write one of them",
                    nth + 1,
                    path.display()
                )
            }
        };
        Ok(Step { from_client, bytes: bytes(&text)?, end: said.end })
    };
    said.into_iter().enumerate().map(step).collect()
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text)
        .with_context(|| format!("{} is no list of what it should be", path.display()))
}
