//! A compiled module.

use std::collections::BTreeSet;
use std::sync::Arc;

use wasmtime::{ExternType, InstancePre};

use super::abi::Abi;
use super::compiled;
use super::connection::{Node, Plugin};
use super::error::{SandboxError, StartError};
use super::imports::Functions;
use super::link::link;
use super::state::State;
use super::vm::Vm;
use super::workers::Workers;
use super::world::World;

/// The guest's allocator, by either of its names.
pub(crate) const ALLOCATORS: [&str; 2] = ["malloc", "proxy_on_memory_allocate"];

/// Envoy's bound on a guest's memory.
const MEMORY_LIMIT: usize = 1 << 30;

/// How many functions a guest's table may hold: as many as V8 gives it.
pub(crate) const TABLE_LIMIT: usize = 10_000_000;

/// Instructions that one callback may run: far beyond any sane filter, and well under a second.
const FUEL: u64 = 100_000_000;

/// A proxy-wasm module, compiled and linked; cheap to clone, and shared by threads.
#[derive(Clone)]
pub struct Module {
    linked: InstancePre<State>,
    fuel: u64,
    memory_limit: usize,
    functions: Functions,
    abi: Abi,
}

impl Module {
    /// Compiles `wasm`, and checks that it is a proxy-wasm module this host can run. The code is kept: to compile the same
    /// bytes again in this process takes no time.
    pub fn compile(wasm: &[u8]) -> Result<Self, SandboxError> {
        let invalid = |error: wasmtime::Error| SandboxError::Invalid { source: error.into() };
        let module = compiled::compile(wasm).map_err(invalid)?;
        let abi = check_exports(&module)?;
        let linked = link(&module, abi, &BTreeSet::new())?;
        Ok(Self { linked, fuel: FUEL, memory_limit: MEMORY_LIMIT, functions: Functions::default(), abi })
    }

    /// The same module with another bound on the instructions of a callback.
    #[must_use]
    pub fn with_fuel(mut self, fuel: u64) -> Self {
        self.fuel = fuel;
        self
    }

    /// The same module with another bound on its memory than Envoy's 1 GiB.
    #[must_use]
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// The same module, whose guests can call `function` by `name`, as a proxy offers foreign functions of its own.
    /// `None` is the status 2, a bad argument.
    #[must_use]
    pub fn with_function(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        self.functions.add(name.into(), Arc::new(function));
        self
    }

    /// The version of the ABI that the module speaks.
    #[must_use]
    pub fn abi(&self) -> Abi {
        self.abi
    }

    /// Starts a VM with one plugin, in a worker: `_initialize`, `on_context_create`, `on_vm_start`, `on_configure`.
    ///
    /// As in Envoy, it is the third to do so. First comes a canary in the main thread, which is thrown away; a plugin that
    /// refuses or traps there is not taken. Then the main thread has a VM of its own, like every worker. What they wrote
    /// to the shared data and to metrics is there; what they logged is [`Vm::take_main_logs`].
    ///
    /// ```
    /// use isthmus::sandbox::{Metric, Module, Node, Plugin};
    ///
    /// // A filter that counts how often it is configured.
    /// let wasm = wat::parse_str(r#"(module
    ///   (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
    ///   (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
    ///   (memory (export "memory") 1)
    ///   (data (i32.const 8) "configured")
    ///   (func (export "proxy_abi_version_0_2_1"))
    ///   (func (export "malloc") (param i32) (result i32) (i32.const 1024))
    ///   (func (export "proxy_on_configure") (param i32 i32) (result i32)
    ///     (drop (call $define (i32.const 0) (i32.const 8) (i32.const 10) (i32.const 0)))
    ///     (i32.eqz (call $increment (i32.load (i32.const 0)) (i64.const 1)))))"#)?;
    /// let vm = Module::compile(&wasm)?.start(&Node::default(), Plugin::default())?;
    /// assert_eq!(vm.metrics()["configured"], Metric::Counter(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(&self, node: &Node, plugin: Plugin) -> Result<Vm, StartError> {
        self.start_in(&World::new(), node, plugin)
    }

    /// The same, where the VM shares its metrics, data and queues with the other VMs of `world`.
    pub fn start_in(&self, world: &World, node: &Node, plugin: Plugin) -> Result<Vm, StartError> {
        let (module, node, plugin) = (self.within(&plugin)?, Arc::new(node.clone()), Arc::new(plugin));
        let main = world.main().tried(&module, &node, &plugin, world)?;
        Ok(Vm::start(module, node, plugin, world.clone())?.beside(main))
    }

    /// Starts a VM with one plugin and no trial of it, which no Envoy does: for many VMs of a module that leaves nothing
    /// behind in a trial, in a third of the time.
    pub fn start_untried(&self, node: &Node, plugin: Plugin) -> Result<Vm, StartError> {
        Vm::start(self.within(&plugin)?, node.clone().into(), plugin.into(), World::new())
    }

    /// Starts a VM for each of `count` workers, after the trials in the main thread.
    pub fn start_workers(&self, node: &Node, plugin: Plugin, count: usize) -> Result<Workers, StartError> {
        Workers::start(self, node, plugin, count)
    }

    /// The same module, linked with what `plugin` may import.
    pub(crate) fn within(&self, plugin: &Plugin) -> Result<Self, StartError> {
        let mut module = self.clone();
        if !plugin.capabilities.is_empty() {
            module.linked = link(self.linked.module(), self.abi, &plugin.capabilities)
                .map_err(|source| StartError::Unlinked { source: source.into() })?;
        }
        Ok(module)
    }

    pub(crate) fn functions(&self) -> &Functions {
        &self.functions
    }

    pub(crate) fn memory_limit(&self) -> usize {
        self.memory_limit
    }

    pub(crate) fn linked(&self) -> &InstancePre<State> {
        &self.linked
    }

    pub(crate) fn fuel(&self) -> u64 {
        self.fuel
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("fuel", &self.fuel).finish_non_exhaustive()
    }
}

/// The first marker counts.
fn check_exports(module: &wasmtime::Module) -> Result<Abi, SandboxError> {
    let has = |name: &str| matches!(module.get_export(name), Some(ExternType::Func(_)));
    let mut names = module.exports().map(|export| export.name());
    let Some(abi) = names.find_map(Abi::of_marker) else {
        let markers = module.exports().map(|export| export.name());
        let found = markers.filter(|name| name.starts_with("proxy_abi_version")).map(str::to_owned).collect();
        return Err(SandboxError::Abi { found });
    };
    if !ALLOCATORS.iter().any(|name| has(name)) {
        return Err(SandboxError::NoAllocator);
    }
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return Err(SandboxError::NoMemory);
    }
    Ok(abi)
}
