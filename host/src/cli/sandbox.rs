//! Any proxy-wasm module, run by hand.

mod attributes;
mod connected;
mod script;
mod told;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::{Common, Exit, Out, Output};
use crate::sandbox::{Headers, HttpOutcome, Message, Module, Plugin, StartError, Vm};
use crate::text::chain;
use attributes::{Attribute, Known};
use connected::Connected;
use script::{Request, Step};
use told::Told;

/// `isthmus sandbox`
#[derive(Debug, Subcommand)]
pub(super) enum SandboxVerb {
    /// Send a request, several or a TCP connection through a module, and say what it made of it: headers, reply, log, metrics
    Run(Run),
}

/// `isthmus sandbox run`: what Envoy would give the module is given by flags.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The module
    #[arg(value_name = "MODULE")]
    module: PathBuf,
    /// The method and the path
    #[arg(long, value_name = "METHOD PATH", default_value = "GET /")]
    request: String,
    /// A header of the request, :authority among them; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body of the request; @FILE reads it from there
    #[arg(long, value_name = "TEXT|@FILE")]
    body: Option<String>,
    /// The status that the upstream answers with
    #[arg(long, value_name = "STATUS", default_value = "200")]
    response: u16,
    /// A header of the upstream's answer; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    response_header: Vec<String>,
    /// The body of the upstream's answer; @FILE reads it from there
    #[arg(long, value_name = "TEXT|@FILE")]
    response_body: Option<String>,
    /// Several requests in turn, in the place of one: a YAML list whose items have `request` and, in the words of these
    /// flags, `headers`, `body`, `response`, `responseHeaders` and `responseBody`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["request", "headers", "body", "response", "response_header", "response_body"])]
    requests: Option<PathBuf>,
    /// A TCP connection in the place of a request: a YAML list of what its two ends send, `client: TEXT` or
    /// `upstream: TEXT`, with `end: true` where that is the last of it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["requests", "request", "headers", "body", "response", "response_header", "response_body"])]
    connection: Option<PathBuf>,
    /// The plugin's configuration; @FILE reads it from there
    #[arg(long, value_name = "TEXT|@FILE")]
    config: Option<String>,
    /// The root id of the plugin
    #[arg(long, value_name = "ID", default_value = "")]
    root_id: String,
    /// What the proxy knows, such as source.address=192.0.2.7:1234 or xds.node.metadata.NAMESPACE=shop; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    attribute: Vec<Attribute>,
    /// Name each callback with its hostcalls, and what they answered
    #[arg(long)]
    trace: bool,
}

impl SandboxVerb {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        match self {
            Self::Run(verb) => verb.run(common, out),
        }
    }
}

impl Run {
    fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let given = match self.given() {
            Ok(given) => given,
            Err(error) => {
                out.say(&format!("error: {error:#}"));
                return Ok(Exit::Usage);
            }
        };
        let wasm = match std::fs::read(&self.module) {
            Ok(wasm) => wasm,
            Err(error) => {
                out.say(&format!("error: cannot read {}: {error}", self.module.display()));
                return Ok(Exit::Usage);
            }
        };
        let module = Module::compile(&wasm)?;
        let plugin = Plugin {
            root_id: self.root_id.clone(),
            configuration: given.configuration.clone(),
            ..Plugin::default()
        };
        let vm = match module.start(&given.known.node, plugin) {
            Ok(vm) => vm,
            Err(error) => return Ok(refused(&error, out)),
        };
        if self.trace {
            vm.record();
        }
        let mut all = self.play(&vm, &given);
        if let Some(last) = all.last_mut() {
            last.metrics(&vm);
        }
        match common.output {
            Output::Json if self.requests.is_some() => out.json(&told::several(&all)),
            Output::Json => all.iter().for_each(|told| out.json(&told.json())),
            Output::Text | Output::Junit | Output::Short => {
                all.iter().for_each(|told| out.print(told.text().trim_end()));
            }
        }
        Ok(if all.iter().any(Told::has_trapped) { Exit::No } else { Exit::Yes })
    }

    /// Sends what is given; what comes after a trap is not sent.
    fn play(&self, vm: &Vm, given: &Given) -> Vec<Told> {
        let exchanges = match &given.traffic {
            Traffic::Requests(exchanges) => exchanges,
            Traffic::Connection(steps) => {
                let mut told = Told::default();
                connect(vm, &given.known, steps, &mut told);
                told.vm(vm);
                return vec![told];
            }
        };
        let mut all = Vec::new();
        for exchange in exchanges {
            let mut told = exchange.title.as_deref().map(Told::titled).unwrap_or_default();
            send(vm, &given.known, exchange, &mut told);
            told.vm(vm);
            let over = told.has_trapped();
            all.push(told);
            if over {
                break;
            }
        }
        all
    }

    fn given(&self) -> anyhow::Result<Given> {
        let mut known = Known::nothing();
        for attribute in &self.attribute {
            attribute.set(&mut known)?;
        }
        let titled = |one: &Request| exchange(one, Some(one.request.clone()));
        let traffic = match (&self.connection, &self.requests) {
            (Some(path), _) => Traffic::Connection(script::steps(path)?),
            (None, Some(path)) => {
                Traffic::Requests(script::requests(path)?.iter().map(titled).collect::<Result<_, _>>()?)
            }
            (None, None) => Traffic::Requests(vec![exchange(&self.alone(), None)?]),
        };
        Ok(Given {
            traffic,
            configuration: self.config.as_deref().map(bytes).transpose()?.unwrap_or_default(),
            known,
        })
    }

    /// The request that the flags say.
    fn alone(&self) -> Request {
        Request {
            request: self.request.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            response: Some(self.response),
            response_headers: self.response_header.clone(),
            response_body: self.response_body.clone(),
        }
    }
}

