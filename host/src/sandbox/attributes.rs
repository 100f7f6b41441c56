//! Envoy's attributes: `proxy_get_property`.

mod evaluate;
mod stream;
mod value;
mod variable;

use std::net::SocketAddr;

use serde_json::Value as Json;

use super::call;
use super::connection::{Locality, Node};
use super::state::State;
use super::status::Status;
use super::stream::{Phase, Stream};
use value::{Found, Message, Value, leaf, owned, text, wrapper};

pub(crate) use evaluate::evaluate;

/// The first Envoy without the attributes that `xds` has replaced.
const WITHOUT_OLD_NAMES: u32 = 33;

/// Puts the encoded value at `path`, whose segments are parted by NULs, behind what `bytes` has.
pub(crate) fn get(state: &State, path: &[u8], bytes: &mut Vec<u8>) -> Result<(), Status> {
    if path.is_empty() {
        return Err(Status::SerializationFailure);
    }
    let path = call::text(path);
    let path = path.strip_suffix('\0').unwrap_or(&path);
    let found = match path.split_once('\0') {
        Some((first, rest)) => find(state, first, &rest.split('\0').collect::<Vec<_>>()),
        None => find(state, path, &[]),
    };
    value::encode(found.ok_or(Status::NotFound)?, bytes)
}

fn find<'a>(state: &'a State, first: &str, rest: &[&str]) -> Found<'a> {
    let plugin = || state.root(state.root_id()).map(|root| &root.plugin);
    match first {
        "plugin_name" => return leaf(rest, text(&plugin()?.name)),
        "plugin_root_id" => return leaf(rest, text(&plugin()?.root_id)),
        "plugin_vm_id" => return leaf(rest, text(&plugin()?.vm_id)),
        "xds" => {
            let Some((name, rest)) = rest.split_first() else { return Some(Value::Unencodable) };
            return xds(state, name, rest);
        }
        "node"
        | "cluster_name"
        | "cluster_metadata"
        | "route_name"
        | "route_metadata"
        | "listener_direction"
        | "listener_metadata"
        | "upstream_host_metadata"
            if state.node.envoy.minor < WITHOUT_OLD_NAMES =>
        {
            return xds(state, first, rest);
        }
        _ => {}
    }
    let stream = state.stream_of(state.context_id())?;
    match first {
        "connection_id" => leaf(rest, Value::Uint(stream.connection.id)),
        "connection" => wrapper(rest, |name| stream::connection(stream, name, state.node.envoy)),
        "source" => wrapper(rest, |name| address(stream.connection.source, name)),
        "destination" => wrapper(rest, |name| address(stream.connection.destination, name)),
        "upstream" => stream::upstream(stream, rest, state.node.envoy),
        "request" => stream::request(stream, rest, (state.now, state.node.envoy)),
        "response" => stream::response(stream, rest),
        "metadata" => metadata(&stream.connection.metadata, rest),
        "upstream_filter_state" if chosen(stream) => wrapper(rest, |_| None),
        "upstream_filter_state" => None,
        "filter_state" => wrapper(rest, |key| stream.filter_state.get(key).map(owned)),
        name => leaf(rest, owned(stream.filter_state.get(&format!("wasm.{name}"))?)),
    }
}

fn xds<'a>(state: &'a State, name: &str, rest: &[&str]) -> Found<'a> {
    if name == "node" {
        return node(&state.node, rest);
    }
    let stream = state.stream_of(state.context_id())?;
    let connection = &stream.connection;
    // A TCP proxy picks its cluster only after the filters before it have let the connection in.
    let routed = stream.http().is_some() || stream.phase > Phase::Request;
    match name {
        "listener_direction" => leaf(rest, Value::Int(state.node.listener_direction as i64)),
        "listener_metadata" => metadata(&connection.listener_metadata, rest),
        "filter_chain_name" => leaf(rest, text(&connection.filter_chain_name)),
        "cluster_name" if routed => leaf(rest, text(connection.upstream_cluster.as_deref()?)),
        "cluster_metadata" if routed => metadata(&connection.cluster_metadata, rest),
        "upstream_host_metadata" if chosen(stream) => host_metadata(&connection.upstream_host_metadata, rest),
        "upstream_host_locality_metadata" if chosen(stream) => leaf(rest, Value::Unencodable),
        _ => {
            let route = stream.http().map(|_| &connection.route)?;
            match name {
                "route_name" => leaf(rest, text(&route.name)),
                "route_metadata" => metadata(&route.metadata, rest),
                "virtual_host_name" => leaf(rest, text(&route.virtual_host)),
                "virtual_host_metadata" => metadata(&route.virtual_host_metadata, rest),
                _ => None,
            }
        }
    }
}

fn node<'a>(node: &'a Node, path: &[&str]) -> Found<'a> {
    match path {
        [] => Some(Value::Message(Message::Node(node))),
        ["id"] => Some(text(&node.id)),
        ["cluster"] => Some(text(&node.cluster)),
        ["metadata", path @ ..] => walk(&node.metadata, path),
        ["locality", path @ ..] => locality(&node.locality, path),
        _ => None,
    }
}

fn locality<'a>(locality: &'a Locality, path: &[&str]) -> Found<'a> {
    match path {
        [] => Some(Value::Message(Message::Locality(locality))),
        ["region"] => Some(text(&locality.region)),
        ["zone"] => Some(text(&locality.zone)),
        ["sub_zone"] => Some(text(&locality.sub_zone)),
        _ => None,
    }
}

/// A `Metadata` message, given as the test writes it: `{"filter_metadata": {"istio": ...}}`.
fn metadata<'a>(json: &'a Json, path: &[&str]) -> Found<'a> {
    match path {
        [] => Some(Value::Message(Message::Metadata(json))),
        ["filter_metadata", path @ ..] => match json.get("filter_metadata") {
            Some(filters) => walk(filters, path),
            None => leaf(path, Value::EmptyMap),
        },
        ["typed_filter_metadata"] => Some(Value::EmptyMap),
        _ => None,
    }
}

/// A host need not have any.
fn host_metadata<'a>(json: &'a Json, path: &[&str]) -> Found<'a> {
    if json.is_null() { leaf(path, Value::Unencodable) } else { metadata(json, path) }
}

/// Whether the load balancer has chosen an upstream host. A TCP proxy has when the client's first data comes.
fn chosen(stream: &Stream) -> bool {
    let data = stream.http().is_none() && stream.phase == Phase::Data;
    stream.connection.upstream_filter || data || stream.phase > Phase::Data
}

fn walk<'a>(json: &'a Json, path: &[&str]) -> Found<'a> {
    let Some((key, rest)) = path.split_first() else { return Some(Value::Json(json)) };
    match json {
        Json::Object(fields) => walk(fields.get(*key)?, rest),
        Json::Array(items) => walk(items.get(key.parse::<usize>().ok()?)?, rest),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    }
}

fn address<'a>(address: SocketAddr, name: &str) -> Found<'a> {
    match name {
        "address" => Some(owned(address.to_string().into_bytes())),
        "port" => Some(Value::Int(address.port().into())),
        _ => None,
    }
}
