//! Attributes of a stream and of its connections.

use std::time::Duration;

use super::value::{Found, Value, bytes, leaf, owned, text, wrapper};
use super::{address, chosen, locality};
use crate::sandbox::connection::{EnvoyVersion, Tls};
use crate::sandbox::headers::Headers;
use crate::sandbox::message::Side;
use crate::sandbox::reply::grpc_status;
use crate::sandbox::stream::{Flow, Held, Http, Phase, Protocol, Stream};

/// The first Envoy that says how large the headers of a request are.
const WITH_HEADERS_BYTES: u32 = 37;

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
        "peer_certificate_valid" if envoy.minor >= WITH_VERDICT => {
            let peer = connection.tls.as_ref().filter(|_| shaken).and_then(|tls| tls.peer.as_ref());
            Some(Value::Bool(peer.is_some_and(|peer| peer.valid)))
        }
        "tls_version" if connection.tls.is_some() => {
            // Envoy remembers what it said first: before the handshake, a version that is then not agreed on.
            let early = stream.asked_early.get() || !shaken;
            stream.asked_early.set(early);
            if early { Some(text("TLSv1.2")) } else { session(connection.tls.as_ref()?, shaken, name, envoy) }
        }
        name => session(connection.tls.as_ref()?, shaken, name, envoy),
    }
}

/// What a TLS session shows of itself and of both its certificates; of the peer's only once hands were shaken.
fn session<'a>(tls: &'a Tls, shaken: bool, name: &str, envoy: EnvoyVersion) -> Found<'a> {
    let peer = tls.peer.as_ref().filter(|_| shaken);
    match name {
        "tls_version" => Some(text(&tls.version)),
        "subject_local_certificate" => Some(text(&tls.subject_local_certificate)),
        "uri_san_local_certificate" => tls.uri_san_local_certificate.as_deref().map(text),
        "dns_san_local_certificate" => tls.dns_san_local_certificate.as_deref().map(text),
        "subject_peer_certificate" => Some(text(peer.map_or("", |peer| &peer.subject))),
        "uri_san_peer_certificate" => peer?.uri_san.as_deref().map(text),
        "dns_san_peer_certificate" => peer?.dns_san.as_deref().map(text),
        "sha256_peer_certificate_digest" => Some(text(&peer?.sha256)),
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
        "transport_failure_reason" if chosen || stream.l4().is_some() => leaf(rest, text("")),
        "address" | "port" if chosen => {
            wrapper(&[name], |name| address(connection.upstream?, name)).filter(|_| rest.is_empty())
        }
        // An upstream filter knows the host, but the connection is made only after it.
        name if stream.phase > Phase::Request => {
            leaf(rest, session(connection.upstream_tls.as_ref()?, true, name, envoy)?)
        }
        _ => None,
    }
}

pub(super) fn request<'a>(
    stream: &'a Stream,
    rest: &[&str],
    (now, envoy): (Duration, EnvoyVersion),
) -> Found<'a> {
    let Some((name, rest)) = rest.split_first() else { return Some(Value::Unencodable) };
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).ok().map(Value::Int);
    match *name {
        "time" => return leaf(rest, nanos(stream.started)?),
        "duration" if stream.phase >= Phase::Log && stream.http().is_some() => {
            return leaf(rest, nanos(now.saturating_sub(stream.started))?);
        }
        "headers_bytes" if envoy.minor < WITH_HEADERS_BYTES => return None,
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
        "protocol" => leaf(rest, text(stream.connection.protocol.as_str())),
        "size" => leaf(rest, size(stream, &http.request)),
        "total_size" => leaf(rest, count(visible(stream, &http.request) + http.request.received)),
        "headers_bytes" => leaf(rest, count(visible(stream, &http.request))),
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
    let http = match &stream.protocol {
        Protocol::Http(http) => http,
        Protocol::L4(_) if *name == "flags" => return leaf(rest, Value::Int(0)),
        Protocol::L4(l4) => return leaf(rest, bytes_of(name, l4.upstream.passed.len())?),
    };
    let sent = http.response.sent.body.len();
    match *name {
        "headers" => header(stream.readable(&http.response)?, rest),
        "trailers" => header(stream.readable_trailers(Side::Response)?, rest),
        "flags" => leaf(rest, Value::Int(0)),
        "size" => leaf(rest, count(sent)),
        "total_size" => leaf(rest, count(visible(stream, &http.response) + sent)),
        "grpc_status" => {
            let trailers = stream.readable_trailers(Side::Response);
            leaf(rest, status(http, trailers, stream.readable(&http.response)?)?)
        }
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

/// The status that a response of gRPC carries; any other response has the one that its code stands for.
fn status<'a>(http: &Http, trailers: Option<&Headers>, headers: &Headers) -> Found<'a> {
    let said = trailers.and_then(|trailers| trailers.text("grpc-status"));
    let said = said.or_else(|| headers.text("grpc-status")).map(str::parse);
    let stands_for = || u32::try_from(http.code?).ok().map(|code| i64::from(grpc_status(code)));
    said.map_or_else(stands_for, Result::ok).map(Value::Int)
}

pub(super) fn header<'a>(headers: &'a Headers, rest: &[&str]) -> Found<'a> {
    wrapper(rest, |name| headers.joined(name.as_bytes()).map(owned))
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

fn count<'a>(bytes: usize) -> Value<'a> {
    Value::Int(i64::try_from(bytes).unwrap_or(i64::MAX))
}
