//! A compiled module.

use std::collections::BTreeSet;

use wasmtime::{Config, Engine, ExternType, FuncType, InstancePre, Linker, Val};

use super::connection::{Node, Plugin};
use super::error::{SandboxError, StartError};
use super::imports;
use super::state::State;
use super::status::Status;
use super::vm::Vm;

/// The ABI versions that are run. Envoy scans the exports for these names and never calls them.
const ABI_MARKERS: [&str; 2] = ["proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1"];

/// The guest's allocator, by either of its names.
pub(crate) const ALLOCATORS: [&str; 2] = ["malloc", "proxy_on_memory_allocate"];

/// Instructions that one callback may run: far beyond any sane filter, and well under a second.
const FUEL: u64 = 100_000_000;

/// A proxy-wasm module, compiled and linked; cheap to clone, and shared by threads.
#[derive(Clone)]
pub struct Module {
    linked: InstancePre<State>,
    fuel: u64,
    unknown_imports: BTreeSet<String>,
}

impl Module {
    /// Compiles `wasm`, and checks that it is a proxy-wasm module this host can run.
    pub fn compile(wasm: &[u8]) -> Result<Self, SandboxError> {
        let invalid = |error: wasmtime::Error| SandboxError::Invalid { source: error.into() };
        let mut config = Config::new();
        config.consume_fuel(true);
        let engine = Engine::new(&config).map_err(invalid)?;
        let module = wasmtime::Module::new(&engine, wasm).map_err(invalid)?;
        check_exports(&module)?;
        let mut linker = Linker::new(&engine);
        let link = |error: wasmtime::Error| SandboxError::Link { source: error.into() };
        imports::define(&mut linker).map_err(link)?;
        let unknown_imports = define_stubs(&mut linker, &module)?;
        let linked = linker.instantiate_pre(&module).map_err(link)?;
        Ok(Self { linked, fuel: FUEL, unknown_imports })
    }

    /// The same module with another bound on the instructions of a callback.
    #[must_use]
    pub fn with_fuel(mut self, fuel: u64) -> Self {
        self.fuel = fuel;
        self
    }

    /// Imports from `env` that no ABI knows. They answer 12, Unimplemented, here; Envoy refuses such a module.
    pub fn unknown_imports(&self) -> impl Iterator<Item = &str> {
        self.unknown_imports.iter().map(String::as_str)
    }

    /// Starts a VM with one plugin: `_initialize`, `on_context_create`, `on_vm_start`, `on_configure`.
    pub fn start(&self, node: &Node, plugin: Plugin) -> Result<Vm, StartError> {
        Vm::start(self.clone(), node.clone().into(), plugin.into())
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

fn check_exports(module: &wasmtime::Module) -> Result<(), SandboxError> {
    let has = |name: &str| module.get_export(name).is_some();
    if !ABI_MARKERS.iter().any(|name| has(name)) {
        let markers = module.exports().map(|export| export.name());
        let found = markers.filter(|name| name.starts_with("proxy_abi_version")).map(str::to_owned).collect();
        return Err(SandboxError::Abi { found });
    }
    if !ALLOCATORS.iter().any(|name| has(name)) {
        return Err(SandboxError::NoAllocator);
    }
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return Err(SandboxError::NoMemory);
    }
    Ok(())
}

/// Defines what the module imports and this host does not have; names those that no ABI has either.
fn define_stubs(
    linker: &mut Linker<State>,
    module: &wasmtime::Module,
) -> Result<BTreeSet<String>, SandboxError> {
    let mut unknown = BTreeSet::new();
    let mut stubbed = BTreeSet::new();
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let foreign = || SandboxError::Import { module: from.to_owned(), name: name.to_owned() };
        let ExternType::Func(ty) = import.ty() else { return Err(foreign()) };
        if from != "env" {
            return Err(foreign());
        }
        if imports::DEFINED.contains(&name) || !stubbed.insert(name.to_owned()) {
            continue;
        }
        if !imports::LATER.contains(&name) {
            unknown.insert(name.to_owned());
        }
        define_stub(linker, name, ty).map_err(|error| SandboxError::Link { source: error.into() })?;
    }
    Ok(unknown)
}

fn define_stub(linker: &mut Linker<State>, name: &str, ty: FuncType) -> wasmtime::Result<()> {
    let answers = ty.results().map(|result| {
        if result.is_i32() { Some(Val::I32(Status::Unimplemented as i32)) } else { result.default_value() }
    });
    let answers: Vec<Val> =
        answers.collect::<Option<_>>().ok_or_else(|| wasmtime::Error::msg("a result without a default"))?;
    linker.func_new("env", name, ty, move |_, _, results| {
        results.clone_from_slice(&answers);
        Ok(())
    })?;
    Ok(())
}
