//! Hostcalls that read or write a value: log, time, buffers, properties, shared data, metrics.

use std::time::Duration;

use super::{Answer, Call, Slot, Span, Status};
use crate::sandbox::attributes;
use crate::sandbox::call::text;
use crate::sandbox::callout::Arrived;
use crate::sandbox::log::{Level, LogLine};
use crate::sandbox::shown::Shown;
use crate::sandbox::state::State;
use crate::sandbox::stream::{Protocol, Stream};

const REQUEST_BODY: u32 = 0;
const RESPONSE_BODY: u32 = 1;
const DOWNSTREAM_DATA: u32 = 2;
const UPSTREAM_DATA: u32 = 3;
const CALL_RESPONSE_BODY: u32 = 4;
const GRPC_MESSAGE: u32 = 5;
const VM_CONFIGURATION: u32 = 6;
const PLUGIN_CONFIGURATION: u32 = 7;
const CALL_DATA: u32 = 8;

pub(super) fn log(call: &mut Call<'_>, level: u32, message: Span) -> Answer {
    let level = Level::of_line(level).ok_or(Status::BadArgument)?;
    let message = text(call.read(message)?).into_owned();
    call.state_mut().logs.push(LogLine { level, message });
    Ok(())
}

/// The timer is the root's, whichever context asks.
pub(super) fn set_tick_period(call: &mut Call<'_>, milliseconds: u32) -> Answer {
    let (id, now) = (call.state().root_id(), call.state().now);
    if let Some(root) = call.state_mut().root_mut(id) {
        root.tick_period = Duration::from_millis(milliseconds.into());
        root.next_tick = (milliseconds > 0).then(|| now + root.tick_period);
    }
    Ok(())
}

pub(super) fn buffer_bytes(call: &mut Call<'_>, buffer: u32, (start, max): (u32, u32), slot: Slot) -> Answer {
    let bytes = buffer_of(call.state_mut(), buffer)?;
    let from = bytes.get(start as usize..).unwrap_or_default();
    let taken = from.get(..max as usize).unwrap_or(from).to_vec();
    call.give(&taken, slot)
}

pub(super) fn buffer_status(call: &mut Call<'_>, buffer: u32, length: u32, flags: u32) -> Answer {
    let bytes = buffer_of(call.state_mut(), buffer)?.len();
    call.write_u32(length, u32::try_from(bytes).unwrap_or(u32::MAX))?;
    call.write_u32(flags, 0)
}

/// ABI 0.1.0 has one hostcall for both configurations: the plugin's while it is configured, the VM's at any other time.
pub(super) fn configuration(call: &mut Call<'_>, slot: Slot) -> Answer {
    let state = call.state();
    let root = state.configuring.and_then(|id| state.root(id));
    let bytes = root.map_or(&state.vm_configuration, |root| &root.plugin.configuration).clone();
    call.give(&bytes, slot)
}

/// At the start, `length` bytes make way for the new ones; at or beyond the end these are appended. Anywhere else Envoy
/// refuses, and so it does where there is no buffer, or one that cannot be written.
pub(super) fn set_buffer_bytes(
    call: &mut Call<'_>,
    buffer: u32,
    (start, length): (u32, u32),
    bytes: Span,
) -> Answer {
    buffer_of(call.state_mut(), buffer)?;
    let bytes = call.copy(bytes)?;
    let id = call.state().context_id();
    let stream = call.state_mut().stream_mut(id).ok_or(Status::BadArgument)?;
    let body = writable_buffer(stream, buffer).ok_or(Status::BadArgument)?;
    match start as usize {
        0 => drop(body.splice(..body.len().min(length as usize), bytes)),
        start if start >= body.len() => body.extend(bytes),
        _ => return Err(Status::BadArgument),
    }
    Ok(())
}

