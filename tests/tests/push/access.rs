use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use isthmus::push::credentials::Keychain;
use isthmus::push::registry::{Access, ConnectError, Reach, Registry as Client};
use isthmus::push::{Pushed, push};
use isthmus_tests::registry::{Fault, Proxy, Registry, Setup};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{image, isthmus, isthmus_in, pushed, reach, reference, text};

/// What bcrypt makes of the password below.
const USERS: &str = "ci:$2b$05$4At5Uw/JS36V6XvtSDGFueTgYX3KZpWh4Ds04Oqo.2xcl40J./jJq\n";
const PASSWORD: &str = "correct horse";

/// A registry that asks for a password, in the name of this realm.
pub(super) fn guarded(realm: &str) -> Setup {
    Setup { htpasswd: Some([realm.to_owned(), USERS.to_owned()]), ..Setup::default() }
}

/// A directory as `docker login` leaves it.
fn login(config: &serde_json::Value) -> TempDir {
    let room = tempfile::tempdir().expect("a directory");
    std::fs::write(room.path().join("config.json"), config.to_string()).expect("a file");
    room
}

pub(super) fn password(host: &str, password: &str) -> TempDir {
    login(&json!({"auths": {host: {"auth": Base64::encode_string(format!("ci:{password}").as_bytes())}}}))
}

/// Pushes with the credentials of a directory.
pub(super) async fn pushed_as(docker: &Path, to: &str, reach: &Reach) -> Result<Pushed, String> {
    let to = reference(to);
    let keychain = Keychain::read(Some(docker.as_os_str()), None).expect("a configuration");
    let found = keychain.find(to.host()).expect("credentials");
    let registry = Client::connect(&to, reach, Access::Push, found)
        .await
        .map_err(|error: ConnectError| error.to_string())?;
    push(&image(), &to, &registry, false).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_password_lets_in_and_without_it_is_said_where_it_was_looked_for() {
    let Some(registry) = Registry::start(guarded("test")).await else { return };
    let host = registry.address();
    let to = format!("{host}/isthmus:v1");
    let said = pushed(&image(), &to, &reach()).await.expect_err("nobody");
    assert!(said.starts_with(&format!("{host}: cannot connect: not authorized")), "{said}");
    assert!(said.contains("no DOCKER_CONFIG and no home"), "{said}");
    let wrong = password(host, "wrong secret");
    let said = pushed_as(wrong.path(), &to, &reach()).await.expect_err("another");
    let file = wrong.path().join("config.json");
    assert!(
        said.contains(&format!("the credentials are those that {} has for {host}", file.display())),
        "{said}"
    );
    assert!(!said.contains("wrong secret"), "{said}");
    pushed_as(password(host, PASSWORD).path(), &to, &reach()).await.expect("pushed");
}

#[tokio::test]
async fn a_helper_is_asked_for_the_registry_and_its_answer_is_never_shown() {
    let Some(registry) = Registry::start(guarded("test")).await else { return };
    let host = registry.address();
    let docker = login(&json!({"credHelpers": {host: "test"}, "credsStore": "other"}));
    let helper = docker.path().join("docker-credential-test");
    let write = |answer: &str, code: u8| {
        let asked = docker.path().join("asked").display().to_string();
        let script = format!("#!/bin/sh\ncat > {asked}.$1\ncat <<'END'\n{answer}\nEND\nexit {code}\n");
        std::fs::write(&helper, script).expect("a file");
        std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).expect("its mode");
    };
    let url = format!("oci://{host}/isthmus:v1");
    let run = || isthmus(docker.path(), &["push", &url, "--module", "wasm/isthmus.wasm"]);
    for (answer, code, wanted) in [
        ("credentials not found in native keychain", 1, "has no credentials for"),
        ("the store is locked", 1, "the store is locked"),
        ("hunter2", 0, "its answer is no JSON of a helper"),
        (
            r#"{"ServerURL": "", "Username": "ci", "Secret": "hunter2"}"#,
            0,
            "those that docker-credential-test has for",
        ),
    ] {
        write(answer, code);
        let output = run();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(wanted) && said.contains(host) && !said.contains("hunter2"), "{said}");
    }
    write(&json!({"Username": "ci", "Secret": PASSWORD}).to_string(), 0);
    let output = run();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(docker.path().join("asked.get")).expect("it was asked"), host);
}

/// An issuer of tokens, as files: what openssl signs with.
struct Tokens(TempDir);

impl Tokens {
    fn new() -> Self {
        let room = tempfile::tempdir().expect("a directory");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tokens", "-days", "1"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(room.path())
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self(room)
    }

    fn certificate(&self) -> String {
        self.0.path().join("cert.pem").display().to_string()
    }

