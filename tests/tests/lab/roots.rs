//! A root that is rotated while requests flow: each cluster a stock Envoy, whose certificate and roots come from files
//! as istiod's agent gives them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use isthmus::cert::{Certificate, Hierarchy, KeyKind, Level, Options, RootFiles, Signing, judge};
use isthmus::lab::Process;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::envoy;

const NAMES: [&str; 3] = ["cluster1", "cluster2", "cluster3"];

/// Where a cluster's Envoy listens: for other clusters, for its own clients, and for us.
#[derive(Clone, Copy)]
struct Ports {
    inbound: SocketAddr,
    outbound: SocketAddr,
    admin: SocketAddr,
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A secret that Envoy reads from a file and again whenever that is replaced.
fn from_file(dir: &Path, name: &str) -> Value {
    let path = dir.join(format!("{name}.json"));
    json!({"name": name, "sds_config": {"resource_api_version": "V3", "path_config_source": {"path": path}}})
}

fn tls(dir: &Path) -> Value {
    json!({
        "tls_certificate_sds_secret_configs": [from_file(dir, "own")],
        "validation_context_sds_secret_config": from_file(dir, "roots"),
    })
}

fn http(name: &str, routes: &[Value]) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }],
        },
    })
}

/// Every request shakes hands anew: none goes by a connection or a session of before.
fn to(dir: &Path, cluster: &str, address: SocketAddr) -> Value {
    json!({
        "name": cluster,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": cluster,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(address)}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "explicit_http_config": {"http_protocol_options": {}},
        }},
        "transport_socket": {"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "max_session_keys": 0,
            "common_tls_context": tls(dir),
        }},
    })
}

fn bootstrap(dir: &Path, own: Ports, all: &BTreeMap<&str, Ports>) -> Value {
    let inbound = json!({
        "name": "inbound",
        "address": socket(own.inbound),
        "filter_chains": [{
            "filters": [http("inbound", &[json!({"match": {"prefix": "/"}, "direct_response": {"status": 200}})])],
            "transport_socket": {"name": "tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": true,
                "disable_stateless_session_resumption": true,
                "disable_stateful_session_resumption": true,
                "common_tls_context": tls(dir),
            }},
        }],
    });
    let route = |name: &&str| json!({"match": {"prefix": format!("/{name}")}, "route": {"cluster": name}});
    let routes: Vec<Value> = all.keys().map(route).collect();
    let outbound = json!({
        "name": "outbound",
        "address": socket(own.outbound),
        "filter_chains": [{"filters": [http("outbound", &routes)]}],
    });
    let clusters: Vec<Value> = all.iter().map(|(name, ports)| to(dir, name, ports.inbound)).collect();
    json!({
        "node": {"id": "x", "cluster": "x"},
        "admin": {"address": socket(own.admin)},
        "static_resources": {"listeners": [inbound, outbound], "clusters": clusters},
    })
}

/// Puts a file in the place of another in one move, which is what Envoy watches for.
fn replace(path: &Path, content: &Value) {
    let beside = path.with_extension("new");
    fs::write(&beside, content.to_string()).expect("a file");
    fs::rename(&beside, path).expect("moved");
}

fn secret(name: &str, kind: &str, value: &Value) -> Value {
    let resource = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    json!({"resources": [{"@type": resource, "name": name, kind: value}]})
}

