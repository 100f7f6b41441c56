//! Several workers, each with a VM of its own.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Node, Plugin};
use super::error::{StartError, Trapped};
use super::guest::Guest;
use super::module::Module;
use super::vm::Vm;
use super::world::World;

/// The workers of an Envoy: a VM for each, all in one [`World`].
///
/// ```
/// use std::time::Duration;
///
/// use isthmus::sandbox::{Connection, FailurePolicy, Headers, Module, Node, Plugin};
///
/// // A filter that does not survive a request.
/// let wasm = wat::parse_str(r#"(module
///   (memory (export "memory") 1)
///   (func (export "proxy_abi_version_0_2_1"))
///   (func (export "malloc") (param i32) (result i32) (i32.const 1024))
///   (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable))"#)?;
/// let failure_policy = FailurePolicy::Reload { interval: Duration::from_secs(1) };
/// let plugin = Plugin { failure_policy, ..Plugin::default() };
/// let workers = Module::compile(&wasm)?.start_workers(&Node::default(), plugin, 2)?;
///
/// let connection = Connection::new("10.0.0.1:40000".parse()?, "10.0.0.2:8080".parse()?);
/// let answered = workers[0].http(&connection, Headers::new())?.request();
/// assert_eq!(answered.reply().map(|reply| reply.status), Some(503));
/// assert!(workers[0].failure().is_some() && workers[1].failure().is_none());
///
/// workers.advance(Duration::from_secs(1))?;
/// workers[0].http(&connection, Headers::new())?;
/// assert_eq!(workers[0].reloads().succeeded, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is a slice of [`Vm`]s. Before the workers come the trials in Envoy's main thread, as in [`Module::start`]: what they
/// wrote to the shared data, to queues and to metrics is there when the first worker starts.
#[derive(Debug)]
pub struct Workers {
    vms: Vec<Vm>,
}

impl Workers {
    pub(crate) fn start(
        module: &Module,
        node: &Node,
        plugin: Plugin,
        count: usize,
    ) -> Result<Self, StartError> {
        let module = module.within(&plugin)?;
        let (world, node, plugin) = (World::new(), Arc::new(node.clone()), Arc::new(plugin));
        let main = world.tried(&module, &node, &plugin)?;
        let start = || {
            let process = world.process().clone();
            let guest = Guest::start(module.clone(), Arc::clone(&node), Arc::clone(&plugin), process)?;
            Ok(Vm::beside(Arc::clone(&main), guest))
        };
        let vms = std::iter::repeat_with(start).take(count).collect::<Result<_, StartError>>()?;
        Ok(Self { vms })
    }

    /// Configures the plugin anew, in the main thread first: if it refuses there, no worker has changed.
    pub fn configure(&self, configuration: impl Into<Vec<u8>>) -> Result<(), StartError> {
        let Some(first) = self.vms.first() else { return Ok(()) };
        let plugin = first.first().with_configuration(configuration.into());
        first.try_out(&plugin)?;
        first.replace_in_main(0, &plugin)?;
        self.vms.iter().try_for_each(|vm| vm.first().replace(Arc::clone(&plugin)))
    }

    /// Tells all workers of their queues, until there is nothing more to tell.
    pub fn turn(&self) -> Result<(), Trapped> {
        loop {
            let mut told = false;
            for vm in &self.vms {
                told |= vm.turn()?;
            }
            if !told {
                return Ok(());
            }
        }
    }

    /// Lets time pass in all workers, one after the other.
    pub fn advance(&self, by: Duration) -> Result<(), Trapped> {
        self.vms.iter().try_for_each(|vm| vm.advance(by))?;
        self.turn()
    }
}

impl Deref for Workers {
    type Target = [Vm];

    fn deref(&self) -> &[Vm] {
        &self.vms
    }
}