    /// A token that allows these actions in the repository.
    fn token(&self, actions: &[&str]) -> String {
        let pem = std::fs::read_to_string(self.certificate()).expect("a certificate");
        let der: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
        let access = json!([{"type": "repository", "name": "isthmus", "actions": actions}]);
        let claims = json!({
            "iss": "issuer", "sub": "ci", "aud": "service", "jti": "1", "access": access,
            "iat": now, "nbf": now - 60, "exp": now + 600,
        });
        let [header, claims] =
            [header, claims].map(|part| Base64UrlUnpadded::encode_string(part.to_string().as_bytes()));
        let signed = format!("{header}.{claims}");
        let file = self.0.path().join("signed");
        std::fs::write(&file, &signed).expect("a file");
        let signature = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign", "key.pem", "signed"])
            .current_dir(self.0.path())
            .output()
            .expect("openssl runs");
        assert!(signature.status.success(), "{}", text(&signature.stderr));
        format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature.stdout))
    }
}

#[tokio::test]
async fn a_registry_that_takes_tokens_gets_one_that_the_password_was_changed_for() {
    let tokens = Tokens::new();
    let service = Proxy::before("127.0.0.1:1").await;
    let realm = format!("http://{}/token", service.address());
    let setup = Setup {
        token: Some([realm, "service".to_owned(), "issuer".to_owned(), tokens.certificate()]),
        ..Setup::default()
    };
    let Some(registry) = Registry::start(setup).await else { return };
    let host = registry.address();
    let docker = password(host, PASSWORD);
    let to = format!("{host}/isthmus:v1");
    let gives = |key: &str, actions: &[&str]| {
        service.heal();
        service.always(
            "/token",
            Fault::Answer(200, Vec::new(), json!({key: tokens.token(actions)}).to_string()),
        );
    };
    // What may only read.
    gives("token", &["pull"]);
    let said = pushed_as(docker.path(), &to, &reach()).await.expect_err("it may not");
    assert!(said.contains("cannot upload") && said.contains("UNAUTHORIZED"), "{said}");
    gives("token", &["pull", "push"]);
    service.shown();
    pushed_as(docker.path(), &to, &reach()).await.expect("pushed");
    let shown = service.shown();
    let basic = format!("Basic {}", Base64::encode_string(format!("ci:{PASSWORD}").as_bytes()));
    for (line, shown) in &shown {
        assert_eq!(line, "GET /token?service=service&scope=repository%3Aisthmus%3Apull%2Cpush");
        assert_eq!(shown.as_ref(), Some(&basic));
    }
    assert_eq!(shown.len(), 1, "one token for all of it");

    // A token of one's own is changed for another, by a form.
    let docker = login(&json!({"auths": {host: {"auth": "", "identitytoken": "refresh"}}}));
    gives("access_token", &["pull", "push"]);
    assert!(pushed_as(docker.path(), &to, &reach()).await.expect("there").was_there);
    assert_eq!(service.shown(), [("POST /token".to_owned(), None)]);

    service.heal();
    service.always(
        "/token",
        Fault::Answer(401, Vec::new(), r#"{"details": "incorrect username or password"}"#.to_owned()),
    );
    let said = pushed_as(docker.path(), &to, &reach()).await.expect_err("refused");
    assert!(said.contains("not authorized") && said.contains("incorrect username"), "{said}");
    service.heal();
    service.always("/token", Fault::Answer(200, Vec::new(), "{}".to_owned()));
    let said = pushed_as(docker.path(), &to, &reach()).await.expect_err("no token");
    assert!(said.contains("and gave none"), "{said}");
}

#[tokio::test]
async fn files_that_lie_elsewhere_are_fetched_without_what_the_registry_is_shown() {
    let Some(registry) = Registry::start(guarded("test")).await else { return };
    let [proxy, store] = [Proxy::before(registry.address()).await, Proxy::before("127.0.0.1:1").await];
    let image = image();
    let config = &image.blobs()[0];
    let elsewhere = format!("http://{}/store/config?signature=x", store.address());
    proxy.always(
        &format!("GET /v2/isthmus/blobs/sha256:{}", config.digest()),
        Fault::Answer(307, vec![("location", elsewhere)], String::new()),
    );
    store.always("GET /store/config", Fault::Answer(200, Vec::new(), text(config.bytes())));
    let docker = password(proxy.address(), PASSWORD);
    pushed_as(docker.path(), &format!("{}/isthmus:v1", proxy.address()), &reach()).await.expect("pushed");
    assert_eq!(store.shown(), [("GET /store/config?signature=x".to_owned(), None)]);
    assert!(proxy.shown().iter().skip(1).all(|(_, shown)| shown.is_some()));
}

/// A CA, and a certificate of it for loopback, as files.
fn certificates(room: &Path) -> Setup {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&ca_key).expect("a certificate");
    std::fs::write(room.join("ca.pem"), certificate.pem()).expect("a file");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(["127.0.0.1", "registry.example"].map(str::to_owned)).expect("names");
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).expect("a certificate");
    let [certificate, private] = [room.join("leaf.pem"), room.join("key.pem")];
    std::fs::write(&certificate, leaf.pem()).expect("a file");
    std::fs::write(&private, key.serialize_pem()).expect("a file");
    Setup { tls: Some([certificate, private]), ..Setup::default() }
}