fn send(vm: &Vm, known: &Known, exchange: &Exchange, told: &mut Told) {
    let stream = match vm.http(&known.connection(), exchange.request.clone()) {
        Ok(stream) => stream,
        Err(trapped) => return told.trap(&trapped),
    };
    let outcome = stream.request();
    told.request(&outcome, stream.to_upstream());
    if let HttpOutcome::Continue(_) = outcome {
        match stream.respond(exchange.response.clone()) {
            Ok(outcome) => told.response(&outcome, stream.to_client()),
            Err(trapped) => told.trap(&trapped),
        }
    }
    match stream.finish() {
        Ok(ended) => told.ended(&ended),
        Err(trapped) => told.trap(&trapped),
    }
}

fn connect(vm: &Vm, known: &Known, steps: &[Step], told: &mut Told) {
    let stream = match vm.connect(&known.connection()) {
        Ok(stream) => stream,
        Err(trapped) => return told.trap(&trapped),
    };
    let mut connected = Connected::default();
    let played = connected.play(&stream, steps);
    told.connection(connected);
    match played.and_then(|()| stream.finish()) {
        Ok(ended) => told.ended(&ended),
        Err(trapped) => told.trap(&trapped),
    }
}

/// What Envoy would hand to the module.
struct Given {
    traffic: Traffic,
    configuration: Vec<u8>,
    known: Known,
}

/// What comes through it.
enum Traffic {
    Requests(Vec<Exchange>),
    Connection(Vec<Step>),
}

/// A request, and what the upstream answers.
struct Exchange {
    title: Option<String>,
    request: Message,
    response: Message,
}

fn exchange(said: &Request, title: Option<String>) -> anyhow::Result<Exchange> {
    let (method, path) = said
        .request
        .split_once(' ')
        .with_context(|| format!("--request {:?} is not METHOD PATH, such as 'GET /'", said.request))?;
    let mut headers = Headers::from([(":method", method), (":path", path), (":scheme", "http")]);
    add(&mut headers, &said.headers, "-H")?;
    if headers.text(":authority").is_none() {
        headers.add(":authority", "localhost");
    }
    let status = said.response.unwrap_or(200).to_string();
    let mut answer = Headers::from([(":status", status.as_str())]);
    add(&mut answer, &said.response_headers, "--response-header")?;
    let (request, response) =
        (message(headers, said.body.as_deref())?, message(answer, said.response_body.as_deref())?);
    Ok(Exchange { title, request, response })
}

fn add(headers: &mut Headers, said: &[String], flag: &str) -> anyhow::Result<()> {
    for header in said {
        // The name of a pseudo-header begins with a colon of its own.
        let colon = header.char_indices().skip(1).find(|(_, c)| *c == ':').map(|(at, _)| at);
        let Some((name, value)) = colon.and_then(|at| header.split_at_checked(at)) else {
            bail!("{flag} {header:?} is not NAME: VALUE");
        };
        let value = value.strip_prefix(':').unwrap_or(value);
        headers.add(name.trim(), value.trim());
    }
    Ok(())
}

fn message(headers: Headers, body: Option<&str>) -> anyhow::Result<Message> {
    let message = Message::new(headers);
    Ok(match body {
        Some(body) => message.with_body(bytes(body)?),
        None => message,
    })
}

/// A text, or what stands in the file that it names after an @.
fn bytes(said: &str) -> anyhow::Result<Vec<u8>> {
    match said.strip_prefix('@') {
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {path}")),
        None => Ok(said.as_bytes().to_vec()),
    }
}

/// A plugin that does not start, and what it logged until then.
fn refused(error: &StartError, out: &mut Out) -> Exit {
    out.say(&format!("error: {}", chain(error)));
    for line in error.logs() {
        out.say(&format!("  {:?}: {}", line.level, line.message));
    }
    Exit::No
}
