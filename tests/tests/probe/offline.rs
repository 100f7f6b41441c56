//! The same probes in the sandbox, on connections with the same ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use isthmus::envoy::Version;
use isthmus::sandbox::{
    self, Action, Clusters, Connection, Direction, EnvoyVersion, FailurePolicy, Filter, Headers, HttpOutcome,
    HttpVersion, Level, LogLine, Module, Node, Passed, Plugin, Route, StartError, Vm, Workers,
};

use super::envoy::{Ends, PluginOf, through};
use super::script::{Exchange, Mark, Message, Move, Scenario};
use super::tls::{self, Identities};
use super::{VM_CONFIGURATION, module};

/// What runs a scenario: the VM of one worker, or two workers.
enum Host {
    One(Box<Vm>),
    Two(Workers),
}

impl Host {
    fn start(module: &Module, node: &Node, plugin: Plugin, workers: bool) -> Result<Self, StartError> {
        if workers {
            return module.start_workers(node, plugin, 2).map(Self::Two);
        }
        module.start(node, plugin).map(|vm| Self::One(Box::new(vm)))
    }

    /// The VM that serves, or that of the other worker.
    fn vm(&self, another: bool) -> &Vm {
        match self {
            Self::One(vm) => vm,
            Self::Two(workers) => &workers[usize::from(another)],
        }
    }

    fn configure(&self, configuration: &[u8]) -> Result<(), StartError> {
        match self {
            Self::One(vm) => vm.configure(configuration),
            Self::Two(workers) => workers.configure(configuration),
        }
    }

    fn turn(&self) {
        // A trap is in the lines.
        let _told = match self {
            Self::One(vm) => vm.turn().map(drop),
            Self::Two(workers) => workers.turn(),
        };
    }
}

/// What was logged so far: in the main thread, in the worker that serves, and in the other.
#[derive(Default)]
struct Lines([Vec<String>; 3]);

impl Lines {
    fn take(&mut self, host: &Host) {
        let another = match host {
            Host::One(_) => Vec::new(),
            Host::Two(_) => host.vm(true).take_logs(),
        };
        let taken = [host.vm(false).take_main_logs(), host.vm(false).take_logs(), another];
        for (lines, taken) in self.0.iter_mut().zip(taken) {
            lines.extend(taken.iter().filter_map(said));
        }
    }

    fn refused(&mut self, error: &StartError) {
        self.0[0].extend(error.logs().iter().filter_map(said));
    }

    fn all(self) -> impl Iterator<Item = String> {
        let marks = ["main ", "", "another "];
        let marked = |(mark, lines): (&'static str, Vec<String>)| {
            lines.into_iter().map(move |line| format!("{mark}{line}"))
        };
        marks.into_iter().zip(self.0).flat_map(marked)
    }
}

/// Plays the traffic of a scenario, and collects what its probe logged.
pub(super) fn play(
    scenario: &Scenario,
    version: Version,
    ends: &[Ends],
    identities: Option<&Identities>,
) -> Vec<String> {
    let compiled = Module::compile(&module::bytes(scenario))
        .unwrap_or_else(|error| panic!("{}: {error:?}", scenario.name));
    let mut lines = Lines::default();
    let started = Host::start(
        &compiled,
        &node(scenario, version),
        plugin(scenario, &PluginOf::first(scenario)),
        scenario.is(Mark::Workers),
    );
    let host = match started {
        Ok(host) => host,
        Err(error) => {
            lines.refused(&error);
            return lines.all().collect();
        }
    };
    let others: Vec<Filter<'_>> = PluginOf::all(scenario)
        .iter()
        .skip(1)
        .map(|other| host.vm(false).add(plugin(scenario, other)).expect("a plugin"))
        .collect();
    lines.take(&host);
    let mut outside = Vec::new();
    let mut connections: BTreeMap<SocketAddr, Connection> = BTreeMap::new();
    for (exchange, ends) in scenario.exchanges.iter().zip(ends) {
        let vm = host.vm(exchange.to_another);
        if exchange.eventually {
            vm.advance(super::RELOAD_INTERVAL).expect("nothing that traps");
        }
        let made = || secured(connection(scenario, *ends), scenario, identities);
        let connection = connections.entry(ends.client).or_insert_with(made);
        outside.extend(match (&exchange.connection, &exchange.update) {
            (_, Some(configuration)) => {
                if let Err(error) = host.configure(configuration) {
                    lines.refused(&error);
                }
                Vec::new()
            }
            (Some(moves), None) => connected(vm, scenario, moves, connection),
            (None, None) => {
                let other = through(scenario, exchange).checked_sub(1).map(|nth| others[nth]);
                exchanged((vm, other), scenario, exchange, connection)
            }
        });
        host.turn();
        lines.take(&host);
    }
    // A trap is in the lines, or rather what would have come after it is not.
    let vm = host.vm(false);
    let _ticked = scenario.waits_for().any(|name| name == "tick").then(|| vm.advance(vm.tick_period()));
    lines.take(&host);
    lines.all().chain(outside).collect()
}

