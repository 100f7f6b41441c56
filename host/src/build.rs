//! From the filter's sources to the module that Envoy loads, and its manifest.

mod inspect;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use serde::Serialize;

use crate::digest::sha256;
use crate::sandbox::Abi;
use crate::toolchain::{TARGET, Toolchain};
use crate::workspace::Workspace;
pub use inspect::{Import, Inspected, ModuleError, inspect};

/// What to build with and where to put it.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The sources.
    pub workspace: Workspace,
    /// The compiler.
    pub toolchain: Toolchain,
    /// The directory that gets `isthmus.wasm` and `isthmus.json`.
    pub out: PathBuf,
}

/// A module that was built and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The module.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: usize,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The hostcalls it imports.
    pub imports: Vec<String>,
    /// The ABI it speaks.
    pub abi: Abi,
    /// What compiled it.
    pub toolchain: String,
}

/// Why there is no module.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo cannot be started.
    #[error("cannot run {cargo}")]
    Cargo {
        /// The cargo.
        cargo: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Cargo ran and failed; what it said went to `say`.
    #[error("the filter does not compile: cargo ended with {status}")]
    Compile {
        /// How it ended.
        status: ExitStatus,
    },
    /// The module that cargo made cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was built cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The manifest cannot be encoded.
    #[error("cannot encode the manifest of {path}")]
    Encode {
        /// The module.
        path: PathBuf,
        /// What serde said.
        source: serde_json::Error,
    },
    /// The module is not one that Envoy takes.
    #[error("the module {path} is not one that Envoy loads")]
    Module {
        /// The module.
        path: PathBuf,
        /// What is wrong with it.
        source: ModuleError,
    },
    /// A path of this machine is in the module, so another machine would build other bytes.
    #[error("the module {path} holds the path {leaked} of this machine")]
    Leak {
        /// The module.
        path: PathBuf,
        /// The path inside.
        leaked: PathBuf,
    },
}

impl BuildOptions {
    /// Builds to the checkout's own `wasm/`.
    #[must_use]
    pub fn new(workspace: Workspace, toolchain: Toolchain) -> Self {
        let out = workspace.wasm();
        Self { workspace, toolchain, out }
    }
}

/// Compiles the filter, checks the module and writes it with its manifest; `say` gets cargo's lines as they come.
///
/// The same sources and compiler release give the same bytes on every machine and in every directory.
pub fn build(options: &BuildOptions, say: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    let machine = MachinePaths::of(options);
    let compiled = compile(options, &machine, say)?;
    let wasm =
        std::fs::read(&compiled).map_err(|source| BuildError::Read { path: compiled.clone(), source })?;
    if let Some(leaked) = machine.found_in(&wasm) {
        return Err(BuildError::Leak { path: compiled, leaked });
    }
    let inspected = inspect(&wasm).map_err(|source| BuildError::Module { path: compiled, source })?;
    let built = Built {
        path: options.out.join("isthmus.wasm"),
        bytes: wasm.len(),
        sha256: sha256(&wasm),
        imports: inspected.imports,
        abi: inspected.abi,
        toolchain: options.toolchain.to_string(),
    };
    replace(&built.path, &wasm)?;
    replace(&options.out.join("isthmus.json"), &built.manifest()?)?;
    Ok(built)
}

impl Built {
    fn manifest(&self) -> Result<Vec<u8>, BuildError> {
        let manifest = Manifest {
            api_version: "isthmus.dev/v1alpha1",
            kind: "Module",
            sha256: &self.sha256,
            bytes: self.bytes,
            abi: self.abi,
            imports: &self.imports,
            toolchain: &self.toolchain,
        };
        let mut text = serde_json::to_vec_pretty(&manifest)
            .map_err(|source| BuildError::Encode { path: self.path.clone(), source })?;
        text.push(b'\n');
        Ok(text)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    sha256: &'a str,
    bytes: usize,
    abi: Abi,
    imports: &'a [String],
    toolchain: &'a str,
}

/// A directory of this machine whose name a compiler would write into a module.
struct MachinePath {
    from: PathBuf,
    /// What to write instead.
    to: &'static str,
    /// What is below it: `/src` alone is in many a source's name, `/src/policy/` is the checkout.
    below: &'static [&'static str],
}

