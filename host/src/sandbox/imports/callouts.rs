//! Hostcalls that reach other services, and shared queues.

use std::time::Duration;

use super::{Answer, Call, Slot, Span, Status};
use crate::sandbox::callout::{Callouts, GrpcCall, HttpCall, Kind, STEP, Waiting};
use crate::sandbox::headers::Headers;
use crate::sandbox::pairs;
use crate::sandbox::proto;
use crate::sandbox::state::State;

/// The pieces of an HTTP request in the guest's memory.
pub(super) struct Request {
    pub(super) cluster: Span,
    pub(super) headers: Span,
    pub(super) body: Span,
    pub(super) trailers: Span,
}

/// The pieces of a gRPC request in the guest's memory.
pub(super) struct Target {
    pub(super) cluster: Span,
    pub(super) service: Span,
    pub(super) method: Span,
    pub(super) metadata: Span,
}

/// The token is written before anything is known of the cluster, and again when the request is on its way.
pub(super) fn http_call(call: &mut Call<'_>, request: &Request, timeout: u32, ret: u32) -> Answer {
    let cluster = text(call, request.cluster)?;
    let body = call.copy(request.body)?;
    let mut headers = map(call, request.headers)?;
    let trailers = map(call, request.trailers)?;
    call.write_u32(ret, 0)?;
    let missing = [":path", ":method", ":authority"].iter().any(|name| headers.value(name).is_none());
    if timeout > i32::MAX.cast_unsigned() || !call.state().node.clusters.has(&cluster) || missing {
        return Err(Status::BadArgument);
    }
    if !body.is_empty() {
        headers.replace("content-length", body.len().to_string());
    }
    let state = call.state_mut();
    let token = next_token(state, Kind::Http);
    // Envoy's client answers a request to nowhere at once, and by that takes it for one that it could not send.
    if state.node.clusters.is_down(&cluster) {
        return Err(Status::InternalFailure);
    }
    let (timeout, until) = wait(state, timeout);
    let sent = HttpCall { token, cluster, headers, body, trailers, timeout };
    callouts(state)?.http.insert(token, Waiting { call: sent, until, ended: false });
    call.write_u32(ret, token)
}

pub(super) fn grpc_call(
    call: &mut Call<'_>,
    target: &Target,
    message: Span,
    timeout: u32,
    ret: u32,
) -> Answer {
    let message = call.copy(message)?;
    open_grpc(call, target, Kind::Grpc, (Some(message), timeout), ret)
}

pub(super) fn grpc_stream(call: &mut Call<'_>, target: &Target, ret: u32) -> Answer {
    open_grpc(call, target, Kind::GrpcStream, (None, 0), ret)
}

fn open_grpc(
    call: &mut Call<'_>,
    target: &Target,
    kind: Kind,
    (message, timeout): (Option<Vec<u8>>, u32),
    ret: u32,
) -> Answer {
    let given = call.copy(target.cluster)?;
    let (service, method) = (text(call, target.service)?, text(call, target.method)?);
    let metadata = map(call, target.metadata)?;
    let clusters = &call.state().node.clusters;
    let cluster = match grpc_service(&given) {
        Some(Some(cluster)) => cluster,
        Some(None) => return Err(Status::BadArgument),
        None => {
            let name = String::from_utf8_lossy(&given).into_owned();
            if !clusters.has(&name) {
                return Err(Status::ParseFailure);
            }
            name
        }
    };
    let reached = clusters.has(&cluster) && !clusters.is_down(&cluster);
    let state = call.state_mut();
    let token = next_token(state, kind);
    if !reached {
        return Err(Status::InternalFailure);
    }
    let (timeout, until) = wait(state, timeout);
    let opened = GrpcCall {
        token,
        cluster,
        service,
        method,
        metadata,
        closed: message.is_some(),
        messages: message.into_iter().collect(),
        timeout,
        streaming: kind == Kind::GrpcStream,
    };
    callouts(state)?.grpc.insert(token, Waiting { call: opened, until, ended: false });
    call.write_u32(ret, token)
}

pub(super) fn grpc_send(call: &mut Call<'_>, token: u32, message: Span, end: u32) -> Answer {
    let message = call.copy(message)?;
    if token % STEP != Kind::GrpcStream as u32 {
        return Err(Status::BadArgument);
    }
    let waiting = callouts(call.state_mut())?.grpc.get_mut(&token).ok_or(Status::NotFound)?;
    waiting.call.messages.push(message);
    waiting.call.closed |= end != 0;
    Ok(())
}