fn node(scenario: &Scenario, version: Version) -> Node {
    let node = super::node();
    let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
    Node {
        id: text("id"),
        cluster: text("cluster"),
        metadata: node["metadata"].clone(),
        listener_direction: Direction::Inbound,
        clusters: Clusters::of([scenario.name.clone(), format!("{}.grpc", scenario.name)]),
        envoy: EnvoyVersion { minor: version.minor },
        ..Node::default()
    }
}

fn plugin(scenario: &Scenario, of: &PluginOf) -> Plugin {
    Plugin {
        name: of.name.clone(),
        root_id: of.root_id.clone(),
        vm_id: scenario.name.clone(),
        vm_configuration: VM_CONFIGURATION.into(),
        configuration: of.configuration.clone(),
        failure_policy: policy(scenario),
        ..Plugin::default()
    }
}

/// Plays both ends of a connection; the answer is what each of them got.
fn connected(vm: &Vm, scenario: &Scenario, moves: &[Move], connection: &Connection) -> Vec<String> {
    let stream = vm.connect(connection).expect("a connection");
    let mut dialled = !stream.outcome().closed && stream.outcome().action == Action::Continue;
    let (mut ended, mut closed) = (false, false);
    for step in moves {
        let (bytes, end) = (step.bytes.clone().unwrap_or_default(), step.bytes.is_none());
        let sent = if step.from_client {
            stream.client_sends(bytes, end)
        } else {
            stream.upstream_sends(bytes, end)
        };
        dialled |= sent.is_ok_and(|outcome| !outcome.closed && outcome.action == Action::Continue);
        *(if step.from_client { &mut ended } else { &mut closed }) |= end;
        let _ticked = vm.advance(vm.tick_period());
        dialled |= !stream.outcome().closed && stream.outcome().action == Action::Continue;
    }
    let gone = stream.outcome().closed;
    let upstream =
        if dialled { super::shown_bytes(&stream.to_upstream(), gone || ended) } else { "nobody".to_owned() };
    let client = super::shown_bytes(&stream.to_client(), gone || closed);
    let _ends = [stream.client_sends("", true), stream.upstream_sends("", true)];
    if scenario.is(Mark::Stays) {
        std::mem::forget(stream);
    } else {
        let _ended = stream.finish();
    }
    vec![format!("upstream: {upstream}"), format!("client: {client}")]
}

/// Where nothing is said it is Envoy's, but that a trap is told.
fn policy(scenario: &Scenario) -> FailurePolicy {
    match scenario.policy.as_deref() {
        None => FailurePolicy::Report,
        Some("open") => FailurePolicy::Open,
        Some("fail_open") => FailurePolicy::OpenThroughout,
        Some("closed") => FailurePolicy::Closed,
        Some("reload") => FailurePolicy::Reload { interval: super::RELOAD_INTERVAL },
        Some(other) => panic!("{}: no policy {other}", scenario.name),
    }
}

