//! Attributes as the variables of expressions.

use std::collections::{BTreeSet, HashMap};

use cel::Value as Cel;
use serde_json::Value as Json;

use super::value::{self, Message, Value};
use super::{find, stream};
use crate::sandbox::headers::Headers;
use crate::sandbox::message::Side;
use crate::sandbox::state::State;
use crate::sandbox::status::Status;
use crate::sandbox::stream::Stream;

/// The value of the variable `name`, with those of its `parts` that there are.
pub(super) fn variable(state: &State, name: &str, parts: &BTreeSet<String>) -> Option<Cel> {
    let stream = state.stream_of(state.context_id());
    let whole = find(state, name, &[])?;
    let key = ["wasm.", name].concat();
    match (whole, stream.and_then(|stream| Some((stream, stream.filter_state.get(&key)?)))) {
        (Value::Unencodable | Value::Message(_), _) => {}
        // What has the name of an attribute is hidden by it.
        (Value::Bytes(bytes), Some((stream, held))) if *bytes == held => {
            return Some(left(stream, &key, held));
        }
        (whole, _) => return cel(whole),
    }
    if let ("filter_state", Some(stream)) = (name, stream) {
        let all = stream.filter_state.all();
        let values = all.iter().map(|(key, value)| (key.to_owned(), left(stream, key, value.to_vec())));
        return Some(map(values));
    }
    let part = |part: &String| {
        let headers = stream.and_then(|stream| headers(stream, name, part));
        Some((part.clone(), headers.or_else(|| cel(find(state, name, &[part])?))?))
    };
    Some(map(parts.iter().filter_map(part)))
}

/// What a filter has left for others.
fn left(stream: &Stream, key: &str, value: Vec<u8>) -> Cel {
    match stream.filter_state.is_text(key) {
        true => String::from_utf8_lossy(&value).into_owned().into(),
        false => value.into(),
    }
}

/// The encoded value at a path, as an expression comes to it.
pub(super) fn named(state: &State, path: &[&str]) -> Result<Vec<u8>, Status> {
    let Some((first, rest)) = path.split_first() else { return Err(Status::InternalFailure) };
    let found = find(state, first, rest).ok_or(Status::InternalFailure)?;
    let mut bytes = Vec::new();
    if matches!(found, Value::EmptyMap) {
        return Ok(vec![0; 4]);
    }
    value::encode(found, &mut bytes)?;
    Ok(bytes)
}

/// Headers that cannot be read now are none.
fn headers(stream: &Stream, name: &str, part: &str) -> Option<Cel> {
    let http = stream.http()?;
    let headers = match (name, part) {
        ("request", "headers") => stream.readable(&http.request),
        ("response", "headers") => stream.readable(&http.response),
        ("response", "trailers") => stream.readable_trailers(Side::Response),
        _ => return None,
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let joined =
        |headers: &Headers, name: &[u8]| headers.joined(name).map(|value| (text(name), text(&value).into()));
    let pairs = headers.into_iter().flat_map(|headers| {
        let named = headers.iter().filter_map(|(name, _)| joined(headers, name));
        let host =
            stream::header(headers, &[":authority"]).and_then(cel).map(|host| ("host".to_owned(), host));
        named.chain(host).collect::<Vec<_>>()
    });
    Some(map(pairs))
}

fn map(pairs: impl Iterator<Item = (String, Cel)>) -> Cel {
    pairs.collect::<HashMap<String, Cel>>().into()
}

fn cel(value: Value<'_>) -> Option<Cel> {
    Some(match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
        Value::Int(number) => number.into(),
        Value::Uint(number) => number.into(),
        Value::Bool(yes) => yes.into(),
        Value::Json(json) => of_json(json),
        Value::EmptyMap => map(std::iter::empty()),
        Value::Message(message) => of_message(&message),
        Value::Unencodable => Cel::Null,
    })
}

fn of_json(json: &Json) -> Cel {
    match json {
        Json::Null => Cel::Null,
        Json::Bool(yes) => (*yes).into(),
        Json::Number(number) => number.as_f64().unwrap_or_default().into(),
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(of_json).collect::<Vec<_>>().into(),
        Json::Object(fields) => map(fields.iter().map(|(key, value)| (key.clone(), of_json(value)))),
    }
}

fn of_message(message: &Message<'_>) -> Cel {
    let named = |name: &str, value: Cel| (name.to_owned(), value);
    map(match message {
        Message::Node(node) => vec![
            named("id", node.id.as_str().into()),
            named("cluster", node.cluster.as_str().into()),
            named("metadata", of_json(&node.metadata)),
            named("locality", of_message(&Message::Locality(&node.locality))),
        ],
        Message::Locality(locality) => vec![
            named("region", locality.region.as_str().into()),
            named("zone", locality.zone.as_str().into()),
            named("sub_zone", locality.sub_zone.as_str().into()),
        ],
        Message::Metadata(metadata) => {
            let filters = metadata.get("filter_metadata");
            vec![named("filter_metadata", filters.map_or_else(|| map(std::iter::empty()), of_json))]
        }
    }
    .into_iter())
}
