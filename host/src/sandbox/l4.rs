//! A TCP connection.

use std::cell::RefCell;
use std::fmt;

use super::connection::Connection;
use super::error::Trapped;
use super::filter_state::FilterState;
use super::instance::Instance;
use super::message::Side;
use super::outcome::{Action, Ended, L4Outcome};
use super::state::Context;
use super::stream::{L4, Phase, Protocol, Stream};

/// Who closed a connection, as the guest is told.
const UNKNOWN: u32 = 0;
const LOCAL: u32 = 1;
const REMOTE: u32 = 2;

/// A TCP connection under way. It ends when it is finished or dropped.
pub struct L4Stream<'vm> {
    guest: &'vm RefCell<Instance>,
    id: u32,
}

impl<'vm> L4Stream<'vm> {
    pub(crate) fn open(
        guest: &'vm RefCell<Instance>,
        root: u32,
        connection: Connection,
    ) -> Result<Self, Trapped> {
        let id = {
            let mut guest = guest.borrow_mut();
            guest.usable()?;
            let now = guest.state().now;
            let stream = Stream::new(root, connection, now, Protocol::L4(L4::default()));
            let policy = guest.policy_of_a_new_stream(root);
            guest.state_mut().insert(Context::Stream(Box::new(Stream { policy, ..stream })))
        };
        let stream = Self { guest, id };
        let mut guest = stream.guest.borrow_mut();
        let parent = root.saturating_sub(guest.state().before);
        guest.callback(id, |exports| &exports.on_context_create, (id, parent))?;
        if let Some(l4) = guest.state_mut().l4_mut(id) {
            l4.unread = Some((Vec::new(), false));
            l4.paused = true;
        }
        if guest.answer(id, |exports| &exports.on_new_connection, id)? == 0 {
            guest.continue_connection(id)?;
        }
        drop(guest);
        Ok(stream)
    }

    /// The client sends `bytes`; with `end` it will send no more.
    ///
    /// A filter that paused sees what it held back and the new bytes as one. One that paused the connection itself sees
    /// nothing until it continues it: the TCP proxy behind it has not seen the connection, so that nothing is read.
    pub fn client_sends(&self, bytes: impl AsRef<[u8]>, end: bool) -> Result<L4Outcome, Trapped> {
        let mut guest = self.guest.borrow_mut();
        guest.usable()?;
        guest.client_sends(self.id, bytes.as_ref(), end)?;
        drop(guest);
        Ok(self.outcome())
    }

    /// The upstream sends `bytes`; with `end` it has closed, which is all that a filter learns of that. There is none
    /// while the filter pauses the connection itself.
    pub fn upstream_sends(&self, bytes: impl AsRef<[u8]>, end: bool) -> Result<L4Outcome, Trapped> {
        let mut guest = self.guest.borrow_mut();
        guest.usable()?;
        guest.upstream_sends(self.id, bytes.as_ref(), end)?;
        drop(guest);
        Ok(self.outcome())
    }

    /// What has gone on to the upstream so far.
    #[must_use]
    pub fn to_upstream(&self) -> Vec<u8> {
        self.look(|l4| l4.downstream.passed.clone())
    }

    /// What has gone on to the client so far.
    #[must_use]
    pub fn to_client(&self) -> Vec<u8> {
        self.look(|l4| l4.upstream.passed.clone())
    }

    /// What has become of the connection.
    #[must_use]
    pub fn outcome(&self) -> L4Outcome {
        let (paused, closed) = self.look(|l4| (l4.paused, l4.closed));
        let action = if paused { Action::Pause } else { Action::Continue };
        L4Outcome { action, closed }
    }

    /// What filters left for each other.
    #[must_use]
    pub fn filter_state(&self) -> FilterState {
        let guest = self.guest.borrow();
        guest.state().stream_of(self.id).map(|stream| stream.filter_state.all()).unwrap_or_default()
    }

    /// Ends the connection: `on_downstream_connection_close`, `on_done`, the access log, `on_delete`.
    pub fn finish(self) -> Result<Ended, Trapped> {
        end(&mut self.guest.borrow_mut(), self.id)
    }

    fn look<T: Default>(&self, look: impl FnOnce(&L4) -> T) -> T {
        self.guest.borrow().state().l4(self.id).map(look).unwrap_or_default()
    }
}

impl fmt::Debug for L4Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L4Stream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for L4Stream<'_> {
    fn drop(&mut self) {
        // A trap here is not lost: the VM remembers it.
        let _ended = end(&mut self.guest.borrow_mut(), self.id);
    }
}

