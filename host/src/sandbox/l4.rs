//! A TCP connection.

use std::cell::RefCell;

use super::connection::Connection;
use super::error::Trapped;
use super::filter_state::FilterState;
use super::instance::Instance;
use super::open::Open;
use super::outcome::{Action, Ended, L4Outcome};
use super::stream::{L4, Protocol};

/// A TCP connection under way. It ends when it is finished or dropped.
#[derive(Debug)]
pub struct L4Stream<'vm>(Open<'vm>);

impl<'vm> L4Stream<'vm> {
    pub(crate) fn open(
        guest: &'vm RefCell<Instance>,
        root: u32,
        connection: Connection,
    ) -> Result<Self, Trapped> {
        let open = Open::new(guest, root, connection, Protocol::L4(L4::default()))?;
        let shown = guest.borrow_mut().show_connection(open.id());
        shown.map(|()| Self(open))
    }

    /// The client sends `bytes`; with `end` it will send no more.
    ///
    /// A filter that paused sees what it held back and the new bytes as one. One that paused the connection itself sees
    /// nothing until it continues it: the TCP proxy behind it has not seen the connection, so that nothing is read.
    pub fn client_sends(&self, bytes: impl AsRef<[u8]>, end: bool) -> Result<L4Outcome, Trapped> {
        let mut guest = self.0.guest().borrow_mut();
        guest.usable()?;
        guest.client_sends(self.0.id(), bytes.as_ref(), end)?;
        drop(guest);
        Ok(self.outcome())
    }

    /// The upstream sends `bytes`; with `end` it has closed, which is all that a filter learns of that. There is none
    /// while the filter pauses the connection itself.
    pub fn upstream_sends(&self, bytes: impl AsRef<[u8]>, end: bool) -> Result<L4Outcome, Trapped> {
        let mut guest = self.0.guest().borrow_mut();
        guest.usable()?;
        guest.upstream_sends(self.0.id(), bytes.as_ref(), end)?;
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
        self.0.filter_state()
    }

    /// Ends the connection: `on_downstream_connection_close`, `on_done`, the access log, `on_delete`.
    pub fn finish(self) -> Result<Ended, Trapped> {
        self.0.finish()
    }

    fn look<T: Default>(&self, look: impl FnOnce(&L4) -> T) -> T {
        self.0.guest().borrow().state().l4(self.0.id()).map(look).unwrap_or_default()
    }
}
