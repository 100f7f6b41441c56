//! Istio's own installers, run as the page of a rendered mesh says.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Change, DryRun, Trouble, Work};
use crate::command::{failure, on_path, output_within};
use crate::manifest::folder::document;
use crate::manifest::{Content, Item};

/// A program that installs Istio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Takes `IstioOperator` files.
    Istioctl,
    /// Takes charts and values.
    Helm,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Istioctl => "istioctl",
            Self::Helm => "helm",
        }
    }
}

/// Where the installers are.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// Others install Istio; it is waited for.
    pub skip: bool,
    /// `istioctl`, if it is not the one on the `PATH`.
    pub istioctl: Option<PathBuf>,
    /// `helm`, if it is not the one on the `PATH`.
    pub helm: Option<PathBuf>,
    /// The kubeconfig that they are given, if one was named.
    pub kubeconfig: Option<PathBuf>,
}

impl Programs {
    fn path(&self, tool: Tool) -> Option<PathBuf> {
        let named = match tool {
            Tool::Istioctl => &self.istioctl,
            Tool::Helm => &self.helm,
        };
        named.clone().or_else(|| on_path(tool.name()))
    }
}

/// What an installer is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Install,
    Uninstall,
}

impl Work {
    /// Installs what an item says.
    pub(super) async fn program(&mut self, item: &Item) -> Result<(), Trouble> {
        self.install(item, Deed::Install).await
    }

    /// Runs the installer of an item.
    pub(super) async fn install(&mut self, item: &Item, deed: Deed) -> Result<(), Trouble> {
        if self.how.programs.skip {
            return Ok(());
        }
        let (tool, arguments) = self.arguments(item, deed);
        let named = |file: &str| {
            let arguments = arguments.iter().map(|word| if word == FILE { file } else { word });
            format!("{} {}", tool.name(), arguments.collect::<Vec<_>>().join(" "))
        };
        let shown = named(&format!("{}/{}", self.cluster.name, item.file_name()));
        if self.how.dry_run == DryRun::No {
            let program = self.how.programs.path(tool);
            let program =
                program.ok_or_else(|| Trouble::NoTool { name: tool.name(), command: shown.clone() })?;
            self.run(&program, (&arguments, &shown), item).await?;
        }
        self.note(item.phase, shown, Change::Ran);
        Ok(())
    }

    async fn run(
        &self,
        program: &Path,
        (arguments, shown): (&[String], &str),
        item: &Item,
    ) -> Result<(), Trouble> {
        let unwritten = |source| Trouble::File { path: std::env::temp_dir(), source };
        let directory = tempfile::tempdir().map_err(unwritten)?;
        let file = directory.path().join(item.file_name());
        std::fs::write(&file, document(item)?).map_err(unwritten)?;
        let mut command = Command::new(program);
        for word in arguments {
            if word == FILE {
                command.arg(&file);
            } else {
                command.arg(word);
            }
        }
        if let Some(kubeconfig) = &self.how.programs.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        let failed = |why: String| Trouble::Failed { command: shown.to_owned(), why };
        let limit = self.how.patience;
        let _told = self.how.tell.send(format!("{}: runs {shown}", self.cluster.name)).is_ok();
        let running = tokio::task::spawn_blocking(move || output_within(&mut command, limit));
        match running.await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => Err(failed(advised(failure(&output)))),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => {
                Err(failed(format!("it did not end within {limit:?}: --wait says how many seconds")))
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The tool of an item, and what it is told; [`FILE`] stands for its file.
    fn arguments(&self, item: &Item, deed: Deed) -> (Tool, Vec<String>) {
        let context = self.at.context();
        let words: Vec<&str> = match (&item.content, deed) {
            (Content::Object(_) | Content::IstioOperator(_), Deed::Install) => {
                vec!["install", "-y", "--context", context, "-f", FILE]
            }
            (Content::Object(_) | Content::IstioOperator(_), Deed::Uninstall) => {
                vec!["uninstall", "-y", "--context", context, "-f", FILE]
            }
            (Content::Helm(release), Deed::Install) => {
                let chart = release.chart.rsplit('/').next().unwrap_or(release.chart);
                let mut words = vec!["upgrade", "--install", release.name, chart, "--repo", self.charts];
                words.extend(
                    release.version.as_deref().into_iter().flat_map(|version| ["--version", version]),
                );
                words.extend(["--namespace", release.namespace, "--kube-context", context, "-f", FILE]);
                words
            }
            (Content::Helm(release), Deed::Uninstall) => {
                let namespace = release.namespace;
                vec![
                    "uninstall",
                    release.name,
                    "--ignore-not-found",
                    "--namespace",
                    namespace,
                    "--kube-context",
                    context,
                ]
            }
        };
        let tool = if matches!(item.content, Content::Helm(_)) { Tool::Helm } else { Tool::Istioctl };
        (tool, words.into_iter().map(str::to_owned).collect())
    }
}

/// What an installer said, and what to do where it does not say so itself.
fn advised(said: String) -> String {
    // helm's lock on a release, which a helm that was killed leaves behind.
    if said.contains("another operation (install/upgrade/rollback) is in progress") {
        return format!(
            "{said}: if no other helm is at it, one was killed: `helm rollback` that release, or `helm uninstall` it where it was never \
             installed (`helm list -a` says), and run again"
        );
    }
    said
}

/// Stands for the file of an item among the words of a command.
const FILE: &str = "{file}";
