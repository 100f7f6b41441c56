//! What an attacker who holds the CA key of cluster2 can make of a connection to the ledger of cluster1.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use isthmus::cert::{Hierarchy, Intermediate, Root, Validity};
use isthmus::lab::Lab;
use isthmus_tests::example::Example;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::differential::staged;

/// The identity that the forger would like to have.
pub(super) const TELLER: &str = "spiffe://cluster.local/ns/treasury/sa/teller";

/// A certificate with its chain and key, as a TLS client shows them; none where the chain is empty.
pub(super) struct Shown {
    pub(super) chain: String,
    pub(super) key: String,
}

fn key_of(authority: &Intermediate) -> KeyPair {
    KeyPair::from_pem(authority.key().text()).expect("a key")
}

/// The name of a cluster's intermediate CA.
fn named(cluster: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in [
        (DnType::OrganizationName, "Istio"),
        (DnType::CommonName, "Intermediate CA"),
        (DnType::LocalityName, cluster),
    ] {
        name.push(kind, value);
    }
    name
}

fn authority(cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(cluster);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// A leaf by `issuer`, with `chain` behind it.
fn leaf(issuer: &Issuer<'_, KeyPair>, chain: &str) -> Shown {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(TELLER.try_into().expect("a URI"))];
    let certificate = params.signed_by(&key, issuer).expect("a leaf");
    Shown { chain: certificate.pem() + chain, key: key.serialize_pem() }
}

/// What the ledger's sidecar answers to a client that shows this; nothing when it ends the handshake.
fn answer(dir: &Path, to: SocketAddr, shown: &Shown) -> String {
    answers(dir, to, shown, &["Connection: close"])
}

/// What it answers to requests on one connection, each with these headers beside a forged tag.
pub(super) fn answers(dir: &Path, to: SocketAddr, shown: &Shown, headers: &[&str]) -> String {
    let (chain, key) = (dir.join("shown.pem"), dir.join("shown.key"));
    std::fs::write(&chain, &shown.chain).expect("a write");
    std::fs::write(&key, &shown.key).expect("a write");
    let certificate: Vec<&OsStr> = [("-cert", &chain), ("-cert_chain", &chain), ("-key", &key)]
        .into_iter()
        .flat_map(|(flag, path)| [OsStr::new(flag), path.as_os_str()])
        .collect();
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-ign_eof", "-connect", &to.to_string()])
        .args(["-servername", "outbound_.8080_._.ledger.payments.svc.cluster.local"])
        .args(if shown.chain.is_empty() { Vec::new() } else { certificate })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let request = |headers: &&str| {
        format!(
            "GET /v1/accounts HTTP/1.1\r\nHost: ledger.payments\r\nx-source-cluster: cluster1\r\n{headers}\r\n\r\n"
        )
    };
    let requests: String = headers.iter().map(request).collect();
    // A sidecar that has hung up already is what most of these tests want.
    let _hung_up = client.stdin.take().expect("a pipe").write_all(requests.as_bytes()).is_err();
    let output = client.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) fn ledger(lab: &Lab) -> SocketAddr {
    let proxy = lab.proxy("cluster1/ledger-v1.payments").expect("a proxy");
    SocketAddr::new(proxy.admin.ip(), 15006)
}

#[tokio::test]
async fn the_ca_key_of_one_cluster_makes_no_identity_of_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, lab) = staged(&Example::read("examples/two-clusters"), dir.path()).await;
    let to = ledger(&lab);
    let ca = Hierarchy::at(dir.path().join("ca"));
    let (one, two) = (ca.intermediate("cluster1").expect("a CA"), ca.intermediate("cluster2").expect("a CA"));
    let validity = Validity::from(time::OffsetDateTime::now_utc(), time::Duration::days(1));

    // What is cluster2's own is believed, and believed to be cluster2's: the treasury may read.
    let own = two.leaf(TELLER, validity).expect("a leaf");
    let own = answer(dir.path(), to, &Shown { chain: own.chain, key: own.key });
    assert!(own.starts_with("HTTP/1.1 200") && own.contains("x-app-saw-source-cluster: cluster2"), "{own}");
    let elsewhere = two.leaf("spiffe://cluster.local/ns/sample/sa/sleep", validity).expect("a leaf");
    let elsewhere = answer(dir.path(), to, &Shown { chain: elsewhere.chain, key: elsewhere.key });
    assert!(
        elsewhere.starts_with("HTTP/1.1 403") && elsewhere.contains("verified by certificate"),
        "{elsewhere}"
    );

    // A CA of cluster1's name, signed by cluster2: pathlen 0 forbids it.
    let fake_key = KeyPair::generate().expect("a key");
    let below = Issuer::from_ca_cert_pem(two.certificate(), key_of(&two)).expect("an issuer");
    let fake = authority("cluster1").signed_by(&fake_key, &below).expect("a certificate").pem();
    let fake_issuer = Issuer::new(authority("cluster1"), fake_key);
    let second_ca = leaf(&fake_issuer, &(fake + &two.chain()));
    // cluster1's name on a leaf that cluster2's key signed, with either chain behind it.
    let misnamed = || Issuer::new(authority("cluster1"), key_of(&two));
    let by_two = leaf(&misnamed(), &two.chain());
    let by_one = leaf(&misnamed(), &one.chain());
    // Another root altogether.
    let root = Root::generate(isthmus::cert::KeyKind::P256, validity).expect("a root");
    let other = root.intermediate("cluster1", isthmus::cert::KeyKind::P256, validity).expect("a CA");
    let other = other.leaf(TELLER, validity).expect("a leaf");
    let other = Shown { chain: other.chain, key: other.key };
    for (what, shown) in [
        ("a CA below cluster2's", &second_ca),
        ("cluster1's name by cluster2's key", &by_two),
        ("the same with cluster1's own CA behind it", &by_one),
        ("another root", &other),
    ] {
        assert_eq!(answer(dir.path(), to, shown), "", "{what}");
    }
    lab.down().await.expect("all processes ended");
}

#[tokio::test]
async fn no_header_on_a_connection_makes_its_peer_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, lab) = staged(&Example::read("examples/two-clusters"), dir.path()).await;
    let to = ledger(&lab);
    let two = Hierarchy::at(dir.path().join("ca")).intermediate("cluster2").expect("a CA");
    let validity = Validity::from(time::OffsetDateTime::now_utc(), time::Duration::days(1));
    let shown = |identity: &str| {
        let leaf = two.leaf(identity, validity).expect("a leaf");
        Shown { chain: leaf.chain, key: leaf.key }
    };
    let (teller, sleep) = (shown(TELLER), shown("spiffe://cluster.local/ns/sample/sa/sleep"));
    let (_, der) = x509_parser::pem::parse_x509_pem(teller.chain.as_bytes()).expect("PEM");
    let forged =
        format!("x-forwarded-client-cert: By=x;Hash={};URI={TELLER}", isthmus::digest::sha256(&der.contents));
    let statuses = |answers: &str| {
        answers
            .lines()
            .filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
            .collect::<Vec<u16>>()
    };
    let all = [forged.as_str(), "x: y", &forged, &format!("{forged}\r\nConnection: close")];
    for _ in 0..2 {
        // Each is judged by its own certificate, by every request of its connection, though the other was just there.
        assert_eq!(statuses(&answers(dir.path(), to, &teller, &all)), [200; 4]);
        // After a refusal Envoy may hang up on what follows.
        let refused = statuses(&answers(dir.path(), to, &sleep, &all));
        assert!(!refused.is_empty() && refused.iter().all(|status| *status == 403), "{refused:?}");
    }
    lab.down().await.expect("all processes ended");
}