fn connection(scenario: &Scenario, ends: Ends) -> Connection {
    let mut connection = Connection::new(ends.client, ends.listener)
        .with_upstream_cluster(scenario.name.as_str())
        .with_route(Route { name: "first".to_owned(), virtual_host: "all".to_owned(), ..Route::default() })
        .with_upstream_host_metadata(super::upstream_host_metadata());
    connection.upstream = Some(ends.upstream);
    if scenario.is(Mark::Http2) {
        connection.protocol = HttpVersion::Http2;
    }
    match scenario.limit {
        Some(limit) => connection.with_buffer_limit(usize::try_from(limit).expect("a size")),
        None => connection,
    }
}

/// The same connection, over TLS where the scenario has it so.
fn secured(connection: Connection, scenario: &Scenario, identities: Option<&Identities>) -> Connection {
    match scenario.tls.zip(identities) {
        Some((certified, identities)) => {
            connection.with_tls(identities.session(certified)).with_server_name(tls::SERVER_NAME)
        }
        None => connection,
    }
}

/// Answers the module's own requests; the answer is what they were.
fn called_out(vm: &Vm, exchange: &Exchange) -> Vec<String> {
    let mut got = Vec::new();
    for answer in &exchange.callouts {
        let Some(call) = vm.http_calls().into_iter().next() else { break };
        let passed =
            Passed { body: call.body.clone(), trailers: Some(call.trailers.clone()), ..Passed::default() };
        got.push(format!("upstream: {}", super::shown(&request_head(&call.headers), &body(&passed))));
        let _answered = vm.answer_http(call.token, whole(response(answer), answer));
    }
    let _told = vm.turn();
    got
}

