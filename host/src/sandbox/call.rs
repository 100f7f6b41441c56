//! One hostcall: the caller's memory and the host's state.

use std::borrow::Cow;

use wasmtime::{AsContext, AsContextMut, Caller};

use super::abi::Restriction;
use super::state::State;
use super::status::Status;
use super::trace::Recorder;

/// Bytes the guest points at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span(pub(crate) u32, pub(crate) u32);

impl Span {
    /// The bytes that `memory` has here, which are noted as read.
    fn of<'m>(self, memory: &'m [u8], state: &State) -> Result<&'m [u8], Status> {
        let (start, length) = (self.0 as usize, self.1 as usize);
        let bytes = memory.get(start..).and_then(|bytes| bytes.get(..length));
        let bytes = bytes.ok_or(Status::InvalidMemoryAccess)?;
        state.record(|recorder| recorder.read(bytes));
        Ok(bytes)
    }
}

/// Where the guest wants the address and the size of what it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot(pub(crate) u32, pub(crate) u32);

/// What the guest says, where bytes that are not UTF-8 are replaced; nearly always there are none.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// A hostcall that runs.
pub(crate) struct Call<'a> {
    caller: Caller<'a, State>,
}

/// Runs a hostcall, and makes its outcome the status the guest sees.
pub(crate) fn answer(
    caller: Caller<'_, State>,
    name: &'static str,
    body: impl FnOnce(&mut Call<'_>) -> Result<(), Status>,
) -> wasmtime::Result<u32> {
    permitted(&caller, name)?;
    let mut call = Call { caller };
    let status = match body(&mut call) {
        Ok(()) => Status::Ok,
        Err(status) => status,
    };
    call.record(|recorder| recorder.answered(status as u32));
    Ok(status as u32)
}

/// Traps if the guest may not call `name` now.
pub(crate) fn permitted(caller: &Caller<'_, State>, name: &'static str) -> wasmtime::Result<()> {
    caller.data().record(|recorder| recorder.call(name));
    match caller.data().restriction.permits(name) {
        true => Ok(()),
        false => {
            caller.data().record(Recorder::refused);
            Err(wasmtime::Error::msg(format!("restricted_callback: {name}")))
        }
    }
}

impl<'a> Call<'a> {
    pub(crate) fn of(caller: Caller<'a, State>) -> Self {
        Self { caller }
    }

    pub(crate) fn state(&self) -> &State {
        self.caller.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut State {
        self.caller.data_mut()
    }

    pub(crate) fn record(&self, note: impl FnOnce(&mut Recorder)) {
        self.state().record(note);
    }

    /// The bytes at `span`.
    pub(crate) fn read(&self, span: Span) -> Result<&[u8], Status> {
        let memory = self.state().memory.ok_or(Status::InvalidMemoryAccess)?;
        span.of(memory.data(self.caller.as_context()), self.state())
    }

    /// The bytes at each of `spans`, beside the state that is to change by them.
    pub(crate) fn read_to<const N: usize>(
        &mut self,
        spans: [Span; N],
    ) -> Result<([&[u8]; N], &mut State), Status> {
        let memory = self.state().memory.ok_or(Status::InvalidMemoryAccess)?;
        let (memory, state) = memory.data_and_store_mut(self.caller.as_context_mut());
        let mut read: [&[u8]; N] = [&[]; N];
        for (bytes, span) in read.iter_mut().zip(spans) {
            *bytes = span.of(memory, state)?;
        }
        Ok((read, state))
    }

    /// A copy of the bytes at `span`, for when the state must change too.
    pub(crate) fn copy(&self, span: Span) -> Result<Vec<u8>, Status> {
        self.read(span).map(<[u8]>::to_vec)
    }

    pub(crate) fn write_u32(&mut self, at: u32, value: u32) -> Result<(), Status> {
        self.write(at, &value.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, at: u32, value: u64) -> Result<(), Status> {
        self.write(at, &value.to_le_bytes())
    }

    /// Hands over what `fill` writes. Its buffer is kept from call to call.
    pub(crate) fn hand(
        &mut self,
        slot: Slot,
        fill: impl FnOnce(&Self, &mut Vec<u8>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut bytes = std::mem::take(&mut self.state_mut().buffer);
        bytes.clear();
        let handed = fill(self, &mut bytes).and_then(|()| self.give(&bytes, slot));
        self.state_mut().buffer = bytes;
        handed
    }

    /// Hands `bytes` over in memory of the guest's own making; nothing is allocated for no bytes.
    pub(crate) fn give(&mut self, bytes: &[u8], slot: Slot) -> Result<(), Status> {
        let length = u32::try_from(bytes.len()).ok().ok_or(Status::InvalidMemoryAccess)?;
        let at = self.place(bytes)?;
        self.write_u32(slot.0, at)?;
        self.write_u32(slot.1, length)
    }

    /// Copies `bytes` into memory of the guest's own making, and says where; no bytes are nowhere.
    pub(crate) fn place(&mut self, bytes: &[u8]) -> Result<u32, Status> {
        let length = u32::try_from(bytes.len()).ok().ok_or(Status::InvalidMemoryAccess)?;
        if length == 0 {
            return Ok(0);
        }
        let at = self.allocate(length)?;
        self.write(at, bytes)?;
        self.record(|recorder| recorder.gave(bytes.len()));
        Ok(at)
    }

    /// The guest's allocator runs for the VM, not for a context, and may call nothing but the log. If it traps, the
    /// callback runs on to its end, and no further.
    pub(crate) fn allocate(&mut self, length: u32) -> Result<u32, Status> {
        let malloc = self.state().malloc.clone().ok_or(Status::InvalidMemoryAccess)?;
        let state = self.state_mut();
        let before = (state.current, state.effective, state.restriction);
        (state.current, state.effective, state.restriction) = (0, 0, Restriction::Allocating);
        let allocated = malloc.call(self.caller.as_context_mut(), length);
        let state = self.state_mut();
        (state.current, state.effective, state.restriction) = before;
        match allocated {
            Ok(0) => Err(Status::InvalidMemoryAccess),
            Ok(at) => Ok(at),
            Err(trap) => {
                state.fallen = Some(trap);
                Err(Status::InvalidMemoryAccess)
            }
        }
    }

    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Status> {
        let memory = self.state().memory.ok_or(Status::InvalidMemoryAccess)?;
        memory
            .data_mut(self.caller.as_context_mut())
            .get_mut(at as usize..)
            .and_then(|memory| memory.get_mut(..bytes.len()))
            .ok_or(Status::InvalidMemoryAccess)?
            .copy_from_slice(bytes);
        Ok(())
    }
}
