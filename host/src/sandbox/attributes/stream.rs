//! Attributes of a stream and of its connections.

use std::time::Duration;

use super::value::{Found, Value, bytes, leaf, owned, text, wrapper};
use super::{address, chosen, locality};
use crate::sandbox::connection::{EnvoyVersion, Tls};
use crate::sandbox::headers::Headers;
use crate::sandbox::http::{Held, grpc_status};
use crate::sandbox::message::Side;
use crate::sandbox::stream::{Http, Phase, Stream};

/// The first Envoys that show a peer's certificate, and whether its chain was verified.
const WITH_CERTIFICATE: u32 = 38;
const WITH_VERDICT: u32 = 39;

pub(super) fn connection<'a>(stream: &'a Stream, name: &str, envoy: EnvoyVersion) -> Found<'a> {
    let connection = &stream.connection;
    // A network filter sees a new connection before the handshake.
    let shaken = stream.http().is_some() || stream.phase > Phase::Request;
    match name {
        "id" => Some(Value::Uint(connection.id)),
        "mtls" => Some(Value::Bool(shaken && connection.mtls())),
        "requested_server_name" => Some(text(&connection.requested_server_name)),
        name => session(connection.tls.as_ref().filter(|_| shaken)?, name, envoy),
    }
}

/// What a TLS session shows of itself and of both its certificates.
fn session<'a>(tls: &'a Tls, name: &str, envoy: EnvoyVersion) -> Found<'a> {
    let peer = tls.peer.as_ref();
    match name {
        "tls_version" => Some(text(&tls.version)),
        "subject_local_certificate" => Some(text(&tls.subject_local_certificate)),
        "uri_san_local_certificate" => tls.uri_san_local_certificate.as_deref().map(text),
        "dns_san_local_certificate" => tls.dns_san_local_certificate.as_deref().map(text),
        "subject_peer_certificate" => Some(text(peer.map_or("", |peer| &peer.subject))),
        "uri_san_peer_certificate" => peer?.uri_san.as_deref().map(text),
        "dns_san_peer_certificate" => peer?.dns_san.as_deref().map(text),
        "sha256_peer_certificate_digest" => Some(text(peer.map_or("", |peer| &peer.sha256))),
        "peer_certificate" if envoy.minor >= WITH_CERTIFICATE => Some(text(&peer?.pem)),
        "peer_certificate_valid" if envoy.minor >= WITH_VERDICT => {
            Some(Value::Bool(peer.is_some_and(|peer| peer.valid)))
        }
        _ => None,
    }
}

pub(super) fn upstream<'a>(stream: &'a Stream, rest: &[&str], envoy: EnvoyVersion) -> Found<'a> {
    let Some((name, rest)) = rest.split_first() else { return Some(Value::Unencodable) };
    let (connection, chosen) = (&stream.connection, chosen(stream));
    match *name {
        "request_attempt_count" => leaf(rest, Value::Uint(chosen.into())),
        "locality" if chosen => locality(&connection.upstream_locality, rest),
        "local_address" if chosen => leaf(rest, owned(connection.upstream_local?.to_string().into_bytes())),
        "transport_failure_reason" if chosen => leaf(rest, text("")),
        "address" | "port" if chosen => {
            wrapper(&[name], |name| address(connection.upstream?, name)).filter(|_| rest.is_empty())
        }
        // An upstream filter knows the host, but the connection is made only after it.
        name if stream.phase > Phase::Request => {
            leaf(rest, session(connection.upstream_tls.as_ref()?, name, envoy)?)
        }
        _ => None,
    }
}

