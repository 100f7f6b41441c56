//! A stream of either protocol, as a test has it open.

use std::cell::RefCell;
use std::fmt;

use super::connection::Connection;
use super::context::Context;
use super::error::Trapped;
use super::filter_state::FilterState;
use super::instance::Instance;
use super::outcome::Ended;
use super::stream::{Protocol, Stream};

/// A stream under way. It ends when it is finished or dropped.
pub(crate) struct Open<'vm> {
    guest: &'vm RefCell<Instance>,
    id: u32,
}

impl<'vm> Open<'vm> {
    /// Makes a stream of the plugin whose root context is `root`, and has the guest make its context.
    pub(crate) fn new(
        guest: &'vm RefCell<Instance>,
        root: u32,
        connection: Connection,
        protocol: Protocol,
    ) -> Result<Self, Trapped> {
        let mut instance = guest.borrow_mut();
        instance.usable()?;
        let stream = Stream::new(root, connection, instance.state().now, protocol);
        let policy = instance.policy_of_a_new_stream(root);
        let id = instance.state_mut().insert(Context::Stream(Box::new(Stream { policy, ..stream })));
        drop(instance);
        // From here on the stream ends by being dropped, whatever happens.
        let open = Self { guest, id };
        let mut instance = guest.borrow_mut();
        let parent = root.saturating_sub(instance.state().before);
        let created = instance.callback(id, |exports| &exports.on_context_create, (id, parent));
        drop(instance);
        created.map(|_| open)
    }

    pub(crate) fn guest(&self) -> &'vm RefCell<Instance> {
        self.guest
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// What filters left for each other.
    pub(crate) fn filter_state(&self) -> FilterState {
        self.guest.borrow().filter_state(self.id)
    }

    pub(crate) fn finish(self) -> Result<Ended, Trapped> {
        self.guest.borrow_mut().end(self.id)
    }
}

impl fmt::Debug for Open<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // A trap here is not lost: the VM remembers it.
        let _ended = self.guest.borrow_mut().end(self.id);
    }
}
