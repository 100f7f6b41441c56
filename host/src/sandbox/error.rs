//! What can go wrong.

use super::abi::Abi;
use super::log::LogLine;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a module cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It is no valid WebAssembly.
    #[error("invalid module")]
    Invalid {
        /// What the compiler says.
        source: Source,
    },
    /// It exports no marker of ABI 0.1.0, 0.2.0 or 0.2.1.
    #[error("no export marks proxy-wasm ABI 0.1.0, 0.2.0 or 0.2.1 (found: {found:?})")]
    Abi {
        /// The markers it exports.
        found: Vec<String>,
    },
    /// It exports neither `malloc` nor `proxy_on_memory_allocate`.
    #[error("no allocator is exported: neither malloc nor proxy_on_memory_allocate")]
    NoAllocator,
    /// It exports no memory.
    #[error("no memory is exported")]
    NoMemory,
    /// It imports something that its ABI does not have. Envoy does not load such a module either.
    #[error("the import {module}.{name} does not exist in ABI {abi}")]
    Import {
        /// The module it is imported from.
        module: String,
        /// The imported name.
        name: String,
        /// The ABI that the module says it speaks.
        abi: Abi,
    },
    /// An import has another signature than the hostcall of that name.
    #[error("imports do not link")]
    Link {
        /// What the linker says.
        source: Source,
    },
}

/// Why a plugin did not start, and what it logged until then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The guest said no. Envoy then rejects the configuration.
    #[error("{callback} refused")]
    Refused {
        /// The callback that answered no: `proxy_on_vm_start` or `proxy_on_configure`.
        callback: &'static str,
        /// What the guest logged.
        logs: Vec<LogLine>,
    },
    /// The module does not link with the plugin's capabilities.
    #[error("the module does not link")]
    Unlinked {
        /// Which import.
        source: Box<SandboxError>,
    },
    /// The guest trapped.
    #[error("the plugin trapped as it started")]
    Trapped {
        /// Where, and how.
        source: Trapped,
        /// What the guest logged.
        logs: Vec<LogLine>,
    },
}

impl StartError {
    /// What the guest logged until it failed.
    #[must_use]
    pub fn logs(&self) -> &[LogLine] {
        match self {
            Self::Refused { logs, .. } | Self::Trapped { logs, .. } => logs,
            Self::Unlinked { .. } => &[],
        }
    }
}

/// The guest trapped; its VM answers nothing but this from then on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{callback} trapped{}", at(frames))]
pub struct Trapped {
    /// The export that ran.
    pub callback: &'static str,
    /// How it trapped.
    #[source]
    pub cause: Trap,
    /// The functions that ran, innermost first: by the names that the module has for them, or by number.
    pub frames: Box<[String]>,
}

fn at(frames: &[String]) -> String {
    if frames.is_empty() { String::new() } else { format!(" in {}", frames.join(", ")) }
}

/// How a guest traps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trap {
    /// It ran for too long.
    #[error("out of fuel: a callback may run {fuel} instructions")]
    OutOfFuel {
        /// The bound it ran into.
        fuel: u64,
    },
    /// Its guest trapped earlier, and another has taken that one's place.
    #[error("its guest trapped earlier")]
    Earlier,
    /// It did something that WebAssembly or the ABI forbids.
    #[error("{reason}")]
    Guest {
        /// What the engine says.
        reason: Box<str>,
    },
}