/// Forgets the call or the stream; the service sees it reset.
pub(super) fn grpc_cancel(call: &mut Call<'_>, token: u32) -> Answer {
    grpc_token(token)?;
    callouts(call.state_mut())?.grpc.remove(&token).ok_or(Status::NotFound)?;
    Ok(())
}

/// Ends the guest's half of a stream, which stays until the service has ended the other; cancels a call.
pub(super) fn grpc_close(call: &mut Call<'_>, token: u32) -> Answer {
    grpc_token(token)?;
    let grpc = &mut callouts(call.state_mut())?.grpc;
    let waiting = grpc.get_mut(&token).ok_or(Status::NotFound)?;
    waiting.call.closed = true;
    if !waiting.call.streaming || waiting.ended {
        grpc.remove(&token);
    }
    Ok(())
}

pub(super) fn status(call: &mut Call<'_>, code: u32, slot: Slot) -> Answer {
    let id = call.state().root_id();
    let status = call.state().root(id).map(|root| root.callouts.status.clone());
    let (number, message) = status.unwrap_or_default();
    call.write_u32(code, number)?;
    call.give(message.as_bytes(), slot)
}

/// Queues call the root, whoever registers them.
pub(super) fn register_queue(call: &mut Call<'_>, name: Span, ret: u32) -> Answer {
    let name = call.copy(name)?;
    let state = call.state();
    let token = state.process.queues().register(&state.vm_id, &name, (state.vm, state.root_id()));
    call.write_u32(ret, token)
}

pub(super) fn resolve_queue(call: &mut Call<'_>, vm_id: Span, name: Span, ret: u32) -> Answer {
    let (vm_id, name) = (text(call, vm_id)?, call.copy(name)?);
    let state = call.state();
    let vm_id = if vm_id.is_empty() { &state.vm_id } else { &vm_id };
    let token = state.process.queues().resolve(vm_id, &name)?;
    call.write_u32(ret, token)
}

pub(super) fn enqueue(call: &mut Call<'_>, token: u32, item: Span) -> Answer {
    let item = call.copy(item)?;
    call.state().process.queues().enqueue(token, item)
}

pub(super) fn dequeue(call: &mut Call<'_>, token: u32, slot: Slot) -> Answer {
    let item = call.state().process.queues().dequeue(token)?;
    call.give(&item, slot)
}

fn grpc_token(token: u32) -> Result<(), Status> {
    let kind = token % STEP;
    let known = kind == Kind::Grpc as u32 || kind == Kind::GrpcStream as u32;
    if known { Ok(()) } else { Err(Status::BadArgument) }
}

/// Callouts are the root's, whichever context makes them.
fn callouts(state: &mut State) -> Result<&mut Callouts, Status> {
    let id = state.root_id();
    state.root_mut(id).map(|root| &mut root.callouts).ok_or(Status::InternalFailure)
}

fn next_token(state: &mut State, kind: Kind) -> u32 {
    let Some(made) = state.callouts_made.get_mut(kind as usize) else { return 0 };
    *made += 1;
    made.wrapping_mul(STEP).wrapping_add(kind as u32)
}

/// How long the guest waits, and until when: no timeout is none at all.
fn wait(state: &State, timeout: u32) -> (Duration, Option<Duration>) {
    let timeout = Duration::from_millis(timeout.into());
    (timeout, (!timeout.is_zero()).then(|| state.now + timeout))
}

fn text(call: &Call<'_>, span: Span) -> Result<String, Status> {
    Ok(String::from_utf8_lossy(call.read(span)?).into_owned())
}

fn map(call: &Call<'_>, span: Span) -> Result<Headers, Status> {
    Ok(pairs::decode(call.read(span)?).unwrap_or_default().into_iter().collect())
}

/// The cluster of a serialized `GrpcService` (envoy/api/envoy/config/core/v3/grpc_service.proto): its `envoy_grpc` (1)
/// has a `cluster_name` (1). Bytes that are no message may be a cluster's name; a message may name none.
fn grpc_service(bytes: &[u8]) -> Option<Option<String>> {
    let service = proto::fields(bytes)?;
    let cluster = proto::bytes(&service, 1).and_then(|grpc| proto::bytes(&proto::fields(grpc)?, 1));
    Some(cluster.map(|name| String::from_utf8_lossy(name).into_owned()))
}
