//! The record of a rollout: what it is to do, how far it has come, and who said so. Every cluster has a copy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use policy::name::ClusterName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Trouble;
use super::machine::{End, State};
use super::shelf::{RECORD, Shelf};
use super::strategy::Limits;
use crate::digest::sha256;

/// Where the object has it.
const FILE: &str = "rollout.json";
/// Which revision a cluster has, in its own copy.
const AT: &str = "isthmus.dev/revision";
const GENERATION: &str = "isthmus.dev/generation";

/// A rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// What it is called.
    pub id: String,
    /// The revision that it brings.
    pub revision: u64,
    /// How often it was written. Of copies that differ the one that was written most often holds.
    pub generation: u64,
    /// Who began it, when, and what they said.
    pub origin: Origin,
    /// The name of its strategy.
    pub strategy: String,
    /// What its gates demand.
    pub gates: Limits,
    /// The revision that each cluster had before, if it had one.
    pub before: BTreeMap<ClusterName, Option<u64>>,
    /// How far it has come.
    pub state: State,
}

impl Record {
    /// Whether another copy of it says the same of what it was to do: what none may change once it has begun.
    pub(super) fn has_terms_of(&self, other: &Self) -> bool {
        let terms = |record: &Self| (record.revision, record.origin.clone(), record.strategy.clone());
        terms(self) == terms(other) && self.gates == other.gates && self.state.has_terms_of(&other.state)
    }
}

/// Where a revision comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Who made it.
    pub author: String,
    /// When, as RFC 3339 has it.
    pub time: String,
    /// What they said of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it was made from, such as a commit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// What made it: a rollout, a rollback, or that it was found.
    pub reason: String,
}

impl Origin {
    /// Of nobody yet, at a time.
    pub fn at(time: OffsetDateTime) -> Self {
        Self { time: timestamp(time), ..Self::default() }
    }
}

/// Records that clusters were found to have. Of very many clusters nearly all have the very same, which is read and kept
/// once.
#[derive(Debug, Default)]
pub struct Records(Mutex<BTreeMap<String, Arc<Record>>>);

impl Records {
    fn read(&self, text: &str) -> Result<Arc<Record>, serde_json::Error> {
        let digest = sha256(text);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = known.get(&digest) {
            return Ok(Arc::clone(record));
        }
        let record: Arc<Record> = Arc::new(serde_json::from_str(text)?);
        known.insert(digest, Arc::clone(&record));
        Ok(record)
    }
}

/// A record as it is written, to very many clusters.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) record: Arc<Record>,
    text: String,
}

impl Said {
    /// Makes it once for all.
    pub(super) fn of(record: Record) -> Result<Self, Trouble> {
        let text = serde_json::to_string(&record)
            .map_err(|error| Trouble::Record { place: RECORD.to_owned(), why: error.to_string() })?;
        Ok(Self { record: Arc::new(record), text })
    }
}

/// What a cluster says of rollouts.
#[derive(Debug, Clone, Default)]
pub(super) struct Copy {
    /// What was written to many clusters at once is one thing here.
    pub(super) record: Option<Arc<Record>>,
    /// The revision that the cluster has.
    pub(super) at: Option<u64>,
    /// The version of the object, by which it is replaced.
    version: Option<String>,
}

impl Copy {
    /// What a cluster might say.
    #[cfg(test)]
    pub(super) fn said(record: Option<Record>, at: Option<u64>) -> Self {
        Self { record: record.map(Arc::new), at, version: None }
    }

    /// What a cluster has.
    pub(super) async fn read(shelf: &Shelf, records: &Records) -> Result<Self, Trouble> {
        let Some(object) = shelf.get(RECORD).await? else { return Ok(Self::default()) };
        let text = |path: &str| object.pointer(path).and_then(Value::as_str);
        let annotation = |name: &str| {
            let all = object.pointer("/metadata/annotations").and_then(Value::as_object);
            all.and_then(|all| all.get(name)?.as_str())
        };
        let said = object.get("data").and_then(|data| data.get(FILE)?.as_str()).unwrap_or_default();
        let record = records
            .read(said)
            .map_err(|error| Trouble::Record { place: shelf.place(RECORD), why: error.to_string() })?;
        Ok(Self {
            record: Some(record),
            at: annotation(AT).and_then(|at| at.parse().ok()),
            version: text("/metadata/resourceVersion").map(str::to_owned),
        })
    }

    /// The revision that a cluster goes back to from here: what it has, if that was ever complete there, by what is
    /// known of the last rollout.
    pub(super) fn good(&self, cluster: &ClusterName, last: Option<&Record>) -> Option<u64> {
        let last = last.filter(|last| {
            let is_good = match last.state.stage().end() {
                Some(End::Complete | End::Undone) => true,
                Some(End::Incomplete) => last.state.has_passed(cluster),
                Some(End::Failed) | None => false,
            };
            !is_good && self.at == Some(last.revision)
        });
        match last {
            Some(last) => last.before.get(cluster).copied().flatten(),
            None => self.at,
        }
    }

    /// Keeps a record in a cluster, unless somebody else has since it was read.
    pub(super) async fn write(&mut self, shelf: &Shelf, record: &Said) -> Result<(), Trouble> {
        let Said { record, text } = record;
        let mut annotations = json!({GENERATION: record.generation.to_string()});
        if let (Some(at), Some(fields)) = (self.at, annotations.as_object_mut()) {
            fields.insert(AT.to_owned(), at.to_string().into());
        }
        let mut object = shelf.object(RECORD, &annotations);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("data".to_owned(), json!({FILE: text}));
        }
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        if let (Some(version), Some(metadata)) = (&self.version, metadata) {
            metadata.insert("resourceVersion".to_owned(), version.clone().into());
        }
        let kept = shelf.put(RECORD, &object).await?;
        self.version = kept.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned);
        self.record = Some(Arc::clone(record));
        Ok(())
    }
}

/// A time as Kubernetes writes it, to the microsecond.
pub(super) fn timestamp(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}
