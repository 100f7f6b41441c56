//! Sidecars whose listener is not as Istio makes it: beside one of the lab, with its files and its plan.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use isthmus::cert::{Hierarchy, Intermediate, KeyKind, Root, Validity};
use isthmus::digest::sha256;
use isthmus::envoy::{FETCHED, OLDEST, WITHOUT_CERTIFICATES};
use isthmus::lab::{Client, Lab, Process, Site};
use isthmus::stage::{self, Stage};
use isthmus_tests::example::{Example, module};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use x509_parser::pem::parse_x509_pem;

use super::edges::edge;
use super::forgery::{Shown, TELLER, answers};
use super::{envoy, eventually, fetched};

const SLEEP: &str = "spiffe://cluster.local/ns/sample/sa/sleep";

/// A further Envoy of a proxy of the lab: the same node, plan and certificate, and other listeners.
struct Beside {
    _process: Process,
    dir: TempDir,
    address: SocketAddr,
}

const FIRST: u16 = 16_000;

impl Beside {
    /// Starts it with the first listener of `proxy` once for each of `edits`, which change it.
    async fn start(lab: &Lab, proxy: &str, program: &Path, edits: &[&dyn Fn(&mut Value)]) -> Self {
        let proxy = lab.proxy(proxy).expect("a proxy");
        let text = std::fs::read_to_string(proxy.dir.join("bootstrap.json")).expect("a bootstrap");
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("access.log");
        let text = text.replace(proxy.access_log.to_str().expect("text"), log.to_str().expect("text"));
        let mut bootstrap: Value = serde_json::from_str(&text).expect("JSON");
        *at(&mut bootstrap, "/admin/address/socket_address/port_value") = json!(FIRST - 1);
        let original = at(&mut bootstrap, "/static_resources/listeners/0").clone();
        let listeners = (FIRST..).zip(edits).map(|(port, edit)| {
            let mut listener = original.clone();
            *at(&mut listener, "/name") = json!(format!("listener {port}"));
            *at(&mut listener, "/address/socket_address/port_value") = json!(port);
            edit(&mut listener);
            listener
        });
        *at(&mut bootstrap, "/static_resources/listeners") = listeners.collect();
        let path = dir.path().join("bootstrap.json");
        std::fs::write(&path, bootstrap.to_string()).expect("a write");
        let process = Process::start(program, &path, &dir.path().join("envoy.log")).expect("an Envoy");
        let address = SocketAddr::new(proxy.admin.ip(), FIRST);
        eventually(async || {
            TcpStream::connect(address).map(drop).map_err(|error| format!("{error}: {}", process.log_tail()))
        })
        .await;
        Self { _process: process, dir, address }
    }

    /// What it has logged of requests so far, once there are as many as that.
    async fn log(&self, lines: usize) -> Vec<Value> {
        eventually(async || {
            let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
            let log: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if log.len() < lines { Err(text) } else { Ok(log) }
        })
        .await
    }

    fn listener(&self, number: u16) -> SocketAddr {
        SocketAddr::new(self.address.ip(), FIRST + number)
    }
}

async fn up(dir: &Path, program: &Path, client: Option<Client>) -> Lab {
    let example = Example::read("examples/two-clusters");
    let site = Site::claim(stage::blueprint(example.mesh(), client), dir).expect("a site");
    let stage = Stage::set(example.mesh(), &site, &module()).expect("a stage");
    stage.roll_out(&example.project.policies).expect("a rollout");
    site.up(program, OffsetDateTime::now_utc()).await.expect("the lab comes up")
}

/// The ledger's sidecar, and one of `edits` beside it, on this Envoy.
async fn ledger(dir: &Path, program: &Path, edits: &[&dyn Fn(&mut Value)]) -> (Lab, Beside) {
    let lab = up(dir, program, None).await;
    let beside = Beside::start(&lab, "cluster1/ledger-v1.payments", program, edits).await;
    (lab, beside)
}

/// A certificate of cluster2.
fn shown(dir: &Path, identity: &str) -> Shown {
    let issuer = Hierarchy::at(dir.join("ca")).intermediate("cluster2").expect("a CA");
    leaf(&issuer, identity)
}

