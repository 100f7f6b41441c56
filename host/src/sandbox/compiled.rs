//! Compiled code, kept by the bytes it was made of: tests start the same few modules over and over.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use wasmtime::{Config, Engine, Module};

/// Beyond so many modules, all are forgotten: who runs as many keeps those that it needs.
const MOST: usize = 64;

/// A module that is being compiled, or has been.
type Slot = Arc<Mutex<Option<Module>>>;

/// It changes nothing but time: the same bytes compile to the same code.
static KEPT: LazyLock<Mutex<BTreeMap<[u8; 32], Slot>>> = LazyLock::new(Mutex::default);

/// Compiles `wasm`, once in this process. Who asks for a module that is being compiled waits for it.
pub(crate) fn compile(wasm: &[u8]) -> wasmtime::Result<Module> {
    let digest: [u8; 32] = Sha256::digest(wasm).into();
    let slot = {
        let mut kept = lock(&KEPT);
        if kept.len() >= MOST && !kept.contains_key(&digest) {
            kept.clear();
        }
        Arc::clone(kept.entry(digest).or_default())
    };
    let mut slot = lock(&slot);
    if let Some(module) = slot.as_ref() {
        return Ok(module.clone());
    }
    let mut config = Config::new();
    config.consume_fuel(true);
    let module = Module::new(&Engine::new(&config)?, wasm)?;
    *slot = Some(module.clone());
    Ok(module)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_compiled_once() {
        let [one, two] = ["(module (func (export \"a\")))", "(module (func (export \"b\")))"].map(|text| {
            let wasm = wat::parse_str(text).unwrap();
            [compile(&wasm).unwrap(), compile(&wasm).unwrap()].map(|module| module.image_range().start)
        });
        assert_eq!((one[0], two[0]), (one[1], two[1]));
        assert_ne!(one[0], two[0]);
        assert!(compile(b"no").is_err());
    }
}
