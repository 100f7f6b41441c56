//! Probes in one stock Envoy: a listener, a VM and an upstream for each.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use isthmus::lab::Process;
use serde_json::{Value, json};

use super::grpc::Service;
use super::script::{Exchange, Fields, Mark, Message, Move, Scenario};
use super::tls::Identities;
use super::{PLUGIN_CONFIGURATION, VM_CONFIGURATION, http2, module};

/// How long anything may take before the test fails: all the modules of an Envoy are compiled as it starts.
const PATIENCE: Duration = Duration::from_secs(60);

/// What lies between an end and what comes after it, so that each comes to the filter by itself.
const APART: Duration = Duration::from_millis(50);

/// The same for bytes, once Envoy has read them.
const AFTER_BYTES: Duration = Duration::from_millis(10);

/// How long Envoy has to read what it may not read at all: a filter can have stopped it.
const UNREAD: Duration = Duration::from_millis(500);

/// How long to listen for what should not come.
const SILENCE: Duration = Duration::from_millis(300);

/// The ends of a connection, which the sandbox is given as they were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) listener: SocketAddr,
    pub(super) upstream: SocketAddr,
}

/// What was seen of a scenario: its lines, and the ends of each exchange's connection.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) lines: Vec<String>,
    pub(super) ends: Vec<Ends>,
}

/// A running Envoy with a probe for each scenario.
pub(super) struct Envoy {
    process: Process,
    dir: PathBuf,
    file: File,
    /// What its log says so far.
    log: String,
    identities: Identities,
    stages: Vec<Stage>,
}

/// Where a scenario is played.
struct Stage {
    /// Of its plugin, and of each of its others.
    listeners: Vec<SocketAddr>,
    upstream: Upstream,
    /// The service that its module calls by gRPC.
    service: Option<Service>,
}

/// What the upstream of a scenario does: it answers requests, or is an end that the test holds itself.
enum Upstream {
    Http(Server),
    Tcp(TcpListener),
}

impl Upstream {
    fn of(scenario: &Scenario) -> Self {
        if scenario.is_tcp() {
            return Self::Tcp(TcpListener::bind((own(), 0)).expect("a port"));
        }
        Self::Http(Server::serve(&scenario.exchanges))
    }

    fn at(&self) -> SocketAddr {
        match self {
            Self::Http(server) => server.at,
            Self::Tcp(listener) => listener.local_addr().expect("an address"),
        }
    }
}

impl Envoy {
    /// Starts an Envoy with these scenarios, and waits until it serves.
    pub(super) fn start(envoy: &Path, dir: &Path, scenarios: &[Scenario]) -> Self {
        let mut envoy = Self::begin(envoy, dir, scenarios);
        envoy.wait("the main loop", 0, |log| log.contains("starting main dispatch loop"));
        envoy
    }

    /// What the probe of a scenario says in an Envoy that does not take it.
    pub(super) fn refused(envoy: &Path, dir: &Path, scenario: &Scenario) -> Vec<String> {
        let mut envoy = Self::begin(envoy, dir, std::slice::from_ref(scenario));
        let deadline = Instant::now() + PATIENCE;
        while !envoy.process.has_ended() {
            assert!(Instant::now() < deadline, "{}: Envoy has taken it", scenario.name);
            std::thread::sleep(Duration::from_millis(5));
        }
        envoy.read();
        said(&envoy.log, scenario).map(|(_, line)| format!("main {line}")).collect()
    }

