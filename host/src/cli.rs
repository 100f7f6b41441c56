//! The command line: one struct for each verb, and what an exit code means.

mod build;
mod certs;
mod check;
mod clusters;
mod demo;
mod diff;
mod doctor;
mod explain;
mod lab;
mod mesh_apply;
mod mesh_delete;
mod mesh_render;
mod mesh_secrets;
mod out;
mod page;
mod push;
mod registry;
mod rollout;
mod rotate;
mod sandbox;
mod setup;
mod status;
mod test;
mod token_key;
mod trust;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::read::{Project, ReadError};
use crate::render;
use crate::workspace::Workspace;
use out::Out;

/// What a run came to, as its exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Yes.
    Yes = 0,
    /// No: findings, failed cases, differences.
    No = 1,
    /// Usage, or input that could not be read.
    Usage = 2,
    /// The environment failed: a toolchain, an Envoy, a cluster.
    Environment = 3,
    /// Some clusters are done, and some are not.
    Partly = 4,
    /// Somebody else is at it.
    Busy = 5,
}

/// Proves which cluster a request comes from, and holds what may cross between the clusters of an Istio mesh.
#[derive(Debug, Parser)]
#[command(name = "isthmus", version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
struct Common {
    /// The mesh: a mesh.yaml, or a directory with one; by default the nearest one upwards from here
    #[arg(short, long, global = true, env = "ISTHMUS_FILE", value_name = "FILE|DIR")]
    file: Option<PathBuf>,
    /// How results are written
    #[arg(short, long, global = true, env = "ISTHMUS_OUTPUT", default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
    /// For CI: the report of `test`
    Junit,
    /// Only what is wrong, a line each: the report of `doctor`
    Short,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find or fetch what the other verbs need here: what compiles the filter, and an Envoy
    Setup(setup::Setup),
    /// Say what is wrong in the mesh and its policies
    Check(check::Check),
    /// Compile the filter, check it, write wasm/
    Build(build::Build),
    /// Run cases through the real module, offline
    Test(test::Test),
    /// Walk one request through the plans and say why each step decides as it does; or say what a finding means
    Explain(explain::Explain),
    /// What a mesh of several clusters needs
    #[command(subcommand)]
    Mesh(MeshVerb),
    /// Say what is wrong in a mesh that exists
    Doctor(doctor::Doctor),
    /// Bring the module to a registry, as an image that Istio fetches, and read it again
    Push(push::Push),
    /// Prove that the mesh is one: run a service in every cluster, call it from each, and count which clusters answer
    Verify(verify::Verify),
    /// Show what a rollout would change in each cluster, in meaning and as YAML; exit code 1 if it is anything
    Diff(diff::Diff),
    /// Bring the plans to every cluster, in waves
    Rollout(rollout::Rollout),
    /// Say what every cluster should have, has, and runs; exit code 1 if that is not the same
    Status(status::ShowStatus),
    /// Real Envoys on this machine that play the clusters
    #[command(subcommand)]
    Lab(lab::LabVerb),
    /// Any proxy-wasm module, in wasmtime
    #[command(subcommand)]
    Sandbox(sandbox::SandboxVerb),
    /// The whole story on this machine
    Demo(demo::Demo),
}

#[derive(Debug, Subcommand)]
enum MeshVerb {
    /// Make the root CA and an intermediate for each cluster
    Certs(certs::Certs),
    /// Change an intermediate, or the root without breaking trust
    #[command(subcommand)]
    Rotate(rotate::Rotate),
    /// Say of each pair of clusters whether one accepts the workloads of the other, and why not
    Trust(trust::Trust),
    /// Render what every cluster needs: Istio, its gateways, what they expose, and names
    Render(mesh_render::MeshRender),
    /// Bring every cluster what it needs, and wait until it is there: CAs, Istio, gateways, remote secrets, names
    Apply(mesh_apply::MeshApply),
    /// Take away what `apply` has made, and nothing else
    Delete(mesh_delete::MeshDelete),
    /// Have each control plane read the API servers of the clusters that it knows services of: make, renew, rotate and check
    /// its remote secrets
    Secrets(mesh_secrets::Secrets),
    /// Make the key that a cluster's sidecars sign tokens with
    TokenKey(token_key::MakeTokenKey),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            return match error.print() {
                Ok(()) if !usage => ExitCode::SUCCESS,
                Ok(()) | Err(_) => ExitCode::from(Exit::Usage as u8),
            };
        }
    };
    let mut out = Out::new();
    let exit = match run(cli, &mut out) {
        Ok(exit) => exit,
        Err(error) => {
            out.say(&format!("error: {error:#}"));
            if error.is::<ReadError>() { Exit::Usage } else { Exit::Environment }
        }
    };
    ExitCode::from(exit as u8)
}

