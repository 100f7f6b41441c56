//! Envoy's attributes: `proxy_get_property`.

use std::borrow::Cow;
use std::net::SocketAddr;

use serde_json::Value as Json;

use super::headers::Headers;
use super::http::{self, Flow, Held};
use super::message::Side;
use super::pairs;
use super::state::State;
use super::status::Status;
use super::stream::{Http, Phase, Protocol, Stream};

/// An attribute's value, before it is encoded.
enum Value<'a> {
    Bytes(Cow<'a, [u8]>),
    Int(i64),
    Uint(u64),
    Bool(bool),
    Json(&'a Json),
    /// Nothing at all, and what has parts but no list of them: neither can be encoded.
    Unencodable,
    /// A protobuf message, which this host does not encode yet.
    Message,
}

type Found<'a> = Option<Value<'a>>;

/// The encoded value at `path`, whose segments are parted by NULs.
pub(crate) fn get(state: &State, path: &[u8]) -> Result<Vec<u8>, Status> {
    if path.is_empty() {
        return Err(Status::SerializationFailure);
    }
    let path = String::from_utf8_lossy(path);
    let segments: Vec<&str> = path.strip_suffix('\0').unwrap_or(&path).split('\0').collect();
    let Some((first, rest)) = segments.split_first() else { return Err(Status::SerializationFailure) };
    find(state, first, rest).ok_or(Status::NotFound).and_then(encode)
}

fn find<'a>(state: &'a State, first: &str, rest: &[&str]) -> Found<'a> {
    let plugin = || state.root(state.root_id()).map(|root| &root.plugin);
    match first {
        "plugin_name" => return leaf(rest, text(&plugin()?.name)),
        "plugin_root_id" => return leaf(rest, text(&plugin()?.root_id)),
        "plugin_vm_id" => return leaf(rest, text(&plugin()?.vm_id)),
        "xds" => return xds(state, rest),
        _ => {}
    }
    let stream = state.stream_of(state.context_id())?;
    match first {
        "connection_id" => leaf(rest, Value::Uint(stream.connection.id)),
        "connection" => wrapper(rest, |name| connection(stream, name)),
        "source" => wrapper(rest, |name| address(stream.connection.source, name)),
        "destination" => wrapper(rest, |name| address(stream.connection.destination, name)),
        "upstream" => wrapper(rest, |name| upstream(stream, name)),
        "request" => request(state, stream, rest),
        "response" => response(stream, rest),
        "metadata" => leaf(rest, text("")),
        "upstream_filter_state" if chosen(stream) => wrapper(rest, |_| None),
        "upstream_filter_state" => None,
        "filter_state" => wrapper(rest, |key| stream.filter_state.get(key).map(owned)),
        name => leaf(rest, owned(stream.filter_state.get(&format!("wasm.{name}"))?)),
    }
}

fn xds<'a>(state: &'a State, rest: &[&str]) -> Found<'a> {
    match rest {
        [] => return Some(Value::Unencodable),
        ["node"] => return Some(Value::Message),
        ["node", "id"] => return Some(text(&state.node.id)),
        ["node", "cluster"] => return Some(text(&state.node.cluster)),
        ["node", "metadata", path @ ..] => return walk(&state.node.metadata, path),
        ["node", "locality", "region" | "zone" | "sub_zone"] => return Some(text("")),
        _ => {}
    }
    let stream = state.stream_of(state.context_id())?;
    match rest {
        ["listener_metadata" | "filter_chain_name"] => Some(text("")),
        ["cluster_metadata"] if stream.http().is_some() || stream.phase > Phase::Request => Some(text("")),
        ["route_metadata" | "virtual_host_metadata"] => stream.http().map(|_| text("")),
        ["route_name"] => stream.http().map(|_| text(&stream.connection.route_name)),
        ["virtual_host_name"] => stream.http().map(|_| text(&stream.connection.virtual_host_name)),
        ["upstream_host_locality_metadata"] if chosen(stream) => Some(Value::Unencodable),
        ["listener_direction"] => Some(Value::Int(state.node.listener_direction as i64)),
        // A TCP proxy picks its cluster only after the filters before it have let the connection in.
        ["cluster_name"] if stream.http().is_some() || stream.phase > Phase::Request => {
            stream.connection.upstream_cluster.as_deref().map(text)
        }
        ["upstream_host_metadata", path @ ..] if chosen(stream) => {
            walk(&stream.connection.upstream_host_metadata, path)
        }
        _ => None,
    }
}

