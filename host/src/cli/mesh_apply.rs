use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use policy::Mesh;
use policy::mesh::Cluster;
use policy::name::ClusterName;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::certs::{Ca, SecretForm, directory};
use super::clusters::{self, Clusters};
use super::mesh_render::Rendering;
use super::mesh_secrets::{Patience, Tokens};
use super::{Common, Exit, Out, Output};
use crate::cert;
use crate::install::{self, Change, DryRun, How, Outcome, Programs, Standing, Wanted};
use crate::kube::{Id, Kind};
use crate::manifest::addresses::{self, Book};
use crate::manifest::{self, ISTIO_NAMESPACE, Manifest};
use crate::read::Project;

/// `isthmus mesh apply`
#[derive(Debug, Args)]
pub(super) struct MeshApply {
    #[command(flatten)]
    pub(super) making: Making,
    #[command(flatten)]
    tokens: Tokens,
    /// Only say what would be made: `client` looks at what is there, `server` also has API servers check it
    #[arg(long, env = "ISTHMUS_DRY_RUN", value_name = "WHERE", num_args = 0..=1, default_missing_value = "client")]
    dry_run: Option<Where>,
    /// Put the CAs that lie here into the clusters also where workloads refuse each other until they are restarted
    #[arg(long)]
    replace_ca: bool,
}

/// What a mesh is made of and with, and how its clusters are reached.
#[derive(Debug, Args)]
pub(super) struct Making {
    /// Where the CA lies; by default certs/ beside mesh.yaml
    #[arg(long, env = "ISTHMUS_CERTS", value_name = "DIR")]
    certs: Option<PathBuf>,
    /// The form of the Secrets `cacerts`
    #[arg(long, default_value = "files")]
    secret_form: SecretForm,
    /// The istioctl that installs Istio, where mesh.yaml says so; by default the one on the PATH
    #[arg(long, env = "ISTHMUS_ISTIOCTL", value_name = "FILE")]
    istioctl: Option<PathBuf>,
    /// The helm that installs Istio, where mesh.yaml says so; by default the one on the PATH
    #[arg(long, env = "ISTHMUS_HELM", value_name = "FILE")]
    helm: Option<PathBuf>,
    /// Leave installing Istio and its gateways to others, such as GitOps, and only wait for them
    #[arg(long, env = "ISTHMUS_SKIP_INSTALL")]
    skip_install: bool,
    /// Take the fields of our objects that others own from them
    #[arg(long, env = "ISTHMUS_FORCE_CONFLICTS")]
    force_conflicts: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    rendering: Rendering,
    #[command(flatten)]
    clusters: Clusters,
}

/// Who says what would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Where {
    /// Here
    Client,
    /// In the API servers
    Server,
}

impl Where {
    pub(super) fn dry_run(wanted: Option<Self>) -> DryRun {
        match wanted {
            None => DryRun::No,
            Some(Self::Client) => DryRun::Client,
            Some(Self::Server) => DryRun::Server,
        }
    }
}

impl MeshApply {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let dry_run = Where::dry_run(self.dry_run);
        let deed = Deed { word: "MeshApplied", dry_run, replace_ca: self.replace_ca };
        self.making.run(&project, (self.tokens, deed), (common.output, out), |wanted, standing, how| {
            Box::pin(install::apply(wanted, standing, how))
        })
    }
}

/// What is done, as its report says it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    pub(super) word: &'static str,
    pub(super) dry_run: DryRun,
    pub(super) replace_ca: bool,
}

/// The work itself, which a verb hands in.
type Working<'w> = std::pin::Pin<Box<dyn Future<Output = Vec<Outcome>> + 'w>>;

