//! A TCP connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use super::connection::Connection;
use super::error::Trapped;
use super::instance::Instance;
use super::outcome::{Action, Ended, L4Outcome};
use super::state::{Context, L4, Phase, Protocol, Stream};

/// Who closed a connection, as the guest is told.
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
            guest.alive()?;
            let now = guest.state().now;
            let stream = Stream::new(root, connection, now, Protocol::L4(L4::default()));
            guest.state_mut().insert(Context::Stream(Box::new(stream)))
        };
        let stream = Self { guest, id };
        let mut guest = stream.guest.borrow_mut();
        let create = guest.exports.on_context_create.clone();
        guest.call(id, create, (id, root))?;
        let on_new = guest.exports.on_new_connection.clone();
        let action = guest.action(id, on_new, id)?;
        if let Some(l4) = guest.state_mut().l4_mut(id) {
            l4.paused = action == Action::Pause;
        }
        guest.settle()?;
        drop(guest);
        Ok(stream)
    }

    /// What has become of the connection.
    #[must_use]
    pub fn outcome(&self) -> L4Outcome {
        let l4 = self.guest.borrow().state().l4(self.id).unwrap_or_default();
        let action = if l4.paused { Action::Pause } else { Action::Continue };
        L4Outcome { action, closed: l4.closed }
    }

    /// What filters left for each other.
    #[must_use]
    pub fn filter_state(&self) -> BTreeMap<String, Vec<u8>> {
        let guest = self.guest.borrow();
        guest.state().stream_of(self.id).map(|stream| stream.filter_state.all()).unwrap_or_default()
    }

    /// Ends the connection: `on_downstream_connection_close`, `on_done`, the access log, `on_delete`.
    pub fn finish(self) -> Result<Ended, Trapped> {
        end(&mut self.guest.borrow_mut(), self.id)
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
    let Some(l4) = guest.state().l4(id) else {
        return guest.alive().map(|()| Ended { filter_state: BTreeMap::new() });
    };
    let root = guest.state().stream_of(id).map(|stream| stream.root);
    let logged = close_and_log(guest, id, if l4.closed { LOCAL } else { REMOTE });
    let left = guest.state().stream_of(id).map(|stream| stream.filter_state.all());
    let deleted = guest.delete(id);
    logged.and(deleted)?;
    root.map_or(Ok(()), |root| guest.end_drained_root(root))?;
    Ok(Ended { filter_state: left.unwrap_or_default() })
}

/// A TCP connection is done before it is logged; an HTTP stream is logged first.
fn close_and_log(guest: &mut Instance, id: u32, peer: u32) -> Result<(), Trapped> {
    let on_close = guest.exports.on_downstream_close.clone();
    guest.call(id, on_close, (id, peer))?;
    guest.settle()?;
    let on_done = guest.exports.on_done.clone();
    guest.call(id, on_done, id)?;
    guest.settle()?;
    if let Some(stream) = guest.state_mut().stream_mut(id) {
        stream.phase = Phase::Log;
    }
    let on_log = guest.exports.on_log.clone();
    guest.call(id, on_log, id)?;
    guest.settle()
}