/// Whether the load balancer has chosen an upstream host.
fn chosen(stream: &Stream) -> bool {
    // A TCP proxy dials before it reads.
    let dialled = if stream.http().is_some() { Phase::Data } else { Phase::Request };
    stream.connection.upstream_filter || stream.phase > dialled
}

fn walk<'a>(json: &'a Json, path: &[&str]) -> Found<'a> {
    let Some((key, rest)) = path.split_first() else { return Some(Value::Json(json)) };
    match json {
        Json::Object(fields) => walk(fields.get(*key)?, rest),
        Json::Array(items) => walk(items.get(key.parse::<usize>().ok()?)?, rest),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    }
}

fn connection<'a>(stream: &'a Stream, name: &str) -> Found<'a> {
    let connection = &stream.connection;
    // A network filter sees a new connection before the handshake.
    let shaken = stream.http().is_some() || stream.phase > Phase::Request;
    match name {
        "id" => return Some(Value::Uint(connection.id)),
        "mtls" => return Some(Value::Bool(shaken && connection.mtls())),
        "requested_server_name" => return Some(text(&connection.requested_server_name)),
        "peer_certificate_valid" => {
            let peer = connection.tls.as_ref().filter(|_| shaken).and_then(|tls| tls.peer.as_ref());
            return Some(Value::Bool(peer.is_some_and(|peer| peer.valid)));
        }
        _ => {}
    }
    let tls = connection.tls.as_ref().filter(|_| shaken)?;
    let peer = tls.peer.as_ref();
    match name {
        "tls_version" => Some(text(&tls.version)),
        "subject_local_certificate" => Some(text(&tls.subject_local_certificate)),
        "uri_san_local_certificate" => tls.uri_san_local_certificate.as_deref().map(text),
        "subject_peer_certificate" => Some(text(peer.map_or("", |peer| &peer.subject))),
        "uri_san_peer_certificate" => peer?.uri_san.as_deref().map(text),
        "sha256_peer_certificate_digest" => Some(text(&peer?.sha256)),
        "peer_certificate" => Some(text(&peer?.pem)),
        _ => None,
    }
}

fn address<'a>(address: SocketAddr, name: &str) -> Found<'a> {
    match name {
        "address" => Some(Value::Bytes(address.to_string().into_bytes().into())),
        "port" => Some(Value::Int(address.port().into())),
        _ => None,
    }
}

fn upstream<'a>(stream: &'a Stream, name: &str) -> Found<'a> {
    let chosen = chosen(stream);
    match name {
        "request_attempt_count" => Some(Value::Uint(chosen.into())),
        "transport_failure_reason" if chosen || stream.l4().is_some() => Some(text("")),
        "locality" => chosen.then(|| text("")),
        name => address(stream.connection.upstream.filter(|_| chosen)?, name),
    }
}

fn request<'a>(state: &State, stream: &'a Stream, rest: &[&str]) -> Found<'a> {
    let Some((name, rest)) = rest.split_first() else { return Some(Value::Unencodable) };
    match *name {
        "time" => return leaf(rest, Value::Int(i64::try_from(stream.started.as_nanos()).ok()?)),
        "headers" => {
            let headers = stream.readable(&stream.http()?.request)?;
            let host = rest.iter().any(|name| name.eq_ignore_ascii_case("host"));
            return header(headers, if host { &[":authority"] } else { rest });
        }
        _ => {}
    }
    let http = match &stream.protocol {
        Protocol::Http(http) => http,
        Protocol::L4(_) if *name == "headers_bytes" => return leaf(rest, count(0)),
        Protocol::L4(l4) => {
            return leaf(rest, bytes_of(name, l4.downstream.passed.len() + l4.downstream.buffer.len())?);
        }
    };
    match *name {
        "protocol" => leaf(rest, text("HTTP/1.1")),
        "size" => leaf(rest, size(stream, &http.request)),
        "headers_bytes" => leaf(rest, count(visible(stream, &http.request))),
        "total_size" => leaf(rest, count(visible(stream, &http.request) + http.request.received)),
        "duration" if stream.phase >= Phase::Log => {
            leaf(rest, Value::Int(i64::try_from((state.now.saturating_sub(stream.started)).as_nanos()).ok()?))
        }
        field => leaf(rest, request_field(stream.readable(&http.request)?, field)?),
    }
}

fn request_field<'a>(headers: &'a Headers, field: &str) -> Found<'a> {
    let named = |name| headers.value(name).map(bytes);
    let mut path = headers.value(":path").into_iter().flat_map(|path| path.splitn(2, |byte| *byte == b'?'));
    match field {
        "path" => named(":path"),
        "url_path" => path.next().map(bytes),
        "query" => path.next().map(|_| bytes(path.next().unwrap_or_default())),
        "host" => named(":authority"),
        "scheme" => named(":scheme"),
        "method" => named(":method"),
        "referer" => named("referer"),
        "useragent" => named("user-agent"),
        "id" => named("x-request-id"),
        _ => None,
    }
}