struct MachinePaths(Vec<MachinePath>);

impl MachinePaths {
    fn of(options: &BuildOptions) -> Self {
        let library = options.toolchain.sysroot().join("lib/rustlib/src/rust");
        let root = options.workspace.root().to_path_buf();
        let mut paths = vec![MachinePath { from: root, to: "/isthmus", below: &["filter/", "policy/"] }];
        // Debian's library source is a link; the compiler names some files by the link, some by where it leads.
        if let Ok(from) = library.canonicalize() {
            paths.push(MachinePath { from, to: "/rust", below: &["library/"] });
        }
        paths.push(MachinePath { from: library, to: "/rust", below: &["library/"] });
        if let Some(home) = cargo_home() {
            paths.push(MachinePath { from: home, to: "/cargo", below: &["registry/", "git/"] });
        }
        Self(paths)
    }

    /// Cargo's form of compiler flags, which allows for blanks in paths.
    ///
    /// The last flag that fits wins, so the longest is last: cargo's home may be inside the checkout.
    fn rustflags(&self) -> String {
        let mut paths: Vec<&MachinePath> = self.0.iter().collect();
        paths.sort_by_key(|path| path.from.as_os_str().len());
        let flag = |path: &MachinePath| format!("--remap-path-prefix={}={}", path.from.display(), path.to);
        paths.into_iter().map(flag).collect::<Vec<_>>().join("\u{1f}")
    }

    fn found_in(&self, wasm: &[u8]) -> Option<PathBuf> {
        let holds = |path: &Path| {
            let text = path.as_os_str().as_encoded_bytes();
            wasm.windows(text.len()).any(|window| window == text)
        };
        let below =
            |path: &MachinePath| path.below.iter().map(|below| path.from.join(below)).collect::<Vec<_>>();
        self.0.iter().flat_map(below).find(|path| holds(path))
    }
}

fn cargo_home() -> Option<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    set.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// Flags for which no profile has a key, in cargo's form: only what is next to nothing is inlined, which makes the module
/// smaller than any `opt-level` does, and the rounds of SHA-512, which tokens alone use, are not unrolled
/// (docs/adr/0011-a-small-module.md).
const SMALL: &str = "-Cllvm-args=-inline-threshold=25\u{1f}--cfg=sha2_backend_soft=\"compact\"";

fn compile(
    options: &BuildOptions,
    machine: &MachinePaths,
    say: &mut dyn FnMut(&str),
) -> Result<PathBuf, BuildError> {
    let flags = [&machine.rustflags(), SMALL].join("\u{1f}");
    // A directory of its own: the host's cargo and the filter's would wait for each other's lock.
    let target = options.workspace.root().join("target/wasm");
    let mut command = options.toolchain.cargo_build(&options.workspace);
    command
        .args(["--package", "isthmus-filter", "--profile", "wasm", "--locked", "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_TERM_PROGRESS_WHEN", "never")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let cargo = PathBuf::from(command.get_program());
    let fail = |source| BuildError::Cargo { cargo: cargo.clone(), source };
    let mut child = command.spawn().map_err(fail)?;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            say(&String::from_utf8_lossy(&line.map_err(fail)?));
        }
    }
    let status = child.wait().map_err(fail)?;
    if !status.success() {
        return Err(BuildError::Compile { status });
    }
    Ok(target.join(TARGET).join("wasm/isthmus_filter.wasm"))
}

/// Puts a file in place whole or not at all; one that holds these bytes already keeps its date.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    if std::fs::read(path).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    let fail = |source| BuildError::Write { path: path.to_path_buf(), source };
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(fail)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.persist(path).map(drop).map_err(|error| fail(error.error))
}

#[cfg(test)]
mod tests;