/// Every verb with its flags, as `docs/cli.md` has them.
pub fn reference() -> String {
    let mut out = "# The command line\n\nWhat `isthmus VERB --help` says. Results go to stdout, all else to stderr. Exit codes: 0 yes; 1 no \
                   (findings, failed cases);\n2 usage, or input that could not be read; 3 the environment failed (toolchain, Envoy, clusters, files);\n4 some clusters are done and some not; 5 another rollout is at work.\n"
        .to_owned();
    let mut command = Cli::command().term_width(110);
    command.build();
    describe(&mut command, &mut out);
    out
}

fn describe(command: &mut clap::Command, out: &mut String) {
    let name = command.get_bin_name().unwrap_or("isthmus").to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    out.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.join("\n")));
    for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        describe(verb, out);
    }
}

fn run(cli: Cli, out: &mut Out) -> anyhow::Result<Exit> {
    let common = cli.common;
    let elsewhere = match common.output {
        Output::Junit if !matches!(cli.verb, Verb::Test(_)) => Some(("junit", "test")),
        Output::Short if !matches!(cli.verb, Verb::Doctor(_)) => Some(("short", "doctor")),
        Output::Text | Output::Json | Output::Junit | Output::Short => None,
    };
    if let Some((output, verb)) = elsewhere {
        out.say(&format!("error: -o {output} is for `isthmus {verb}`: write -o text or -o json here"));
        return Ok(Exit::Usage);
    }
    match cli.verb {
        Verb::Setup(verb) => verb.run(out),
        Verb::Check(verb) => verb.run(&common, out),
        Verb::Build(verb) => verb.run(&common, out),
        Verb::Test(verb) => verb.run(&common, out),
        Verb::Explain(verb) => verb.run(&common, out),
        Verb::Mesh(MeshVerb::Certs(verb)) => verb.run(&common, out),
        Verb::Mesh(MeshVerb::Rotate(verb)) => verb.run(&common, out),
        Verb::Mesh(MeshVerb::Trust(verb)) => verb.run(&common, out),
        Verb::Mesh(MeshVerb::Render(verb)) => verb.run(&common, out),
        Verb::Mesh(MeshVerb::Apply(verb)) => verb.run(&common, out),
        Verb::Mesh(MeshVerb::Delete(verb)) => verb.run(&common, out),
        Verb::Mesh(MeshVerb::Secrets(verb)) => verb.run(&common, out),
        Verb::Mesh(MeshVerb::TokenKey(verb)) => verb.run(&common, out),
        Verb::Doctor(verb) => verb.run(&common, out),
        Verb::Push(verb) => verb.run(&common, out),
        Verb::Verify(verb) => verb.run(&common, out),
        Verb::Diff(verb) => verb.run(&common, out),
        Verb::Rollout(verb) => verb.run(&common, out),
        Verb::Status(verb) => verb.run(&common, out),
        Verb::Lab(verb) => verb.run(&common, out),
        Verb::Sandbox(verb) => verb.run(&common, out),
        Verb::Demo(verb) => verb.run(out),
    }
}

impl Common {
    /// Reads the mesh and its policies.
    fn project(&self) -> anyhow::Result<Project> {
        Ok(Project::read(self.file.as_deref(), &std::env::current_dir()?)?)
    }

    /// Reads the mesh and its policies; findings that stand in the way are printed, and `None`.
    fn sound_project(&self, out: &mut Out) -> anyhow::Result<Option<Project>> {
        let project = self.project()?;
        if project.plans.is_none() {
            out.say(&render::findings(&project.findings, &project.sources));
            out.say(&format!("{}: {}", project.file.display(), render::summary(&project.findings)));
            return Ok(None);
        }
        Ok(Some(project))
    }
}

/// The module that `isthmus build` writes, or the one that is named.
fn module(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    Ok(match named {
        Some(path) => path,
        None => Workspace::here()?.wasm().join("isthmus.wasm"),
    })
}

/// The runtime of the verbs that wait for processes and sockets.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// The wall clock, read here and handed on as a value.
#[expect(clippy::disallowed_methods, reason = "the edge: from here on time is a value")]
fn now() -> time::OffsetDateTime {
    std::time::SystemTime::now().into()
}
