//! How a rollout goes, and what is kept of it: flags that several verbs share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use policy::Mesh;

use super::{Gates, Targets};
use crate::cli::Out;
use crate::read::ReadError;
use crate::render;
use crate::rollout::strategy::{Running, Share, Span, Strategy};
use crate::rollout::{Campaign, Holder, How, Origin, Progress};

/// How what is brought goes through the clusters, and what is said of it.
#[derive(Debug, Args)]
pub(super) struct Way {
    /// A RolloutStrategy; without one all clusters are one wave
    #[arg(long, env = "ISTHMUS_STRATEGY", value_name = "FILE")]
    strategy: Option<PathBuf>,
    /// Go on only when every proxy of a cluster runs the plan, and fail after TIME, such as 90s or 10m, unless the
    /// strategy says how many have to (gates.running)
    #[arg(long, env = "ISTHMUS_WAIT", value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "5m")]
    wait: Option<Span>,
    /// What the revision is for
    #[arg(long, env = "ISTHMUS_MESSAGE", default_value = "", hide_default_value = true)]
    message: String,
    /// What the revision was made from, such as a commit
    #[arg(long, env = "ISTHMUS_SOURCE", default_value = "", hide_default_value = true)]
    source: String,
    #[command(flatten)]
    pub(super) keeping: Keeping,
}

/// How clusters are held, and what they keep.
#[derive(Debug, Args)]
pub(super) struct Keeping {
    /// Who is told to have done it; by default the user and the host
    #[arg(long, env = "ISTHMUS_AUTHOR")]
    pub(super) author: Option<String>,
    /// How many seconds after this program was last heard of another one may take over
    #[arg(long, env = "ISTHMUS_LEASE", value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) lease: u64,
    /// How many revisions each cluster keeps; those in use are kept besides
    #[arg(long, env = "ISTHMUS_HISTORY_LIMIT", value_name = "N", default_value_t = 10)]
    pub(super) history_limit: usize,
}

impl Way {
    /// The strategy that is named, if it is sound, with what is asked for beside it; what is wrong with it is printed.
    pub(super) fn strategy(&self, mesh: &Mesh, out: &mut Out) -> anyhow::Result<Option<Strategy>> {
        let mut strategy = self.named(mesh, out)?;
        if let (Some(strategy), Some(Span(within))) = (&mut strategy, self.wait) {
            strategy.gates.running.get_or_insert(Running { within, share: Share::ALL });
        }
        Ok(strategy)
    }

    fn named(&self, mesh: &Mesh, out: &mut Out) -> anyhow::Result<Option<Strategy>> {
        let Some(path) = &self.strategy else {
            return Ok(Some(Strategy::all_at_once(mesh.clusters().map(|cluster| &cluster.name))));
        };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ReadError::Io { path: path.clone(), source })
            .context("there is no strategy")?;
        let file = path.display().to_string();
        let (strategy, findings) = Strategy::read(&file, &text, mesh);
        if !findings.is_empty() {
            let sources = BTreeMap::from([(file.clone(), text)]);
            out.say(&render::findings(&findings, &sources));
            out.say(&format!("{file}: {}", render::summary(&findings)));
        }
        Ok(strategy)
    }

    pub(super) fn origin(&self, reason: &str) -> Origin {
        Origin {
            author: self.keeping.author(),
            message: self.message.clone(),
            source: self.source.clone(),
            reason: reason.to_owned(),
            ..Origin::at(crate::cli::now())
        }
    }
}

impl Keeping {
    fn author(&self) -> String {
        let host = || {
            let told = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
            told.map(|host| host.trim().to_owned()).or_else(|| std::env::var("HOSTNAME").ok())
        };
        let user = || ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
        self.author.clone().unwrap_or_else(|| {
            let or_some = |part: Option<String>| part.unwrap_or_else(|| "somebody".to_owned());
            format!("{}@{}", or_some(user()), or_some(host()))
        })
    }

    pub(super) fn campaign<'c>(
        &self,
        mesh: &Mesh,
        (targets, how): (Targets, How),
        gates: &'c Gates<'c>,
        tell: &'c mut (dyn FnMut(&Progress) + Send),
    ) -> anyhow::Result<Campaign<'c>> {
        // Several programs of one user may run on one host, and in containers with the same process id.
        let mut one = [0; 4];
        getrandom::fill(&mut one).context("the system gives no random numbers")?;
        let holder = Holder {
            name: format!("{} ({:08x})", self.author(), u32::from_ne_bytes(one)),
            time: Duration::from_secs(self.lease),
            clock: crate::cli::now,
        };
        let root = mesh.root_namespace().to_string();
        let history = self.history_limit;
        Ok(Campaign { root, targets, how, holder, gates, history, tell })
    }
}
