use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use time::Duration;

use super::*;
use crate::cert::{KeyKind, Validity};

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::days(20_000));

fn quick() -> Options {
    Options { key: KeyKind::P256, ..Options::default() }
}

/// Today, for certificates that openssl is to judge by the real clock.
fn today() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn openssl(dir: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).current_dir(dir).output().expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("dir").map(|e| e.expect("entry").path()) {
        if entry.is_dir() {
            all.extend(contents(&entry));
        } else {
            all.push((entry.clone(), fs::read(&entry).expect("file")));
        }
    }
    all.sort();
    all
}

#[test]
fn openssl_accepts_a_leaf_and_names_its_cluster() {
    let dir = tempfile::tempdir().expect("dir");
    let hierarchy = Hierarchy::at(dir.path());
    hierarchy.ensure(&["cluster1", "cluster2"], quick(), today()).expect("hierarchy");
    let leaf = hierarchy
        .intermediate("cluster1")
        .and_then(|i| {
            i.leaf("spiffe://cluster.local/ns/sample/sa/sleep", Validity::from(today(), Duration::days(1)))
        })
        .expect("leaf");
    fs::write(dir.path().join("leaf.pem"), &leaf.chain).expect("write");
    let verify = |chain: &str| {
        openssl(dir.path(), &["verify", "-CAfile", "root-cert.pem", "-untrusted", chain, "leaf.pem"])
    };
    let (accepted, said) = verify("cluster1/cert-chain.pem");
    assert!(accepted, "{said}");
    let (accepted, said) = verify("cluster2/cert-chain.pem");
    assert!(!accepted, "another cluster's chain was accepted: {said}");
    let issuer =
        openssl(dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-issuer", "-nameopt", "RFC2253"]);
    assert_eq!(issuer.1, "issuer=L=cluster1,CN=Intermediate CA,O=Istio\n");
    let text = openssl(dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-text"]).1;
    for expected in [
        "X509v3 Subject Alternative Name: critical\n                URI:spiffe://cluster.local/ns/sample/sa/sleep",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "CA:FALSE",
        "Subject: \n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
}

#[test]
fn openssl_refuses_an_authority_that_a_cluster_made() {
    let dir = tempfile::tempdir().expect("dir");
    let hierarchy = Hierarchy::at(dir.path());
    hierarchy.ensure(&["cluster1"], quick(), today()).expect("hierarchy");
    // A cluster's intermediate, used as if it were a root, signs "cluster2": exactly the forgery pathlen 0 forbids.
    let dir1 = hierarchy.cluster("cluster1");
    let forger = signer(&dir1.join("ca-cert.pem"), &dir1.join("ca-key.pem")).expect("forger");
    let validity = Validity::from(today(), Duration::days(1));
    let forged = forger.intermediate("cluster2", KeyKind::P256, validity).expect("forged");
    fs::write(dir.path().join("forged.pem"), forged.chain()).expect("write");
    let leaf = forged.leaf("spiffe://cluster.local/ns/a/sa/b", validity).expect("leaf");
    fs::write(dir.path().join("leaf.pem"), leaf.chain).expect("write");
    let (accepted, said) =
        openssl(dir.path(), &["verify", "-CAfile", "root-cert.pem", "-untrusted", "forged.pem", "leaf.pem"]);
    assert!(!accepted && said.contains("path length"), "{said}");
}

#[test]
fn an_intermediate_has_what_istios_own_tool_gives_it() {
    let dir = tempfile::tempdir().expect("dir");
    Hierarchy::at(dir.path()).ensure(&["cluster1"], quick(), NOW).expect("hierarchy");
    let text = openssl(dir.path(), &["x509", "-in", "cluster1/ca-cert.pem", "-noout", "-text"]).1;
    for expected in [
        "Issuer: O = Istio, CN = Root CA",
        "Subject: O = Istio, CN = Intermediate CA, L = cluster1",
        "CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical\n                Digital Signature, Non Repudiation, Key Encipherment, Certificate Sign",
        "DNS:istiod.istio-system.svc",
        "Authority Key Identifier",
        "Subject Key Identifier",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
}

#[test]
fn the_chain_holds_the_intermediate_first_and_the_root_last() {
    let dir = tempfile::tempdir().expect("dir");
    Hierarchy::at(dir.path()).ensure(&["cluster1"], quick(), NOW).expect("hierarchy");
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).expect("file");
    assert_eq!(text("cluster1/cert-chain.pem"), text("cluster1/ca-cert.pem") + &text("root-cert.pem"));
    assert_eq!(text("cluster1/root-cert.pem"), text("root-cert.pem"));
}

#[test]
fn a_second_run_changes_no_byte_and_a_new_cluster_is_only_added() {
    let dir = tempfile::tempdir().expect("dir");
    let hierarchy = Hierarchy::at(dir.path());
    let first = hierarchy.ensure(&["cluster1"], quick(), NOW).expect("first");
    assert_eq!(first, Report { root_made: true, made: vec!["cluster1".to_owned()], kept: vec![] });
    let before = contents(dir.path());
    let second = hierarchy.ensure(&["cluster1"], quick(), NOW).expect("second");
    assert_eq!(second, Report { root_made: false, made: vec![], kept: vec!["cluster1".to_owned()] });
    assert_eq!(contents(dir.path()), before);
    let third = hierarchy.ensure(&["cluster1", "cluster2"], quick(), NOW).expect("third");
    assert_eq!(third.made, ["cluster2"]);
    let after = contents(dir.path());
    assert!(before.iter().all(|file| after.contains(file)));
}

#[test]
fn keys_are_readable_by_their_owner_only() {
    let dir = tempfile::tempdir().expect("dir");
    Hierarchy::at(dir.path()).ensure(&["cluster1"], quick(), NOW).expect("hierarchy");
    let mode = |name: &str| fs::metadata(dir.path().join(name)).expect("file").permissions().mode() & 0o777;
    assert_eq!((mode("root-key.pem"), mode("cluster1/ca-key.pem")), (0o600, 0o600));
}

#[test]
fn a_key_that_is_not_the_certificates_own_is_named_and_left_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let hierarchy = Hierarchy::at(dir.path());
    hierarchy.ensure(&["cluster1"], quick(), NOW).expect("hierarchy");
    fs::copy(dir.path().join("cluster1/ca-key.pem"), dir.path().join("root-key.pem")).expect("copy");
    let before = contents(dir.path());
    let error = hierarchy.ensure(&["cluster1"], quick(), NOW).expect_err("mismatch");
    assert!(matches!(&error, CertError::KeyMismatch { key, .. } if key.ends_with("root-key.pem")), "{error}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_missing_half_is_named_and_not_made_anew() {
    let dir = tempfile::tempdir().expect("dir");
    let hierarchy = Hierarchy::at(dir.path());
    hierarchy.ensure(&[], quick(), NOW).expect("hierarchy");
    fs::remove_file(dir.path().join("root-cert.pem")).expect("remove");
    let error = hierarchy.ensure(&[], quick(), NOW).expect_err("incomplete");
    assert!(
        matches!(&error, CertError::Incomplete { missing, .. } if missing.ends_with("root-cert.pem")),
        "{error}"
    );
}

#[test]
fn unreadable_pem_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().expect("dir");
    let hierarchy = Hierarchy::at(dir.path());
    hierarchy.ensure(&["cluster1"], quick(), NOW).expect("hierarchy");
    for (file, name) in [("cluster1/ca-cert.pem", "ca-cert.pem"), ("root-key.pem", "root-key.pem")] {
        fs::write(dir.path().join(file), "not PEM").expect("write");
        let error = hierarchy.ensure(&["cluster1"], quick(), NOW).expect_err("not PEM").to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn an_intermediate_of_another_root_is_refused() {
    let (ours, theirs) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    Hierarchy::at(ours.path()).ensure(&[], quick(), NOW).expect("ours");
    Hierarchy::at(theirs.path()).ensure(&["cluster1"], quick(), NOW).expect("theirs");
    fs::rename(theirs.path().join("cluster1"), ours.path().join("cluster1")).expect("move");
    let error = Hierarchy::at(ours.path()).ensure(&["cluster1"], quick(), NOW).expect_err("foreign");
    assert!(matches!(error, CertError::ForeignIssuer { .. }), "{error}");
}

#[test]
fn a_cluster_name_cannot_leave_the_directory() {
    let dir = tempfile::tempdir().expect("dir");
    for name in ["..", "a/b", "", "A", "-a", "a,CN=x"] {
        let result = Hierarchy::at(dir.path()).ensure(&[name], quick(), NOW);
        assert!(matches!(result, Err(CertError::ClusterName { .. })), "{name:?} was taken");
    }
    assert_eq!(contents(dir.path()), []);
}
