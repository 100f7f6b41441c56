//! What a compiled module says it is: pure, from its bytes.

use std::collections::BTreeSet;
use std::fmt;

use wasmparser::{BinaryReaderError, ExternalKind, Parser, Payload, TypeRef, Validator};

use crate::sandbox::Abi;

/// A module that Envoy will load: a valid proxy-wasm 0.2.1 filter that needs nothing but the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The ABI it is marked with.
    pub abi: Abi,
    /// The hostcalls it imports, all functions of `env`, in order of name.
    pub imports: Vec<String>,
    /// The functions it exports, in order of name.
    pub exports: Vec<String>,
}

/// One thing that a module wants from its host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The module it comes from, such as `env`.
    pub module: String,
    /// Its name there.
    pub name: String,
}

/// Why Envoy would not load a module, or would load it and fail.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The bytes are no valid core module.
    #[error("not a valid WebAssembly module")]
    Invalid {
        /// What is wrong, and where.
        #[source]
        source: BinaryReaderError,
    },
    /// The bytes are a component, which Envoy does not load.
    #[error("a WebAssembly component, not a core module")]
    Component,
    /// The module is no proxy-wasm filter.
    #[error("exports no proxy_abi_version_*: not a proxy-wasm filter")]
    NoAbi,
    /// The module speaks an older ABI only.
    #[error("speaks proxy-wasm ABI {found}, not {}", Abi::V0_2_1)]
    OldAbi {
        /// The newest it is marked with.
        found: Abi,
    },
    /// The host could not hand it a byte.
    #[error("exports neither malloc nor proxy_on_memory_allocate")]
    NoAllocator,
    /// The module needs what a proxy does not give.
    #[error("imports what is no hostcall of a proxy: {}", joined(imports))]
    ForeignImports {
        /// All of them, in order.
        imports: Vec<Import>,
    },
}

/// Checks that Envoy will load these bytes, and says what they need.
pub fn inspect(wasm: &[u8]) -> Result<Inspected, ModuleError> {
    let invalid = |source| ModuleError::Invalid { source };
    Validator::new().validate_all(wasm).map_err(invalid)?;
    if !Parser::is_core_wasm(wasm) {
        return Err(ModuleError::Component);
    }
    let Surface { imports, foreign, exports } = Surface::of(wasm).map_err(invalid)?;
    let abi = marked_abi(&exports)?;
    if !exports.contains("malloc") && !exports.contains("proxy_on_memory_allocate") {
        return Err(ModuleError::NoAllocator);
    }
    if !foreign.is_empty() {
        return Err(ModuleError::ForeignImports { imports: foreign.into_iter().collect() });
    }
    Ok(Inspected { abi, imports: imports.into_iter().collect(), exports: exports.into_iter().collect() })
}

/// The names by which a module meets its host.
#[derive(Default)]
struct Surface {
    imports: BTreeSet<String>,
    foreign: BTreeSet<Import>,
    exports: BTreeSet<String>,
}

impl Surface {
    fn of(wasm: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut surface = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let Payload::ImportSection(section) = payload {
                for import in section.into_imports() {
                    surface.import(import?);
                }
            } else if let Payload::ExportSection(section) = payload {
                for export in section {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        surface.exports.insert(export.name.to_owned());
                    }
                }
            }
        }
        Ok(surface)
    }

    fn import(&mut self, import: wasmparser::Import<'_>) {
        if is_hostcall(import.module, import.name, import.ty) {
            self.imports.insert(import.name.to_owned());
        } else {
            self.foreign.insert(Import { module: import.module.into(), name: import.name.into() });
        }
    }
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

fn marked_abi(exports: &BTreeSet<String>) -> Result<Abi, ModuleError> {
    match exports.iter().filter_map(|export| Abi::of_marker(export)).max() {
        Some(Abi::V0_2_1) => Ok(Abi::V0_2_1),
        Some(found @ (Abi::V0_2_0 | Abi::V0_1_0)) => Err(ModuleError::OldAbi { found }),
        None => Err(ModuleError::NoAbi),
    }
}

fn is_hostcall(module: &str, name: &str, kind: TypeRef) -> bool {
    module == "env" && name.starts_with("proxy_") && matches!(kind, TypeRef::Func(_))
}

fn joined(imports: &[Import]) -> String {
    imports.iter().map(Import::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{ModuleError, inspect};
    use crate::sandbox::Abi;

    const MARKED: &str = r#"(func (export "proxy_abi_version_0_2_1"))"#;
    const ALLOCATOR: &str = r#"(func (export "malloc") (param i32) (result i32) (i32.const 0))"#;

    fn module(parts: &[&str]) -> Vec<u8> {
        wat::parse_str(format!("(module {})", parts.concat())).unwrap()
    }

    #[test]
    fn a_filter_that_needs_only_the_proxy_is_accepted() {
        let log = r#"(import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))"#;
        let get = r#"(import "env" "proxy_get_property" (func (param i32) (result i32)))"#;
        let inspected = inspect(&module(&[log, get, MARKED, ALLOCATOR])).unwrap();
        assert_eq!(inspected.abi, Abi::V0_2_1);
        assert_eq!(inspected.imports, ["proxy_get_property", "proxy_log"]);
        assert_eq!(inspected.exports, ["malloc", "proxy_abi_version_0_2_1"]);
    }

    #[test]
    fn either_name_of_the_allocator_serves() {
        let other = ALLOCATOR.replace("malloc", "proxy_on_memory_allocate");
        assert!(inspect(&module(&[MARKED, &other])).is_ok());
        assert!(matches!(inspect(&module(&[MARKED])), Err(ModuleError::NoAllocator)));
    }

    #[test]
    fn a_module_without_the_marker_is_no_filter() {
        assert!(matches!(inspect(&module(&[ALLOCATOR])), Err(ModuleError::NoAbi)));
        let memory = r#"(memory (export "proxy_abi_version_0_2_1") 1)"#;
        assert!(matches!(inspect(&module(&[memory, ALLOCATOR])), Err(ModuleError::NoAbi)));
    }

    #[test]
    fn an_older_abi_is_named() {
        let old = MARKED.replace("0_2_1", "0_2_0");
        let error = inspect(&module(&[&old, ALLOCATOR])).unwrap_err();
        assert_eq!(error.to_string(), "speaks proxy-wasm ABI 0.2.0, not 0.2.1");
    }

    #[test]
    fn all_imports_that_no_proxy_gives_are_listed() {
        let wasi = r#"(import "wasi_snapshot_preview1" "random_get" (func))"#;
        let clock = r#"(import "wasi_snapshot_preview1" "clock_time_get" (func))"#;
        let memory = r#"(import "env" "proxy_memory" (memory 1))"#;
        let error = inspect(&module(&[wasi, clock, memory, MARKED, ALLOCATOR])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "imports what is no hostcall of a proxy: env.proxy_memory, \
             wasi_snapshot_preview1.clock_time_get, wasi_snapshot_preview1.random_get"
        );
    }

    #[test]
    fn a_component_is_not_taken_for_a_module() {
        let empty = b"\0asm\x0d\0\x01\0";
        assert!(matches!(inspect(empty), Err(ModuleError::Component)), "{:?}", inspect(empty));
    }

    #[test]
    fn bytes_that_are_no_module_are_refused() {
        let whole = module(&[MARKED, ALLOCATOR]);
        for bytes in [&b"not wasm"[..], &b"\0asm"[..], &[], &whole[..whole.len() - 1]] {
            assert!(matches!(inspect(bytes), Err(ModuleError::Invalid { .. })), "{bytes:?}");
        }
    }
}
