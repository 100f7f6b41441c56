use std::path::{Path, PathBuf};

use super::{TARGET, Toolchain, ToolchainError, Unfit, sways_the_compiler};
use crate::workspace::Workspace;

fn here() -> Workspace {
    Workspace::find(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn what_is_found_is_really_there() {
    match Toolchain::find(&here()) {
        Ok(Toolchain::Installed { sysroot, .. }) => {
            assert!(sysroot.join("lib/rustlib").join(TARGET).is_dir());
        }
        Ok(Toolchain::BuildStd { rustc, cargo, linker, .. }) => {
            for file in [rustc, cargo, linker] {
                assert!(file.exists(), "{} is not there", file.display());
            }
        }
        Err(ToolchainError::None { tried }) => assert!(!tried.is_empty(), "no reason was given"),
        Err(error @ ToolchainError::Note { .. }) => panic!("looking must not write: {error}"),
    }
}

#[test]
fn build_std_names_its_compiler_and_linker_to_cargo() {
    let toolchain = Toolchain::BuildStd {
        release: "1.96.0".into(),
        sysroot: "/usr".into(),
        rustc: "/usr/bin/rustc".into(),
        cargo: "/usr/bin/cargo".into(),
        linker: "/opt/rust-lld".into(),
    };
    let command = toolchain.cargo_build(&here());
    let set = |name: &str| {
        command.get_envs().find_map(|(key, value)| (key == name).then_some(value?)).map(PathBuf::from)
    };
    assert_eq!(command.get_program(), "/usr/bin/cargo");
    assert_eq!(set("RUSTC"), Some("/usr/bin/rustc".into()));
    assert_eq!(set("RUSTC_BOOTSTRAP"), Some("1".into()));
    assert_eq!(set("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER"), Some("/opt/rust-lld".into()));
    assert!(command.get_args().any(|arg| arg == "-Zbuild-std=std,panic_abort"));
}

#[test]
fn settings_that_change_the_module_do_not_reach_its_build() {
    for name in ["RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_PROFILE_WASM_DEBUG", "CARGO_BUILD_RUSTFLAGS"] {
        assert!(sways_the_compiler(name), "{name}");
    }
    for name in ["PATH", "CARGO_HOME", "RUSTUP_HOME", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN"] {
        assert!(!sways_the_compiler(name), "{name}");
    }
}

#[test]
fn the_error_lists_each_way_and_what_to_install() {
    let tried = vec![Unfit::NoTarget { sysroot: "/opt/rust".into() }, Unfit::NotRoot];
    let message = ToolchainError::None { tried }.to_string();
    assert!(message.contains("\n  - the Rust in /opt/rust has no target"), "{message}");
    assert!(message.contains("\n  - not root"), "{message}");
    assert!(message.contains("rustup target add"), "{message}");
}
