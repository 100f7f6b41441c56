//! A TCP connection.

use std::cell::RefCell;
use std::fmt;

use super::connection::Connection;
use super::context::Context;
use super::error::Trapped;
use super::filter_state::FilterState;
use super::instance::Instance;
use super::outcome::{Action, Ended, L4Outcome};
use super::stream::{L4, Protocol, Stream};

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
