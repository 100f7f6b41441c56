//! A compiled module.

use std::collections::BTreeSet;
use std::sync::Arc;

use wasmtime::{ExternType, InstancePre};

use super::abi::Abi;
use super::compiled;
use super::connection::Plugin;
use super::error::{SandboxError, StartError};
use super::functions::Functions;
use super::link::link;
use super::state::State;

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