    fn begin(envoy: &Path, dir: &Path, scenarios: &[Scenario]) -> Self {
        // First what listens already: a port that is free now is not held.
        let ends: Vec<_> =
            scenarios.iter().map(|scenario| (Upstream::of(scenario), service(scenario))).collect();
        let count = scenarios.iter().map(|scenario| 1 + scenario.plugins.len()).sum();
        let mut free = free(count).into_iter();
        let staged = |((upstream, service), scenario): (_, &Scenario)| Stage {
            listeners: free.by_ref().take(1 + scenario.plugins.len()).collect(),
            upstream,
            service,
        };
        let stages: Vec<Stage> = ends.into_iter().zip(scenarios).map(staged).collect();
        let identities = Identities::make(dir);
        let mut resources = json!({"listeners": [], "clusters": []});
        for (scenario, stage) in scenarios.iter().zip(&stages) {
            std::fs::write(dir.join(format!("{}.wasm", scenario.name)), module::bytes(scenario))
                .expect("a module");
            for (plugin, at) in PluginOf::all(scenario).iter().zip(&stage.listeners) {
                let mut listener = listener(scenario, plugin, *at, dir);
                if scenario.tls.is_some() {
                    listener["filter_chains"][0]["transport_socket"] = identities.transport_socket();
                    listener["listener_filters"] = json!([inspector()]);
                }
                push(&mut resources["listeners"], listener);
            }
            push(&mut resources["clusters"], cluster(&scenario.name, stage.upstream.at()));
            if let Some(service) = &stage.service {
                push(&mut resources["clusters"], grpc_cluster(&scenario.name, service.at));
            }
        }
        let bootstrap = json!({"node": super::node(), "static_resources": resources});
        let (config, log) = (dir.join("envoy.json"), dir.join("envoy.log"));
        std::fs::write(&config, bootstrap.to_string()).expect("a bootstrap");
        let workers = if scenarios.iter().any(|scenario| scenario.is(Mark::Workers)) { "2" } else { "1" };
        let config = config.to_str().expect("a path");
        let arguments =
            ["-c", config, "--concurrency", workers, "--disable-hot-restart", "--log-level", "info"];
        let process = Process::run(envoy, arguments, &log).expect("Envoy starts");
        let file = File::open(log).expect("a log");
        Self { process, file, dir: dir.to_owned(), log: String::new(), identities, stages }
    }

    /// Plays the traffic of the scenario at `index`, and collects what its probe logged in Envoy's worker.
    pub(super) fn play(&mut self, index: usize, scenario: &Scenario) -> Seen {
        let upstream = self.stages[index].upstream.at();
        let mut seen = Seen::default();
        let mut outside = Vec::new();
        // One worker has the first connection, and while that lasts the other gets the second.
        let mut held: [Option<TcpStream>; 2] = [None, None];
        for exchange in &scenario.exchanges {
            let listener = self.stages[index].listeners[through(scenario, exchange)];
            if let Some(configuration) = &exchange.update {
                self.update(scenario, configuration);
                seen.ends.push(Ends { client: listener, listener, upstream });
                continue;
            }
            let deadline = Instant::now() + PATIENCE;
            let mut begun;
            let told = loop {
                self.read();
                begun = self.log.len();
                let connect = || TcpStream::connect(listener).expect("a connection");
                let stream = match scenario.is(Mark::Workers) {
                    true => held[usize::from(exchange.to_another)]
                        .get_or_insert_with(connect)
                        .try_clone()
                        .expect("a connection"),
                    false => connect(),
                };
                let client = stream.local_addr().expect("an address");
                let told = self.met(stream, &self.stages[index].upstream, (scenario, exchange));
                let refused = told.iter().any(|line| line.starts_with("client: 503"));
                if !(exchange.eventually && refused && Instant::now() < deadline) {
                    seen.ends.push(Ends { client, listener, upstream });
                    break told;
                }
            };
            outside.extend(told);
            if scenario.is(Mark::Traps) || scenario.is(Mark::Stays) {
                std::thread::sleep(SILENCE);
            } else {
                self.wait("the end of a stream", begun, |log| log.contains(scenario.last_words()));
            }
            // What one worker tells another takes a moment, and so does what follows an end.
            if scenario.is(Mark::Workers) || scenario.changes() {
                std::thread::sleep(SILENCE);
            }
        }
        let service = self.stages[index].service.iter();
        outside.splice(0..0, service.flat_map(|service| service.reached.try_iter()));
        let main = main_thread(&self.log).map(str::to_owned);
        for name in scenario.waits_for() {
            let line = format!("{name}: ");
            let served = |log: &str| {
                said(log, scenario).any(|(by, said)| by != main.as_deref() && said.starts_with(&line))
            };
            self.wait(name, 0, served);
        }
        self.read();
        seen.lines = by_thread(&self.log, scenario);
        seen.lines.extend(outside);
        seen
    }