impl Making {
    /// Reads what is wanted and has it done, telling meanwhile what is waited for.
    pub(super) fn run(
        &self,
        project: &Project,
        (tokens, deed): (Tokens, Deed),
        (output, out): (Output, &mut Out),
        work: impl for<'w> Fn(&'w Wanted<'w>, &'w Standing, &'w How) -> Working<'w>,
    ) -> anyhow::Result<Exit> {
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Ok(Exit::No) };
        super::mesh_render::warn_of_version(mesh, out);
        let authorities = self.authorities(project, mesh)?;
        let (tell, told) = unbounded_channel();
        let how = How {
            dry_run: deed.dry_run,
            force: self.force_conflicts,
            patience: self.patience.time(),
            parallel: self.clusters.parallel,
            programs: Programs {
                skip: self.skip_install,
                istioctl: self.istioctl.clone(),
                helm: self.helm.clone(),
                kubeconfig: self.clusters.named(),
            },
            replace_authority: deed.replace_ca,
            secrets: tokens.how(self.force_conflicts, &self.patience),
            tell,
        };
        let outcomes = super::runtime()?.block_on(async {
            let standing = self.standing(mesh).await?;
            let book = match self.rendering.book()? {
                Some(book) => book,
                None => kept(&standing).await?,
            };
            let manifest: Manifest =
                manifest::render(mesh, plans, &self.rendering.options(project, book, &[])?)?;
            let wanted = Wanted { mesh, manifest: &manifest, authorities: &authorities };
            Ok::<_, anyhow::Error>(telling(work(&wanted, &standing, &how), told, out).await)
        })?;
        report(&outcomes, deed, output, out);
        Ok(exit(&outcomes))
    }

    /// The clusters, or why they cannot be worked on.
    async fn standing(&self, mesh: &Mesh) -> anyhow::Result<Standing> {
        let clusters = self.clusters.connect_for_mesh(clusters::contexts(mesh)).await?;
        let reached = |cluster: &Cluster| {
            let name = cluster.name.clone();
            (name, clusters::reached(&clusters, &cluster.name))
        };
        Ok(mesh.clusters().map(reached).collect())
    }

    /// The Secret `cacerts` of each cluster whose CA lies here.
    fn authorities(&self, project: &Project, mesh: &Mesh) -> anyhow::Result<BTreeMap<ClusterName, Value>> {
        let mut secrets = BTreeMap::new();
        for ca in Ca::all(mesh, &directory(project, self.certs.clone())) {
            for cluster in &ca.clusters {
                let name = cluster.name.as_str();
                if !ca.hierarchy.has(name)? {
                    continue;
                }
                let bundle = ca.hierarchy.bundle(name)?;
                bundle.check(&ca.hierarchy.cluster(name), super::now())?;
                let mut secret = cert::secret(&bundle, ISTIO_NAMESPACE, self.secret_form.form())?;
                if let Some(metadata) = secret.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.insert("labels".to_owned(), json!({"app.kubernetes.io/managed-by": "isthmus"}));
                }
                secrets.insert(cluster.name.clone(), secret);
            }
        }
        Ok(secrets)
    }
}

/// The addresses that the clusters have given to names.
async fn kept(standing: &Standing) -> anyhow::Result<Book> {
    let mut book = Book::default();
    let (namespace, name) = (Some(ISTIO_NAMESPACE.to_owned()), addresses::CONFIG_MAP.to_owned());
    let id = Id { kind: Kind::new("v1", "ConfigMap"), namespace, name };
    for at in standing.values().filter_map(|at| at.as_ref().ok()) {
        // One that does not answer is told of when it is worked on.
        if let Ok(Some(map)) = at.get(&id).await {
            book = book.merge(&Book::read(&map)?)?;
        }
    }
    Ok(book)
}

/// Prints what is waited for while the work is done.
async fn telling(
    work: impl Future<Output = Vec<Outcome>>,
    mut told: UnboundedReceiver<String>,
    out: &mut Out,
) -> Vec<Outcome> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            Some(line) = told.recv() => out.say(&line),
            outcomes = &mut work => return outcomes,
        }
    }
}

fn exit(outcomes: &[Outcome]) -> Exit {
    match outcomes.iter().filter(|outcome| outcome.trouble.is_some()).count() {
        0 => Exit::Yes,
        failed if failed < outcomes.len() => Exit::Partly,
        _ => Exit::Environment,
    }
}

fn report(outcomes: &[Outcome], Deed { word, dry_run, .. }: Deed, output: Output, out: &mut Out) {
    let is_dry = dry_run != DryRun::No;
    if output == Output::Json {
        let items: Vec<Value> = outcomes.iter().map(json).collect();
        out.json(&json!({"apiVersion": policy::API_VERSION, "kind": word, "dryRun": is_dry, "items": items}));
        return;
    }
    let would = if is_dry { "would be " } else { "" };
    for Outcome { cluster, done, trouble } in outcomes {
        let told = done.iter().filter(|done| done.change != Change::Unchanged);
        told.for_each(|done| {
            let word = if is_dry && done.change == Change::Ran { "run" } else { done.change.as_str() };
            out.print(&format!("{cluster}: {would}{word}: {}", done.what));
        });
        let unchanged = done.iter().filter(|done| done.change == Change::Unchanged).count();
        let failed = if trouble.is_some() { "not done" } else { "done" };
        out.print(&format!("{cluster}: {failed}, {unchanged} unchanged"));
    }
    for Outcome { cluster, trouble, .. } in outcomes {
        if let Some(trouble) = trouble {
            out.say(&format!("error: {cluster}: {trouble}"));
        }
    }
}

fn json(Outcome { cluster, done, trouble }: &Outcome) -> Value {
    let item = |done: &install::Done| json!({"phase": done.phase.as_str(), "what": done.what, "change": done.change.as_str()});
    json!({
        "cluster": cluster.as_str(),
        "done": done.iter().map(item).collect::<Vec<_>>(),
        "error": trouble.as_ref().map(ToString::to_string),
    })
}
