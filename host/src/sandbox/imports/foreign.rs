//! Foreign functions: what a guest calls by name.

use std::collections::hash_map::Entry;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::{Answer, Call, Slot, Span, Status};
use crate::sandbox::attributes;
use crate::sandbox::connection::EnvoyVersion;
use crate::sandbox::filter_state::{self, LifeSpan, Prototype};
use crate::sandbox::state::State;
use crate::sandbox::{proto, signature};

/// The keys of the filter state that Envoy 1.40 knows how to make from bytes. Others are not found.
const MADE_FROM_BYTES: [&str; 14] = [
    "envoy.filters.listener.original_dst.local_ip",
    "envoy.filters.listener.original_dst.remote_ip",
    "envoy.hashable_string",
    "envoy.network.application_protocols",
    "envoy.network.transport_socket.original_dst_address",
    "envoy.network.upstream_server_name",
    "envoy.network.upstream_subject_alt_names",
    "envoy.ratelimit.hits_addend",
    "envoy.string",
    "envoy.tcp_proxy.cluster",
    "envoy.tcp_proxy.disable_tunneling",
    "envoy.tcp_proxy.per_connection_idle_timeout_ms",
    "envoy.upstream.dynamic_host",
    "envoy.upstream.dynamic_port",
];

/// The first Envoy that signs, and that reads keys in PEM.
const WITH_SIGN: u32 = 37;

pub(super) fn call(call: &mut Call<'_>, name: Span, argument: Span, slot: Slot) -> Answer {
    let argument = call.copy(argument)?;
    let name = String::from_utf8_lossy(call.read(name)?).into_owned();
    let registered = call.state().functions.get(&name);
    let answer = match registered {
        Some(function) => function(&argument).ok_or(Status::BadArgument),
        None => built_in(call.state_mut(), &name, &argument),
    };
    if answer == Err(Status::NotFound) && !is_built_in(&name, call.state().node.envoy) {
        return Err(Status::NotFound);
    }
    // An expression that comes to nothing is told of in memory all the same.
    let answer = match answer {
        Ok(bytes) if bytes.is_empty() && name == "expr_evaluate" && slot.0 != 0 => {
            let at = call.allocate(0)?;
            call.write_u32(slot.0, at)?;
            return call.write_u32(slot.1, 0);
        }
        answer => answer,
    };
    give(call, answer.as_deref().unwrap_or_default(), slot)?;
    answer.map(drop)
}

/// A guest that does not care for the answer says nowhere to put it.
fn give(call: &mut Call<'_>, bytes: &[u8], slot: Slot) -> Answer {
    let size = u32::try_from(bytes.len()).ok().ok_or(Status::InvalidMemoryAccess)?;
    if slot.0 != 0 {
        let at = call.place(bytes)?;
        call.write_u32(slot.0, at)?;
    }
    if slot.1 != 0 {
        call.write_u32(slot.1, size)?;
    }
    Ok(())
}

fn is_built_in(name: &str, envoy: EnvoyVersion) -> bool {
    const NAMES: [&str; 9] = [
        "clear_route_cache",
        "compress",
        "declare_property",
        "expr_create",
        "expr_delete",
        "expr_evaluate",
        "set_envoy_filter_state",
        "uncompress",
        "verify_signature",
    ];
    NAMES.contains(&name) || (name == "sign" && envoy.minor >= WITH_SIGN)
}

/// Those of Envoy act for the context that runs, not for the effective one, but for the declaring of properties.
fn built_in(state: &mut State, name: &str, argument: &[u8]) -> Result<Vec<u8>, Status> {
    match name {
        "compress" => return compressed(argument),
        "uncompress" => return uncompressed(argument),
        "sign" if state.node.envoy.minor >= WITH_SIGN => return signature::sign(argument),
        "verify_signature" => return signature::verify(argument, state.node.envoy.minor >= WITH_SIGN),
        "expr_create" | "expr_delete" | "expr_evaluate" => return expression(state, name, argument),
        "clear_route_cache" if state.node.envoy.minor >= 33 => {
            let id = state.current;
            super::flow::refresh_route(state, id);
            Ok(())
        }
        "declare_property" => declare_property(state, argument),
        "set_envoy_filter_state" => set_filter_state(state, argument),
        _ => Err(Status::NotFound),
    }
    .map(|()| Vec::new())
}

/// Expressions are the root's, and see what the context that runs sees.
fn expression(state: &mut State, name: &str, argument: &[u8]) -> Result<Vec<u8>, Status> {
    let effective = std::mem::take(&mut state.effective);
    let id = state.root_id();
    let done =
        state.root_mut(id).map(|root| &mut root.expressions).ok_or(Status::NotFound).and_then(
            |all| match name {
                "expr_create" => all.create(argument).map(|number| (number.to_le_bytes().to_vec(), None)),
                "expr_delete" => all.delete(argument).map(|()| (Vec::new(), None)),
                _ => all.of(argument).map(|expression| (Vec::new(), Some(expression))),
            },
        );
    let done = done.and_then(|(bytes, expression)| match expression {
        Some(expression) => attributes::evaluate(&expression, state),
        None => Ok(bytes),
    });
    state.effective = effective;
    done
}

/// A stream of zlib (RFC 1950), as Envoy makes it: at zlib's own level.
fn compressed(bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let mut stream = ZlibEncoder::new(Vec::new(), Compression::default());
    stream.write_all(bytes).and_then(|()| stream.finish()).ok().ok_or(Status::SerializationFailure)
}

/// What such a stream holds. One that is cut short or is none is refused, and so is what no guest could take.
fn uncompressed(stream: &[u8]) -> Result<Vec<u8>, Status> {
    /// The memory that a guest has at most.
    const MOST: u64 = 1 << 30;
    let mut bytes = Vec::new();
    let mut stream = ZlibDecoder::new(stream).take(MOST);
    stream.read_to_end(&mut bytes).ok().ok_or(Status::SerializationFailure)?;
    Ok(bytes)
}

/// Declared values are the root's, and declared once. What a stream declares for itself never counts, as in Envoy.
fn declare_property(state: &mut State, argument: &[u8]) -> Result<(), Status> {
    let (name, prototype) = filter_state::declaration(argument).ok_or(Status::BadArgument)?;
    let id = state.context_id();
    match state.root_mut(id).map(|root| root.declared.entry(name)) {
        Some(Entry::Occupied(_)) => Err(Status::BadArgument),
        Some(Entry::Vacant(place)) => {
            place.insert(prototype);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Reads `SetEnvoyFilterStateArguments` (envoy/source/extensions/common/wasm/ext/set_envoy_filter_state.proto): path (1),
/// value (2), span (3).
fn set_filter_state(state: &mut State, argument: &[u8]) -> Result<(), Status> {
    let fields = proto::fields(argument).ok_or(Status::BadArgument)?;
    let path = String::from_utf8_lossy(proto::bytes(&fields, 1).unwrap_or_default()).into_owned();
    if !MADE_FROM_BYTES.contains(&path.as_str()) {
        return Err(Status::NotFound);
    }
    let value = proto::bytes(&fields, 2).unwrap_or_default().to_vec();
    let life_span = if proto::number(&fields, 3) == 2 { LifeSpan::Connection } else { LifeSpan::Stream };
    let id = state.current;
    let stream = state.stream_mut(id).ok_or(Status::NotFound)?;
    stream.filter_state.set(path, value, Prototype { life_span, ..Prototype::default() })
}
