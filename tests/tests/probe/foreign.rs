//! Modules of other languages, built here: see tests/foreign/README.md.

use std::path::{Path, PathBuf};
use std::process::Command;

use isthmus_tests::repository;

use super::script::{self, Scenario};

/// A language, and how its module is built.
struct Language {
    name: &'static str,
    /// What is missing here to build it, if anything is.
    missing: fn() -> Option<&'static str>,
    /// Builds the module from the sources in a directory to a file.
    build: fn(&Path, &Path),
    /// The CI installs what builds it.
    promised: bool,
}

const LANGUAGES: [Language; 4] = [
    Language { name: "rust", missing: || None, build: rust, promised: true },
    Language { name: "cpp", missing: no_clang, build: cpp, promised: true },
    Language { name: "go", missing: no_go, build: go, promised: false },
    Language { name: "assemblyscript", missing: no_node, build: assemblyscript, promised: false },
];

/// The errand of each language that can be built here, with its traffic; and what cannot be.
pub(super) fn scenarios() -> (Vec<Scenario>, Vec<String>) {
    let sources = repository().join("tests/foreign");
    let traffic = std::fs::read_to_string(sources.join("traffic.txt")).expect("the traffic");
    let built = repository().join("target/foreign");
    std::fs::create_dir_all(&built).expect("a directory");
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let (mut all, mut missed) = (Vec::new(), Vec::new());
    for language in LANGUAGES {
        if let Some(missing) = (language.missing)() {
            assert!(!ci || !language.promised, "a module in {} needs {missing}", language.name);
            missed.push(format!("the module in {}, which needs {missing}", language.name));
            continue;
        }
        let module = built.join(format!("{}.wasm", language.name));
        (language.build)(&sources.join(language.name), &module);
        let wasm = std::fs::read(&module).expect("a module");
        let scenarios = script::read(language.name, &traffic);
        all.extend(scenarios.into_iter().map(|scenario| Scenario { module: Some(wasm.clone()), ..scenario }));
    }
    (all, missed)
}

fn rust(from: &Path, to: &Path) {
    let target = to.with_extension("");
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--target",
        "wasm32-unknown-unknown",
        "--target-dir",
    ]);
    run(cargo.arg(&target).current_dir(from));
    std::fs::copy(target.join("wasm32-unknown-unknown/release/errand.wasm"), to).expect("a module");
}

/// What its linker is called, where it has no number of a version.
fn no_clang() -> Option<&'static str> {
    let asked = Command::new("clang++").args(["--target=wasm32-wasi", "-print-file-name=libc++.a"]).output();
    let found = asked.is_ok_and(|told| Path::new(String::from_utf8_lossy(&told.stdout).trim()).is_absolute());
    (!found || !answers("wasm-ld")).then_some("clang, lld and libc++ for wasm32-wasi")
}

fn cpp(from: &Path, to: &Path) {
    let flags = ["--target=wasm32-wasi", "-mexec-model=reactor", "-std=c++17", "-O2", "-fno-exceptions"];
    run(Command::new("clang++").args(flags).arg("-o").arg(to).arg(from.join("filter.cpp")));
}

fn no_go() -> Option<&'static str> {
    let told = Command::new("go").args(["env", "GOVERSION"]).output().ok();
    let version = told.and_then(|told| {
        let told = String::from_utf8(told.stdout).ok()?;
        told.trim().strip_prefix("go1.")?.split('.').next()?.parse::<u32>().ok()
    });
    version.is_none_or(|minor| minor < 24).then_some("Go 1.24 or later")
}

fn go(from: &Path, to: &Path) {
    let mut go = Command::new("go");
    go.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s", "-o"]).arg(to).arg(".");
    run(go.env("GOOS", "wasip1").env("GOARCH", "wasm").current_dir(from));
}

fn no_node() -> Option<&'static str> {
    let tools = ["node", "npm"];
    (!tools.into_iter().all(answers)).then_some("Node.js with npm")
}

/// The packages are not installed among the sources.
fn assemblyscript(from: &Path, to: &Path) {
    let place = to.with_extension("");
    std::fs::create_dir_all(place.join("assembly")).expect("a directory");
    for file in ["package.json", "package-lock.json", "assembly/index.ts"] {
        std::fs::copy(from.join(file), place.join(file)).expect("a copy");
    }
    let compiler = PathBuf::from("node_modules/assemblyscript/bin/asc");
    if !place.join(&compiler).exists() {
        run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&place));
    }
    let mut asc = Command::new("node");
    asc.arg(compiler).args([
        "assembly/index.ts",
        "--use",
        "abort=abort_proc_exit",
        "--optimize",
        "--binaryFile",
    ]);
    // Its compiler's own library makes it warn.
    run(asc.arg("../assemblyscript.wasm").current_dir(&place));
}

fn answers(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&done.stderr));
}
