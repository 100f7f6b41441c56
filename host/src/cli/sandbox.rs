//! Any proxy-wasm module, run by hand.

mod attributes;
mod told;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::{Common, Exit, Out, Output};
use crate::sandbox::{Headers, HttpOutcome, Message, Module, Plugin, StartError};
use attributes::{Attribute, Known};
use told::Told;

/// `isthmus sandbox`
#[derive(Debug, Subcommand)]
pub(super) enum SandboxVerb {
    /// Send one request through a module, and say what it made of it: headers, reply, log, metrics
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
        let plugin =
            Plugin { root_id: self.root_id.clone(), configuration: given.configuration, ..Plugin::default() };
        let vm = match module.start(&given.known.node, plugin) {
            Ok(vm) => vm,
            Err(error) => return Ok(refused(&error, out)),
        };
        if self.trace {
            vm.record();
        }
        let mut told = Told::default();
        match vm.http(&given.known.connection(), given.request) {
            Err(trapped) => told.trap(&trapped),
            Ok(stream) => {
                let outcome = stream.request();
                told.request(&outcome, stream.to_upstream());
                if let HttpOutcome::Continue(_) = outcome {
                    match stream.respond(given.response) {
                        Ok(outcome) => told.response(&outcome, stream.to_client()),
                        Err(trapped) => told.trap(&trapped),
                    }
                }
                match stream.finish() {
                    Ok(ended) => told.ended(ended),
                    Err(trapped) => told.trap(&trapped),
                }
            }
        }
        told.vm(&vm);
        match common.output {
            Output::Json => out.json(&told.json()),
            Output::Text | Output::Junit | Output::Short => out.print(told.text().trim_end()),
        }
        Ok(if told.has_trapped() { Exit::No } else { Exit::Yes })
    }

    fn given(&self) -> anyhow::Result<Given> {
        let (method, path) = self
            .request
            .split_once(' ')
            .with_context(|| format!("--request {:?} is not METHOD PATH, such as 'GET /'", self.request))?;
        let mut headers = Headers::from([(":method", method), (":path", path), (":scheme", "http")]);
        add(&mut headers, &self.headers, "-H")?;
        if headers.text(":authority").is_none() {
            headers.add(":authority", "localhost");
        }
        let status = self.response.to_string();
        let mut answer = Headers::from([(":status", status.as_str())]);
        add(&mut answer, &self.response_header, "--response-header")?;
        let mut known = Known::nothing();
        for attribute in &self.attribute {
            attribute.set(&mut known)?;
        }
        Ok(Given {
            request: message(headers, self.body.as_deref())?,
            response: message(answer, self.response_body.as_deref())?,
            configuration: self.config.as_deref().map(bytes).transpose()?.unwrap_or_default(),
            known,
        })
    }
}

/// What Envoy would hand to the module.
struct Given {
    request: Message,
    response: Message,
    configuration: Vec<u8>,
    known: Known,
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
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    out.say(&causes.fold(format!("error: {error}"), |said, cause| format!("{said}: {cause}")));
    for line in error.logs() {
        out.say(&format!("  {:?}: {}", line.level, line.message));
    }
    Exit::No
}
