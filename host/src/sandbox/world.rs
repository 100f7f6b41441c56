//! What the VMs of one process share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metrics::{Metric, Registry};
use super::queue::Queues;
use super::shared::SharedData;
use super::trial::MainThread;

/// A process: what its VMs share, in all workers and for all plugins. Metrics are shared by name, data and queues by
/// the `vm_id`. A plugin is tried in its main thread once, before the first of its workers has it.
#[derive(Clone, Debug, Default)]
pub struct World(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    metrics: Registry,
    data: Mutex<SharedData>,
    queues: Mutex<Queues>,
    vms: AtomicU64,
    main: MainThread,
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
        self.0.metrics.named()
    }

    /// A value of the shared data of `vm_id`.
    #[must_use]
    pub fn shared_data(&self, vm_id: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.data().get(vm_id, key).ok().map(|(value, _)| value)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.metrics
    }

    pub(crate) fn data(&self) -> MutexGuard<'_, SharedData> {
        self.0.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn main(&self) -> &MainThread {
        &self.0.main
    }

    /// The number of a new VM.
    pub(crate) fn next_vm(&self) -> u64 {
        self.0.vms.fetch_add(1, Ordering::Relaxed)
    }
}
