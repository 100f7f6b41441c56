//! What a module made of a TCP connection.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::script::Step;
use crate::sandbox::{Action, L4Outcome, L4Stream, Trapped};

/// A connection as it went.
#[derive(Debug, Default)]
pub(super) struct Connected {
    /// What happened, and what the module made of each.
    steps: Vec<(String, String)>,
    to_upstream: Vec<u8>,
    to_client: Vec<u8>,
    closed: bool,
}

impl Connected {
    /// Plays both ends. Once the module has closed the connection, nothing that is sent arrives.
    pub(super) fn play(&mut self, stream: &L4Stream<'_>, steps: &[Step]) -> Result<(), Trapped> {
        self.steps.push(("connection".to_owned(), word(stream.outcome(), "goes on".to_owned())));
        for step in steps {
            if stream.outcome().closed {
                break;
            }
            let passed = || if step.from_client { stream.to_upstream() } else { stream.to_client() }.len();
            let before = passed();
            let outcome = match step.from_client {
                true => stream.client_sends(&step.bytes, step.end)?,
                false => stream.upstream_sends(&step.bytes, step.end)?,
            };
            let went_on = format!("{} go on", passed() - before);
            let from = if step.from_client { "client" } else { "upstream" };
            let last = if step.end { ", its last" } else { "" };
            self.steps
                .push((format!("{from} sends {} bytes{last}", step.bytes.len()), word(outcome, went_on)));
        }
        (self.to_upstream, self.to_client) = (stream.to_upstream(), stream.to_client());
        self.closed = stream.outcome().closed;
        Ok(())
    }

    pub(super) fn text(&self, out: &mut String) {
        for (what, word) in &self.steps {
            let _infallible = writeln!(out, "{what}: {word}");
        }
        for (end, bytes) in [("upstream", &self.to_upstream), ("client", &self.to_client)] {
            let _infallible = writeln!(out, "the {end} got {} bytes", bytes.len());
            body(bytes, out);
        }
    }

    pub(super) fn json(&self) -> Value {
        let steps: Vec<Value> =
            self.steps.iter().map(|(what, word)| json!({"step": what, "outcome": word})).collect();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        json!({
            "steps": steps, "toUpstream": text(&self.to_upstream), "toClient": text(&self.to_client),
            "closed": self.closed,
        })
    }
}

fn word(outcome: L4Outcome, otherwise: String) -> String {
    match (outcome.closed, outcome.action) {
        (true, _) => "closed by the module".to_owned(),
        (false, Action::Pause) => "held back".to_owned(),
        (false, Action::Continue) => otherwise,
    }
}

/// What was sent, set apart from what is said of it.
pub(super) fn body(body: &[u8], out: &mut String) {
    for line in String::from_utf8_lossy(body).lines() {
        let _infallible = writeln!(out, "  | {line}");
    }
}
