use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};

use super::certs::{Ca, Place};
use super::{Common, Exit, Out, Output};
use crate::cert::{Cell, Side, matrix};

/// `isthmus mesh trust`
#[derive(Debug, Args)]
pub(super) struct Trust {
    #[command(flatten)]
    place: Place,
}

impl Trust {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let Some(mesh) = &project.mesh else { return Ok(Exit::No) };
        let sides = sides(&self.place.of(&project, mesh)?, out)?;
        ensure!(!sides.is_empty(), "no cluster's CA is there: `isthmus mesh certs` makes it");
        let cells = matrix(&sides, super::now());
        match common.output {
            Output::Json => out.json(&as_json(&cells)),
            Output::Text | Output::Junit | Output::Short => as_text(&sides, &cells, out),
        }
        Ok(if cells.iter().all(|cell| cell.result.is_ok()) { Exit::Yes } else { Exit::No })
    }
}

fn sides(ca: &Ca<'_>, out: &mut Out) -> anyhow::Result<Vec<Side>> {
    let mut sides = Vec::new();
    let hierarchy = &ca.hierarchy;
    for cluster in &ca.clusters {
        let name = cluster.name.as_str();
        if hierarchy.cluster(name).join("ca-cert.pem").exists() {
            let bundle = hierarchy.bundle(name)?;
            sides.push(Side::of(name, cluster.trust_domain.as_str(), &bundle, super::now())?);
        } else {
            out.say(&format!("the CA of {name} does not lie in {}", hierarchy.cluster(name).display()));
        }
    }
    Ok(sides)
}

fn as_json(cells: &[Cell]) -> Value {
    let item = |Cell { from, to, result }: &Cell| match result {
        Ok(()) => json!({"from": from, "to": to, "accepted": true}),
        Err(why) => {
            json!({"from": from, "to": to, "accepted": false, "reason": why.word(), "message": why.to_string()})
        }
    };
    let items: Vec<Value> = cells.iter().map(item).collect();
    json!({"apiVersion": policy::API_VERSION, "kind": "TrustMatrix", "items": items})
}

/// A line for each cluster whose workloads are judged, a column for each that judges; then why not.
fn as_text(sides: &[Side], cells: &[Cell], out: &mut Out) {
    let word = |cell: &Cell| cell.result.as_ref().map_or_else(|why| why.word(), |()| "yes");
    let widest = cells.iter().flat_map(|cell| [cell.to.len(), cell.from.len(), word(cell).len()]);
    let width = widest.max().unwrap_or_default().max("from \\ to".len());
    let line = |words: Vec<&str>| {
        let padded: Vec<String> = words.iter().map(|word| format!("{word:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    out.print(&line(std::iter::once("from \\ to").chain(sides.iter().map(Side::cluster)).collect()));
    for row in cells.chunk_by(|one, next| one.from == next.from) {
        let name = row.first().map(|cell| cell.from.as_str());
        out.print(&line(name.into_iter().chain(row.iter().map(word)).collect()));
    }
    for cell in cells {
        if let Err(why) = &cell.result {
            out.print(&format!("{} does not accept the workloads of {}: {why}", cell.to, cell.from));
        }
    }
}
