use std::path::Path;

use super::{Built, MachinePath, MachinePaths, replace};
use crate::sandbox::Abi;

fn built() -> Built {
    Built {
        path: "wasm/isthmus.wasm".into(),
        bytes: 3,
        sha256: "ab".into(),
        imports: vec!["proxy_log".into()],
        abi: Abi::V0_2_1,
        toolchain: "rustc 1.95.0".into(),
    }
}

#[test]
fn the_manifest_says_what_the_module_is() {
    let manifest: serde_json::Value = serde_json::from_slice(&built().manifest().unwrap()).unwrap();
    let expected = serde_json::json!({
        "apiVersion": "isthmus.dev/v1alpha1",
        "kind": "Module",
        "sha256": "ab",
        "bytes": 3,
        "abi": "0.2.1",
        "imports": ["proxy_log"],
        "toolchain": "rustc 1.95.0",
    });
    assert_eq!(manifest, expected);
}

fn machine(paths: &[(&str, &'static str, &'static [&'static str])]) -> MachinePaths {
    let path = |(from, to, below): &(&str, &'static str, &'static [&'static str])| MachinePath {
        from: from.into(),
        to,
        below,
    };
    MachinePaths(paths.iter().map(path).collect())
}

#[test]
fn a_path_of_this_machine_in_the_module_is_found() {
    let machine = machine(&[("/src", "/isthmus", &["policy/"]), ("/opt/rust", "/rust", &["library/"])]);
    let found = |wasm: &str| machine.found_in(wasm.as_bytes());
    assert_eq!(found("..panicked at /opt/rust/library/core.rs"), Some("/opt/rust/library/".into()));
    assert_eq!(found("../src/policy/src/plan.rs"), Some("/src/policy/".into()));
    assert_eq!(found("../rust/library/core.rs/isthmus/policy/src/plan.rs"), None);
}

#[test]
fn the_longest_prefix_is_the_last_flag_and_so_the_one_that_wins() {
    let machine = machine(&[("/a/b", "/x", &[]), ("/a", "/y", &[])]);
    assert_eq!(machine.rustflags(), "--remap-path-prefix=/a=/y\u{1f}--remap-path-prefix=/a/b=/x");
}

#[test]
fn a_file_is_replaced_whole_and_kept_when_nothing_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/isthmus.wasm");
    replace(&path, b"one").unwrap();
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let first = inode(&path);
    replace(&path, b"one").unwrap();
    assert_eq!(inode(&path), first, "the same bytes were written again");
    replace(&path, b"two").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file was left");
}
