use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use policy::Mesh;
use policy::name::ClusterName;
use serde_json::{Value, json};

use super::clusters::{Clusters, Standing, contexts};
use super::{Common, Exit, Out, Output};
use crate::remote::{self, Change, How, Pair, Reached};

/// `isthmus mesh secrets`
#[derive(Debug, Args)]
pub(super) struct Secrets {
    #[command(flatten)]
    tokens: Tokens,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    deed: Deed,
    /// Take the fields of our objects that others own from them
    #[arg(long, env = "ISTHMUS_FORCE_CONFLICTS")]
    force_conflicts: bool,
    /// Only say what would be made
    #[arg(long, env = "ISTHMUS_DRY_RUN")]
    dry_run: bool,
    #[command(flatten)]
    clusters: Clusters,
}

/// What is done instead of making what is missing.
#[derive(Debug, Args)]
struct Deed {
    /// Make new tokens whatever there is, and take the old ones away once the new ones work
    #[arg(long, conflicts_with = "check")]
    rotate: bool,
    /// Only try the secrets that there are: connect, authenticate, list
    #[arg(long)]
    check: bool,
}

/// How the tokens of remote secrets are made.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Tokens {
    /// Have tokens of remote secrets end after so many hours; `isthmus mesh secrets` renews those past half their life.
    /// By default they last until they are taken away
    #[arg(long, env = "ISTHMUS_TOKEN_LIFETIME", value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=8760))]
    token_lifetime: Option<u64>,
}

/// How long others may take.
#[derive(Debug, Args)]
pub(super) struct Patience {
    /// How many seconds to wait for what others have to do: a token that comes into its Secret, a gateway's address, a pod
    #[arg(long, env = "ISTHMUS_WAIT", value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: u64,
}

impl Patience {
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.wait)
    }
}

impl Tokens {
    /// How secrets are made, if nothing more is said.
    pub(super) fn how(self, force: bool, patience: &Patience) -> How {
        How {
            lifetime: self.token_lifetime.map(|hours| Duration::from_secs(hours * 3600)),
            rotate: false,
            force,
            dry_run: false,
            patience: patience.time(),
            now: super::now(),
        }
    }
}

/// What came of a pair.
struct Told<'m> {
    pair: Pair<'m>,
    result: Result<Came, String>,
}

/// What was found, or done.
#[derive(Clone, Copy)]
enum Came {
    Works,
    Changed(Change),
}

impl Came {
    fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Changed(change) => change.as_str(),
        }
    }
}

impl Secrets {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let Some(mesh) = &project.mesh else { return Ok(Exit::No) };
        let pairs = remote::pairs(mesh);
        let contexts = contexts(mesh);
        let (told, gone) = super::runtime()?.block_on(async {
            let standing = self.clusters.connect_for_mesh(contexts).await?;
            let mut told = Vec::new();
            for pair in pairs {
                told.push(Told { pair, result: self.one(pair, &standing).await });
            }
            Ok::<_, anyhow::Error>((told, self.prune(mesh, &standing).await?))
        })?;
        warn(&told, out);
        report(&told, &gone, common.output, self.dry_run, out);
        let failed = told.iter().filter(|told| told.result.is_err()).count();
        Ok(match failed {
            0 => Exit::Yes,
            _ if self.deed.check => Exit::No,
            failed if failed < told.len() => Exit::Partly,
            _ => Exit::Environment,
        })
    }

    async fn one(&self, pair: Pair<'_>, standing: &Standing) -> Result<Came, String> {
        let of = |name| super::clusters::reached(standing, name);
        let (reader, read) = (of(&pair.reader.name)?, of(&pair.read.name)?);
        let told = |error: remote::RemoteError| crate::text::chain(&error);
        if self.deed.check {
            let given = remote::given(pair, &reader).await.map_err(told)?;
            let given =
                given.ok_or_else(|| "there is no secret: `isthmus mesh secrets` makes it".to_owned())?;
            remote::check(&given, reader.timeout()).await.map_err(told)?;
            return Ok(Came::Works);
        }
        let how = How {
            rotate: self.deed.rotate,
            dry_run: self.dry_run,
            ..self.tokens.how(self.force_conflicts, &self.patience)
        };
        let change = remote::ensure(pair, Reached { reader: &reader, read: &read }, how).await;
        change.map(Came::Changed).map_err(told)
    }

    /// What no control plane needs any more; clusters that cannot be had were told of with their pairs.
    async fn prune(
        &self,
        mesh: &Mesh,
        standing: &Standing,
    ) -> anyhow::Result<BTreeMap<ClusterName, Vec<String>>> {
        let mut gone = BTreeMap::new();
        if self.deed.check {
            return Ok(gone);
        }
        for cluster in mesh.clusters() {
            if let Some(Ok(at)) = standing.get(&cluster.name) {
                let at: &Arc<crate::kube::Cluster> = at;
                let names = remote::prune(mesh, (cluster, at), self.dry_run).await.unwrap_or_default();
                gone.insert(cluster.name.clone(), names);
            }
        }
        Ok(gone)
    }
}

/// An address that means another machine to each who asks.
fn warn(told: &[Told<'_>], out: &mut Out) {
    for Told { pair, .. } in told {
        if let Some(server) = pair.read.api_server.as_ref().filter(|server| remote::is_loopback(server)) {
            out.say(&format!(
                "warning: the API server of {} is said to be at {server}, which inside a pod of {} is the pod itself",
                pair.read.name, pair.reader.name
            ));
        }
    }
}

fn report(
    told: &[Told<'_>],
    gone: &BTreeMap<ClusterName, Vec<String>>,
    output: Output,
    dry_run: bool,
    out: &mut Out,
) {
    if output == Output::Json {
        let item = |Told { pair, result }: &Told<'_>| {
            json!({
                "reader": pair.reader.name.as_str(), "read": pair.read.name.as_str(),
                "result": result.as_ref().ok().map(|came| came.as_str()), "error": result.as_ref().err(),
            })
        };
        let items: Vec<Value> = told.iter().map(item).collect();
        let version = policy::API_VERSION;
        out.json(&json!({"apiVersion": version, "kind": "RemoteSecrets", "dryRun": dry_run, "items": items, "removed": gone}));
        return;
    }
    let would = if dry_run { "would be " } else { "" };
    for Told { pair, result } in told {
        let (reader, read) = (&pair.reader.name, &pair.read.name);
        match result {
            Ok(Came::Works) => out.print(&format!("{reader} reads {read}: works")),
            Ok(came) => out.print(&format!("{reader} reads {read}: {would}{}", came.as_str())),
            Err(why) => out.say(&format!("error: {reader} does not read {read}: {why}")),
        }
    }
    for (cluster, names) in gone {
        names.iter().for_each(|name| out.print(&format!("{cluster}: Secret {name}: {would}removed")));
    }
}
