//! Hostcalls on header maps.

use super::{Answer, Call, Slot, Span, Status};
use crate::sandbox::abi::Abi;
use crate::sandbox::headers::Headers;
use crate::sandbox::message::Side;
use crate::sandbox::pairs as block;
use crate::sandbox::state::State;
use crate::sandbox::stream::{Held, Http, Phase};

const REQUEST: u32 = 0;
const REQUEST_TRAILERS: u32 = 1;
const RESPONSE: u32 = 2;
const RESPONSE_TRAILERS: u32 = 3;
const GRPC_INITIAL_METADATA: u32 = 4;
const GRPC_TRAILING_METADATA: u32 = 5;
const CALL_RESPONSE_HEADERS: u32 = 6;
const CALL_RESPONSE_TRAILERS: u32 = 7;
const LAST_MAP: u32 = 7;

/// Envoy counts bytes here, of maps that can be written.
pub(super) fn size(call: &mut Call<'_>, map: u32, ret: u32) -> Answer {
    let size = writable(call.state_mut(), map)?.byte_size();
    call.write_u32(ret, u32::try_from(size).unwrap_or(u32::MAX))
}

/// A map that is not there now reads as an empty one.
pub(super) fn pairs(call: &mut Call<'_>, map: u32, slot: Slot) -> Answer {
    known(map)?;
    call.hand(slot, |call, bytes| {
        if let Some(headers) = readable(call.state(), map) {
            block::write(headers.iter(), bytes);
        }
        Ok(())
    })
}

/// A block that does not decode clears the map, as in Envoy.
pub(super) fn set_pairs(call: &mut Call<'_>, map: u32, span: Span) -> Answer {
    known(map)?;
    let ([block], state) = call.read_to([span])?;
    change(state, map, |headers| *headers = block::decode(block).unwrap_or_default().into_iter().collect())
}

pub(super) fn value(call: &mut Call<'_>, map: u32, key: Span, slot: Slot) -> Answer {
    known(map)?;
    call.hand(slot, |call, bytes| {
        let key = named(map, call.read(key)?);
        let found = match readable(call.state(), map) {
            Some(headers) => headers.values(key).next().ok_or(Status::NotFound),
            None => Err(absent(call.state())),
        };
        match found {
            // Before ABI 0.2.0, what is missing reads as empty.
            Err(Status::NotFound) if call.state().abi < Abi::V0_2_0 => {}
            found => bytes.extend_from_slice(found?),
        }
        Ok(())
    })
}

pub(super) fn add(call: &mut Call<'_>, map: u32, key: Span, value: Span) -> Answer {
    known(map)?;
    let ([key, value], state) = call.read_to([key, value])?;
    change(state, map, |headers| headers.add(key, value))
}

pub(super) fn replace(call: &mut Call<'_>, map: u32, key: Span, value: Span) -> Answer {
    known(map)?;
    let ([key, value], state) = call.read_to([key, value])?;
    change(state, map, |headers| headers.replace(named(map, key), value))
}

pub(super) fn remove(call: &mut Call<'_>, map: u32, key: Span) -> Answer {
    known(map)?;
    let ([key], state) = call.read_to([key])?;
    change(state, map, |headers| headers.remove(key))
}

/// In a request, `host` is another name of `:authority`.
fn named(map: u32, key: &[u8]) -> &[u8] {
    if map == REQUEST && key.eq_ignore_ascii_case(b"host") { b":authority" } else { key }
}

fn known(map: u32) -> Result<(), Status> {
    if map > LAST_MAP { Err(Status::BadArgument) } else { Ok(()) }
}

/// What has come with a callout's answer, which is the root's, can only be read.
fn arrived(state: &State, map: u32) -> Option<&Headers> {
    let arrived = &state.root(state.root_id())?.callouts.arrived;
    match map {
        GRPC_INITIAL_METADATA => arrived.initial_metadata.as_ref(),
        GRPC_TRAILING_METADATA => arrived.trailing_metadata.as_ref(),
        CALL_RESPONSE_HEADERS => arrived.response.as_ref().map(|response| &response.headers),
        CALL_RESPONSE_TRAILERS => arrived.response.as_ref()?.trailers.as_ref(),
        _ => None,
    }
}

fn readable(state: &State, map: u32) -> Option<&Headers> {
    if map >= GRPC_INITIAL_METADATA {
        return arrived(state, map);
    }
    let stream = state.stream_of(state.context_id())?;
    let http = stream.http()?;
    match map {
        REQUEST => stream.readable(&http.request),
        RESPONSE => stream.readable(&http.response),
        REQUEST_TRAILERS => stream.readable_trailers(Side::Request),
        RESPONSE_TRAILERS => stream.readable_trailers(Side::Response),
        _ => None,
    }
}

/// What a read of a map that is not there answers.
fn absent(state: &State) -> Status {
    match state.stream_of(state.context_id()).map(|stream| stream.phase) {
        Some(Phase::Log) => Status::NotFound,
        Some(Phase::Request | Phase::Data | Phase::Response | Phase::Gone) | None => Status::BadArgument,
    }
}

fn writable(state: &mut State, map: u32) -> Result<&mut Headers, Status> {
    let id = state.context_id();
    writable_of(state.http_mut(id).ok_or(Status::BadArgument)?, map)
}

fn writable_of(http: &mut Http, map: u32) -> Result<&mut Headers, Status> {
    let message = match map {
        REQUEST => &mut http.request,
        RESPONSE => &mut http.response,
        REQUEST_TRAILERS => return http.request.trailers_mut().ok_or(Status::BadArgument),
        RESPONSE_TRAILERS => return http.response.trailers_mut().ok_or(Status::BadArgument),
        _ => return Err(Status::BadArgument),
    };
    match message.held {
        Held::Filter => Ok(&mut message.headers),
        Held::Awaited | Held::Passed => Err(Status::BadArgument),
    }
}

/// For modules of ABI 0.2.1 and older, Envoy picks the route again after any change to the request's headers.
fn change(state: &mut State, map: u32, change: impl FnOnce(&mut Headers)) -> Answer {
    let id = state.context_id();
    let http = state.http_mut(id).ok_or(Status::BadArgument)?;
    change(writable_of(http, map)?);
    if map == REQUEST {
        http.route_refreshes += 1;
    }
    Ok(())
}
