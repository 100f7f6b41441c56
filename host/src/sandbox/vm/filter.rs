//! One of the plugins of a VM.

use std::sync::Arc;
use std::time::Duration;

use super::{Serving, Vm, start_root};
use crate::sandbox::connection::{Connection, Plugin};
use crate::sandbox::error::{StartError, Trapped};
use crate::sandbox::http::HttpStream;
use crate::sandbox::l4::L4Stream;
use crate::sandbox::message::Message;

/// A plugin of a VM. What a [`Vm`] does itself, it does for the plugin that it was started with.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'vm> {
    pub(super) vm: &'vm Vm,
    pub(super) nth: usize,
}

impl<'vm> Filter<'vm> {
    /// Opens an HTTP stream: see [`Vm::http`].
    pub fn http(
        &self,
        connection: &Connection,
        request: impl Into<Message>,
    ) -> Result<HttpStream<'vm>, Trapped> {
        self.vm.reload();
        HttpStream::open(&self.vm.guest, self.root(), connection.clone(), request.into())
    }

    /// Opens a TCP connection: see [`Vm::connect`].
    pub fn connect(&self, connection: &Connection) -> Result<L4Stream<'vm>, Trapped> {
        self.vm.reload();
        L4Stream::open(&self.vm.guest, self.root(), connection.clone())
    }

    /// Configures the plugin anew: see [`Vm::configure`].
    pub fn configure(&self, configuration: impl Into<Vec<u8>>) -> Result<(), StartError> {
        let plugin = self.with_configuration(configuration.into());
        self.vm.try_out(&plugin)?;
        self.vm.replace_in_main(self.nth, &plugin)?;
        self.replace(plugin)
    }

    /// Fires the plugin's timer once: see [`Vm::tick`].
    pub fn tick(&self) -> Result<(), Trapped> {
        let root = self.root();
        let mut guest = self.vm.guest.borrow_mut();
        guest.usable()?;
        if guest.state().root(root).is_some_and(|root| !root.tick_period.is_zero()) {
            guest.tick(root)?;
        }
        Ok(())
    }

    /// The period of the plugin's timer; zero if it has none.
    #[must_use]
    pub fn tick_period(&self) -> Duration {
        let guest = self.vm.guest.borrow();
        guest.state().root(self.root()).map_or(Duration::ZERO, |root| root.tick_period)
    }

    /// The same plugin with another configuration.
    pub(crate) fn with_configuration(&self, configuration: Vec<u8>) -> Arc<Plugin> {
        let plugins = self.vm.plugins.borrow();
        let plugin = plugins.get(self.nth).map(|serving| (*serving.plugin).clone()).unwrap_or_default();
        Arc::new(Plugin { configuration, ..plugin })
    }

    /// Starts `plugin` in this one's place, which ends with its last stream.
    pub(crate) fn replace(&self, plugin: Arc<Plugin>) -> Result<(), StartError> {
        let mut guest = self.vm.guest.borrow_mut();
        let root = start_root(&mut guest, &plugin)?;
        let mut plugins = self.vm.plugins.borrow_mut();
        let Some(serving) = plugins.get_mut(self.nth) else { return Ok(()) };
        let old = std::mem::replace(serving, Serving { root, plugin });
        let drained = guest.drain_root(old.root);
        drained.map_err(|source| StartError::Trapped { source, logs: guest.state().logs.clone() })
    }

    fn root(&self) -> u32 {
        self.vm.plugins.borrow().get(self.nth).map_or(0, |serving| serving.root)
    }
}
