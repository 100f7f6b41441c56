//! Tokens between stock Envoys that show no leaf: what they prove, and what nobody proves with one.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use isthmus::cert::{Hierarchy, TokenKey, Validity};
use isthmus::envoy::WITHOUT_CERTIFICATES;
use isthmus::lab::{Client, Get, Lab, Site};
use isthmus::stage::{self, Stage};
use isthmus_tests::example::module;
use policy::{Mesh, Policy};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::Value;
use time::OffsetDateTime;

use super::forgery::{Shown, answers, ledger};
use super::{envoy, eventually, fetched};

/// Two clusters of one trust domain on one network: no certificate and no address tells them apart.
const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  tokens: {life: 5m}
  clusters:
  - {name: cluster1, network: network1, tokenKeys: [{kid: one, publicKey: KEY}]}
  - {name: cluster2, network: network1, tokenKeys: [{kid: two, publicKey: KEY}]}
  services:
    ledger.payments: {port: 8080, clusters: [cluster1]}
";

/// The ledger lets in the treasury of cluster2, proven.
pub(super) const POLICY: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: ledger, namespace: payments}
spec:
  services: [ledger]
  access: {source: Verified, allow: [{name: treasury, from: [{clusters: [cluster2], namespaces: [treasury]}]}]}
";

const LEDGER: &str = "cluster1/ledger-v1.payments";
const UNVERIFIED: &str = "ledger/source-unverified";

pub(super) fn key(dir: &Path, id: &str) -> TokenKey {
    TokenKey::ensure(&dir.join("tokens"), id.parse().expect("a name")).expect("a key").0
}

/// The mesh, with the public halves of the keys that lie in `dir`; `two` are those of cluster2.
fn mesh(dir: &Path, two: &[&str]) -> Mesh {
    let listed = |ids: &[&str]| {
        let keys = ids.iter().map(|id| format!("{{kid: {id}, publicKey: {}}}", key(dir, id).public()));
        keys.collect::<Vec<_>>().join(", ")
    };
    let text = MESH.replace("{kid: one, publicKey: KEY}", &listed(&["one"]));
    let (mesh, findings) = Mesh::read("mesh.yaml", &text.replace("{kid: two, publicKey: KEY}", &listed(two)));
    mesh.unwrap_or_else(|| panic!("{findings:?}"))
}

fn policies(mesh: &Mesh) -> Vec<Policy> {
    let (policies, findings) = Policy::read("ledger.yaml", POLICY, mesh.root_namespace());
    assert_eq!(findings, []);
    policies
}

pub(super) fn client(cluster: &str, namespace: &str) -> Client {
    Client::new(cluster, namespace, "app")
}

/// The ground of a lab of this mesh, with what is rolled out to it.
fn ground(mesh: &Mesh, clients: impl IntoIterator<Item = Client>, dir: &Path) -> (Site, Stage) {
    let site = Site::claim(stage::blueprint(mesh, clients), dir).expect("a site");
    let stage = Stage::set(mesh, &site, &module()).expect("a stage");
    stage.roll_out(&policies(mesh)).expect("a rollout");
    (site, stage)
}

async fn start(site: Site) -> Lab {
    site.up(&fetched(WITHOUT_CERTIFICATES), OffsetDateTime::now_utc()).await.expect("the lab comes up")
}

/// What a token says, and which key signs it.
#[derive(Clone, Copy)]
struct Signed<'a> {
    key: &'a str,
    /// What it calls that key.
    kid: &'a str,
    cluster: &'a str,
    /// The namespace of its subject.
    from: &'a str,
    /// The namespace that it is for.
    to: &'a str,
    /// For how long it has held, of five minutes.
    age: i64,
}

