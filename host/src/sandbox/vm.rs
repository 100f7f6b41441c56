//! A VM: one guest, as it runs in one worker of Envoy.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, Node, Plugin};
use super::error::{StartError, Trapped};
use super::http::HttpStream;
use super::instance::{Instance, RootFault};
use super::l4::L4Stream;
use super::log::{Level, LogLine};
use super::message::Message;
use super::metrics::Metric;
use super::module::Module;
use super::state::State;

/// A guest that runs, with a plugin configured.
///
/// Streams borrow it, so that several can be under way at once. It moves between threads, but serves one at a
/// time, like a worker of Envoy.
pub struct Vm {
    module: Module,
    node: Arc<Node>,
    guest: RefCell<Instance>,
    serving: RefCell<Serving>,
}

/// The root context that takes new streams.
#[derive(Debug)]
struct Serving {
    root: u32,
    plugin: Arc<Plugin>,
}

impl Vm {
    pub(crate) fn start(module: Module, node: Arc<Node>, plugin: Arc<Plugin>) -> Result<Self, StartError> {
        Self::start_at(module, node, plugin, Duration::ZERO)
    }

    fn start_at(
        module: Module,
        node: Arc<Node>,
        plugin: Arc<Plugin>,
        now: Duration,
    ) -> Result<Self, StartError> {
        let mut state = State::new(module.abi(), Arc::clone(&node), &plugin);
        state.now = now;
        let mut guest =
            Instance::new(&module, state).map_err(|(source, logs)| StartError::Trapped { source, logs })?;
        let root = start_root(&mut guest, &plugin)?;
        let serving = Serving { root, plugin };
        Ok(Self { module, node, guest: guest.into(), serving: serving.into() })
    }

    /// Configures the plugin anew, as Envoy does when its configuration is updated.
    ///
    /// A fresh guest tries the configuration first; if it refuses or traps, nothing has changed. Then a new root
    /// context of this guest takes it, and the old one ends with its last stream.
    pub fn configure(&self, configuration: impl Into<Vec<u8>>) -> Result<(), StartError> {
        let mut serving = self.serving.borrow_mut();
        let plugin = Arc::new(Plugin { configuration: configuration.into(), ..(*serving.plugin).clone() });
        let now = self.guest.borrow().state().now;
        drop(Self::start_at(self.module.clone(), Arc::clone(&self.node), Arc::clone(&plugin), now)?);
        let mut guest = self.guest.borrow_mut();
        let root = start_root(&mut guest, &plugin)?;
        let old = std::mem::replace(&mut *serving, Serving { root, plugin });
        let drained = guest.drain_root(old.root);
        drained.map_err(|source| StartError::Trapped { source, logs: guest.state().logs.clone() })
    }

    /// Opens an HTTP stream, and takes the request through the filter: [`Headers`](super::Headers) alone, or a
    /// [`Message`] with a body and trailers.
    pub fn http(
        &self,
        connection: &Connection,
        request: impl Into<Message>,
    ) -> Result<HttpStream<'_>, Trapped> {
        HttpStream::open(&self.guest, self.root(), connection.clone(), request.into())
    }

    /// Opens a TCP connection, and shows it to the filter.
    pub fn connect(&self, connection: &Connection) -> Result<L4Stream<'_>, Trapped> {
        L4Stream::open(&self.guest, self.root(), connection.clone())
    }

    /// Fires the plugin's timer once, if it has set one.
    pub fn tick(&self) -> Result<(), Trapped> {
        let root = self.root();
        let mut guest = self.guest.borrow_mut();
        guest.alive()?;
        if guest.state().root(root).is_some_and(|root| !root.tick_period.is_zero()) {
            let on_tick = guest.exports.on_tick.clone();
            guest.callback(root, on_tick, root)?;
        }
        Ok(())
    }

    /// The period of the plugin's timer; zero if it has none.
    #[must_use]
    pub fn tick_period(&self) -> Duration {
        self.guest.borrow().state().root(self.root()).map_or(Duration::ZERO, |root| root.tick_period)
    }

    /// Sets the clock, as time since the Unix epoch. It stands still in between.
    pub fn set_time(&self, now: Duration) {
        self.guest.borrow_mut().state_mut().now = now;
    }

    /// Sets what the guest is told of the log level. Every line is kept, whatever its level.
    pub fn set_log_level(&self, level: Level) {
        self.guest.borrow_mut().state_mut().log_level = level;
    }

    /// What the guest has logged since the last call.
    #[must_use]
    pub fn take_logs(&self) -> Vec<LogLine> {
        self.guest.borrow_mut().take_logs()
    }

    /// The guest's metrics by name, without Envoy's prefix.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.guest.borrow().state().metrics.named()
    }

    /// A value of the shared data.
    #[must_use]
    pub fn shared_data(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.guest.borrow().state().shared.get(key).ok().map(|(value, _)| value.to_vec())
    }

    /// The size of the guest's memory. It grows by pages of 64 KiB and never shrinks.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.guest.borrow().memory_bytes()
    }

    /// The trap that ended this VM, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<Trapped> {
        self.guest.borrow().alive().err()
    }

    fn root(&self) -> u32 {
        self.serving.borrow().root
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm").field("plugin", &self.serving.borrow().plugin.name).finish_non_exhaustive()
    }
}

fn start_root(guest: &mut Instance, plugin: &Arc<Plugin>) -> Result<u32, StartError> {
    guest.start_root(Arc::clone(plugin)).map_err(|fault| {
        let logs = guest.state().logs.clone();
        match fault {
            RootFault::Refused(callback) => StartError::Refused { callback, logs },
            RootFault::Trapped(source) => StartError::Trapped { source, logs },
        }
    })
}