    /// Gives a plugin another configuration, and waits until Envoy has taken it everywhere or refused it.
    fn update(&mut self, scenario: &Scenario, configuration: &[u8]) {
        self.read();
        let begun = self.log.len();
        let plugin = PluginOf { configuration: configuration.to_vec(), ..PluginOf::first(scenario) };
        discover(scenario, &plugin, &self.dir);
        let main = main_thread(&self.log).map(str::to_owned);
        let wanted = if scenario.is(Mark::Workers) { 2 } else { 1 };
        self.wait("an update", begun, |log| {
            let served = said(log, scenario)
                .filter(|(by, line)| *by != main.as_deref() && line.starts_with("configure: "));
            log.contains("config update rejected") || served.count() >= wanted
        });
        std::thread::sleep(SILENCE);
    }

    /// What both ends of an exchange see.
    fn met(
        &self,
        stream: TcpStream,
        upstream: &Upstream,
        (scenario, exchange): (&Scenario, &Exchange),
    ) -> Vec<String> {
        let socket = stream.try_clone().expect("a stream");
        match (&exchange.connection, upstream, scenario.tls) {
            (Some(moves), Upstream::Tcp(listener), Some(certified)) => {
                connected(self.identities.over(stream, certified), &socket, listener, moves)
            }
            (Some(moves), Upstream::Tcp(listener), None) => connected(stream, &socket, listener, moves),
            (_, Upstream::Http(server), tls) => {
                let patience = if scenario.is(Mark::Hangs) { SILENCE } else { PATIENCE };
                socket
                    .set_nodelay(true)
                    .and_then(|()| socket.set_read_timeout(Some(patience)))
                    .expect("a stream");
                match tls {
                    None if scenario.is(Mark::Http2) => http2::exchanged(stream, exchange, &server.reached),
                    Some(certified) => {
                        exchanged(self.identities.over(stream, certified), &socket, server, exchange)
                    }
                    None => exchanged(stream, &socket, server, exchange),
                }
            }
            (None, Upstream::Tcp(_), _) => panic!("{}: a request to a filter of connections", scenario.name),
        }
    }

    pub(super) fn identities(&self) -> &Identities {
        &self.identities
    }