/// A token, made of what its description says and by another library: so that both are tried.
fn token(dir: &Path, signed: &Signed<'_>) -> String {
    let path = TokenKey::path(&dir.join("tokens"), &signed.key.parse().expect("a name"));
    let pair = KeyPair::from_pem(&std::fs::read_to_string(path).expect("a key")).expect("a key");
    let issued = OffsetDateTime::now_utc().unix_timestamp() - signed.age;
    let Signed { kid, cluster, from, to, .. } = signed;
    let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"JWT"}}"#);
    let claims = format!(
        r#"{{"iss":"{cluster}","sub":"spiffe://cluster.local/ns/{from}/sa/app","aud":"isthmus:{to}","iat":{issued},"exp":{}}}"#,
        issued + 300
    );
    let part = Base64UrlUnpadded::encode_string;
    let text = format!("{}.{}", part(header.as_bytes()), part(claims.as_bytes()));
    let signature = pair.sign(text.as_bytes()).expect("a signature");
    format!("{text}.{}", part(&signature))
}

/// The line of the ledger's log of a request.
async fn logged(lab: &Lab, id: &str) -> Value {
    eventually(async || {
        let log = lab.access_log(LEDGER).map_err(|error| error.to_string())?;
        let found = log.iter().find(|line| line.get("request_id").is_some_and(|found| found == id)).cloned();
        found.ok_or_else(|| format!("no {id} in {log:?}"))
    })
    .await
}

/// What the ledger makes of a request whose sidecar is left alone: source and level, and why.
async fn judged(lab: &Lab, from: &Client, id: &str) -> [Value; 3] {
    let get = Get::new("ledger.payments:8080", "/").header("x-request-id", id);
    let get = get.header("x-isthmus-token", "forged").header("x-source-cluster", "cluster1");
    let _answer = lab.get(from, &get).await.expect("an answer");
    let line = logged(lab, id).await;
    ["source_cluster", "source_level", "reason"].map(|field| line.get(field).cloned().unwrap_or_default())
}

/// What the ledger answers to this peer, which has no sidecar of the mesh between it and the ledger's.
fn ask(to: SocketAddr, shown: &Shown, token: &str) -> String {
    let work = tempfile::tempdir().expect("a directory");
    answers(work.path(), to, shown, &[&format!("x-isthmus-token: {token}\r\nConnection: close")])
}