pub(super) fn request<'a>(stream: &'a Stream, rest: &[&str], now: Duration) -> Found<'a> {
    let Some((name, rest)) = rest.split_first() else { return Some(Value::Unencodable) };
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).ok().map(Value::Int);
    match *name {
        "time" => return leaf(rest, nanos(stream.started)?),
        "duration" if stream.phase == Phase::Log => {
            return leaf(rest, nanos(now.saturating_sub(stream.started))?);
        }
        "headers" => return header(stream.readable(&stream.http()?.request)?, rest),
        _ => {}
    }
    let http = stream.http()?;
    let received = http.request.received;
    match *name {
        "protocol" => leaf(rest, text(stream.connection.protocol.as_str())),
        "size" => leaf(rest, size(&http.request.headers, received)?),
        "total_size" => leaf(rest, count(received + http.request.headers.byte_size())),
        "headers_bytes" => leaf(rest, count(http.request.headers.byte_size())),
        field => leaf(rest, request_field(stream.readable(&http.request)?, field)?),
    }
}

fn request_field<'a>(headers: &'a Headers, field: &str) -> Found<'a> {
    let named = |name| headers.value(name).map(bytes);
    let mut path = headers.value(":path").into_iter().flat_map(|path| path.splitn(2, |byte| *byte == b'?'));
    match field {
        "path" => named(":path"),
        "url_path" => path.next().map(bytes),
        "query" => {
            let query = path.nth(1).unwrap_or_default();
            headers.value(":path").and(query.split(|byte| *byte == b'#').next()).map(bytes)
        }
        "host" => named(":authority"),
        "scheme" => named(":scheme"),
        "method" => named(":method"),
        "referer" => named("referer"),
        "useragent" => named("user-agent"),
        "id" => named("x-request-id"),
        _ => None,
    }
}

pub(super) fn response<'a>(stream: &'a Stream, rest: &[&str]) -> Found<'a> {
    let Some((name, rest)) = rest.split_first() else { return Some(Value::Unencodable) };
    let http = stream.http()?;
    let sent = http.response.sent.body.len();
    match *name {
        "headers" => header(stream.readable(&http.response)?, rest),
        "trailers" => match stream.readable_trailers(Side::Response) {
            Some(trailers) => header(trailers, rest),
            None => leaf(rest, Value::EmptyMap),
        },
        "flags" => leaf(rest, Value::Int(0)),
        "size" => leaf(rest, count(sent)),
        "total_size" => {
            let (headers, trailers) = (http.response.headers.byte_size(), http.response.trailers.byte_size());
            leaf(rest, count(sent + headers + trailers))
        }
        "code_details" if http.reset && http.reply.is_none() => leaf(rest, text("wasm_close_stream")),
        "backend_latency" if stream.phase == Phase::Log && http.reply.is_none() => leaf(rest, Value::Int(0)),
        field if http.response.held != Held::Awaited => leaf(rest, response_field(http, field)?),
        _ => None,
    }
}

fn response_field<'a>(http: &'a Http, field: &str) -> Found<'a> {
    let code = || http.response.headers.text(":status")?.parse::<u32>().ok();
    match field {
        "code" => Some(Value::Int(code()?.into())),
        "code_details" => {
            Some(text(http.reply.as_ref().map_or("via_upstream", |replied| &replied.reply.details)))
        }
        "headers_bytes" => Some(count(http.response.headers.byte_size())),
        // In the trailers, in the headers of a response without, or what the HTTP status amounts to.
        "grpc_status" => {
            let said = |headers: &Headers| headers.text("grpc-status")?.parse().ok();
            let told = said(&http.response.trailers).or_else(|| said(&http.response.headers));
            Some(Value::Int(told.or_else(|| code().map(grpc_status))?.into()))
        }
        _ => None,
    }
}

fn header<'a>(headers: &'a Headers, rest: &[&str]) -> Found<'a> {
    wrapper(rest, |name| headers.joined(name.as_bytes()).map(owned))
}

/// What the request says of its size, and what has come so far if it says nothing.
fn size<'a>(headers: &Headers, received: usize) -> Found<'a> {
    match headers.text("content-length") {
        Some(length) => length.parse().ok().map(Value::Int),
        None => Some(count(received)),
    }
}

fn count<'a>(bytes: usize) -> Value<'a> {
    Value::Int(i64::try_from(bytes).unwrap_or(i64::MAX))
}
