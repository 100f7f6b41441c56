//! Links a module: each import to what Envoy has of that name, for the ABI that the module speaks.

use std::collections::BTreeSet;

use wasmtime::{Caller, ExternType, FuncType, InstancePre, Linker, Val};

use super::abi::Abi;
use super::error::SandboxError;
use super::log::{Level, LogLine};
use super::state::State;
use super::status::Status;
use super::{imports, wasi};

/// Links `module`. An import that its ABI does not have is an error, as it is in Envoy.
pub(crate) fn link(
    module: &wasmtime::Module,
    abi: Abi,
    capabilities: &BTreeSet<String>,
) -> Result<InstancePre<State>, SandboxError> {
    let mut linker = Linker::new(module.engine());
    // A module may import a name twice.
    linker.allow_shadowing(true);
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let missing = || SandboxError::Import { module: from.to_owned(), name: name.to_owned(), abi };
        let ExternType::Func(ty) = import.ty() else { return Err(missing()) };
        if !define(&mut linker, from, name, abi).map_err(unlinked)? {
            return Err(missing());
        }
        let restricted = from != "env" || name.starts_with("proxy_");
        if restricted && !capabilities.is_empty() && !capabilities.contains(name) {
            deny(&mut linker, from, name, ty).map_err(unlinked)?;
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

/// Envoy links what a plugin may not call too: it fails, and says so in the log.
fn deny(linker: &mut Linker<State>, from: &str, name: &str, ty: FuncType) -> wasmtime::Result<()> {
    let answer = if from == "env" { Status::InternalFailure as u32 } else { wasi::NOT_CAPABLE };
    let message = format!("{name} was called, which is not among the plugin's capabilities");
    linker.func_new(from, name, ty, move |mut caller: Caller<'_, State>, _, results| {
        caller.data_mut().logs.push(LogLine { level: Level::Error, message: message.clone() });
        results.fill(Val::I32(answer.cast_signed()));
        Ok(())
    })?;
    Ok(())
}
