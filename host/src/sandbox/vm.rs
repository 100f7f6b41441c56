//! A VM: one guest, as it runs in one worker of Envoy.

mod events;
mod filter;

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::connection::{Connection, Plugin};
use super::error::{StartError, Trapped};
use super::failure::Reloads;
use super::guest::Guest;
use super::http::HttpStream;
use super::l4::L4Stream;
use super::log::{Level, LogLine};
use super::message::Message;
use super::metrics::Metric;
use super::trace::Callback;
use super::trial::Tried;

pub use filter::Filter;

/// A guest that runs, with a plugin configured.
///
/// Streams borrow it, so that several can be under way at once. It moves between threads, but serves one at a
/// time, like a worker of Envoy.
#[derive(Debug)]
pub struct Vm {
    guest: Guest,
    /// What the main thread has, where the plugins were tried.
    main: Option<Arc<Tried>>,
}

impl Vm {
    /// A worker whose plugin was tried nowhere.
    pub(crate) fn untried(guest: Guest) -> Self {
        Self { guest, main: None }
    }

    /// A worker beside the main thread.
    pub(crate) fn beside(main: Arc<Tried>, guest: Guest) -> Self {
        Self { guest, main: Some(main) }
    }

    /// Configures the plugin anew, as Envoy does when its configuration is updated.
    ///
    /// A canary tries the configuration first, unless one has before; if it refuses or traps, nothing has changed. Then a
    /// new root context takes it, in the main thread's VM and in this one, and the old one ends with its last stream.
    pub fn configure(&self, configuration: impl Into<Vec<u8>>) -> Result<(), StartError> {
        self.first().configure(configuration)
    }

    /// Starts another plugin in this guest, as Envoy does for plugins of one `vm_id`, code and VM configuration.
    pub fn add(&self, plugin: Plugin) -> Result<Filter<'_>, StartError> {
        let plugin = Arc::new(plugin);
        self.try_out(&plugin)?;
        if let Some(main) = self.living_main() {
            main.push(Arc::clone(&plugin))?;
        }
        let nth = self.guest.push(plugin)?;
        Ok(Filter { vm: self, nth })
    }

    /// Opens an HTTP stream, and takes the request through the filter: [`Headers`](super::Headers) alone, or a
    /// [`Message`] with a body and trailers.
    pub fn http(
        &self,
        connection: &Connection,
        request: impl Into<Message>,
    ) -> Result<HttpStream<'_>, Trapped> {
        self.first().http(connection, request)
    }

    /// Opens a TCP connection, and shows it to the filter.
    pub fn connect(&self, connection: &Connection) -> Result<L4Stream<'_>, Trapped> {
        self.first().connect(connection)
    }

    /// Fires the plugin's timer once, if it has set one, at whatever time it is.
    pub fn tick(&self) -> Result<(), Trapped> {
        self.first().tick()
    }

    /// The period of the plugin's timer; zero if it has none.
    #[must_use]
    pub fn tick_period(&self) -> Duration {
        self.first().tick_period()
    }

    /// Sets what the guest is told of the log level. Every line is kept, whatever its level.
    pub fn set_log_level(&self, level: Level) {
        self.guest.instance.borrow_mut().state_mut().log_level = level;
    }

    /// Sets where the guest's random bytes start. They are the same for the same seed.
    pub fn set_random_seed(&self, seed: u64) {
        self.guest.instance.borrow_mut().state_mut().random.0 = seed;
    }

    /// What has been logged in the main thread since the last call: by the canary, and by the VM that the main thread has
    /// of this plugin, whose timer fires beside this one's.
    #[must_use]
    pub fn take_main_logs(&self) -> Vec<LogLine> {
        self.main.as_ref().map(|main| main.guest().take_logs()).unwrap_or_default()
    }

    /// What the guest has logged since the last call.
    #[must_use]
    pub fn take_logs(&self) -> Vec<LogLine> {
        self.guest.take_logs()
    }

    /// Notes every callback and its hostcalls from now on, for [`Vm::take_callbacks`].
    ///
    /// ```
    /// use isthmus::sandbox::{Connection, Cost, Headers, Module, Node, Plugin};
    ///
    /// let wasm = wat::parse_str(r#"(module
    ///   (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    ///   (memory (export "memory") 1)
    ///   (data (i32.const 8) "hello")
    ///   (func (export "proxy_abi_version_0_2_1"))
    ///   (func (export "malloc") (param i32) (result i32) (i32.const 1024))
    ///   (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    ///     (call $log (i32.const 2) (i32.const 8) (i32.const 5))))"#)?;
    /// let vm = Module::compile(&wasm)?.start(&Node::default(), Plugin::default())?;
    /// let connection = Connection::new("10.0.0.1:40000".parse()?, "10.0.0.2:8080".parse()?);
    ///
    /// vm.record();
    /// vm.http(&connection, Headers::from([(":path", "/")]))?;
    /// let callbacks = vm.take_callbacks();
    /// let cost: Cost = callbacks.iter().sum();
    /// assert_eq!((cost.hostcalls, cost.copied_bytes, cost.allocations), (1, 5, 0), "{callbacks:?}");
    /// assert_eq!(callbacks[0].hostcalls[0].to_string(), "proxy_log(hello) = 0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record(&self) {
        self.guest.instance.borrow_mut().state_mut().recorder.get_or_insert_default();
    }

    /// The callbacks that ran since [`Vm::record`], or since the last call.
    #[must_use]
    pub fn take_callbacks(&self) -> Vec<Callback> {
        let mut taken = Vec::new();
        self.guest.instance.borrow().state().record(|recorder| taken = recorder.take());
        taken
    }

    /// The metrics by name, without Envoy's prefix: of all VMs that share a [`World`](super::World) with this one.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.guest.process().registry().named()
    }

    /// A value of the shared data.
    #[must_use]
    pub fn shared_data(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.guest.process().value(&self.guest.instance.borrow().state().vm_id, key)
    }

    /// The size of the guest's memory. It grows by pages of 64 KiB and never shrinks.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.guest.instance.borrow().memory_bytes()
    }

    /// The trap that ended this VM, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<Trapped> {
        self.guest.instance.borrow().alive().err()
    }

    /// How often the guest was made anew after a trap, under [`FailurePolicy::Reload`](super::FailurePolicy::Reload).
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.guest.reloads()
    }

    pub(crate) fn first(&self) -> Filter<'_> {
        Filter { vm: self, nth: 0 }
    }

    /// Starts `plugin` in a guest of its own, which is then thrown away: Envoy's canary. It shares the world.
    pub(crate) fn try_out(&self, plugin: &Arc<Plugin>) -> Result<(), StartError> {
        if let Some(known) = self.main.as_ref().and_then(|main| main.known(plugin)) {
            return known;
        }
        let canary = self.guest.canary(plugin);
        if let Some(main) = &self.main {
            main.note(plugin, &canary);
        }
        let canary = canary?;
        if let Some(main) = self.living_main() {
            main.instance.borrow_mut().state_mut().logs.extend(canary.take_logs());
        }
        Ok(())
    }

    /// Gives the main thread's guest `plugin` in place of its own that is the `nth`.
    pub(crate) fn replace_in_main(&self, nth: usize, plugin: &Arc<Plugin>) -> Result<(), StartError> {
        self.living_main().map_or(Ok(()), |main| main.replace(nth, Arc::clone(plugin)))
    }

    /// The main thread's guest, unless it has trapped.
    fn living_main(&self) -> Option<MutexGuard<'_, Guest>> {
        self.main.as_ref().and_then(|main| main.living())
    }
}
