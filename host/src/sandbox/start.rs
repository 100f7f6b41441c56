//! Starts the guests of a module: in one worker, in several, or in a world that there is.

use std::sync::Arc;

use super::connection::{Node, Plugin};
use super::error::StartError;
use super::guest::Guest;
use super::module::Module;
use super::process::Process;
use super::vm::Vm;
use super::workers::Workers;
use super::world::World;

impl Module {
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
        let main = world.tried(&module, &node, &plugin)?;
        Ok(Vm::beside(main, Guest::start(module, node, plugin, world.process().clone())?))
    }

    /// Starts a VM with one plugin and no trial of it, which no Envoy does: for many VMs of a module that leaves nothing
    /// behind in a trial, in a third of the time.
    pub fn start_untried(&self, node: &Node, plugin: Plugin) -> Result<Vm, StartError> {
        let module = self.within(&plugin)?;
        Ok(Vm::untried(Guest::start(module, node.clone().into(), plugin.into(), Process::default())?))
    }

    /// Starts a VM for each of `count` workers, after the trials in the main thread.
    pub fn start_workers(&self, node: &Node, plugin: Plugin, count: usize) -> Result<Workers, StartError> {
        Workers::start(self, node, plugin, count)
    }
}