    /// Reads what has been logged since.
    fn read(&mut self) {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).expect("a log");
        self.log.push_str(&String::from_utf8_lossy(&bytes));
    }

    /// Waits until the log, from `begun` on, says what is looked for.
    fn wait(&mut self, what: &str, begun: usize, look: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            if look(self.log.get(begun..).unwrap_or_default()) {
                return;
            }
            assert!(!self.process.has_ended(), "Envoy ended by itself:\n{}", self.process.log_tail());
            assert!(Instant::now() < deadline, "no sign of {what}:\n{}", self.process.log_tail());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends a request and takes what comes of it; the answer is what the upstream and the client got.
fn exchanged(
    mut stream: impl Read + Write,
    socket: &TcpStream,
    server: &Server,
    exchange: &Exchange,
) -> Vec<String> {
    send(&mut stream, socket, &exchange.request, true).expect("a request");
    let answer = answer(&mut stream);
    let reached = server.reached.try_iter().map(|request| format!("upstream: {request}"));
    reached.chain([format!("client: {answer}")]).collect()
}

/// Plays both ends of a connection; the answer is what each of them got.
fn connected(
    mut client: impl Read + Write,
    socket: &TcpStream,
    listener: &TcpListener,
    moves: &[Move],
) -> Vec<String> {
    // TLS says hello first; what reads the name in that hello lets nothing happen before.
    client.flush().expect("a handshake");
    let mut upstream = dialled(listener);
    for step in moves {
        // A filter may have closed the connection before.
        let _sent = match (step.from_client, &mut upstream) {
            (true, upstream) => {
                let sent = moved(&mut client, socket, step);
                let _arrived = upstream.as_ref().map(await_bytes);
                sent
            }
            (false, Some(upstream)) => upstream.try_clone().and_then(|socket| moved(upstream, &socket, step)),
            (false, None) => Ok(()),
        };
    }
    let reached = match &mut upstream {
        Some(upstream) => upstream.try_clone().map(|socket| got(upstream, &socket)).expect("a stream"),
        None => "nobody".to_owned(),
    };
    let answered = got(&mut client, socket);
    drop(client);
    let _gone = socket.shutdown(Shutdown::Both);
    std::thread::sleep(APART);
    // What it has not read would end the connection as a reset does.
    let _rest = upstream.as_mut().map(|upstream| upstream.try_clone().map(|socket| got(upstream, &socket)));
    drop(upstream);
    vec![format!("upstream: {reached}"), format!("client: {answered}")]
}

/// Sends what an end sends next, or its end.
fn moved(from: &mut impl Write, socket: &TcpStream, step: &Move) -> std::io::Result<()> {
    match &step.bytes {
        Some(bytes) => {
            from.write_all(bytes)?;
            from.flush()?;
            await_reader(socket);
        }
        None => {
            socket.shutdown(Shutdown::Write)?;
            std::thread::sleep(APART);
        }
    }
    Ok(())
}

/// Waits for bytes, which a filter may hold back: what was encrypted is not read when it is taken from the socket.
fn await_bytes(stream: &TcpStream) {
    let deadline = Instant::now() + APART;
    while !has_answer(stream) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What an end has got.
fn got(stream: &mut impl Read, socket: &TcpStream) -> String {
    socket.set_nonblocking(false).and_then(|()| socket.set_read_timeout(Some(APART))).expect("a stream");
    let mut bytes = Vec::new();
    let closed = stream.read_to_end(&mut bytes).is_ok();
    super::shown_bytes(&bytes, closed)
}

/// Envoy's connection to the upstream, if it makes one.
fn dialled(listener: &TcpListener) -> Option<TcpStream> {
    listener.set_nonblocking(true).expect("a listener");
    let deadline = Instant::now() + UNREAD;
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Some(stream),
            Err(_) if Instant::now() > deadline => return None,
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Waits until the other end of a connection has read all there is, so that what is sent next is read by itself.
pub(super) fn await_reader(stream: &TcpStream) {
    let (Ok(SocketAddr::V4(here)), Ok(SocketAddr::V4(there))) = (stream.local_addr(), stream.peer_addr())
    else {
        return;
    };
    let shown = |at: SocketAddrV4| format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port());
    let ends = format!("{} {} ", shown(there), shown(here));
    let unread = || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the system's sockets");
        let queues = sockets.lines().find_map(|line| line.split_once(&ends)?.1.split(' ').nth(1));
        queues.is_some_and(|queues| !queues.ends_with(":00000000"))
    };
    let deadline = Instant::now() + UNREAD;
    while unread() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(AFTER_BYTES);
}

/// Which of its plugins an exchange of a scenario passes.
pub(super) fn through(scenario: &Scenario, exchange: &Exchange) -> usize {
    let named = exchange.through.as_ref();
    named.map_or(0, |name| {
        1 + scenario.plugins.iter().position(|(root_id, _)| root_id == name).expect("a plugin of that name")
    })
}

/// The thread that wrote a line.
fn thread(line: &str) -> Option<&str> {
    line.split(['[', ']']).nth(3)
}

fn main_thread(log: &str) -> Option<&str> {
    log.lines().find(|line| line.contains("starting main dispatch loop")).and_then(thread)
}

/// What a probe logged, each line with its thread.
fn said<'log>(log: &'log str, scenario: &Scenario) -> impl Iterator<Item = (Option<&'log str>, &'log str)> {
    let name = &scenario.name;
    let mut marks = Vec::new();
    for plugin in PluginOf::all(scenario) {
        let PluginOf { name: plugin, root_id, .. } = &plugin;
        // A root context's lines do not name the plugin, and those of the VM itself name nothing.
        marks.push(format!("wasm log {plugin} {root_id} {name}: "));
        marks.push(format!("wasm log {root_id} {name}: "));
    }
    if scenario.logs_in_malloc() {
        marks.push("wasm log: ".to_owned());
    }
    log.lines().filter_map(move |line| {
        let said = marks.iter().find_map(|mark| Some(line.split_once(mark)?.1));
        said.map(|said| (thread(line), said))
    })
}