fn leaf(issuer: &Intermediate, identity: &str) -> Shown {
    let validity = Validity::from(OffsetDateTime::now_utc(), time::Duration::days(1));
    let leaf = issuer.leaf(identity, validity).expect("a leaf");
    Shown { chain: leaf.chain, key: leaf.key }
}

/// What a listener answers to a request with this header and a tag of cluster1, over mutual TLS or in plain text.
fn ask(to: SocketAddr, shown: Option<&Shown>, header: &str) -> String {
    let last = format!("{header}\r\nConnection: close");
    if let Some(shown) = shown {
        let work = tempfile::tempdir().expect("a directory");
        return answers(work.path(), to, shown, &[&last]);
    }
    let mut plain = TcpStream::connect(to).expect("a connection");
    let request = format!(
        "GET /v1/a HTTP/1.1\r\nHost: ledger.payments\r\nx-source-cluster: cluster1\r\n{last}\r\n\r\n"
    );
    plain.write_all(request.as_bytes()).expect("a write");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).expect("an answer");
    answer
}

/// What a refusal says of the source, as JSON.
fn source(cluster: Option<&str>, level: &str) -> String {
    let cluster = cluster.map(|cluster| format!(r#""cluster":"{cluster}","#)).unwrap_or_default();
    format!(r#""source":{{{cluster}"level":"{level}"}}"#)
}

/// What Envoy does with the header `x-forwarded-client-cert` that a peer sends.
const MODES: [&str; 5] =
    ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"];

#[tokio::test]
async fn whatever_envoy_does_with_what_a_peer_forwards_it_makes_the_peer_no_other() {
    for version in [FETCHED, WITHOUT_CERTIFICATES] {
        let dir = tempfile::tempdir().expect("a directory");
        let tls = MODES.map(|mode| move |listener: &mut Value| forwards(listener, mode));
        let plain = MODES.map(|mode| {
            move |listener: &mut Value| {
                forwards(listener, mode);
                in_plain_text(listener);
            }
        });
        let edits: Vec<&dyn Fn(&mut Value)> =
            tls.iter().map(|edit| edit as _).chain(plain.iter().map(|edit| edit as _)).collect();
        let (lab, beside) = ledger(dir.path(), &fetched(version), &edits).await;
        let (teller, sleep) = (shown(dir.path(), TELLER), shown(dir.path(), SLEEP));
        let (_, der) = parse_x509_pem(teller.chain.as_bytes()).expect("PEM");
        let pem = teller.chain.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
        let forged = format!(
            r#"x-forwarded-client-cert: By=x;Hash={};Cert="{pem}";URI={TELLER}"#,
            sha256(&der.contents)
        );
        let shows_leaf = version >= OLDEST;
        let (by_teller, by_sleep, by_nobody) = if shows_leaf {
            (
                "HTTP/1.1 200".to_owned(),
                source(Some("cluster2"), "verified by certificate"),
                source(None, "unknown"),
            )
        } else {
            let claimed = source(Some("cluster1"), "claimed");
            (claimed.clone(), claimed, source(None, "unknown"))
        };
        let (teller, sleep, forged, beside) = (&teller, &sleep, &forged, &beside);
        let one = |number: u16, mode: &str| {
            // The one whom the header names is there first, on the same listener.
            let answer = ask(beside.listener(number), Some(teller), "x: y");
            assert!(answer.contains(&by_teller), "{version} {mode}: {answer}");
            for header in ["x: y", forged] {
                let answer = ask(beside.listener(number), Some(sleep), header);
                assert!(
                    answer.starts_with("HTTP/1.1 403") && answer.contains(&by_sleep),
                    "{version} {mode}: {answer}"
                );
                let answer = ask(beside.listener(number + 5), None, header);
                assert!(
                    answer.starts_with("HTTP/1.1 403") && answer.contains(&by_nobody),
                    "{version} {mode}: {answer}"
                );
            }
        };
        let one = &one;
        std::thread::scope(|scope| {
            for (number, mode) in (0..).zip(MODES) {
                scope.spawn(move || one(number, mode));
            }
        });
        lab.down().await.expect("all processes ended");
    }
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_unknown_and_what_a_listener_takes_unchecked_is_taken_for_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let optional = |listener: &mut Value| {
        *at(listener, "/filter_chains/0/transport_socket/typed_config/require_client_certificate") =
            json!(false);
    };
    let (lab, beside) = ledger(dir.path(), &envoy(), &[&optional, &accepts_untrusted]).await;
    let stranger = stranger();
    let own = shown(dir.path(), TELLER);
    let nobody = Shown { chain: String::new(), key: String::new() };

    // A certificate may be left out, and is checked where there is one.
    let answer = ask(beside.listener(0), Some(&nobody), "x: y");
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(&source(None, "unknown")), "{answer}");
    assert!(ask(beside.listener(0), Some(&own), "x: y").starts_with("HTTP/1.1 200"));
    assert_eq!(ask(beside.listener(0), Some(&stranger), "x: y"), "");
    // Where Envoy is told to let any certificate in, no filter can tell one that holds from one that does not: a
    // resumed session looks like it. Istio never tells it so.
    assert!(ask(beside.listener(1), Some(&own), "x: y").starts_with("HTTP/1.1 200"));
    let answer = ask(beside.listener(1), Some(&stranger), "x: y");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("x-app-saw-source-cluster: cluster2"),
        "{answer}"
    );
    lab.down().await.expect("all processes ended");
}

/// Logs what Envoy tells a filter of the peer's chain.
fn says_validity(listener: &mut Value) {
    let log = at(listener, "/filter_chains/0/filters/0/typed_config/access_log/0/typed_config/log_format");
    *log = json!({
        "json_format": {"valid": "%CEL(connection.peer_certificate_valid)%"},
        "formatters": [{
            "name": "envoy.formatter.cel",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.formatter.cel.v3.Cel"},
        }],
    });
}

/// Asks twice in two connections, the second of which resumes the session of the first.
fn resumes(to: SocketAddr, shown: &Shown) {
    let work = tempfile::tempdir().expect("a directory");
    for (name, pem) in [("chain.pem", &shown.chain), ("key.pem", &shown.key)] {
        std::fs::write(work.path().join(name), pem).expect("a write");
    }
    for (session, begins) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
        let mut client = Command::new("openssl")
            .args(["s_client", "-ign_eof", "-connect", &to.to_string(), session, "session.pem"])
            .args(["-cert", "chain.pem", "-cert_chain", "chain.pem", "-key", "key.pem"])
            .current_dir(work.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let request = b"GET /v1/a HTTP/1.1\r\nHost: ledger.payments\r\nConnection: close\r\n\r\n";
        client.stdin.take().expect("a pipe").write_all(request).expect("a write");
        let said = client.wait_with_output().expect("it ends").stdout;
        let said = String::from_utf8_lossy(&said);
        assert!(said.lines().any(|line| line.starts_with(begins)), "{session}: {said}");
        assert!(said.contains("HTTP/1.1 200"), "{session}: {said}");
    }
}

/// Why no filter can tell a chain that Envoy was told to let pass: should a later Envoy tell these apart, ask it.
#[tokio::test]
async fn envoy_says_of_a_resumed_session_what_it_says_of_a_chain_that_does_not_hold() {
    let dir = tempfile::tempdir().expect("a directory");
    let unchecked = |listener: &mut Value| {
        says_validity(listener);
        accepts_untrusted(listener);
    };
    let (lab, beside) = ledger(dir.path(), &envoy(), &[&says_validity, &unchecked]).await;
    resumes(beside.listener(0), &shown(dir.path(), TELLER));
    resumes(beside.listener(1), &stranger());
    let log = beside.log(4).await;
    let valid: Vec<_> = log.iter().filter_map(|line| line.get("valid")?.as_str()).collect();
    assert_eq!(valid, ["true", "false", "false", "false"]);
    lab.down().await.expect("all processes ended");
}

/// Lets any certificate in, as an `EnvoyFilter` may have a sidecar do.
fn accepts_untrusted(listener: &mut Value) {
    let context = "/filter_chains/0/transport_socket/typed_config/common_tls_context/validation_context";
    at(listener, context)["trust_chain_verification"] = json!("ACCEPT_UNTRUSTED");
}

/// Someone with a root of its own, and a CA below it that is called as cluster2's.
fn stranger() -> Shown {
    let validity = Validity::from(OffsetDateTime::now_utc(), time::Duration::days(1));
    let root = Root::generate(KeyKind::P256, validity).expect("a root");
    leaf(&root.intermediate("cluster2", KeyKind::P256, validity).expect("a CA"), TELLER)
}

/// The tag that a line of a log shows as the one that was sent on.
fn tag(line: &Value) -> [&str; 2] {
    ["source_cluster_header", "source_network_header"]
        .map(|field| line.get(field).and_then(Value::as_str).unwrap_or_default())
}

#[tokio::test]
async fn an_egress_gateway_keeps_what_a_peer_of_the_mesh_says_and_vouches_for_nothing_of_it() {
    const GATEWAY: &str = "cluster2/istio-egressgateway.istio-system";
    for version in [FETCHED, WITHOUT_CERTIFICATES] {
        let dir = tempfile::tempdir().expect("a directory");
        let lab = up(dir.path(), &fetched(version), Some(edge("cluster2", "egressgateway"))).await;
        let certificates = lab.proxy(GATEWAY).expect("a proxy").dir.clone();
        let mutual = |listener: &mut Value| {
            let file = |name: &str| json!({"filename": certificates.join(name)});
            at(listener, "/filter_chains/0")["transport_socket"] = json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "require_client_certificate": true,
                    "common_tls_context": {
                        "tls_certificates": [{
                            "certificate_chain": file("cert-chain.pem"), "private_key": file("key.pem"),
                        }],
                        "validation_context": {"trusted_ca": file("root-cert.pem")},
                    },
                },
            });
        };
        let plain = |_listener: &mut Value| ();
        let gateway = Beside::start(&lab, GATEWAY, &fetched(version), &[&mutual, &plain]).await;
        let sleep = shown(dir.path(), SLEEP);
        let said = "x-source-network: network1\r\nx-isthmus-token: forged";
        let by_peer = ask(gateway.listener(0), Some(&sleep), said);
        let by_stranger = ask(gateway.listener(1), None, said);
        // A peer of the mesh has its own sidecar's tag, or one that it wrote itself: the gateway cannot tell, and keeps it
        // for whoever is outside. Without a certificate there was no sidecar, so the gateway writes its own.
        let log = gateway.log(2).await;
        let tags: Vec<_> = log.iter().map(tag).collect();
        assert_eq!(tags, [["cluster1", "network1"], ["cluster2", "network2"]], "{version}");
        // Inside the mesh the gateway is the peer: its certificate proves its own cluster, and where it is not shown, the
        // tag is a claim and no more.
        let proven = source(Some("cluster2"), "verified by certificate");
        let [peer, stranger] = if version >= OLDEST {
            [proven.clone(), proven]
        } else {
            ["cluster1", "cluster2"].map(|cluster| source(Some(cluster), "claimed"))
        };
        assert!(by_peer.starts_with("HTTP/1.1 403") && by_peer.contains(&peer), "{version}: {by_peer}");
        assert!(
            by_stranger.starts_with("HTTP/1.1 403") && by_stranger.contains(&stranger),
            "{version}: {by_stranger}"
        );
        lab.down().await.expect("all processes ended");
    }
}

fn at<'v>(value: &'v mut Value, pointer: &str) -> &'v mut Value {
    value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"))
}

fn forwards(listener: &mut Value, mode: &str) {
    *at(listener, "/filter_chains/0/filters/0/typed_config/forward_client_cert_details") = json!(mode);
}

/// Takes plain text only.
fn in_plain_text(listener: &mut Value) {
    let chain = at(listener, "/filter_chains/0").as_object_mut().expect("a chain");
    chain.remove("transport_socket");
    chain.remove("filter_chain_match");
}
