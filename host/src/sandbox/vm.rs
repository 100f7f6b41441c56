//! A VM: one guest, as it runs in one worker of Envoy.

mod events;
mod filter;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::connection::{Connection, Node, Plugin};
use super::error::{StartError, Trapped};
use super::failure::{FailurePolicy, Reloads};
use super::http::HttpStream;
use super::instance::{Instance, RootFault};
use super::l4::L4Stream;
use super::log::{Level, LogLine};
use super::message::Message;
use super::metrics::Metric;
use super::module::Module;
use super::state::State;
use super::trace::Callback;
use super::trial::Tried;
use super::world::World;

pub use filter::Filter;

/// A guest that runs, with a plugin configured.
///
/// Streams borrow it, so that several can be under way at once. It moves between threads, but serves one at a
/// time, like a worker of Envoy.
pub struct Vm {
    module: Module,
    node: Arc<Node>,
    world: World,
    guest: RefCell<Instance>,
    /// The plugins that share the guest, the first of which it was started with.
    plugins: RefCell<Vec<Serving>>,
    reloading: RefCell<Reloading>,
    /// The VM of the main thread, where the plugins were tried.
    main: Option<Arc<Tried>>,
}

/// When the guest was made last, and what has come of making it anew.
#[derive(Debug, Default)]
struct Reloading {
    last: Duration,
    done: Reloads,
}

/// A plugin, and the root context that takes its new streams.
#[derive(Clone, Debug)]
struct Serving {
    root: u32,
    plugin: Arc<Plugin>,
}

impl Vm {
    pub(crate) fn start(
        module: Module,
        node: Arc<Node>,
        plugin: Arc<Plugin>,
        world: World,
    ) -> Result<Self, StartError> {
        Self::start_at(module, node, plugin, (world, Duration::ZERO))
    }

    fn start_at(
        module: Module,
        node: Arc<Node>,
        plugin: Arc<Plugin>,
        (world, now): (World, Duration),
    ) -> Result<Self, StartError> {
        let mut state = State::new(module.abi(), Arc::clone(&node), &plugin, world.clone());
        state.now = now;
        let mut guest =
            Instance::new(&module, state).map_err(|(source, logs)| StartError::Trapped { source, logs })?;
        let root = start_root(&mut guest, &plugin)?;
        let plugins = RefCell::new(vec![Serving { root, plugin }]);
        let reloading = RefCell::new(Reloading { last: now, ..Reloading::default() });
        Ok(Self { module, node, world, guest: guest.into(), plugins, reloading, main: None })
    }

    /// The same VM, in a worker beside the main thread.
    pub(crate) fn beside(self, main: Arc<Tried>) -> Self {
        Self { main: Some(main), ..self }
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
        let nth = self.push(plugin)?;
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
        self.guest.borrow_mut().state_mut().log_level = level;
    }

    /// Sets where the guest's random bytes start. They are the same for the same seed.
    pub fn set_random_seed(&self, seed: u64) {
        self.guest.borrow_mut().state_mut().random.0 = seed;
    }

    /// What has been logged in the main thread since the last call: by the canary, and by the VM that the main thread has
    /// of this plugin, whose timer fires beside this one's.
    #[must_use]
    pub fn take_main_logs(&self) -> Vec<LogLine> {
        self.main.as_ref().map(|main| main.vm().take_logs()).unwrap_or_default()
    }

    /// What the guest has logged since the last call.
    #[must_use]
    pub fn take_logs(&self) -> Vec<LogLine> {
        self.guest.borrow_mut().take_logs()
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
        self.guest.borrow_mut().state_mut().recorder.get_or_insert_default();
    }

    /// The callbacks that ran since [`Vm::record`], or since the last call.
    #[must_use]
    pub fn take_callbacks(&self) -> Vec<Callback> {
        let mut taken = Vec::new();
        self.guest.borrow().state().record(|recorder| taken = recorder.take());
        taken
    }

