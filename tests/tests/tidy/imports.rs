//! Imports run one way.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use isthmus_tests::repository;
use serde_json::Value;

/// What each package of the workspace imports: its ordinary dependencies, those of its build and of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).expect("cargo metadata is JSON");
    let name =
        |value: &Value| value.get("name").and_then(Value::as_str).expect("everything has a name").to_owned();
    let imports = |package: &Value| {
        package
            .get("dependencies")
            .and_then(Value::as_array)
            .expect("a list")
            .iter()
            .map(name)
            .collect::<BTreeSet<_>>()
    };
    let packages = metadata.get("packages").and_then(Value::as_array).expect("a list");
    packages.iter().map(|package| (name(package), imports(package))).collect()
}

#[test]
fn imports_run_one_way() {
    let all = dependencies();
    let ours = |package: &str| -> Vec<&str> {
        let imports = all.get(package).unwrap_or_else(|| panic!("no package {package}"));
        imports.iter().map(String::as_str).filter(|name| all.contains_key(*name)).collect()
    };
    assert_eq!(all.len(), 4, "a new package: say here what it may import: {:?}", all.keys());
    assert_eq!(ours("isthmus-policy"), [""; 0]);
    assert_eq!(ours("isthmus-filter"), ["isthmus-policy"]);
    assert!(!ours("isthmus").contains(&"isthmus-filter"), "the host must not import the filter");
    assert!(!ours("isthmus").contains(&"isthmus-tests"), "the host must not import the tests");
    assert_eq!(ours("isthmus-tests"), ["isthmus", "isthmus-policy"]);
}

#[test]
fn policy_imports_at_most_four_crates() {
    let all = dependencies();
    let policy = &all["isthmus-policy"];
    assert!((1..=4).contains(&policy.len()), "{policy:?}");
}
