use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use policy::mesh::Target;
use policy::name::ClusterName;
use serde_json::{Value, json};

use super::lab::Standing;
use super::{Common, Exit, Out, Output};
use crate::plugin::ModuleUrl;
use crate::read::Project;
use crate::rollout::{self, Change, Options};
use crate::stage;

/// `isthmus rollout`
#[derive(Debug, Args)]
pub(super) struct Rollout {
    /// Where proxies get the module from, such as oci://registry/isthmus:v1
    #[arg(long, env = "ISTHMUS_URL")]
    url: Option<ModuleUrl>,
    /// The module to put into the directories when there is no --url; by default wasm/isthmus.wasm
    #[arg(long, env = "ISTHMUS_MODULE", value_name = "FILE")]
    module: Option<PathBuf>,
    /// Put each cluster's objects into DIR/CLUSTER, whatever mesh.yaml says of the cluster
    #[arg(long, env = "ISTHMUS_OUTPUT_DIR", value_name = "DIR", conflicts_with = "lab")]
    output_dir: Option<PathBuf>,
    /// Roll out into the lab that is up
    #[arg(long, env = "ISTHMUS_LAB", value_name = "DIR", num_args = 0..=1, default_missing_value = ".isthmus/lab")]
    lab: Option<PathBuf>,
    /// Also hold boundaries where the endpoint of a request is known, by an `EnvoyFilter`; needs a --url of file://
    #[arg(long, env = "ISTHMUS_UPSTREAM_CHECK")]
    upstream_check: bool,
    /// Only say what would be written
    #[arg(long, env = "ISTHMUS_DRY_RUN")]
    dry_run: bool,
}

impl Rollout {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Ok(Exit::No) };
        let changes = if let Some(lab) = &self.lab {
            let standing = Standing::read(lab)?;
            let mesh = standing.relocate(mesh.clone())?;
            let (plans, findings) = policy::compile(&mesh, &project.policies);
            let Some(plans) = plans else { anyhow::bail!("the policies do not fit the lab: {findings:?}") };
            let module = super::module(self.module.clone())?;
            let url = stage::place_module(&module, lab)?;
            let directories = standing.directories(lab);
            rollout::to_directories(&mesh, &plans, &directories, self.options(&url))?
        } else {
            let (directories, without) = self.directories(&project);
            if !without.is_empty() {
                let names: Vec<&str> = without.iter().map(ClusterName::as_str).collect();
                anyhow::bail!(
                    "no directory is known for {}: say directory: in mesh.yaml, or --output-dir",
                    names.join(", ")
                );
            }
            let url = self.module_url(&directories)?;
            rollout::to_directories(mesh, plans, &directories, self.options(&url))?
        };
        report(&changes, self.dry_run, common.output, out);
        Ok(Exit::Yes)
    }

    fn options<'o>(&self, url: &'o ModuleUrl) -> Options<'o> {
        Options { url, upstream_check: self.upstream_check, dry_run: self.dry_run }
    }

    /// Where each cluster's objects go, and the clusters for which nothing says it.
    fn directories(&self, project: &Project) -> (BTreeMap<ClusterName, PathBuf>, Vec<ClusterName>) {
        let base = project.file.parent().unwrap_or(Path::new("."));
        let mut directories = BTreeMap::new();
        let mut without = Vec::new();
        for cluster in project.mesh.iter().flat_map(policy::Mesh::clusters) {
            match (&self.output_dir, &cluster.target) {
                (Some(directory), _) => {
                    directories.insert(cluster.name.clone(), directory.join(cluster.name.as_str()));
                }
                (None, Some(Target::Directory(directory))) => {
                    directories.insert(cluster.name.clone(), base.join(directory));
                }
                (None, Some(Target::Context(_)) | None) => without.push(cluster.name.clone()),
            }
        }
        (directories, without)
    }

    /// The URL that was said; without one, a copy of the module beside the first cluster's objects.
    fn module_url(&self, directories: &BTreeMap<ClusterName, PathBuf>) -> anyhow::Result<ModuleUrl> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let module = super::module(self.module.clone())?;
        let beside =
            directories.values().next().and_then(|directory| directory.parent()).unwrap_or(Path::new("."));
        Ok(stage::place_module(&module, beside)?)
    }
}

fn report(changes: &[Change], dry_run: bool, output: Output, out: &mut Out) {
    let shown =
        |paths: &[PathBuf]| -> Vec<String> { paths.iter().map(|path| path.display().to_string()).collect() };
    if output == Output::Json {
        let items: Vec<Value> = changes
            .iter()
            .map(|change| {
                json!({
                    "cluster": change.cluster.as_str(),
                    "digest": change.digest,
                    "written": shown(&change.written),
                    "removed": shown(&change.removed),
                    "unchanged": change.unchanged,
                })
            })
            .collect();
        out.json(
            &json!({"apiVersion": policy::API_VERSION, "kind": "Rollout", "dryRun": dry_run, "items": items}),
        );
        return;
    }
    for change in changes {
        let short = change.digest.get(..12).unwrap_or_default();
        let would = if dry_run { "would be " } else { "" };
        let removed = match change.removed.len() {
            0 => String::new(),
            count => format!(", {count} {would}removed"),
        };
        out.print(&format!(
            "{}: plan {short}, {} {would}written, {} unchanged{removed}",
            change.cluster,
            change.written.len(),
            change.unchanged
        ));
        if dry_run {
            let marked = |sign: &str, paths: &[PathBuf]| -> Vec<String> {
                shown(paths).iter().map(|path| format!("  {sign} {path}")).collect()
            };
            let lines = [marked("+", &change.written), marked("-", &change.removed)].concat();
            lines.iter().for_each(|line| out.print(line));
        }
    }
}
