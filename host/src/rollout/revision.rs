//! Revisions: what a cluster should have had, as it was said then, kept so that it can be had again.
//!
//! The objects of one cluster, as JSON, packed, in `ConfigMap`s that cannot be changed. One is cut where it would be
//! larger than a server takes.

use std::io::{Read as _, Write as _};

use base64ct::{Base64, Encoding as _};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Trouble;
use super::difference::bare;
use super::packed::Packed;
use super::record::Origin;
use super::rendered::{Part, Rendered, Sort};
use super::shadow;
use super::shelf::{REVISIONS, Shelf};
use crate::digest::sha256;
use crate::native::Kind;

const FILE: &str = "objects.json.gz";
/// A server takes a `ConfigMap` of 1 MiB.
const LARGEST: usize = 900 << 10;
/// No snapshot is larger when it is unpacked; what claims to be is none of ours.
const UNPACKED: u64 = 1 << 30;

const NUMBER: &str = "isthmus.dev/revision";
const PIECE: &str = "isthmus.dev/piece";
const PIECES: &str = "isthmus.dev/pieces";
const DIGEST: &str = "isthmus.dev/digest";
const PLAN: &str = "isthmus.dev/plans";
const ORIGIN: &str = "isthmus.dev/origin";

/// What is known of a revision without unpacking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its number, the same in all clusters.
    pub number: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// A digest over the plans that it has for the cluster.
    pub plans: String,
    /// A digest over all that it has for the cluster.
    pub digest: String,
}

/// An object in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    file: String,
    sort: String,
    object: Value,
}

#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    plans: String,
    objects: Vec<Kept>,
}

/// The `ConfigMap`s of a revision, by their names, and what tells it apart from others of the cluster.
pub(super) fn objects(
    shelf: &Shelf,
    number: u64,
    rendered: &Rendered,
    origin: &Origin,
) -> Result<(Vec<(String, Value)>, String), Trouble> {
    let name = name(number, 0);
    let fail = |why: String| Trouble::Record { place: shelf.place(&name), why };
    let packed = pack(rendered).map_err(|error| fail(error.to_string()))?;
    let origin = serde_json::to_string(origin).map_err(|error| fail(error.to_string()))?;
    let digest = sha256(&packed);
    let pieces: Vec<&[u8]> = packed.chunks(LARGEST).collect();
    let object = |(piece, bytes): (usize, &&[u8])| {
        let name = self::name(number, piece);
        let annotations = json!({
            NUMBER: number.to_string(),
            PIECE: piece.to_string(),
            PIECES: pieces.len().to_string(),
            DIGEST: digest,
            PLAN: rendered.digest,
            ORIGIN: origin,
        });
        let mut object = shelf.object(&name, &annotations);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("immutable".to_owned(), true.into());
            fields.insert("binaryData".to_owned(), json!({FILE: Base64::encode_string(bytes)}));
        }
        (name, object)
    };
    let objects = pieces.iter().enumerate().map(object).collect();
    Ok((objects, digest))
}

/// What tells the snapshots of one cluster apart.
pub(super) fn digest(rendered: &Rendered) -> Result<String, String> {
    pack(rendered).map(sha256).map_err(|error| error.to_string())
}

/// The revisions that a shelf has whole, by what its list tells; and which of its objects each is.
pub(super) fn listed(objects: &[Value]) -> Vec<(Revision, Vec<&Value>)> {
    let mut found: std::collections::BTreeMap<u64, Vec<&Value>> = std::collections::BTreeMap::new();
    for object in objects {
        let number = annotation(object, NUMBER).and_then(|number| number.parse().ok());
        let is_one = object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .is_some_and(|name| name.starts_with(REVISIONS));
        if let (true, Some(number)) = (is_one, number) {
            found.entry(number).or_default().push(object);
        }
    }
    found.into_iter().filter_map(|(number, objects)| Some((whole(number, &objects)?, objects))).collect()
}

/// A revision of which all pieces are there.
fn whole(number: u64, objects: &[&Value]) -> Option<Revision> {
    let first = objects.first()?;
    let pieces: usize = annotation(first, PIECES)?.parse().ok()?;
    let origin = serde_json::from_str(annotation(first, ORIGIN)?).ok()?;
    let (plans, digest) = (annotation(first, PLAN)?.to_owned(), annotation(first, DIGEST)?.to_owned());
    (objects.len() == pieces).then_some(Revision { number, origin, plans, digest })
}

