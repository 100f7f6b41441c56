//! Values of attributes, and how Envoy hands them to a guest.

use std::borrow::Cow;

use serde_json::Value as Json;

use crate::sandbox::connection::{Locality, Node};
use crate::sandbox::pairs;
use crate::sandbox::proto;
use crate::sandbox::status::Status;

/// An attribute's value, before it is encoded.
pub(super) enum Value<'a> {
    Bytes(Cow<'a, [u8]>),
    Int(i64),
    Uint(u64),
    Bool(bool),
    Json(&'a Json),
    EmptyMap,
    Message(Message<'a>),
    /// Nothing at all, and what has parts but no list of them: neither can be encoded.
    Unencodable,
}

/// A protobuf message.
pub(super) enum Message<'a> {
    /// `envoy.config.core.v3.Node`.
    Node(&'a Node),
    /// `envoy.config.core.v3.Locality`.
    Locality(&'a Locality),
    /// `envoy.config.core.v3.Metadata`.
    Metadata(&'a Json),
}

pub(super) type Found<'a> = Option<Value<'a>>;

/// A value without parts: any further segment leads nowhere.
pub(super) fn leaf<'a>(rest: &[&str], value: Value<'a>) -> Found<'a> {
    rest.is_empty().then_some(value)
}

/// A value with parts that have none of their own.
pub(super) fn wrapper<'a>(rest: &[&str], part: impl FnOnce(&str) -> Found<'a>) -> Found<'a> {
    match rest {
        [] => Some(Value::Unencodable),
        [name] => part(name),
        [_, _, ..] => None,
    }
}

pub(super) fn text(text: &str) -> Value<'_> {
    bytes(text.as_bytes())
}

pub(super) fn owned<'a>(bytes: Vec<u8>) -> Value<'a> {
    Value::Bytes(Cow::Owned(bytes))
}

pub(super) fn bytes(bytes: &[u8]) -> Value<'_> {
    Value::Bytes(Cow::Borrowed(bytes))
}

/// Puts `value` behind what `bytes` has.
pub(super) fn encode(value: Value<'_>, bytes: &mut Vec<u8>) -> Result<(), Status> {
    match value {
        Value::Bytes(value) => bytes.extend_from_slice(&value),
        Value::Int(number) => bytes.extend_from_slice(&number.to_le_bytes()),
        Value::Uint(number) => bytes.extend_from_slice(&number.to_le_bytes()),
        Value::Bool(yes) => bytes.push(u8::from(yes)),
        Value::Json(json) => bytes.extend(encode_json(json)?),
        Value::EmptyMap => {}
        Value::Message(message) => bytes.extend(encode_message(&message)),
        Value::Unencodable => return Err(Status::SerializationFailure),
    }
    Ok(())
}

/// A number of a protobuf struct is a double; a list is pairs of an element and nothing.
fn encode_json(json: &Json) -> Result<Vec<u8>, Status> {
    let block = |parts: Vec<(Vec<u8>, Vec<u8>)>| {
        pairs::encode(parts.iter().map(|(name, value)| (name.as_slice(), value.as_slice())))
    };
    match json {
        Json::Object(fields) if fields.is_empty() => Ok(vec![0; 4]),
        Json::Array(items) if items.is_empty() => Ok(vec![0; 4]),
        Json::Null => Err(Status::SerializationFailure),
        Json::Bool(yes) => Ok(vec![u8::from(*yes)]),
        Json::Number(number) => {
            Ok(number.as_f64().ok_or(Status::SerializationFailure)?.to_le_bytes().to_vec())
        }
        Json::String(text) => Ok(text.clone().into_bytes()),
        Json::Object(fields) => {
            let fields =
                fields.iter().map(|(key, value)| Ok((key.clone().into_bytes(), encode_json(value)?)));
            Ok(block(fields.collect::<Result<_, Status>>()?))
        }
        Json::Array(items) => {
            let items = items.iter().map(|item| Ok((encode_json(item)?, Vec::new())));
            Ok(block(items.collect::<Result<_, Status>>()?))
        }
    }
}

fn encode_message(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match message {
        Message::Node(node) => {
            proto::put_text(&mut bytes, 1, &node.id);
            proto::put_text(&mut bytes, 2, &node.cluster);
            if node.metadata.is_object() {
                proto::put(&mut bytes, 3, &structure(&node.metadata));
            }
            let locality = encode_message(&Message::Locality(&node.locality));
            if !locality.is_empty() {
                proto::put(&mut bytes, 4, &locality);
            }
        }
        Message::Locality(locality) => {
            proto::put_text(&mut bytes, 1, &locality.region);
            proto::put_text(&mut bytes, 2, &locality.zone);
            proto::put_text(&mut bytes, 3, &locality.sub_zone);
        }
        Message::Metadata(metadata) => {
            let filters = metadata.get("filter_metadata").and_then(Json::as_object);
            for (name, fields) in filters.into_iter().flatten() {
                proto::put(&mut bytes, 1, &entry(name, &structure(fields)));
            }
        }
    }
    bytes
}

/// `google.protobuf.Struct`.
fn structure(json: &Json) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in json.as_object().into_iter().flatten() {
        proto::put(&mut bytes, 1, &entry(name, &any(value)));
    }
    bytes
}

/// An entry of a protobuf map.
fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    proto::put(&mut bytes, 1, name.as_bytes());
    proto::put(&mut bytes, 2, value);
    bytes
}

/// `google.protobuf.Value`.
fn any(json: &Json) -> Vec<u8> {
    let mut bytes = Vec::new();
    match json {
        Json::Null => proto::put_number(&mut bytes, 1, 0),
        Json::Number(number) => proto::put_double(&mut bytes, 2, number.as_f64().unwrap_or_default()),
        Json::String(text) => proto::put(&mut bytes, 3, text.as_bytes()),
        Json::Bool(yes) => proto::put_number(&mut bytes, 4, u64::from(*yes)),
        Json::Object(_) => proto::put(&mut bytes, 5, &structure(json)),
        Json::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                proto::put(&mut list, 1, &any(item));
            }
            proto::put(&mut bytes, 6, &list);
        }
    }
    bytes
}
