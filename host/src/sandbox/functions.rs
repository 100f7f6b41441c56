//! Foreign functions of the test's own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a test brings in the place of a function of the proxy; `None` is a bad argument.
pub(crate) type Function = dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync;

/// Foreign functions of the test's own, by name.
#[derive(Clone, Default)]
pub(crate) struct Functions(BTreeMap<String, Arc<Function>>);

impl Functions {
    pub(crate) fn add(&mut self, name: String, function: Arc<Function>) {
        self.0.insert(name, function);
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Function>> {
        self.0.get(name).cloned()
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
