use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use policy::meaning::{Change, Meaning};
use policy::name::ClusterName;
use serde_json::{Value, json};
use similar::TextDiff;

use super::rollout::Destination;
use super::{Common, Exit, Out, Output};
use crate::rollout::{self, Compared, Difference, DryRun};
use crate::text::{plain, plain_lines};

/// `isthmus diff`
#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    destination: Destination,
    /// Show only what changes in meaning, or only the objects that change, as YAML; by default one after the other
    #[arg(long, env = "ISTHMUS_ONLY", value_name = "WHAT")]
    only: Option<Shown>,
    /// Look at this cluster alone; may be repeated. By default at all that have objects
    #[arg(long = "cluster", env = "ISTHMUS_CLUSTER", value_name = "CLUSTER", value_delimiter = ',')]
    clusters: Vec<ClusterName>,
}

/// A way to show what changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// What is decided otherwise
    Meaning,
    /// Unified diffs of the objects
    Yaml,
}

impl Diff {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Ok(Exit::No) };
        let places = self.destination.places(&project)?;
        let Some(url) = self.destination.url(out)? else {
            anyhow::bail!("--url is missing: where would proxies get the module from?");
        };
        let compared = super::runtime()?.block_on(async {
            let mut targets = self.destination.targets(places).await?;
            if let Some(other) = self.clusters.iter().find(|cluster| !targets.contains_key(cluster)) {
                anyhow::bail!("--cluster {other}: no rollout brings objects there: name one of mesh.yaml that has a control plane");
            }
            targets.retain(|cluster, _| self.clusters.is_empty() || self.clusters.contains(cluster));
            let how = self.destination.how(DryRun::Server);
            let options = self.destination.options(&url, true);
            Ok::<_, anyhow::Error>(rollout::compare(mesh, plans, targets, (options, how)).await?)
        })?;
        report(&compared, self.only, common.output, out)?;
        let failed = compared.iter().filter(|compared| compared.trouble.is_some()).count();
        Ok(match failed {
            0 if compared.iter().all(|compared| compared.differences.is_empty()) => Exit::Yes,
            0 => Exit::No,
            failed if failed < compared.len() => Exit::Partly,
            _ => Exit::Environment,
        })
    }
}

fn report(compared: &[Compared], only: Option<Shown>, output: Output, out: &mut Out) -> anyhow::Result<()> {
    if output == Output::Json {
        let items: Vec<Value> = compared.iter().map(json).collect();
        out.json(&json!({"apiVersion": policy::API_VERSION, "kind": "Differences", "items": items}));
        return Ok(());
    }
    if only != Some(Shown::Yaml) {
        lines(compared).iter().for_each(|line| out.print(&plain(line)));
    }
    let shown = compared.iter().filter(|_| only != Some(Shown::Meaning));
    for Compared { cluster, differences, .. } in shown {
        for difference in differences {
            out.print(&plain_lines(text(cluster.as_str(), difference)?.trim_end()));
        }
    }
    for trouble in compared.iter().filter_map(|compared| compared.trouble.as_ref()) {
        out.say(&format!("error: {trouble}"));
    }
    Ok(())
}

/// So many clusters of a line are named.
const NAMED: usize = 4;

/// What changes in meaning, a line each, with the clusters where it does.
fn lines(compared: &[Compared]) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (cluster, meaning) in compared.iter().flat_map(|compared| &compared.meaning) {
        let changes = meaning.changes.iter().map(ToString::to_string);
        for line in changes.chain(meaning.untold.iter().map(|what| format!("not compared: {what}"))) {
            let clusters = places.entry(line.clone()).or_default();
            if clusters.is_empty() {
                said.push(line);
            }
            clusters.push(cluster.as_str());
        }
    }
    let with_places = |line: &String| {
        let clusters = places.get(line).map(Vec::as_slice).unwrap_or_default();
        let named: Vec<&str> = clusters.iter().copied().take(NAMED).collect();
        let more = clusters.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}: {line}", named.join(", "))
    };
    said.iter().map(with_places).collect()
}

/// A unified diff of both as YAML.
fn text(cluster: &str, difference: &Difference) -> anyhow::Result<String> {
    let yaml = |side: &Option<Value>| side.as_ref().map(serde_saphyr::to_string).transpose();
    let (before, after) = (yaml(&difference.before)?, yaml(&difference.after)?);
    let header = |text: &Option<String>| match text {
        Some(_) => format!("{cluster}: {}", difference.name),
        None => "/dev/null".to_owned(),
    };
    let (old, new) = (header(&before), header(&after));
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    Ok(TextDiff::from_lines(&before, &after).unified_diff().header(&old, &new).to_string())
}

fn json(Compared { cluster, differences, meaning, trouble }: &Compared) -> Value {
    let of = |difference: &Difference| json!({"name": difference.name, "before": difference.before, "after": difference.after});
    json!({
        "cluster": cluster.as_str(),
        "meaning": meaning.iter().map(|(cluster, meaning)| meant(cluster, meaning)).collect::<Vec<_>>(),
        "differences": differences.iter().map(of).collect::<Vec<_>>(),
        "error": trouble.as_ref().map(ToString::to_string),
    })
}

fn meant(cluster: &ClusterName, meaning: &Meaning) -> Value {
    let change = |change: &Change| {
        let mut fields = serde_json::to_value(change).unwrap_or_default();
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("text".to_owned(), change.to_string().into());
        }
        fields
    };
    json!({
        "cluster": cluster.as_str(),
        "changes": meaning.changes.iter().map(change).collect::<Vec<_>>(),
        "notCompared": meaning.untold,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_so_in_several_clusters_is_said_once_with_the_first_of_them() {
        let compared = |number: usize, said: &[&str]| {
            let cluster: ClusterName = format!("c{number}").parse().unwrap();
            let untold = said.iter().map(ToString::to_string).collect();
            let meaning = BTreeMap::from([(cluster.clone(), Meaning { changes: Vec::new(), untold })]);
            Compared { cluster, differences: Vec::new(), meaning, trouble: None }
        };
        let mut all: Vec<Compared> = (1..=6).map(|number| compared(number, &["routes"])).collect();
        all.push(compared(7, &["keys", "shares"]));
        all.push(compared(8, &["keys"]));
        assert_eq!(
            lines(&all),
            [
                "c1, c2, c3, c4 and 2 more: not compared: routes",
                "c7, c8: not compared: keys",
                "c7: not compared: shares",
            ]
        );
    }

    #[test]
    fn what_stands_in_an_object_moves_no_cursor() {
        let said = "one\u{1b}[2J\ntwo\u{9b}1A\r\u{7}";
        let difference = Difference {
            name: "WasmPlugin x\u{1b}[1A/y".to_owned(),
            before: Some(json!({"spec": {"a": said, "b\u{7}": 1}})),
            after: None,
        };
        let shown = plain_lines(&text("cluster1", &difference).unwrap());
        assert!(shown.contains("WasmPlugin x\\u{1b}[1A/y") && shown.contains("two"), "{shown}");
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
}