    /// The metrics by name, without Envoy's prefix: of all VMs that share a [`World`] with this one.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.world.metrics()
    }

    /// A value of the shared data.
    #[must_use]
    pub fn shared_data(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.world.shared_data(&self.guest.borrow().state().vm_id, key)
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

    /// How often the guest was made anew after a trap, under [`FailurePolicy::Reload`].
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.reloading.borrow().done
    }

    pub(crate) fn first(&self) -> Filter<'_> {
        Filter { vm: self, nth: 0 }
    }

    /// Starts `plugin` in a guest of its own, which is then thrown away: Envoy's canary. It shares the world.
    pub(crate) fn try_out(&self, plugin: &Arc<Plugin>) -> Result<(), StartError> {
        if let Some(known) = self.main.as_ref().and_then(|main| main.known(plugin)) {
            return known;
        }
        let now = self.guest.borrow().state().now;
        let (module, node) = (self.module.clone(), Arc::clone(&self.node));
        let canary = Self::start_at(module, node, Arc::clone(plugin), (self.world.clone(), now));
        if let Some(main) = &self.main {
            main.note(plugin, &canary);
        }
        let canary = canary?;
        if let Some(main) = self.living_main() {
            main.guest.borrow_mut().state_mut().logs.extend(canary.take_logs());
        }
        Ok(())
    }

    /// Gives the main thread's VM `plugin` in place of its own that is the `nth`.
    pub(crate) fn replace_in_main(&self, nth: usize, plugin: &Arc<Plugin>) -> Result<(), StartError> {
        match self.living_main() {
            Some(main) => Filter { vm: &main, nth }.replace(Arc::clone(plugin)),
            None => Ok(()),
        }
    }

    /// Puts what was logged elsewhere before what was logged here.
    pub(crate) fn logged_before(&self, mut logs: Vec<LogLine>) {
        let mut guest = self.guest.borrow_mut();
        let own = &mut guest.state_mut().logs;
        logs.append(own);
        *own = logs;
    }

    /// The main thread's VM. One that has trapped is of no use to anyone, and nobody there is waiting for it.
    fn living_main(&self) -> Option<MutexGuard<'_, Self>> {
        self.main.as_ref().map(|main| main.vm()).filter(|main| main.guest.borrow().alive().is_ok())
    }

    /// Starts one more plugin in this guest; the answer is its number.
    fn push(&self, plugin: Arc<Plugin>) -> Result<usize, StartError> {
        let root = start_root(&mut self.guest.borrow_mut(), &plugin)?;
        let mut plugins = self.plugins.borrow_mut();
        plugins.push(Serving { root, plugin });
        Ok(plugins.len() - 1)
    }
}

impl Vm {
    /// Before a new stream: makes a guest anew that has trapped, if its plugin wants that and the last is old enough.
    fn reload(&self) {
        let plugins = self.plugins.borrow();
        let Some(FailurePolicy::Reload { interval }) =
            plugins.first().map(|first| first.plugin.failure_policy)
        else {
            return;
        };
        let Err(_trap) = self.guest.borrow().alive() else { return };
        drop(plugins);
        let now = self.guest.borrow().state().now;
        let mut reloading = self.reloading.borrow_mut();
        if now.saturating_sub(reloading.last) < interval {
            reloading.done.backed_off += 1;
            return;
        }
        reloading.last = now;
        match self.make_anew() {
            Ok(()) => reloading.done.succeeded += 1,
            Err(_refused) => reloading.done.failed += 1,
        }
    }

    /// A fresh guest with the same plugins. Streams of the one before stay dead; if it does not start, that one stays.
    fn make_anew(&self) -> Result<(), StartError> {
        let mut plugins = self.plugins.borrow().clone();
        let Some(first) = plugins.first() else { return Ok(()) };
        let mut state =
            State::new(self.module.abi(), Arc::clone(&self.node), &first.plugin, self.world.clone());
        let mut dead = self.guest.borrow_mut();
        state.now = dead.state().now;
        state.number_after(dead.state());
        let mut guest = Instance::new(&self.module, state)
            .map_err(|(source, logs)| StartError::Trapped { source, logs })?;
        for serving in &mut plugins {
            serving.root = start_root(&mut guest, &serving.plugin)?;
        }
        guest.state_mut().outlive(dead.state_mut());
        *dead = guest;
        *self.plugins.borrow_mut() = plugins;
        Ok(())
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plugins = self.plugins.borrow();
        let names: Vec<&str> = plugins.iter().map(|serving| serving.plugin.name.as_str()).collect();
        f.debug_struct("Vm").field("plugins", &names).finish_non_exhaustive()
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