/// What a probe logged: first in Envoy's main thread, where it is tried and has a VM too, then in the worker that serves,
/// or in that which served first and in the other.
fn by_thread(log: &str, scenario: &Scenario) -> Vec<String> {
    let main = main_thread(log);
    let all: Vec<_> = said(log, scenario).collect();
    let first = all.iter().find(|(by, line)| *by != main && line.starts_with("request_headers: "));
    let first = first.and_then(|(by, _)| *by);
    let rank = |by: &Option<&str>| {
        if *by == main {
            0
        } else if !scenario.is(Mark::Workers) || *by == first {
            1
        } else {
            2
        }
    };
    let marks = ["main ", "", "another "];
    let ranks = 0..marks.len();
    let of = |wanted: usize| {
        let lines = all.iter().filter(move |(by, _)| rank(by) == wanted);
        lines.map(move |(_, line)| format!("{}{line}", marks[wanted]))
    };
    ranks.flat_map(of).collect()
}

/// An address on loopback that no other thread and no other process uses while this one runs.
fn own() -> Ipv4Addr {
    static LANES: AtomicU8 = AtomicU8::new(0);
    thread_local! {
        static LANE: u8 = LANES.fetch_add(1, Ordering::Relaxed) % 8;
    }
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + LANE.with(|lane| lane * 16) + (high & 15), middle, low)
}

/// So many ports that nobody listens on.
fn free(count: usize) -> Vec<SocketAddr> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind((own(), 0)).expect("a port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("an address")).collect()
}

fn push(list: &mut Value, value: Value) {
    list.as_array_mut().expect("a list").push(value);
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip(), "port_value": at.port()}})
}

fn kind(kind: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.filters.{kind}")
}

/// A plugin of a scenario, all of which share a VM.
pub(super) struct PluginOf {
    pub(super) name: String,
    pub(super) root_id: String,
    pub(super) configuration: Vec<u8>,
}

impl PluginOf {
    pub(super) fn first(scenario: &Scenario) -> Self {
        let (name, root_id) = (scenario.name.clone(), "root".to_owned());
        Self { name, root_id, configuration: PLUGIN_CONFIGURATION.into() }
    }

    pub(super) fn all(scenario: &Scenario) -> Vec<Self> {
        let others = scenario.plugins.iter().map(|(root_id, configuration)| Self {
            name: format!("{}.{root_id}", scenario.name),
            root_id: root_id.clone(),
            configuration: configuration.clone(),
        });
        std::iter::once(Self::first(scenario)).chain(others).collect()
    }
}

/// The filter of a plugin, as Envoy has it.
fn filter(scenario: &Scenario, plugin: &PluginOf, dir: &Path) -> Value {
    let name = &scenario.name;
    let layer = if scenario.is_tcp() { "network" } else { "http" };
    let string =
        |text: &str| json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text});
    let mut filter = json!({
        "@type": kind(&format!("{layer}.wasm.v3.Wasm")),
        "config": {
            "name": plugin.name,
            "root_id": plugin.root_id,
            "vm_config": {
                "vm_id": name,
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": dir.join(format!("{name}.wasm"))}},
                "configuration": string(VM_CONFIGURATION),
            },
            "configuration": string(&String::from_utf8_lossy(&plugin.configuration)),
        },
    });
    if let Some(policy) = &scenario.policy {
        let interval = format!("{}s", super::RELOAD_INTERVAL.as_secs_f32());
        let config = &mut filter["config"];
        match policy.as_str() {
            "fail_open" => config["fail_open"] = true.into(),
            policy => config["failure_policy"] = format!("FAIL_{}", policy.to_uppercase()).into(),
        }
        config["reload_config"] = json!({"backoff": {"base_interval": interval}});
    }
    filter
}