/// Gives a cluster's Envoy a certificate as its istiod would sign it now.
fn give_leaf(dir: &Path, bundle: &Path) {
    let read = |name: &str| fs::read_to_string(bundle.join(name)).expect("a file");
    let key = KeyPair::from_pem(&read("ca-key.pem")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca-cert.pem"), key).expect("a CA");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names =
        vec![SanType::URI("spiffe://cluster.local/ns/a/sa/b".try_into().expect("a URI"))];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = OffsetDateTime::now_utc() - time::Duration::minutes(1);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(1);
    let key = KeyPair::generate().expect("a key");
    let chain = params.signed_by(&key, &issuer).expect("a leaf").pem() + &read("cert-chain.pem");
    let own = json!({
        "certificate_chain": {"inline_string": chain},
        "private_key": {"inline_string": key.serialize_pem()},
    });
    replace(&dir.join("own.json"), &secret("own", "tls_certificate", &own));
}

fn give_roots(dir: &Path, bundle: &Path) {
    let roots = fs::read_to_string(bundle.join("root-cert.pem")).expect("a file");
    let trusted = json!({"trusted_ca": {"inline_string": roots}});
    replace(&dir.join("roots.json"), &secret("roots", "validation_context", &trusted));
}

fn get(to: SocketAddr, path: &str) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits until something is so; fails with what was seen last.
fn wait(mut look: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(seen) = look() {
        assert!(Instant::now() < deadline, "last seen: {seen}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Three clusters, an Envoy each.
struct World {
    dir: tempfile::TempDir,
    hierarchy: Hierarchy,
    ports: BTreeMap<&'static str, Ports>,
    _envoys: Vec<Process>,
}

impl World {
    fn up() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let hierarchy = Hierarchy::at(dir.path().join("certs"));
        let now = OffsetDateTime::now_utc();
        hierarchy.ensure(&NAMES, quick(), now).expect("a hierarchy");
        let ports = NAMES.map(|name| (name, Ports { inbound: free(), outbound: free(), admin: free() }));
        let ports = BTreeMap::from(ports);
        let mut envoys = Vec::new();
        for (name, own) in &ports {
            let place = dir.path().join(name);
            fs::create_dir(&place).expect("a directory");
            give_leaf(&place, &hierarchy.cluster(name));
            give_roots(&place, &hierarchy.cluster(name));
            let config = place.join("bootstrap.json");
            fs::write(&config, bootstrap(&place, *own, &ports).to_string()).expect("a file");
            envoys.push(Process::start(&envoy(), &config, &place.join("log")).expect("an Envoy"));
        }
        let world = Self { dir, hierarchy, ports, _envoys: envoys };
        for (from, to) in pairs() {
            wait(|| world.ask(from, to));
        }
        world
    }

    fn place(&self, cluster: &str) -> PathBuf {
        self.dir.path().join(cluster)
    }

    fn ports(&self, cluster: &str) -> Ports {
        *self.ports.get(cluster).expect("a cluster")
    }

    /// A request from one cluster to another, or what came instead of an answer.
    fn ask(&self, from: &str, to: &str) -> Result<(), String> {
        match get(self.ports(from).outbound, &format!("/{to}")) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
            Ok(answer) => Err(format!("{from} -> {to}: {answer}")),
            Err(error) => Err(format!("{from} -> {to}: {error}")),
        }
    }

    /// How often each side of TLS in a cluster's Envoy has taken new secrets.
    fn taken(&self, cluster: &str) -> BTreeMap<String, u64> {
        let stats = get(self.ports(cluster).admin, "/stats?filter=ssl_context_update_by_sds").expect("stats");
        let line = |line: &str| {
            line.split_once(": ")
                .and_then(|(name, count)| Some((name.to_owned(), count.trim().parse().ok()?)))
        };
        stats.lines().filter_map(line).collect()
    }

    /// Changes a cluster's secrets and waits until all of its Envoy has them.
    fn change(&self, cluster: &str, change: fn(&Path, &Path)) {
        self.change_to(cluster, change, &self.hierarchy.cluster(cluster));
    }

    fn change_to(&self, cluster: &str, change: fn(&Path, &Path), bundle: &Path) {
        let before = self.taken(cluster);
        assert_eq!(before.len(), 1 + NAMES.len(), "{before:?}");
        change(&self.place(cluster), bundle);
        wait(|| {
            let now = self.taken(cluster);
            if before.iter().all(|(name, count)| now.get(name).is_some_and(|now| now > count)) {
                return Ok(());
            }
            Err(format!("{now:?}, before {before:?}"))
        });
    }
}

fn quick() -> Options {
    Options { key: KeyKind::P256, ..Options::default() }
}

fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    NAMES.into_iter().flat_map(|from| NAMES.map(|to| (from, to)))
}

/// Takes every step for every cluster, each time until requests between all have come through after it.
fn rotate(world: &World, asked: &AtomicUsize) {
    let now = OffsetDateTime::now_utc();
    world.hierarchy.begin_rotation(&NAMES, RootFiles::default(), quick(), now).expect("a new root");
    let mut rotation = world.hierarchy.rotation(&NAMES).expect("readable").expect("under way");
    let signing = Signing { root_key: None, options: quick(), now };
    // A cluster that is last in one step is first in the next: neighbours in level meet in both directions.
    let [one, two, three] = NAMES;
    let orders = [
        (Level::Both, [one, two, three]),
        (Level::Signed, [three, one, two]),
        (Level::After, [two, three, one]),
    ];
    for (level, order) in orders {
        for name in order {
            world.hierarchy.advance(&mut rotation, (name, level), signing).expect("a step");
            world.change(name, if level == Level::Signed { give_leaf } else { give_roots });
            let seen = asked.load(Ordering::Relaxed);
            wait(|| match asked.load(Ordering::Relaxed) - seen {
                enough if enough >= 4 * NAMES.len() * NAMES.len() => Ok(()),
                few => Err(format!("{few} requests since {name} is at {level:?}")),
            });
        }
    }
    world.hierarchy.finish_rotation().expect("the end");
}

#[test]
fn a_root_is_rotated_under_load_and_no_request_fails() {
    let world = World::up();
    let (asked, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let load = || {
            while !done.load(Ordering::Relaxed) {
                for (from, to) in pairs() {
                    if let Err(instead) = world.ask(from, to) {
                        failed.lock().expect("a lock").push(instead);
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        scope.spawn(load);
        scope.spawn(load);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rotate(&world, &asked)));
        done.store(true, Ordering::Relaxed);
        ended.expect("a rotation");
    });
    let (asked, failed) = (asked.into_inner(), failed.into_inner().expect("a lock"));
    println!("{asked} requests while a root was rotated, {} failed", failed.len());
    assert!(asked > 300 && failed.is_empty(), "{} of {asked} failed: {:?}", failed.len(), failed.first());
}

#[test]
fn in_a_wrong_order_envoy_refuses_and_so_do_we() {
    let world = World::up();
    let now = OffsetDateTime::now_utc();
    world.hierarchy.begin_rotation(&NAMES, RootFiles::default(), quick(), now).expect("a new root");
    let mut rotation = world.hierarchy.rotation(&NAMES).expect("readable").expect("under way");
    let signing = Signing { root_key: None, options: quick(), now };
    let refused = world.hierarchy.advance(&mut rotation, ("cluster1", Level::Signed), signing);
    assert!(refused.is_err(), "we let cluster1 sign under a root that nobody trusts");
    // What we refuse, done by hand: a hierarchy of the new root, whose intermediate of cluster1 is put in place.
    let elsewhere = Hierarchy::at(world.dir.path().join("elsewhere"));
    let new = world.dir.path().join("certs/root.new");
    let (certificate, key) = (new.join("root-cert.pem"), new.join("root-key.pem"));
    let root = RootFiles { certificate: Some(&certificate), key: Some(&key) };
    elsewhere.ensure_under(root, &["cluster1"], quick(), now).expect("an intermediate");
    world.change_to("cluster1", give_leaf, &elsewhere.cluster("cluster1"));
    let error = world.ask("cluster1", "cluster2").expect_err("cluster2 trusts the old root alone");
    assert!(error.contains(" 503 "), "{error}");
    let error = world.ask("cluster2", "cluster1").expect_err("nor does cluster2 take what cluster1 shows");
    assert!(error.contains(" 503 "), "{error}");
    let refused = get(world.ports("cluster2").admin, "/stats?filter=cluster.cluster1.ssl.fail_verify_error");
    let refused = refused.expect("stats");
    assert!(
        refused.contains("fail_verify_error: ") && !refused.contains("fail_verify_error: 0"),
        "{refused}"
    );
    assert_eq!(world.ask("cluster2", "cluster3"), Ok(()));
}

/// The files of an intermediate below a root of this name, beside another root of the same that comes first.
fn below_the_second_of_two(dir: &Path, says_key: bool, trusted_too: &str) {
    let root = || {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "One Name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).expect("a root").pem(), Issuer::new(params, key))
    };
    let ((first, _), (second, issuer)) = (root(), root());
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = says_key;
    let own = params.signed_by(&key, &issuer).expect("an intermediate").pem();
    fs::create_dir_all(dir).expect("a directory");
    for (name, text) in [
        ("ca-key.pem", key.serialize_pem()),
        ("cert-chain.pem", format!("{own}{second}")),
        ("root-cert.pem", format!("{first}{second}{trusted_too}")),
        ("ca-cert.pem", own),
    ] {
        fs::write(dir.join(name), text).expect("a file");
    }
}

#[test]
fn of_two_roots_of_one_name_envoy_tries_the_first_unless_it_is_told_which() {
    let world = World::up();
    let usual = fs::read_to_string(world.hierarchy.root_certificate()).expect("a root");
    for (says_key, accepted) in [(false, false), (true, true)] {
        let bundle = world.dir.path().join(format!("bundle-{says_key}"));
        below_the_second_of_two(&bundle, says_key, &usual);
        world.change_to("cluster1", give_leaf, &bundle);
        world.change_to("cluster2", give_roots, &bundle);
        let answer = world.ask("cluster1", "cluster2");
        assert_eq!(answer.is_ok(), accepted, "says which: {says_key}: {answer:?}");
        // As we say of the same files.
        let read = |name: &str| {
            let text = fs::read_to_string(bundle.join(name)).expect("a file");
            Certificate::read_all(&text, &bundle).expect("certificates")
        };
        let shown = fs::read_to_string(world.place("cluster1").join("own.json")).expect("a file");
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        let chain = shown.pointer("/resources/0/tls_certificate/certificate_chain/inline_string");
        let leaf =
            Certificate::read(chain.and_then(Value::as_str).expect("a chain"), &bundle).expect("a leaf");
        let ours = judge(&leaf, &read("cert-chain.pem"), &read("root-cert.pem"), OffsetDateTime::now_utc());
        assert_eq!(ours.is_ok(), accepted, "{ours:?}");
    }
}
