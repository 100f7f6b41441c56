//! What istiod takes, by the libraries that it asks itself: those of Go.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64ct::{Base64, Encoding as _};
use isthmus::cert::{Bundle, CaKey, Form, Hierarchy, Level, RootFiles, Signing, secret};
use isthmus_tests::repository;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::trust::{make, world};
use super::{NOW, makes, quick};

/// Where Go is not installed nothing is compared, which is said past what the harness captures; under CI that fails.
fn go() -> bool {
    let there = Command::new("go").arg("version").output().is_ok_and(|output| output.status.success());
    assert!(there || std::env::var("CI").as_deref() != Ok("true"), "no Go: nothing is compared with istiod");
    if !there {
        writeln!(std::io::stderr(), "NOT COMPARED with what istiod takes: Go is not installed")
            .expect("stderr");
    }
    there
}

/// What istiod says of each directory: nothing, or why not.
fn istiod(dirs: &[PathBuf]) -> Vec<Option<String>> {
    let output = Command::new("go")
        .args(["run", ".", &NOW.unix_timestamp().to_string()])
        .args(dirs)
        .current_dir(repository().join("tests/istiod"))
        .output()
        .expect("go runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("text");
    let line = |line: &str| (line != "yes").then(|| line.to_owned());
    let all: Vec<Option<String>> = said.lines().map(line).collect();
    assert_eq!(all.len(), dirs.len(), "{said}");
    all
}

/// Writes what istiod finds where a Secret is mounted.
fn mount(dir: &Path, bundle: &Bundle, form: Form) -> PathBuf {
    fs::create_dir_all(dir).expect("a directory");
    let secret = secret(bundle, "istio-system", form).expect("a Secret");
    for (name, value) in secret["data"].as_object().expect("data") {
        let bytes = Base64::decode_vec(value.as_str().expect("text")).expect("base64");
        fs::write(dir.join(name), bytes).expect("a file");
    }
    dir.to_owned()
}

#[test]
fn istiod_takes_every_bundle_that_we_write_in_both_forms_and_at_every_step_of_a_rotation() {
    if !go() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let names = ["cluster1", "cluster2"];
    let hierarchy = Hierarchy::at(dir.path().join("certs"));
    let mut mounted = Vec::new();
    hierarchy.ensure(&names, quick(), NOW).expect("a hierarchy");
    hierarchy.begin_rotation(&names, RootFiles::default(), quick(), NOW).expect("a new root");
    let mut rotation = hierarchy.rotation(&names).expect("readable").expect("under way");
    let signing = Signing { root_key: None, options: quick(), now: NOW };
    for (level, name) in Level::ALL.into_iter().flat_map(|level| names.map(|name| (level, name))) {
        hierarchy.advance(&mut rotation, (name, level), signing).expect("a step");
        let bundle = hierarchy.bundle(name).expect("a bundle");
        for form in [Form::Files, Form::Tls] {
            mounted.push(mount(&dir.path().join(format!("{level:?}-{name}-{form:?}")), &bundle, form));
        }
    }
    for (said, dir) in istiod(&mounted).iter().zip(&mounted) {
        assert_eq!(said, &None, "{}", dir.display());
    }
}

#[test]
fn what_istiod_refuses_we_refuse_before_it_gets_there() {
    if !go() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (mut dirs, mut ours) = (Vec::new(), Vec::new());
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    for index in 0..300 {
        let world = world().new_tree(&mut runner).expect("a world").current();
        let (signer, chain, roots) = make(&world);
        let own = dir.path().join(index.to_string());
        fs::create_dir(&own).expect("a directory");
        let key = match index % 10 {
            // Keys that are another's, or not as their label says.
            0 => rcgen::KeyPair::generate().expect("a key").serialize_pem(),
            1 => signer.key().replace("PRIVATE KEY", "EC PRIVATE KEY"),
            2 => makes(&own, &["ecparam", "-name", "prime256v1", "-genkey"]),
            _ => signer.key(),
        };
        let files = [
            ("ca-cert.pem", signer.certificate()),
            ("ca-key.pem", &key),
            ("root-cert.pem", &roots),
            ("cert-chain.pem", &chain),
        ];
        for (name, text) in files {
            fs::write(own.join(name), text).expect("a file");
        }
        let key = CaKey::read(&own.join("ca-key.pem")).expect("a file");
        let bundle = Bundle::new(signer.certificate().to_owned(), key, roots, chain);
        ours.push(bundle.check(&own, NOW));
        dirs.push(own);
    }
    let (mut both, mut refused) = (0, 0);
    for (theirs, ours) in istiod(&dirs).iter().zip(&ours) {
        if let Some(theirs) = theirs {
            assert!(ours.is_err(), "istiod says {theirs}");
            refused += 1;
        } else if ours.is_ok() {
            both += 1;
        }
    }
    assert!(both > 50 && refused > 50, "{both} taken by both, {refused} refused by istiod");
}
