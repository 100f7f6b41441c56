//! Hostcalls that steer a stream: reply, continue, close, context.

use super::{Answer, Call, Span, Status};
use crate::sandbox::context::Life;
use crate::sandbox::outcome::LocalReply;
use crate::sandbox::pairs;
use crate::sandbox::state::{Deferred, State, Steer};

pub(super) const REQUEST: u32 = 0;
pub(super) const RESPONSE: u32 = 1;
const DOWNSTREAM: u32 = 2;
const UPSTREAM: u32 = 3;

/// The last status code of gRPC; Envoy ignores any other number.
const LAST_GRPC_STATUS: u32 = 16;

pub(super) fn send_local_response(
    call: &mut Call<'_>,
    (status, grpc_status): (u32, i32),
    details: Span,
    body: Span,
    headers: Span,
) -> Answer {
    let details =
        String::from_utf8_lossy(call.read(details)?).replace(|c: char| c.is_ascii_whitespace(), "_");
    let body = call.copy(body)?;
    let headers = pairs::decode(call.read(headers)?).unwrap_or_default().into_iter().collect();
    let grpc_status = u32::try_from(grpc_status).ok().filter(|status| *status <= LAST_GRPC_STATUS);
    let reply = LocalReply { status, headers, body, details, grpc_status };
    call.state_mut().stopped = true;
    defer(call.state_mut(), Deferred::Reply(reply));
    Ok(())
}

/// Envoy forgets the request at once, for a response too, and goes on after the callback.
pub(super) fn continue_stream(call: &mut Call<'_>, stream: u32) -> Answer {
    let steer = match stream {
        REQUEST => Steer::ContinueRequest,
        RESPONSE => Steer::ContinueResponse,
        DOWNSTREAM => Steer::ContinueConnection,
        UPSTREAM => return Err(Status::Unimplemented),
        _ => return Err(Status::BadArgument),
    };
    let state = call.state_mut();
    let id = state.context_id();
    if stream <= RESPONSE
        && let Some(http) = state.http_mut(id)
    {
        http.request.forget();
    }
    state.deferred.push_back((id, Deferred::Steer(steer)));
    Ok(())
}

/// A network filter's upstream is the same connection object in Envoy: closing it closes the downstream.
pub(super) fn close_stream(call: &mut Call<'_>, stream: u32) -> Answer {
    let steer = match stream {
        REQUEST | RESPONSE => Steer::Reset,
        DOWNSTREAM | UPSTREAM => Steer::Close,
        _ => return Err(Status::BadArgument),
    };
    defer(call.state_mut(), Deferred::Steer(steer));
    Ok(())
}

pub(super) fn set_effective_context(call: &mut Call<'_>, id: u32) -> Answer {
    let state = call.state_mut();
    let id = if id == 0 { 0 } else { id.saturating_add(state.before) };
    if id != 0 && !state.contexts.contains_key(&id) {
        return Err(Status::BadArgument);
    }
    state.effective = id;
    Ok(())
}

/// Only a root that said no to `on_done` has anything to finish.
pub(super) fn done(call: &mut Call<'_>) -> Answer {
    let state = call.state_mut();
    let id = state.root_id();
    match state.root(id).map(|root| root.life) {
        Some(Life::Ending) => {
            state.deferred.push_back((id, Deferred::DeleteRoot));
            Ok(())
        }
        Some(Life::Serving | Life::Draining) | None => Err(Status::NotFound),
    }
}

/// The hostcall of ABI 0.1.0 acts for the effective context.
pub(super) fn clear_route_cache(call: &mut Call<'_>) -> Answer {
    let id = call.state().context_id();
    refresh_route(call.state_mut(), id);
    Ok(())
}

pub(super) fn refresh_route(state: &mut State, id: u32) {
    if let Some(http) = state.http_mut(id) {
        http.route_refreshes += 1;
    }
}

fn defer(state: &mut State, action: Deferred) {
    let id = state.context_id();
    state.deferred.push_back((id, action));
}