/// Tokens by hand, shown to the ledger by peers of cluster2.
fn nobody_uses_that_of_another(dir: &Path, to: SocketAddr) {
    let ca = Hierarchy::at(dir.join("ca")).intermediate("cluster2").expect("a CA");
    let validity = Validity::from(OffsetDateTime::now_utc(), time::Duration::days(1));
    let shown = |namespace: &str| {
        let leaf =
            ca.leaf(&format!("spiffe://cluster.local/ns/{namespace}/sa/app"), validity).expect("a leaf");
        Shown { chain: leaf.chain, key: leaf.key }
    };
    let (by_treasury, by_sample) = (shown("treasury"), shown("sample"));
    let good =
        Signed { key: "two", kid: "two", cluster: "cluster2", from: "treasury", to: "payments", age: 0 };
    let sign = |signed: Signed<'_>| token(dir, &signed);
    let good_token = sign(good);
    let answer = ask(to, &by_treasury, &good_token);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("x-app-saw-source-cluster: cluster2"),
        "{answer}"
    );

    let (signed, signature) = good_token.rsplit_once('.').expect("a signature");
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let bent = format!("{signed}.{flipped}{}", signature.split_at(1).1);
    // Each differs from the good one in what it is called.
    let cases = [
        ("forged", &by_treasury, bent),
        ("without a signature", &by_treasury, format!("{signed}.")),
        ("by another cluster's key", &by_treasury, sign(Signed { key: "one", kid: "one", ..good })),
        ("the same under the name of its own", &by_treasury, sign(Signed { key: "one", ..good })),
        ("replayed", &by_sample, good_token.clone()),
        ("expired", &by_treasury, sign(Signed { age: 400, ..good })),
        ("for another namespace", &by_treasury, sign(Signed { to: "books", ..good })),
        ("not yet", &by_treasury, sign(Signed { age: -100, ..good })),
        ("none", &by_treasury, String::new()),
    ];
    // All at once: Envoy keeps a connection for a second after it has refused what came on it.
    std::thread::scope(|scope| {
        for (what, shown, token) in &cases {
            scope.spawn(move || {
                let answer = ask(to, shown, token);
                assert!(
                    answer.starts_with("HTTP/1.1 403") && answer.contains(UNVERIFIED),
                    "{what}: {answer}"
                );
                // The tag beside it counts for what it is.
                let claimed = r#""source":{"cluster":"cluster1","level":"claimed"}"#;
                assert!(answer.contains(claimed), "{what}: {answer}");
            });
        }
    });
    let answer = ask(to, &by_treasury, &good_token);
    assert!(answer.starts_with("HTTP/1.1 200"), "the good one still is: {answer}");

    // What a token does not withstand: whoever holds the CA of another cluster, and was sent one.
    let stolen = sign(Signed { key: "one", kid: "one", cluster: "cluster1", from: "sample", ..good });
    assert!(ask(to, &by_treasury, &stolen).starts_with("HTTP/1.1 403"), "not of its own identity");
    let answer = ask(to, &by_sample, &stolen);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("x-app-saw-source-cluster: cluster1"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_token_proves_its_cluster_where_no_leaf_is_shown_and_nobody_uses_that_of_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let mesh = mesh(dir.path(), &["two"]);
    let (treasury, sample, idle) =
        (client("cluster2", "treasury"), client("cluster2", "sample"), client("cluster2", "idle"));
    let home = client("cluster1", "sample");
    let clients = [&treasury, &sample, &idle, &home].map(Clone::clone);
    let (site, stage) = ground(&mesh, clients, dir.path());
    stage.give_token_keys(&site, &dir.path().join("tokens")).expect("keys");
    // A Secret that holds no key.
    let broken = "apiVersion: v1\nkind: Secret\nmetadata: {name: isthmus-token-key, namespace: idle}\nstringData: {key: broken}\n";
    std::fs::write(site.plugins("cluster2").join("idle.yaml"), broken).expect("a write");
    let lab = start(site).await;

    let proven = |cluster: &str, reason: &str| [cluster, "verified by token", reason].map(Value::from);
    assert_eq!(judged(&lab, &treasury, "treasury").await, proven("cluster2", "ledger/treasury"));
    assert_eq!(judged(&lab, &sample, "sample").await, proven("cluster2", "ledger/no-rule-matched"));
    assert_eq!(judged(&lab, &home, "home").await, proven("cluster1", "same-cluster"));
    // Without a key its sidecar signs nothing, and what the application writes is taken away.
    assert_eq!(judged(&lab, &idle, "idle").await[2], UNVERIFIED);
    let answer = lab.get(&treasury, &Get::new("ledger.payments:8080", "/")).await.expect("an answer");
    assert_eq!((answer.status, answer.header("x-app-saw-source-cluster")), (200, Some("cluster2")));

    nobody_uses_that_of_another(dir.path(), ledger(&lab));
    lab.down().await.expect("all processes ended");
}