/// Writes where Envoy looks for the filter of a plugin whose configuration changes; the answer is where that is.
fn discover(scenario: &Scenario, plugin: &PluginOf, dir: &Path) -> PathBuf {
    let (path, new) = (dir.join(format!("{}.json", scenario.name)), dir.join("new.json"));
    let config = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": plugin.name,
        "typed_config": filter(scenario, plugin, dir),
    }]});
    std::fs::write(&new, config.to_string()).expect("a file");
    std::fs::rename(&new, &path).expect("a file");
    path
}

fn listener(scenario: &Scenario, plugin: &PluginOf, at: SocketAddr, dir: &Path) -> Value {
    let name = &plugin.name;
    let wasm = if scenario.changes() {
        json!({"name": name, "config_discovery": {
            "config_source": {"path_config_source": {"path": discover(scenario, plugin, dir)}, "resource_api_version": "V3"},
            "type_urls": [kind("http.wasm.v3.Wasm")],
        }})
    } else {
        json!({"name": "wasm", "typed_config": filter(scenario, plugin, dir)})
    };
    let filters = if scenario.is_tcp() {
        let proxy = json!({
            "@type": kind("network.tcp_proxy.v3.TcpProxy"), "stat_prefix": name, "cluster": scenario.name,
        });
        json!([wasm, {"name": "tcp", "typed_config": proxy}])
    } else {
        json!([{"name": "http", "typed_config": manager(&scenario.name, &wasm)}])
    };
    let mut listener = json!({
        "name": name,
        "traffic_direction": "INBOUND",
        "address": address(at),
        "filter_chains": [{"filters": filters}],
    });
    if scenario.is(Mark::Workers) {
        listener["connection_balance_config"] = json!({"exact_balance": {}});
    }
    if let Some(limit) = scenario.limit {
        listener["per_connection_buffer_limit_bytes"] = limit.into();
    }
    listener
}

/// What reads the name that a client asks for: without it, Envoy does not show it.
fn inspector() -> Value {
    json!({"name": "inspector", "typed_config": {"@type": kind("listener.tls_inspector.v3.TlsInspector")}})
}

fn manager(name: &str, wasm: &Value) -> Value {
    let router = json!({
        "name": "router",
        "typed_config": {"@type": kind("http.router.v3.Router"), "suppress_envoy_headers": true},
    });
    json!({
        "@type": kind("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "generate_request_id": false,
        "http_protocol_options": {"enable_trailers": true},
        "route_config": {"name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"name": "first", "match": {"prefix": "/"}, "route": {"cluster": name}},
        ]}]},
        "http_filters": [wasm, router],
    })
}

fn cluster(name: &str, upstream: SocketAddr) -> Value {
    let host = json!({
        "endpoint": {"address": address(upstream)},
        "metadata": super::upstream_host_metadata(),
    });
    json!({
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
        }},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [host]}]},
    })
}

fn service(scenario: &Scenario) -> Option<Service> {
    let listener = || TcpListener::bind((own(), 0)).expect("a port");
    scenario.calls_grpc().then(|| Service::serve(listener(), &scenario.exchanges))
}

/// The service of a scenario: gRPC is HTTP/2.
fn grpc_cluster(name: &str, service: SocketAddr) -> Value {
    let mut cluster = cluster(&format!("{name}.grpc"), service);
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    cluster
}

