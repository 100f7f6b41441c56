//! What the demo does with the running lab. Every act fails when what it shows is not so.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use policy::Policy;
use serde_json::Value;

use super::story::Story;
use crate::lab::{Answer, Client, Get, Lab, ProxyKind};
use crate::read::Project;
use crate::stage::Stage;

/// How long anything may take to show its effect.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const TICK: Duration = Duration::from_millis(10);
/// How many plan changes the load has to live through.
const CHANGES: usize = 10;
/// How many requests are under way at once.
const LANES: usize = 4;
/// The proxy that guards the ledger.
const LEDGER: &str = "cluster1/ledger-v1.payments";

pub(super) struct Acts<'a> {
    pub(super) lab: &'a Lab,
    pub(super) stage: &'a Stage,
    pub(super) project: &'a Project,
}

fn sleep(cluster: &str) -> Client {
    Client::new(cluster, "sample", "sleep")
}

impl Acts<'_> {
    pub(super) async fn get(&self, cluster: &str, host: &str, path: &str) -> anyhow::Result<Answer> {
        Ok(self.lab.get(&sleep(cluster), &Get::new(host, path)).await?)
    }

    /// 20 requests of one client, answered by both versions, each answer saying from where.
    pub(super) async fn both_versions(&self, story: &mut Story<'_>) -> anyhow::Result<()> {
        let mut seen: BTreeMap<(String, String), u32> = BTreeMap::new();
        for _ in 0..20 {
            let answer = self.get("cluster1", "helloworld.sample:5000", "/hello").await?;
            ensure!(answer.status == 200, "helloworld answered {}: {}", answer.status, answer.body);
            let from = answer.header("x-destination-cluster").context("an answer does not say from where")?;
            let version = if answer.body.contains("version: v1") { "v1" } else { "v2" };
            *seen.entry((version.to_owned(), from.to_owned())).or_default() += 1;
        }
        story.line("20 requests to helloworld from cluster1:");
        for ((version, cluster), count) in &seen {
            story.line(&format!("  {count:2} answered by {version}, and the answer says {cluster}"));
        }
        let even = seen.values().all(|count| (8..=12).contains(count));
        let kinds: Vec<(&str, &str)> = seen.keys().map(|(v, c)| (v.as_str(), c.as_str())).collect();
        ensure!(even && kinds == [("v1", "cluster1"), ("v2", "cluster2")], "not about half each: {seen:?}");
        Ok(())
    }

    pub(super) async fn ledger(&self, story: &mut Story<'_>) -> anyhow::Result<()> {
        let own = self.get("cluster1", "ledger.payments:8080", "/v1/accounts").await?;
        story.line(&format!("from cluster1: {} {}", own.status, own.body.trim()));
        ensure!(own.status == 200, "the ledger's own cluster was refused: {}", own.body);
        let other = self.get("cluster2", "ledger.payments:8080", "/v1/accounts").await?;
        story.line(&format!("from cluster2: {} {}", other.status, other.body.trim()));
        refused(&other)?;
        let forged = Get::new("ledger.payments:8080", "/v1/accounts")
            .header("x-source-cluster", "cluster1")
            .header("x-source-network", "network1");
        let forged = self.lab.get(&sleep("cluster2"), &forged).await?;
        story.line(&format!(
            "from cluster2, sending x-source-cluster: cluster1 along: {} {}",
            forged.status,
            forged.body.trim()
        ));
        refused(&forged)
    }

    pub(super) async fn hidden(&self, story: &mut Story<'_>) -> anyhow::Result<()> {
        ensure!(self.dialled("ledger").await? > 0, "the gateway counts no connection for the ledger either");
        let answer = self.get("cluster2", "reports.payments:8080", "/").await?;
        story.line(&format!(
            "reports from cluster2: {} of its own sidecar, as the gateway closed",
            answer.status
        ));
        ensure!(answer.status == 503, "the hidden service answered {}: {}", answer.status, answer.body);
        let gateway = self.gateway("cluster1")?;
        let line = eventually("the gateway's access log has the reason", || async {
            let log = self.lab.access_log(&gateway)?;
            Ok(log.into_iter().rev().find(|line| reason(line) == Some("reports/not-exposed")))
        })
        .await?;
        story.line(&format!("{gateway} says: {}", reason(&line).unwrap_or_default()));
        let dialled = self.dialled("reports").await?;
        story.line(&format!("connections that the gateway dialled for it: {dialled}"));
        ensure!(dialled == 0, "the gateway dialled {dialled} connections for a hidden service");
        let own = self.get("cluster1", "reports.payments:8080", "/").await?;
        story.line(&format!("reports from cluster1: {}", own.status));
        ensure!(own.status == 200, "the hidden service is hidden from its own cluster: {}", own.body);
        Ok(())
    }

    fn gateway(&self, cluster: &str) -> anyhow::Result<String> {
        let mut gateways = self.lab.proxies().filter(|proxy| proxy.kind == ProxyKind::Gateway);
        let found = gateways.find(|proxy| proxy.cluster == cluster).context("the cluster has no gateway")?;
        Ok(found.name.clone())
    }

    /// How many connections the gateway of cluster1 has opened towards a service of payments.
    async fn dialled(&self, service: &str) -> anyhow::Result<u64> {
        let gateway = self.gateway("cluster1")?;
        let cluster = format!("outbound_.8080_._.{service}.payments.svc.cluster.local");
        Ok(self.lab.stat(&gateway, &format!("cluster.{cluster}.upstream_cx_total")).await?)
    }

    /// The policies with sample let in to the ledger, and what that changes in which file.
    pub(super) fn opened(&self) -> anyhow::Result<(String, Vec<Policy>)> {
        const BEFORE: &str = "namespaces: [treasury]";
        const AFTER: &str = "namespaces: [treasury, sample]";
        let (file, text) = self
            .project
            .sources
            .iter()
            .find(|(_, text)| text.contains(BEFORE))
            .context("the example's ledger policy has changed")?;
        let root = self.stage.mesh().root_namespace();
        let (changed, findings) = Policy::read(file, &text.replace(BEFORE, AFTER), root);
        ensure!(findings.is_empty(), "the changed policy has findings: {findings:?}");
        let replaced = |policy: &Policy| changed.iter().any(|new| new.name.value == policy.name.value);
        let kept = self.project.policies.iter().filter(|policy| !replaced(policy)).cloned();
        let opened = kept.chain(changed.clone()).collect();
        Ok((format!("{file}:  - {BEFORE}  + {AFTER}"), opened))
    }

    /// Lets sample in, and out again, while requests of others flow.
    pub(super) async fn change_under_load(&self, story: &mut Story<'_>) -> anyhow::Result<()> {
        let (change, opened) = self.opened()?;
        story.line(&change);

        let (done, sent, failed) = (Cell::new(false), Cell::new(0_u32), Cell::new(0_u32));
        let lane = || async {
            while !done.get() {
                let answer = self.get("cluster1", "helloworld.sample:5000", "/hello").await;
                sent.set(sent.get() + 1);
                if !answer.is_ok_and(|answer| answer.status == 200) {
                    failed.set(failed.get() + 1);
                }
            }
        };
        let changes = async {
            let took = self.change(&opened, &sent).await;
            done.set(true);
            took
        };
        let lanes: [_; LANES] = std::array::from_fn(|_| lane());
        let [a, b, c, d] = lanes;
        let (took, ..) = tokio::join!(changes, a, b, c, d);
        let mut took = took?;
        took.sort();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        story.line(&format!(
            "{CHANGES} changes in and out under load, each in force at the ledger {} ms after it was rolled out (median)",
            median.as_millis()
        ));
        story.line(&format!("{} requests of others meanwhile, {} failed", sent.get(), failed.get()));
        ensure!(failed.get() == 0, "{} of {} requests failed", failed.get(), sent.get());
        Ok(())
    }

    /// Rolls the opened policies out and the old ones again, waiting for each verdict and then for 20 more
    /// requests of the others, so that every plan comes under load however slow the machine is.
    async fn change(&self, opened: &[Policy], sent: &Cell<u32>) -> anyhow::Result<Vec<Duration>> {
        let mut took = Vec::new();
        for round in 0..CHANGES {
            let open = round % 2 == 0;
            let (policies, wanted) =
                if open { (opened, 200) } else { (self.project.policies.as_slice(), 403) };
            let begun = Instant::now();
            self.stage.roll_out(policies)?;
            eventually("the new verdict holds", || async {
                let answer = self.get("cluster2", "ledger.payments:8080", "/v1/accounts").await?;
                Ok((answer.status == wanted).then_some(()))
            })
            .await?;
            took.push(begun.elapsed());
            let enough = sent.get() + 20;
            while sent.get() < enough {
                tokio::time::sleep(TICK).await;
            }
        }
        Ok(took)
    }

    /// Plans that the filter must not take: of a newer form, of another cluster, and no plan at all.
    pub(super) async fn broken_plans(&self, story: &mut Story<'_>) -> anyhow::Result<()> {
        let file = self.lab.site().plugins("cluster1").join("isthmus-inbound.yaml");
        let good = std::fs::read_to_string(&file)?;
        let object: Value = serde_saphyr::from_str(&good)?;
        let spoilt = |path: &str, value: Value| {
            let mut object = object.clone();
            if let Some(place) = object.pointer_mut(path) {
                *place = value;
            }
            object
        };
        for (what, object) in [
            ("a plan of a newer schema", spoilt("/spec/pluginConfig/plan/schema", 99.into())),
            ("cluster2's plan", spoilt("/spec/pluginConfig/plan/home/cluster", "cluster2".into())),
            ("half a plan", spoilt("/spec/pluginConfig/plan/issuers", Value::Null)),
        ] {
            let before = self.rejected().await?;
            replace(&file, &serde_saphyr::to_string(&object)?)?;
            eventually("the ledger's proxy refuses the plan", || async {
                Ok((self.rejected().await? > before).then_some(()))
            })
            .await?;
            let log = std::fs::read_to_string(self.lab.proxy(LEDGER)?.dir.join("envoy.log"))?;
            let said = log
                .lines()
                .rev()
                .find_map(|line| line.split_once("configuration refused"))
                .context("no log line")?;
            story.line(&format!("{what}: refused{}", said.1));
            let answer = self.get("cluster2", "ledger.payments:8080", "/v1/accounts").await?;
            refused(&answer)?;
            let own = self.get("cluster1", "ledger.payments:8080", "/v1/accounts").await?;
            ensure!(own.status == 200, "the plan before does not hold: {}", own.status);
        }
        story.line("after each, cluster1 still gets 200 and cluster2 403: the plan before holds");
        replace(&file, &good)?;
        Ok(())
    }

    /// How many configurations the ledger's proxy has refused.
    async fn rejected(&self) -> anyhow::Result<u64> {
        let stat = "extension_config_discovery.http_filter.isthmus-inbound.update_rejected";
        Ok(self.lab.stat(LEDGER, stat).await?)
    }
}

/// The refusal that the ledger's policy gives cluster2, with its source proven.
fn refused(answer: &Answer) -> anyhow::Result<()> {
    ensure!(answer.status == 403, "answered {}: {}", answer.status, answer.body);
    let reason = answer.header("x-isthmus-reason");
    ensure!(reason == Some("ledger/no-rule-matched"), "refused for {reason:?}");
    let body: Value = serde_json::from_str(&answer.body)?;
    let source = (body.pointer("/source/cluster"), body.pointer("/source/level"));
    let proven = (Some(&Value::from("cluster2")), Some(&Value::from("verified by certificate")));
    ensure!(source == proven, "the source is {source:?}");
    Ok(())
}

fn reason(line: &Value) -> Option<&str> {
    line.get("reason").and_then(Value::as_str)
}

/// Replaces a file whole, as whatever applies objects would.
fn replace(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    let half = file.with_extension("half");
    std::fs::write(&half, text)?;
    Ok(std::fs::rename(half, file)?)
}

/// Looks again and again until there is something, or patience ends.
pub(super) async fn eventually<T, F: Future<Output = anyhow::Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(TICK).await;
    }
}
