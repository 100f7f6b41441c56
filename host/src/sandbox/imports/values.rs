//! Hostcalls that read or write a value: log, time, buffers, properties, shared data, metrics.

use std::time::Duration;

use super::{Answer, Call, Slot, Span, Status};
use crate::sandbox::attributes;
use crate::sandbox::log::{Level, LogLine};
use crate::sandbox::state::State;

const VM_CONFIGURATION: u32 = 6;
const PLUGIN_CONFIGURATION: u32 = 7;
const LAST_BUFFER: u32 = 8;

pub(super) fn log(call: &mut Call<'_>, level: u32, message: Span) -> Answer {
    let level = Level::of_line(level).ok_or(Status::BadArgument)?;
    let message = String::from_utf8_lossy(call.read(message)?).into_owned();
    call.state_mut().logs.push(LogLine { level, message });
    Ok(())
}

/// The timer is the root's, whichever context asks.
pub(super) fn set_tick_period(call: &mut Call<'_>, milliseconds: u32) -> Answer {
    let id = call.state().root_id();
    if let Some(root) = call.state_mut().root_mut(id) {
        root.tick_period = Duration::from_millis(milliseconds.into());
    }
    Ok(())
}

pub(super) fn buffer_bytes(call: &mut Call<'_>, buffer: u32, (start, max): (u32, u32), slot: Slot) -> Answer {
    let bytes = buffer_of(call.state(), buffer)?;
    let from = bytes.get(start as usize..).unwrap_or_default();
    let taken = from.get(..max as usize).unwrap_or(from).to_vec();
    call.give(&taken, slot)
}

pub(super) fn buffer_status(call: &mut Call<'_>, buffer: u32, length: u32, flags: u32) -> Answer {
    let bytes = buffer_of(call.state(), buffer)?.len();
    call.write_u32(length, u32::try_from(bytes).unwrap_or(u32::MAX))?;
    Ok(call.write_u32(flags, 0)?)
}

fn buffer_of(state: &State, buffer: u32) -> Result<&[u8], Status> {
    match buffer {
        VM_CONFIGURATION => Ok(&state.vm_configuration),
        PLUGIN_CONFIGURATION => {
            let root = state.configuring.and_then(|id| state.root(id)).ok_or(Status::NotFound)?;
            Ok(&root.plugin.configuration)
        }
        0..=LAST_BUFFER => Err(Status::NotFound),
        _ => Err(Status::BadArgument),
    }
}

pub(super) fn property(call: &mut Call<'_>, path: Span, slot: Slot) -> Answer {
    let value = attributes::get(call.state(), call.read(path)?)?;
    call.give(&value, slot)
}

/// The whole path is the key, NULs and all.
pub(super) fn set_property(call: &mut Call<'_>, path: Span, value: Span) -> Answer {
    let (path, value) = (call.copy(path)?, call.copy(value)?);
    let key = format!("wasm.{}", String::from_utf8_lossy(&path));
    let state = call.state_mut();
    let declared = state.root(state.root_id()).and_then(|root| root.declared.get(&path)).copied();
    let id = state.context_id();
    let stream = state.stream_mut(id).ok_or(Status::NotFound)?;
    Ok(stream.filter_state.set(key, value, declared.unwrap_or_default())?)
}

pub(super) fn shared_data(call: &mut Call<'_>, key: Span, slot: Slot, cas: u32) -> Answer {
    let (value, written) = call.state().shared.get(call.read(key)?)?;
    let value = value.to_vec();
    call.give(&value, slot)?;
    Ok(call.write_u32(cas, written)?)
}

pub(super) fn set_shared_data(call: &mut Call<'_>, key: Span, value: Span, cas: u32) -> Answer {
    let (key, value) = (call.copy(key)?, call.copy(value)?);
    Ok(call.state_mut().shared.set(&key, &value, cas)?)
}

pub(super) fn define_metric(call: &mut Call<'_>, kind: u32, name: Span, ret: u32) -> Answer {
    let name = call.copy(name)?;
    let id = call.state_mut().metrics.define(kind, &name)?;
    Ok(call.write_u32(ret, id)?)
}
