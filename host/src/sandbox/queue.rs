//! Shared queues.

use std::collections::{BTreeMap, VecDeque};

use super::status::Status;

/// The queues of a process. Tokens are given out in order, from 1.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    tokens: BTreeMap<(String, Vec<u8>), u32>,
    queues: BTreeMap<u32, Queue>,
    /// By VM: which root is to be told of which queue.
    ready: BTreeMap<u64, VecDeque<(u32, u32)>>,
}

#[derive(Debug)]
struct Queue {
    /// The VM and the root that are told of what arrives: those that registered last.
    target: (u64, u32),
    items: VecDeque<Vec<u8>>,
}

impl Queues {
    /// Registering again keeps what is queued, but from then on another is told.
    pub(crate) fn register(&mut self, vm_id: &str, name: &[u8], target: (u64, u32)) -> u32 {
        let next = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX).saturating_add(1);
        let token = *self.tokens.entry((vm_id.to_owned(), name.to_vec())).or_insert(next);
        let queue = self.queues.entry(token).or_insert(Queue { target, items: VecDeque::new() });
        queue.target = target;
        token
    }

    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Result<u32, Status> {
        self.tokens.get(&(vm_id.to_owned(), name.to_vec())).copied().ok_or(Status::NotFound)
    }

    pub(crate) fn enqueue(&mut self, token: u32, item: Vec<u8>) -> Result<(), Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.push_back(item);
        let (vm, root) = queue.target;
        self.ready.entry(vm).or_default().push_back((root, token));
        Ok(())
    }

    pub(crate) fn dequeue(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }

    /// What the VM is to be told next.
    pub(crate) fn next_ready(&mut self, vm: u64) -> Option<(u32, u32)> {
        self.ready.get_mut(&vm)?.pop_front()
    }
}
