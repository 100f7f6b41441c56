//! Links a module: each import to what Envoy has of that name, for the ABI that the module speaks.

use wasmtime::{Engine, ExternType, InstancePre, Linker};

use super::abi::Abi;
use super::error::SandboxError;
use super::state::State;
use super::{imports, wasi};

/// Links `module`. An import that its ABI does not have is an error, as it is in Envoy.
pub(crate) fn link(
    engine: &Engine,
    module: &wasmtime::Module,
    abi: Abi,
) -> Result<InstancePre<State>, SandboxError> {
    let mut linker = Linker::new(engine);
    // A module may import a name twice.
    linker.allow_shadowing(true);
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let missing = || SandboxError::Import { module: from.to_owned(), name: name.to_owned(), abi };
        let function = matches!(import.ty(), ExternType::Func(_));
        if !function || !define(&mut linker, from, name, abi).map_err(unlinked)? {
            return Err(missing());
        }
    }
    linker.instantiate_pre(module).map_err(unlinked)
}

fn unlinked(error: wasmtime::Error) -> SandboxError {
    SandboxError::Link { source: error.into() }
}

/// Gives `linker` what Envoy has of this name; the answer is whether it has any.
fn define(linker: &mut Linker<State>, from: &str, name: &str, abi: Abi) -> wasmtime::Result<bool> {
    if wasi::MODULES.contains(&from) {
        return wasi::define(linker, from, name);
    }
    match (from, name) {
        ("env", "pthread_equal") => {
            linker.func_wrap(from, name, |left: u32, right: u32| u32::from(left == right)).map(|_| true)
        }
        ("env", "emscripten_notify_memory_growth") => {
            linker.func_wrap(from, name, |_memory: u32| {}).map(|_| true)
        }
        ("env", name) if abi.has(name) => imports::define(linker, name),
        _ => Ok(false),
    }
}