/// Until 20 more requests were sent: the load says how long a plan is tried, and not the clock.
async fn more(sent: &Cell<u32>) {
    let enough = sent.get() + 20;
    while sent.get() < enough {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_key_for_tokens_is_changed_and_no_request_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    // Two workloads of one cluster: the second was restarted with the new key already.
    let (before, after) = (client("cluster2", "treasury"), client("cluster2", "vault"));
    let with = |keys: &[&str]| mesh(dir.path(), keys);
    let first = with(&["old"]);
    let (site, stage) = ground(&first, [before.clone(), after.clone()], dir.path());
    for (client, id) in [(&before, "old"), (&after, "new")] {
        site.give_token_key("cluster2", Some(&client.namespace), &key(dir.path(), id)).expect("a Secret");
    }
    let open = POLICY.replace("[treasury]", "[treasury, vault]");
    let (policies, _) = Policy::read("ledger.yaml", &open, first.root_namespace());
    stage.roll_out(&policies).expect("a rollout");
    let lab = start(site).await;
    let status = async |client: &Client| {
        lab.get(client, &Get::new("ledger.payments:8080", "/")).await.map_or(0, |answer| answer.status)
    };
    let becomes = async |client: &Client, wanted: u16| {
        eventually(async || match status(client).await {
            now if now == wanted => Ok(()),
            now => Err(format!("{}: {now}, not {wanted}", client.namespace)),
        })
        .await;
    };
    let list = |keys: &[&str]| {
        let stage = Stage::set(&with(keys), lab.site(), &module()).expect("a stage");
        stage.roll_out(&policies).expect("a rollout");
    };
    becomes(&before, 200).await;
    becomes(&after, 403).await;

    let failed = Cell::new(0);
    let load = async |client: &Client, sent: &Cell<u32>, done: &Cell<bool>| {
        while !done.get() {
            let now = status(client).await;
            failed.set(failed.get() + i32::from(now != 200));
            sent.set(sent.get() + 1);
        }
    };
    // List the new one; whoever has it already is believed, and whoever has the old one is still.
    let (sent, done) = (Cell::new(0), Cell::new(false));
    let listing = async {
        more(&sent).await;
        list(&["new", "old"]);
        becomes(&after, 200).await;
        more(&sent).await;
        done.set(true);
    };
    tokio::join!(listing, load(&before, &sent, &done));
    // Nothing signs with the old one any more: take it off.
    let (sent, done) = (Cell::new(0), Cell::new(false));
    let taking_off = async {
        more(&sent).await;
        list(&["new"]);
        becomes(&before, 403).await;
        more(&sent).await;
        done.set(true);
    };
    tokio::join!(taking_off, load(&after, &sent, &done));
    assert_eq!(failed.get(), 0);
    lab.down().await.expect("all processes ended");
}

/// A primary and a remote, for both of which the primary's istiod signs: a certificate says that a workload is of one of
/// them. Envoy is the newest, which shows it.
#[tokio::test]
async fn a_remote_never_passes_for_the_cluster_whose_istiod_signs_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let led = |mesh: &Mesh| {
        let text = MESH.replace("name: cluster2,", "name: cluster2, controlPlane: {remoteOf: cluster1},");
        let keyed = |text: String, cluster: &str| {
            let keys = &mesh.cluster(&cluster.parse().expect("a name")).expect("a cluster").token_keys;
            let (id, key) = keys.first_key_value().expect("a key");
            text.replace(
                &format!("{{kid: {id}, publicKey: KEY}}"),
                &format!("{{kid: {id}, publicKey: {key}}}"),
            )
        };
        keyed(keyed(text, "cluster1"), "cluster2")
    };
    let signed = led(&mesh(dir.path(), &["two"]));
    let unsigned = signed.replace("  tokens: {life: 5m}\n", "").lines().fold(String::new(), |text, line| {
        text + line.split(", tokenKeys").next().unwrap_or_default()
            + if line.contains(", tokenKeys") { "}\n" } else { "\n" }
    });
    let clients = [client("cluster1", "treasury"), client("cluster2", "treasury")];
    for (text, told) in [
        // The tag is all that tells them apart, and is not enough.
        (unsigned, [("", "unknown", UNVERIFIED), ("", "unknown", UNVERIFIED)]),
        (
            signed,
            [
                ("cluster1", "verified by token", "same-cluster"),
                ("cluster2", "verified by token", "ledger/treasury"),
            ],
        ),
    ] {
        let (mesh, findings) = Mesh::read("mesh.yaml", &text);
        let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
        let lab = tempfile::tempdir().expect("a directory");
        let (site, stage) = ground(&mesh, clients.clone(), lab.path());
        if mesh.tokens().is_some() {
            stage.give_token_keys(&site, &dir.path().join("tokens")).expect("keys");
        }
        let lab = site.up(&envoy(), OffsetDateTime::now_utc()).await.expect("the lab comes up");
        for (number, (client, (source, level, reason))) in clients.iter().zip(told).enumerate() {
            let id = format!("led-{number}");
            let wanted = [source, level, reason].map(Value::from);
            assert_eq!(judged(&lab, client, &id).await.map(text_of), wanted, "{client:?}");
        }
        lab.down().await.expect("all processes ended");
    }
}

/// A value of the log that is not there is an empty text.
fn text_of(value: Value) -> Value {
    if value.is_null() || value == "-" { "".into() } else { value }
}