impl Instance {
    /// Lets what the filter holds back go on: the connection itself, then what the client has sent meanwhile; or data.
    pub(crate) fn continue_connection(&mut self, id: u32) -> Result<(), Trapped> {
        let Some(l4) = self.state_mut().l4_mut(id) else { return Ok(()) };
        l4.paused = false;
        match l4.unread.take() {
            Some((bytes, end)) if end || !bytes.is_empty() => self.client_sends(id, &bytes, end),
            Some(_) => Ok(()),
            None => {
                l4.downstream.pass();
                Ok(())
            }
        }
    }

    fn client_sends(&mut self, id: u32, bytes: &[u8], end: bool) -> Result<(), Trapped> {
        let Some(stream) = self.state_mut().stream_mut(id) else { return Ok(()) };
        if let Some((unread, ended)) = stream.l4_mut().and_then(|l4| l4.unread.as_mut()) {
            unread.extend_from_slice(bytes);
            *ended |= end;
            return Ok(());
        }
        stream.phase = stream.phase.max(Phase::Data);
        let Some(l4) = stream.l4_mut().filter(|l4| !l4.closed && !l4.downstream.ended) else { return Ok(()) };
        l4.downstream.ended = end;
        l4.last_end = if end { Some(Side::Request) } else { l4.last_end };
        l4.downstream.held = true;
        l4.downstream.buffer.extend_from_slice(bytes);
        let size = u32::try_from(l4.downstream.buffer.len()).unwrap_or(u32::MAX);
        let answer = self.answer(id, |exports| &exports.on_downstream_data, (id, size, u32::from(end)))?;
        if let Some(l4) = self.state_mut().l4_mut(id) {
            l4.paused = answer != 0;
            if !l4.paused && !l4.closed {
                l4.downstream.held = false;
                l4.downstream.pass();
            }
        }
        Ok(())
    }

    fn upstream_sends(&mut self, id: u32, bytes: &[u8], end: bool) -> Result<(), Trapped> {
        let Some(stream) = self.state_mut().stream_mut(id) else { return Ok(()) };
        if stream.l4().is_some_and(|l4| l4.unread.is_some()) {
            return Ok(());
        }
        stream.phase = stream.phase.max(Phase::Response);
        let Some(l4) = stream.l4_mut().filter(|l4| !l4.closed && !l4.upstream.ended) else { return Ok(()) };
        l4.upstream.ended = end;
        l4.last_end = if end { Some(Side::Response) } else { l4.last_end };
        l4.upstream.held = true;
        l4.upstream.buffer.extend_from_slice(bytes);
        let size = u32::try_from(l4.upstream.buffer.len()).unwrap_or(u32::MAX);
        let answer = self.answer(id, |exports| &exports.on_upstream_data, (id, size, u32::from(end)))?;
        if let Some(l4) = self.state_mut().l4_mut(id)
            && answer == 0
            && !l4.closed
        {
            l4.upstream.held = false;
            l4.upstream.pass();
        }
        if end {
            self.callback(id, |exports| &exports.on_upstream_close, (id, UNKNOWN))?;
        }
        Ok(())
    }

    /// Tells the guest that the connection is closed, once: it is done before it is logged, unlike an HTTP stream.
    pub(crate) fn close_connection(&mut self, id: u32, by_filter: bool) -> Result<(), Trapped> {
        let Some(l4) = self.state_mut().l4_mut(id).filter(|l4| !l4.told) else { return Ok(()) };
        l4.told = true;
        l4.closed |= by_filter;
        // When the upstream ends after the client, it is the TCP proxy that closes.
        let by_us = l4.closed || (l4.downstream.ended && l4.last_end == Some(Side::Response));
        self.callback(id, |exports| &exports.on_downstream_close, (id, if by_us { LOCAL } else { REMOTE }))?;
        self.callback(id, |exports| &exports.on_done, id)?;
        if let Some(stream) = self.state_mut().stream_mut(id) {
            stream.phase = Phase::Log;
        }
        self.callback(id, |exports| &exports.on_log, id)?;
        self.callback(id, |exports| &exports.on_delete, id)?;
        Ok(())
    }
}

/// Ends the connection `id`, once.
fn end(guest: &mut Instance, id: u32) -> Result<Ended, Trapped> {
    let Some(root) = guest.state().stream_of(id).map(|stream| stream.root) else {
        return guest.usable().map(|()| Ended { filter_state: FilterState::default() });
    };
    let told = guest.close_connection(id, false);
    let left = guest.state().stream_of(id).map(|stream| stream.filter_state.all());
    guest.state_mut().contexts.remove(&id);
    told?;
    guest.usable()?;
    guest.end_drained_root(root)?;
    Ok(Ended { filter_state: left.unwrap_or_default() })
}
