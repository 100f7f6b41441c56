//! What the VMs of one process share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metrics::Registry;
use super::queue::Queues;
use super::shared::SharedData;

/// Metrics, shared by name, and data and queues, shared by the `vm_id`. Clones are of the same process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    metrics: Registry,
    data: Mutex<SharedData>,
    queues: Mutex<Queues>,
    vms: AtomicU64,
}

impl Process {
    pub(crate) fn registry(&self) -> &Registry {
        &self.0.metrics
    }

    pub(crate) fn data(&self) -> MutexGuard<'_, SharedData> {
        self.0.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value of the shared data of `vm_id`, as a test reads it.
    pub(crate) fn value(&self, vm_id: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.data().get(vm_id, key).ok().map(|(value, _)| value)
    }

    /// The number of a new VM.
    pub(crate) fn next_vm(&self) -> u64 {
        self.0.vms.fetch_add(1, Ordering::Relaxed)
    }
}