/// What a cluster should have had at a revision; `None` if it is not kept.
pub(super) async fn read(shelf: &Shelf, number: u64) -> Result<Option<Rendered>, Trouble> {
    let fail = |why: &str| Trouble::Record { place: shelf.place(&name(number, 0)), why: why.to_owned() };
    let (mut packed, mut piece, mut pieces, mut digest) = (Vec::new(), 0, 1, String::new());
    while piece < pieces {
        let Some(object) = shelf.get(&name(number, piece)).await? else {
            return if piece == 0 { Ok(None) } else { Err(fail("a piece of it is gone")) };
        };
        let said = annotation(&object, PIECES).and_then(|pieces| pieces.parse().ok());
        pieces = said.ok_or_else(|| fail("nothing says of how many pieces it is"))?;
        digest = annotation(&object, DIGEST).unwrap_or_default().to_owned();
        let text = object.get("binaryData").and_then(|data| data.get(FILE)?.as_str()).unwrap_or_default();
        packed.extend(Base64::decode_vec(text).map_err(|error| fail(&format!("it is not base64: {error}")))?);
        piece += 1;
    }
    if sha256(&packed) != digest {
        return Err(fail("its digest is another: somebody has changed it"));
    }
    let rendered = unpack(&packed).map_err(|why| fail(&why))?;
    match rendered.parts.iter().find(|part| !shelf.takes(part)) {
        Some(part) => Err(fail(&format!("{:?} in it is nothing that a rollout makes", part.file))),
        None => Ok(Some(rendered)),
    }
}

fn name(number: u64, piece: usize) -> String {
    if piece == 0 { format!("{REVISIONS}{number}") } else { format!("{REVISIONS}{number}-{piece}") }
}

fn annotation<'o>(object: &'o Value, name: &str) -> Option<&'o str> {
    object.pointer("/metadata/annotations")?.get(name)?.as_str()
}

fn pack(rendered: &Rendered) -> std::io::Result<Vec<u8>> {
    let kept = |part: &Part| Kept {
        file: part.file.clone(),
        sort: sort_name(part.sort).to_owned(),
        object: part.object.open(),
    };
    let snapshot =
        Snapshot { plans: rendered.digest.clone(), objects: rendered.parts.iter().map(kept).collect() };
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&serde_json::to_vec(&snapshot)?)?;
    packer.finish()
}

fn unpack(packed: &[u8]) -> Result<Rendered, String> {
    let mut text = Vec::new();
    let mut reader = GzDecoder::new(packed).take(UNPACKED);
    reader.read_to_end(&mut text).map_err(|error| error.to_string())?;
    let snapshot: Snapshot = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let part = |kept: Kept| {
        let sort = sort_of_name(&kept.sort)
            .ok_or_else(|| format!("{:?} is nothing that it could have", kept.sort))?;
        Ok::<_, String>(Part { file: kept.file, sort, object: Packed::of(&kept.object) })
    };
    let parts = snapshot.objects.into_iter().map(part).collect::<Result<_, _>>()?;
    Ok(Rendered { digest: snapshot.plans, parts })
}

fn sort_name(sort: Sort) -> &'static str {
    match sort {
        Sort::Plugin => "filter",
        Sort::Native(kind) => kind.as_str(),
    }
}

fn sort_of_name(name: &str) -> Option<Sort> {
    if name == sort_name(Sort::Plugin) {
        return Some(Sort::Plugin);
    }
    Kind::ALL.into_iter().find(|kind| kind.as_str() == name).map(Sort::Native)
}

/// What was found in a cluster that nobody has kept a revision of.
pub(super) fn found(there: &std::collections::BTreeMap<String, Packed>) -> Rendered {
    let parts = there.iter().filter_map(|(file, object)| {
        let object = bare(&object.open());
        let sort = match object.get("kind").and_then(Value::as_str)? {
            "DestinationRule" => Sort::Native(Kind::DestinationRule),
            "VirtualService" => Sort::Native(Kind::VirtualService),
            _ => Sort::Plugin,
        };
        Some(Part { file: file.clone(), sort, object: Packed::of(&shadow::untried(object)?) })
    });
    let parts: Vec<Part> = parts.collect();
    let texts: String = parts.iter().map(|part| part.object.open().to_string()).collect();
    Rendered { digest: sha256(texts), parts }
}

#[cfg(test)]
mod tests;
