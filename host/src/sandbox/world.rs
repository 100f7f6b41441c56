//! One Envoy: its process, and its main thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::connection::{Node, Plugin};
use super::error::StartError;
use super::metrics::Metric;
use super::module::Module;
use super::process::Process;
use super::trial::{MainThread, Tried};

/// A process: what its VMs share, in all workers and for all plugins. Metrics are shared by name, data and queues by
/// the `vm_id`. A plugin is tried in its main thread once, before the first of its workers has it.
#[derive(Clone, Debug, Default)]
pub struct World {
    process: Process,
    main: Arc<MainThread>,
}

impl World {
    /// A process without VMs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All metrics by name, without Envoy's prefix.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.process.registry().named()
    }

    /// A value of the shared data of `vm_id`.
    #[must_use]
    pub fn shared_data(&self, vm_id: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.process.value(vm_id, key)
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Tries `plugin` in the main thread, unless that has been done.
    pub(crate) fn tried(
        &self,
        module: &Module,
        node: &Arc<Node>,
        plugin: &Arc<Plugin>,
    ) -> Result<Arc<Tried>, StartError> {
        self.main.tried(module, node, plugin, &self.process)
    }
}
