//! What Envoy does with a plugin in its main thread before a worker has it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::connection::{Node, Plugin};
use super::error::StartError;
use super::module::Module;
use super::vm::Vm;
use super::world::World;

/// The main thread of a process: the plugins that it has, each of which lives as long as a worker that has it too.
#[derive(Debug, Default)]
pub(crate) struct MainThread(Mutex<Vec<Weak<Tried>>>);

/// A plugin that has been tried, and the VM that the main thread keeps for it as a worker does.
#[derive(Debug)]
pub(crate) struct Tried {
    /// Where the code is: the same bytes are the same code.
    code: usize,
    plugin: Arc<Plugin>,
    vm: Mutex<Vm>,
}

impl MainThread {
    /// Tries `plugin`, unless that has been done. A canary comes first, and is thrown away without a word to it; then
    /// the main thread gets a VM like every worker. What either of them wrote to `world` stays.
    pub(crate) fn tried(
        &self,
        module: &Module,
        node: &Arc<Node>,
        plugin: &Arc<Plugin>,
        world: &World,
    ) -> Result<Arc<Tried>, StartError> {
        let mut all = lock(&self.0);
        all.retain(|tried| tried.strong_count() > 0);
        let code = module.linked().module().image_range().start as usize;
        let known = all.iter().filter_map(Weak::upgrade);
        if let Some(tried) = known.into_iter().find(|tried| tried.code == code && tried.plugin == *plugin) {
            return Ok(tried);
        }
        let start = || Vm::start(module.clone(), Arc::clone(node), Arc::clone(plugin), world.clone());
        let canary = start()?;
        let vm = start()?;
        vm.logged_before(canary.take_logs());
        let tried = Arc::new(Tried { code, plugin: Arc::clone(plugin), vm: vm.into() });
        all.push(Arc::downgrade(&tried));
        Ok(tried)
    }
}

impl Tried {
    /// The VM in the main thread.
    pub(crate) fn vm(&self) -> MutexGuard<'_, Vm> {
        lock(&self.vm)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