#[tokio::test]
async fn a_registry_with_a_ca_of_its_own_is_trusted_by_that_ca_alone() {
    let room = tempfile::tempdir().expect("a directory");
    let Some(registry) = Registry::start(certificates(room.path())).await else { return };
    let to = format!("{}/isthmus:v1", registry.address());
    let trusting = |file: &str| Reach { ca_file: Some(room.path().join(file)), ..reach() };
    pushed(&image(), &to, &trusting("ca.pem")).await.expect("pushed");

    let other = tempfile::tempdir().expect("a directory");
    certificates(other.path());
    std::fs::copy(other.path().join("ca.pem"), room.path().join("other.pem")).expect("a file");
    let said = pushed(&image(), &to, &trusting("other.pem")).await.expect_err("another CA");
    assert!(
        said.contains("no TLS that can be trusted") && said.contains("invalid peer certificate"),
        "{said}"
    );
    let said = pushed(&image(), &to, &reach()).await.expect_err("no TLS on this side");
    assert!(said.contains("is no registry") && said.contains("HTTPS"), "{said}");
    for (file, wanted) in [("key.pem", "no certificate in PEM"), ("none.pem", "No such file")] {
        let said = pushed(&image(), &to, &trusting(file)).await.expect_err("no CA");
        assert!(said.contains(file) && said.contains(wanted), "{said}");
    }
    let Some(plain) = Registry::start(Setup::default()).await else { return };
    let to = format!("{}/isthmus:v1", plain.address());
    let said = pushed(&image(), &to, &trusting("ca.pem")).await.expect_err("no TLS on that side");
    assert!(said.contains("no TLS that can be trusted") && said.contains("--plain-http"), "{said}");
}

/// A proxy that leads every tunnel to one address; it tells which were asked for.
async fn tunnels(to: String) -> (String, JoinSet<()>, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (tell, told) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        loop {
            let (client, _) = listener.accept().await.expect("a connection");
            let (to, tell) = (to.clone(), tell.clone());
            open.spawn(async move {
                let mut client = BufReader::new(client);
                let mut head = Vec::new();
                while client.read_until(b'\n', &mut head).await.expect("a line") > 2 {}
                let head = text(&head);
                tell.send(head.lines().next().unwrap_or_default().to_owned()).expect("somebody listens");
                let mut server = TcpStream::connect(&to).await.expect("the registry");
                client.get_mut().write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("sent");
                // Either side may end it.
                let _cut = tokio::io::copy_bidirectional(&mut client, &mut server).await.is_err();
            });
        }
    });
    (address, tasks, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_behind_a_proxy_is_reached_through_it_and_proves_itself() {
    let room = tempfile::tempdir().expect("a directory");
    let Some(registry) = Registry::start(certificates(room.path())).await else { return };
    let (proxy, _tasks, mut told) = tunnels(registry.address().to_owned()).await;
    let proxy = format!("http://{proxy}");
    let ca = room.path().join("ca.pem");
    let push = |host: &str, more: &[(&str, &str)]| {
        let url = format!("oci://{host}/isthmus:v1");
        let arguments =
            ["push", &url, "--module", "wasm/isthmus.wasm", "--ca-file", ca.to_str().expect("a path")];
        isthmus_in(room.path(), &[&[("HTTPS_PROXY", proxy.as_str())], more].concat(), &arguments)
    };
    let output = push("registry.example", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(told.recv().await.expect("it was asked"), "CONNECT registry.example:443 HTTP/1.1");
    let other = push("other.example", &[]);
    assert!(text(&other.stderr).contains("no TLS that can be trusted"), "{}", text(&other.stderr));
    while told.try_recv().is_ok() {}
    assert_eq!(push(registry.address(), &[]).status.code(), Some(0), "this machine needs no proxy");
    let direct = push("registry.invalid", &[("NO_PROXY", "registry.invalid")]);
    assert!(text(&direct.stderr).contains("dns error"), "{}", text(&direct.stderr));
    assert!(told.try_recv().is_err(), "neither went through it");
}