/// Sends a message as HTTP/1.1 has it: in chunks if there are any, each when the one before must have arrived.
fn send(
    stream: &mut impl Write,
    socket: &TcpStream,
    message: &Message,
    request: bool,
) -> std::io::Result<()> {
    let first =
        if request { format!("{} HTTP/1.1", message.first) } else { format!("HTTP/1.1 {} x", message.first) };
    let fields = |fields: &Fields| {
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>()
    };
    let framing = match (super::is_chunked(message), request) {
        (true, _) => "transfer-encoding: chunked\r\n",
        (false, true) => "",
        (false, false) => "content-length: 0\r\n",
    };
    stream.write_all(format!("{first}\r\n{}{framing}\r\n", fields(&message.headers)).as_bytes())?;
    if !super::is_chunked(message) {
        return Ok(());
    }
    for chunk in &message.chunks {
        await_reader(socket);
        stream.write_all(&[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())?;
    }
    await_reader(socket);
    // Who has answered already reads no more.
    if request && has_answer(socket) {
        return Ok(());
    }
    stream.write_all(format!("0\r\n{}\r\n", fields(&message.trailers)).as_bytes())
}

/// Whether something has come that nobody has read.
fn has_answer(socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).expect("a socket");
    let answered = socket.peek(&mut [0]).is_ok_and(|count| count > 0);
    socket.set_nonblocking(false).expect("a socket");
    answered
}

/// The headers and the body that come, as one line; headers that say when and by whom are left out.
fn answer(stream: &mut impl Read) -> String {
    match receive(stream) {
        Ok((head, body)) => super::shown(&head, &body),
        Err(error) if error.kind() == ErrorKind::WouldBlock => "nothing".to_owned(),
        Err(_) => "closed".to_owned(),
    }
}

/// The next message on a connection: its head and its body.
fn receive(stream: &mut impl Read) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let body = &bytes[head.len() + 4..];
            if let Some(body) = whole(&head.to_lowercase(), body) {
                return Ok((head.to_owned(), body));
            }
        }
        match stream.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// The body, if all of it is there: what trailers come after it are shown behind a `~`.
fn whole(head: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    if !head.contains("transfer-encoding: chunked") {
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        return bytes.get(..length).map(<[u8]>::to_vec);
    }
    let (mut rest, mut body) = (bytes, Vec::new());
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if length == 0 {
            let text = String::from_utf8_lossy(rest);
            let trailers = if text == "\r\n" { "" } else { text.strip_suffix("\r\n\r\n")? };
            body.extend(
                trailers
                    .split("\r\n")
                    .filter(|line| !line.is_empty())
                    .flat_map(|line| format!("~{line}").into_bytes()),
            );
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

/// A server that answers the requests of a scenario in turn, each on a connection of its own.
struct Server {
    at: SocketAddr,
    reached: Receiver<String>,
}

impl Server {
    fn serve(exchanges: &[Exchange]) -> Self {
        let listener = TcpListener::bind((own(), 0)).expect("a port");
        let at = listener.local_addr().expect("an address");
        let (tell, reached) = channel();
        let responses: Vec<Message> = exchanges
            .iter()
            .flat_map(|exchange| exchange.callouts.iter().chain([&exchange.response]).cloned())
            // To a request that the module answers itself there is none.
            .filter(|response| !response.first.is_empty())
            .collect();
        std::thread::spawn(move || answer_all(&listener, &responses, &tell));
        Self { at, reached }
    }
}

fn answer_all(listener: &TcpListener, responses: &[Message], tell: &Sender<String>) {
    for response in responses {
        let Ok((mut stream, _)) = listener.accept() else { return };
        // A chunk that waits for another would not come by itself.
        stream.set_nodelay(true).expect("a stream");
        let Ok((head, body)) = receive(&mut stream) else { continue };
        let Ok(socket) = stream.try_clone() else { return };
        // Nobody listens once the test has failed.
        if tell.send(super::shown(&head, &body)).is_err()
            || send(&mut stream, &socket, response, false).is_err()
        {
            return;
        }
    }
}
