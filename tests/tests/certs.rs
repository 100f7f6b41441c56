//! The certs tier: the CA of a mesh, judged by openssl: roots taken over, Secrets, rotations step by step, and who
//! trusts whom.

#![expect(
    clippy::expect_used,
    clippy::string_slice,
    clippy::indexing_slicing,
    reason = "a fixture that fails fails its test"
)]

#[path = "certs/adopt.rs"]
mod adopt;
#[path = "certs/istiod.rs"]
mod istiod;
#[path = "certs/rotation.rs"]
mod rotation;
#[path = "certs/secrets.rs"]
mod secrets;
#[path = "certs/trust.rs"]
mod trust;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use isthmus::cert::{CertError, Hierarchy, KeyKind, Options};
use time::{Duration, OffsetDateTime};

/// A day on which everything is judged; openssl is told it too.
const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::days(20_900));

const SPIFFE: &str = "spiffe://cluster.local/ns/sample/sa/sleep";

fn quick() -> Options {
    Options { key: KeyKind::P256, ..Options::default() }
}

/// Runs openssl in a directory: whether it said yes, and what it said.
fn openssl(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output().expect("openssl runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The same where openssl must succeed.
fn makes(dir: &Path, arguments: &[&str]) -> String {
    let (yes, said) = openssl(dir, arguments);
    assert!(yes, "openssl {arguments:?}: {said}");
    said
}

/// Whether openssl accepts the first certificate of `chain`, with the rest beside it, both of a client and a server.
fn accepts(dir: &Path, roots: &Path, chain: &str, at: OffsetDateTime) -> (bool, String) {
    match accepts_for("sslclient", dir, roots, (chain, at)) {
        (true, _) => accepts_for("sslserver", dir, roots, (chain, at)),
        no => no,
    }
}

/// The same for one purpose.
fn accepts_for(
    purpose: &str,
    dir: &Path,
    roots: &Path,
    (chain, at): (&str, OffsetDateTime),
) -> (bool, String) {
    fs::write(dir.join("shown.pem"), chain).expect("a file");
    let (roots, at) = (roots.display().to_string(), at.unix_timestamp().to_string());
    let only = ["verify", "-no-CApath", "-no-CAstore", "-CAfile", &roots, "-attime", &at];
    openssl(dir, &[&only[..], &["-purpose", purpose, "-untrusted", "shown.pem", "shown.pem"]].concat())
}

/// A leaf of a cluster as its istiod would sign it, with its chain.
fn leaf(hierarchy: &Hierarchy, cluster: &str, now: OffsetDateTime) -> String {
    let dir = hierarchy.cluster(cluster);
    let read = |name: &str| fs::read_to_string(dir.join(name)).expect("a file");
    let key = rcgen::KeyPair::from_pem(&read("ca-key.pem")).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca-cert.pem"), key).expect("a CA");
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(SPIFFE.try_into().expect("a URI"))];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = now - Duration::minutes(1);
    params.not_after = now + Duration::days(1);
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let own = rcgen::KeyPair::generate().expect("a key");
    params.signed_by(&own, &issuer).expect("a leaf").pem() + &read("cert-chain.pem")
}

/// Runs the binary that was built beside this test: its exit code, its results and its talk.
fn isthmus(arguments: &[&str]) -> (i32, String, String) {
    let test = std::env::current_exe().expect("a test binary");
    let binary = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("isthmus");
    assert!(binary.is_file(), "no {}: run `cargo build -p isthmus`", binary.display());
    let output = Command::new(binary)
        .args(arguments)
        .current_dir(isthmus_tests::repository())
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

/// Every file below a directory with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}

/// An error and what caused it, as a person and as a log see it.
fn told(error: &CertError) -> String {
    let mut said = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said += &format!(": {cause} {cause:?}");
        source = cause.source();
    }
    said
}