/// Takes an exchange through the filter; the answer is what the upstream and the client got.
fn exchanged(
    (vm, other): (&Vm, Option<Filter<'_>>),
    scenario: &Scenario,
    exchange: &Exchange,
    connection: &Connection,
) -> Vec<String> {
    let request = match scenario.is(Mark::Http2) {
        true => framed(&exchange.request),
        false => whole(request(&exchange.request, scenario.tls.is_some()), &exchange.request),
    };
    let opened = other.map_or_else(
        || vm.http(connection, request.clone()),
        |other| other.http(connection, request.clone()),
    );
    let Ok(stream) = opened else { return vec![REFUSED.to_owned()] };
    let mut got = called_out(vm, exchange);
    got.extend(super::grpc::called(vm, exchange));
    let passed = stream.to_upstream();
    if let Some(headers) = passed.headers.as_ref().filter(|_| passed.ended) {
        got.push(format!("upstream: {}", super::shown(&request_head(headers), &body(&passed))));
    }
    if !passed.ended && stream.to_client().headers.is_none() {
        let nothing = if stream.request() == HttpOutcome::Reset { "closed" } else { "nothing" };
        let _ended = stream.finish();
        got.push(format!("client: {nothing}"));
        return got;
    }
    let Ok(outcome) = stream.respond(whole(response(&exchange.response), &exchange.response)) else {
        got.push(REFUSED.to_owned());
        return got;
    };
    let passed = stream.to_client();
    got.push(match &passed.headers {
        _ if outcome == HttpOutcome::Reset => "client: closed".to_owned(),
        Some(headers) if passed.ended => {
            format!("client: {}", super::shown(&response_head(headers), &body(&passed)))
        }
        Some(_) | None => "client: nothing".to_owned(),
    });
    // A trap is in the lines, or rather what would have come after it is not.
    let _ended = stream.finish();
    got
}

/// What a stream gets whose guest has trapped, where `FAIL_CLOSED` holds.
const REFUSED: &str = "client: 503";

/// A request in HTTP/2, as the client's library orders it: the last frame is the end.
fn framed(message: &Message) -> sandbox::Message {
    let (method, path) = message.first.split_once(' ').expect("a method and a path");
    let host = message.headers.iter().find(|(name, _)| name == "host").map_or("", |(_, host)| host.as_str());
    let mut headers =
        Headers::from([(":method", method), (":scheme", "http"), (":authority", host), (":path", path)]);
    for (name, value) in message.headers.iter().filter(|(name, _)| name != "host" && name != "cookie") {
        headers.add(name, value.as_str());
    }
    // Cookies come one by one, and Envoy puts them together.
    let cookies =
        message.headers.iter().filter(|(name, _)| name == "cookie").map(|(_, cookie)| cookie.as_str());
    let cookies = cookies.collect::<Vec<_>>().join("; ");
    if !cookies.is_empty() {
        headers.add("cookie", cookies);
    }
    headers.add("x-forwarded-proto", "http");
    let whole = message
        .chunks
        .iter()
        .fold(sandbox::Message::new(headers), |whole, chunk| whole.with_body(chunk.as_slice()));
    match message.trailers.is_empty() {
        true => whole,
        false => whole.with_trailers(
            message.trailers.iter().map(|(name, value)| (name, value.as_str())).collect::<Headers>(),
        ),
    }
}

/// The message as the sandbox takes it: in HTTP/1.1 the end comes by itself, after the last chunk.
fn whole(headers: Headers, message: &Message) -> sandbox::Message {
    let mut whole = sandbox::Message::new(headers);
    for chunk in &message.chunks {
        whole = whole.with_body(chunk.as_slice());
    }
    if !message.trailers.is_empty() {
        return whole.with_trailers(
            message.trailers.iter().map(|(name, value)| (name, value.as_str())).collect::<Headers>(),
        );
    }
    if super::is_chunked(message) { whole.with_body("") } else { whole }
}

fn body(passed: &Passed) -> Vec<u8> {
    let trailers = passed.trailers.as_ref().map(fields).unwrap_or_default();
    let trailers = trailers
        .split("\r\n")
        .filter(|line| !line.is_empty())
        .flat_map(|line| format!("~{line}").into_bytes());
    passed.body.iter().copied().chain(trailers).collect()
}

/// A line as Envoy's log at level info has it.
fn said(line: &LogLine) -> Option<String> {
    (line.level >= Level::Info).then(|| line.message.clone())
}

/// The request headers that Envoy makes of a request in HTTP/1.1.
fn request(message: &Message, tls: bool) -> Headers {
    let (method, path) = message.first.split_once(' ').expect("a method and a path");
    let header =
        |name: &str| message.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut headers = Headers::from([
        (":authority", header("host").unwrap_or_default()),
        (":path", path),
        (":method", method),
        (":scheme", if tls { "https" } else { "http" }),
    ]);
    for (name, value) in message.headers.iter().filter(|(name, _)| name != "host") {
        headers.add(name, value.as_str());
    }
    headers.add("x-forwarded-proto", if tls { "https" } else { "http" });
    headers
}

fn response(message: &Message) -> Headers {
    let mut headers = Headers::from([(":status", message.first.as_str())]);
    for (name, value) in &message.headers {
        headers.add(name, value.as_str());
    }
    match super::is_chunked(message) {
        true => headers.add("transfer-encoding", "chunked"),
        false => headers.add("content-length", "0"),
    }
    headers
}

/// A request's headers as HTTP/1.1 has them.
fn request_head(headers: &Headers) -> String {
    let first =
        ["method", "path"].map(|name| headers.text(&format!(":{name}")).unwrap_or_default().to_owned());
    let host = headers.text(":authority").unwrap_or_default();
    format!("{} HTTP/1.1\r\nhost: {host}{}", first.join(" "), fields(headers))
}

fn response_head(headers: &Headers) -> String {
    format!("HTTP/1.1 {} x{}", headers.text(":status").unwrap_or_default(), fields(headers))
}

fn fields(headers: &Headers) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = headers.iter().filter(|(name, _)| !name.starts_with(b":"));
    fields.map(|(name, value)| format!("\r\n{}: {}", text(name), text(value))).collect()
}
