//! Policies brought to the lab in two waves, behind gates that ask its proxies.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use policy::Policy;
use policy::name::ClusterName;

use super::acts::Acts;
use super::story::Story;
use crate::gate::{Sources, gates};
use crate::proxies::{Asking, Envoy};
use crate::rollout::machine::{End, Stage};
use crate::rollout::strategy::{Limits, Strategy};
use crate::rollout::{Campaign, DryRun, Holder, How, Options, Origin, Progress};
use crate::status::{self, Condition, Look};

/// One cluster first. Every proxy has to run the plan, and hardly a request may be denied that was not before.
const STRATEGY: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: RolloutStrategy
metadata: {name: careful}
spec:
  waves:
  - {name: canary, clusters: [cluster1], bake: 2s}
  - {name: rest, clusters: [\"*\"]}
  gates: {running: {within: 60s, share: 100%}, denials: 1%, traps: 0}
  onFailure: Undo
";

/// Somebody wanted to close one path, and closes the service.
const MISTAKE: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: closed, namespace: sample}
spec:
  services: [helloworld]
  access: {scope: All, allow: []}
";

const ASKING: Asking = Asking { patience: Duration::from_secs(5), parallel: 16 };

/// Requests of others while something was rolled out.
#[derive(Debug, Default)]
struct Traffic {
    sent: Cell<u32>,
    refused: Cell<u32>,
    done: Cell<bool>,
}

impl Acts<'_> {
    /// What is right comes to both clusters, and what is not to one and back.
    pub(super) async fn waves(&self, story: &mut Story<'_>) -> anyhow::Result<()> {
        for line in STRATEGY.lines().filter(|line| line.contains('{') && !line.starts_with("metadata")) {
            story.line(line.trim());
        }
        let opened = self.opened()?.1;
        let (end, traffic) = self.roll_out(&opened, "let sample read the ledger", story).await?;
        ensure!(end == End::Complete, "the rollout is {end:?}");
        ensure!(traffic.refused.get() == 0, "{} requests of others were refused", traffic.refused.get());
        let answer = self.get("cluster2", "ledger.payments:8080", "/v1/accounts").await?;
        story.line(&format!("the ledger, from cluster2: {}", answer.status));
        ensure!(answer.status == 200, "the ledger is still closed");

        let root = self.stage.mesh().root_namespace();
        let (mistake, findings) = Policy::read("closed.yaml", MISTAKE, root);
        ensure!(findings.is_empty(), "the mistake has findings: {findings:?}");
        let closed: Vec<Policy> = opened.iter().cloned().chain(mistake).collect();
        let (end, traffic) = self.roll_out(&closed, "close helloworld by mistake", story).await?;
        ensure!(end == End::Undone, "the mistake is {end:?}");
        let (sent, refused) = (traffic.sent.get(), traffic.refused.get());
        story.line(&format!("{refused} of {sent} requests to helloworld were refused meanwhile"));
        ensure!(refused > 0, "nobody was refused");
        super::acts::eventually("helloworld answers again", || async {
            let answer = self.get("cluster1", "helloworld.sample:5000", "/hello").await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await?;
        self.status(&opened, story).await
    }

    /// Rolls out while requests flow, and how it ended.
    async fn roll_out(
        &self,
        policies: &[Policy],
        message: &str,
        story: &mut Story<'_>,
    ) -> anyhow::Result<(End, Traffic)> {
        story.line(&format!("isthmus rollout --strategy careful.yaml --message {message:?}"));
        let mesh = self.stage.mesh();
        let plans = self.stage.compile(policies)?;
        let (strategy, findings) = Strategy::read("careful.yaml", STRATEGY, mesh);
        let strategy = strategy.with_context(|| format!("the strategy has findings: {findings:?}"))?;
        let targets = self.stage.targets();
        let sources = Sources::of(mesh, &targets, &BTreeMap::new(), self.envoys()?);
        let root = mesh.root_namespace().to_string();
        let made = |limits: &Limits| gates(limits, &root, &sources, ASKING);
        let mut told = Vec::new();
        let mut tell = |progress: &Progress| told.extend(line(progress));
        let campaign = Campaign {
            root: root.clone(),
            targets,
            how: HOW,
            holder: Holder { name: "demo".to_owned(), time: Duration::from_secs(15), clock: crate::cli::now },
            gates: &made,
            history: 10,
            tell: &mut tell,
        };
        let options = Options { url: self.stage.url(), upstream_check: false, dry_run: false };
        let origin = Origin {
            author: "isthmus demo".to_owned(),
            message: message.to_owned(),
            ..Origin::at(crate::cli::now())
        };
        let traffic = Traffic::default();
        let rolling = async {
            let report = Box::pin(campaign.roll_out((mesh, &plans, options), strategy, origin)).await;
            traffic.done.set(true);
            report
        };
        let (report, (), ()) = tokio::join!(rolling, self.lane(&traffic), self.lane(&traffic));
        let record = report?.record.context("nothing was kept of the rollout")?;
        told.iter().for_each(|line| story.line(&format!("  {line}")));
        let Stage::Ended(end) = record.state.stage() else { anyhow::bail!("it has no end") };
        story.line(&format!("  {}", end.as_str()));
        Ok((end, traffic))
    }

    /// Requests, one after the other.
    async fn lane(&self, traffic: &Traffic) {
        while !traffic.done.get() {
            let answer = self.get("cluster1", "helloworld.sample:5000", "/hello").await;
            traffic.sent.set(traffic.sent.get() + 1);
            if !answer.is_ok_and(|answer| answer.status == 200) {
                traffic.refused.set(traffic.refused.get() + 1);
            }
        }
    }

    /// `isthmus status`: all is as these policies want it.
    async fn status(&self, policies: &[Policy], story: &mut Story<'_>) -> anyhow::Result<()> {
        let (mesh, plans) = (self.stage.mesh(), self.stage.compile(policies)?);
        story.line("isthmus status");
        // Proxies take what came back last a moment later.
        let statuses = super::acts::eventually("every proxy runs what it should", || async {
            let look = Look {
                targets: self.stage.targets(),
                envoys: self.envoys()?,
                asking: Some(ASKING),
                parallel: 4,
            };
            let statuses = status::look(mesh, &plans, look).await?;
            let all = statuses.iter().all(|status| status.condition() == Condition::InForce);
            Ok(all.then_some(statuses))
        })
        .await?;
        story.block(&status::text(&statuses, crate::cli::now(), false));
        Ok(())
    }

    fn envoys(&self) -> anyhow::Result<BTreeMap<ClusterName, Vec<Envoy>>> {
        let mut envoys: BTreeMap<ClusterName, Vec<Envoy>> = BTreeMap::new();
        for proxy in self.lab.proxies() {
            envoys.entry(proxy.cluster.parse()?).or_default().push(Envoy::of_lab(proxy));
        }
        Ok(envoys)
    }
}

const HOW: How = How { dry_run: DryRun::No, force: false, parallel: 4 };

/// What is worth a line of the story.
fn line(progress: &Progress) -> Option<String> {
    match progress {
        Progress::Begins(stage @ (Stage::Filters(_) | Stage::Bake(_)), wave) => {
            Some(stage.told(wave.as_deref()))
        }
        Progress::Passed(cluster) => Some(format!("{cluster}: gates open")),
        Progress::Refused(cluster, why) => Some(format!("{cluster}: gate shut: {why}")),
        Progress::TurnsBack => Some("what was begun goes back".to_owned()),
        Progress::Stuck(cluster, why) => Some(format!("{cluster}: {why}")),
        Progress::Begins(..)
        | Progress::Took(..)
        | Progress::Waits(..)
        | Progress::Pauses
        | Progress::Ends(_) => None,
    }
}
