use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use policy::Mesh;
use serde_json::{Value, json};

use super::clusters::{self, Clusters};
use super::{Common, Exit, Out, Output};
use crate::envoy::Envoy;
use crate::kube::ClusterError;
use crate::lab::Site;
use crate::read::Project;
use crate::stage::Stage;
use crate::verify::reach::CODE;
use crate::verify::{self, Outcome, Standing, Way, What};
use crate::workspace::Workspace;

/// `isthmus verify`
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The image of the service: Istio's sample, which answers with its version
    #[arg(long, env = "ISTHMUS_SERVICE_IMAGE", default_value = "docker.io/istio/examples-helloworld-v1:1.0")]
    service_image: String,
    /// The image of the caller: it has a shell and curl
    #[arg(long, env = "ISTHMUS_CALLER_IMAGE", default_value = "docker.io/curlimages/curl:8.11.1")]
    caller_image: String,
    /// How many requests each cluster sends
    #[arg(long, env = "ISTHMUS_REQUESTS", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    requests: u32,
    /// How many seconds pods may take to start, and again to call
    #[arg(long, env = "ISTHMUS_WAIT", value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: u64,
    /// Leave what ran, to be looked at
    #[arg(long)]
    keep: bool,
    /// Prove it here, between real Envoys that play the clusters, with the filters of these policies in them
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = ".isthmus/verify", conflicts_with = "keep")]
    lab: Option<PathBuf>,
    /// The module for that; by default wasm/isthmus.wasm
    #[arg(long, env = "ISTHMUS_MODULE", value_name = "FILE")]
    module: Option<PathBuf>,
    #[command(flatten)]
    clusters: Clusters,
}

impl Verify {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let Some(mesh) = &project.mesh else { return Ok(Exit::No) };
        if let Some(directory) = &self.lab {
            let outcomes = super::runtime()?.block_on(self.in_lab(&project, mesh, directory))?;
            report(&outcomes, common.output, out);
            return Ok(if outcomes.iter().all(Outcome::is_proven) { Exit::Yes } else { Exit::No });
        }
        let what = What {
            service: self.service_image.clone(),
            caller: self.caller_image.clone(),
            requests: self.requests,
            patience: Duration::from_secs(self.wait),
            parallel: self.clusters.parallel,
        };
        let outcomes = super::runtime()?.block_on(self.in_clusters(mesh, &what))?;
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(left) => {
                out.say(if self.keep {
                    "interrupted: what ran is left"
                } else {
                    "interrupted: what ran is taken away"
                });
                for left in left {
                    out.say(&format!("error: namespace {} is left: {left}", verify::NAMESPACE));
                }
                return Ok(Exit::Environment);
            }
        };
        report(&outcomes, common.output, out);
        let proven = outcomes.iter().all(Outcome::is_proven);
        let known = outcomes.iter().filter(|outcome| outcome.answers.is_ok()).count();
        Ok(match known {
            _ if proven => Exit::Yes,
            0 => Exit::Environment,
            known if known < outcomes.len() => Exit::Partly,
            _ => Exit::No,
        })
    }
}

impl Verify {
    /// Runs the proof until it is over or we are told to end; then what ran goes, and what could not is told.
    async fn in_clusters(
        &self,
        mesh: &Mesh,
        what: &What,
    ) -> anyhow::Result<Result<Vec<Outcome>, Vec<ClusterError>>> {
        let reached = self.clusters.connect_for_mesh(clusters::contexts(mesh)).await?;
        let one = |cluster: &policy::mesh::Cluster| {
            (cluster.name.clone(), clusters::reached(&reached, &cluster.name))
        };
        let standing: Standing = mesh.clusters().map(one).collect();
        tokio::select! {
            outcomes = verify::verify(mesh, &standing, what, self.keep) => return Ok(Ok(outcomes)),
            () = super::lab::interrupted() => {}
        }
        if self.keep {
            return Ok(Err(Vec::new()));
        }
        Ok(Err(verify::take_all(&standing, what.parallel).await))
    }

    /// Brings a lab up, has its clusters call each other, and brings it down.
    async fn in_lab(&self, project: &Project, mesh: &Mesh, directory: &Path) -> anyhow::Result<Vec<Outcome>> {
        let envoy = Envoy::find(&Workspace::here()?)?;
        let module = super::module(self.module.clone())?;
        let site = Site::claim(verify::lab::blueprint(mesh), directory)?;
        let stage = Stage::set(mesh, &site, &module)?;
        stage.give_token_keys(&site, &project.file.with_file_name("certs").join("tokens"))?;
        stage.roll_out(&project.policies)?;
        let lab = site.up(envoy.path(), super::now()).await?;
        let outcomes = verify::lab::verify(mesh, &lab, self.requests).await;
        lab.down().await?;
        Ok(outcomes?)
    }
}

fn report(outcomes: &[Outcome], output: Output, out: &mut Out) {
    if output == Output::Json {
        let items: Vec<Value> = outcomes.iter().map(json).collect();
        out.json(&json!({"apiVersion": policy::API_VERSION, "kind": "Verification", "items": items}));
        return;
    }
    for outcome @ Outcome { cluster, expected, answers, ways, left } in outcomes {
        match answers {
            Ok(answers) => {
                let by = |(name, count): (&String, &u32)| {
                    if name == "-" {
                        format!("{count} answered by nobody")
                    } else {
                        format!("{count} by {name}")
                    }
                };
                let told: Vec<String> = answers.iter().map(by).collect();
                let told = if told.is_empty() { "nothing was counted".to_owned() } else { told.join(", ") };
                let missing: Vec<&str> = expected
                    .iter()
                    .map(policy::name::ClusterName::as_str)
                    .filter(|name| !answers.contains_key(*name))
                    .collect();
                let word = if outcome.is_proven() { "ok" } else { "no" };
                out.print(&format!("{word} from {cluster}: {told}"));
                if !missing.is_empty() {
                    let missing = missing.join(", ");
                    out.print(&format!(
                        "   {missing} should have answered: `isthmus doctor --probe` looks for why"
                    ));
                }
            }
            Err(why) => out.say(&format!("error: {cluster}: {why}")),
        }
        match ways {
            Ok(ways) => ways.iter().filter_map(Way::failure).for_each(|(message, hint)| {
                out.print(&format!("   {message} [{CODE}]\n   hint: {hint}"));
            }),
            Err(why) => out.say(&format!("error: {cluster}: {why}")),
        }
        if let Some(left) = left {
            out.say(&format!("error: {cluster}: namespace {} is left: {left}", verify::NAMESPACE));
        }
    }
}

fn json(outcome: &Outcome) -> Value {
    json!({
        "cluster": outcome.cluster.as_str(),
        "expected": outcome.expected.iter().map(policy::name::ClusterName::as_str).collect::<Vec<_>>(),
        "answers": outcome.answers.as_ref().ok(),
        "pods": outcome.ways.as_ref().ok().map(|ways| ways.iter().map(way).collect::<Vec<_>>()),
        "proven": outcome.is_proven(),
        "error": outcome.answers.as_ref().err().or(outcome.ways.as_ref().err()).map(ToString::to_string),
        "left": outcome.left.as_ref().map(ToString::to_string),
    })
}

fn way(way: &Way) -> Value {
    let failure = way.failure();
    json!({
        "to": way.to.as_str(),
        "address": way.address.to_string(),
        "reached": failure.is_none(),
        "code": failure.as_ref().map(|_| CODE.to_string()),
        "message": failure.as_ref().map(|(message, _)| message),
        "hint": failure.as_ref().map(|(_, hint)| hint),
    })
}
