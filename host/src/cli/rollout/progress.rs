//! What is told of a rollout while it runs: lines, in place on a terminal, or events as JSON.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;

use policy::name::ClusterName;
use serde_json::{Value, json};

use crate::cli::{Out, Output};
use crate::rollout::{Phase, Progress};
use crate::text::plain;

/// Tells of one rollout.
pub(super) struct Printer<'o> {
    output: Output,
    /// Whether each wave is worth a line.
    waves: bool,
    quiet: bool,
    terminal: bool,
    out: &'o mut Out,
    /// What stands in the last line of a terminal: the stage, and who is done with it.
    stage: String,
    done: BTreeSet<ClusterName>,
}

impl<'o> Printer<'o> {
    pub(super) fn new(output: Output, waves: usize, quiet: bool, out: &'o mut Out) -> Self {
        let terminal = std::io::stderr().is_terminal() && output == Output::Text && !quiet;
        let (stage, done) = (String::new(), BTreeSet::new());
        Self { output, waves: waves > 1, quiet, terminal, out, stage, done }
    }

    pub(super) fn tell(&mut self, progress: &Progress) {
        if self.quiet {
            return;
        }
        if self.output == Output::Json {
            return self.out.print(&json(progress).to_string());
        }
        let line = match progress {
            Progress::Begins(stage, wave) => {
                self.stage = stage.told(wave.as_deref());
                self.done.clear();
                self.waves.then(|| self.stage.clone())
            }
            Progress::Took(cluster, ..) => {
                self.done.insert(cluster.clone());
                None
            }
            // It is told at the end, with what became of the cluster.
            Progress::Stuck(..) | Progress::Ends(_) => None,
            Progress::Waits(cluster, what) => Some(format!("{cluster}: waits: {what}")),
            Progress::Passed(cluster) => self.waves.then(|| format!("{cluster}: gates open")),
            Progress::Refused(cluster, why) => Some(format!("{cluster}: gate shut: {why}")),
            Progress::TurnsBack => Some("what was begun goes back".to_owned()),
            Progress::Pauses => Some("stops here, to go on with `isthmus rollout resume`".to_owned()),
        };
        if let Some(line) = line {
            self.clear();
            // Waves are named by a record, and clusters and proxies say why.
            self.out.say(&plain(&line));
        }
        if self.terminal {
            let done: Vec<&str> = self.done.iter().map(ClusterName::as_str).collect();
            self.out.status(&format!("{}: {} done: {}", plain(&self.stage), done.len(), done.join(" ")));
        }
    }

    /// Leaves the terminal's last line as it was.
    pub(super) fn end(&mut self) {
        self.clear();
    }

    fn clear(&mut self) {
        if self.terminal {
            self.out.status("");
        }
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::SubsetsCome => "subsetsCome",
        Phase::Shadow => "shadow",
        Phase::RoutesCome => "routesCome",
        Phase::Filters => "filters",
        Phase::RoutesGo => "routesGo",
        Phase::SubsetsGo => "subsetsGo",
    }
}

fn json(progress: &Progress) -> Value {
    match progress {
        Progress::Begins(stage, wave) => json!({"event": "begins", "stage": stage, "wave": wave}),
        Progress::Took(cluster, phase, changed) => {
            json!({"event": "took", "cluster": cluster.as_str(), "phase": phase_name(*phase), "changed": changed})
        }
        Progress::Stuck(cluster, why) => json!({"event": "stuck", "cluster": cluster.as_str(), "why": why}),
        Progress::Waits(cluster, what) => {
            json!({"event": "waits", "cluster": cluster.as_str(), "what": what})
        }
        Progress::Passed(cluster) => json!({"event": "passed", "cluster": cluster.as_str()}),
        Progress::Refused(cluster, why) => {
            json!({"event": "refused", "cluster": cluster.as_str(), "why": why})
        }
        Progress::TurnsBack => json!({"event": "turnsBack"}),
        Progress::Pauses => json!({"event": "pauses"}),
        Progress::Ends(end) => json!({"event": "ends", "end": end.as_str()}),
    }
}