fn writable_buffer(stream: &mut Stream, buffer: u32) -> Option<&mut Vec<u8>> {
    match (buffer, &mut stream.protocol) {
        (REQUEST_BODY, Protocol::Http(http)) => http.request.body_mut(),
        (RESPONSE_BODY, Protocol::Http(http)) => http.response.body_mut(),
        (DOWNSTREAM_DATA, Protocol::L4(l4)) => l4.downstream.held.then_some(&mut l4.downstream.buffer),
        (UPSTREAM_DATA, Protocol::L4(l4)) => l4.upstream.held.then_some(&mut l4.upstream.buffer),
        (_, Protocol::Http(_) | Protocol::L4(_)) => None,
    }
}

/// A stream's buffer that is not there now reads as an empty one.
fn stream_buffer(state: &State, buffer: u32) -> &[u8] {
    let Some(stream) = state.stream_of(state.context_id()) else { return &[] };
    match (buffer, &stream.protocol) {
        (REQUEST_BODY, Protocol::Http(http)) => http.request.body(),
        (RESPONSE_BODY, Protocol::Http(http)) => http.response.body(),
        (DOWNSTREAM_DATA, Protocol::L4(l4)) if l4.downstream.held => &l4.downstream.buffer,
        (UPSTREAM_DATA, Protocol::L4(l4)) if l4.upstream.held => &l4.upstream.buffer,
        (_, Protocol::Http(_) | Protocol::L4(_)) => &[],
    }
}

fn arrived(state: &State) -> Option<&Arrived> {
    state.root(state.root_id()).map(|root| &root.callouts.arrived)
}

fn buffer_of(state: &mut State, buffer: u32) -> Result<&[u8], Status> {
    let id = state.context_id();
    match buffer {
        REQUEST_BODY..=UPSTREAM_DATA => Ok(stream_buffer(state, buffer)),
        VM_CONFIGURATION => {
            state.show(id, Shown::Vm);
            Ok(&state.vm_configuration)
        }
        PLUGIN_CONFIGURATION => {
            let root = state.configuring.filter(|id| state.root(*id).is_some()).ok_or(Status::NotFound)?;
            state.show(id, Shown::Plugin);
            Ok(state.root(root).map(|root| root.plugin.configuration.as_slice()).unwrap_or_default())
        }
        CALL_RESPONSE_BODY => {
            let response = arrived(state).and_then(|arrived| arrived.response.as_ref());
            response.map(|response| response.body.as_slice()).ok_or(Status::NotFound)
        }
        GRPC_MESSAGE => Ok(arrived(state).map(|arrived| arrived.message.as_slice()).unwrap_or_default()),
        // The arguments of a call that no function of this host makes, or what lies there otherwise.
        CALL_DATA => Ok(state.shown(id)),
        _ => Err(Status::BadArgument),
    }
}

pub(super) fn property(call: &mut Call<'_>, path: Span, slot: Slot) -> Answer {
    call.hand(slot, |call, bytes| attributes::get(call.state(), call.read(path)?, bytes))
}

/// The whole path is the key, NULs and all.
pub(super) fn set_property(call: &mut Call<'_>, path: Span, value: Span) -> Answer {
    let ([path, value], state) = call.read_to([path, value])?;
    let declared = state.root(state.root_id()).and_then(|root| root.declared.get(path)).copied();
    let key = ["wasm.", &text(path)].concat();
    let id = state.context_id();
    let stream = state.stream_mut(id).ok_or(Status::NotFound)?;
    stream.filter_state.set(key, value.to_vec(), declared.unwrap_or_default())
}

pub(super) fn shared_data(call: &mut Call<'_>, key: Span, slot: Slot, cas: u32) -> Answer {
    let state = call.state();
    let (value, written) = state.process.data().get(&state.vm_id, call.read(key)?)?;
    call.give(&value, slot)?;
    call.write_u32(cas, written)
}

pub(super) fn set_shared_data(call: &mut Call<'_>, key: Span, value: Span, cas: u32) -> Answer {
    let (key, value) = (call.copy(key)?, call.copy(value)?);
    let state = call.state();
    state.process.data().set(&state.vm_id, &key, &value, cas)
}

pub(super) fn define_metric(call: &mut Call<'_>, kind: u32, name: Span, ret: u32) -> Answer {
    let name = call.copy(name)?;
    let state = call.state_mut();
    let id = state.metrics.define(state.process.registry(), kind, &name)?;
    call.write_u32(ret, id)
}
