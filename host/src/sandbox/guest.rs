//! A guest with its plugins, in one thread of Envoy: a worker, the main one, or a canary's short life.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Node, Plugin};
use super::error::StartError;
use super::failure::{FailurePolicy, Reloads};
use super::instance::{Instance, RootFault};
use super::log::LogLine;
use super::module::Module;
use super::process::Process;
use super::state::State;

/// A guest that runs, and the plugins that share it.
pub(crate) struct Guest {
    module: Module,
    node: Arc<Node>,
    process: Process,
    pub(crate) instance: RefCell<Instance>,
    /// The plugins, the first of which it was started with.
    plugins: RefCell<Vec<Serving>>,
    reloading: RefCell<Reloading>,
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

impl Guest {
    pub(crate) fn start(
        module: Module,
        node: Arc<Node>,
        plugin: Arc<Plugin>,
        process: Process,
    ) -> Result<Self, StartError> {
        Self::start_at(module, node, plugin, (process, Duration::ZERO))
    }

    fn start_at(
        module: Module,
        node: Arc<Node>,
        plugin: Arc<Plugin>,
        (process, now): (Process, Duration),
    ) -> Result<Self, StartError> {
        let mut state = State::new(module.abi(), Arc::clone(&node), &plugin, process.clone());
        state.now = now;
        let mut instance =
            Instance::new(&module, state).map_err(|(source, logs)| StartError::Trapped { source, logs })?;
        let root = start_root(&mut instance, &plugin)?;
        let plugins = RefCell::new(vec![Serving { root, plugin }]);
        let reloading = RefCell::new(Reloading { last: now, ..Reloading::default() });
        Ok(Self { module, node, process, instance: instance.into(), plugins, reloading })
    }

    /// Starts `plugin` in a guest of its own beside this one, of the same process and at the same time.
    pub(crate) fn canary(&self, plugin: &Arc<Plugin>) -> Result<Self, StartError> {
        let now = self.instance.borrow().state().now;
        let (module, node) = (self.module.clone(), Arc::clone(&self.node));
        Self::start_at(module, node, Arc::clone(plugin), (self.process.clone(), now))
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// What has been logged since the last call.
    pub(crate) fn take_logs(&self) -> Vec<LogLine> {
        self.instance.borrow_mut().take_logs()
    }

    /// Puts what was logged elsewhere before what was logged here.
    pub(crate) fn logged_before(&self, mut logs: Vec<LogLine>) {
        let mut instance = self.instance.borrow_mut();
        let own = &mut instance.state_mut().logs;
        logs.append(own);
        *own = logs;
    }

    /// The root context that takes the new streams of the `nth` plugin.
    pub(crate) fn root(&self, nth: usize) -> u32 {
        self.plugins.borrow().get(nth).map_or(0, |serving| serving.root)
    }

    /// The `nth` plugin with another configuration.
    pub(crate) fn with_configuration(&self, nth: usize, configuration: Vec<u8>) -> Arc<Plugin> {
        let plugins = self.plugins.borrow();
        let plugin = plugins.get(nth).map(|serving| (*serving.plugin).clone()).unwrap_or_default();
        Arc::new(Plugin { configuration, ..plugin })
    }

    /// Starts one more plugin; the answer is its number.
    pub(crate) fn push(&self, plugin: Arc<Plugin>) -> Result<usize, StartError> {
        let root = start_root(&mut self.instance.borrow_mut(), &plugin)?;
        let mut plugins = self.plugins.borrow_mut();
        plugins.push(Serving { root, plugin });
        Ok(plugins.len() - 1)
    }

    /// Starts `plugin` in the place of the `nth`, which ends with its last stream.
    pub(crate) fn replace(&self, nth: usize, plugin: Arc<Plugin>) -> Result<(), StartError> {
        let mut instance = self.instance.borrow_mut();
        let root = start_root(&mut instance, &plugin)?;
        let mut plugins = self.plugins.borrow_mut();
        let Some(serving) = plugins.get_mut(nth) else { return Ok(()) };
        let old = std::mem::replace(serving, Serving { root, plugin });
        let drained = instance.drain_root(old.root);
        drained.map_err(|source| StartError::Trapped { source, logs: instance.state().logs.clone() })
    }

    /// How often the guest was made anew after a trap.
    pub(crate) fn reloads(&self) -> Reloads {
        self.reloading.borrow().done
    }

    /// Before a new stream: makes a guest anew that has trapped, if its plugin wants that and the last is old enough.
    pub(crate) fn reload(&self) {
        let plugins = self.plugins.borrow();
        let Some(FailurePolicy::Reload { interval }) =
            plugins.first().map(|first| first.plugin.failure_policy)
        else {
            return;
        };
        let Err(_trap) = self.instance.borrow().alive() else { return };
        drop(plugins);
        let now = self.instance.borrow().state().now;
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
            State::new(self.module.abi(), Arc::clone(&self.node), &first.plugin, self.process.clone());
        let mut dead = self.instance.borrow_mut();
        state.now = dead.state().now;
        state.number_after(dead.state());
        let mut fresh = Instance::new(&self.module, state)
            .map_err(|(source, logs)| StartError::Trapped { source, logs })?;
        for serving in &mut plugins {
            serving.root = start_root(&mut fresh, &serving.plugin)?;
        }
        fresh.state_mut().outlive(dead.state_mut());
        *dead = fresh;
        *self.plugins.borrow_mut() = plugins;
        Ok(())
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plugins = self.plugins.borrow();
        let names: Vec<&str> = plugins.iter().map(|serving| serving.plugin.name.as_str()).collect();
        f.debug_struct("Guest").field("plugins", &names).finish_non_exhaustive()
    }
}

fn start_root(instance: &mut Instance, plugin: &Arc<Plugin>) -> Result<u32, StartError> {
    instance.start_root(Arc::clone(plugin)).map_err(|fault| {
        let logs = instance.state().logs.clone();
        match fault {
            RootFault::Refused(callback) => StartError::Refused { callback, logs },
            RootFault::Trapped(source) => StartError::Trapped { source, logs },
        }
    })
}
