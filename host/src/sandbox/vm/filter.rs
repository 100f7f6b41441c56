//! One of the plugins of a VM.

use std::sync::Arc;
use std::time::Duration;

use super::Vm;
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
        self.vm.guest.reload();
        HttpStream::open(&self.vm.guest.instance, self.root(), connection.clone(), request.into())
    }

    /// Opens a TCP connection: see [`Vm::connect`].
    pub fn connect(&self, connection: &Connection) -> Result<L4Stream<'vm>, Trapped> {
        self.vm.guest.reload();
        L4Stream::open(&self.vm.guest.instance, self.root(), connection.clone())
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
        let mut guest = self.vm.guest.instance.borrow_mut();
        guest.usable()?;
        if guest.state().root(root).is_some_and(|root| !root.tick_period.is_zero()) {
            guest.tick(root)?;
        }
        Ok(())
    }

    /// The period of the plugin's timer; zero if it has none.
    #[must_use]
    pub fn tick_period(&self) -> Duration {
        let guest = self.vm.guest.instance.borrow();
        guest.state().root(self.root()).map_or(Duration::ZERO, |root| root.tick_period)
    }

    /// The same plugin with another configuration.
    pub(crate) fn with_configuration(&self, configuration: Vec<u8>) -> Arc<Plugin> {
        self.vm.guest.with_configuration(self.nth, configuration)
    }

    /// Starts `plugin` in this one's place, which ends with its last stream.
    pub(crate) fn replace(&self, plugin: Arc<Plugin>) -> Result<(), StartError> {
        self.vm.guest.replace(self.nth, plugin)
    }

    fn root(&self) -> u32 {
        self.vm.guest.root(self.nth)
    }
}