fn response<'a>(stream: &'a Stream, rest: &[&str]) -> Found<'a> {
    let Some((name, rest)) = rest.split_first() else { return Some(Value::Unencodable) };
    let http = match &stream.protocol {
        Protocol::Http(http) => http,
        Protocol::L4(_) if *name == "flags" => return leaf(rest, Value::Int(0)),
        Protocol::L4(l4) => return leaf(rest, bytes_of(name, l4.upstream.passed.len())?),
    };
    match *name {
        "headers" => header(stream.readable(&http.response)?, rest),
        "flags" => leaf(rest, Value::Int(0)),
        "size" => leaf(rest, count(http.response.sent.body.len())),
        "total_size" => leaf(rest, count(visible(stream, &http.response) + http.response.sent.body.len())),
        "grpc_status" => leaf(rest, grpc_status(http, stream.readable(&http.response)?)?),
        "trailers" => header(stream.readable_trailers(Side::Response)?, rest),
        "code_details" => {
            leaf(rest, text(http.details.as_deref().or_else(|| http.code.map(|_| "via_upstream"))?))
        }
        field if http.response.held != Held::Awaited => leaf(rest, response_field(http, field)?),
        _ => None,
    }
}

fn response_field<'a>(http: &'a Http, field: &str) -> Found<'a> {
    match field {
        "code" => http.code.map(Value::Int),
        // The clock of a sandbox does not move while an upstream answers.
        "backend_latency" => http.reply.is_none().then_some(Value::Int(0)),
        _ => None,
    }
}

fn header<'a>(headers: &'a Headers, rest: &[&str]) -> Found<'a> {
    wrapper(rest, |name| headers.joined(name.as_bytes()).map(|value| Value::Bytes(value.into())))
}

/// What a direction of a TCP connection has for the sizes of a message.
fn bytes_of<'a>(name: &str, bytes: usize) -> Found<'a> {
    match name {
        "size" | "total_size" => Some(count(bytes)),
        _ => None,
    }
}

/// What the message says of its body, else what has come of it.
fn size<'a>(stream: &Stream, message: &Flow) -> Value<'a> {
    let said = stream.readable(message).and_then(|headers| headers.text("content-length"));
    said.and_then(|length| length.parse().ok()).map_or_else(|| count(message.received), Value::Int)
}

/// The size of the headers of a message, where they can be read.
fn visible(stream: &Stream, message: &Flow) -> usize {
    stream.readable(message).map_or(0, Headers::byte_size)
}

/// The status that a response of gRPC carries; any other response has the one that its code stands for.
fn grpc_status<'a>(http: &Http, headers: &Headers) -> Found<'a> {
    let said = headers.text("grpc-status").map(str::parse);
    let stands_for = || u32::try_from(http.code?).ok().map(|code| i64::from(http::grpc_status(code)));
    said.map_or_else(stands_for, Result::ok).map(Value::Int)
}

fn count<'a>(bytes: usize) -> Value<'a> {
    Value::Int(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// A value without parts: any further segment leads nowhere.
fn leaf<'a>(rest: &[&str], value: Value<'a>) -> Found<'a> {
    rest.is_empty().then_some(value)
}

/// A value with parts that have none of their own.
fn wrapper<'a>(rest: &[&str], part: impl FnOnce(&str) -> Found<'a>) -> Found<'a> {
    match rest {
        [] => Some(Value::Unencodable),
        [name] => part(name),
        [_, _, ..] => None,
    }
}

fn text(text: &str) -> Value<'_> {
    bytes(text.as_bytes())
}

fn owned<'a>(bytes: Vec<u8>) -> Value<'a> {
    Value::Bytes(Cow::Owned(bytes))
}

fn bytes(bytes: &[u8]) -> Value<'_> {
    Value::Bytes(Cow::Borrowed(bytes))
}

fn encode(value: Value<'_>) -> Result<Vec<u8>, Status> {
    Ok(match value {
        Value::Bytes(bytes) => bytes.into_owned(),
        Value::Int(number) => number.to_le_bytes().to_vec(),
        Value::Uint(number) => number.to_le_bytes().to_vec(),
        Value::Bool(yes) => vec![u8::from(yes)],
        Value::Json(json) => encode_json(json)?,
        Value::Unencodable => return Err(Status::SerializationFailure),
        Value::Message => return Err(Status::Unimplemented),
    })
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
